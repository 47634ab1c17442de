"""One-minute bars as arrays, and the tape of a running session.

In memory the minutes are the outermost axis, so that a live minute is one contiguous write, and a reduction over a
window reads whole rows. Authors see views whose last axis is the minutes and whose leading axes are (symbol) live or
(session, symbol) in a backtest; ``[..., a:b]`` works for both. NaN = no bar in that minute. Prices are on the grid of
1e-4 USD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, assert_never

import attrs
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping


Array: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.intp]
Running: TypeAlias = Literal["high", "low", "vwap", "volume"]

FIELDS = ("open", "high", "low", "close", "volume")
_BAD_PRINT = 0.03
VWAP_BEYOND: Final = 0.05
"""The fraction of the price by which a bar's own vwap may be above its high or below its low: it includes trades that
set neither, such as odd lots. A vwap further away is not an average of the bar.
"""


@attrs.frozen(kw_only=True, eq=False)
class MinuteSlice:
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
    is the feed's average price of each bar, NaN where it has none. `memo` and `running` are shared by the prefixes of
    one session.
    """

    def __init__(
        self,
        fields: Mapping[str, Array],
        symbols: tuple[str, ...],
        memo: dict[Hashable, Any] | None = None,
        running: RunningColumns | None = None,
    ) -> None:
        self._fields = fields
        self._memo: dict[Hashable, Any] = {} if memo is None else memo
        self._running = RunningColumns(fields) if running is None else running
        self.symbols = symbols
        self.minutes = len(fields["close"])

    @property
    def session_key(self) -> object:
        """An object shared by all prefixes of a session as it grows, and by nothing else."""
        return self._memo

    @property
    def open(self) -> Array:
        """Opening prices, dollars, (..., symbols, minutes)."""
        return _view(self._fields["open"])

    @property
    def high(self) -> Array:
        """Highest prices, dollars."""
        return _view(self._fields["high"])

    @property
    def low(self) -> Array:
        """Lowest prices, dollars."""
        return _view(self._fields["low"])

    @property
    def close(self) -> Array:
        """Closing prices, dollars."""
        return _view(self._fields["close"])

    @property
    def volume(self) -> Array:
        """Shares traded."""
        return _view(self._fields["volume"])

    @property
    def high_so_far(self) -> Array:
        """Highest price from the open to the end of each minute."""
        return self.so_far("high", 0, self.minutes)

    @property
    def low_so_far(self) -> Array:
        """Lowest price from the open to the end of each minute."""
        return self.so_far("low", 0, self.minutes)

    @property
    def vwap(self) -> Array:
        """Volume-weighted mean price from the open to the end of each minute; NaN before the first trade."""
        return self.so_far("vwap", 0, self.minutes)

    def so_far(self, name: Running, start: int, stop: int) -> Array:
        """A running column in minutes [start, stop), up to the last closed one; (..., symbols, minutes).

        `high`, `low` and `vwap` are the columns of `high_so_far`, `low_so_far` and `vwap`, computed only as far as
        requested; `volume`: shares since the open. The values do not depend on how the session was split.
        """
        stop = min(stop, self.minutes)
        return _view(self._running.column(name, stop)[start:stop])

    @property
    def traded(self) -> Flags:
        """Rows with at least one bar. Shape (..., symbols)."""
        closes = self._fields["close"]
        found: Flags = np.zeros(closes.shape[1:], dtype=np.bool_)
        for row in closes:
            if found.all():
                break
            found |= ~np.isnan(row)
        return found

    @property
    def first_open(self) -> Array:
        """The open of each row's first bar; NaN before it. Shape (..., symbols)."""
        return self._at_first(self._first(), "open")

    @property
    def bad_print(self) -> Flags:
        """Rows whose first bar opens more than 3 % from its VWAP, else from its typical price."""
        first = self._first()
        bar = {name: self._at_first(first, name) for name in ("open", "high", "low", "close", "vwap")}
        price = _bar_price(bar)
        # On 8 decimals, so that exactly 3 % is not more than 3 %.
        away: Flags = np.round(np.abs(bar["open"] - price), 8) > np.round(price * _BAD_PRINT, 8)
        return away

    def range(self, start: int, stop: int) -> tuple[Array, Array]:
        """The highest and the lowest price of minutes [start, stop) per row, without a bad first print."""
        both = self.cached(("range", start, stop), stop, lambda: self._range(start, stop))
        return both[0], both[1]

    def highest(self, start: int, stop: int) -> Array:
        """The highest price of minutes [start, stop) per row; NaN where no bar exists yet. Cached once closed."""
        return self.cached(("highest", start, stop), stop, lambda: _reduce(np.fmax, self._fields["high"][start:stop]))

    def lowest(self, start: int, stop: int) -> Array:
        """The lowest price of minutes [start, stop) per row; NaN where no bar exists yet. Cached once closed."""
        return self.cached(("lowest", start, stop), stop, lambda: _reduce(np.fmin, self._fields["low"][start:stop]))

    def lowest_at(self, cells: tuple[Index, ...], minute: Index) -> Array:
        """The lowest price from the open to the end of a minute, for each of some rows: `low_so_far` there."""
        # Of these rows alone: the column of all rows costs more than the rest of a scan.
        known: Any = self._fields["low"][: int(minute.max(initial=-1)) + 1]
        column = np.fmin.accumulate(known[(slice(None), *cells)], axis=0)
        found: Array = column[minute, np.arange(len(minute))]
        return found

    def cached(self, key: Hashable, stop: int, make: Callable[[], Array]) -> Array:
        """The feature `make()` of minutes before `stop`, computed once when all of them have closed.

        `key` must name the feature and everything it depends on.
        """
        if stop > self.minutes:
            return make()
        if key not in self._memo:
            self._memo[key] = make()
            self._memo[key].flags.writeable = False
        found: Array = self._memo[key]
        return found

    def session(self, index: int) -> Bars:
        """The bars of one session of a block: leading axes (symbols)."""
        return Bars({name: field[:, index] for name, field in self._fields.items()}, self.symbols)

    def columns(self, places: list[int]) -> Bars:
        """The bars of some symbols, by their places in `symbols`, copied."""
        chosen = tuple(self.symbols[place] for place in places)
        return Bars({name: field[..., places] for name, field in self._fields.items()}, chosen)

    def sessions(self, rows: list[int]) -> Bars:
        """The bars of some sessions of a block, copied: leading axes (sessions, symbols)."""
        return Bars({name: field.take(rows, axis=1) for name, field in self._fields.items()}, self.symbols)

    def until(self, minutes: int) -> Bars:
        """The first `minutes` minutes, as they were visible then; caches are not shared."""
        return Bars({name: field[:minutes] for name, field in self._fields.items()}, self.symbols)

    def field(self, name: str) -> Array:
        """A field in its memory layout (minutes, ..., symbols)."""
        return self._fields[name]

    def _first(self) -> Index:
        # The minute of each row's first bar; 0 without one.
        opens = self._fields["open"]
        first = np.zeros(opens.shape[1:], dtype=np.intp)
        late = np.isnan(opens[:1])[0] if self.minutes else np.zeros(first.shape, dtype=np.bool_)
        if late.any():
            first[late] = np.argmax(~np.isnan(opens[:, late]), axis=0)
        return first

    def _at_first(self, first: Index, name: str) -> Array:
        column = self._fields[name]
        if not self.minutes:
            return np.full(column.shape[1:], np.nan)
        if not first.any():
            return np.array(column[0])
        found: Array = np.take_along_axis(column, first[None], axis=0)[0]
        return found

    def _range(self, start: int, stop: int) -> Array:
        high, low = self._fields["high"][start:stop], self._fields["low"][start:stop]
        both = np.stack((_reduce(np.fmax, high), _reduce(np.fmin, low)))
        bad = self.bad_print
        if bad.any():
            left_out = np.arange(start, start + len(high))[:, None] == self._first()[bad]
            both[0, bad] = _reduce(np.fmax, np.where(left_out, np.nan, high[:, bad]))
            both[1, bad] = _reduce(np.fmin, np.where(left_out, np.nan, low[:, bad]))
        return both


