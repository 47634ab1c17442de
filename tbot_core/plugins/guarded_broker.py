"""Guards calls into broker and feed plugins: what one raises or wrongly returns becomes a `BrokerError` with its name.

A failure becomes `Unavailable`, after the permit of an order was redeemed `OutcomeUnknown`. `CallGuard` counts it.
"""

from __future__ import annotations

from contextlib import suppress
from decimal import localcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from tbot_core.errors import BrokerError, OutcomeUnknown, PluginError, TbotError, Unavailable
from tbot_core.model.formatting import one_line
from tbot_core.plugins.account_mode import account_mode_error
from tbot_core.plugins.broker_calls import BROKER_CALLS, CAPABILITIES, CLOSE, CONNECT, SUBMIT, Answer, BrokerCall
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded_feed import FEED_ANSWERS, MARKET_DATA, GuardedFeed
from tbot_core.plugins.network.request_limits import ON_SEND
from tbot_core.plugins.number_bounds import FigureOutOfBounds
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, raise_own
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from decimal import Decimal
    from pathlib import Path

    from tbot_core.contracts import (
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        Feed,
        FeedRequest,
        Gap,
        Permit,
    )
    from tbot_core.model.types import Order
    from tbot_core.plugins.answer_types import AnswerType
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo

_REMEDY: Final = "`tbot plugins info` shows its last failure."
_log = log.logger(__name__)


ANSWERS: Final[Mapping[str, AnswerType]] = {
    **{call.method: call.answer for call in BROKER_CALLS if call.answer is not None},
    **FEED_ANSWERS,
}
"""What each call or property of a broker or feed must return; the answers of others are ignored."""


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


def _checked(name: str, answer: Any) -> Any:
    return ANSWERS[name].checked(name, answer) if name in ANSWERS else answer


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
                return self._sound(name, found) if name in MARKET_DATA else _checked(name, found)
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
                if name not in MARKET_DATA:
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
