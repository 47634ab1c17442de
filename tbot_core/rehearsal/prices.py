"""Prices of the symbols of a simulated world, in steps of five seconds.

Prices are ticks of 1e-4 USD on the cent grid. A step's depth is the quantity that one order can fill in it.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import Bar
from tbot_core.model.bars import FIELDS, MinuteSlice
from tbot_core.model.types import TICKS_PER_DOLLAR, UNITS_PER_SHARE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.rehearsal.random_streams import RandomStream, RandomStreams
    from tbot_core.testing.venue import TradingVenue

STEP_S: Final = 5.0
STEPS_A_MINUTE: Final = 12
BAR_AFTER_S: Final = 0.5
"""How long after the end of a minute its bar is published."""

CASH: Final = Decimal(100_000)
CENT: Final = TICKS_PER_DOLLAR // 100
_DEEP: Final = 1_000_000
_VOLUME_A_STEP: Final = 2_000
_VOLUME: Final = 5_000_000


@attrs.define
class PricePath:
    """A symbol's steps from the open to the close: last price and half spread in ticks, depth in units.

    `halts` are the halted steps [from, to), `wide` those of the whole market with their level; `quiet` are the minutes
    without a bar. From step `coarse_from` on the price step of orders is five cents; from `delisted_from` on the symbol
    is not traded.
    """

    prices: list[int]
    depth: list[int]
    half_spread: int = CENT
    halts: list[tuple[int, int]] = attrs.field(factory=list)
    wide: list[tuple[int, int, int]] = attrs.field(factory=list)
    quiet: frozenset[int] = frozenset()
    coarse_from: int | None = None
    delisted_from: int | None = None

    def grid(self, step: int) -> int:
        """The price step of orders, in ticks."""
        return CENT if self.coarse_from is None or step < self.coarse_from else 5 * CENT

    def listed(self, step: int) -> bool:
        """Whether the symbol is traded."""
        return self.delisted_from is None or step < self.delisted_from

    def halted(self, step: int) -> bool:
        """Whether the symbol is halted in this step."""
        return any(start <= step < stop for start, stop, *_ in (*self.halts, *self.wide))

    def ask(self, step: int) -> int:
        """The ask price, in ticks."""
        return self.prices[step] + self.half_spread

    def bid(self, step: int) -> int:
        """The bid price, in ticks."""
        return self.prices[step] - self.half_spread

    def move(self, step: int, price: int) -> None:
        """Set the price, in ticks, from the step to the close."""
        self.prices[step:] = [price] * (len(self.prices) - step)

    def split(self, step: int) -> None:
        """Split two for one from the step on."""
        lowest = 2 * self.half_spread
        self.prices[step:] = [max(ticks // 2 // CENT * CENT, lowest) for ticks in self.prices[step:]]


class SimulatedMarket:
    """The price paths of all symbols, sorted by symbol.

    `wide` are the halts of the whole market: steps [from, to) and level.
    """

    def __init__(self, paths: dict[str, PricePath]) -> None:
        self.paths = dict(sorted(paths.items()))
        self.wide: list[tuple[int, int, int]] = []
        for path in self.paths.values():
            path.wide = self.wide
        self.symbols = tuple(self.paths)

    @classmethod
    def drawn(cls, chances: RandomStreams, symbols: tuple[str, ...], minutes: int) -> SimulatedMarket:
        """Random walks of a seed, with jumps, spikes, missing minutes and steps of low depth."""
        return cls({symbol: _path(chances.stream(f"path/{symbol}"), minutes) for symbol in symbols})

    @classmethod
    def flat(cls, price: int, symbols: tuple[str, ...], minutes: int) -> SimulatedMarket:
        """All symbols at one price, in ticks, with unlimited depth; for tests."""
        steps = minutes * STEPS_A_MINUTE
        depth = _DEEP * UNITS_PER_SHARE
        return cls({symbol: PricePath(prices=[price] * steps, depth=[depth] * steps) for symbol in symbols})

    def list_at(self, venue: TradingVenue) -> None:
        """Let the symbols be traded at a venue, from their first prices on."""
        for symbol, path in self.paths.items():
            venue.list_symbol(symbol, Decimal(path.prices[0]) / TICKS_PER_DOLLAR, _VOLUME, CASH)

    async def trade_at(self, venue: TradingVenue, session: Session, clock: Clock) -> None:
        """Trade at a venue to the close: every five seconds, and each minute as a bar of the venue."""
        for minute in range(session.minutes):
            for step in range(minute * STEPS_A_MINUTE, (minute + 1) * STEPS_A_MINUTE):
                await clock.sleep_until(session.open + dt.timedelta(seconds=step * STEP_S))
                for symbol, path in self.paths.items():
                    venue.trade(symbol, Decimal(path.prices[step]) / TICKS_PER_DOLLAR)
            await clock.sleep_until(session.moment(minute + 1) + dt.timedelta(seconds=BAR_AFTER_S))
            await venue.publish(list(bars_of(session, self.minute(minute), self.symbols)))

    def fall(self, start: int, stop: int, share: float) -> None:
        """Lower all prices by a fraction in the steps [start, stop), on the cent grid."""
        for path in self.paths.values():
            lower = [max(round(ticks * (1 - share) / CENT), 100) * CENT for ticks in path.prices[start:stop]]
            path.prices[start:stop] = lower

    def minute(self, index: int) -> MinuteSlice:
        """The bars of a minute; NaN for symbols that are halted throughout, or quiet."""
        start, stop = index * STEPS_A_MINUTE, (index + 1) * STEPS_A_MINUTE
        rows = np.full((5, len(self.symbols)), np.nan)
        for row, path in enumerate(self.paths.values()):
            traded = [path.prices[step] for step in range(start, stop) if path.listed(step) and not path.halted(step)]
            if traded and index not in path.quiet:
                volume = _VOLUME_A_STEP * len(traded)
                ticks = (traded[0], max(traded), min(traded), traded[-1])
                rows[:, row] = (*(tick / TICKS_PER_DOLLAR for tick in ticks), volume)
        bar = dict(zip(FIELDS, rows, strict=True))
        return MinuteSlice(index=index, **bar, vwap=np.full(len(self.symbols), np.nan))


def bars_of(session: Session, minute: MinuteSlice, symbols: tuple[str, ...]) -> Iterator[Bar]:
    """The bars of a minute, for the symbols that have one."""
    start = session.moment(minute.index)
    for row, symbol in enumerate(symbols):
        values = {name: float(getattr(minute, name)[row]) for name in FIELDS}
        if not np.isnan(values["close"]):
            yield Bar(symbol=symbol, start=start, **values)


def _path(stream: RandomStream, minutes: int) -> PricePath:
    arrays, steps = stream.arrays, minutes * STEPS_A_MINUTE
    moves = arrays.normal(0.0, stream.one((0.0002, 0.0006, 0.0015)), steps)
    if stream.happens(0.5):
        moves[stream.whole(1, steps - 1)] += stream.one((-0.04, -0.015, 0.015, 0.04))
    log_prices = np.cumsum(moves)
    if stream.happens(0.3):
        at = stream.whole(1, steps - 1)
        log_prices[at : at + 2] += stream.one((-0.06, 0.06))
    cents = np.maximum(np.rint(stream.between(8.0, 300.0) * 100 * np.exp(log_prices)), 100)
    thin = stream.one((0.0, 0.3, 0.8))
    found = np.where(arrays.random(steps) < thin, arrays.integers(1, 40, steps), _DEEP)
    quiet = arrays.random(minutes) < stream.one((0.0, 0.0, 0.05))
    return PricePath(
        prices=[int(price) * CENT for price in cents],
        depth=[int(shares) * UNITS_PER_SHARE for shares in found],
        half_spread=CENT * stream.one((1, 1, 3)),
        quiet=frozenset(np.flatnonzero(quiet).tolist()),
    )
