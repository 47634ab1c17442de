"""The one way to ask a person for what must not be seen."""

from __future__ import annotations

import getpass
import sys

from tbot_core.errors import AccessError


def hidden(words: str) -> str:
    """What a person types without seeing it; the first line of standard input where that is no terminal.

    Raises AccessError when nothing comes.
    """
    seen = sys.stdin.isatty()
    text = getpass.getpass(f"{words}: ") if seen else sys.stdin.readline().removesuffix("\n")
    if not text:
        raise AccessError(f"{words}: nothing was entered.", "Type it, or give it on standard input.")
    return text
