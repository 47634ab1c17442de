"""`tbot run --web`: the page as a process of its own beside a run, which outlives it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from tbot_core.cli import print_error
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance
from tbot_core.instance.sources import is_set_up
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.discovery import installed_commands
from tbot_core.system import environ, filesystem, processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_COMMAND: Final = "web"
_OUTPUT: Final = "web.out"
"""What the page prints, in the folder of the logs."""

_START_S: Final = 15.0
_AGAIN_S: Final = 0.05
_WATCH_S: Final = 0.5
_LINES: Final = 4


def require_made(home: Path) -> None:
    """Raise UsageError where no page can be served beside a run: it needs the accounts of an instance."""
    if not is_set_up(instance := Instance.at(home)):
        raise UsageError(
            f"--web: {instance.home} is no instance with accounts, which the page needs.",
            "Create one with `tbot init` or `tbot web`, and give its folder as --home.",
        )


def run_beside_page(home: Path, lock: AbstractContextManager[object], run: Callable[[], tuple[int, bool]]) -> int:
    """Call `run` with the lock held and the page of the instance served; returns the exit code of the run.

    `run` returns its exit code, and whether a signal ended it. Without a signal the page stays after the end of the
    run, also after a failure, which is printed: until a signal, or the page's own end. Meanwhile the lock is free, so
    that a bot can be started again. Raises UsageError where no plugin serves a page.
    """
    with ExitStack() as held:
        held.enter_context(lock)
        with page_beside(home) as page:
            code, interrupted = _ended(run)
            held.close()
            if page is not None and not interrupted:
                _stay(home, page)
        return code


def _ended(run: Callable[[], tuple[int, bool]]) -> tuple[int, bool]:
    # A failure is printed as it would be at the end of the command, which is that of the page.
    try:
        return run()
    except TbotError as fault:
        print_error(fault.message, fault.remedy)
        return fault.exit_code, False
    except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
        raise
    except Exception as fault:  # noqa: BLE001  -- the top of a run: the hook writes the traceback to the log
        sys.excepthook(type(fault), fault, fault.__traceback__)
        return 1, False


def _stay(home: Path, page: int) -> None:
    # Wait for the end of the page, or for a signal.
    if not processes.is_running(page):
        return
    click.echo(f"The bot has ended. The page stays: {_address(Instance.at(home))} (Ctrl-C ends it)", err=True)
    clock = SystemClock()
    with suppress(KeyboardInterrupt):
        while processes.is_running(page):
            asyncio.run(clock.sleep(_WATCH_S))


@contextmanager
def page_beside(home: Path) -> Iterator[int | None]:
    """Serve the page of the instance while the context lasts; one that is served already stays.

    Yields its process, None for one that is served already. It outlives a crash of this process, and the run goes on
    without it. Raises UsageError where no plugin serves a page.
    """
    if _COMMAND not in {
        listing.entry.name for listing in installed_commands(reserved=()) if listing.state == "available"
    }:
        raise UsageError("--web: no installed plugin serves a page.", "Install tbot-extension-web.")
    instance = Instance.at(home)
    if (address := _address(instance)) is not None:
        click.echo(f"The page is served already: {address}", err=True)
        yield None
        return
    filesystem.make_folder(instance.logs)
    command = [sys.executable, "-m", "tbot_core", _COMMAND, "--home", str(instance.home)]
    output = instance.logs / _OUTPUT
    before = filesystem.size(output) if filesystem.exists(output) else 0
    child = processes.start_detached(command, environment=environ.own_environment(), output=output)
    address = _wait_for_address(instance, child)
    click.echo(f"The page: {address}" if address else _not_started(output, before), err=True)
    try:
        yield child
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
