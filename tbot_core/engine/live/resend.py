"""Sends once more what could not be sent: a refused connection leaves a position with neither stop nor exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.execution.intents import MinuteCommands

if TYPE_CHECKING:
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.model.clock import Clock

FIRST_S: Final = 0.5
MOST_S: Final = 10.0
"""The pauses after tries that fail begin with half a second, and double up to this."""


class Resender:
    """Tries again at one broker; `tend` is called about twice a second."""

    def __init__(self, post: BrokerSession, clock: Clock) -> None:
        self._post = post
        self._clock = clock
        self._pause_s = self._due = 0.0

    async def run_once(self) -> None:
        """One round: what waits is sent at once, then after pauses, which spare a broker that goes on refusing."""
        custody, now = self._post.decision_engine.position_manager, self._clock.monotonic()
        if not custody.unsent_orders.has_waiting:
            self._pause_s = self._due = 0.0
        elif now >= self._due:
            self._pause_s = min(max(FIRST_S, 2 * self._pause_s), MOST_S)
            self._due = now + self._pause_s
            custody.unsent_orders.release(barred=False)
            await self._post.execution.execute(MinuteCommands(actions=custody.orders_due_now()))