class RunningColumns:
    """The running columns of bars, each computed as far as it was requested.

    VWAP of whole sessions costs more than a scan, and most minutes of a session request none. The columns of a session
    that grows continue where they ended; their values do not depend on the steps.
    """

    def __init__(self, fields: Mapping[str, Array]) -> None:
        self._fields = fields
        self._computed: dict[Running, tuple[int, Array, Array]] = {}

    def column(self, name: Running, stop: int) -> Array:
        """A column, in memory layout, whose minutes before `stop` are computed."""
        done, column, last = self._computed.get(name) or self._begun()
        if done < stop:
            last = self._extend(name, column, slice(done, stop), last)
            self._computed[name] = stop, column, last
        return column

    def _begun(self) -> tuple[int, Array, Array]:
        # Nothing is computed; sums begin at 0.
        shape = self._fields["close"].shape
        return 0, np.empty(shape), np.zeros(shape[1:])

    def _extend(self, name: Running, column: Array, part: slice, last: Array) -> Array:
        # Compute the minutes of `part` from the sums or extremes `last` before them; returns those at its end.
        # `accumulate` adds left to right in every layout.
        fields, rows = self._fields, column[part]
        match name:
            case "high" | "low":
                keep = np.fmax if name == "high" else np.fmin
                keep.accumulate(fields[name][part], axis=0, out=rows)
                if part.start:
                    keep(rows, last, out=rows)
            case "volume":
                np.copyto(rows, _known(fields["volume"][part]))
                rows[0] += last
                np.add.accumulate(rows, axis=0, out=rows)
            case "vwap":
                shares = self.column("volume", part.stop)[part]
                dollars = _dollars(fields, part)
                dollars[0] += last
                np.add.accumulate(dollars, axis=0, out=dollars)
                np.copyto(rows, _ratio(dollars, shares))
                return np.array(dollars[-1])
            case _:
                assert_never(name)
        return np.asarray(rows[-1])


