"""A session after a crash: desk and orders as the journal left them, and what a restart has to say of open questions.

What was written down and never marked as being sent, never left. What was marked may have: it is in doubt until the
broker has been asked.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import BrokerEvent
from tbot_core.execution import account_updates, corporate_actions, frozen_instruments, instrument_rules
from tbot_core.journal import records
from tbot_core.journal.projections.book import ORDER_EVENT_KINDS
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Leg, OrderState, RiskState, Side
from tbot_core.plugins.call_guard import FailedCall
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderEvent, OrderRecord, advance, execution_update
from tbot_core.trading.proposals import Proposal
from tbot_core.trading.risk.exposure import impose_defense
from tbot_core.trading.risk.external import open_shares

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.journal.store import Event
    from tbot_core.model.types import Order
    from tbot_core.trading.decision_engine import DecisionEngine

_NEVER_SENT = "the restart found it recorded but not sent"
_ON_ITS_WAY = "the restart found it in flight"


class SessionRecovery:
    """Feeds a session's events, oldest first, to a new desk and its execution; `rows` are the session's symbols.

    What was traded in a symbol that is heard no more has no row: it is held and closed without bars.
    """

    def __init__(self, desk: DecisionEngine, execution: ExecutionEngine, rows: Mapping[str, int]) -> None:
        self._desk = desk
        self._execution = execution
        self._rows = rows
        self._broker = execution.recorder.broker
        self._proposals: dict[str, Proposal] = {}
        self._entry: Order
        self._awaited: set[str] = set()
        self._mistaken: set[str] = set()
        self.external = desk.exposure.external.held
        self.decided: set[str] = set()

    def apply(self, event: Event) -> None:
        """Take in what was written before the crash, where it is of this broker."""
        if event.payload.get("broker", "") == self._broker or event.cid in self._execution.orders:
            self._take(event)

    def resolve_open_orders(self) -> None:
        """Write down what the crash left open: orders that never left are dropped, those on their way are in doubt.

        Each kind is one transaction: a thousand orders do not wait for the disk a thousand times.
        """
        orders = self._execution.orders.items()
        never_left = [cid for cid, record in orders if record.state is OrderState.INTENDED]
        on_their_way = [cid for cid, record in orders if record.state is OrderState.SENDING]
        if never_left:
            self._execution.drop(_NEVER_SENT, *never_left)
        if on_their_way:
            self._execution.mark_unknown(_ON_ITS_WAY, *on_their_way)

    def _take(self, event: Event) -> None:
        payload, cid = event.payload, event.cid
        match event.kind:
            case records.DECISION | records.TOP_UP:
                self._decided(payload, cid)
            case records.INTENDED if cid is not None:
                self._intended(cid, payload)
            case records.RISK:
                self._latched(payload["what"])
            case records.ADJUSTMENT:
                self._desk.position_manager.on_external_change(records.adjustment_of(payload))
            case records.FOREIGN_ORDER | records.SETTLED:
                self._read(event.kind, payload)
            case records.CORPORATE_ACTION | records.FROZEN | records.FOREIGN_HOLDING | records.INSTRUMENT:
                self._befell(event.kind, payload)
            case records.REPLACE_REQUESTED | records.CANCEL_REQUESTED if cid is not None:
                self._requested(cid, payload.get("stop_price"))
            case records.TAKEN_OTHERWISE if cid is not None:
                self._taken(cid, payload)
            case _ if cid in self._execution.orders:
                self._happened(cid, event)

    def _read(self, kind: str, payload: Mapping[str, Any]) -> None:
        # What a reading of the account had to say.
        if kind == records.SETTLED:
            account_updates.recall_settled_cash(self._desk, payload, self._execution.venue.account_id)
            return
        rest = Decimal(payload["quantity"]) - Decimal(payload["filled"])
        shares = open_shares(payload["said"], rest, buy=payload["buy"])
        self._desk.exposure.external.set_open_order(payload["broker_order_id"], payload["symbol"], shares)

    def _requested(self, cid: str, stop_price: str | None) -> None:
        # A broker was asked to move an order, or to end it: one that it works for more is taken back.
        #
        # Whether one that has ended is open after all, the restart's own readings say.
        if stop_price is None and cid in self._mistaken and not self._execution.orders[cid].terminal:
            self._desk.position_manager.mismatched_orders.on_orphan_cancel(cid)
        else:
            self._desk.position_manager.recovery.restore_request(
                cid, None if stop_price is None else Decimal(stop_price)
            )

    def _taken(self, cid: str, payload: Mapping[str, Any]) -> None:
        # A broker works an order for something else than was ordered, or for less, which stays.
        ordered = payload["ordered"]
        same = all(payload[name] == ordered[name] for name in ("symbol", "buy"))
        if not same or Decimal(payload["quantity"]) > Decimal(ordered["quantity"]):
            self._mistaken.add(cid)

    def _befell(self, kind: str, payload: Mapping[str, Any]) -> None:
        # What became of a symbol without an order of ours.
        symbol = payload["symbol"]
        if kind == records.FROZEN:
            frozen_instruments.recall_frozen(self._desk.exposure, payload)
        elif kind == records.INSTRUMENT:
            instrument_rules.apply_instrument_rules(self._desk, payload)
        elif kind == records.FOREIGN_HOLDING:
            price = payload.get("price")
            quantity = Decimal(payload["quantity"])
            self._desk.exposure.external.set_holding(symbol, quantity, None if price is None else Decimal(price))
        else:
            corporate_actions.apply_split(self._desk, symbol, Fraction(payload["after"], payload["before"]))

    def _decided(self, payload: Mapping[str, Any], cid: str | None) -> None:
        signal = records.signal_of(payload["signal"])
        self.decided.add(signal.text)
        if cid is not None:
            self._proposals[cid] = proposal_of(payload, self._rows.get(signal.symbol))

    def _intended(self, cid: str, payload: Mapping[str, Any]) -> None:
        order = records.order_of(cid, payload)
        self._execution.orders[cid] = OrderRecord(order=order)
        if order.leg is Leg.ENTRY:
            self._entry, self._awaited = order, set(payload["protection"])
        elif cid in self._awaited:
            self._awaited.remove(cid)
            self._entry = attrs.evolve(self._entry, protection=(*self._entry.protection, order))
        else:
            self._desk.position_manager.recovery.restore_order(order)
            return
        if not self._awaited:  # an entry and its protection are written in one transaction
            self._execution.orders[self._entry.client_order_id] = OrderRecord(order=self._entry)
            self._desk.restore_entry(self._entry, self._proposals.pop(self._entry.client_order_id))

    def _happened(self, cid: str, event: Event) -> None:
        execution, payload = self._execution, event.payload
        word = ORDER_EVENT_KINDS.get(event.kind) or BROKER_EVENT_KINDS.get(event.kind)
        if word is None:
            return
        fill = records.fill_of(cid, payload)
        before = execution.orders[cid]
        execution.orders[cid], _ = advance(before, word, fill)
        match word:
            case OrderEvent.SEND:
                execution.mark_sent(cid, event.applied)
            case OrderEvent.DROP:
                self._desk.position_manager.on_dropped(cid)
            case OrderEvent.GIVE_UP:
                self._desk.position_manager.on_lost(cid)
            case _ if event.kind in BROKER_EVENT_KINDS:
                found = None if fill is None else execution_update(before, execution.orders[cid], fill)
                said = BrokerEvent(kind=event.kind, event_id="", client_order_id=cid, fill=fill, words=payload["words"])
                self._desk.position_manager.on_event(said, found)

    def _latched(self, what: str) -> None:
        # A latch outlives a restart: the loss that set it may not be seen again in the marks of now.
        standing = self._desk.exposure
        match what.split():
            case ["daily", "loss", "latch"]:
                standing.latch("daily_loss")
            case ["window", "loss", "latch", "of", strategy]:
                standing.latch("window_loss", strategy)
            case ["equity", "jump"]:
                standing.equity_jump = True
            case ["losing", "run", "latch"]:
                standing.latch("losing_run")
            case ["defense"]:
                impose_defense(standing)
            case ["exit-only"]:
                standing.state = max(standing.state, RiskState.EXIT_ONLY)


def recorded_failures(events: Iterable[Event]) -> list[tuple[datetime, FailedCall]]:
    """The calls into plugins that failed, and when."""
    return [(event.applied, FailedCall(**event.payload)) for event in events if event.kind == records.PLUGIN_FAILED]


def proposal_of(payload: Mapping[str, Any], row: int | None) -> Proposal:
    """The proposal that a decision's record tells of, for its symbol's row; what was compared is left out."""
    stop, target = (math.nan if payload[name] is None else float(payload[name]) for name in ("stop", "target"))
    return Proposal(
        signal=records.signal_of(payload["signal"]),
        side=Side[payload["side"].upper()],
        row=row,
        rank=0,
        price=payload["price"],
        strength=payload["strength"] or 0.0,
        exits=ExitRules(**payload["exits"]),
        reason=Reason[payload["reason"]],
        stop=stop,
        target=target,
        confirmed_minute=payload.get("confirmed"),
        reference=payload.get("reference"),
    )
