"""Supervises one broker of a session: its orders, its account and its maintenance, and the causes that they raise.

Orders that could not be sent are sent again: a refused connection leaves a position without stop or exit. During an
announced maintenance there are exits only, and no alarm for missing responses.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.abilities import MAINTENANCE
from tbot_core.engine.session.broker_login import LoginMonitor
from tbot_core.errors import BrokerError
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.reconciler import LEAST_WINDOW_S, OPEN_ORDERS_S, Reconciler
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, OrderState, RiskState
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.exit_plan import STOPS
from tbot_core.trading.orders import WORKING
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import KILLS_AND_STOPS, StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tbot_core.contracts import Broker, MaintenanceWindow
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order
    from tbot_core.trading.risk.states import TradingState

RESEND_FIRST_S: Final = 0.5
RESEND_MOST_S: Final = 4.0
"""The delay after failed attempts starts at RESEND_FIRST_S and doubles up to RESEND_MOST_S."""

BROKEN_S: Final = 15.0
"""After a break of this length a reading must show first what is held: others may have closed it meanwhile."""

MAINTENANCE_POLL_S: Final = 600.0
MAINTENANCE_LEAD: Final = timedelta(minutes=2)
"""Entries are blocked for this long before maintenance begins, so that orders are settled by then."""

_UNREACHABLE: Final = 3
_RETRY_S: Final = 2.0
_MAX_RETRY_S: Final = 60.0
_LOGIN_RETRY_S: Final = 5.0
_SLOW_READ_S: Final = 0.5
_STOP_CHECK_S: Final = 0.5
_log = log.logger(__name__)


class BrokerSupervisor:
    """Supervises one broker of a session; `trading_state` holds its causes. Entries are cancelled after `ttl_s`.

    `splits`: the operator's list of splits, None for none.
    """

    def __init__(
        self, broker_session: BrokerSession, past_state: TradingState, ttl_s: float, splits: Path | None = None
    ) -> None:
        self.broker_session = broker_session
        self._session: TradingStateController | None = None
        self._others: tuple[BrokerSupervisor, ...] = ()
        self._clock = clock = broker_session.execution.recorder.clock
        self._ttl_s = ttl_s
        self._failed_reads = 0
        self._not_logged_in, self._login_at = broker_session.execution.venue.not_logged_in, 0.0
        self._read, self._reading_since = False, clock.monotonic()
        self._cancelled: set[str] = set()
        broker_session.is_awaited = not broker_session.journal_tag
        exposure = broker_session.decision_engine.exposure
        exposure.blocking_causes, exposure.account_unread = {}, True
        self.trading_state = TradingStateController(
            broker_session.execution.recorder, self._impose, past_state, self._own_state
        )
        self.maintenance = MaintenanceMonitor(broker_session.execution.venue.broker, self.trading_state, clock)
        self.reconciler = Reconciler(
            broker_session.execution,
            broker_session.decision_engine,
            self.trading_state,
            splits,
            lambda: self.maintenance.current is not None,
        )
        self._resender = Resender(broker_session, clock)
        self._login = LoginMonitor(broker_session.execution.venue, self.trading_state)

    @property
    def state(self) -> RiskState:
        """The risk state at this broker."""
        session = RiskState.NORMAL if self._session is None else self._session.state
        return max(self.trading_state.local_state, session)

    def share_state_with(self, others: Sequence[BrokerSupervisor]) -> None:
        """Apply the causes of the session to the other brokers too; causes of an account stay with its broker."""
        self._others = tuple(others)
        for one in others:
            one.apply_session_state(self.trading_state)
        self._impose(self.trading_state.local_state)

    def apply_session_state(self, session: TradingStateController) -> None:
        """Apply the session's state here; called again after each change."""
        self._session = session
        self._impose(self.trading_state.local_state)

    def denial_reason(self, order: Order, *, flattening: bool) -> str:
        """Why an order may not be sent here now: a frozen symbol, the risk state, or a position that changes."""
        holds = self.broker_session.decision_engine.exposure.holds
        if holds.has(order.symbol, Hold.FROZEN) and order.leg in {Leg.ENTRY, Leg.EXIT}:
            return f"frozen: {holds.words(order.symbol, Hold.FROZEN)}"
        if holds.has(order.symbol, Hold.RULES_REQUESTED):
            return "its instrument rules are being requested"
        if closed := self.broker_session.execution.rejections.denial_reason(order):
            return closed
        blocked = order.leg is Leg.ENTRY and self.state >= RiskState.EXIT_ONLY
        waits = order.leg is Leg.EXIT and self.state is RiskState.HALTED
        if blocked or (waits and not (flattening or order.reason in STOPS)):
            return f"{self.state.word}: {self._main_cause.value}"
        if order.tops_up and self.state >= RiskState.DEFENSE:
            return Reason.DEFENSE.sentence
        return self.broker_session.decision_engine.position_manager.top_ups.denial_reason(order)

    async def reconcile(self) -> None:
        """Read the account first; entries are blocked until one reading has succeeded."""
        self.trading_state.raise_cause(StateCause.UNRECONCILED)
        self._reading_since = self._clock.monotonic()
        if self.broker_session.execution.venue.broker.capabilities.simulated:
            await self.broker_session.execution.process_broker_events()  # it reports again what a restart may not know
        await self.reconciler.read()
        self._read = self.broker_session.is_awaited = True
        self._on_account_read()

    async def process_broker_events(self) -> None:
        """Process the broker's events; during the first account reading only if that is slow."""
        if self._read or self._is_slow_read:
            await self.broker_session.execution.process_broker_events()

    async def run_once(self) -> None:
        """One round, about twice a second: unsent orders, unknown orders, the account, and expired entries.

        During a slow first reading of the account: unsent orders, and entries to cancel for a kill or a stop.
        """
        if not self._read:
            if self._is_slow_read and not self._not_logged_in:
                await self._resender.run_once()
                await self._cancel_for_stop()
            return
        if self._not_logged_in and not await self._log_in():
            return
        await self._resender.run_once()
        await self.reconciler.run_once()
        await self._login.retry()
        await self.maintenance.poll()
        self._on_account_read()
        self.trading_state.expire_causes()
        execution = self.broker_session.execution
        old = [
            cid
            for cid in self.broker_session.decision_engine.exposure.working
            if execution.age(execution.tickets[cid]) > self._ttl_s
            and execution.tickets[cid].state is not OrderState.LOST
        ]
        await self._cancel([cid for cid in old if self._may_cancel(cid)])
        await self._repeat_cancels()

    async def _repeat_cancels(self) -> None:
        # A request may be lost: what a position waits for is cancelled again.
        tickets = self.broker_session.execution.tickets
        awaited = self.broker_session.decision_engine.position_manager.awaited_cancels
        if awaited and not self.broker_session.execution.venue.broker.capabilities.simulated:
            working = [cid for cid in awaited if tickets[cid].state in WORKING]
            await self._cancel([cid for cid in working if self._may_cancel(cid, is_repeated=True)])

    def should_settle_orders(self) -> bool:
        """Whether an order that leaves a position bare is to be settled, which must not wait for a slow reading."""
        return self._read and not self._not_logged_in and self.reconciler.must_settle()

    async def settle_orders(self) -> None:
        """Settle the orders that leave a position bare."""
        await self.reconciler.settle_due()

    async def close_account(self, is_stopping: Callable[[], bool]) -> bool:
        """Read the account at the end of the day; a failed reading is repeated for up to `LEAST_WINDOW_S`.

        Returns False if a stop ended that before a reading succeeded.
        """
        until = self._clock.monotonic() + LEAST_WINDOW_S
        while not await self.reconciler.close() and self._clock.monotonic() < until:
            again_at = self._clock.monotonic() + OPEN_ORDERS_S
            while self._clock.monotonic() < again_at:
                if is_stopping():
                    return False
                await self._clock.sleep(_STOP_CHECK_S)
        return True

    async def _log_in(self) -> bool:
        # Retry a failed login every few seconds; returns whether it succeeded.
        now = self._clock.monotonic()
        if now < self._login_at:
            return False
        self._login_at = now + _LOGIN_RETRY_S
        try:
            await self.broker_session.execution.venue.broker.connect()
        except BrokerError as fault:
            _log.warning("broker.not_logged_in", broker=self.broker_session.name, reason=fault.message)
            return False
        self._not_logged_in = False
        return True

    def should_cancel_entries(self) -> bool:
        """Whether working entries must be cancelled because of the risk state, and were not yet."""
        return self.state >= RiskState.EXIT_ONLY and bool(self._uncancelled)

    async def cancel_entries(self) -> None:
        """Cancel every working entry, each once; what stays is requested again when it is old."""
        entries = self._uncancelled if self.state >= RiskState.EXIT_ONLY else []
        self._cancelled.update(entries)
        await self._cancel(entries)

    async def _cancel_for_stop(self) -> None:
        # An account that has not been read yet is no reason to cancel entries.
        causes = (self._session or self.trading_state).shared_causes
        if KILLS_AND_STOPS.intersection(causes):
            await self.cancel_entries()

    def record_read_result(self, fault_text: str) -> None:
        """Count a failed reading, or reset the count with ""; three failures in a row leave exits only."""
        self._failed_reads = self._failed_reads + 1 if fault_text else 0
        if self._failed_reads >= _UNREACHABLE and self.maintenance.current is None:
            self.trading_state.raise_cause(StateCause.UNREACHABLE, fault_text)
        elif not fault_text:
            self.trading_state.clear_cause(StateCause.UNREACHABLE)

    def raise_causes(self) -> None:
        """Raise the causes that leave exits only; each lasts until the account was clean for the required time."""
        self._login.update_cause()
        self.maintenance.update_cause()
        blocking = self.broker_session.decision_engine.exposure.blocking_causes or {}
        for cause, words in blocking.items():
            self.trading_state.raise_cause(cause, words)
            self.trading_state.clear_cause(cause)
        blocking.clear()

    @property
    def _is_slow_read(self) -> bool:
        # Whether the first account reading is slow.
        return self._clock.monotonic() - self._reading_since >= _SLOW_READ_S

    @property
    def _main_cause(self) -> StateCause:
        # The cause of the state: of this account, or of the session if that is more severe.
        if self._session is not None and self._session.state > self.trading_state.local_state:
            return self._session.shared_causes[0]
        return self.trading_state.causes[0]

    @property
    def _uncancelled(self) -> list[str]:
        return [cid for cid in self.broker_session.decision_engine.exposure.working if cid not in self._cancelled]

    def _own_state(self) -> RiskState:
        return self.broker_session.decision_engine.exposure.own_state

    def _impose(self, local: RiskState) -> None:
        session = RiskState.NORMAL if self._session is None else self._session.state
        self.broker_session.decision_engine.exposure.imposed_state = max(local, session)
        for one in self._others:
            one.apply_session_state(self.trading_state)

    def _on_account_read(self) -> None:
        if self.reconciler.has_read_account:
            self.trading_state.clear_cause(StateCause.UNRECONCILED)
            self.broker_session.decision_engine.exposure.account_unread = False

    def _may_cancel(self, cid: str, *, is_repeated: bool = False) -> bool:
        # Whether a cancel may be requested: the delay doubles each time, up to a minute. `is_repeated`: it was
        # requested elsewhere before.
        now, ticket = self._clock.monotonic(), self.broker_session.execution.tickets[cid]
        if ticket.next_cancel_at is None:
            ticket.next_cancel_at = now + _RETRY_S if is_repeated else now
        if ticket.next_cancel_at > now:
            return False
        ticket.next_cancel_at = now + min(_RETRY_S * 2**ticket.cancels, _MAX_RETRY_S)
        ticket.cancels += 1
        return True

    async def _cancel(self, entries: Sequence[str]) -> None:
        cancels = [CancelOrder(client_order_id=cid) for cid in entries]
        if cancels:
            await self.broker_session.execution.execute(MinuteCommands(actions=cancels))


