"""The terminal: its capabilities, and hidden input."""

from __future__ import annotations

import os
import shutil
import sys

from tbot_core.errors import AccessError


def read_hidden(words: str, *, twice: bool = False) -> str:
    """Read hidden input from the terminal, or the first line of standard input when that is no terminal.

    `twice` asks a person for it again. Raises AccessError for empty input, and when the two differ.
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
    """Whether the terminal supports neither cursor movement nor styles."""
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


def columns() -> int | None:
    """The number of columns of standard output; None when it is no terminal and lines may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def allows_style() -> bool:
    """Whether bold and colours may be used; NO_COLOR in the environment forbids them."""
    return not (is_dumb() or os.environ.get("NO_COLOR"))
