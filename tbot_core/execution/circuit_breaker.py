"""The circuit of a way to a broker: open while requests fail one after the other, closed again once it is proven.

What fails is the way: no answer, an answer without worth, too many requests. An order that was rejected has been
answered. Pure: moments are passed in.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import attrs

OPENS_AFTER: Final = 3
"""So many failures of one kind of request in a row open a circuit."""

PROVEN: Final = timedelta(seconds=60)
"""A way must have answered so long without a failure before its circuit closes."""


class CircuitState(StrEnum):
    """Whether a way is believed to hold: half-open while it answers again and is not proven."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class RequestKind(StrEnum):
    """The kinds of requests, which may fail without each other: a partition can leave readings and cut off orders."""

    STREAM = "stream"
    READING = "reading"
    TRADE = "trade"


@attrs.define(kw_only=True)
class CircuitBreaker:
    """One way's circuit; a break lasts from `since`, the first failure of those that opened it, until it is closed.

    Orders are not sent to try a way: where they alone fail, it is half-open again when none has failed for a minute.
    """

    state: CircuitState = CircuitState.CLOSED
    since: datetime | None = None
    _failures: dict[RequestKind, int] = attrs.field(factory=dict)
    _first: dict[RequestKind, datetime] = attrs.field(factory=dict)
    _last: datetime | None = None
    _good: datetime | None = None

    @property
    def closed(self) -> bool:
        """Whether the way is proven to hold."""
        return self.state is CircuitState.CLOSED

    def record_failure(self, request: RequestKind, now: datetime) -> None:
        """A request got no answer, or one without worth."""
        self._failures[request] = self._failures.get(request, 0) + 1
        self._last, first = now, self._first.setdefault(request, now)
        if self.state is CircuitState.HALF_OPEN:
            self.state = CircuitState.OPEN
        elif self.closed and self._failures[request] >= OPENS_AFTER:
            self.state, self.since = CircuitState.OPEN, first

    def record_answer(self, request: RequestKind, now: datetime) -> None:
        """A request was answered; the way is to be proven where nothing else fails."""
        self._failures.pop(request, None)
        self._first.pop(request, None)
        if self.state is CircuitState.OPEN and not self._failures:
            self.state, self._good = CircuitState.HALF_OPEN, now

    def close_if_proven(self, now: datetime, *, clean: bool) -> None:
        """Close what has held for its time; `clean`: the account was read since, and holds what it should."""
        trade = self._failures.keys() == {RequestKind.TRADE}
        if self.state is CircuitState.OPEN and trade and self._last is not None and now - self._last >= PROVEN:
            self.record_answer(RequestKind.TRADE, now)
        if self.state is CircuitState.HALF_OPEN and clean and self._good is not None and now - self._good >= PROVEN:
            self.state, self.since = CircuitState.CLOSED, None
