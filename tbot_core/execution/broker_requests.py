"""Requests to a broker that may be repeated: readings, polls and cancels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from tbot_core.errors import BrokerError, Rejected
from tbot_core.journal.events.orders import RequestFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tbot_core.execution.broker_account import BrokerAccount
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.trading.risk.exposure import ExposureBook

Answer = TypeVar("Answer")


class BrokerRequests:
    """Repeats requests to one broker as its retry policy allows, and reports the results of readings."""

    def __init__(self, recorder: JournalRecorder, venue: Callable[[], BrokerAccount], exposure: ExposureBook) -> None:
        self._recorder = recorder
        self._venue = venue
        self._exposure = exposure
        self._unresponsive = False

    async def read(self, what: str, call: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The broker's answer; None if there is none: then entries are blocked."""
        try:
            answer = await self.with_retries(what, call)
        except BrokerError as fault:
            self._report(fault.message)
            return None
        self._report("")
        return answer

    async def with_retries(
        self, what: str, call: Callable[[], Awaitable[Answer]], cid: str | None = None, *, within_s: float = math.inf
    ) -> Answer:
        """Repeat a request as the retry policy allows; each failure is journaled, the last one raised.

        No attempt begins after `within_s`. After the policy's last one the broker gets one attempt per request, and
        failures are not journaled, until it answers.
        """
        until = self._recorder.clock.monotonic() + within_s
        waits = iter(()) if self._unresponsive else self._venue().retry_policy.delays()
        while True:
            try:
                answer = await call()
            except Rejected:
                raise
            except BrokerError as fault:
                if not self._unresponsive:
                    self._recorder.write(self._recorder.entry(RequestFailed(asked=what, words=fault.message), cid))
                wait = next(waits, None)
                self._unresponsive = wait is None
                if wait is None or self._recorder.clock.monotonic() + wait >= until:
                    raise
            else:
                self._unresponsive = False
                return answer
            await self._venue().retry_policy.sleep(wait)

    def _report(self, fault: str) -> None:
        on_read_result = self._venue().on_read_result
        if on_read_result is not None:
            on_read_result(fault)
        elif fault:
            self._exposure.mark_account_unknown(self._venue().retry_policy.retries)
