"""What a person asks for: functions that the command line and the web page both call.

They take plain arguments, return values, ask nothing and print nothing. What a person should know before the result is
there, warnings and what takes its time, they pass to a function that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Notify: TypeAlias = Callable[[str], None]
"""Shows one sentence, where the caller shows things."""


def discard(_sentence: str) -> None:
    """Show nothing."""
