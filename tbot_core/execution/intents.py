"""The commands of a minute as journal events, written before they are carried out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from tbot_core.journal.events.orders import (
    CancelRequested,
    OrderDropped,
    OrderIntended,
    OrderSending,
    ReplaceRequested,
    SignalDecided,
    TopUpDecided,
)
from tbot_core.journal.events.risk import RiskChanged
from tbot_core.trading.commands import CancelOrder, Decision, ReplaceOrder, SubmitOrder, TradingCommand
from tbot_core.trading.risk.exposure import RiskChange

if TYPE_CHECKING:
    from tbot_core.journal.store import JournalRecorder, NewEvent
    from tbot_core.model.types import Order


@attrs.frozen(kw_only=True)
class MinuteCommands:
    """The results of one minute, journaled and carried out together; `top_ups` add to positions."""

    changes: Sequence[RiskChange] = ()
    actions: Sequence[TradingCommand] = ()
    decisions: Sequence[Decision] = ()
    top_ups: Sequence[Decision] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.changes or self.actions or self.decisions or self.top_ups)

    @property
    def entry_orders(self) -> list[Order]:
        """The allowed entries and top-ups."""
        return [one.order for one in (*self.decisions, *self.top_ups) if one.order is not None]


def intent_events(recorder: JournalRecorder, minute: MinuteCommands) -> list[NewEvent]:
    """The journal events: risk changes, then order commands, then decisions with their orders."""
    found = [recorder.entry(RiskChanged.of(change)) for change in minute.changes]
    for action in minute.actions:
        match action:
            case SubmitOrder(order=order):
                found.append(_intent(recorder, order))
            case CancelOrder(client_order_id=cid):
                found.append(recorder.entry(CancelRequested(), cid))
            case ReplaceOrder(client_order_id=cid):
                found.append(recorder.entry(ReplaceRequested(stop_price=action.stop_price, reason=action.reason), cid))
    for decided, decisions in ((SignalDecided, minute.decisions), (TopUpDecided, minute.top_ups)):
        for decision in decisions:
            allowed = decision.order
            named = None if allowed is None else allowed.client_order_id
            found.append(recorder.entry(decided.of(decision), named))
            if allowed is not None:
                found += [_intent(recorder, part) for part in order_parts(allowed)]
    return found


def sending_event(recorder: JournalRecorder, part: Order, words: str) -> NewEvent:
    """The event that an order is being sent, or that it is dropped because of `words`."""
    return recorder.entry(OrderDropped(words=words) if words else OrderSending(), part.client_order_id)


def order_parts(order: Order) -> tuple[Order, ...]:
    """An order and its protection."""
    return order, *order.protection


def _intent(recorder: JournalRecorder, order: Order) -> NewEvent:
    tagged = attrs.evolve(order, tag=f"{recorder.tag} {order.tag}".rstrip()) if recorder.tag else order
    return recorder.entry(OrderIntended.of(tagged), order.client_order_id)
