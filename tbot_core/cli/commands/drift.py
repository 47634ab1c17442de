"""`tbot drift`: a day's trades beside those of a shadow run, with the cause of each difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("drift")
@click.argument("date", required=False, metavar="[DATE]")
@click.option(
    "--run",
    metavar="ID",
    help="The run, by a prefix of its id. Default: paper and live trading; in a rehearsal its own.",
)
@home_option
@json_option
def command(date: str | None, run: str | None, *, home: Path | None, as_json: bool) -> None:
    """Compare the trades of a session with a shadow run: the same decisions on the bars and quotes that it received.

    The shadow run fills by simulation. Each expected and real trade is listed, with the distance of the prices in basis
    points and the cause of a trade that is missing or was not expected. DATE: the session; default: the last one.
    """
    from tbot_core.reports.drift import drift_lines
    from tbot_core.status.drift import drift_of

    found = drift_of(home, date, run)
    emit(found, as_json=as_json, lines=drift_lines(found))
