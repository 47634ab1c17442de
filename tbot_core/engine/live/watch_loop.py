"""Polls the requests and the state of a session at its interval, also while broker requests are pending.

A round awaits no broker. Actions that need one are started by events and run in tasks of their own.
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
    """The watch loop of one session; `checks` run each round besides those of requests, disk and event loop."""

    def __init__(
        self,
        config: LiveConfig,
        clock: Clock,
        supervisors: Sequence[BrokerSupervisor],
        requests: RequestHandler,
        checks: Sequence[Callable[[], None]],
    ) -> None:
        self._config = config
        self._clock = clock
        self._supervisors = supervisors
        self._requests = requests
        self._checks = checks
        self._calls: list[tuple[Callable[[], bool], asyncio.Event]] = []
        self._loop_guard = LoopGuard(clock.monotonic())

    def event_when(self, due: Callable[[], bool]) -> asyncio.Event:
        """An event that is set in each round in which `due` is true."""
        self._calls.append((due, asyncio.Event()))
        return self._calls[-1][1]

    async def process_requests(self) -> None:
        """Execute pending requests only; used while the account has not been read yet."""
        self._requests.poll(self._config.folder)
        signals = self._config.signals
        if signals.raise_causes(self._requests.trading_state):
            self._requests.on_signal(flattens=signals.flattens)
        self._loop_guard.begin_pause(self._clock.monotonic())

    async def run_once(self) -> None:
        """Run one round; it does not yield to other tasks."""
        for supervisor in self._supervisors:
            supervisor.raise_causes()
        for check in self._checks:
            check()
        self._check_stall()
        self._config.disk_guard.update_causes(
            self._clock.monotonic(), *(supervisor.trading_state for supervisor in self._supervisors)
        )
        await self.process_requests()
        for due, event in self._calls:
            if due():
                event.set()

    def _check_stall(self) -> None:
        # Events of a stall were missed: exits only, until a clean reconciliation.
        stalled_s = self._loop_guard.stalled_s(self._clock.monotonic(), self._config.watch_s)
        if stalled_s:
            self._requests.trading_state.raise_cause(StateCause.STALLED, f"for {stalled_s:.0f} s")
            self._requests.trading_state.clear_cause(StateCause.STALLED)
