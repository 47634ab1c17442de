"""What a session has from before a restart: its state by the journal, and the orders of the current minute.

At a venue that fills from bars, these orders are repeated: there a repeated client order id changes nothing, and an
order fills on the next bar at the earliest. So a restart within the minute loses no order. At any other venue an order
in flight is looked up, and never sent again.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, cast

import attrs

from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.engine.session.recovery import SessionRecovery, recorded_failures
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal.projection import project
from tbot_core.model.types import Leg, Order, OrderState
from tbot_core.plugins import hung_plugins
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.live.data_guard import DataGuard
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.projection import Projection
    from tbot_core.journal.store import Event
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.trading.portfolio import CarriedPosition


@attrs.frozen
class _Unsent:
    broker_session: BrokerSession
    orders: list[Order]
    requests: list[CancelOrder | ReplaceOrder]


class SessionRestart:
    """Restores one session from its events `past`, and its positions `carried` from earlier ones."""

    def __init__(
        self, run: TradingSession, past: Sequence[Event], carried: Sequence[CarriedPosition], clock: Clock
    ) -> None:
        self._run = run
        self._past = past
        self._carried = carried
        self._clock = clock
        self._unsent: list[_Unsent] = []

    def restore(
        self,
        supervisors: Sequence[BrokerSupervisor],
        config: LiveConfig,
        data_guard: DataGuard | None,
        call_guard: CallGuard,
    ) -> None:
        """Restore books, orders, decisions, halts, and the failures of plugins."""
        run = self._run
        rows = {symbol: row for row, symbol in enumerate(run.books.symbols)}
        recoveries = [SessionRecovery(one.decision_engine, one.execution, rows) for one in run.broker_sessions]
        for broker, one in product(run.broker_sessions, self._carried):
            if one.account == broker.account_id:
                broker.decision_engine.position_manager.recovery.restore_position(one, rows.get(one.signal.symbol))
        project(
            self._past, *cast("list[Projection]", recoveries)
        )  # in journal order: the brokers share counts of trades
        for supervisor, found in zip(supervisors, recoveries, strict=True):
            self._resolve_open_orders(supervisor.broker_session, found)
            run.decided |= found.decided
        run.decided |= run.confirmations.restore(self._past, rows)
        if data_guard is not None:
            data_guard.restore(self._past)
        call_guard.restore(recorded_failures(self._past))
        if config.lost is not None:
            noted = hung_plugins.failures_of_day(config.lost, self._clock.now(), run.session.date)
            call_guard.record_hung(noted)

    def _resolve_open_orders(self, broker_session: BrokerSession, recovery: SessionRecovery) -> None:
        if not broker_session.execution.venue.broker.capabilities.simulated:
            recovery.resolve_open_orders()
            return
        session = self._run.session
        orders = recovery.resolve_open_orders(session.moment(session.minute(self._clock.now())))
        self._unsent.append(_Unsent(broker_session, orders, recovery.unanswered_requests))

    async def repeat_orders(self) -> None:
        """Book what the venue reported meanwhile, and send the orders that it did not report; once."""
        found, self._unsent = self._unsent, []
        for unsent in found:
            execution = unsent.broker_session.execution
            await execution.process_broker_events()
            states = {one: execution.tickets[one.client_order_id].state for one in unsent.orders}
            recorded = [one for one, state in states.items() if state is OrderState.INTENDED]
            marked = execution.persist_intents(MinuteCommands(), recorded)
            orders = [one for one, state in states.items() if state is OrderState.SENDING or one in marked]
            orders.sort(key=lambda one: one.leg is Leg.ENTRY)
            requests = [one for one in unsent.requests if not execution.tickets[one.client_order_id].terminal]
            await execution.send(
                MinuteCommands(actions=[*requests, *(SubmitOrder(order=one) for one in orders)]), orders
            )
