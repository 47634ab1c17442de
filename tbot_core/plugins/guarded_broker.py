"""Guards calls into broker and feed plugins: what one raises or wrongly returns becomes a `BrokerError` with its name.

An account that is not that of the run's mode is refused: by what the broker reports, never by a flag alone.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal, localcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, get_args

from tbot_core.contracts import (
    Bar,
    Broker,
    BrokerCapabilities,
    BrokerEvent,
    DailyBar,
    Feed,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    FeedRequest,
    FeedSession,
    Gap,
    LiveSession,
    Permit,
    ReportsLeftOut,
    Split,
    SupportsSplits,
)
from tbot_core.errors import AccountRefused, BrokerError, DataError, OutcomeUnknown, PluginError, TbotError, Unavailable
from tbot_core.model.calendar import Session
from tbot_core.model.formatting import one_line
from tbot_core.plugins.broker_calls import BROKER_CALLS, CAPABILITIES, CLOSE, CONNECT, SUBMIT, Answer, BrokerCall
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.network.request_limits import ON_SEND
from tbot_core.plugins.number_bounds import COUNT, AnswerType, FigureOutOfBounds, many, mapping, one
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, raise_own
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from tbot_core.model.types import Account, Order
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo

_REMEDY: Final = "`tbot plugins info` shows its last failure."

_log = log.logger(__name__)

_FEED_ANSWERS: Final[Mapping[str, AnswerType]] = {
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

_ANSWERS: Final[Mapping[str, AnswerType]] = {
    **{call.method: call.answer for call in BROKER_CALLS if call.answer is not None},
    **_FEED_ANSWERS,
}
"""What each call or property of a broker or feed must return; the answers of others are ignored."""

FEED_CALLS: Final = frozenset(
    {"feed", "sessions", "messages", "daily", "history", "splits", "market_caps", "vix_close", "vix_now"}
)
"""The calls that supply data; the others concern the account."""

_MARKET_DATA: Final = frozenset({"messages", "daily", "history"})
"""The calls whose bars and quotes are left out one by one where a figure is out of bounds."""

_STORE = "`tbot secrets set broker` stores other credentials."


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


def guard_broker(entry: EntryPointInfo, made: Any, guard: CallGuard, *, live: bool | None = None) -> BrokerGuard | None:
    """The guard of a broker; None for a venue that fills from bars in a simulation, which its faults end.

    `live`: whether the run's mode is live or paper; None where no account is traded.

    Raises PluginError for an object without valid capabilities.
    """
    try:
        with localcontext():
            capabilities = CAPABILITIES.checked(made.capabilities)
    except BaseException as fault:
        assert_failure(fault)
        raise PluginError(PluginFailure.of(entry, "create", fault).sentence, _REMEDY) from fault
    if capabilities.simulated and guard.strict:
        return None
    return BrokerGuard(made, capabilities, _PluginCalls(entry, guard), live=live)


class BrokerGuard:
    """The border of one broker plugin: its failures are BrokerErrors, and its account is of the run's mode."""

    def __init__(
        self, plugin: Broker, capabilities: BrokerCapabilities, calls: _PluginCalls, *, live: bool | None
    ) -> None:
        self._plugin: Any = plugin
        self._live = live
        self._connected = False
        self._capabilities = capabilities
        self._calls = calls

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The capabilities of the broker; the last known ones if the plugin fails."""
        with suppress(BrokerError):  # which is reported
            self._capabilities = self._calls.read("capabilities", lambda: self._plugin.capabilities)
        return self._capabilities

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead; unknown if the plugin fails."""
        try:
            offsets: Sequence[float] = self._calls.read("clock_ahead_s", lambda: self._plugin.clock_ahead_s)
        except BrokerError:  # which is reported
            return ()
        return offsets

    async def ask(self, call: BrokerCall[Answer], *arguments: Any) -> Answer:
        """The answer of a call; raises AccountRefused for an account of another mode."""
        if call is SUBMIT:
            await self._submit(*arguments)
            return cast("Answer", None)
        if call is CLOSE:
            self._connected = False
        answer = await self._calls.answer(call.method, lambda: getattr(self._plugin, call.method)(*arguments))
        if call is CONNECT:
            self._connected = True
        if call.account_of is not None and self._live is not None:
            fault = account_mode_error(call.account_of(answer), self._calls.name, live=self._live)
            if fault is not None:
                raise fault
        return cast("Answer", answer)

    async def connect_for_data(self) -> None:
        """Log in for data alone, once: whose account it is does not matter."""
        if not self._connected:
            await self._calls.answer("connect", lambda: self._plugin.connect())  # noqa: PLW0108  -- the call may fail too
            self._connected = True

    def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The broker's order events."""
        return self._calls.items("events", lambda: self._plugin.events())  # noqa: PLW0108  -- the call may fail too

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request; the plugin's own faults of a request pass: they name what is missing."""
        feed: Feed = self._calls.read("feed", lambda: self._plugin.feed(request), TbotError)
        return GuardedFeed(feed, self._calls, self.connect_for_data)

    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        """Have a venue that fills from bars keep its account in this file."""
        self._calls.read("keep_books", partial(self._plugin.keep_books, path, cash))

    def show(self, name: str, *arguments: object) -> None:
        """Call a method of a venue that fills from bars.

        A failure is reported and ends no session: orders and events say the rest.
        """
        try:
            with self._calls.mark(name), localcontext():
                getattr(self._plugin, name)(*arguments)
        except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
            assert_failure(fault)
            self._calls.failed(name, fault)

    async def _submit(self, order: Order, permit: Permit) -> None:
        # Once its permit was redeemed, a failure leaves the outcome unknown.
        observed = _ObservedPermit(permit)
        before = ON_SEND.set(observed.mark_sent)
        try:
            await self._calls.answer("submit", partial(self._plugin.submit, order, observed), observed)
        finally:
            ON_SEND.reset(before)
        if not observed.redeemed:
            fault = PluginError("it sent an order without redeeming its permit")
            raise self._calls.failed("submit", fault, sent=True)


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


