"""`tbot stop`: end trading in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen, emit, home_option, json_option
from tbot_core.cli.text.run_summary import ended

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.cli.control_client import Answer


@click.command("stop")
@click.option("--flatten", is_flag=True, help="Close what is held now.")
@click.option("--keep", is_flag=True, help="End now; positions stay with their stops.")
@click.option("--cancel", is_flag=True, help="Take the stop back.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Enter nothing, manage what is held to its exits, then end; exit 1 where something may be open at its end."""
    import asyncio

    from tbot_core.cli.control_client import ask, notes
    from tbot_core.engine.control import Verb
    from tbot_core.model.clock import SystemClock

    verb = "-".join(filter(None, ("stop", chosen(**options))))
    answer = asyncio.run(ask(home, Verb(verb), SystemClock()))
    emit(answer.document(), as_json=as_json, lines=[sentence(answer), *notes(answer)])
    over = answer.verb is not Verb.STOP_CANCEL and (answer.ended or answer.process is None)
    left = over and (answer.open or answer.unread or answer.unconfirmed)
    return 1 if answer.lost or left else 0


def sentence(answer: Answer) -> str:
    """What the stop has come to."""
    from tbot_core.engine.control import Verb

    held = ", ".join(answer.open)
    if answer.lost:
        return answer.lost
    if answer.verb is Verb.STOP_CANCEL:
        if answer.process is None:
            return "No bot runs here; the stop is taken back at the next start."
        return f"The stop is taken back; the state is {answer.state}."
    if answer.process is None:
        rest = f" These are open and nobody manages them: {held}." if held else ""
        return f"No bot runs here; the stop counts at the next start, and `tbot stop --cancel` takes it back.{rest}"
    if answer.ended:
        return ended(answer.open, answer.unconfirmed)
    doing = "closes" if answer.verb is Verb.STOP_FLATTEN else "manages to their exits"
    return f"The bot enters nothing, {doing} {held or 'what is worked'}, then ends."
