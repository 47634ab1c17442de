"""When nothing of a broker's post is on its way any more, and each position has the stop that it is to have."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.model.types import atoms_of
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.orders import ExecutionUpdate

if TYPE_CHECKING:
    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.model.types import Leg, SignalId

FRACTIONS = BrokerCapabilities(quantity_step=Decimal("0.1"), fractional_types=frozenset({"market", "limit"}))


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


@pytest.mark.parametrize(("filled", "settled"), [("0.4", True), ("3.4", False)])
def test_a_position_waits_for_a_stop_only_where_one_may_rest(filled: str, settled: bool) -> None:
    """Under one share the bot acts on closes, where no fraction may be stopped: there is nothing to wait for."""
    desk = DecisionEngine(
        rules(venue=FRACTIONS, fractional=True, fractional_unprotected=True),
        session(),
        atoms_of(Decimal(100_000)),
        name,
    )
    entry = desk.decide([proposal()])[0].order
    assert entry is not None
    execution = fill(entry, "100", filled)
    cid = entry.client_order_id
    desk.position_manager.on_event(
        BrokerEvent(kind="fill", event_id="1", client_order_id=cid, fill=execution),
        ExecutionUpdate(execution, is_correction=False),
    )
    desk.position_manager.on_event(BrokerEvent(kind="cancelled", event_id="2", client_order_id=cid), None)
    assert bool(desk.position_manager.orders_due_now()) is not settled
    nothing_works = cast("ExecutionEngine", SimpleNamespace(tickets={}))
    assert BrokerSession(name="", decision_engine=desk, execution=nothing_works).is_settled is settled


def test_a_position_whose_stop_somebody_else_cancelled_waits_for_another() -> None:
    """It is to be covered whole again, as soon as a reading shows that it is still held."""
    desk = DecisionEngine(rules(), session(), atoms_of(Decimal(100_000)), name)
    entry = desk.decide([proposal()])[0].order
    assert entry is not None
    execution = fill(entry, "100", str(entry.quantity))
    told = BrokerEvent(kind="fill", event_id="1", client_order_id=entry.client_order_id, fill=execution)
    desk.position_manager.on_event(told, ExecutionUpdate(execution, is_correction=False))
    nothing_works = cast("ExecutionEngine", SimpleNamespace(tickets={}))
    post = BrokerSession(name="", decision_engine=desk, execution=nothing_works)
    assert not post.is_settled
    for one in entry.protection:
        desk.position_manager.on_event(
            BrokerEvent(kind="cancelled", event_id="2", client_order_id=one.client_order_id), None
        )
    assert desk.position_manager.protection.units_to_cover(desk.position_manager.book.held_in("AAA")[0]) == 7_000_000
    assert not post.is_settled