class Tape:
    """The session's bars as they arrive, minute by minute; `bars` shows the closed minutes.

    Minutes are kept as they came until bars are requested: in most of a session they are not, and rows that are written
    together cost a third. Running columns of the growing session are bit-equal to those of the whole one.
    """

    def __init__(self, symbols: tuple[str, ...], minutes: int) -> None:
        self.symbols = symbols
        self.closed = 0
        self._unwritten: list[MinuteSlice] = []
        self._begin({name: np.full((minutes, len(symbols)), np.nan) for name in (*FIELDS, "vwap")})

    def _begin(self, fields: dict[str, Array]) -> None:
        self._fields = fields
        self._running = RunningColumns(fields)
        self._memo: dict[Hashable, Any] = {}

    @property
    def bars(self) -> Bars:
        """The closed minutes."""
        self._write()
        known = {name: field[: self.closed] for name, field in self._fields.items()}
        return Bars(known, self.symbols, self._memo, self._running)

    def append(self, minute: MinuteSlice) -> None:
        """Add the next minute; raises ValueError when one is skipped or repeated."""
        if minute.index != self.closed:
            raise ValueError(f"got minute {minute.index}, expected minute {self.closed}")
        self._unwritten.append(minute)
        self.closed = minute.index + 1

    def amend(self, late: Iterable[tuple[int, int, Array]]) -> None:
        """Add missing bars: each (minute, row, open, high, low, close, volume and vwap).

        Running columns and features are recomputed; views that were returned earlier do not change.
        """
        self._write()
        fields = {name: column.copy() for name, column in self._fields.items()}
        for minute, row, values in late:
            for field, value in zip(fields.values(), values, strict=True):
                field[minute, row] = value
        self._begin(fields)

    def _write(self) -> None:
        # Write the minutes that came since the last time.
        if not self._unwritten:
            return
        first, *others = self._unwritten
        rows = slice(first.index, self.closed)
        for name, field in self._fields.items():
            if others:
                field[rows] = [getattr(minute, name) for minute in self._unwritten]
            else:
                field[first.index] = getattr(first, name)
        self._unwritten = []


@attrs.frozen(kw_only=True)
class SymbolQuote:
    """The latest quote of one symbol: dollars, and seconds of age."""

    bid: float
    ask: float
    age_s: float


@attrs.frozen(kw_only=True, eq=False)
class Quotes:
    """The latest two-sided quote of each symbol: dollars and seconds of age, NaN = none. Shape (symbols)."""

    bid: Array
    ask: Array
    age_s: Array

    def of(self, row: int) -> SymbolQuote | None:
        """The quote of a row's symbol; None where it has none."""
        found = SymbolQuote(bid=float(self.bid[row]), ask=float(self.ask[row]), age_s=float(self.age_s[row]))
        return None if np.isnan(found.age_s) else found


def _reduce(keep: np.ufunc, rows: Array) -> Array:
    reduced: Array = keep.reduce(rows, axis=0, initial=np.nan)
    return reduced


def _view(column: Array) -> Array:
    view = column.transpose(*range(1, column.ndim), 0)  # seven times faster than np.moveaxis
    view.flags.writeable = False
    return view


def _bar_price(bar: Mapping[str, Array]) -> Array:
    typical = (bar["high"] + bar["low"] + bar["close"]) / 3
    return np.where(np.isnan(bar["vwap"]), typical, bar["vwap"])


def _known(values: Array) -> Array:
    return np.where(np.isnan(values), 0.0, values)


def _dollars(fields: Mapping[str, Array], at: slice) -> Array:
    bar = {name: fields[name][at] for name in ("high", "low", "close", "vwap", "volume")}
    return _known(_bar_price(bar) * bar["volume"])


def _ratio(dollars: Array, shares: Array) -> Array:
    ratio: Array = np.divide(dollars, shares, out=np.full(dollars.shape, np.nan), where=shares > 0)
    return ratio
