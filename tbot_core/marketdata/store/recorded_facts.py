"""Dated facts about symbols beside their bars: what filters fetched from vendors, and what was imported."""

from __future__ import annotations

import datetime as dt
import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np

from tbot_core.model.bars import Array
from tbot_core.model.day_facts import Dates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tbot_core.model.day_facts import DayFacts

MARKET_CAP: Final = "market_cap"
"""The name of the fact that limits of market capitalisation use, in USD."""

IMPORTED: Final = (MARKET_CAP, "pe_ratio", "debt_to_equity", "eps")
"""The facts that imported fundamentals have."""

_ENDLESS: Final = dt.date.max

Key: TypeAlias = tuple[str, str]
"""The name of a fact, and a symbol."""


@attrs.frozen(kw_only=True)
class RecordedFact:
    """A number that was known of a symbol in the sessions from `first` to `last`, both included; None for no end.

    `value` is NaN where the source was asked and had none.
    """

    name: str
    symbol: str
    first: dt.date
    last: dt.date | None
    value: float

    def holds_on(self, day: dt.date) -> bool:
        """Whether the session of this day may use it."""
        return self.first <= day <= (self.last or _ENDLESS)


def with_recorded(day: DayFacts, recorded: RecordedFacts, date: dt.date, symbols: Sequence[str]) -> DayFacts:
    """The facts of one session with what is recorded of its symbols; a capitalisation that `day` knows stays."""
    found = {name: values[0] for name, values in recorded.at([date], symbols).items()}
    caps = found.pop(MARKET_CAP, day.market_cap)
    market_cap = np.where(np.isnan(day.market_cap), caps, day.market_cap)
    return attrs.evolve(day.dated(date), market_cap=market_cap, recorded=found)


@attrs.frozen(eq=False)
class _History:
    # The facts of one name and symbol, oldest first.
    firsts: Dates
    lasts: Dates
    values: Array

    def at(self, days: Dates) -> Array:
        """The latest fact known on each day; NaN before the first one, and after the end of the latest."""
        places = np.searchsorted(self.firsts, days, side="right") - 1
        found = np.maximum(places, 0)
        known = (places >= 0) & (days <= self.lasts[found])
        return np.where(known, self.values[found], np.nan)

    def ages(self, days: Dates) -> Array:
        """How many days before each day the fact then known became known; NaN where it is unknown."""
        known = ~np.isnan(self.at(days))
        found = np.maximum(np.searchsorted(self.firsts, days, side="right") - 1, 0)
        return np.where(known, (days - self.firsts[found]).astype(float), np.nan)


class RecordedFacts:
    """Facts by name and symbol. On each day the latest one that was known then counts, until its end."""

    def __init__(self, facts: Iterable[RecordedFact] = ()) -> None:
        """`facts` in any order; of two with the same name, symbol and first day the later one counts."""
        self._facts: defaultdict[Key, dict[dt.date, RecordedFact]] = defaultdict(dict)
        self._histories: dict[Key, _History] = {}
        self.add(facts)

    def add(self, facts: Iterable[RecordedFact]) -> None:
        """Add facts."""
        for one in facts:
            key = one.name, one.symbol
            self._facts[key][one.first] = one
            self._histories.pop(key, None)

    def at(self, days: Sequence[dt.date], symbols: Sequence[str]) -> Mapping[str, Array]:
        """The facts known on each day, by name; shape (days, symbols), NaN = unknown. Every known name is there."""
        dates = np.array(days, dtype="datetime64[D]")
        found = {name: np.full((len(days), len(symbols)), np.nan) for name in sorted({name for name, _ in self._facts})}
        for name, values in found.items():
            for column, symbol in enumerate(symbols):
                if (history := self._history((name, symbol))) is not None:
                    values[:, column] = history.at(dates)
        return found

    def ages(self, name: str, days: Sequence[dt.date], symbols: Sequence[str]) -> Array:
        """How many days before each day a fact became known; shape (days, symbols), NaN = unknown."""
        dates, found = np.array(days, dtype="datetime64[D]"), np.full((len(days), len(symbols)), np.nan)
        for column, symbol in enumerate(symbols):
            if (history := self._history((name, symbol))) is not None:
                found[:, column] = history.ages(dates)
        return found

    def latest(self, name: str, symbol: str, day: dt.date) -> RecordedFact | None:
        """The fact that counts on a day; None if there is none."""
        known = [one for first, one in self._facts.get((name, symbol), {}).items() if first <= day]
        found = max(known, key=lambda one: one.first, default=None)
        return found if found is not None and found.holds_on(day) else None

    def first_days(self, name: str, symbols: Iterable[str], until: dt.date) -> dict[str, dt.date]:
        """The first day on which a fact was known of each of these symbols; those not known by `until` are left out."""
        known = ((symbol, self._facts.get((name, symbol), {})) for symbol in symbols)
        days = {
            symbol: [fact.first for fact in facts.values() if fact.first <= until and not math.isnan(fact.value)]
            for symbol, facts in known
        }
        return {symbol: min(firsts) for symbol, firsts in days.items() if firsts}

    def _history(self, key: Key) -> _History | None:
        if key not in self._facts:
            return None
        if key not in self._histories:
            facts = [one for _, one in sorted(self._facts[key].items())]
            ends: list[Any] = [fact.last or _ENDLESS for fact in facts]
            self._histories[key] = _History(
                firsts=np.array([fact.first for fact in facts], dtype="datetime64[D]"),
                lasts=np.array(ends, dtype="datetime64[D]"),
                values=np.array([fact.value for fact in facts]),
            )
        return self._histories[key]
