"""The feeds of the simulation: bars of the simulated market by the minute, or live over a connection, with feed faults.

Live bars come late, repeated, revised or not at all, with quotes and halts.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import (
    Bar,
    DailyBar,
    FeedCoverage,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    HaltStatus,
    Heartbeat,
    Quote,
)
from tbot_core.errors import Unavailable
from tbot_core.model.bars import FIELDS, MinuteSlice
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.types import TICKS_PER_DOLLAR
from tbot_core.rehearsal.faults import SeedFaults
from tbot_core.rehearsal.prices import STEP_S, SimulatedMarket, bars_of
from tbot_core.rehearsal.random_streams import RandomStream

if TYPE_CHECKING:
    from tbot_core.model.clock import Clock

_MINUTE_S: Final = 60.0

_SPIKE: Final = 10.0

_OFF: Final = 1.03

_PRICES: Final = ("open", "high", "low", "close")

_LATE: Final = 0.03

_TWICE: Final = 0.03

_REVISED: Final = 0.03

_MISSING: Final = 0.01

_HEARTBEAT_S: Final = 5.0

Script = list[tuple[float, FeedMessage]]


@attrs.frozen
class _MinuteDelivery:
    # The delivery of a minute: the second `due`, the minute's `index`, and its faults. The prices of `symbol` are
    # multiplied by `factor`; `empty`: without any bar.
    due: float
    index: int
    symbol: str = ""
    factor: float = 1.0
    empty: bool = False


@attrs.frozen(kw_only=True)
class LiveFeedScenario:
    """The inputs of a simulated live feed; `opens` is the second of the session's open."""

    session: Session
    market: SimulatedMarket
    opens: float
    timetable: DeliverySchedule
    faults: SeedFaults
    chance: Callable[[str], RandomStream]


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
        self.plan = [_MinuteDelivery(end + lag.between(0.2, 1.5), index) for index, end in enumerate(ends)]
        self._span = (opens, opens + session.minutes * _MINUTE_S)
        self.struck: dict[str, list[tuple[float, float]]] = {}
        self._faults = faults
        self._chance = chance

    def inject_faults(self, symbols: tuple[str, ...]) -> list[_MinuteDelivery]:
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
        self, session: Session, market: SimulatedMarket, plan: list[_MinuteDelivery], day: DayFacts, clock: Clock
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

    def _as_shown(self, item: _MinuteDelivery) -> MinuteSlice:
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


