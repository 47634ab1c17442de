"""`tbot stop` and `tbot kill`: a graceful stop, and blocking all entries at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import chosen_option, emit, home_option, json_option

if TYPE_CHECKING:
    from pathlib import Path


@click.command("stop")
@click.option("--flatten", is_flag=True, help="Close all positions now.")
@click.option("--keep", is_flag=True, help="Stop at once; positions keep their stops.")
@click.option("--cancel", is_flag=True, help="Undo the stop.")
@home_option
@json_option
def command(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Graceful stop: block entries, manage positions to their exits, then end. Exits with 1 if anything stays open."""
    from tbot_core.actions import control_requests

    answer = control_requests.request("-".join(filter(None, ("stop", chosen_option(**options)))), home)
    lines = [control_requests.stop_sentence(answer), *control_requests.result_notes(answer)]
    emit(answer.document(), as_json=as_json, lines=lines)
    return 1 if answer.lost or control_requests.left_open(answer) else 0


@click.command("kill")
@click.option("--flatten", is_flag=True, help="Also close all positions.")
@click.option("--clear", is_flag=True, help="Undo the kill.")
@home_option
@json_option
def kill(*, home: Path | None, as_json: bool, **options: bool) -> int:
    """Block entries and cancel working entry orders. Stops stay; time exits are suspended; it survives a restart.

    With --clear it exits with 1 if the file control/kill exists: the state stays halted until the file is removed.
    """
    from tbot_core.actions import control_requests

    answer = control_requests.request("-".join(filter(None, ("kill", chosen_option(**options)))), home)
    lines = [control_requests.kill_sentence(answer), *control_requests.result_notes(answer)]
    emit(answer.document(), as_json=as_json, lines=lines)
    return 1 if answer.lost or control_requests.stays_killed(answer) else 0
