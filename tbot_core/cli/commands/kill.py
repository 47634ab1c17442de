"""`tbot kill`: from now on no entry, whatever else happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen_option, emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.cli.control_client import RequestResult


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Also close what is held.")
@click.option("--clear", is_flag=True, help="Take the kill back.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Enter nothing and take waiting entries back; stops go on, time exits wait, and a restart changes nothing.

    With --clear exit 1 where the file control/kill is there: the state stays halted until it is removed.
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
    """What the kill has come to."""
    from tbot_core.engine.control import ControlVerb

    if answer.lost and answer.verb is not ControlVerb.KILL_CLEAR and not answer.taken:
        return f"{answer.lost} `touch control/kill` in the instance's folder lets nothing out even so."
    if answer.lost:
        return answer.lost
    if answer.verb is ControlVerb.KILL_CLEAR:
        return _cleared(answer)
    if answer.process is None:
        return "No bot runs here; the kill counts from the next start on, and `tbot kill --clear` takes it back."
    held = ", ".join(answer.open)
    doing = "being closed" if answer.verb is ControlVerb.KILL_FLATTEN else "kept with their stops"
    rest = f" Positions are {doing}: {held}." if held else ""
    return f"Killed: nothing is entered until `tbot kill --clear`.{rest}"


def _cleared(answer: RequestResult) -> str:
    # The command takes its own kill and a signal's back; the file is removed by whoever set it.
    rest = f": {', '.join(answer.causes)}" if answer.causes else ""
    if answer.process is None:
        stays = " But control/kill is there, and keeps the bot halted: `rm control/kill` ends it."
        return f"No bot runs here; the kill is taken back at the next start.{stays if _stays(answer) else ''}"
    if _stays(answer):
        return f"`tbot kill` is taken back, but the state stays {answer.state}{rest}. `rm control/kill` ends it."
    return f"The kill is taken back; the state is {answer.state}{rest}."


def _stays(answer: RequestResult) -> bool:
    # Whether the file keeps the bot halted though the command's own kill is taken back.
    from tbot_core.engine.control import ControlVerb
    from tbot_core.trading.risk.states import StateCause

    return answer.verb is ControlVerb.KILL_CLEAR and StateCause.KILL_FILE.value in answer.causes
