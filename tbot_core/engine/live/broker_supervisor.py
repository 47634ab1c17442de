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
        self.post = post
        self._session: TradingStateController | None = None
        self._others: tuple[BrokerSupervisor, ...] = ()
        self._clock = clock
        self._ttl_s = ttl_s
        self._silences = 0
        self._absent, self._knock_at = post.execution.venue.absent, 0.0
        self._read, self._reading_since = False, clock.monotonic()
        self._asked: dict[str, tuple[int, float]] = {}
        self._withdrawn: set[str] = set()
        post.desk.standing.troubles, post.desk.standing.unread = {}, True
        self.conditions = TradingStateController(post.execution.recorder, self._impose, states, self._own)
        self.tender = Reconciler(post.execution, post.desk, clock, self.conditions, since)
        self._resending = Resender(post, clock)
        self._login = LoginMonitor(post.execution.venue, self.conditions)
        self.maintained = MaintenanceMonitor(post.execution.venue.broker, self.conditions, clock)
        self.tender.announced = lambda: self.maintained.now is not None

    @property
    def state(self) -> RiskState:
        """The risk state here."""
        session = RiskState.NORMAL if self._session is None else self._session.state
        return max(self.conditions.here, session)

    def lead(self, others: Sequence[BrokerSupervisor]) -> None:
        """What is the matter with the session binds the other brokers too; of their own accounts, each its own."""
        self._others = tuple(others)
        for one in others:
            one.follow(self.conditions)
        self._impose(self.conditions.here)

    def follow(self, session: TradingStateController) -> None:
        """Let what is the matter with the session count here, now and whenever it has changed."""
        self._session = session
        self._impose(self.conditions.here)

    def objection(self, order: Order, *, flattening: bool) -> str:
        """Why an order may not be sent here now: a frozen symbol, the risk state, or a position that changes."""
        frozen = self.post.desk.standing.frozen.get(order.symbol)
        if frozen is not None and order.leg in {Leg.ENTRY, Leg.EXIT}:
            return f"frozen: {frozen}"
        if self.post.desk.standing.unruled.get(order.symbol):
            return "its instrument rules are being requested"
        barred = order.leg is Leg.ENTRY and self.state >= RiskState.EXIT_ONLY
        waits = order.leg is Leg.EXIT and self.state is RiskState.HALTED
        if barred or (waits and not (flattening or order.reason in STOPS)):
            return f"{self.state.word}: {self._gravest.value}"
        if order.tops_up and self.state >= RiskState.DEFENSE:
            return Reason.DEFENSE.sentence
        return self.post.desk.custody.topping.objection(order)

    async def reconcile(self) -> None:
        """Before anything else the account is read; until that has worked once, nothing is entered."""
        self.conditions.begin(StateCause.UNRECONCILED)
        self._reading_since = self._clock.monotonic()
        await self.tender.read()
        self._read = True
        self._know()

    async def settle(self) -> None:
        """Take what the broker has said; beside the first reading of the account only where that takes long."""
        if self._read or self._takes_long:
            await self.post.execution.settle()

    async def tend(self) -> None:
        """One round, called about twice a second: what never left, doubts, the account, entries that have waited.

        Beside a first reading of the account that takes long: what never left, and entries for a kill or a stop.
        """
        if not self._read:
            if self._takes_long and not self._absent:
                await self._resending.tend()
                await self._withdraw_asked()
            return
        if self._absent and not await self._log_in():
            return
        await self._resending.tend()
        await self.tender.tend()
        await self._login.tend()
        await self.maintained.tend()
        self._know()
        self.conditions.expire()
        execution = self.post.execution
        old = [
            cid
            for cid in self.post.desk.standing.working
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
            await self.post.execution.venue.broker.connect()
        except BrokerError as fault:
            _log.warning("broker.not_logged_in", broker=self.post.name, reason=fault.message)
            return False
        self._absent = False
        return True

    def takes_back(self) -> bool:
        """Whether working entries must be cancelled because of the risk state, and were not yet."""
        return self.state >= RiskState.EXIT_ONLY and bool(self._waiting)

    async def withdraw(self) -> None:
        """Cancel every working entry, each once; what stays is requested again when it is old."""
        entries = self._waiting if self.state >= RiskState.EXIT_ONLY else []
        self._withdrawn.update(entries)
        await self._withdraw(entries)

    async def _withdraw_asked(self) -> None:
        # That the account has not been read yet takes no entry back while it may still be found as it should be.
        asked = (self._session or self.conditions).everywhere
        if KILLS_AND_STOPS.intersection(asked):
            await self.withdraw()

    def see(self, silence: str) -> None:
        """A reading failed, or one succeeded; three failures in a row leave exits only."""
        self._silences = self._silences + 1 if silence else 0
        if self._silences >= _UNREACHABLE and self.maintained.now is None:
            self.conditions.begin(StateCause.UNREACHABLE, silence)
        elif not silence:
            self.conditions.withdraw(StateCause.UNREACHABLE)

    def take_over(self) -> None:
        """Make causes of what leaves exits only: each lasts until the account has been found clean for its time."""
        self._login.look()
        self.maintained.look()
        troubles = self.post.desk.standing.troubles or {}
        for cause, words in troubles.items():
            self.conditions.begin(cause, words)
            self.conditions.withdraw(cause)
        troubles.clear()

    @property
    def _takes_long(self) -> bool:
        # Whether the first reading does.
        return self._clock.monotonic() - self._reading_since >= _LONG_S

    @property
    def _gravest(self) -> StateCause:
        # What the state is for: the matter of this account, or of the session where that is graver.
        if self._session is not None and self._session.state > self.conditions.here:
            return self._session.everywhere[0]
        return self.conditions.causes[0]

    @property
    def _waiting(self) -> list[str]:
        return [cid for cid in self.post.desk.standing.working if cid not in self._withdrawn]

    def _own(self) -> RiskState:
        return self.post.desk.standing.own

    def _impose(self, here: RiskState) -> None:
        session = RiskState.NORMAL if self._session is None else self._session.state
        self.post.desk.standing.imposed = max(here, session)
        for one in self._others:
            one.follow(self.conditions)

    def _know(self) -> None:
        if self.tender.believed:
            self.conditions.withdraw(StateCause.UNRECONCILED)
            self.post.desk.standing.unread = False

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
            await self.post.execution.carry_out(MinuteCommands(actions=cancels))
