"""Supervises one broker of a session: its orders and its account, and the state causes that they raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.engine.live.maintenance import MaintenanceMonitor
from tbot_core.engine.live.resend import Resender
from tbot_core.engine.session.broker_login import LoginMonitor
from tbot_core.errors import BrokerError
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.reconciler import Reconciler
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Leg, OrderState, RiskState
from tbot_core.system import log
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.exit_plan import STOPS
from tbot_core.trading.risk.states import KILLS_AND_STOPS, StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Order
    from tbot_core.trading.risk.states import TradingState

_UNREACHABLE: Final = 3
_AGAIN_S: Final = 2.0
_RARELY_S: Final = 60.0
_KNOCKS_S: Final = 5.0
_LONG_S: Final = 0.5
_log = log.logger(__name__)


class BrokerSupervisor:
    """Keeps one post of a session; the causes of what it finds are `conditions`. An entry may wait `ttl_s` seconds."""

    def __init__(self, post: BrokerSession, states: TradingState, clock: Clock, since: datetime, ttl_s: float) -> None:
        self.broker_session = post
        self._session: TradingStateController | None = None
        self._others: tuple[BrokerSupervisor, ...] = ()
        self._clock = clock
        self._ttl_s = ttl_s
        self._silences = 0
        self._absent, self._knock_at = post.execution.venue.not_logged_in, 0.0
        self._read, self._reading_since = False, clock.monotonic()
        self._asked: dict[str, tuple[int, float]] = {}
        self._withdrawn: set[str] = set()
        post.decision_engine.exposure.blocking_causes, post.decision_engine.exposure.account_unread = {}, True
        self.trading_state = TradingStateController(post.execution.recorder, self._impose, states, self._own)
        self.reconciler = Reconciler(post.execution, post.decision_engine, clock, self.trading_state, since)
        self._resending = Resender(post, clock)
        self._login = LoginMonitor(post.execution.venue, self.trading_state)
        self.maintenance = MaintenanceMonitor(post.execution.venue.broker, self.trading_state, clock)
        self.reconciler.is_maintenance = lambda: self.maintenance.current is not None

    @property
    def state(self) -> RiskState:
        """The risk state here."""
        session = RiskState.NORMAL if self._session is None else self._session.state
        return max(self.trading_state.local_state, session)

    def share_state_with(self, others: Sequence[BrokerSupervisor]) -> None:
        """What is the matter with the session binds the other brokers too; of their own accounts, each its own."""
        self._others = tuple(others)
        for one in others:
            one.apply_session_state(self.trading_state)
        self._impose(self.trading_state.local_state)

    def apply_session_state(self, session: TradingStateController) -> None:
        """Let what is the matter with the session count here, now and whenever it has changed."""
        self._session = session
        self._impose(self.trading_state.local_state)

    def denial_reason(self, order: Order, *, flattening: bool) -> str:
        """Why an order may not be sent here now: a frozen symbol, the risk state, or a position that changes."""
        frozen = self.broker_session.decision_engine.exposure.frozen.get(order.symbol)
        if frozen is not None and order.leg in {Leg.ENTRY, Leg.EXIT}:
            return f"frozen: {frozen}"
        if self.broker_session.decision_engine.exposure.rules_unknown.get(order.symbol):
            return "its instrument rules are being requested"
        barred = order.leg is Leg.ENTRY and self.state >= RiskState.EXIT_ONLY
        waits = order.leg is Leg.EXIT and self.state is RiskState.HALTED
        if barred or (waits and not (flattening or order.reason in STOPS)):
            return f"{self.state.word}: {self._gravest.value}"
        if order.tops_up and self.state >= RiskState.DEFENSE:
            return Reason.DEFENSE.sentence
        return self.broker_session.decision_engine.position_manager.top_ups.denial_reason(order)

    async def reconcile(self) -> None:
        """Before anything else the account is read; until that has worked once, nothing is entered."""
        self.trading_state.raise_cause(StateCause.UNRECONCILED)
        self._reading_since = self._clock.monotonic()
        await self.reconciler.read()
        self._read = True
        self._know()

    async def process_broker_events(self) -> None:
        """Take what the broker has said; beside the first reading of the account only where that takes long."""
        if self._read or self._takes_long:
            await self.broker_session.execution.process_broker_events()

    async def run_once(self) -> None:
        """One round, called about twice a second: what never left, doubts, the account, entries that have waited.

        Beside a first reading of the account that takes long: what never left, and entries for a kill or a stop.
        """
        if not self._read:
            if self._takes_long and not self._absent:
                await self._resending.run_once()
                await self._withdraw_asked()
            return
        if self._absent and not await self._log_in():
            return
        await self._resending.run_once()
        await self.reconciler.run_once()
        await self._login.retry()
        await self.maintenance.poll()
        self._know()
        self.trading_state.expire_causes()
        execution = self.broker_session.execution
        old = [
            cid
            for cid in self.broker_session.decision_engine.exposure.working
            if execution.age(cid) > self._ttl_s and execution.orders[cid].state is not OrderState.LOST
        ]
        await self._withdraw([cid for cid in old if self._may_ask(cid)])

    async def _log_in(self) -> bool:
        # Whether a broker that could not be logged in to has let us in; asked again every few seconds.
        now = self._clock.monotonic()
        if now < self._knock_at:
            return False
        self._knock_at = now + _KNOCKS_S
        try:
            await self.broker_session.execution.venue.broker.connect()
        except BrokerError as fault:
            _log.warning("broker.not_logged_in", broker=self.broker_session.name, reason=fault.message)
            return False
        self._absent = False
        return True

    def should_cancel_entries(self) -> bool:
        """Whether working entries must be cancelled because of the risk state, and were not yet."""
        return self.state >= RiskState.EXIT_ONLY and bool(self._waiting)

    async def cancel_entries(self) -> None:
        """Cancel every working entry, each once; what stays is requested again when it is old."""
        entries = self._waiting if self.state >= RiskState.EXIT_ONLY else []
        self._withdrawn.update(entries)
        await self._withdraw(entries)

    async def _withdraw_asked(self) -> None:
        # That the account has not been read yet takes no entry back while it may still be found as it should be.
        asked = (self._session or self.trading_state).shared_causes
        if KILLS_AND_STOPS.intersection(asked):
            await self.cancel_entries()

    def record_silence(self, silence: str) -> None:
        """A reading failed, or one succeeded; three failures in a row leave exits only."""
        self._silences = self._silences + 1 if silence else 0
        if self._silences >= _UNREACHABLE and self.maintenance.current is None:
            self.trading_state.raise_cause(StateCause.UNREACHABLE, silence)
        elif not silence:
            self.trading_state.clear_cause(StateCause.UNREACHABLE)

    def raise_causes(self) -> None:
        """Make causes of what leaves exits only: each lasts until the account has been found clean for its time."""
        self._login.update_cause()
        self.maintenance.update_cause()
        troubles = self.broker_session.decision_engine.exposure.blocking_causes or {}
        for cause, words in troubles.items():
            self.trading_state.raise_cause(cause, words)
            self.trading_state.clear_cause(cause)
        troubles.clear()

    @property
    def _takes_long(self) -> bool:
        # Whether the first reading does.
        return self._clock.monotonic() - self._reading_since >= _LONG_S

    @property
    def _gravest(self) -> StateCause:
        # What the state is for: the matter of this account, or of the session where that is graver.
        if self._session is not None and self._session.state > self.trading_state.local_state:
            return self._session.shared_causes[0]
        return self.trading_state.causes[0]

    @property
    def _waiting(self) -> list[str]:
        return [cid for cid in self.broker_session.decision_engine.exposure.working if cid not in self._withdrawn]

    def _own(self) -> RiskState:
        return self.broker_session.decision_engine.exposure.own_state

    def _impose(self, here: RiskState) -> None:
        session = RiskState.NORMAL if self._session is None else self._session.state
        self.broker_session.decision_engine.exposure.imposed_state = max(here, session)
        for one in self._others:
            one.apply_session_state(self.trading_state)

    def _know(self) -> None:
        if self.reconciler.has_read_account:
            self.trading_state.clear_cause(StateCause.UNRECONCILED)
            self.broker_session.decision_engine.exposure.account_unread = False

    def _may_ask(self, cid: str) -> bool:
        # Whether a cancel may be asked for again: each time twice as late as before, up to a minute.
        now = self._clock.monotonic()
        times, due = self._asked.get(cid, (0, 0.0))
        if due > now:
            return False
        self._asked[cid] = times + 1, now + min(_AGAIN_S * 2**times, _RARELY_S)
        return True

    async def _withdraw(self, entries: Sequence[str]) -> None:
        cancels = [CancelOrder(client_order_id=cid) for cid in entries]
        if cancels:
            await self.broker_session.execution.execute(MinuteCommands(actions=cancels))
