"""`tbot kill`: blocks all entries at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen_option, emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.cli.control_client import RequestResult


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Also close all positions.")
@click.option("--clear", is_flag=True, help="Undo the kill.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Block entries and cancel working entry orders. Stops stay; time exits are suspended; it survives a restart.

    With --clear it exits with 1 if the file control/kill exists: the state stays halted until the file is removed.
    """
    import asyncio

    from tbot_core.cli.control_client import result_notes, send_request
    from tbot_core.engine.control import ControlVerb
    from tbot_core.model.clock import SystemClock

    verb = "-".join(filter(None, ("kill", chosen_option(**options))))
    answer = asyncio.run(send_request(home, ControlVerb(verb), SystemClock()))
    emit(answer.document(), as_json=as_json, lines=[sentence(answer), *result_notes(answer)])
    return 1 if answer.lost or _stays(answer) else 0


def sentence(answer: RequestResult) -> str:
    """The result of the kill as a sentence."""
    from tbot_core.engine.control import ControlVerb

    if answer.lost and answer.verb is not ControlVerb.KILL_CLEAR and not answer.taken:
        return f"{answer.lost} `touch control/kill` in the instance's folder blocks entries in any case."
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.KILL_CLEAR:
        return _cleared(answer)
    if answer.process is None:
        return "No bot is running; the kill takes effect from the next start, and `tbot kill --clear` undoes it."
    held = ", ".join(answer.open)
    doing = "being closed" if answer.verb is ControlVerb.KILL_FLATTEN else "kept with their stops"
    rest = f" Positions are {doing}: {held}." if held else ""
    return f"Killed: entries are blocked until `tbot kill --clear`.{rest}"


def _cleared(answer: RequestResult) -> str:
    # The command takes its own kill and a signal's back; the file is removed by whoever set it.
    rest = f": {', '.join(answer.causes)}" if answer.causes else ""
    if answer.process is None:
        stays = " But the file control/kill exists and keeps the bot halted: `rm control/kill` ends it."
        return f"No bot is running; the kill is cleared at the next start.{(stays if _stays(answer) else '')}"
    if _stays(answer):
        return f"`tbot kill` is cleared, but the state stays {answer.state}{rest}. `rm control/kill` ends it."
    return f"The kill is cleared; the state is {answer.state}{rest}."


def _stays(answer: RequestResult) -> bool:
    # Whether the file keeps the bot halted though the command's own kill is taken back.
    from tbot_core.engine.control import ControlVerb
    from tbot_core.trading.risk.states import StateCause

    return answer.verb is ControlVerb.KILL_CLEAR and StateCause.KILL_FILE.value in answer.causes
