"""Randomness: unpredictable for names and keys, seeded where results must be repeatable."""

from __future__ import annotations

import random
import secrets
from typing import Final

_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz23456789"


def token(length: int) -> str:
    """An unguessable name of so many lower-case letters and digits (none that look alike), 5 bits each."""
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def entropy(length: int) -> bytes:
    """Unpredictable bytes for keys, salts and nonces."""
    return secrets.token_bytes(length)


def generator(seed: int) -> random.Random:
    """A seeded generator, which gives the same numbers for the same seed; pass it to code that needs chance."""
    return random.Random(seed)  # noqa: S311  -- repeatable on purpose
