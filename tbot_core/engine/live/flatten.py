"""Closes all positions as soon as requested, on the last closed minute; each later minute repeats unsent orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.engine.live.data_guard import out_of_hours
from tbot_core.execution.intents import MinuteCommands

if TYPE_CHECKING:
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.clock import Clock


class PositionFlattener:
    """Starts to close the positions of one session at one broker."""

    def __init__(self, run: TradingSession, broker_session: BrokerSession, clock: Clock) -> None:
        self._run = run
        self._broker_session = broker_session
        self._clock = clock
        self._started = False

    def should_begin(self) -> bool:
        """Whether closing must begin now, true once per request; polled often.

        It waits while no order may be sent: the exit would be dropped after its stop was cancelled. A withdrawn request
        ends flattening.
        """
        run = self._run
        self._broker_session.decision_engine.position_manager.exits.flattening = run.flattening
        self._started &= run.flattening
        waits = self._broker_session.decision_engine.exposure.account_unread or out_of_hours(
            run.session, self._clock.now()
        )
        if self._started or waits or not (run.flattening and run.has_traded_minute):
            return False
        return run.routing is None or run.routing.is_responsive(self._broker_session)

    async def begin(self) -> None:
        """Close all positions.

        Repeating is safe: a pending cancel is not sent again, and an exit is placed once, when no other order works for
        its position.
        """
        self._started, run = True, self._run
        actions = run.orders_between_minutes(self._broker_session) if run.flattening else ()
        await self._broker_session.execution.execute(MinuteCommands(actions=actions))
