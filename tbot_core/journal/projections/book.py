"""State projected from the journal's events: orders, positions, trades, denials and equity.

A pure fold: the same events give the same book, live, after a crash, and for readers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.accounts import Adjustment, PositionDisputed, SplitBooked, SymbolFrozen
from tbot_core.journal.events.orders import OrderIntended, OrderReported, ReplaceRequested, SignalDecided
from tbot_core.journal.events.risk import PositionStuck, ProtectionChanged
from tbot_core.journal.events.sessions import RunStarted, Screened, SessionClosed, SessionOpened
from tbot_core.journal.projection import fold
from tbot_core.journal.store import NewEvent
from tbot_core.model.reasons import Reason, most_frequent
from tbot_core.model.types import Leg, OrderState, SignalId, Trade, atoms_of, dollars_of, ticks_of
from tbot_core.trading.account_book import AccountBook
from tbot_core.trading.orders import (
    BROKER_EVENT_KINDS,
    ExecutionUpdate,
    OrderEvent,
    OrderRecord,
)
from tbot_core.trading.portfolio import Portfolio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Fill
    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.portfolio import Position


_NOTED: Final = frozenset(
    {
        records.RISK,
        records.WINDOW_CLOSED,
        records.STUCK,
        records.FROZEN,
        records.DISPUTED,
        records.PROTECTION,
    }
)
_RESTS: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})
ORDER_EVENT_KINDS: Final[Mapping[str, OrderEvent]] = {
    records.SENDING: OrderEvent.SEND,
    records.NO_ANSWER: OrderEvent.NO_ANSWER,
    records.DROPPED: OrderEvent.DROP,
    records.ORDER_NOT_FOUND: OrderEvent.NOT_FOUND,
    records.LOST: OrderEvent.GIVE_UP,
}
"""tbot's own events as order events."""


