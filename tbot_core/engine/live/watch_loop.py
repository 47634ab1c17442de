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

    def bell(self, due: Callable[[], bool]) -> asyncio.Event:
        """A bell that is rung with each look that finds something due."""
        self._calls.append((due, asyncio.Event()))
        return self._calls[-1][1]

    async def heed(self) -> None:
        """Obey what is asked, and nothing else: so much is done while the account has not been read yet."""
        self._requests.look(self._floor.folder)
        signals = self._floor.signals
        if signals.tell(self._requests.conditions):
            self._requests.signalled(flattens=signals.flattens)
        self._turning.pause(self._clock.monotonic())

    async def look(self) -> None:
        """One look at everything; it ends before anybody else has his turn."""
        for keeper in self._keepers:
            keeper.take_over()
        for sight in self._sights:
            sight()
        self._heed_stall()
        self._floor.room.tell(self._clock.monotonic(), *(keeper.conditions for keeper in self._keepers))
        await self.heed()
        for due, bell in self._calls:
            if due():
                bell.set()

    def _heed_stall(self) -> None:
        # A loop that stood still knows nothing of what happened meanwhile: exits only, until a clean reconcile.
        stood_s = self._turning.stood_s(self._clock.monotonic(), self._floor.watch_s)
        if stood_s:
            self._requests.conditions.begin(StateCause.STALLED, f"for {stood_s:.0f} s")
            self._requests.conditions.withdraw(StateCause.STALLED)
