"""The facts of a session that are known before its open, and the view of the market that filters get."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

from tbot_core.model.bars import FIELDS, Array, Bars, Flags, Index, Quotes

if TYPE_CHECKING:
    import datetime as dt

Dates: TypeAlias = "npt.NDArray[np.datetime64]"

_RECORDED: Final = "recorded/"

_DAILY: Final = "daily/"

_WITHOUT_SYMBOLS: Final = frozenset({"vix", "date"})


@attrs.frozen(kw_only=True, eq=False)
class DayFacts:
    """Facts known before the open; arrays broadcast over the leading axes, NaN = unknown.

    Dollars and shares; `vix` in points, the previous session's close, shape (..., 1); `restricted` is true (1) where
    yesterday's low restricts short sales today, else false (0); a source with unknown values uses floats and NaN.
    `typical_volume` (..., symbols, minutes) is the mean of the cumulative volume over previous sessions, None unless
    requested. `daily` has the bars of the sessions before, None unless a strategy declares `daily_bars`. `adjusted` is
    true where the session's prices are adjusted for what came later, so that what the symbol traded at is unknown; None
    where all are raw. `fund` is 1 for a fund, 0 for a stock, NaN where it is not known; None if no source says. `date`
    is the session's exchange date, datetime64[D] of shape (..., 1), NaT = unknown.

    `recorded` holds the facts that filters fetched before the session's open, or that were imported, by name: numbers
    of shape (..., symbols). `fact` reads one of them.
    """

    previous_close: Array
    average_volume: Array
    market_cap: Array
    atr: Array
    vix: Array
    restricted: Array | Flags
    typical_volume: Array | None = None
    daily: DailyBars | None = None
    adjusted: Flags | None = None
    fund: Array | None = None
    date: Dates = attrs.field()
    recorded: Mapping[str, Array] = attrs.field(factory=dict)

    @date.default
    def _unknown_date(self) -> Dates:
        return np.full(self.vix.shape, np.datetime64("NaT", "D"))

    @classmethod
    def unknown(cls, symbols: int) -> DayFacts:
        """The facts of so many symbols of which nothing is known."""
        nothing = np.full(symbols, np.nan)
        return cls(
            previous_close=nothing,
            average_volume=nothing,
            market_cap=nothing,
            atr=nothing,
            vix=np.full(1, np.nan),
            restricted=nothing,
        )

    def fact(self, name: str) -> Array:
        """A recorded fact of each symbol, NaN where it is unknown."""
        found = self.recorded.get(name)
        return np.full(self.previous_close.shape, np.nan) if found is None else found

    def with_daily_bars(self, days: int) -> DayFacts:
        """The facts with the bars of exactly so many sessions before the day; those that are not here are unknown."""
        if (0 if self.daily is None else self.daily.days) == days:
            return self
        known = self.daily or DailyBars.unknown((*self.previous_close.shape, 0))
        return attrs.evolve(self, daily=known.latest(days) if days else None)

    def dated(self, day: dt.date) -> DayFacts:
        """The facts as those of the session of this date."""
        return attrs.evolve(self, date=np.full(self.vix.shape, np.datetime64(day, "D")))

    def session(self, index: int) -> DayFacts:
        """The facts of one session of a block: leading axes (symbols)."""
        return self._each(lambda _name, values: values[index])

    def sessions(self, rows: Sequence[int]) -> DayFacts:
        """The facts of some sessions of a block: leading axes (sessions, symbols)."""
        chosen = list(rows)
        return self._each(lambda _name, values: values[chosen])

    def symbols(self, rows: Index | Sequence[int]) -> DayFacts:
        """The facts of some symbols, in this order."""
        chosen = list(rows)

        def pick(name: str, values: Any) -> Any:
            if name == "typical_volume" or name.startswith(_DAILY):
                return values[..., chosen, :]
            return values if name in _WITHOUT_SYMBOLS else values[..., chosen]

        return self._each(pick)

    def arrays(self) -> dict[str, Any]:
        """Every array that is there, by name; a recorded fact as `recorded/NAME`, one of daily bars as `daily/NAME`."""
        facts: dict[str, Any] = attrs.asdict(self, recurse=False)
        del facts["recorded"], facts["daily"]
        facts = {name: values for name, values in facts.items() if values is not None}
        if self.daily is not None:
            facts |= {f"{_DAILY}{name}": getattr(self.daily, name) for name in FIELDS}
        return facts | {f"{_RECORDED}{name}": values for name, values in self.recorded.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> DayFacts:
        """The facts with these arrays, named as `arrays` names them."""
        facts = {name: values for name, values in arrays.items() if not name.startswith((_RECORDED, _DAILY))}
        daily = _beginning_with(_DAILY, arrays)
        return cls(**facts, recorded=_beginning_with(_RECORDED, arrays), daily=DailyBars(**daily) if daily else None)

    def _each(self, function: Callable[[str, Any], Any]) -> DayFacts:
        return DayFacts.from_arrays({name: function(name, values) for name, values in self.arrays().items()})


@attrs.frozen(kw_only=True, eq=False)
class MarketView:
    """The input of a filter: bars, daily facts and, if the source has them, quotes."""

    bars: Bars
    day: DayFacts
    quotes: Quotes | None = None


@attrs.frozen(kw_only=True, eq=False)
class DailyBars:
    """Bars of consecutive exchange sessions before a day, the last of the session before it.

    Arrays of shape (..., symbols, days), oldest first, in dollars and shares. They are adjusted for the splits that
    took effect up to the morning of the day, and not for dividends. NaN: no bar is known, or none of the day's kind.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array

    @property
    def days(self) -> int:
        """The number of sessions."""
        return int(self.close.shape[-1])

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> DailyBars:
        """Bars of which nothing is known."""
        return cls(**{name: np.full(shape, np.nan) for name in FIELDS})

    def latest(self, days: int) -> DailyBars:
        """The bars of the last so many sessions; those before the first one of these are unknown."""
        held = self.each(lambda values: values[..., max(0, self.days - days) :])
        if held.days == days:
            return held
        before = np.full((*self.close.shape[:-1], days - held.days), np.nan)
        return held.each(lambda values: np.concatenate((before, values), axis=-1))

    def each(self, function: Callable[[Array], Array]) -> DailyBars:
        """Bars with a function applied to each field."""
        return DailyBars(**{name: function(getattr(self, name)) for name in FIELDS})


def _beginning_with(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