class Resender:
    """Resends at one broker; call `run_once` about twice a second."""

    def __init__(self, broker_session: BrokerSession, clock: Clock) -> None:
        self._broker_session = broker_session
        self._clock = clock
        self._delay_s = self._due = 0.0
        self._broken_at: float | None = None

    async def run_once(self) -> None:
        """One round: send waiting orders at once, then with growing delays while the broker refuses."""
        position_manager, now = self._broker_session.decision_engine.position_manager, self._clock.monotonic()
        if not position_manager.unsent_orders.has_waiting:
            self._delay_s, self._due, self._broken_at = 0.0, 0.0, None
        elif now >= self._due:
            self._broken_at = now if self._broken_at is None else self._broken_at
            self._delay_s = min(max(RESEND_FIRST_S, 2 * self._delay_s), RESEND_MOST_S)
            self._due = now + self._delay_s
            if now >= self._broken_at + BROKEN_S:
                position_manager.unsent_orders.await_reading(now)
            position_manager.unsent_orders.release(barred=False)
            await self._broker_session.execution.execute(MinuteCommands(actions=position_manager.orders_due_now()))


class MaintenanceMonitor:
    """The announcements of one broker of a session, and whether one applies now."""

    def __init__(self, broker: Broker, trading_state: TradingStateController, clock: Clock) -> None:
        self._source = MAINTENANCE.of(broker)
        self._trading_state = trading_state
        self._clock = clock
        self._announced: Sequence[MaintenanceWindow] = ()
        self._poll_at = 0.0

    @property
    def current(self) -> MaintenanceWindow | None:
        """The announced period that applies now, including the minutes before it."""
        now = self._clock.now()
        return next((one for one in self._announced if one.begins - MAINTENANCE_LEAD <= now < one.ends), None)

    def update_cause(self) -> None:
        """Raise the cause, and clear it when the period is over."""
        found = self.current
        words = "" if found is None else f"until {found.ends:%H:%M} UTC{found.words and ': '}{found.words}"
        self._trading_state.set_cause(StateCause.MAINTENANCE, words)

    async def poll(self) -> None:
        """Request the announcements if due; the last ones apply until then."""
        now = self._clock.monotonic()
        if self._source is None or now < self._poll_at or self.current is not None:
            return
        self._poll_at = now + MAINTENANCE_POLL_S
        try:
            self._announced = await self._source.maintenance()
        except BrokerError as fault:
            _log.warning("maintenance.not_read", reason=fault.message)
        self.update_cause()
