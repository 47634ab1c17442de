"""Replaces attributes of the running code during a rehearsal, to plant a mutant."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Swaps: TypeAlias = tuple[tuple[Any, str, Any], ...]
"""Replacements: the owner (a class or a module), the attribute's name, and the new value."""


def current_attribute(owner: Any, name: str) -> Any:
    """The current value of an attribute, also of a private one."""
    return vars(owner)[name]


@contextmanager
def patched(swaps: Swaps) -> Iterator[None]:
    """Apply the replacements, and restore the old values at the end."""
    before = tuple((owner, name, current_attribute(owner, name)) for owner, name, _ in swaps)
    try:
        for owner, name, new in swaps:
            setattr(owner, name, new)
        yield
    finally:
        for owner, name, old in before:
            setattr(owner, name, old)
