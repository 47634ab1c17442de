"""The progress of work on files: one line on standard error, on a terminal only."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BAR: Final = 30


@contextmanager
def file_progress(label: str, length: int | None) -> Iterator[Callable[[str, float], None]]:
    """Show the current file, and with a known number of files a bar, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _name, _share: None
        return
    done = 0

    def report(name: str, share: float) -> None:
        nonlocal done
        place = done + 1
        done += share >= 1
        shown = f"{label} {place}"
        if length:
            part = min(1.0, (place - 1 + share) / length)
            filled = round(part * _BAR)
            shown = f"{shown} of {length} [{'#' * filled}{'.' * (_BAR - filled)}] {part:.0%}"
        click.echo(f"\r\x1b[K{shown}: {name}", nl=False, err=True)

    try:
        yield report
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
