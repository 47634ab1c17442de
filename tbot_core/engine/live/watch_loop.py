"""Looks at what is asked of a session and at what is the matter with it, as often as it should, whatever is unanswered.

Looking waits for nothing. Whoever has to talk to a broker because of what was seen is called, and waits by himself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tbot_core.engine.session.loop_guard import LoopGuard
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.config import LiveConfig
    from tbot_core.engine.session.requests import RequestHandler
    from tbot_core.model.clock import Clock


class WatchLoop:
    """Looks on behalf of one session; `sights` are looked at besides what is asked, the disk and the loop itself."""

    def __init__(
        self,
        floor: LiveConfig,
        clock: Clock,
        keepers: Sequence[BrokerSupervisor],
        requests: RequestHandler,
        sights: Sequence[Callable[[], None]],
    ) -> None:
        self._floor = floor
        self._clock = clock
        self._keepers = keepers
        self._requests = requests
        self._sights = sights
        self._calls: list[tuple[Callable[[], bool], asyncio.Event]] = []
        self._turning = LoopGuard(clock.monotonic())

    def event_when(self, due: Callable[[], bool]) -> asyncio.Event:
        """A bell that is rung with each look that finds something due."""
        self._calls.append((due, asyncio.Event()))
        return self._calls[-1][1]

    async def process_requests(self) -> None:
        """Obey what is asked, and nothing else: so much is done while the account has not been read yet."""
        self._requests.poll(self._floor.folder)
        signals = self._floor.signals
        if signals.raise_causes(self._requests.trading_state):
            self._requests.on_signal(flattens=signals.flattens)
        self._turning.begin_pause(self._clock.monotonic())

    async def run_once(self) -> None:
        """One look at everything; it ends before anybody else has his turn."""
        for keeper in self._keepers:
            keeper.raise_causes()
        for sight in self._sights:
            sight()
        self._heed_stall()
        self._floor.disk_guard.update_causes(
            self._clock.monotonic(), *(keeper.trading_state for keeper in self._keepers)
        )
        await self.process_requests()
        for due, bell in self._calls:
            if due():
                bell.set()

    def _heed_stall(self) -> None:
        # A loop that stood still knows nothing of what happened meanwhile: exits only, until a clean reconcile.
        stood_s = self._turning.stalled_s(self._clock.monotonic(), self._floor.watch_s)
        if stood_s:
            self._requests.trading_state.raise_cause(StateCause.STALLED, f"for {stood_s:.0f} s")
            self._requests.trading_state.clear_cause(StateCause.STALLED)
