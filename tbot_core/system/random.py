"""The one way to randomness: true for names, seeded for everything that must come out the same again."""

from __future__ import annotations

import random
import secrets
from typing import Final

_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"


def token(length: int) -> str:
    """A name of so many lower-case letters and digits (none that look alike), 5 bits each, not to be guessed."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def entropy(length: int) -> bytes:
    """So many bytes that nobody can guess: for keys, salts and nonces."""
    return secrets.token_bytes(length)


def generator(seed: int) -> random.Random:
    """A generator that gives the same numbers for the same seed; pass it in wherever a decision needs chance."""
    return random.Random(seed)  # noqa: S311  -- repeatable on purpose
