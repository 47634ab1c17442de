"""Restores a session after a crash: decision engine and orders from the journal, and the orders left open.

An order recorded but not marked as being sent was never sent. One that was marked is unknown until it is looked up.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.execution import broker_account, corporate_actions, frozen_instruments, instrument_rules
from tbot_core.journal import records
from tbot_core.journal.events.accounts import (
    Adjustment,
    CashSettled,
    ForeignHolding,
    ForeignOrder,
    InstrumentRulesReported,
    SplitBooked,
    SymbolFrozen,
)
from tbot_core.journal.events.orders import (
    OrderIntended,
    OrderReported,
    OrderTermsDiffer,
    ReplaceRequested,
    SignalJudged,
)
from tbot_core.journal.events.risk import RiskChanged
from tbot_core.journal.events.sessions import PluginFailed
from tbot_core.journal.projections.book import ORDER_EVENT_KINDS
from tbot_core.model.bars import SymbolQuote
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, OrderState, RiskState, Side, price_of, stock
from tbot_core.plugins.call_guard import FailedCall
from tbot_core.trading.commands import CancelOrder, ReplaceOrder
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderEvent
from tbot_core.trading.proposals import Proposal
from tbot_core.trading.risk.exposure import impose_defense
from tbot_core.trading.risk.external import open_shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.journal.store import Event
    from tbot_core.model.types import Fill, Order
    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.decision_engine import DecisionEngine

_NEVER_SENT = "the restart found it recorded but not sent"
_IN_FLIGHT = "the restart found it in flight"


class SessionRecovery:
    """Applies a session's events, oldest first, to a new decision engine and its execution engine.

    `rows` maps the session's symbols to their rows. A symbol that is no longer subscribed has none: its position is
    closed without bars.
    """

    def __init__(self, decision_engine: DecisionEngine, execution: ExecutionEngine, rows: Mapping[str, int]) -> None:
        self._decision_engine = decision_engine
        self._execution = execution
        self._tickets = decision_engine.book.tickets
        self._rows = rows
        self._broker = execution.recorder.broker
        self._proposals: dict[str, Proposal] = {}
        self._entry: Order
        self._awaited: set[str] = set()
        self.external = decision_engine.exposure.external.held
        self.decided: set[str] = set()

    def apply(self, event: Event) -> None:
        """Apply an event from before the crash, if it belongs to this broker."""
        if event.broker == self._broker or event.cid in self._tickets:
            self._apply(event)

    def resolve_open_orders(self, repeat_from: datetime | None = None) -> list[Order]:
        """Drop the orders that were never sent, and mark those in flight as unknown.

        Orders recorded since `repeat_from` are left as they are, and returned; their protection is part of them.

        Each kind is one transaction, so that a thousand orders need one disk write.
        """
        found, parts = [], set[str]()
        for ticket in self._tickets.values():
            unanswered = ticket.state in {OrderState.INTENDED, OrderState.SENDING}
            if repeat_from is not None and unanswered and ticket.recorded_at and ticket.recorded_at >= repeat_from:
                found.append(ticket.order)
                parts.update(part.client_order_id for part in (ticket.order, *ticket.order.protection))
        tickets = [(cid, ticket) for cid, ticket in self._tickets.items() if cid not in parts]
        never_sent = [cid for cid, ticket in tickets if ticket.state is OrderState.INTENDED]
        in_flight = [cid for cid, ticket in tickets if ticket.state is OrderState.SENDING]
        if never_sent:
            self._execution.drop(_NEVER_SENT, *never_sent)
        if in_flight:
            self._execution.mark_unknown(_IN_FLIGHT, *in_flight)
        legs = {part.client_order_id for one in found for part in one.protection}
        return [one for one in found if one.client_order_id not in legs]

    @property
    def unanswered_requests(self) -> list[CancelOrder | ReplaceOrder]:
        """The cancels and replaces that nothing was reported about since."""
        return [_request_of(ticket) for ticket in self._tickets.values() if ticket.unanswered]

    def _apply(self, event: Event) -> None:
        cid = event.cid
        match event.kind:
            case records.DECISION | records.TOP_UP:
                self._on_decision(event.facts(SignalJudged), cid)
            case records.INTENDED if cid is not None:
                self._on_intent(cid, event)
            case records.RISK:
                self._restore_latch(event.facts(RiskChanged).what)
            case records.FOREIGN_ORDER | records.SETTLED | records.ADJUSTMENT:
                self._on_account_event(event)
            case records.CORPORATE_ACTION | records.FROZEN | records.FOREIGN_HOLDING | records.INSTRUMENT:
                self._on_instrument_event(event)
            case records.REPLACE_REQUESTED | records.CANCEL_REQUESTED if cid is not None:
                self._on_request(cid, event)
            case records.OTHER_TERMS if cid is not None:
                self._on_mismatch(cid, event.facts(OrderTermsDiffer))
            case _ if cid in self._tickets:
                self._on_order_event(cid, event)
            case BrokerEventKind.FILL:
                self._on_external_fill(event.facts(OrderReported).fill(""))

    def _on_account_event(self, event: Event) -> None:
        # A result of an account reading.
        match event.kind:
            case records.SETTLED:
                account_id = self._execution.venue.account_id
                broker_account.recall_settled_cash(self._decision_engine, event.facts(CashSettled), account_id)
            case records.ADJUSTMENT:
                change = event.facts(Adjustment)
                self._decision_engine.position_manager.on_external_change(change.fill, unexplained=change.unexplained)
                self._execution.contradictions.settle(change.symbol)
            case _:
                order = event.facts(ForeignOrder)
                traded = order.filled if order.buy else -order.filled
                self._execution.contradictions.restore(order.symbol, order.broker_order_id, traded)
                shares = open_shares(order.said, order.quantity - order.filled, buy=order.buy)
                external = self._decision_engine.exposure.external
                external.set_open_order(order.broker_order_id, order.symbol, shares)

    def _on_external_fill(self, fill: Fill | None) -> None:
        # An execution of an order that is not of this session.
        if fill is not None:
            self._execution.contradictions.add_execution(fill, self._execution.recorder.clock.monotonic())

    def _on_request(self, cid: str, event: Event) -> None:
        # A request to replace or cancel an order; a mismatched order for more than ordered is cancelled as an orphan.
        #
        # Whether an ended order is still open is for the restart's own readings to find.
        ticket, replace = self._tickets[cid], None
        if event.kind == records.REPLACE_REQUESTED:
            request = event.facts(ReplaceRequested)
            replace = ReplaceOrder(client_order_id=cid, stop_price=request.stop_price, reason=request.reason)
        ticket.unanswered = "replace" if replace else "cancel"
        if replace is None and ticket.works_for_more and not ticket.terminal:
            self._decision_engine.position_manager.mismatched_orders.on_orphan_cancel(cid)
        else:
            self._decision_engine.position_manager.recovery.restore_request(cid, replace)

    def _on_mismatch(self, cid: str, accepted: OrderTermsDiffer) -> None:
        # The broker works an order that differs from the one sent; one for less is left as it is.
        ordered = accepted.ordered
        same = (accepted.symbol, accepted.buy) == (ordered.symbol, ordered.buy)
        if not same or accepted.quantity > ordered.quantity:
            self._tickets[cid].works_for_more = True

    def _on_instrument_event(self, event: Event) -> None:
        # An event of a symbol that belongs to no order.
        match event.kind:
            case records.FROZEN:
                frozen_instruments.recall_frozen(self._decision_engine.exposure, event.facts(SymbolFrozen))
            case records.INSTRUMENT:
                rules = event.facts(InstrumentRulesReported)
                instrument_rules.apply_instrument_rules(self._decision_engine, rules)
            case records.FOREIGN_HOLDING:
                symbol = event.facts(ForeignHolding).symbol
                self._execution.contradictions.settle(symbol)
                if held := records.holding_of(event.payload):
                    self._decision_engine.exposure.external.set_holding(symbol, *held)
            case _:
                split = event.facts(SplitBooked)
                ratio = Fraction(split.after, split.before)
                corporate_actions.apply_split(self._decision_engine, split.symbol, ratio)

    def _on_decision(self, judged: SignalJudged, cid: str | None) -> None:
        signal = judged.signal
        self.decided.add(signal.text)
        if cid is not None:
            self._proposals[cid] = proposal_of(judged, self._rows.get(signal.symbol))

    def _on_intent(self, cid: str, event: Event) -> None:
        intended = event.facts(OrderIntended)
        order = intended.order(cid)
        if order.leg is Leg.ENTRY:
            self._entry, self._awaited = order, set(intended.protection)
        elif cid in self._awaited:
            self._awaited.remove(cid)
            self._entry = attrs.evolve(self._entry, protection=(*self._entry.protection, order))
        else:
            self._decision_engine.position_manager.recovery.restore_order(order)
            self._tickets[cid].recorded_at = event.applied
            return
        if not self._awaited:  # an entry and its protection are written in one transaction
            self._decision_engine.restore_entry(self._entry, self._proposals.pop(self._entry.client_order_id))
            for ticket in self._decision_engine.book.parts(self._entry):
                ticket.recorded_at = event.applied

    def _on_order_event(self, cid: str, event: Event) -> None:
        ticket = self._tickets[cid]
        ticket.unanswered = ""
        word = ORDER_EVENT_KINDS.get(event.kind) or BROKER_EVENT_KINDS.get(event.kind)
        if word is None:
            return
        reported = event.facts(OrderReported) if event.kind in BROKER_EVENT_KINDS else None
        fill = None if reported is None else reported.fill(cid)
        update = self._decision_engine.book.apply(cid, word, fill)
        ticket.must_look_up = False  # the first reading shows what has become of each order
        match word:
            case OrderEvent.SEND:
                self._execution.mark_sent(cid, event.applied)
            case OrderEvent.DROP:
                self._decision_engine.position_manager.on_dropped(cid)
            case OrderEvent.GIVE_UP:
                self._decision_engine.position_manager.on_lost(cid)
            case _ if reported is not None:
                broker_event = BrokerEvent(
                    kind=event.kind, event_id="", client_order_id=cid, fill=fill, words=reported.words
                )
                self._decision_engine.position_manager.on_event(broker_event, update.execution, ended=ticket.terminal)

    def _restore_latch(self, what: str) -> None:
        # A latch survives a restart: current marks may no longer show the loss that set it.
        exposure = self._decision_engine.exposure
        match what.split():
            case ["daily", "loss", "latch"]:
                exposure.latch("daily_loss")
            case ["window", "loss", "latch", "of", strategy]:
                exposure.latch("window_loss", strategy)
            case ["equity", "jump"]:
                exposure.equity_jump = True
            case ["losing", "run", "latch"]:
                exposure.latch("losing_run")
            case ["defense"]:
                impose_defense(exposure)
            case ["exit-only"]:
                exposure.state = max(exposure.state, RiskState.EXIT_ONLY)


def _request_of(ticket: Ticket) -> CancelOrder | ReplaceOrder:
    # The latest request for an order, which nothing was reported about since.
    if ticket.unanswered == "cancel":
        return CancelOrder(client_order_id=ticket.cid)
    ticks, reason = ticket.stop_level.pending[-1]
    return ReplaceOrder(client_order_id=ticket.cid, stop_price=price_of(ticks), reason=reason)


def recorded_failures(events: Iterable[Event]) -> list[tuple[datetime, FailedCall]]:
    """The failed plugin calls with their times."""
    failed = ((event.applied, event.facts(PluginFailed)) for event in events if event.kind == records.PLUGIN_FAILED)
    names = [field.name for field in attrs.fields(FailedCall)]
    return [(moment, FailedCall(**{name: getattr(call, name) for name in names})) for moment, call in failed]


def proposal_of(judged: SignalJudged, row: int | None) -> Proposal:
    """The proposal of a recorded decision, for its symbol's row; compared values are left out."""
    quote = judged.quote
    return Proposal(
        signal=judged.signal,
        side=Side[judged.side.upper()],
        row=row,
        rank=0,
        price=_price_of(judged.price),
        strength=judged.strength or 0.0,
        exits=judged.exits,
        reason=Reason[judged.reason],
        stop=_price_of(judged.stop),
        target=_price_of(judged.target),
        confirmed_minute=judged.confirmed,
        reference=judged.reference,
        quote=None if quote is None else SymbolQuote(bid=quote.bid, ask=quote.ask, age_s=quote.age_s),
        instrument=judged.instrument or stock(judged.signal.symbol),
    )


def _price_of(recorded: float | None) -> float:
    # JSON has no NaN.
    return math.nan if recorded is None else recorded
