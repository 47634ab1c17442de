"""The locks of an instance: one process trades in it, and one dry run may run beside it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from tbot_core.cli.run_options import SIMULATION

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


def hold_instance_lock(home: Path, purpose: str = "") -> AbstractContextManager[None]:
    """Hold the lock of the one trading process of an instance, before any secret is opened; creates no instance.

    `purpose`: SIMULATION for a process that accepts no requests.
    """
    from tbot_core.instance import Instance, is_there
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    return filesystem.hold_lock(instance.lock, purpose) if is_there(instance) else nullcontext()


def hold_dry_run_lock(home: Path) -> AbstractContextManager[None]:
    """Hold the lock of the one dry run in the instance; another trading process is named on standard error."""
    from tbot_core.instance import Instance, is_there
    from tbot_core.system import filesystem

    instance = Instance.at(home)
    process = filesystem.lock_holder(instance.lock)
    if process is not None and filesystem.lock_purpose(instance.lock) != SIMULATION:
        words = "a dry run beside it uses the same data source, and both share its rate limits"
        click.echo(f"tbot: Process {process} trades here: {words}.", err=True)
    return filesystem.hold_lock(instance.dry_run_lock) if is_there(instance) else nullcontext()
