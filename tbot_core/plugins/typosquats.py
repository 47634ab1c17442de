"""Detects distributions whose names are similar to known ones (typosquatting)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR: Final = 2
"""Long names that are at most this many insertions, deletions and replacements apart are similar."""

_WORD: Final = 4
_LONG_WORD: Final = 6
_LOOKS: Final = str.maketrans("015i", "olsl")

_OURS: Final = Path(__file__).with_name("distributions.txt")


def ours() -> frozenset[str]:
    """The names that the project publishes under, to compare with; none of them is preferred or needed."""
    return frozenset(filesystem.read_text(_OURS).split())


def lookalikes(installed: Iterable[str], known: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """The (installed, known) pairs of different but similar names, sorted; `known` are those besides the project's.

    A name that is itself known is not compared.
    """
    names = {_canonical(name) for name in known} | ours()
    strangers = {_canonical(name) for name in installed} - names
    return tuple((one, other) for one in sorted(strangers) for other in sorted(names) if names_look_alike(one, other))


def names_look_alike(one: str, other: str) -> bool:
    """Whether one name may be taken for the other: how far apart they may be grows with the other's last part.

    Short words that differ by a letter or two are other words (bad, mid): there only letters of one look are equal.
    """
    letters = len(other.rpartition("-")[2])
    if letters < _WORD:
        return _folded(one) == _folded(other)
    return edit_distance(one, other) <= (NEAR if letters >= _LONG_WORD else 1)


def _folded(name: str) -> str:
    # The name with one letter for all that look like it, and without what is overlooked.
    return name.replace("rn", "m").replace("vv", "w").replace("-", "").translate(_LOOKS)


def edit_distance(one: str, other: str) -> int:
    """How many insertions, deletions and replacements make one text of the other; beyond two it says three."""
    if abs(len(one) - len(other)) > NEAR:
        return NEAR + 1
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row = row, [number]
        for column, another in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != another)))
    return min(row[-1], NEAR + 1)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
