"""The paper broker: an account, a simulated venue, and a feed."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from tbot_broker_paper.book import Book
from tbot_broker_paper.book_file import AccountState, BookFile
from tbot_broker_paper.reports import Reports
from tbot_broker_paper.simulator import LiveSimulatedFeed, SimulatedFeed
from tbot_core.contracts import AccountSnapshot
from tbot_core.errors import Rejected, Unavailable
from tbot_core.model.bars import Tape
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES, MatchingEngine
from tbot_core.trading.risk.account import simulated_account

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from pathlib import Path

    from tbot_broker_paper.config import Config
    from tbot_core.contracts import BrokerCapabilities, BrokerEvent, Feed, FeedRequest, Permit
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order
    from tbot_core.trading.matching import RestingOrder

ACCOUNT_ID: Final = "PAPER"
DEMO_FIRST_DAY: Final = dt.date(2026, 3, 2)


class PaperBroker:
    """A broker that matches orders against the bars it observes; the same orders and bars give the same fills.

    Without a file its account has PAPER_CASH, and each session starts flat, with the given cash. With `keep_books` the
    account is in a file, which each call updates in one transaction, and a session goes on after a restart. Ids of
    events and executions count up within each session's date.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        """Open the account; `clock` determines today's session."""
        self._config = config
        self._costs = FillCosts.of(config, config.target_fill)
        self._clock = clock
        self._book = Book(config.paper_cash)
        self._venue: MatchingEngine | None = None
        self._session: Session | None = None
        self._tape = Tape((), 0)
        self._observed = -1
        self._reports = Reports()
        self._events: list[BrokerEvent] = []
        self._file: BookFile | None = None
        self._unwritten: tuple[list[Order], list[BrokerEvent]] = ([], [])

    @property
    def capabilities(self) -> BrokerCapabilities:
        """Capabilities of a simulator; brackets rest from the entry's fill on, quantities have six decimals."""
        return SIMULATOR_CAPABILITIES

    def feed(self, request: FeedRequest) -> Feed:
        """Stored bars for a replay, else the simulated market.

        A demo starts at `request.first`, else on a fixed day; a live feed serves today's session, after its close the
        next one. Raises DataError when there are no bars.
        """
        calendar = request.calendar or ExchangeCalendar()
        if request.kind == "replay":
            from tbot_broker_paper.replay import ReplayFeed

            return ReplayFeed(request, calendar)
        if request.kind == "live":
            return LiveSimulatedFeed(request, calendar, self._clock)
        first = request.first or DEMO_FIRST_DAY
        return SimulatedFeed(request, calendar.session(first) or calendar.next(first), calendar)

    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        """Keep the account in this file from now on; a new one begins with `cash`, None for PAPER_CASH.

        Raises BrokerError for a file that cannot be used.
        """
        self._file = BookFile(path)
        found = self._file.account()
        if found is None:
            self._book = Book(self._config.paper_cash if cash is None else cash)
            self._write()
            return
        self._book = Book(found.cash, found.positions)
        self._session, self._observed = found.session, found.observed
        for time, order in self._file.orders():
            self._reports.accept(order, time)
        for time, event in self._file.events():
            self._reports.apply(event, time)
            self._events.append(event)  # those that the core knows change nothing
        if found.session is not None and found.is_open:
            symbols = tuple(sorted({*found.positions, *(one.order.symbol for one in found.resting)}))
            self._resume(found.session, symbols, found.resting, found.count, frozenset())

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        """Start a session: no orders, no positions; VOLUME_LIMIT is off for `partial_volume`.

        Books in a file keep their own cash, and a session that they hold goes on; an older one is closed before.
        """
        old = self._venue
        if old is not None and self._file is not None and self._session is not None:
            if self._session.date == session.date:
                self._resume(session, symbols, old.resting, old.count, partial_volume)
                return
            self.close_session()
        self._book = Book(cash if self._file is None else self._book.cash)
        self._venue = MatchingEngine(self._costs.without_volume_limit(partial_volume), session, symbols)
        self._session, self._observed = session, -1
        self._tape = Tape(symbols, session.minutes)
        self._reports = Reports()
        self._write(new_session=True)

    def observe(self, minute: MinuteSlice) -> None:
        """Process a closed minute: match resting orders, then value the positions; a repeated one fills nothing."""
        venue = self._open_venue()
        self._tape.append(minute)
        if minute.index <= self._observed:
            return
        self._observed = minute.index
        idle = venue.idle and not self._book.positions
        if not venue.idle:
            venue.match(self._tape.bars, minute.index)
            self._collect(venue)
        self._book.mark(self._tape.symbols, minute)
        if not idle:
            self._write()

    def close_session(self) -> None:
        """Fill open exits and stops at the last price, and expire all other orders; events can still be polled."""
        venue = self._venue
        if venue is None and self._file is not None:  # it was closed before a restart
            return
        venue = self._open_venue()
        venue.close(self._book.last_ticks)
        self._collect(venue)
        self._venue = None
        self._write()

    async def account(self) -> Account:
        """Cash, equity at the last prices, and buying power of twice the equity minus gross positions."""
        return self._account()

    connect = account
    """There is no log-in."""

    async def submit(self, order: Order, permit: Permit) -> None:
        """Accept an order; a repeated client order id in a session changes nothing.

        Raises Unavailable while no session is open.
        """
        venue = self._open_venue()
        permit.redeem()
        if order.client_order_id in self._reports:
            return
        self._reports.accept(order, self._clock.now())
        self._unwritten[0].append(order)
        venue.accept(order, self._observed)
        self._collect(venue)
        self._write()

    async def cancel(self, client_order_id: str) -> None:
        """Cancel an order; its event tells whether it was still resting.

        Raises Unavailable while no session is open.
        """
        venue = self._open_venue()
        venue.cancel(client_order_id)
        self._collect(venue)
        self._write()

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Move a resting stop to the order's stop price at once. Raises Unavailable while no session is open."""
        venue = self._open_venue()
        if order.stop_price is None:
            raise Rejected(f"The paper broker moves stops, so {client_order_id} would have no stop.")
        venue.replace(client_order_id, order.stop_price)
        self._collect(venue)
        self._write()

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
        """Close the file of the books, if there is one."""
        if self._file is not None:
            self._file.close()

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
            self._unwritten[1].append(event)

    def _resume(
        self,
        session: Session,
        symbols: tuple[str, ...],
        resting: Sequence[RestingOrder],
        count: int,
        partial_volume: frozenset[str],
    ) -> None:
        # Continue a session; its minutes are observed anew, since its bars are not in the file.
        self._venue = MatchingEngine(self._costs.without_volume_limit(partial_volume), session, symbols)
        self._venue.restore(resting, self._reports.ids, count)
        self._session, self._tape = session, Tape(symbols, session.minutes)

    def _write(self, *, new_session: bool = False) -> None:
        # Write the result of a call; what an earlier call could not write is written with it.
        orders, events = self._unwritten
        if self._file is not None:
            venue = self._venue
            account = AccountState(
                cash=self._book.cash,
                positions=self._book.positions,
                session=self._session,
                is_open=venue is not None,
                observed=self._observed,
                count=0 if venue is None else venue.count,
                resting=() if venue is None else venue.resting,
            )
            self._file.write(account, self._clock.now(), orders, events, new_session=new_session)
        self._unwritten = ([], [])
