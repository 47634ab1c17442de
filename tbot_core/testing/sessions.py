"""Sessions for tests: drafts written bar by bar, and random markets in which most strategies find signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, cast

import attrs
import numpy as np

from tbot_core.model.bars import FIELDS, Array, Bars
from tbot_core.model.day_facts import DailyBars, DayFacts
from tbot_core.model.types import MOST_DAILY_BARS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


_FIRST_DAY: Final = "2019-12-02"
_UNKNOWN_SHARE: Final = 0.2
_UNKNOWN_DAYS: Final = 0.002
_MAGNITUDES: Final = (-2.0, 11.0)
"""The powers of ten of recorded facts: from ratios, over days, to amounts in USD."""

NAMES = ("open", "high", "low", "close", "volume", "vwap")


class DraftPrices(TypedDict, total=False):
    """The optional prices of a drafted bar besides its close; the default follows from open and close."""

    open: float
    high: float
    low: float
    volume: float
    vwap: float


class DraftFacts(TypedDict, total=False):
    """The optional facts of a drafted day, one value for all symbols, or one each; the default is unknown.

    `daily`: the fields of the days before, oldest first; `close` is needed, the other prices equal it, and the default
    volume is a million.
    """

    previous_close: float | list[float]
    average_volume: float | list[float]
    market_cap: float | list[float]
    atr: float | list[float]
    vix: float
    restricted: float | list[bool] | list[float]
    date: str
    daily: Mapping[str, list[float] | list[list[float]]]
    recorded: Mapping[str, float | list[float]]


class SessionDraft:
    """A session for a test: flat bars at `price` with 1,000 shares each, until changed.

    The methods return the draft, so that a table row is one expression.
    """

    def __init__(self, *symbols: str, minutes: int = 390, price: float = 100.0) -> None:
        self.symbols = symbols or ("AAA",)
        shape = (minutes, len(self.symbols))
        self._fields = {name: np.full(shape, price, dtype=np.float64) for name in NAMES}
        self._fields["volume"][:] = 1000.0
        self._fields["vwap"][:] = np.nan

    def bar(self, minute: int, close: float, symbol: str | None = None, **prices: Unpack[DraftPrices]) -> SessionDraft:
        """Write one bar; `symbol` is the first one by default."""
        row = 0 if symbol is None else self.symbols.index(symbol)
        opened = prices.get("open", close)
        whole = {"open": opened, "high": max(opened, close), "low": min(opened, close), "close": close}
        for name, value in (whole | cast("dict[str, float]", prices)).items():
            self._fields[name][minute, row] = value
        return self

    def gap(self, start: int, stop: int, symbol: str | None = None) -> SessionDraft:
        """Remove the bars of minutes [start, stop)."""
        row = 0 if symbol is None else self.symbols.index(symbol)
        for field in self._fields.values():
            field[start:stop, row] = np.nan
        return self

    def bars(self) -> Bars:
        """A copy of the session; later changes of the draft have no effect on it."""
        return Bars({name: field.copy() for name, field in self._fields.items()}, self.symbols)

    def day(self, **facts: Unpack[DraftFacts]) -> DayFacts:
        """The facts of the day for the draft's symbols."""
        return day(len(self.symbols), **facts)


def day(symbols: int, **facts: Unpack[DraftFacts]) -> DayFacts:
    """The facts of one day for this many symbols; the default is unknown."""
    row: dict[str, Any] = {
        name: np.broadcast_to(np.asarray(facts.get(name, np.nan), dtype=np.float64), (symbols,)).copy()
        for name in ("previous_close", "average_volume", "market_cap", "atr")
    }
    return DayFacts(
        **row,
        vix=np.array([facts.get("vix", np.nan)]),
        restricted=np.broadcast_to(np.asarray(facts.get("restricted", False)), (symbols,)).copy(),
        date=np.array([facts.get("date", "NaT")], dtype="datetime64[D]"),
        recorded={
            name: np.broadcast_to(np.asarray(value, dtype=np.float64), (symbols,)).copy()
            for name, value in facts.get("recorded", {}).items()
        },
        daily=_daily(symbols, facts["daily"]) if "daily" in facts else None,
    )


def _daily(symbols: int, fields: Mapping[str, list[float] | list[list[float]]]) -> DailyBars:
    close = np.asarray(fields["close"], dtype=np.float64)
    values = {"volume": np.full(close.shape, 1e6), **{name: np.asarray(value) for name, value in fields.items()}}
    whole = {name: np.asarray(values.get(name, close), dtype=np.float64) for name in FIELDS}
    return DailyBars(
        **{name: np.broadcast_to(value, (symbols, close.shape[-1])).copy() for name, value in whole.items()}
    )


