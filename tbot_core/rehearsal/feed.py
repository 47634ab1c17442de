"""The minute feed of the simulation: bars of the simulated market, with feed faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import FeedLabel
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.types import TICKS_PER_DOLLAR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.rehearsal.faults import SeedFaults
    from tbot_core.rehearsal.prices import SimulatedMarket
    from tbot_core.rehearsal.random_streams import RandomStream

_MINUTE_S: Final = 60.0
_SPIKE: Final = 10.0
_OFF: Final = 1.03
_PRICES: Final = ("open", "high", "low", "close")


@attrs.frozen
class MinuteDelivery:
    """The delivery of a minute: the second `due`, the minute's `index`, and its faults.

    The prices of `symbol` are multiplied by `factor`; `empty`: without any bar.
    """

    due: float
    index: int
    symbol: str = ""
    factor: float = 1.0
    empty: bool = False


class DeliverySchedule:
    """The deliveries of a session's minutes; `plan` is in the order of delivery.

    `struck` has the begin and end of each injected fault.
    """

    def __init__(
        self, session: Session, opens: float, faults: SeedFaults, chance: Callable[[str], RandomStream]
    ) -> None:
        """`opens` is the second of the session's open."""
        lag = chance("lag")
        ends = (opens + (index + 1) * _MINUTE_S for index in range(session.minutes))
        self.plan = [MinuteDelivery(end + lag.between(0.2, 1.5), index) for index, end in enumerate(ends)]
        self._span = (opens, opens + session.minutes * _MINUTE_S)
        self.struck: dict[str, list[tuple[float, float]]] = {}
        self._faults = faults
        self._chance = chance

    def inject_faults(self, symbols: tuple[str, ...]) -> list[MinuteDelivery]:
        """Inject the faults: gaps first, then wrong prices of one symbol, then a wrong order."""
        for name in ("F52", "F53"):
            for ends, places in self._affected(name):
                for place in places:
                    item = self.plan[place]
                    empty = item.empty or name == "F52"
                    self.plan[place] = attrs.evolve(item, due=max(ends, item.due), empty=empty)
        for name, factor in (("F55", _SPIKE), ("F57", _OFF)):
            for _, places in self._affected(name):
                symbol = self._chance(name).one(symbols)
                for place in places:
                    self.plan[place] = attrs.evolve(self.plan[place], symbol=symbol, factor=factor)
        self.plan.sort(key=lambda item: (item.due, item.index))
        for _, places in self._affected("F54"):
            self._disorder(places[0])
        return self.plan

    def _affected(self, name: str) -> list[tuple[float, list[int]]]:
        # The end of each planned fault, and the indices of the deliveries during it; at least one minute.
        found = []
        for begins, ends in self._faults.planned(name, *self._span):
            until = max(ends, begins + _MINUTE_S)
            places = [place for place, item in enumerate(self.plan) if begins <= item.due < until]
            if places:
                self._faults.count(name)
                self.struck.setdefault(name, []).append((begins, ends))
                found.append((ends, places))
        return found

    def _disorder(self, place: int) -> None:
        # A minute is delivered after its successor, or twice.
        item = self.plan[place]
        if place + 1 < len(self.plan) and self._chance("F54").happens(0.5):
            later = self.plan[place + 1]
            self.plan[place : place + 2] = [later, attrs.evolve(item, due=later.due)]
        else:
            self.plan.insert(place, item)


class SimulatedFeed:
    """A feed of one session; a client that connects later gets all closed minutes first, without faults."""

    def __init__(
        self, session: Session, market: SimulatedMarket, plan: list[MinuteDelivery], day: DayFacts, clock: Clock
    ) -> None:
        self.session = session
        self.symbols = market.symbols
        self.day = day
        self._market = market
        self._plan = plan
        self._clock = clock

    @property
    def label(self) -> FeedLabel:
        """Simulated, without quotes."""
        return FeedLabel(name="simulation", simulated=True, quotes=False)

    async def sessions(self) -> AsyncIterator[SimulatedFeed]:
        """The one session."""
        yield self

    async def minutes(self) -> AsyncIterator[MinuteSlice]:
        """The session's minutes as they are delivered."""
        now = self._clock.monotonic()
        shown = 0
        while shown < self.session.minutes and self._ends(shown) <= now:
            yield self._market.minute(shown)
            shown += 1
        for item in self._plan:
            if item.index < shown:
                continue
            await asyncio.sleep(max(item.due - self._clock.monotonic(), 0.0))
            yield self._as_shown(item)

    def _ends(self, index: int) -> float:
        return min(item.due for item in self._plan if item.index == index)

    def _as_shown(self, item: MinuteDelivery) -> MinuteSlice:
        minute = self._market.minute(item.index)
        if item.empty:
            nothing = np.full(len(self.symbols), np.nan)
            return attrs.evolve(minute, open=nothing, high=nothing, low=nothing, close=nothing, volume=nothing)
        if item.factor == 1.0:
            return minute
        scale = np.where(np.array(self.symbols) == item.symbol, item.factor, 1.0)
        opened, high, low, close = (np.round(getattr(minute, name) * scale, 4) for name in _PRICES)
        return attrs.evolve(minute, open=opened, high=high, low=low, close=close)


def facts_of_the_day(market: SimulatedMarket, chance: RandomStream) -> DayFacts:
    """Random facts of the day around the first prices."""
    count = len(market.symbols)
    first = np.array([path.prices[0] / TICKS_PER_DOLLAR for path in market.paths.values()])
    moved = np.array([chance.between(-0.03, 0.03) for _ in range(count)])
    return DayFacts(
        previous_close=np.round(first * (1 + moved), 2),
        average_volume=np.full(count, 5e6),
        market_cap=np.full(count, 5e9),
        atr=np.round(first * chance.between(0.01, 0.04), 2),
        vix=np.array([chance.between(12.0, 35.0)]),
        restricted=np.array([chance.happens(0.1) for _ in range(count)]),
    )
