"""Garbage collection, paused where it would cost more than it brings."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause garbage collection, which takes up to 40 ms: until a minute's orders are sent, or a month is tested."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def kept_start() -> Iterator[None]:
    """Collect no garbage while a command's modules and parts are made, and leave these out of later collections.

    They stay until the process ends. To look through them again and again takes a tenth of the time of a short command.
    """
    with gc_paused():
        try:
            yield
        finally:
            gc.freeze()
