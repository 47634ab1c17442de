"""Guards calls into feed plugins: what one raises or wrongly returns becomes a `BrokerError` with its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, get_args

from tbot_core.contracts import (
    Bar,
    DailyBar,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    FeedSession,
    LiveSession,
    ReportsLeftOut,
    Split,
    SupportsSplits,
)
from tbot_core.errors import DataError
from tbot_core.model.calendar import Session
from tbot_core.plugins.answer_types import AnswerType, many, mapping, one
from tbot_core.plugins.number_bounds import COUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import date, datetime

    from tbot_core.contracts import Feed
    from tbot_core.errors import TbotError

FEED_CALLS: Final = frozenset(
    {"feed", "sessions", "messages", "daily", "history", "splits", "market_caps", "vix_close", "vix_now"}
)
"""The calls that supply data; the others concern the account."""

MARKET_DATA: Final = frozenset({"messages", "daily", "history"})
"""The calls whose bars and quotes are left out one by one where a figure is out of bounds."""


FEED_ANSWERS: Final[Mapping[str, AnswerType]] = {
    "label": one(FeedLabel),
    "sessions": one(LiveSession, FeedSession),
    "session": one(Session),
    "symbols": many(str, "a tuple of str"),
    "left_out": mapping(COUNT),
    "quality": one(FeedQuality),
    "messages": one(*get_args(FeedMessage), expected="a message of a feed"),
    "daily": many(DailyBar),
    "history": many(Bar),
    "splits": many(Split),
}
"""What each call or property of a feed must return."""


class GuardedCalls(Protocol):
    """The calls of one plugin, whose failures are reported and raised as BrokerErrors."""

    def read(self, name: str, function: Callable[[], object], *passing: type[TbotError]) -> Any:
        """The answer of a call that does not wait."""

    async def answer(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of a call."""

    def items(
        self, name: str, source: Callable[[], AsyncIterator[Any]], *passing: type[TbotError]
    ) -> AsyncIterator[Any]:
        """The checked items of an asynchronous iterator; errors of `passing` are raised unchanged."""


class GuardedFeed:
    """A feed plugin whose failures are BrokerErrors; `connect` logs in first, where nothing else has."""

    def __init__(self, inner: Feed, calls: GuardedCalls, connect: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._calls = calls
        self._connect = connect
        self.label: FeedLabel = calls.read("label", lambda: inner.label)

    async def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The requested sessions; a DataError says what is missing."""
        await self._connect()
        async for source in self._calls.items("sessions", self._inner.sessions, DataError):
            yield _GuardedLiveSession(source, self._calls) if isinstance(source, LiveSession) else source


class _GuardedLiveSession:
    # A live session whose description is read and checked once.
    def __init__(self, inner: Any, calls: GuardedCalls) -> None:
        self._inner = inner
        self._calls = calls
        self.session: Session = calls.read("session", lambda: inner.session)
        self.symbols: tuple[str, ...] = tuple(calls.read("symbols", lambda: inner.symbols))
        self.quality: FeedQuality = calls.read("quality", lambda: inner.quality)
        reports = isinstance(inner, ReportsLeftOut)
        self.left_out: Mapping[str, int] = calls.read("left_out", lambda: inner.left_out) if reports else {}

    def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        return self._calls.items("messages", lambda: self._inner.messages(symbols))

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        found: Sequence[DailyBar] = await self._calls.answer("daily", lambda: self._inner.daily(symbols, first, last))
        return found

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        found: Sequence[Bar] = await self._calls.answer("history", lambda: self._inner.history(symbols, first, last))
        return found

    async def splits(self, symbols: Sequence[str], first: date, last: date) -> Sequence[Split]:
        if not isinstance(self._inner, SupportsSplits):
            return ()
        inner: SupportsSplits = self._inner
        found: Sequence[Split] = await self._calls.answer("splits", lambda: inner.splits(symbols, first, last))
        return found
