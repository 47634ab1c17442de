"""A small world for tests: one venue, symbols at a fixed price; the test moves price and time."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import ticks_of
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.exchange import SimulatedExchange
from tbot_core.rehearsal.faults import SeedFaults
from tbot_core.rehearsal.network import NetworkPath
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.third_parties import ThirdParties, plan_symbol_events
from tbot_core.rehearsal.venue_matching import VenueMatchingEngine
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop
from tbot_core.rehearsal.world import short_day

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from decimal import Decimal

    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Order

Value = TypeVar("Value")

LEAD_S: Final = 60.0
_MINUTES: Final = 120


class SmallWorld:
    """A venue that opened a minute ago, its symbols at 20 USD in any quantity, and a connected client.

    `rates` are the rates of the faults that are on. The session opens at second 60 of the world.
    """

    def __init__(
        self,
        character: VenueProfile | None = None,
        rates: Mapping[str, float] | None = None,
        *,
        seed: int = 0,
        symbols: tuple[str, ...] = ("A",),
    ) -> None:
        chances = RandomStreams(seed)
        _, self.session = short_day(_MINUTES)
        start = self.session.open - dt.timedelta(seconds=LEAD_S)
        self.symbol = symbols[0]
        self.loop = VirtualLoop()
        self.clock = LoopClock(self.loop, start)
        self.faults = SeedFaults(chances, (), rates=rates)
        self.market = SimulatedMarket.flat(ticks_of(20.0), symbols, _MINUTES)
        news = plan_symbol_events(self.market, self.faults, chances.stream, _MINUTES * 60.0)
        self.matching = VenueMatchingEngine(self.market, character or VenueProfile(), self.session, start, self.faults)
        self.exchange = SimulatedExchange(self.matching)
        self.way = NetworkPath(self.exchange, self.faults, chances.stream, LEAD_S + _MINUTES * 60.0)
        self.others = ThirdParties(self.exchange, self.faults, chances.stream, news)
        self.broker = SimulatedBroker(self.way, self.clock)
        self.pass_time(2 * LEAD_S)
        self.wait(self.broker.connect())

    def wait(self, asked: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine in virtual time, and return its result."""
        return self.loop.run_until_complete(asked)

    def pass_time(self, seconds: float) -> None:
        """Let virtual time pass, and advance the venue."""
        self.wait(asyncio.sleep(seconds))
        self.exchange.advance(self.loop.time())

    def trade_at(self, price: Decimal) -> None:
        """Set the price of the first symbol, and let a minute pass."""
        self.market.paths[self.symbol].move(self.matching.step + 1, ticks_of(float(price)))
        self.pass_time(60.0)

    def submit(self, order: Order) -> None:
        """Submit an order with a valid permit."""
        self.wait(self.broker.submit(order, SendPermit(order, never_refuse)))

    def poll_after(self, seconds: float = 1.0) -> list[BrokerEvent]:
        """Let time pass, and poll the stream."""
        self.pass_time(seconds)
        return list(self.wait(self.broker.receive()))

    def close(self) -> None:
        """End the loop."""
        self.loop.finish()