def account_mode_error(account: Account, broker: str, *, live: bool) -> AccountRefused | None:
    """Why a run in live mode, or on paper, may not trade the account; None if it may.

    Live needs an account that is reported as live money, with evidence. Paper refuses one that is.
    """
    name = f"the account {account.account_id} at {broker}"
    if not live:
        if not account.live:
            return None
        words = f"The mode is paper, but {name} holds live money ({account.evidence or 'the broker reports it'})."
        return AccountRefused(words, f"Set mode=live in the broker's section and arm, or use a paper account: {_STORE}")
    if account.live is None or not account.evidence.strip():
        return AccountRefused(
            f"Live trading is refused: it is not known whether {name} holds live money.",
            "The plugin must report Account.live and Account.evidence (how it is known, such as the host it reached).",
        )
    if account.live:
        return None
    words = f"The mode is live, but {name} holds no live money ({account.evidence})."
    return AccountRefused(words, f"Set mode=paper in the broker's section, or use a live account: {_STORE}")


def _checked(name: str, answer: Any) -> Any:
    return _ANSWERS[name].checked(name, answer) if name in _ANSWERS else answer


class _PluginCalls:
    # The calls of one plugin.
    def __init__(self, entry: EntryPointInfo, guard: CallGuard) -> None:
        self.entry = entry
        self._guard = guard
        self.mark = guard.border(f"{entry.kind}/{entry.name}").mark
        self._left_out = 0
        self.name = entry.name

    def failed(self, name: str, fault: BaseException, *, sent: bool = False) -> BrokerError:
        # Report a failure; returns the error that the caller raises.
        words = self._guard.report_failure(self.entry, name, fault)
        kind = OutcomeUnknown if sent else Unavailable
        end = "" if words.endswith(".") else "."
        return kind(f"The plugin {self.entry.kind}/{self.entry.name} failed: {words}{end}", _REMEDY)

    def read(self, name: str, function: Callable[[], object], *passing: type[TbotError]) -> Any:
        # The answer of a call that does not wait.
        own: tuple[type[TbotError], ...] = (BrokerError, *passing)
        try:
            with self.mark(name), localcontext():
                return _checked(name, function())
        except own as fault:
            raise_own(fault, one_line)
        except BaseException as fault:
            assert_failure(fault)
            raise self.failed(name, fault) from fault

    async def answer(self, name: str, call: Callable[[], Awaitable[Any]], permit: _ObservedPermit | None = None) -> Any:
        # The answer of a call; `permit`: the one of the order that it sends.
        try:
            with localcontext():
                found = await self._steps(name, call)
                return self._sound(name, found) if name in _MARKET_DATA else _checked(name, found)
        except BrokerError as fault:
            raise_own(fault, one_line)
        except BaseException as fault:
            assert_failure(fault, awaited=True)
            if permit is not None and permit.fault is not None:
                raise permit.fault from fault
            raise self.failed(name, fault, sent=permit is not None and permit.used) from fault

    async def items(
        self, name: str, source: Callable[[], AsyncIterator[Any]], *passing: type[TbotError]
    ) -> AsyncIterator[Any]:
        # The checked items of an asynchronous iterator.
        own: tuple[type[TbotError], ...] = (BrokerError, *passing)
        iterator: AsyncIterator[Any] | None = None
        while True:
            try:
                with localcontext():  # for each item: between two of them the core computes
                    iterator = iterator or self._opened(name, source)
                    item = await self._steps(name, iterator.__anext__)
                if name not in _MARKET_DATA:
                    _checked(name, item)
                elif not self._is_sound(name, item):
                    continue
            except StopAsyncIteration:
                return
            except own as fault:
                raise_own(fault, one_line)
            except BaseException as fault:
                assert_failure(fault, awaited=True)
                raise self.failed(name, fault) from fault
            yield item

    async def _steps(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        # The unchecked answer of a call; each step of it is marked.
        mark = partial(self.mark, name)
        with mark():
            work = call()
        return await steps_within(None, work, mark)

    def _opened(self, name: str, source: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        with self.mark(name):
            return aiter(source())

    def _sound(self, name: str, found: Any) -> Any:
        # Bars without those of a figure out of bounds.
        try:
            return _checked(name, found)
        except FigureOutOfBounds:
            return [one for one in found if self._is_sound(name, [one])]

    def _is_sound(self, name: str, found: object) -> bool:
        # Whether no figure is out of bounds; if one is, it is left out: one bad print of a symbol ends no feed.
        try:
            _checked(name, found)
        except FigureOutOfBounds as fault:
            self._left_out += 1
            if self._left_out & (self._left_out - 1) == 0:  # the first, second, fourth: a feed may send many
                plugin = f"{self.entry.kind}/{self.name}"
                _log.warning("feed.left_out", plugin=plugin, call=name, reason=str(fault), times=self._left_out)
            return False
        return True


class _ObservedPermit:
    # A permit that knows whether it was redeemed, and a failure of the core while it was.
    def __init__(self, permit: Permit) -> None:
        self._permit = permit
        self.redeemed = self.sent = False
        self.fault: BaseException | None = None

    @property
    def used(self) -> bool:
        # Whether the order may have left, with its permit or without.
        return self.redeemed or self.sent

    def mark_sent(self) -> None:
        self.sent = True

    def redeem(self) -> None:
        try:
            self._permit.redeem()
        except BrokerError:
            raise
        except BaseException as fault:
            self.fault = fault
            raise
        self.redeemed = True


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
        bars: Sequence[Bar] = await self._calls.answer("history", lambda: self._inner.history(symbols, first, last))
        return bars

    async def splits(self, symbols: Sequence[str], first: date, last: date) -> Sequence[Split]:
        if not isinstance(self._inner, SupportsSplits):
            return ()
        inner: SupportsSplits = self._inner
        splits: Sequence[Split] = await self._calls.answer("splits", lambda: inner.splits(symbols, first, last))
        return splits