class SimulatedLiveFeed:
    """A live feed of one session; every bot gets the same script over its own connection."""

    quality = FeedQuality(coverage=FeedCoverage.CONSOLIDATED, minute_history=False, quotes=True, halts=True)

    def __init__(self, scenario: LiveFeedScenario, script: Script, day: DayFacts, clock: Clock) -> None:
        self.session = scenario.session
        self.symbols = scenario.market.symbols
        self._day = day
        self._scenario = scenario
        self._script = script
        self._clock = clock

    @property
    def label(self) -> FeedLabel:
        """Simulated, with quotes."""
        return FeedLabel(name="simulation", simulated=True, quotes=True)

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The current halts, then the messages from now on; ends only by a lost connection (Unavailable)."""
        since = self._clock.monotonic()
        self._check_available(since, "F53")
        for status in self._halted(since):
            if _concerns(status, symbols):
                yield status
        next_heartbeat = since
        for due, item in self._script:
            if due < since:
                continue
            while next_heartbeat < due:
                await self._until(next_heartbeat)
                yield Heartbeat()
                next_heartbeat += _HEARTBEAT_S
            await self._until(due)
            if _concerns(item, symbols) and not (isinstance(item, Bar | Quote) and self._struck("F52", due)):
                yield item
        while True:
            await self._until(next_heartbeat)
            yield Heartbeat()
            next_heartbeat += _HEARTBEAT_S

    async def daily(self, symbols: Sequence[str], first: dt.date, last: dt.date) -> Sequence[DailyBar]:
        """Bars around the previous close of the random facts of the day, each with the mean volume."""
        days = [session.date for session in ExchangeCalendar().sessions(first, last)]
        found = []
        for symbol, close, volume in zip(self.symbols, self._day.previous_close, self._day.average_volume, strict=True):
            prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
            found += [DailyBar(symbol=symbol, date=day, volume=volume, **prices) for day in days if symbol in symbols]
        return found

    async def history(self, symbols: Sequence[str], first: dt.datetime, last: dt.datetime) -> Sequence[Bar]:
        """The true bars; raises Unavailable while the feed is frozen or disconnected."""
        await asyncio.sleep(0.2)
        for fault in ("F52", "F53"):
            self._check_available(self._clock.monotonic(), fault)
        session = self.session
        minutes = range(max(session.minute(first), 0), min(session.minute(last), session.minutes))
        bars = (bar for index in minutes for bar in bars_of(session, self._scenario.market.minute(index), self.symbols))
        return [bar for bar in bars if bar.symbol in symbols]

    async def _until(self, due: float) -> None:
        await asyncio.sleep(max(due - self._clock.monotonic(), 0.0))
        self._check_available(self._clock.monotonic(), "F53")

    def _check_available(self, now: float, fault: str) -> None:
        if self._struck(fault, now):
            raise Unavailable("The feed is not to be had.", "Connect again.")

    def _struck(self, fault: str, now: float) -> bool:
        return any(begins <= now < ends for begins, ends in self._scenario.timetable.struck.get(fault, ()))

    def _halted(self, now: float) -> list[HaltStatus]:
        # The current halts.
        step = int((now - self._scenario.opens) // STEP_S)
        return [
            _status(symbol, level) for symbol, start, stop, level in _all_halts(self._scenario) if start <= step < stop
        ]


def script_of(scenario: LiveFeedScenario) -> Script:
    """All messages of a session with their seconds, in order."""
    lines = [*_bars(scenario), *_quotes(scenario), *_halts(scenario)]
    return sorted(lines, key=lambda line: line[0])


def _bars(scenario: LiveFeedScenario) -> Iterator[tuple[float, FeedMessage]]:
    stream = scenario.chance("live")
    for item in scenario.timetable.plan:
        for bar in bars_of(scenario.session, scenario.market.minute(item.index), scenario.market.symbols):
            due = item.due + stream.between(0.0, 0.3)
            late, twice, revised, missing = (stream.happens(often) for often in (_LATE, _TWICE, _REVISED, _MISSING))
            if item.empty or missing:
                continue
            due += stream.between(3.0, 40.0) if late else 0.0
            shown = _as_shown(bar, item)
            yield due, shown
            if twice:
                yield due + 0.5, shown
            if revised:
                yield due + 1.0, attrs.evolve(shown, volume=shown.volume + 100)


def _concerns(item: FeedMessage, symbols: Sequence[str]) -> bool:
    return isinstance(item, Heartbeat) or not item.symbol or item.symbol in symbols


def _as_shown(bar: Bar, item: _MinuteDelivery) -> Bar:
    if item.symbol != bar.symbol:
        return bar
    prices = {name: round(getattr(bar, name) * item.factor, 4) for name in FIELDS[:4]}
    return attrs.evolve(bar, **prices)


def _quotes(scenario: LiveFeedScenario) -> Iterator[tuple[float, FeedMessage]]:
    for symbol, path in scenario.market.paths.items():
        for step in range(len(path.prices)):
            if path.halted(step) or not path.listed(step):
                continue
            due = scenario.opens + step * STEP_S + 0.1
            bid, ask = path.bid(step) / TICKS_PER_DOLLAR, path.ask(step) / TICKS_PER_DOLLAR
            if scenario.faults.strikes("F56", due):
                bid, ask = (0.0, ask) if step % 2 else (ask, bid)
            moment = scenario.session.open + dt.timedelta(seconds=step * STEP_S)
            yield due, Quote(symbol=symbol, bid=bid, ask=ask, time=moment)


def _halts(scenario: LiveFeedScenario) -> Iterator[tuple[float, FeedMessage]]:
    for symbol, start, stop, level in _all_halts(scenario):
        yield scenario.opens + start * STEP_S, _status(symbol, level)
        yield scenario.opens + stop * STEP_S, _status(symbol, level, halted=False)


def _all_halts(scenario: LiveFeedScenario) -> Iterator[tuple[str, int, int, int]]:
    # All halts: the symbol, "" for the whole market, the steps [from, to), and the level.
    for symbol, path in scenario.market.paths.items():
        yield from ((symbol, start, stop, 0) for start, stop in path.halts)
    yield from (("", *halt) for halt in scenario.market.wide)


def _status(symbol: str, level: int, *, halted: bool = True) -> HaltStatus:
    return HaltStatus(symbol=symbol, halted=halted, level=level)
