"""When a stop has been carried out, so that its session may end; the wait for the next minute ends with it.

A stop that keeps positions leaves none on its way: what is being sent or taken back is waited for, so that each one is
left with the stop that it should have. That takes API_TIMEOUT at most; whoever sends the signal kills soon.

What an order that has ended filled besides may be told late. So a reading of the account has the last word, for which
is waited no longer either.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.requests import RequestHandler
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.clock import Clock


_AGAIN_S: Final = 2.0


class _Witness:
    # Knows of one broker whether its account was read since its last order ended.

    def __init__(self, keeper: BrokerSupervisor, clock: Clock) -> None:
        self.post, self._tender = keeper.broker_session, keeper.reconciler
        self._clock = clock
        self._ended, self._since = 0, datetime.min.replace(tzinfo=UTC)
        self._hurried = -_AGAIN_S

    def look(self) -> None:
        # Called often: a moment in which orders had ended.
        if self.post.ended_orders != self._ended:
            self._ended, self._since = self.post.ended_orders, self._clock.now()

    def ask(self) -> None:
        # Have the account read soon, where that is still to be done; one that cannot be read is not pressed.
        now = self._clock.monotonic()
        if not self._seen and now - self._hurried >= _AGAIN_S:
            self._hurried = now
            self._tender.read_soon()

    @property
    def sure(self) -> bool:
        # Whether nothing more is to be heard of orders that have ended.
        return self._seen and not self.post.has_lookups

    @property
    def _seen(self) -> bool:
        read_at = self._tender.read_at
        return not self.post.ended_orders or (
            self.post.ended_orders == self._ended and read_at is not None and read_at >= self._since
        )


class Shutdown:
    """Knows of one session whether a stop has been carried out; whoever looks at that often rings its `bell` then.

    `ended`: for its sake no further minute was waited for. With `relief` somebody else goes on with the session, unless
    a stop is under way; `relieved` says that it has ended so.
    """

    def __init__(
        self, requests: RequestHandler, keepers: Sequence[BrokerSupervisor], clock: Clock, timeout_s: float
    ) -> None:
        self._requests = requests
        self._witnesses = [_Witness(keeper, clock) for keeper in keepers]
        self._clock = clock
        self._timeout_s = timeout_s
        self._kept_at: float | None = None
        self._quiet_at: float | None = None
        self.bell, self.ended = asyncio.Event(), False
        self.hand_over = self.handed_over = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is held or worked any more, or positions are to be kept and nothing is on its way.

        A reading of each account that began when the last order had ended says so, or none came in time.
        """
        if not self._requests.is_stopping:
            return self.hand_over
        if self._quiet and (self._late(self._quiet_at) or all(one.sure for one in self._witnesses)):
            return True
        return self._requests.keeps_positions and self._late(self._kept_at)

    def check(self) -> bool:
        """Called often: whether it is over by now."""
        quiet = self._requests.is_stopping and self._quiet
        self._kept_at = self._since(self._kept_at, on=self._requests.keeps_positions)
        self._quiet_at = self._since(self._quiet_at, on=quiet)
        for one in self._witnesses:
            one.look()
            if quiet:
                one.ask()
        return self.is_over

    def finish_if_over(self) -> bool:
        """Whether it is over; from then on no further minute is waited for."""
        over = self.is_over
        if over:
            self._end()
        return over

    async def next_minute(self, minutes: AsyncIterator[MinuteSlice]) -> MinuteSlice | None:
        """The next of the minutes; None behind the last one, and as soon as it is over.

        Why it is over is decided in that moment: what is asked after it is for whoever goes on.
        """
        if self.finish_if_over():
            return None
        coming = asyncio.ensure_future(anext(minutes, None))
        try:
            while not (coming.done() or self.is_over):
                self.bell.clear()
                called = asyncio.ensure_future(self.bell.wait())
                try:
                    await asyncio.wait({coming, called}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    called.cancel()
            if coming.done():
                return coming.result()
            self._end()
            return None
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    def _end(self) -> None:
        self.ended, self.handed_over = True, not self._requests.is_stopping

    @property
    def _quiet(self) -> bool:
        # Whether nothing is to be waited for, as far as was told.
        posts = [one.post for one in self._witnesses]
        return all(post.is_idle for post in posts) or (
            self._requests.keeps_positions and all(post.is_settled for post in posts)
        )

    def _since(self, before: float | None, *, on: bool) -> float | None:
        # Since when something is so.
        if not on:
            return None
        return self._clock.monotonic() if before is None else before

    def _late(self, since: float | None) -> bool:
        # Whether something has been waited for long enough.
        return since is not None and self._clock.monotonic() - since >= self._timeout_s
