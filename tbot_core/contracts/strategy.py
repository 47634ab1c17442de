"""Strategies, filters and further limits: pure judgement of bars and orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import attrs

from tbot_core.model.bars import Array
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Bars, DayFacts, MarketView
    from tbot_core.model.signals import Signals, Trigger
    from tbot_core.model.types import Order
    from tbot_core.model.window import Window


@runtime_checkable
class Strategy(Protocol):
    """A pure, causal, vectorised function over bars; config and strategy may be the same frozen class."""

    @property
    def window(self) -> Window:
        """The strategy's part of a session; a scan is asked for in its entry phase only."""

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first signal of each row whose minute is at least `since`, equal to those of a scan of the whole session.

        A signal of minute t depends on bars up to and including t; rows are never mixed.
        """


@runtime_checkable
class SupportsExplain(Protocol):
    """A strategy that can also say what it compares; `tbot why` and the near-miss line ask for it."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """The conditions of the entry phase's minutes so far."""


@runtime_checkable
class SupportsScreening(Protocol):
    """A strategy with conditions of its own that are known before the bell."""

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Comparisons of the day's facts, one value a row."""


@attrs.frozen(kw_only=True, eq=False)
class Check:
    """One comparison, for every row: `low` <= `value` <= `high`; a bound of None does not bind.

    An unknown value (NaN) denies with `unknown` if `required`, else as FILTER_MISSING_DATA says. `words` is a
    plugin's own sentence for codes that quote one.
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


@runtime_checkable
class Filter(Protocol):
    """Pure judgement in two steps; what it needs from outside is fetched by `refresh` of filters that have one."""

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:
        """What is known before the bell: comparisons with one value a (..., symbols) row."""

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """What is known at the signal: comparisons with one value a signal."""


@runtime_checkable
class RequiresData(Protocol):
    """A filter that looks at a fact of the day which costs a source a look back."""

    @property
    def needs(self) -> frozenset[str]:
        """The optional fields of `Day` that it looks at: `typical_volume`."""


RiskCheck: TypeAlias = "Callable[[Order], str | None]"
"""A plugin's further limit: None lets the order pass, a sentence denies it. It can never allow what the core denies."""
