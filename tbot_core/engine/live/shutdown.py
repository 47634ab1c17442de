"""Carries out a stop: it closes all positions if requested, and decides when the session may end.

The end of the session also ends the wait for a minute. Closing starts at once, on the last closed minute; each later
minute repeats unsent orders.

A stop that keeps positions waits for requests in progress, so that each position has its stop order. It waits at most
API_TIMEOUT, because the sender of a signal kills the process soon after.

The last fills of an ended order may be reported late. So an account reading is awaited too, within the same limit.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tbot_core.engine.live.data_guard import out_of_hours
from tbot_core.execution.intents import MinuteCommands

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.requests import RequestHandler
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.clock import Clock

_READ_INTERVAL_S: Final = 2.0


class _BrokerStatus:
    # Whether the account of one broker was read since its last order ended.

    def __init__(self, supervisor: BrokerSupervisor, clock: Clock) -> None:
        self.broker_session, self._reconciler = supervisor.broker_session, supervisor.reconciler
        self._clock = clock
        self._ended, self._since = 0, datetime.min.replace(tzinfo=UTC)
        self._requested_at = -_READ_INTERVAL_S

    def update(self) -> None:
        # Called often: note when orders ended.
        if self.broker_session.ended_orders != self._ended:
            self._ended, self._since = self.broker_session.ended_orders, self._clock.now()

    def request_read(self) -> None:
        # Request an account reading if it is still needed, at most every few seconds.
        now = self._clock.monotonic()
        if not self._read_since_end and now - self._requested_at >= _READ_INTERVAL_S:
            self._requested_at = now
            self._reconciler.read_soon()

    @property
    def is_complete(self) -> bool:
        # Whether the fills of all ended orders are known.
        return self._read_since_end and not self.broker_session.has_lookups

    @property
    def _read_since_end(self) -> bool:
        read_at = self._reconciler.read_at
        return not self.broker_session.ended_orders or (
            self.broker_session.ended_orders == self._ended and read_at is not None and read_at >= self._since
        )


class Shutdown:
    """Knows whether a stop of one session has been carried out.

    `event_when` returns an event that is set when a condition, checked often, holds. `ended`: it ended the wait for
    minutes; `handed_over`: it ended by `hand_over`.
    """

    def __init__(
        self,
        requests: RequestHandler,
        supervisors: Sequence[BrokerSupervisor],
        clock: Clock,
        timeout_s: float,
        event_when: Callable[[Callable[[], bool]], asyncio.Event],
    ) -> None:
        self._requests = requests
        self._brokers = [_BrokerStatus(supervisor, clock) for supervisor in supervisors]
        self._clock = clock
        self._timeout_s = timeout_s
        self._kept_at: float | None = None
        self._quiet_at: float | None = None
        self._over_event = event_when(self.check)
        self.ended = self._hands_over = self.handed_over = False

    def hand_over(self) -> None:
        """End, since another object will continue the session; a pending stop is carried out first."""
        self._hands_over = True

    @property
    def is_over(self) -> bool:
        """Whether no position or working order is left, or positions are kept and no request is in progress.

        It needs an account reading that began after the last order ended, or the time limit.
        """
        if not self._requests.is_stopping:
            return self._hands_over
        if self._quiet and (self._late(self._quiet_at) or all(one.is_complete for one in self._brokers)):
            return True
        return self._requests.keeps_positions and self._late(self._kept_at)

    def check(self) -> bool:
        """Whether it is over by now; called often."""
        quiet = self._requests.is_stopping and self._quiet
        self._kept_at = self._since(self._kept_at, on=self._requests.keeps_positions)
        self._quiet_at = self._since(self._quiet_at, on=quiet)
        for one in self._brokers:
            one.update()
            if quiet:
                one.request_read()
        return self.is_over

    def finish_if_over(self) -> bool:
        """Whether it is over; if so, no further minute is awaited."""
        over = self.is_over
        if over:
            self._end()
        return over

    async def next_minute(self, minutes: AsyncIterator[MinuteSlice]) -> MinuteSlice | None:
        """The next minute; None after the last one, and as soon as it is over.

        Whether it ends by stop or hand-over is decided then; later requests are left to the next session.
        """
        if self.finish_if_over():
            return None
        pending = asyncio.ensure_future(anext(minutes, None))
        try:
            while not (pending.done() or self.is_over):
                self._over_event.clear()
                checked = asyncio.ensure_future(self._over_event.wait())
                try:
                    await asyncio.wait({pending, checked}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    checked.cancel()
            if pending.done():
                return pending.result()
            self._end()
            return None
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)

    def _end(self) -> None:
        self.ended, self.handed_over = True, not self._requests.is_stopping

    @property
    def _quiet(self) -> bool:
        # Whether no order needs to be awaited, as far as reported.
        broker_sessions = [one.broker_session for one in self._brokers]
        return all(broker_session.is_idle for broker_session in broker_sessions) or (
            self._requests.keeps_positions and all(broker_session.is_settled for broker_session in broker_sessions)
        )

    def _since(self, before: float | None, *, on: bool) -> float | None:
        # Since when a condition holds.
        if not on:
            return None
        return self._clock.monotonic() if before is None else before

    def _late(self, since: float | None) -> bool:
        # Whether the time limit has passed.
        return since is not None and self._clock.monotonic() - since >= self._timeout_s


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
        self._broker_session.decision_engine.position_manager.exits.flatten(on=run.flattening)
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
