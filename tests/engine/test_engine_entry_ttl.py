"""ENTRY_TTL: an entry that is not filled in time is cancelled, whatever is known of it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import pytest

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEvent, BrokerEventKind, Permit
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.errors import OutcomeUnknown, Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal.store import JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, Leg, Order, OrderState, SignalId, atoms_of
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.states import TradingState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path


TTL_S: Final = 20.0
ROUND_S: Final = 0.5
ENTRY: Final = "AAA entry"
ACCOUNT: Final = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(50_000))


class Waiting:
    """A broker at which an entry stays as it is, in this state; it reports no end of a cancelled order."""

    capabilities = BrokerCapabilities()

    def __init__(self, state: OrderState, clock: ManualClock) -> None:
        self.cancels: list[tuple[str, float]] = []
        self._state = state
        self._clock = clock
        self._events: list[BrokerEvent] = []

    async def connect(self) -> Account:
        """Log in."""
        return ACCOUNT

    async def account(self) -> Account:
        """The money."""
        return ACCOUNT

    async def submit(self, order: Order, permit: Permit) -> None:
        """Accept an order, fill a part of an entry, report nothing, or let the request time out."""
        permit.redeem()
        cid = order.client_order_id
        if cid == ENTRY and self._state is OrderState.UNKNOWN:
            raise OutcomeUnknown(f"{cid}: time-out")
        if cid == ENTRY and self._state is OrderState.SENDING:
            return
        self._events.append(BrokerEvent(kind=BrokerEventKind.ACKNOWLEDGED, event_id=f"new {cid}", client_order_id=cid))
        if cid == ENTRY and self._state is OrderState.PARTIALLY_FILLED:
            part = fill(order, "100", "3")
            event = BrokerEvent(kind=BrokerEventKind.FILL, event_id="fill", client_order_id=cid, fill=part)
            self._events.append(event)

    async def cancel(self, client_order_id: str) -> None:
        """Record the request."""
        self.cancels.append((client_order_id, self._clock.monotonic()))

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Ignore the request."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call."""
        events, self._events = self._events, []
        return events

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The account cannot be read."""
        raise Unavailable(f"no reading since {since}")

    async def close(self) -> None:
        """Log out."""


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


@pytest.mark.parametrize("state", [OrderState.SENDING, OrderState.NEW, OrderState.PARTIALLY_FILLED, OrderState.UNKNOWN])
def test_an_entry_past_its_time_is_cancelled_in_each_state(tmp_path: Path, state: OrderState) -> None:
    """Reported or not, filled in part or of unknown outcome: its cancel is requested after ENTRY_TTL, not before."""
    clock = ManualClock(session().open)
    broker = Waiting(state, clock)
    desk = DecisionEngine(rules(venue=broker.capabilities), session(), atoms_of(Decimal(100_000)), name)
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        account = BrokerAccount(broker=broker, name="waiting", account_id="A1")
        execution = ExecutionEngine(JournalRecorder(journal=journal, clock=clock), account, desk)
        asyncio.run(execution.execute(MinuteCommands(decisions=desk.decide([proposal()]))))
        sent = clock.monotonic()
        post = BrokerSession(name="waiting", decision_engine=desk, execution=execution)
        supervisor = BrokerSupervisor(post, TradingState(), TTL_S)
        asyncio.run(supervisor.reconcile())
        assert execution.tickets[ENTRY].state is state
        while clock.monotonic() < sent + TTL_S + 2 * ROUND_S:
            asyncio.run(clock.sleep(ROUND_S))
            asyncio.run(supervisor.process_broker_events())
            asyncio.run(supervisor.run_once())
    assert [cid for cid, _ in broker.cancels] == [ENTRY]
    ((_, at),) = broker.cancels
    assert TTL_S < at - sent <= TTL_S + ROUND_S
