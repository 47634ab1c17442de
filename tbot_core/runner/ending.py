"""When a stop has been carried out, so that its session may end; the wait for the next minute ends with it.

A stop that keeps positions leaves none on its way: what is being sent or taken back is waited for, so that each one is
left with the stop that it should have. That takes API_TIMEOUT at most; whoever sends the signal kills soon.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from tbot_core.bars import Minute
    from tbot_core.clock import Clock
    from tbot_core.runner.posts import Post
    from tbot_core.runner.requests import Requests


class Ending:
    """Knows of one session whether a stop has been carried out; whoever looks at that often rings its `bell` then.

    `ended`: for its sake no further minute was waited for.
    """

    def __init__(self, requests: Requests, posts: Sequence[Post], clock: Clock, timeout_s: float) -> None:
        self._requests = requests
        self._posts = posts
        self._clock = clock
        self._timeout_s = timeout_s
        self._asked: float | None = None
        self.bell, self.ended = asyncio.Event(), False

    @property
    def over(self) -> bool:
        """Whether nothing is held or worked any more, or positions are to be kept and nothing is on its way."""
        if not self._requests.stopping:
            return False
        if all(post.at_rest for post in self._posts):
            return True
        return self._requests.keep and (self._late or all(post.settled for post in self._posts))

    def look(self) -> bool:
        """Called often: whether it is over by now."""
        if not self._requests.keep:
            self._asked = None
        elif self._asked is None:
            self._asked = self._clock.monotonic()
        return self.over

    async def next(self, minutes: AsyncIterator[Minute]) -> Minute | None:
        """The next of the minutes; None behind the last one, and as soon as it is over."""
        self.ended = self.over
        if self.ended:
            return None
        coming = asyncio.ensure_future(anext(minutes, None))
        try:
            while not (coming.done() or self.over):
                self.bell.clear()
                called = asyncio.ensure_future(self.bell.wait())
                try:
                    await asyncio.wait({coming, called}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    called.cancel()
            self.ended = not coming.done()
            return None if self.ended else coming.result()
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    @property
    def _late(self) -> bool:
        # Whether what is on its way has been waited for long enough.
        return self._asked is not None and self._clock.monotonic() - self._asked >= self._timeout_s
