"""`tbot stop`: end trading in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen_option, emit, home_option, json_option
from tbot_core.cli.text.run_summary import stopped_sentence

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.cli.control_client import RequestResult


@click.command("stop")
@click.option("--flatten", is_flag=True, help="Close what is held now.")
@click.option("--keep", is_flag=True, help="End now; positions stay with their stops.")
@click.option("--cancel", is_flag=True, help="Take the stop back.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Enter nothing, manage what is held to its exits, then end; exit 1 where something may be open at its end."""
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
    """What the stop has come to."""
    from tbot_core.engine.control import ControlVerb

    held = ", ".join(answer.open)
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.STOP_CANCEL:
        if answer.process is None:
            return "No bot runs here; the stop is taken back at the next start."
        return f"The stop is taken back; the state is {answer.state}."
    if answer.process is None:
        rest = f" These are open and nobody manages them: {held}." if held else ""
        return f"No bot runs here; the stop counts at the next start, and `tbot stop --cancel` takes it back.{rest}"
    if answer.ended:
        return stopped_sentence(answer.open, answer.unconfirmed)
    doing = "closes" if answer.verb is ControlVerb.STOP_FLATTEN else "manages to their exits"
    return f"The bot enters nothing, {doing} {held or 'what is worked'}, then ends."
