"""`tbot defense`: switch reduced-risk mode on and off by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.group("defense")
def command() -> None:
    """Reduced-risk mode: on, off, status. It uses DEFENSE_MODE_TRADE_LIMIT_PCT and DEFENSE_MODE_TOTAL_ALLOCATION."""


@command.command("on")
@home_option
@json_option
def on(*, home: Path | None, as_json: bool) -> int:
    """Switch defense on, until `tbot defense off`."""
    return _send("defense-on", home, as_json=as_json)


@command.command("off")
@home_option
@json_option
def off(*, home: Path | None, as_json: bool) -> int:
    """Switch defense off. Exits with 5 while another cause keeps it on; the cause is named."""
    return _send("defense-off", home, as_json=as_json)


@command.command("status", short_help="Show the risk state, its causes and requests.")
@home_option
@json_option
def status(*, home: Path | None, as_json: bool) -> int:
    """Show the risk state, its causes, and the requests in the control folder."""
    from tbot_core.actions.defense import defense_document, state_sentence
    from tbot_core.model.clock import SystemClock

    document = defense_document(home, SystemClock().now())
    emit(document, as_json=as_json, lines=[state_sentence(document), *document["requests"]])
    return 0


def _send(verb: str, home: Path | None, *, as_json: bool) -> int:
    from tbot_core.actions.control_requests import request, result_notes
    from tbot_core.actions.defense import defense_code, defense_sentence

    answer = request(verb, home)
    emit(answer.document(), as_json=as_json, lines=[defense_sentence(answer), *result_notes(answer)])
    return defense_code(answer)
