"""The connection to a live feed before the open: it tells a failed connection from a quiet one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Bar, DailyBar, FeedMessage, FeedQuality, LiveSession
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock

OPEN_TIMEOUT_S: Final = 15.0
"""A connection that has not failed for this long counts as established, with or without messages."""


class FeedConnection:
    """A live session, with the state of its connection."""

    def __init__(self, source: LiveSession, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._since: float | None = None
        self._received = False
        self._fault = ""

    @property
    def session(self) -> Session:
        """The exchange day."""
        return self._source.session

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that may be subscribed, sorted."""
        return self._source.symbols

    @property
    def quality(self) -> FeedQuality:
        """The declared quality of the feed."""
        return self._source.quality

    @property
    def is_connected(self) -> bool:
        """Whether it is connected: a message was received, or nothing failed for OPEN_TIMEOUT_S."""
        since = self._since
        return since is not None and (self._received or self._clock.monotonic() - since >= OPEN_TIMEOUT_S)

    @property
    def disconnect_reason(self) -> str:
        """Why it is not connected; "" if it is, and while nothing has failed yet."""
        return "" if self.is_connected or not self._fault else f"no connection to the feed: {self._fault}"

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The messages of the feed about these symbols."""
        self._since, self._received, failure = self._clock.monotonic(), False, ""
        try:
            async for one in self._source.messages(symbols):
                self._received = True
                yield one
            failure = "it was closed"
        except BrokerError as fault:
            failure = str(fault)
            raise
        finally:
            if failure or self.is_connected:
                self._fault = failure
            self._since = None

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        """The daily bars of these symbols."""
        return await self._source.daily(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """The bars of these symbols that start in [first, last)."""
        return await self._source.history(symbols, first, last)
