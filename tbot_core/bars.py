"""One-minute bars as arrays, the facts of a day, and the tape on which a session grows.

In memory the minutes are the outermost axis, so that a live minute is one contiguous write and a
reduction over a window reads whole rows. Authors see views whose last axis is the minutes and whose
leading axes are (symbol) live or (session, symbol) in a backtest: they write ``[..., a:b]`` and never
notice the difference. NaN = no bar in that minute. Prices lie on the grid of 1e-4 USD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

Array: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.intp]

FIELDS = ("open", "high", "low", "close", "volume")
BAD_PRINT = 0.03


@attrs.frozen(kw_only=True, eq=False)
class Minute:
    """One closed minute of a session for every symbol; arrays have shape (symbols), NaN = no bar.

    `vwap` is the feed's own average price of the bar; NaN where the feed has none.
    """

    index: int
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    vwap: Array


class Bars:
    """Read-only bars of one session, or of many sessions of one length.

    `fields` maps open, high, low, close, volume and vwap to arrays of shape (minutes, ..., symbols); vwap
    is the feed's average price of each bar, NaN where it has none. `memo` is shared by the prefixes of one session.
    """

    def __init__(
        self, fields: Mapping[str, Array], symbols: tuple[str, ...], memo: dict[Hashable, Any] | None = None
    ) -> None:
        self._fields = fields
        self._memo: dict[Hashable, Any] = {} if memo is None else memo
        self.symbols = symbols
        self.minutes = len(fields["close"])

    @property
    def open(self) -> Array:
        """Opening prices, dollars, (..., symbols, minutes)."""
        return self._view("open")

    @property
    def high(self) -> Array:
        """Highest prices, dollars."""
        return self._view("high")

    @property
    def low(self) -> Array:
        """Lowest prices, dollars."""
        return self._view("low")

    @property
    def close(self) -> Array:
        """Closing prices, dollars."""
        return self._view("close")

    @property
    def volume(self) -> Array:
        """Shares traded."""
        return self._view("volume")

    @property
    def high_so_far(self) -> Array:
        """Highest price from the bell to the end of each minute."""
        return self._running("high_so_far")

    @property
    def low_so_far(self) -> Array:
        """Lowest price from the bell to the end of each minute."""
        return self._running("low_so_far")

    @property
    def vwap(self) -> Array:
        """Volume-weighted mean price from the bell to the end of each minute; NaN while nothing has traded."""
        return self._running("vwap_so_far")

    @property
    def first_open(self) -> Array:
        """The open of each row's first bar so far; NaN before it. Shape (..., symbols)."""
        opens = self._fields["open"]
        if not self.minutes:
            return np.full(opens.shape[1:], np.nan)
        first: Array = np.take_along_axis(opens, np.argmax(~np.isnan(opens), axis=0)[None], axis=0)[0]
        return first

    @property
    def bad_print(self) -> Flags:
        """Rows whose bar of minute 0 opens more than 3 % from its VWAP, else its typical price."""
        if not self.minutes:
            return np.zeros(self._fields["open"].shape[1:], dtype=np.bool_)
        away: Flags = np.abs(self._fields["open"][0] / _bar_price(self._fields, slice(0, 1))[0] - 1) > BAD_PRINT
        return away

    def highest(self, start: int, stop: int) -> Array:
        """The highest price of minutes [start, stop) per row; NaN where no bar exists yet. Remembered once closed."""
        return self.once(("highest", start, stop), stop, lambda: _reduce(np.fmax, self._fields["high"][start:stop]))

    def lowest(self, start: int, stop: int) -> Array:
        """The lowest price of minutes [start, stop) per row; NaN where no bar exists yet. Remembered once closed."""
        return self.once(("lowest", start, stop), stop, lambda: _reduce(np.fmin, self._fields["low"][start:stop]))

    def once(self, key: Hashable, stop: int, make: Callable[[], Array]) -> Array:
        """The feature `make()` of minutes before `stop`, computed once when all of them have closed.

        `key` must name the feature and everything it depends on.
        """
        if stop > self.minutes:
            return make()
        if key not in self._memo:
            self._memo[key] = make()
        found: Array = self._memo[key]
        return found

    def session(self, index: int) -> Bars:
        """The bars of one session of a block: leading axes (symbols)."""
        return Bars({name: field[:, index] for name, field in self._fields.items()}, self.symbols)

    def until(self, minutes: int) -> Bars:
        """The first `minutes` minutes, as they would have been seen then; nothing remembered is shared."""
        return Bars({name: field[:minutes] for name, field in self._fields.items()}, self.symbols)

    def field(self, name: str) -> Array:
        """A field in its memory layout (minutes, ..., symbols)."""
        return self._fields[name]

    def _view(self, name: str) -> Array:
        view = np.moveaxis(self._fields[name], 0, -1)
        view.flags.writeable = False
        return view

    def _running(self, name: str) -> Array:
        if name not in self._fields:
            self._fields = {**self._fields, **_running_columns(self._fields)}
        return self._view(name)


