"""Sentences that an action has for a person before its result is there: warnings, and what takes its time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Notify: TypeAlias = Callable[[str], None]
"""Shows one sentence, where the caller shows things."""


def discard(_sentence: str) -> None:
    """Show nothing."""
