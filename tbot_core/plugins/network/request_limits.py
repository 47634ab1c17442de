"""Retries of requests, and the number of requests per minute that a vendor allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import Unavailable
from tbot_core.system import random

if TYPE_CHECKING:
    from tbot_core.model.clock import Clock

_FIRST_S: Final = 0.5
CYCLE_S: Final = 10.0
"""The upper bound of the total delay of one request's retries: a later answer is too late for its minute."""


async def _at_once(_seconds: float) -> None:
    # Do not wait.
    pass


@attrs.frozen(kw_only=True, eq=False)
class RetryPolicy:
    """The retries of a request; `retries` is API_RETRY_LIMIT, `jitter` (0 to 1) spreads the delays of many bots."""

    retries: int = 0
    sleep: Callable[[float], Awaitable[None]] = _at_once
    jitter: Callable[[], float] = attrs.field(factory=lambda: random.generator(0).random)

    def delays(self) -> Iterator[float]:
        """The seconds before each retry: doubled each time, from at most half a second on."""
        longest, left = _FIRST_S, CYCLE_S
        for _ in range(self.retries):
            wait = longest * (0.5 + self.jitter() / 2)
            longest, left = 2 * longest, left - wait
            if left < 0:
                return
            yield wait


class RequestPriority(IntEnum):
    """The priority of a request when the rate limit is nearly reached.

    `PROTECTION`: a stop, an exit, a cancel. `LOOKUP`: what a position waits for. `ENTRY`, `READING`: all others.
    """

    PROTECTION = 0
    LOOKUP = 1
    ENTRY = 2
    READING = 3


PRIORITY: ContextVar[RequestPriority] = ContextVar("request_priority", default=RequestPriority.READING)
"""The priority of the requests that the present call of a plugin sends; the core sets it around the call."""


def _ignored() -> None:
    pass


ON_SEND: ContextVar[Callable[[], None]] = ContextVar("on_send", default=_ignored)
"""Called when the first byte of a sending leaves; the core sets it around the sending of an order."""


_RATE: Final = 0.7
_BURST: Final = 0.15
_RESERVED_SHARE: Final = {
    RequestPriority.PROTECTION: 0.0,
    RequestPriority.LOOKUP: 0.15,
    RequestPriority.ENTRY: 0.3,
    RequestPriority.READING: 0.5,
}
_LEAST_S: Final = 0.001
_MINUTE_S: Final = 60.0
_MAX_WAIT_S: Final = {
    RequestPriority.PROTECTION: float("inf"),
    RequestPriority.LOOKUP: float("inf"),
    RequestPriority.ENTRY: 1.0,
    RequestPriority.READING: CYCLE_S,
}


class RequestBudget:
    """A token bucket of requests: at most 85 % of the broker's limit in any minute, 15 % of the limit at once.

    It begins full, so that a restart protects what is held at once: with what the last process sent within the same
    minute that is at most the limit. Lower priorities leave a part of the bucket: look-ups 15 %, entries 30 %, readings
    half.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._tokens = float("inf")  # as much as it holds
        self._paused_until, self._remedy = now, ""
        self._reported: tuple[int, float] | None = None

    def available(self, per_minute: int, now: float) -> int:
        """The number of requests that could be sent now, 0 in a pause; nothing is spent."""
        if self.paused_s(now):
            return 0
        return int(min(max(1.0, per_minute * _BURST), self._tokens + (now - self._at) * per_minute * _RATE / 60))

    def note_reported(self, left: int, now: float) -> None:
        """Note how many requests the vendor says are left of its limit."""
        self._reported = (left, now)

    def reported(self, now: float) -> int | None:
        """How many requests were left as the vendor last said; None if it said nothing within a minute."""
        left, at = self._reported or (None, 0.0)
        return left if now - at < _MINUTE_S else None

    def paused_s(self, now: float) -> float:
        """The seconds that are left of a pause, 0 without one."""
        return max(0.0, self._paused_until - now)

    def back_off(self, seconds: float, now: float, remedy: str = "") -> None:
        """Pause for so many seconds at the broker's request; entries and readings wait, and name the `remedy`."""
        self._paused_until, self._remedy = max(self._paused_until, now + seconds), remedy

    def reserve(self, priority: RequestPriority, per_minute: int, now: float, weight: int = 1) -> float:
        """Seconds until a request may be sent; 0: now, and it is spent. `per_minute` 0: no limit.

        `weight` is the number of requests that the vendor counts; more than the bucket holds are paid for afterwards.
        """
        paused = 0.0 if priority <= RequestPriority.LOOKUP else self.paused_s(now)
        if not per_minute:
            return paused
        burst, rate = max(1.0, per_minute * _BURST), per_minute * _RATE / 60
        self._tokens = min(burst, self._tokens + (now - self._at) * rate)
        self._at = now
        first = min(float(weight), burst)
        missing = first + (burst - first) * _RESERVED_SHARE[priority] - self._tokens
        if paused or missing > 1e-9:
            return max(paused, missing / rate)
        self._tokens -= weight
        return 0.0

    async def wait_turn(
        self, clock: Clock, priority: RequestPriority, per_minute: int, what: str, *, weight: int = 1
    ) -> None:
        """Wait until the request may be sent, and spend it; `what` names it.

        Protective requests and look-ups wait as long as needed. Raises Unavailable where an entry would wait for more
        than one second, or a reading for more than `CYCLE_S` and the time of two requests.
        """
        longest = _MAX_WAIT_S[priority]
        if priority is RequestPriority.READING and per_minute:
            longest = max(longest, 120 / per_minute)  # a low limit allows nothing sooner
        latest = clock.monotonic() + longest
        while wait := self.reserve(priority, per_minute, now := clock.monotonic(), weight):
            if now + wait > latest:
                words = f"{what} was not {'requested' if priority is RequestPriority.READING else 'sent'}"
                paused = self._paused_until > now
                allowed = "the broker asked for a pause" if paused else f"{per_minute} requests per minute are allowed"
                message = f"{words}: {allowed}, and the wait would be {wait:.1f} s."
                raise Unavailable(message, self._remedy if paused else "", retry_after_s=wait)
            await clock.sleep(max(wait, _LEAST_S))