class Tape:
    """The session's bars as they come in, minute by minute; `bars` shows what has closed.

    Running columns are carried from minute to minute and are bit-equal to those of the whole session.
    """

    def __init__(self, symbols: tuple[str, ...], minutes: int) -> None:
        self.symbols = symbols
        self.closed = 0
        names = (*FIELDS, "vwap", "high_so_far", "low_so_far", "vwap_so_far")
        self._fields = {name: np.full((minutes, len(symbols)), np.nan) for name in names}
        self._sums = np.zeros((2, len(symbols)))
        self._memo: dict[Hashable, Any] = {}

    @property
    def bars(self) -> Bars:
        """The closed minutes."""
        return Bars({name: field[: self.closed] for name, field in self._fields.items()}, self.symbols, self._memo)

    def append(self, minute: Minute) -> None:
        """Add the next minute; raises ValueError when one is skipped or repeated."""
        if minute.index != self.closed:
            raise ValueError(f"minute {minute.index} came where minute {self.closed} was due")
        now = self.closed
        for name in (*FIELDS, "vwap"):
            self._fields[name][now] = getattr(minute, name)
        for name, source, keep in (("high_so_far", "high", np.fmax), ("low_so_far", "low", np.fmin)):
            column = self._fields[name]
            column[now] = self._fields[source][now] if now == 0 else keep(column[now - 1], self._fields[source][now])
        self._sums += _traded(self._fields, slice(now, now + 1))[:, 0]
        self._fields["vwap_so_far"][now] = _ratio(self._sums[0], self._sums[1])
        self.closed = now + 1


@attrs.frozen(kw_only=True, eq=False)
class Day:
    """What is known before the bell; arrays broadcast over the leading axes, NaN = unknown.

    Dollars and shares; `vix` in points, the previous session's close, shape (..., 1); `restricted` is
    true where yesterday's low restricts short sales today. `typical_volume` (..., symbols, minutes) is the mean
    of volume so far over previous sessions, None unless it was asked for.
    """

    previous_close: Array
    average_volume: Array
    market_cap: Array
    atr: Array
    vix: Array
    restricted: Flags
    typical_volume: Array | None = None

    def session(self, index: int) -> Day:
        """The facts of one session of a block."""
        facts = {name: value[index] for name, value in attrs.asdict(self, recurse=False).items() if value is not None}
        return Day(**facts)


@attrs.frozen(kw_only=True, eq=False)
class Quotes:
    """The latest two-sided quote of each symbol: dollars and seconds of age, NaN = none. Shape (symbols)."""

    bid: Array
    ask: Array
    age_s: Array


@attrs.frozen(kw_only=True, eq=False)
class Market:
    """What a filter may look at: bars, the facts of the day and, where the source has them, quotes."""

    bars: Bars
    day: Day
    quotes: Quotes | None = None


def _reduce(keep: np.ufunc, rows: Array) -> Array:
    reduced: Array = keep.reduce(rows, axis=0, initial=np.nan)
    return reduced


def _bar_price(fields: Mapping[str, Array], at: slice) -> Array:
    typical = (fields["high"][at] + fields["low"][at] + fields["close"][at]) / 3
    own = fields["vwap"][at]
    return np.where(np.isnan(own), typical, own)


def _traded(fields: Mapping[str, Array], at: slice) -> Array:
    """Dollars and shares of each bar, 0 where there is none; shape (2, minutes, ..., symbols)."""
    shares = fields["volume"][at]
    both = np.stack((_bar_price(fields, at) * shares, shares))
    return np.where(np.isnan(both), 0.0, both)


def _ratio(dollars: Array, shares: Array) -> Array:
    ratio: Array = np.divide(dollars, shares, out=np.full(dollars.shape, np.nan), where=shares > 0)
    return ratio


def _running_columns(fields: Mapping[str, Array]) -> dict[str, Array]:
    # `accumulate` adds left to right in every layout, so the columns equal those that a tape carries.
    dollars, shares = np.add.accumulate(_traded(fields, slice(None)), axis=1)
    return {
        "high_so_far": np.fmax.accumulate(fields["high"], axis=0),
        "low_so_far": np.fmin.accumulate(fields["low"], axis=0),
        "vwap_so_far": _ratio(dollars, shares),
    }
