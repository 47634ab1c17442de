"""`tbot status`: the status of the instance, read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

_CLOSED: Final = 5


@click.command("status")
@home_option
@json_option
def command(home: Path | None, *, as_json: bool) -> int:
    """Show the session, positions and orders. Exits with 0 if ready, 1 if something needs attention.

    Live: exits with 5 if it is not armed, or a loss has ended the session's entries.
    """
    from tbot_core.cli.text.status import lines
    from tbot_core.model.clock import SystemClock
    from tbot_core.status.instance import status_document

    now = SystemClock().now()
    shown = status_document(home, now)
    emit(shown, as_json=as_json, lines=lines(shown, now))
    if shown["entries_blocked"]:
        return _CLOSED
    return 1 if shown["attention"] else 0
