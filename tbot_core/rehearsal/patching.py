"""Planting a mutant: attributes of the running code are other ones for the time of a rehearsal."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Swaps: TypeAlias = tuple[tuple[Any, str, Any], ...]
"""What is put where: the owner (a class or a module), the attribute's name, and what it becomes."""


def current_attribute(owner: Any, name: str) -> Any:
    """What stands there now, a private name or not."""
    return vars(owner)[name]


@contextmanager
def patched(swaps: Swaps) -> Iterator[None]:
    """Put everything in its place, and back what was there, whatever happens between."""
    before = tuple((owner, name, current_attribute(owner, name)) for owner, name, _ in swaps)
    try:
        for owner, name, new in swaps:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
