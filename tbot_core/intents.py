"""What a minute asks for as events of the journal, written before any of it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.actions import Action, Cancel, Decision, Place, Replace
from tbot_core.journal import records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.journal.journal import Entry
    from tbot_core.model import Order
    from tbot_core.recorder import Recorder
    from tbot_core.standing import RiskChange


def entries(
    recorder: Recorder, changes: Sequence[RiskChange], actions: Sequence[Action], decisions: Sequence[Decision]
) -> list[Entry]:
    """Changes of the risk state, then what is asked of orders, then decisions with the orders that they allow."""
    found = [recorder.entry(records.RISK, records.risk_payload(change)) for change in changes]
    for action in actions:
        match action:
            case Place(order=order):
                found.append(_intent(recorder, order))
            case Cancel(client_order_id=cid):
                found.append(recorder.entry(records.CANCEL_REQUESTED, {}, cid))
            case Replace(client_order_id=cid):
                found.append(recorder.entry(records.REPLACE_REQUESTED, records.replace_payload(action), cid))
    for decision in decisions:
        allowed = decision.order
        named = None if allowed is None else allowed.client_order_id
        found.append(recorder.entry(records.DECISION, records.decision_payload(decision), named))
        if allowed is not None:
            found += [_intent(recorder, part) for part in parts(allowed)]
    return found


def leaving(recorder: Recorder, part: Order, words: str) -> Entry:
    """An order is being sent; or where there are words, why it never will be."""
    kind, payload = (records.DROPPED, {"words": words}) if words else (records.SENDING, {})
    return recorder.entry(kind, payload, part.client_order_id)


def parts(order: Order) -> tuple[Order, ...]:
    """An order and the protection that goes with it."""
    return order, *order.protection


def _intent(recorder: Recorder, order: Order) -> Entry:
    tagged = attrs.evolve(order, tag=" ".join(filter(None, (recorder.tag, order.tag))))
    return recorder.entry(records.INTENDED, records.order_payload(tagged), order.client_order_id)
