"""The paper broker: an account, a simulated venue, and a feed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from tbot_broker_paper.book import Book
from tbot_broker_paper.reports import Reports
from tbot_broker_paper.simulator import SimulatedFeed, today_or_next
from tbot_core.contracts import AccountSnapshot
from tbot_core.errors import Rejected, Unavailable
from tbot_core.model.bars import Tape
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import exchange_time
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES, FillCosts, MatchingEngine
from tbot_core.trading.risk.account import simulated_account

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

    from tbot_broker_paper.config import Config
    from tbot_core.contracts import BrokerCapabilities, BrokerEvent, Feed, FeedRequest, Permit
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order

ACCOUNT_ID: Final = "PAPER"
DEMO_FIRST_DAY: Final = dt.date(2026, 3, 2)


class PaperBroker:
    """A broker that matches orders against the bars it observes; the same orders and bars give the same fills.

    Before its first session the account has PAPER_CASH; each session starts flat, with the given cash. Ids of events
    and executions count up within each session's date.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open the account; `clock` determines today's session."""
        self._costs = FillCosts.of(config, config.target_fill)
        self._clock = clock
        self._book = Book(config.paper_cash)
        self._venue: MatchingEngine | None = None
        self._tape = Tape((), 0)
        self._reports = Reports()
        self._events: list[BrokerEvent] = []

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Capabilities of a simulator; brackets rest from the entry's fill on, quantities have six decimals."""
        return SIMULATOR_CAPABILITIES

    def feed(self, request: FeedRequest) -> Feed:
        """Stored bars for a replay, else the simulated market.

        Simulated sessions start at `request.first`. Without it a demo starts on a fixed day, and a live feed serves
        today's session, or the next one after its close. Raises DataError when there are no bars.
        """
        calendar = request.calendar or ExchangeCalendar()
        if request.kind == "replay":
            from tbot_broker_paper.replay import ReplayFeed

            return ReplayFeed(request, calendar)
        if request.kind == "live" and request.first is None:
            now = self._clock.now()
            return SimulatedFeed(request, today_or_next(calendar, now, exchange_time(now).date()), calendar)
        first = request.first or DEMO_FIRST_DAY
        return SimulatedFeed(request, calendar.session(first) or calendar.next(first), calendar)

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        """Start a session: no orders, no positions, and this cash; VOLUME_LIMIT is off for `partial_volume`."""
        self._book = Book(cash)
        self._venue = MatchingEngine(self._costs.without_volume_limit(partial_volume), session, symbols)
        self._tape = Tape(symbols, session.minutes)
        self._reports = Reports()

    def observe(self, minute: MinuteSlice) -> None:
        """Process a closed minute: match resting orders, then value the positions."""
        venue = self._open_venue()
        self._tape.append(minute)
        if not venue.idle:
            venue.match(self._tape.bars, minute.index)
            self._collect(venue)
        self._book.mark(self._tape.symbols, minute)

    def close_session(self) -> None:
        """Fill open exits and stops at the last price, and expire all other orders; events can still be polled."""
        venue = self._open_venue()
        venue.close(self._tape.bars)
        self._collect(venue)
        self._venue = None

    async def connect(self) -> Account:
        """Return the paper account."""
        return self._account()

    async def account(self) -> Account:
        """Cash, equity at the last prices, and buying power of twice the equity minus gross positions."""
        return self._account()

    async def submit(self, order: Order, permit: Permit) -> None:
        """Accept an order; a repeated client order id in a session changes nothing.

        Raises Unavailable while no session is open.
        """
        venue = self._open_venue()
        permit.redeem()
        if order.client_order_id in self._reports:
            return
        self._reports.accept(order, self._clock.now())
        venue.accept(order, self._tape.closed - 1)
        self._collect(venue)

    async def cancel(self, client_order_id: str) -> None:
        """Cancel an order; its event tells whether it was still resting.

        Raises Unavailable while no session is open.
        """
        venue = self._open_venue()
        venue.cancel(client_order_id)
        self._collect(venue)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Move a resting stop to the order's stop price at once. Raises Unavailable while no session is open."""
        venue = self._open_venue()
        if order.stop_price is None:
            raise Rejected(f"The paper broker moves stops, so {client_order_id} would have no stop.")
        venue.replace(client_order_id, order.stop_price)
        self._collect(venue)

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:  # noqa: ARG002  returns all orders of the session
        """The account, its positions, and every order of the session, at one moment."""
        orders = self._reports.all()
        barrier = str(sum(len(report.fills) + 1 for report in orders))
        return AccountSnapshot(account=self._account(), holdings=self._book.holdings, orders=orders, barrier=barrier)

    async def close(self) -> None:
        """Nothing to close."""

    def _account(self) -> Account:
        return simulated_account(ACCOUNT_ID, self._book.cash, self._book.equity, self._book.gross)

    def _open_venue(self) -> MatchingEngine:
        if self._venue is None:
            raise Unavailable(
                "The paper broker has no open session.", "Orders are accepted from the opening bell to the close."
            )
        return self._venue

    def _collect(self, venue: MatchingEngine) -> None:
        for event in venue.events():
            if event.fill is not None:
                self._book.book(event.fill)
            self._reports.apply(event, self._clock.now())
            self._events.append(event)
