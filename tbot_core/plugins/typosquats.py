"""Detects distributions whose names are similar to known ones (typosquatting)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.lock import PluginLock

_NEAR: Final = 2
"""Long names that are at most this many insertions, deletions and replacements apart are similar."""

_WORD: Final = 4
_LONG_WORD: Final = 6
_RESERVED: Final = " reserved"
_LOOKS: Final = str.maketrans("015i", "olsl")

_OURS: Final = Path(__file__).with_name("distributions.txt")


def ours() -> frozenset[str]:
    """The project's distribution names, reserved ones too, to compare with; none is preferred or required."""
    return frozenset(line.split()[0] for line in _lines())


def existing() -> frozenset[str]:
    """Those that the project has made: only these may be advised, since a stranger could publish a reserved name."""
    return frozenset(line for line in _lines() if not line.endswith(_RESERVED))


def distribution_of(kind: str, name: str) -> str:
    """The distribution that installs a plugin, where the project has made it; else ""."""
    distribution = f"tbot-{kind}-{name.replace('_', '-')}"
    return distribution if distribution in existing() else ""


def _lines() -> list[str]:
    return filesystem.read_text(_OURS).splitlines()


def lookalike_warnings(listings: Iterable[PluginListing], approved: PluginLock | None) -> Iterator[str]:
    """A warning for each distribution whose name is similar to one of the project or of the lock."""
    known = [plugin.distribution for plugin in approved.plugins] if approved else []
    for one, other in lookalikes((listing.entry.dist for listing in listings), known):
        yield f"The name of the distribution {one} is similar to {other}: make sure that it is the one you mean."


def lookalikes(installed: Iterable[str], known: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """The (installed, known) pairs of different but similar names, sorted; `known` is added to the project's names.

    A known name is not compared.
    """
    names = {_canonical(name) for name in known} | ours()
    strangers = {_canonical(name) for name in installed} - names
    return tuple(
        (stranger, other)
        for stranger in sorted(strangers)
        for other in sorted(names)
        if _names_look_alike(stranger, other)
    )


def _names_look_alike(one: str, other: str) -> bool:
    # Whether two names can be confused; the allowed distance grows with the last part of `other`.
    # Short words that differ by a letter or two are other words (bad, mid): for them only similar letters count as
    # equal.
    letters = len(other.rpartition("-")[2])
    if letters < _WORD:
        return _folded(one) == _folded(other)
    return edit_distance(one, other) <= (_NEAR if letters >= _LONG_WORD else 1)


def _folded(name: str) -> str:
    # The name with similar letters replaced by one, and without hyphens.
    return name.replace("rn", "m").replace("vv", "w").replace("-", "").translate(_LOOKS)


def edit_distance(one: str, other: str) -> int:
    """The number of insertions, deletions and replacements between two texts; at most three."""
    if abs(len(one) - len(other)) > _NEAR:
        return _NEAR + 1
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, 1):
        above, row = row, [number]
        for column, another in enumerate(other, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (letter != another)))
    return min(row[-1], _NEAR + 1)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
