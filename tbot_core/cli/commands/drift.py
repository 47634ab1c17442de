"""`tbot drift`: a day's trades beside those of a shadow run, with the cause of each difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option
from tbot_core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MOST_SESSIONS: Final = 1000


@click.command("drift")
@click.argument("date", required=False, metavar="[DATE]")
@click.option("--last", type=BoundedInt(1, MOST_SESSIONS), metavar="N", help="The last N sessions that ended.")
@click.option(
    "--run",
    metavar="ID",
    help="The run, by a prefix of its id. Default: paper and live trading; in a rehearsal its own.",
)
@home_option
@json_option
def command(date: str | None, last: int | None, run: str | None, *, home: Path | None, as_json: bool) -> int:
    """Compare the trades of a session with a shadow run: the same decisions on the bars and quotes that it received.

    The shadow run fills by simulation. Each expected and real trade is listed, with the distance of the prices in basis
    points and the cause of a trade that is missing or was not expected. DATE: the session; default: the last one.
    Exits with 1 if a session cannot be compared.
    """
    if date is not None and last is not None:
        raise UsageError("Give DATE or --last, not both.", "`tbot drift --last 5` compares the last five sessions.")
    from tbot_core.reports.drift import drift_lines
    from tbot_core.status.drift import drift_of, drift_of_last

    found = drift_of(home, date, run) if last is None else drift_of_last(home, last, run)
    emit(found, as_json=as_json, lines=drift_lines(found))
    return int(any("fault" in one for one in found.get("sessions", ())))
