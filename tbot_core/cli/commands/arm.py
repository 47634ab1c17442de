"""`tbot arm`: arm live trading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("arm")
@click.option(
    "--sessions", "count", type=BoundedInt(1, 5), default=1, metavar="N", help="Number of sessions. Default: 1."
)
@home_option
@json_option
def command(*, count: int, home: Path | None, as_json: bool) -> int:
    """Arm live trading to the end of the session, or for N sessions, without a question.

    Exits with 5 if a running bot is not armed afterwards; without one the next start is armed. A loss latch, `tbot
    disarm`, and a change of settings, plugins, mode or account end it.
    """
    from tbot_core.actions.arming import arm, arming_code, arming_sentence

    subject, answer = arm(home, count)
    document = answer.document() | {"subject": subject.document()}
    emit(document, as_json=as_json, lines=[subject.line, arming_sentence(answer)])
    return arming_code(answer)


@click.command("disarm")
@home_option
@json_option
def disarm(*, home: Path | None, as_json: bool) -> int:
    """Disarm: block live entries. Open positions are managed to their exits. No settings or secrets are opened.

    Where only paper trading is recorded and no arming waits, it does nothing.
    """
    from tbot_core.actions import arming
    from tbot_core.actions.control_requests import RequestResult
    from tbot_core.engine.control import ControlVerb

    answer = arming.disarm(home)
    if answer is None:
        document = RequestResult(verb=ControlVerb.DISARM, process=None).document()
        emit(document, as_json=as_json, lines=["Nothing is armed: paper trading needs no arming. No request was sent."])
        return 0
    emit(answer.document(), as_json=as_json, lines=[arming.arming_sentence(answer)])
    return arming.arming_code(answer)