def market(*, seed: int = 0, sessions: int = 4, symbols: int = 12, minutes: int = 390) -> tuple[Bars, DayFacts]:
    """A block of random sessions and its facts: large moves, volumes, missing minutes, bad first prints.

    Leading axes are (sessions, symbols). The first symbol has no bars, the second starts late, the third ends early.
    The same arguments give the same market.
    """
    random = np.random.default_rng(seed)
    shape = (minutes, sessions, symbols)
    pace = random.choice([0.0005, 0.002, 0.006], size=shape[1:])
    drift = random.normal(0.0, 0.0004, size=shape[1:])
    close = 80 * np.exp(np.cumsum(random.normal(drift, pace, size=shape), axis=0))
    opened = np.concatenate((close[:1] * random.choice([1.0, 1.0, 1.0, 1.06], size=(1, *shape[1:])), close[:-1]))
    wide = np.abs(random.normal(0.0, pace, size=shape)) * close
    fields = {
        "open": opened,
        "high": np.maximum(opened, close) + wide,
        "low": np.minimum(opened, close) - wide / 2,
        "close": close,
        "volume": np.rint(random.lognormal(7.0, 1.0, size=shape)),
        "vwap": np.where(random.random(shape) < 0.5, (opened + close) / 2, np.nan),
    }
    missing = random.random(shape) < random.choice([0.0, 0.02, 0.3], size=shape[1:])
    for row, (start, stop) in enumerate(((0, minutes), (0, minutes // 4), (minutes // 2, minutes))[:symbols]):
        missing[start:stop, :, row] = True
    for name, field in fields.items():
        field[missing] = np.nan
        fields[name] = np.round(field, 4)
    return Bars(fields, tuple(f"S{row:03}" for row in range(symbols))), _facts(random, fields, shape)


def with_recorded(day: DayFacts, names: Collection[str], *, seed: int = 7) -> DayFacts:
    """The facts of a block with dates, and with random recorded facts of these names, some unknown."""
    random, shape = np.random.default_rng(seed), day.previous_close.shape
    recorded = {
        name: np.where(random.random(shape) < _UNKNOWN_SHARE, np.nan, 10 ** random.uniform(*_MAGNITUDES, shape))
        for name in sorted(names)
    }
    date = np.busday_offset(_FIRST_DAY, np.arange(day.vix.size), roll="forward").reshape(day.vix.shape)
    return attrs.evolve(day, date=date, recorded={**recorded, **day.recorded})


def _facts(random: np.random.Generator, fields: Mapping[str, Array], shape: tuple[int, ...]) -> DayFacts:
    rows = shape[1:]
    unknown = random.random(rows) < 0.2

    def fact(values: Array) -> Array:
        return np.where(unknown, np.nan, values)

    volume = np.where(np.isnan(fields["volume"]), 0.0, fields["volume"])
    cumulative = np.moveaxis(np.cumsum(volume, axis=0), 0, -1)
    return DayFacts(
        previous_close=fact(np.round(random.normal(80.0, 2.0, size=rows), 4)),
        average_volume=fact(np.rint(random.lognormal(13.0, 1.0, size=rows))),
        market_cap=fact(np.rint(random.lognormal(22.0, 1.5, size=rows))),
        atr=fact(np.round(random.uniform(0.5, 3.0, size=rows), 4)),
        vix=np.round(random.uniform(10.0, 40.0, size=(rows[0], 1)), 2),
        restricted=random.random(rows) < 0.1,
        typical_volume=cumulative * random.uniform(0.2, 2.0, size=(*rows, 1)),
        daily=_random_days(np.random.default_rng(shape[1]), rows),
    )


def _random_days(random: np.random.Generator, rows: tuple[int, ...]) -> DailyBars:
    # Random walks to about 80 dollars, with days of which nothing is known.
    steps = random.normal(0.0, 0.02, size=(*rows, MOST_DAILY_BARS))
    close = 80 * np.exp(np.cumsum(steps[..., ::-1], axis=-1)[..., ::-1])
    opened = close * np.exp(random.normal(0.0, 0.01, size=close.shape))
    wide = np.exp(np.abs(random.normal(0.0, 0.01, size=close.shape)))
    fields = {
        "open": opened,
        "high": np.maximum(opened, close) * wide,
        "low": np.minimum(opened, close) / wide,
        "close": close,
        "volume": np.rint(random.lognormal(13.0, 1.0, size=close.shape)),
    }
    unknown = random.random(close.shape) < _UNKNOWN_DAYS
    return DailyBars(**{name: np.where(unknown, np.nan, np.round(field, 4)) for name, field in fields.items()})
