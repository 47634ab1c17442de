"""What a new password must be: long, and no guess. There is no rule about kinds of characters.

A guess is what remains short once common words, words of the context, keyboard and counting runs, repetitions, and
years are taken out. Nothing is asked of another machine.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.errors import UsageError
from tbot_core.system import filesystem
from tbot_extension_web.access.passwords import LONGEST, normalized

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST: Final = 12
"""The smallest number of characters; the page recommends 15."""

_OWN: Final = 6
"""The number of characters that must remain."""

_DISTINCT: Final = 4
_RUN: Final = 4
_WORD: Final = 3
_FILE: Final = Path(__file__).with_name("common_words.txt")
_READ_AS: Final = str.maketrans("013457@$!|", "oleastasii")
"""Digits and signs that people write for letters."""

_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "qwertzuiop",
    "azertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "qazwsxedcrfvtgbyhnujm",
    "!@#$%^&*()",
)
_YEAR: Final = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_REPEATED: Final = re.compile(r"(.{1,8}?)\1+")


def password_faults(password: str, context: Iterable[str] = ()) -> tuple[str, ...]:
    """A sentence for each rule that the password breaks; `context` are words that others know, as the user's name."""
    found = []
    if len(normalized(password)) < SHORTEST:
        found.append(f"The password needs at least {SHORTEST} characters; a sentence of several words is a good one.")
    if len(password) > LONGEST:
        found.append(f"The password may have at most {LONGEST} characters.")
    elif not found and _is_guess(normalized(password), context):
        found.append(
            "The password is easy to guess: it holds little beside common words, names of this bot, runs of keys, "
            "repetitions and years. Add words that have nothing to do with it."
        )
    return tuple(found)


def check_password(password: str, context: Iterable[str] = ()) -> None:
    """Raises UsageError, with a sentence for each rule that the password breaks."""
    if found := password_faults(password, context):
        raise UsageError(found[0], " ".join(found[1:]))


def _is_guess(password: str, context: Iterable[str]) -> bool:
    text = password.casefold()
    names = {part for one in context for part in re.split(r"[\W_]+", one.casefold()) if len(part) >= _WORD}
    forms = (text, text.translate(_READ_AS))
    return any(_is_short(_remainder(form, frozenset(names | {"tbot", "bot"}))) for form in forms)


def _is_short(rest: str) -> bool:
    return len(rest) < _OWN or len(set(rest)) < _DISTINCT


def _remainder(text: str, names: frozenset[str]) -> str:
    # The letters and digits that no pattern explains.
    text = _YEAR.sub(" ", text)
    for row in _runs():
        text = text.replace(row, " ")
    for word in sorted(_common_words() | names, key=lambda one: (-len(one), one)):
        text = text.replace(word, " ")
    text = _REPEATED.sub(r"\1", re.sub(r"[\W_]+", " ", text))
    # A single character between what was taken out, and digits at the end, are no thought of one's own.
    return "".join(part for part in text.rstrip("0123456789 ").split() if len(part) > 1)


@cache
def _common_words() -> frozenset[str]:
    return frozenset(word for word in filesystem.read_text(_FILE).split() if len(word) >= _WORD)


@cache
def _runs() -> tuple[str, ...]:
    # Runs along the rows of keys and digits, in both directions, the longest first.
    found = {
        row[begin:end]
        for one in _ROWS
        for row in (one, one[::-1])
        for begin in range(len(row))
        for end in range(begin + _RUN, len(row) + 1)
    }
    return tuple(sorted(found, key=lambda one: (-len(one), one)))
