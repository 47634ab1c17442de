"""Resends orders that could not be sent: a refused connection leaves a position without stop or exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.execution.intents import MinuteCommands

if TYPE_CHECKING:
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.model.clock import Clock

FIRST_S: Final = 0.5
MOST_S: Final = 4.0
"""The delay after failed attempts starts at FIRST_S and doubles up to MOST_S."""

BROKEN_S: Final = 15.0
"""After a break of this length a reading must show first what is held: others may have closed it meanwhile."""


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
            self._delay_s = min(max(FIRST_S, 2 * self._delay_s), MOST_S)
            self._due = now + self._delay_s
            if now >= self._broken_at + BROKEN_S:
                position_manager.unsent_orders.await_reading(now)
            position_manager.unsent_orders.release(barred=False)
            await self._broker_session.execution.execute(MinuteCommands(actions=position_manager.orders_due_now()))
