"""The paper broker: an account, a simulated venue for its orders, and the bars they meet."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs

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
    """A broker whose orders meet the bars that it is shown; the same orders and bars give the same fills.

    Before its first session the account has PAPER_CASH; a session begins flat, with the cash it is given. Ids of events
    and executions count up within each session's date.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open the account; `clock` says which session is today's."""
        self._costs = FillCosts.of(config, config.target_fill)
        self._clock = clock
        self._book = Book(config.paper_cash)
        self._venue: MatchingEngine | None = None
        self._tape = Tape((), 0)
        self._reports = Reports()
        self._events: list[BrokerEvent] = []

    @property
    def rules(self) -> BrokerCapabilities:
        """Simulated; brackets rest from the entry's fill on, quantities go down to a millionth of a share."""
        return SIMULATOR_CAPABILITIES

    def feed(self, request: FeedRequest) -> Feed:
        """Stored bars for a replay, else the simulated market.

        Simulated sessions begin at `request.first`: without one a demo begins on a fixed day, and a live feed serves
        today's session, or the next one once that has closed. Where volumes of stored bars are partial, VOLUME_LIMIT
        is off. Raises DataError when there is nothing to serve.
        """
        calendar = request.calendar or ExchangeCalendar()
        if request.kind == "replay":
            from tbot_broker_paper.replay import ReplayFeed

            replay = ReplayFeed(request, calendar)
            if replay.partial_volume:
                self._costs = attrs.evolve(self._costs, share_cap=None)
            return replay
        if request.kind == "live" and request.first is None:
            now = self._clock.now()
            return SimulatedFeed(request, today_or_next(calendar, now, exchange_time(now).date()), calendar)
        first = request.first or DEMO_FIRST_DAY
        return SimulatedFeed(request, calendar.session(first) or calendar.next(first), calendar)

    def open_session(self, session: Session, symbols: tuple[str, ...], cash: Decimal) -> None:
        """A new session's bell: nothing rests any more, nothing is held, and the account has this cash."""
        self._book = Book(cash)
        self._venue = MatchingEngine(self._costs, session, symbols)
        self._tape = Tape(symbols, session.minutes)
        self._reports = Reports()

    def observe(self, minute: MinuteSlice) -> None:
        """A minute has closed: match what rests, then value what is held."""
        venue = self._open_venue()
        self._tape.append(minute)
        if not venue.idle:
            venue.match(self._tape.bars, minute.index)
            self._collect(venue)
        self._book.mark(self._tape.symbols, minute)

    def close_session(self) -> None:
        """Close what is still open at its last price; events stay to be polled."""
        venue = self._open_venue()
        venue.close(self._tape.bars)
        self._collect(venue)
        self._venue = None

    async def connect(self) -> Account:
        """The paper account; nobody is asked."""
        return self._account()

    async def account(self) -> Account:
        """Cash, equity at the last prices, and buying power of twice the equity less all that is held."""
        return self._account()

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order; the same client order id again in a session is the same order and changes nothing.

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
        """Take an order out; its event says whether it still rested. Raises Unavailable while no session is open."""
        venue = self._open_venue()
        venue.cancel(client_order_id)
        self._collect(venue)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Move a resting stop to the order's at once. Raises Unavailable while no session is open."""
        venue = self._open_venue()
        if order.stop_price is None:
            raise Rejected(f"The paper broker moves stops, so {client_order_id} would have no stop.")
        venue.replace(client_order_id, order.stop_price)
        self._collect(venue)

    async def poll(self) -> Sequence[BrokerEvent]:
        """What happened since the last call, oldest first."""
        taken, self._events = self._events, []
        return taken

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:  # noqa: ARG002  a session's orders are few
        """The account, what it holds, and every order of the session: all of one moment."""
        orders = self._reports.all()
        barrier = str(sum(len(report.fills) + 1 for report in orders))
        return AccountSnapshot(account=self._account(), holdings=self._book.holdings, orders=orders, barrier=barrier)

    async def close(self) -> None:
        """Nothing to log out of."""

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
