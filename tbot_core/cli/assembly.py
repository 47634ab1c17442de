"""The parts of a command that reaches a broker: at the broker's hosts, or at the rehearsal of TBOT_REHEARSAL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core.engine.rehearsal_target import rehearsal_target
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.engine.bootstrap import Assembly
    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.instance import Mode, SettingsFiles
    from tbot_core.model.clock import Clock


def environment_rehearsal() -> RehearsalTarget | None:
    """The target of TBOT_REHEARSAL; None if it is unset or empty. Raises UsageError for an invalid one."""
    text = environ.variable(REHEARSAL_VARIABLE)
    return rehearsal_target(text, SystemClock().now()) if text else None


def command_clock() -> Clock:
    """The machine's clock; that of the rehearsal where TBOT_REHEARSAL names one, which is said on standard error."""
    target = environment_rehearsal()
    if target is None:
        return SystemClock()
    from tbot_core.engine.rehearsal_run import rehearsal_clock

    clock = rehearsal_clock(target.opens)
    told = f"{exchange_time(clock.now()):%Y-%m-%d %H:%M:%S} New York"
    click.echo(f"REHEARSAL ({REHEARSAL_VARIABLE}): the broker is at {target.url}, where it is {told}.", err=True)
    return clock


def assemble_command(
    home: Path | None, mode: Mode, overrides: Mapping[str, str] | None = None, sources: SettingsFiles | None = None
) -> Assembly:
    """The parts of a command as `assemble` makes them, with `command_clock`; a rehearsal's brokers are at its URL.

    Raises what `assemble` raises, UsageError for an invalid target, and SettingsError for a live account at one.
    """
    from tbot_core.engine.bootstrap import assemble

    made = assemble(home, mode, command_clock(), overrides, sources)
    target = environment_rehearsal()
    if target is None:
        return made
    from tbot_core.engine.rehearsal_run import at_address

    return at_address(made, target)
