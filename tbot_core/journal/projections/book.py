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
from tbot_core.journal.projection import fold
from tbot_core.journal.store import NewEvent
from tbot_core.model.reasons import Reason, most_frequent
from tbot_core.model.types import ExitReason, Leg, OrderState, SignalId, Trade, atoms_of, dollars_of
from tbot_core.trading.exit_plan import closing_reason
from tbot_core.trading.orders import (
    BROKER_EVENT_KINDS,
    ExecutionUpdate,
    OrderEvent,
    OrderRecord,
    advance,
    execution_update,
)
from tbot_core.trading.portfolio import Portfolio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import Order
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
_UNPROTECTED: Final = ("bare", "emulated")
_RESTS: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})
ORDER_EVENT_KINDS: Final[Mapping[str, OrderEvent]] = {
    records.SENDING: OrderEvent.SEND,
    records.NO_ANSWER: OrderEvent.NO_ANSWER,
    records.DROPPED: OrderEvent.DROP,
    records.ABSENT: OrderEvent.NOT_FOUND,
    records.LOST: OrderEvent.GIVE_UP,
}
"""tbot's own events as order events."""


@attrs.define(kw_only=True)
class SessionBook:
    """The state of a run; `apply` adds one event.

    `frozen`: frozen symbols and the reason; `disputed`: symbols in which readings contradict it, and their event;
    `unprotected_s`: seconds bare and emulated of the session's closed positions. `stops`: the last level requested for
    each symbol's stop in this session, whether it rests or not. `brokers`: those of all sessions, the first session's
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
    portfolio: Portfolio = attrs.field(factory=lambda: Portfolio(opening_atoms=0))
    orders: dict[str, OrderRecord] = attrs.field(factory=dict)
    stops: dict[str, Decimal] = attrs.field(factory=dict)
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
    _stuck: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    _requested: dict[str, list[tuple[ExitReason, Decimal]]] = attrs.field(factory=dict)
    _levels: dict[str, Decimal] = attrs.field(factory=dict)
    _cancelling: set[str] = attrs.field(factory=set)
    _reasons: dict[str, ExitReason | None] = attrs.field(factory=dict)
    _before: int = 0
    _outside: dict[str, SignalId] = attrs.field(factory=dict)

    @property
    def equity(self) -> Decimal:
        """Cash plus positions at their last marks, or last fills where there is no mark since."""
        return dollars_of(self.portfolio.equity_atoms)

    @property
    def stuck(self) -> dict[str, Mapping[str, Any]]:
        """Positions that could not be closed by the end of a session and are still held, by symbol."""
        return {symbol: payload for symbol, payload in self._stuck.items() if symbol in self.portfolio.positions}

    def resting(self, symbol: str) -> Decimal | None:
        """The level of the stop that rests at the broker for a symbol; None without one."""
        return next((self._levels.get(cid) for cid in self._resting_stops(symbol)), None)

    def price(self, client_order_id: str) -> Decimal | None:
        """The present level of a stop, else the limit of the order; None for an order at the market."""
        return self._levels.get(client_order_id, self.orders[client_order_id].order.limit_price)

    def covered(self, symbol: str) -> Decimal:
        """Shares that the symbol's resting stops would still close."""
        return sum((self.orders[cid].open_quantity for cid in self._resting_stops(symbol)), Decimal(0))

    def is_stop_cancelling(self, symbol: str) -> bool:
        """Whether the cancel of each resting stop of a symbol was requested, and the broker has not confirmed it."""
        stops = self._resting_stops(symbol)
        return bool(stops) and self._cancelling.issuperset(stops)

    def _resting_stops(self, symbol: str) -> list[str]:
        # Those that are not being cancelled first.
        found = [
            cid
            for cid, one in self.orders.items()
            if one.order.symbol == symbol and one.order.leg is Leg.STOP and one.state in _RESTS
        ]
        return sorted(found, key=self._cancelling.__contains__)

    def broker(self, signal: SignalId) -> str:
        """The name of the broker that holds the orders and position of a signal."""
        return self._broker_of.get(signal) or str(self.session.get("primary", ""))

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event; informational kinds change only the time."""
        kind, payload = event.kind, event.payload
        self.time = event.applied
        match kind:
            case records.RUN_STARTED:
                self.run = payload
                self.equity_start = Decimal(payload["equity"])
                self.portfolio = Portfolio(opening_atoms=atoms_of(self.equity_start))
            case records.SESSION_OPENED:
                self._open(payload)
            case records.SESSION_CLOSED:
                self._close(payload)
            case records.RUN_FINISHED:
                self.finished = True
            case records.SCREENED | records.DECISION:
                self._count(kind, payload)
            case kind if kind in _NOTED:
                self._note(kind, payload)
            case records.ADJUSTMENT | records.CORPORATE_ACTION:
                self._adjust(kind, payload)
            case records.REPLACE_REQUESTED | records.CANCEL_REQUESTED if event.cid is not None:
                self._request_change(kind, event.cid, payload)
            case _ if event.cid is not None:
                self._order(kind, event.cid, payload)

    def _note(self, kind: str, payload: Mapping[str, Any]) -> None:
        match kind:
            case records.STUCK:
                self._stuck[payload["symbol"]] = payload
            case records.RISK | records.WINDOW_CLOSED:
                (self.risk if kind == records.RISK else self.windows).append(payload)
            case records.FROZEN:
                self.frozen.pop(payload["symbol"], None)
                self.frozen |= {payload["symbol"]: payload["words"]} if payload["there"] else {}
            case records.DISPUTED:
                self.disputed.pop(payload["symbol"], None)
                self.disputed |= {payload["symbol"]: payload} if payload["there"] else {}
            case _:
                ended = payload["state"] == records.CLOSED
                self.unprotected_s.update({one: float(payload[f"{one}_s"]) for one in _UNPROTECTED if ended})

    def _count(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == records.SCREENED:
            self.denials.update(Counter(payload["reasons"]))
            if payload.get("candidates") == 0 and payload["reasons"]:
                self._denied_all[payload["strategy"]] = most_frequent(payload["reasons"])
        elif payload["reason"] == "ALLOWED":
            self.allowed += 1
        else:
            self.denials[payload["reason"]] += 1

    def _open(self, payload: Mapping[str, Any]) -> None:
        self.session, self.in_session = payload, True
        self.symbols = max(self.symbols, payload["symbols"])
        self.orders, self.stops, self._requested, self._reasons, self._broker_of = {}, {}, {}, {}, {}
        self._levels, self._cancelling, self._outside, self.unprotected_s = {}, set(), {}, Counter()
        self.brokers |= dict.fromkeys(records.brokers_of(payload))
        self.risk, self.windows, self._denied_all = [], [], {}
        self._before = len(self.trades)
        self.portfolio = Portfolio(opening_atoms=atoms_of(Decimal(payload["equity"])))
        for one in payload.get("carried", ()):
            signal = records.signal_of(one["signal"])
            self._broker_of[signal] = one.get("broker", "")
            self.portfolio.apply(records.adjustment_of(one), signal, Leg.ENTRY)

    def _close(self, payload: Mapping[str, Any]) -> None:
        for reason, count in payload.get("without_bars", {}).items():
            self.denials[reason] -= count
            if self.denials[reason] <= 0:
                del self.denials[reason]
        for strategy, reason in self._denied_all.items():
            self.without_candidates.setdefault(strategy, Counter())[reason] += 1
        self.in_session, self.frozen, self.disputed = False, {}, {}
        self.sessions += 1
        self.equity_curve.append((self.session["date"], Decimal(payload["equity"])))

    def _adjust(self, kind: str, payload: Mapping[str, Any]) -> None:
        if kind == records.CORPORATE_ACTION:
            held = self.portfolio.positions.get(payload["symbol"])
            # Every broker reports a split, also one that holds nothing of ours.
            if held is None or self._broker_of.get(held.signal, "") == payload.get("broker", ""):
                self.portfolio.apply_split(payload["symbol"], Fraction(payload["after"], payload["before"]))
            return
        fill = records.adjustment_of(payload)
        if fill.execution_id in self._outside:  # some of these shares are there again
            self.portfolio.correct_fill(fill, self._outside[fill.execution_id])
            self.trades[self._before :] = [self._trade(one) for one in self.portfolio.closed]
            return
        position = self.portfolio.positions[fill.symbol]
        self._outside[fill.execution_id] = position.signal
        self.portfolio.apply(fill, position.signal, Leg.EXIT, ExitReason.OUTSIDE)
        if not position.units:
            self.trades.append(self._trade(position))

    def _request_change(self, kind: str, cid: str, payload: Mapping[str, Any]) -> None:
        if kind == records.CANCEL_REQUESTED:
            self._cancelling.add(cid)
            return
        level = Decimal(payload["stop_price"])
        self.stops[self.orders[cid].order.symbol] = level
        request = ExitReason(payload["reason"]), level
        if request not in self._requested.setdefault(cid, []):
            self._requested[cid].append(request)

    def _order(self, kind: str, cid: str, payload: Mapping[str, Any]) -> None:
        if kind == records.INTENDED:
            order = records.order_of(cid, payload)
            self.orders[cid], self._reasons[cid] = OrderRecord(order=order), order.reason
            self._broker_of[order.signal] = payload.get("broker", "")
            if order.stop_price is not None:
                self.stops[order.symbol] = self._levels[cid] = order.stop_price
            return
        event = ORDER_EVENT_KINDS.get(kind) or BROKER_EVENT_KINDS.get(kind)
        if event is None or cid not in self.orders:  # not ours, or not about an order
            return
        if event is OrderEvent.CANCEL_REFUSED:
            self._cancelling.discard(cid)
        if event is OrderEvent.REPLACE and self._requested.get(cid):  # the broker does not say which: the oldest
            self._reasons[cid], self._levels[cid] = self._requested[cid].pop(0)
        elif event is OrderEvent.CANCEL_REFUSED:
            self._requested.pop(cid, None)
        fill = records.fill_of(cid, payload)
        record = self.orders[cid]
        self.orders[cid], _ = advance(record, event, fill)
        if self.orders[cid].is_missed_entry and not record.is_missed_entry:
            self.denials[Reason.ENTRY_NOT_FILLED.name] += 1
        found = None if fill is None else execution_update(record, self.orders[cid], fill)
        if found is not None:
            self._book(found, record.order, closing_reason(self._reasons[cid], payload["words"]))

    def _book(self, found: ExecutionUpdate, order: Order, reason: ExitReason | None) -> None:
        signal = order.signal if order.is_for(found.fill.symbol, buy=found.fill.buy) else None
        if found.is_correction:
            self.portfolio.correct_fill(found.fill, signal)
            self.trades[self._before :] = [self._trade(position) for position in self.portfolio.closed]
            return
        closed = len(self.portfolio.closed)
        position = self.portfolio.apply(found.fill, signal, order.leg, reason)
        over = position is not None and not position.units
        if order.leg is Leg.ENTRY and (over or len(self.portfolio.closed) != closed):  # reported after the closing fill
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
        whose = event.payload.get("broker", "")
        if event.kind == records.INTENDED:
            owners[event.cid] = whose
        if owners.get(event.cid, whose) == broker:
            yield event