@attrs.define(kw_only=True)
class SessionBook:
    """The state of a run; `apply` adds one event.

    `frozen`: frozen symbols and the reason; `disputed`: symbols in which readings contradict it, and their event;
    `unprotected_s`: seconds bare and emulated of the session's closed positions. `stops`: the last level requested for
    each signal's stop in this session, whether it rests or not. `brokers`: those of all sessions, the first session's
    primary first. `without_candidates`: by strategy the reasons that denied most before the bell in closed sessions
    where every symbol was denied.
    """

    run: Mapping[str, Any] = attrs.field(factory=dict)
    session: Mapping[str, Any] = attrs.field(factory=dict)
    sessions: int = 0
    symbols: int = 0
    in_session: bool = False
    finished: bool = False
    time: datetime | None = None
    equity_start: Decimal = Decimal(0)
    account: AccountBook = attrs.field(factory=lambda: AccountBook(Portfolio(opening_atoms=0)))
    stops: dict[SignalId, Decimal] = attrs.field(factory=dict)
    trades: list[Trade] = attrs.field(factory=list)
    denials: Counter[str] = attrs.field(factory=Counter)
    allowed: int = 0
    risk: list[Mapping[str, Any]] = attrs.field(factory=list)
    windows: list[Mapping[str, Any]] = attrs.field(factory=list)
    equity_curve: list[tuple[str, Decimal]] = attrs.field(factory=list)
    frozen: dict[str, str] = attrs.field(factory=dict)
    disputed: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    unprotected_s: Counter[str] = attrs.field(factory=Counter)
    brokers: dict[str, None] = attrs.field(factory=dict)
    without_candidates: dict[str, Counter[str]] = attrs.field(factory=dict)
    _denied_all: dict[str, str] = attrs.field(factory=dict)
    _broker_of: dict[SignalId, str] = attrs.field(factory=dict)
    _stuck: dict[SignalId, Mapping[str, Any]] = attrs.field(factory=dict)
    _before: int = 0
    _outside: dict[str, SignalId] = attrs.field(factory=dict)

    @property
    def portfolio(self) -> Portfolio:
        """The positions and cash of the current session, or the last one."""
        return self.account.portfolio

    @property
    def orders(self) -> dict[str, OrderRecord]:
        """The orders of that session and what the broker reported of them, by client order id."""
        return self.account.records()

    def order(self, client_order_id: str | None) -> OrderRecord | None:
        """One of these orders; None for any other id."""
        ticket = self.account.tickets.get(client_order_id or "")
        return None if ticket is None else ticket.record

    @property
    def equity(self) -> Decimal:
        """Cash plus positions at their last marks, or last fills where there is no mark since."""
        return dollars_of(self.portfolio.equity_atoms)

    @property
    def stuck(self) -> list[Mapping[str, Any]]:
        """The positions that could not be closed by the end of a session and are still held, as their events."""
        return [payload for signal, payload in self._stuck.items() if signal in self.portfolio.positions]

    def resting(self, symbol: str, signal: SignalId | None = None) -> Decimal | None:
        """The level of the stop that rests at the broker for a symbol, or for one of its lots; None without one."""
        return next((ticket.stop_level.price for ticket in self._resting_stops(symbol, signal)), None)

    def price(self, client_order_id: str) -> Decimal | None:
        """The present level of a stop, else the limit of the order; None for an order at the market."""
        ticket = self.account.tickets[client_order_id]
        level = ticket.stop_level.price
        return ticket.order.limit_price if level is None else level

    def covered(self, symbol: str, signal: SignalId | None = None) -> Decimal:
        """Shares that the resting stops of a symbol, or of one of its lots, would still close."""
        return sum((ticket.record.open_quantity for ticket in self._resting_stops(symbol, signal)), Decimal(0))

    def is_stop_cancelling(self, symbol: str, signal: SignalId | None = None) -> bool:
        """Whether the cancel of each of these resting stops was requested, and the broker has not confirmed it."""
        stops = self._resting_stops(symbol, signal)
        return bool(stops) and all(ticket.is_cancelling for ticket in stops)

    def _resting_stops(self, symbol: str, signal: SignalId | None) -> list[Ticket]:
        # Those of a symbol, or of one signal; those that are not being cancelled first.
        stops = [
            ticket
            for ticket in self.account.tickets.values()
            if ticket.order.symbol == symbol
            and signal in {None, ticket.order.signal}
            and ticket.order.leg is Leg.STOP
            and ticket.state in _RESTS
        ]
        return sorted(stops, key=lambda ticket: ticket.is_cancelling)

    def broker(self, signal: SignalId) -> str:
        """The name of the broker that holds the orders and position of a signal."""
        return self._broker_of.get(signal) or str(self.session.get("primary", ""))

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event; informational kinds change only the time."""
        self.time = event.applied
        match event.kind:
            case records.RUN_STARTED:
                self.run = event.payload
                self.equity_start = event.facts(RunStarted).equity
                self.account.portfolio = Portfolio(opening_atoms=atoms_of(self.equity_start))
            case records.SESSION_OPENED:
                self._open(event)
            case records.SESSION_CLOSED:
                self._close(event.facts(SessionClosed))
            case records.RUN_FINISHED:
                self.finished = True
            case records.SCREENED | records.DECISION:
                self._count(event)
            case kind if kind in _NOTED:
                self._note(event)
            case records.ADJUSTMENT:
                self._adjust(event.facts(Adjustment).fill)
            case records.CORPORATE_ACTION:
                self._split(event.facts(SplitBooked))
            case _ if event.cid is not None:
                self._order(event, event.cid)

    def _note(self, event: JournalEvent) -> None:
        match event.kind:
            case records.STUCK:
                self._stuck[event.facts(PositionStuck).signal] = event.payload
            case records.RISK | records.WINDOW_CLOSED:
                (self.risk if event.kind == records.RISK else self.windows).append(event.payload)
            case records.FROZEN:
                frozen = event.facts(SymbolFrozen)
                self.frozen.pop(frozen.symbol, None)
                self.frozen |= {frozen.symbol: frozen.words} if frozen.there else {}
            case records.DISPUTED:
                disputed = event.facts(PositionDisputed)
                self.disputed.pop(disputed.symbol, None)
                self.disputed |= {disputed.symbol: event.payload} if disputed.there else {}
            case _:
                protection = event.facts(ProtectionChanged)
                if protection.state == records.CLOSED:
                    seconds = {"bare": float(protection.bare_s), "emulated": float(protection.emulated_s)}
                    self.unprotected_s.update(seconds)

    def _count(self, event: JournalEvent) -> None:
        if event.kind == records.SCREENED:
            screened = event.facts(Screened)
            self.denials.update(Counter(screened.reasons))
            if screened.reasons and screened.states("candidates") and screened.candidates == 0:
                self._denied_all[screened.strategy] = most_frequent(screened.reasons)
        elif (reason := event.facts(SignalDecided).reason) == Reason.ALLOWED.name:
            self.allowed += 1
        else:
            self.denials[reason] += 1

    def _open(self, event: JournalEvent) -> None:
        opened = event.facts(SessionOpened)
        self.session, self.in_session = event.payload, True
        self.symbols = max(self.symbols, opened.symbols)
        self.stops, self._broker_of, self._outside, self.unprotected_s = {}, {}, {}, Counter()
        self.brokers |= dict.fromkeys(records.brokers_of(event.payload))
        self.risk, self.windows, self._denied_all = [], [], {}
        self._before = len(self.trades)
        self.account = AccountBook(Portfolio(opening_atoms=atoms_of(opened.equity)))
        for position in opened.carried:
            self._broker_of[position.signal] = position.broker
            self.account.carry(position.fill, position.signal, position.instrument)

    def _close(self, closed: SessionClosed) -> None:
        for reason, count in closed.without_bars.items():
            self.denials[reason] -= count
            if self.denials[reason] <= 0:
                del self.denials[reason]
        for strategy, reason in self._denied_all.items():
            self.without_candidates.setdefault(strategy, Counter())[reason] += 1
        self.in_session, self.frozen, self.disputed = False, {}, {}
        self.sessions += 1
        self.equity_curve.append((self.session["date"], closed.equity))

    def _split(self, split: SplitBooked) -> None:
        held = self.portfolio.in_symbol(split.symbol)
        # Every broker reports a split, also one that holds nothing of ours.
        if not held or any(self._broker_of.get(one.signal, "") == split.broker for one in held):
            self.portfolio.apply_split(split.symbol, Fraction(split.after, split.before))

    def _adjust(self, fill: Fill) -> None:
        if fill.execution_id in self._outside:  # some of these shares are there again
            self.portfolio.correct_fill(fill, self._outside[fill.execution_id])
            self.trades[self._before :] = [self._trade(one) for one in self.portfolio.closed]
            return
        position = self.account.close_outside(fill)
        self._outside[fill.execution_id] = position.signal
        if not position.units:
            self.trades.append(self._trade(position))

    def _order(self, event: JournalEvent, cid: str) -> None:
        # An event of an order: an intent, a request to change it, or what became of it.
        ticket = self.account.tickets.get(cid)
        if event.kind == records.INTENDED:
            self._intend(event.facts(OrderIntended), cid)
        elif ticket is None:  # not ours
            return
        elif event.kind == records.CANCEL_REQUESTED:
            ticket.is_cancelling = True
        elif event.kind == records.REPLACE_REQUESTED:
            request = event.facts(ReplaceRequested)
            self.stops[ticket.order.signal] = request.stop_price
            ticket.stop_level.request(ticks_of(float(request.stop_price)), request.reason)
        else:
            self._apply_order_event(event, ticket)

    def _intend(self, intended: OrderIntended, cid: str) -> None:
        order = intended.order(cid)
        self.account.add_ticket(order)
        self._broker_of[order.signal] = intended.broker
        if order.stop_price is not None:
            self.stops[order.signal] = order.stop_price

    def _apply_order_event(self, event: JournalEvent, ticket: Ticket) -> None:
        reported = event.facts(OrderReported) if event.kind in BROKER_EVENT_KINDS else None
        order_event = ORDER_EVENT_KINDS.get(event.kind) or BROKER_EVENT_KINDS.get(event.kind)
        if order_event is None:  # not about what became of the order
            return
        was_missed = ticket.record.is_missed_entry
        update = self.account.apply(ticket.cid, order_event, None if reported is None else reported.fill(ticket.cid))
        if ticket.record.is_missed_entry and not was_missed:
            self.denials[Reason.ENTRY_NOT_FILLED.name] += 1
        if reported is not None and update.execution is not None:
            self._book(ticket, update.execution, reported.words)

    def _book(self, ticket: Ticket, execution: ExecutionUpdate, words: str) -> None:
        if execution.is_correction:
            self.account.correct_fill(ticket, execution.fill)
            self.trades[self._before :] = [self._trade(position) for position in self.portfolio.closed]
            return
        closed = len(self.portfolio.closed)
        position = self.account.book_fill(ticket, execution.fill, words)
        over = position is not None and not position.units
        if ticket.order.leg is Leg.ENTRY and (
            over or len(self.portfolio.closed) != closed
        ):  # reported after the closing fill
            self.trades[self._before :] = [self._trade(one) for one in self.portfolio.closed]
        elif over and position is not None:
            self.trades.append(self._trade(position))

    def _trade(self, position: Position) -> Trade:
        return position.to_trade(self.broker(position.signal))


def fold_events(events: Iterable[JournalEvent]) -> SessionBook:
    """Build the book of a whole journal, or of a part that starts with a run or session."""
    return fold(events, SessionBook())


def session_book(events: Sequence[JournalEvent], broker: str = "") -> SessionBook:
    """The state of the first session in these events at one broker; "" is the primary.

    Positions carried in at other brokers are left out. Empty when no session is opened.
    """
    book = SessionBook()
    at = next((place for place, event in enumerate(events) if event.kind == records.SESSION_OPENED), None)
    if at is None:
        return book
    opened = events[at]
    carried = [one for one in opened.payload.get("carried", ()) if one.get("broker", "") == broker]
    payload = {**opened.payload, "carried": carried}
    book.apply(NewEvent(kind=opened.kind, payload=payload, time=opened.applied))
    for event in broker_events(events[at + 1 :], broker):
        if event.kind != records.RUN_STARTED:  # it would reset the portfolio
            book.apply(event)
    return book


def broker_events(events: Iterable[JournalEvent], broker: str = "") -> Iterator[JournalEvent]:
    """The events of one broker's orders and account; "" is the primary, which also owns unassigned events."""
    owners: dict[str | None, str] = {}
    for event in events:
        whose = event.broker
        if event.kind == records.INTENDED:
            owners[event.cid] = whose
        if owners.get(event.cid, whose) == broker:
            yield event
