"""Requests to a paper session: executed between two minutes, and repeated when the session is repeated.

At a simulated venue a minute's decisions are one step, so a request applies from the awaited minute on. A dry run
reacts only to its own signals.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tbot_core.engine.bootstrap import DRY_RUN
from tbot_core.engine.pacing import RunStopped
from tbot_core.engine.session.confirmations import CONFIRMATION_VERBS
from tbot_core.engine.session.requests import CARRIED_OUT, RequestHandler, request_of
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.trading_state import OVER, TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.model.types import RiskState
from tbot_core.trading.commands import CancelOrder
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.engine.run_plan import RunPlan
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import Event, Journal
    from tbot_core.model.clock import Clock

_KINDS: Final = frozenset({records.REQUEST, records.STATE})


class PaperRequestHandler:
    """Executes requests and signals for one session, and watches the disk; their sources are in the run's plan.

    `after`: the last event before the session; later requests are repeated in their original minutes. Missed minutes
    are traded without requests.
    """

    def __init__(self, session: TradingSession, journal: Journal, clock: Clock, plan: RunPlan, after: int) -> None:
        events = list(journal.events())
        self._session = session
        self._journal = journal
        self._clock = clock
        self._folder = None if plan.assembly.settings.mode == DRY_RUN else plan.assembly.settings.instance.control
        self._plan = plan
        self._to_repeat: defaultdict[int, list[Event]] = defaultdict(list)
        for event in events:
            if event.seq > after and event.kind in _KINDS:
                self._to_repeat[session.session.minute(event.applied)].append(event)
        self._cancelled: set[str] = set()
        states = recall_states(event for event in events if event.seq <= after)
        self.trading_state = TradingStateController(session.execution.recorder, self._impose, states, self._own_state)
        handlers = dict.fromkeys(CONFIRMATION_VERBS, session.confirmations.record_answer)
        self._requests = RequestHandler(
            session.execution.recorder, self.trading_state, session.flatten, events, handlers
        )
        self._requests.wall = plan.wall

    async def repeat_requests(self) -> None:
        """Repeat the requests of the current minute from before the interruption."""
        seq = 0
        for event in self._to_repeat.pop(self._minute, ()):
            if event.seq != seq + 1:  # events in between were effects
                await self._apply_effects()
            self._repeat(event)
            seq = event.seq
        await self._apply_effects()

    async def poll(self) -> None:
        """Execute pending requests; raises RunStopped when a stop has been carried out."""
        if self._journal.is_repeating or self._minute in self._session.late_minutes:
            return
        if self._plan.kill.is_set():
            self._plan.kill.clear()
            self.trading_state.raise_cause(StateCause.KILL_SIGNAL)
        if self._folder is not None:  # a dry run leaves the folder to the trading run
            self._requests.poll(self._folder)
        self._plan.disk_guard.update_causes(self._plan.wall.monotonic(), self.trading_state)
        self.trading_state.on_reconciled(clean=True)  # a simulated account is always known
        await self._apply_effects()
        idle = self._session.decision_engine.position_manager.is_idle
        if self._requests.is_stopping and (idle or self._requests.keeps_positions):
            self._requests.on_stop_done(kept=not idle)
            raise RunStopped

    async def begin_stop(self) -> bool:
        """Apply a signal that closes all positions and stops; returns False if none is open or all are being closed."""
        if self._session.decision_engine.position_manager.is_idle or self._session.flattening:
            return False
        self.trading_state.raise_cause(StateCause.STOP_SIGNAL)
        self._requests.on_signal(flattens=True)
        await self._cancel_entries()
        return True

    @property
    def _minute(self) -> int:
        return self._session.session.minute(self._clock.now())

    def _own_state(self) -> RiskState:
        return self._session.decision_engine.exposure.own_state

    def _impose(self, state: RiskState) -> None:
        self._session.decision_engine.exposure.imposed_state = state

    def _repeat(self, event: Event) -> None:
        # Repeat a request, or an effect that followed from no request.
        if event.kind == records.REQUEST:
            self._requests.execute(request_of(event.payload))
            return
        cause, words = StateCause[event.payload["cause"]], event.payload["words"]
        if words == CARRIED_OUT:
            self._requests.end_stop(cause)
        elif words == OVER:
            self.trading_state.expire_cause(cause)
        elif not event.payload["there"]:
            self.trading_state.clear_cause(cause, words)
        else:
            self.trading_state.raise_cause(cause, words)
            if cause is StateCause.STOP_SIGNAL:
                self._requests.on_signal(flattens=True)

    async def _apply_effects(self) -> None:
        # Carry out the effects of requests.
        await self._cancel_entries()
        await self._session.resolve_confirmations()

    async def _cancel_entries(self) -> None:
        # Cancel working entries once when entries are blocked.
        if self.trading_state.state < RiskState.EXIT_ONLY:
            return
        cids: Sequence[str] = [
            cid for cid in self._session.decision_engine.exposure.working if cid not in self._cancelled
        ]
        self._cancelled.update(cids)
        await self._session.execution.execute(
            MinuteCommands(actions=[CancelOrder(client_order_id=cid) for cid in cids])
        )
