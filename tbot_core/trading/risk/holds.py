"""Holds: what keeps orders in a symbol back at one broker; pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection


class Hold(Enum):
    """Why orders in a symbol are held back.

    FROZEN: its quantity is unclear, until a reading of the account shows it; with FROZEN_FOR_SESSION not before the
    session's end. DISPUTED: readings contradict the books, or the first one left it open. RULES_REQUESTED: its trading
    rules are unknown and an answer is awaited; RULES_UNKNOWN: none came. HALTED: by the exchange.
    """

    FROZEN = auto()
    FROZEN_FOR_SESSION = auto()
    DISPUTED = auto()
    RULES_REQUESTED = auto()
    RULES_UNKNOWN = auto()
    HALTED = auto()


UNCLEAR: Final = (Hold.FROZEN, Hold.DISPUTED, Hold.HALTED)
"""Nothing is closed; a stop may be placed."""

NO_EXIT: Final = (*UNCLEAR, Hold.RULES_REQUESTED)
"""No exit is sent."""

WITHOUT_RULES: Final = (Hold.RULES_REQUESTED, Hold.RULES_UNKNOWN)
"""No entry is sent, since its trading rules are not known."""


@attrs.define
class Holds:
    """The holds of each symbol, with words for a person."""

    _by_symbol: dict[str, dict[Hold, str]] = attrs.field(factory=dict)

    def add(self, symbol: str, hold: Hold, words: str = "") -> None:
        """Add a hold, or change its words."""
        self._by_symbol.setdefault(symbol, {})[hold] = words

    def end(self, symbol: str, *holds: Hold) -> None:
        """End holds of a symbol, as far as it has them."""
        kept = {hold: words for hold, words in self._by_symbol.pop(symbol, {}).items() if hold not in holds}
        if kept:
            self._by_symbol[symbol] = kept

    def keep_only(self, hold: Hold, symbols: Collection[str]) -> None:
        """Make these exactly the symbols that have a hold."""
        for symbol in sorted(self.symbols(hold) - {*symbols}):
            self.end(symbol, hold)
        for symbol in symbols:
            self.add(symbol, hold)

    def has(self, symbol: str, *holds: Hold) -> bool:
        """Whether a symbol has any of these holds."""
        held = self._by_symbol.get(symbol)
        return held is not None and not held.keys().isdisjoint(holds)

    def words(self, symbol: str, hold: Hold) -> str:
        """The words of a hold that the symbol has."""
        return self._by_symbol[symbol][hold]

    def symbols(self, hold: Hold) -> frozenset[str]:
        """The symbols that have a hold."""
        return frozenset(symbol for symbol, held in self._by_symbol.items() if hold in held)
