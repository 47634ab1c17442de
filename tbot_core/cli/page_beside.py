"""`tbot run --web`: the page as a process of its own beside a run."""

from __future__ import annotations

import asyncio
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.instance.sources import is_made
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.discovery import installed_commands
from tbot_core.system import environ, filesystem, processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND: Final = "web"
OUTPUT: Final = "web.out"
"""What the page prints, in the folder of the logs."""

_START_S: Final = 15.0
_AGAIN_S: Final = 0.05
_LINES: Final = 4


def require_made(home: Path) -> None:
    """Raise UsageError where no page can be served beside a run: it needs the accounts of an instance."""
    if not is_made(instance := Instance.at(home)):
        raise UsageError(
            f"--web: {instance.home} is no instance with accounts, which the page needs.",
            "Create one with `tbot init` or `tbot web`, and give its folder as --home.",
        )


@contextmanager
def page_beside(home: Path) -> Iterator[None]:
    """Serve the page of the instance while the context lasts; one that is served already stays.

    The page is a process of its own: it outlives a crash of the run, and the run goes on without it. Raises UsageError
    where no plugin serves a page.
    """
    if COMMAND not in {it.entry.name for it in installed_commands(reserved=()) if it.state == "available"}:
        raise UsageError("--web: no installed plugin serves a page.", "Install tbot-extension-web.")
    instance = Instance.at(home)
    if (address := _address(instance)) is not None:
        click.echo(f"The page is served already: {address}", err=True)
        yield
        return
    filesystem.make_folder(instance.logs)
    command = [sys.executable, "-m", "tbot_core", COMMAND, "--home", str(instance.home)]
    output = instance.logs / OUTPUT
    before = filesystem.size(output) if filesystem.exists(output) else 0
    child = processes.start_detached(command, environment=environ.own_environment(), output=output)
    address = _wait_for_address(instance, child)
    click.echo(f"The page: {address}" if address else _not_started(output, before), err=True)
    try:
        yield
    finally:
        processes.end_program(child)


def _wait_for_address(instance: Instance, child: int) -> str | None:
    clock = SystemClock()
    until = clock.monotonic() + _START_S
    while (address := _address(instance)) is None and clock.monotonic() < until and processes.is_running(child):
        asyncio.run(clock.sleep(_AGAIN_S))
    return address


def _not_started(output: Path, before: int) -> str:
    # Why, as the page's process has said it.
    said = filesystem.read_bytes(output)[before:].decode(errors="replace").split("\n")
    last = [line.strip() for line in said if line.strip()][-_LINES:]
    return "\n".join(("The page did not start; the run goes on without it.", *last, f"Its output: {output}"))


def _address(instance: Instance) -> str | None:
    # Where the page is served now; None where it is not, or not yet.
    return (filesystem.lock_purpose(instance.page_lock) or None) if filesystem.lock_holder(instance.page_lock) else None
