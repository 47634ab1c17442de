"""The simulated world of one seed: session, prices, venues, network paths, feed and faults, in virtual time.

It is everything outside the bot; the bot is the real one.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tbot_core.model.calendar import EarlyClose, ExchangeCalendar, Session
from tbot_core.model.clock import exchange_time
from tbot_core.rehearsal.broker_client import MaintenanceBroker, SimulatedBroker
from tbot_core.rehearsal.exchange import SimulatedExchange
from tbot_core.rehearsal.faults import SeedFaults
from tbot_core.rehearsal.feed import (
    DeliverySchedule,
    LiveFeedScenario,
    Script,
    SimulatedFeed,
    SimulatedLiveFeed,
    facts_of_the_day,
    script_of,
)
from tbot_core.rehearsal.network import KEY, NetworkPath
from tbot_core.rehearsal.prices import STEPS_A_MINUTE, SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStream, RandomStreams
from tbot_core.rehearsal.third_parties import ThirdParties, plan_symbol_events
from tbot_core.rehearsal.venue_matching import VenueMatchingEngine
from tbot_core.rehearsal.venue_profiles import VenueProfile, random_profile, with_lags
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.system.secret import Secret
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from tbot_core.model.day_facts import DayFacts

Value = TypeVar("Value")

DAY: Final = dt.date(2026, 3, 3)
LEAD_S: Final = 300.0
QUIET_MINUTES: Final = 12
"""Minutes before the close at which faults stop, so that open orders can be resolved."""
_AFTERMATH_S: Final = 1_200.0
_SYMBOLS: Final = ("AAPL", "AMD", "F", "KO", "MSFT", "SPY", "T", "XOM")
_NAMES: Final = ("alpha", "beta", "gamma")
_WHOLE_DAY: Final = 0.02
_FALLS: Final = 0.1
_AN_HOUR_S: Final = 3_600.0
_DRIFT: Final = 0.05
_FLAPS: Final = 3
_FLAP_S: Final = 30.0


class World:
    """The environment of a bot; `faults` None lets the seed choose them, else exactly these are on.

    Second 0 is five minutes before the open. A session lasts 25 to 60 minutes, in one seed of fifty a whole day.
    `falls`: whether all prices fall at once. These override the seed: `rates` the fault rates, `character` the venue
    profile, `venues` the number of venues, `minutes` the session's length, `live` whether the bot has a live feed
    (None: half of the seeds). A bot that has crashed gets a new `client` and a new feed; venues and network paths stay.
    """

    def __init__(  # noqa: PLR0913  what a test may override
        self,
        seed: int,
        faults: Sequence[str] | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        character: VenueProfile | None = None,
        live: bool | None = None,
        venues: int | None = None,
        minutes: int | None = None,
    ) -> None:
        self.seed = seed
        self.key = Secret(KEY)
        self.chances = RandomStreams(seed)
        draw = self.chances.stream("world")
        self.calendar, self.session = short_day(minutes or (None if draw.happens(_WHOLE_DAY) else draw.whole(25, 60)))
        self.start = self.session.open - dt.timedelta(seconds=LEAD_S)
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop, self.start)
        session_s = self.session.minutes * 60.0
        self.end = LEAD_S + session_s + _AFTERMATH_S
        self.quiet_from = LEAD_S + session_s - QUIET_MINUTES * 60.0
        self.live = self.chances.stream("live").happens(0.5) if live is None else live
        count = draw.whole(2, 5)
        self.market = SimulatedMarket.drawn(self.chances, _SYMBOLS[:count], self.session.minutes)
        self.falls = self._fall(self.chances.stream("fall"))
        self.names = _NAMES[: draw.one((1, 1, 1, 2, 3)) if venues is None else venues]
        several = len(self.names) > 1
        self.faults = SeedFaults(self.chances, faults, rates=rates, until=self.quiet_from, often=several)
        symbol_events = plan_symbol_events(self.market, self.faults, self._streams_of("news"), session_s)
        self.ways = tuple(self._path_to(name, character or self._profile(name)) for name in self.names)
        for name, way in zip(self.names, self.ways, strict=True):
            ThirdParties(way.exchange, self.faults, self._streams_of(name), symbol_events)
        asked = faults is not None and "F63" in faults
        self.announces = asked and self.chances.stream("announced").happens(0.5)
        self._notes: list[str] = []
        self.jumps: list[float] = []
        self._plan_outages()
        self._plan_clock_faults()

    @property
    def line(self) -> str:
        """The command-line options that create this world again."""
        return f"--seed {self.seed} --fault {','.join(self.faults.on) or 'none'}"

    @cached_property
    def timetable(self) -> DeliverySchedule:
        """The delivery times of the minutes, the same for every bot."""
        timetable = DeliverySchedule(self.session, LEAD_S, self.faults, self._streams_of("feed"))
        timetable.inject_faults(self.market.symbols)
        return timetable

    @cached_property
    def _live_scenario(self) -> LiveFeedScenario:
        return LiveFeedScenario(
            session=self.session,
            market=self.market,
            opens=LEAD_S,
            timetable=self.timetable,
            faults=self.faults,
            chance=self._streams_of("feed"),
        )

    @cached_property
    def _script(self) -> Script:
        return script_of(self._live_scenario)

    def way(self, name: str) -> NetworkPath:
        """The network path to a venue; its facts are `exchange.matching.books.facts`."""
        return self.ways[self.names.index(name)]

    def client(self, name: str) -> SimulatedBroker:
        """A new client of a venue."""
        client_type = MaintenanceBroker if self.announces else SimulatedBroker
        return client_type(self.way(name), self.clock)

    def feed(self) -> SimulatedFeed:
        """The session's feed of whole minutes, for one bot."""
        return SimulatedFeed(self.session, self.market, self.timetable.plan, self._day(), self.clock)

    def live_feed(self) -> SimulatedLiveFeed:
        """The session's live feed, for one bot."""
        return SimulatedLiveFeed(self._live_scenario, self._script, self._day(), self.clock)

    def session_feed(self) -> SimulatedFeed | SimulatedLiveFeed:
        """The feed of this world's bot."""
        return self.live_feed() if self.live else self.feed()

    def universe(self) -> Universe:
        """All symbols, with the facts known before the open."""
        return Universe(symbols=self.market.symbols, day=self._day())

    def _day(self) -> DayFacts:
        return facts_of_the_day(self.market, RandomStreams(self.seed).stream("day"))

    def run(self, main: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Run a bot in this world to its end; may be called once."""
        return run_virtual(main, self.loop)

    def add_trace_line(self, words: str) -> None:
        """Add a line to the trace."""
        self._notes.append(f"{self.loop.time():.6f} {words}")

    def trace(self) -> list[str]:
        """The trace: facts, requests and events of each venue, injected faults, and added lines."""
        lines = [self.line]
        for name, way in zip(self.names, self.ways, strict=True):
            lines += [f"{name} {fact.line}" for fact in way.exchange.matching.books.facts]
            lines += [f"{name} {request.line}" for request in way.requests]
            lines += [f"{name} {at:.6f} {event.kind} {event.event_id}" for at, event in way.delivered]
        lines += [f"{name} x {count}" for name, count in self.faults.injected.items()]
        return lines + self._notes

    @property
    def trace_hash(self) -> str:
        """SHA-256 of the trace."""
        return sha256("\n".join(self.trace()).encode()).hexdigest()

    def _fall(self, chance: RandomStream) -> bool:
        # Whether all prices fall in the first half of the day: for good, or so briefly that only marks show it.
        falls = chance.happens(_FALLS)
        if falls:
            start = chance.whole(1, self.session.minutes // 2) * STEPS_A_MINUTE
            back = chance.whole(1, 2 * STEPS_A_MINUTE)
            steps, share = chance.one(((self.session.minutes * STEPS_A_MINUTE, 0.15), (back, 0.02)))
            self.market.fall(start, start + steps, share)
        return falls

    def _profile(self, name: str) -> VenueProfile:
        # The profile of a venue, with readings that are behind where F122 is on.
        profile = random_profile(self.chances, name)
        if "F122" not in self.faults.on:
            return profile
        self.faults.count("F122")
        return with_lags(profile, self.chances.stream(f"{name}/lags"))

    def _path_to(self, name: str, character: VenueProfile) -> NetworkPath:
        matching = VenueMatchingEngine(self.market, character, self.session, self.start, self.faults)
        return NetworkPath(SimulatedExchange(matching), self.faults, self._streams_of(name), self.end)

    def _streams_of(self, name: str) -> Callable[[str], RandomStream]:
        return lambda purpose: self.chances.stream(f"{name}/{purpose}")

    def _plan_outages(self) -> None:
        # Outages of the first venue, or of all, that a bot with failover meets.
        primary, plan = self.ways[0], self.faults.planned
        for begins, _ in plan("F64", LEAD_S, self.quiet_from):
            primary.ambush(begins)
        for begins, ends in plan("F65", LEAD_S, self.quiet_from):
            primary.add_fault("F60", begins, ends, "F65")
        for begins, _ in plan("F66", LEAD_S, self.quiet_from - _FLAPS * 2 * _FLAP_S):
            for flap in range(_FLAPS):
                at = begins + 2 * flap * _FLAP_S
                primary.add_fault("F60", at, at + _FLAP_S, "F66")
        for begins, ends in plan("F67", LEAD_S, self.quiet_from):
            for way in self.ways:
                way.add_fault("F60", begins, ends, "F67")

    def _plan_clock_faults(self) -> None:
        for fault, jump_s in (("F68", _AN_HOUR_S), ("F69", -_AN_HOUR_S), ("F70", 0.0)):
            for begins, ends in self.faults.planned(fault, 0.0, self.quiet_from):
                self.loop.call_at(begins, self._start_clock_fault, fault, jump_s)
                self.loop.call_at(ends, self._end_clock_fault)

    def _start_clock_fault(self, fault: str, jump_s: float) -> None:
        self.faults.count(fault)
        if jump_s:
            self.jumps.append(self.loop.time())
            self.clock.jump(jump_s)
        else:
            self.clock.drift(_DRIFT)

    def _end_clock_fault(self) -> None:
        if self.clock.now() != self.clock.true():
            self.jumps.append(self.loop.time())
        self.clock.correct()


def short_day(minutes: int | None) -> tuple[ExchangeCalendar, Session]:
    """The calendar of a day that closes `minutes` after the open (None: as usual), and its session."""
    whole = ExchangeCalendar().session(DAY)
    if whole is None:
        raise ValueError(f"{DAY} has no session")
    if minutes is None:
        return ExchangeCalendar(), whole
    close = exchange_time(whole.moment(minutes)).time()
    calendar = ExchangeCalendar(overrides={DAY: EarlyClose(close=close)})
    cut = calendar.session(DAY)
    if cut is None:
        raise ValueError(f"{DAY} has no session")
    return calendar, cut
