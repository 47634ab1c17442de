"""Strategies, filters and risk checks: pure functions of bars and orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import attrs

from tbot_core.model.bars import Array, Flags
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.signals import Signals, Trigger
    from tbot_core.model.types import Order
    from tbot_core.model.window import Window


@runtime_checkable
class Strategy(Protocol):
    """A pure, causal, vectorised function over bars; config and strategy may be the same frozen class."""

    @property
    def window(self) -> Window:
        """The strategy's window in a session; scans are requested only in its entry phase."""

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first signal of each row at or after minute `since`, equal to that of a scan of the whole session.

        A signal of minute t depends on bars up to and including t; rows are never mixed.
        """


@runtime_checkable
class SupportsExplain(Protocol):
    """A strategy that can also explain its comparisons, for `tbot why` and the near-miss line."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """The conditions of the entry phase, for the minutes that have closed."""


@runtime_checkable
class SupportsScreening(Protocol):
    """A strategy with conditions that are known before the open."""

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Comparisons of the day's facts, one value per row."""


@runtime_checkable
class RequiresDailyBars(Protocol):
    """A strategy that reads the bars of the days before the session."""

    @property
    def daily_bars(self) -> int:
        """How many exchange sessions before the day `DayFacts.daily` has for it: exactly so many, 0 to 400."""


@attrs.frozen(kw_only=True, eq=False)
class Check:
    """One comparison, for every row: `low` <= `value` <= `high`; None means no bound.

    An unknown value (NaN) denies with `unknown` if `required`, else as FILTER_MISSING_DATA says. `words` is the
    plugin's own sentence for codes that quote one. `likely`: what a signal will probably meet, by the facts before the
    open; it denies nothing, and symbols that fail it are left out before others where there are too many. `funds` flags
    the rows that are funds if the comparison does not apply to funds; they pass whatever the value.
    """

    name: str
    value: Array
    low: Array | float | None = None
    high: Array | float | None = None
    below: Reason
    above: Reason
    unknown: Reason
    required: bool = False
    words: str = ""
    likely: bool = False
    funds: Flags | None = None


@runtime_checkable
class Filter(Protocol):
    """A pure check in two steps. What it needs from a vendor it fetches by `refresh` (`SupportsRefresh`)."""

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:
        """Checks before the open: comparisons with one value per (..., symbols) row.

        `day.date` is the date of the session, `day.fact(NAME)` what was known of each symbol before it.
        """

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """Checks at the signal: comparisons with one value per signal."""


@runtime_checkable
class SupportsRefresh(Protocol):
    """A filter that compares facts which it fetches from a vendor.

    The core asks before the bell, for the symbols that nothing else denies, the ones with the largest dollar volume
    first. It journals and stores what was fetched: `screen` and `judge` read it as `day.fact(NAME)`, live and in every
    replay and backtest of that date. They fetch nothing themselves.
    """

    @property
    def facts(self) -> Mapping[str, int]:
        """The names of the facts, each with the number of days for which it holds after it was fetched.

        `market_cap`, in USD, is also what the limits of market capitalisation use.
        """

    async def refresh(self, day: date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """The facts of these symbols, at most 10, before the session of `day`: by symbol, numbers by name.

        A fact that the vendor does not have is left out, and a symbol that it does not know has none: they are unknown,
        and are asked for again when they would have expired. Raises Unavailable to be asked again in this morning,
        LoginNeeded or Rejected where asking again has no purpose.
        """


@runtime_checkable
class RequiresData(Protocol):
    """A filter that requires an optional fact of the day, which a source has to compute from history."""

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields of `DayFacts` that it requires: `typical_volume`."""


RiskCheck: TypeAlias = "Callable[[Order], str | None]"
"""A risk check of a plugin: None passes the order, a sentence denies it. It can never allow what the core denies."""
