"""The terminal: what it can show, and the one way to ask a person for what must not be seen."""

from __future__ import annotations

import os
import shutil
import sys

from tbot_core.errors import AccessError


def read_hidden(words: str, *, twice: bool = False) -> str:
    """What a person types without seeing it; the first line of standard input where that is no terminal.

    A person is asked `twice` for what is new. Raises AccessError when nothing comes, and when the two differ.
    """
    import getpass

    seen = sys.stdin.isatty()
    text = getpass.getpass(f"{words}: ") if seen else sys.stdin.readline().removesuffix("\n")
    if not text:
        raise AccessError(f"{words}: the input was empty.", "Type it, or pipe it to standard input.")
    if twice and seen and getpass.getpass(f"{words} again: ") != text:
        raise AccessError(f"{words}: the two inputs differ.", "Type it again.")
    return text


def is_dumb() -> bool:
    """Whether the terminal knows lines alone: neither a cursor that moves nor styles."""
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


def columns() -> int | None:
    """How many columns standard output has; None where it is no terminal, and lines may be as long as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def allows_style() -> bool:
    """Whether bold and colours may be written to a terminal; NO_COLOR in the environment forbids them."""
    return not (is_dumb() or os.environ.get("NO_COLOR"))
