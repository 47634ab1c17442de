"""The locks of an instance: one process trades in it, and one dry run may run beside it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from tbot_core.cli.wish import SIMULATION

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path


def alone(home: Path, purpose: str = "") -> AbstractContextManager[None]:
    """Be the one process that trades in the instance, before any secret is opened; where none is, nothing is made.

    `purpose`: SIMULATION for a process that takes no requests.
    """
    from tbot_core.seams import disk
    from tbot_core.settings import Instance, is_there

    instance = Instance.at(home)
    return disk.hold(instance.lock, purpose) if is_there(instance) else nullcontext()


def dried(home: Path) -> AbstractContextManager[None]:
    """Be the one dry run in the instance, beside whoever trades there; who that is, is said on standard error."""
    from tbot_core.seams import disk
    from tbot_core.settings import Instance, is_there

    instance = Instance.at(home)
    process = disk.holder(instance.lock)
    if process is not None and disk.purpose(instance.lock) != SIMULATION:
        words = "a dry run beside it asks the same source for its bars, and what that grants is shared"
        click.echo(f"tbot: Process {process} trades here: {words}.", err=True)
    return disk.hold(instance.dry_run_lock) if is_there(instance) else nullcontext()
