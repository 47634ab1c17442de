"""The progress of work on files: one line on standard error, on a terminal only, and a file for who waits."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_BAR: Final = 30
_PERCENT: Final = 100


@contextmanager
def file_progress(label: str, length: int | None, file: Path | None = None) -> Iterator[Callable[[str, float], None]]:
    """Show the current file, and with a known number of files a bar, on a terminal only.

    `file` gets the part of all files that is done, in percent.
    """
    terminal, done = sys.stderr.isatty(), 0

    def report(name: str, share: float) -> None:
        nonlocal done
        place = done + 1
        done += share >= 1
        part = min(1.0, (place - 1 + share) / length) if length else 0.0
        if file is not None:
            from tbot_core.actions.simulations import write_progress

            write_progress(file, int(part * _PERCENT), _PERCENT)
        if terminal:
            filled = round(part * _BAR)
            bar = f" of {length} [{'#' * filled}{'.' * (_BAR - filled)}] {part:.0%}" if length else ""
            click.echo(f"\r\x1b[K{label} {place}{bar}: {name}", nl=False, err=True)

    try:
        yield report
    finally:
        if terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
