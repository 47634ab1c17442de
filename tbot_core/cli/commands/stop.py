"""`tbot stop`: graceful stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen_option, emit, home_option, json_option
from tbot_core.cli.text.run_summary import stopped_sentence

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.cli.control_client import RequestResult


@click.command("stop")
@click.option("--flatten", is_flag=True, help="Close all positions now.")
@click.option("--keep", is_flag=True, help="Stop at once; positions keep their stops.")
@click.option("--cancel", is_flag=True, help="Undo the stop.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Graceful stop: block entries, manage positions to their exits, then end. Exits with 1 if anything stays open."""
    import asyncio

    from tbot_core.cli.control_client import result_notes, send_request
    from tbot_core.engine.control import ControlVerb
    from tbot_core.model.clock import SystemClock

    verb = "-".join(filter(None, ("stop", chosen_option(**options))))
    answer = asyncio.run(send_request(home, ControlVerb(verb), SystemClock()))
    emit(answer.document(), as_json=as_json, lines=[sentence(answer), *result_notes(answer)])
    over = answer.verb is not ControlVerb.STOP_CANCEL and (answer.ended or answer.process is None)
    left = over and (answer.open or answer.unread or answer.unconfirmed)
    return 1 if answer.lost or left else 0


def sentence(answer: RequestResult) -> str:
    """The result of the stop as a sentence."""
    from tbot_core.engine.control import ControlVerb

    held = ", ".join(answer.open)
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.STOP_CANCEL:
        if answer.process is None:
            return "No bot is running; the stop is undone at the next start."
        return f"The stop is undone; the state is {answer.state}."
    if answer.process is None:
        rest = f" Open and not managed by any bot: {held}." if held else ""
        return f"No bot is running; the stop takes effect at the next start, and `tbot stop --cancel` undoes it.{rest}"
    if answer.ended:
        return stopped_sentence(answer.open, answer.unconfirmed)
    what = held or "all positions"
    doing = f"closes {what}" if answer.verb is ControlVerb.STOP_FLATTEN else f"manages {what} to their exits"
    return f"The bot blocks entries, {doing}, then ends."
