"""Distributions whose names are almost those of others: a slip of the finger is how a stranger's code gets in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

NEAR: Final = 2
"""Names that are at most this many insertions, deletions and replacements apart look alike."""

OURS: Final = frozenset(
    {
        "tbot-alert-apprise",
        "tbot-alert-console",
        "tbot-alert-email",
        "tbot-alert-pagerduty",
        "tbot-alert-slack",
        "tbot-alert-sms",
        "tbot-broker-alpaca",
        "tbot-broker-ibkr",
        "tbot-broker-paper",
        "tbot-broker-tradier",
        "tbot-core",
        "tbot-extension-accounting",
        "tbot-extension-backtrader",
        "tbot-extension-beancount",
        "tbot-extension-dask",
        "tbot-extension-metrics",
        "tbot-extension-optimizer",
        "tbot-extension-web",
        "tbot-filter-black-scholes",
        "tbot-filter-finnhub",
        "tbot-filter-price-volume",
        "tbot-strategy-close",
        "tbot-strategy-mid",
        "tbot-strategy-open",
    }
)
"""The names that the project publishes under, to compare with; none of them is preferred or needed."""


def lookalikes(installed: Iterable[str], known: Iterable[str] = ()) -> tuple[tuple[str, str], ...]:
    """The (installed, known) pairs of names that differ and look alike, sorted; `known` are those beside the project's.

    A name that is known itself is compared with none.
    """
    names = {_canonical(name) for name in known} | OURS
    strangers = {_canonical(name) for name in installed} - names
    return tuple((one, other) for one in sorted(strangers) for other in sorted(names) if distance(one, other) <= NEAR)


def distance(one: str, other: str) -> int:
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
