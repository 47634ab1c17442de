"""A strategy from a function that receives one bar at a time, as an alternative to arrays.

The function receives the state of its row and the next bar, and returns a side to enter::

    >>> import math
    >>> from tbot_core.contracts.on_bar import OnBarStrategy
    >>> from tbot_core.testing.sessions import SessionDraft
    >>> from tbot_core.model.window import Window
    >>> class Streak:
    ...     last = math.inf
    ...     rises = 0
    >>> def three_rises(streak, bar):
    ...     streak.rises = streak.rises + 1 if bar.close > streak.last else 0
    ...     streak.last = bar.close
    ...     return 1 if streak.rises >= 3 else None
    >>> strategy = OnBarStrategy(
    ...     window=Window(start=0, analysis=5, breakout=10, monitoring=30),
    ...     state=Streak,
    ...     on_bar=three_rises,
    ... )
    >>> draft = SessionDraft("AAA", "BBB").bar(6, 101).bar(7, 102).bar(8, 103)
    >>> signals = strategy.scan(draft.bars(), draft.day())
    >>> signals.cells[-1].tolist(), signals.minute.tolist(), signals.price.tolist(), signals.stop.tolist()
    ([0], [8], [103.0], [100.94])

Each row has its own state, and each scan starts with new states; the function must keep nothing elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar, cast

import attrs
import numpy as np

from tbot_core.errors import PluginError
from tbot_core.model.bars import FIELDS, Bars
from tbot_core.model.day_facts import DailyBars, DayFacts
from tbot_core.model.signals import ExitRules, Signals, price_level
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


S = TypeVar("S")

_OF_SYMBOL: Final = ("previous_close", "average_volume", "market_cap", "atr")


@attrs.frozen(kw_only=True, eq=False)
class SymbolDay:
    """The facts of one symbol that are known before the open, as numbers: see `DayFacts`; NaN = unknown.

    `daily` has arrays of shape (days), oldest first; None unless the strategy declares `daily_bars`.
    """

    previous_close: float
    average_volume: float
    market_cap: float
    atr: float
    vix: float
    daily: DailyBars | None


class MinuteBar(NamedTuple):
    """A one-minute bar of one symbol: minutes after the open, dollars, shares."""

    minute: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@attrs.frozen(kw_only=True)
class EntrySignal:
    """An answer with more than a side.

    `strength` orders the signals of a minute, strongest first; a relative distance is comparable between strategies.
    `stop` and `target` are market prices; the default stop is the adapter's `stop_loss_pct`.
    """

    side: Literal[1, -1]
    strength: float = 0.0
    stop: float = np.nan
    target: float = np.nan


OnBarResult: TypeAlias = Literal[1, -1] | EntrySignal | None


@attrs.frozen(kw_only=True)
class OnBarStrategy(Generic[S]):
    """A strategy around an author's function.

    `state` creates the initial state of a row; `day_state`, given in its place, creates it from the facts of the row's
    day, among them the last `daily_bars` days. `on_bar` receives every existing bar from minute `feed_from` on (None:
    from the window's start) until its first answer in the entry phase; earlier answers are ignored. `exits` (default:
    leave when the window ends) and `stop_loss_pct`, a fraction of the signal's price, define exits and stop. A scan
    raises PluginError for an answer that is not a side.
    """

    window: Window
    state: Callable[[], S] | None = None
    day_state: Callable[[SymbolDay], S] | None = None
    on_bar: Callable[[S, MinuteBar], OnBarResult]
    daily_bars: int = 0
    exits: ExitRules = attrs.field(
        default=attrs.Factory(lambda self: ExitRules(leave=self.window.leave), takes_self=True)
    )
    stop_loss_pct: float = 0.02
    feed_from: int | None = None
    rule: str = "on_bar"

    def __attrs_post_init__(self) -> None:
        if (self.state is None) is (self.day_state is None):
            raise PluginError(
                f"Rule {self.rule!r} has {'neither state nor day_state' if self.state is None else 'both states'}.",
                "Give state, which creates a state from nothing, or day_state, which creates it from the day's facts.",
            )

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first answer of each row in the entry phase, from minute `since` on."""
        found = list(self._answers(bars, day))
        rows = np.array([row for row, _, _ in found], dtype=np.intp)
        price = np.array([bar.close for _, bar, _ in found], dtype=np.float64)
        side = np.array([entry.side for _, _, entry in found], dtype=np.intp)
        stop = np.array([entry.stop for _, _, entry in found], dtype=np.float64)
        signals = Signals(
            cells=np.unravel_index(rows, bars.close.shape[:-1]),
            minute=np.array([bar.minute for _, bar, _ in found], dtype=np.intp),
            side=side,
            price=price,
            strength=np.array([entry.strength for _, _, entry in found], dtype=np.float64),
            stop=np.where(np.isnan(stop), price_level(price, 1 - side.astype(np.float64) * self.stop_loss_pct), stop),
            target=np.array([entry.target for _, _, entry in found], dtype=np.float64),
            rule=np.zeros(len(found), dtype=np.intp),
            rules=(self.rule,),
            exits=self.exits,
        )
        return signals.take(signals.minute >= since)

    def _answers(self, bars: Bars, day: DayFacts) -> Iterator[tuple[int, MinuteBar, EntrySignal]]:
        start = self.window.start if self.feed_from is None else self.feed_from
        stop = min(self.window.entry_end, bars.minutes)
        if stop <= self.window.entry:
            return
        columns = [np.moveaxis(bars.field(name)[start:stop], 0, -1).reshape(-1, stop - start) for name in FIELDS]
        for row, fields in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            state = self._state(day, np.unravel_index(row, bars.close.shape[:-1]))
            found = self._walk(state, map(MinuteBar._make, zip(range(start, stop), *fields, strict=True)))
            if found is not None:
                yield row, *found

    def _state(self, day: DayFacts, cell: tuple[Any, ...]) -> S:
        # The initial state of the row at `cell` of the leading axes (..., symbols).
        if self.day_state is None:
            return cast("Callable[[], S]", self.state)()
        facts = {name: float(getattr(day, name)[cell]) for name in _OF_SYMBOL}
        daily = None if day.daily is None else day.daily.each(lambda values: values[cell])
        return self.day_state(SymbolDay(**facts, vix=float(day.vix[(*cell[:-1], 0)]), daily=daily))

    def _walk(self, state: S, bars: Iterable[MinuteBar]) -> tuple[MinuteBar, EntrySignal] | None:
        on_bar, entry = self.on_bar, self.window.entry
        for bar in bars:
            if bar.close != bar.close:  # the fastest test for NaN: no bar in that minute
                continue
            answer = on_bar(state, bar)
            if answer is not None and bar.minute >= entry:
                return bar, self._entry(answer)
        return None

    def _entry(self, answer: Any) -> EntrySignal:
        found = answer if isinstance(answer, EntrySignal) else EntrySignal(side=answer)
        side: Any = found.side
        if type(side) is not int or side not in {1, -1}:
            raise PluginError(
                f"The on_bar function of rule {self.rule!r} returned {answer!r}.",
                "Return 1 for long, -1 for short, an EntrySignal with such a side, or None.",
            )
        return found
