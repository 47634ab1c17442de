"""The circuit breaker of a connection to a broker: it opens after consecutive failures and closes after a test phase.

A failure is no answer, an invalid answer, or too many requests. A rejected order is an answer. Pure: times are
parameters.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

from tbot_core.plugins.broker_calls import RequestKind

OPENS_AFTER: Final = 3
"""Consecutive failures of one kind of request that open the circuit."""

PROVEN: Final = timedelta(seconds=60)
"""How long requests must succeed before the circuit closes."""


class CircuitState(StrEnum):
    """The state of a connection; half-open: it answers again, and the test phase is not over."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.define(kw_only=True)
class CircuitBreaker:
    """The circuit breaker of one connection; `since` is the first of the failures that opened it.

    Orders are not sent as tests: if only they fail, it becomes half-open after a minute without a failure.
    """

    state: CircuitState = CircuitState.CLOSED
    since: datetime | None = None
    _failures: dict[RequestKind, int] = attrs.field(factory=dict)
    _first: dict[RequestKind, datetime] = attrs.field(factory=dict)
    _last: datetime | None = None
    _answering_since: datetime | None = None

    @property
    def closed(self) -> bool:
        """Whether the circuit is closed: the connection works."""
        return self.state is CircuitState.CLOSED

    def restore(self, state: CircuitState, since: datetime | None) -> None:
        """Restore the state from before a restart; one that was not closed is not proven now, so it is open."""
        self.state, self.since = state if state is CircuitState.CLOSED else CircuitState.OPEN, since

    def record_failure(self, request: RequestKind, now: datetime) -> None:
        """Record a request without a valid answer."""
        self._failures[request] = self._failures.get(request, 0) + 1
        self._last, first = now, self._first.setdefault(request, now)
        if self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.OPEN
        elif self.closed and self._failures[request] >= OPENS_AFTER:
            self.state, self.since = CircuitState.OPEN, first

    def record_answer(self, request: RequestKind, now: datetime) -> None:
        """Record an answered request; the test phase starts if no other kind of request fails."""
        self._failures.pop(request, None)
        self._first.pop(request, None)
        if self.state is CircuitState.OPEN and not self._failures:
            self.state, self._answering_since = CircuitState.HALF_OPEN, now

    def close_if_proven(self, now: datetime, *, clean: bool) -> None:
        """Close the circuit if the test phase is over; `clean`: the account was read since and matches the books."""
        trade = self._failures.keys() == {RequestKind.TRADE}
        if self.state is CircuitState.OPEN and trade and self._last is not None and now - self._last >= PROVEN:
            self.record_answer(RequestKind.TRADE, now)
        if (
            self.state is CircuitState.HALF_OPEN
            and clean
            and self._answering_since is not None
            and now - self._answering_since >= PROVEN
        ):
            self.state, self.since = CircuitState.CLOSED, None
