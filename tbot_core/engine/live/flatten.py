"""Closes all positions as soon as that is requested: on the last closed minute, without waiting for the next.

Each later minute repeats what has not been sent by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.engine.live.data_guard import out_of_hours
from tbot_core.execution.intents import MinuteCommands

if TYPE_CHECKING:
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.clock import Clock


class PositionFlattener:
    """Begins to close what one session holds at one of its brokers."""

    def __init__(self, run: TradingSession, post: BrokerSession, clock: Clock) -> None:
        self._run = run
        self._post = post
        self._clock = clock
        self._begun = False

    def should_begin(self) -> bool:
        """Called often: whether closing is to begin, which is so once each time that it is asked for.

        It waits while no order may leave: an exit would be dropped, and the stop that makes way for it is gone. Where
        it is asked for no more, nothing is closed for its sake from now on.
        """
        run = self._run
        self._post.decision_engine.position_manager.exits.flattening = run.flattening
        self._begun &= run.flattening
        waits = self._post.decision_engine.exposure.account_unread or out_of_hours(run.session, self._clock.now())
        if self._begun or waits or not (run.flattening and run.has_traded_minute):
            return False
        return run.routing is None or run.routing.is_responsive(self._post)

    async def begin(self) -> None:
        """Close what is held.

        What a minute asks for may be asked twice: a cancel that is on its way is not sent again, and an exit is placed
        once, when nothing else works for its position.
        """
        self._begun, run = True, self._run
        actions = run.orders_between_minutes(self._post) if run.flattening else ()
        await self._post.execution.execute(MinuteCommands(actions=actions))
