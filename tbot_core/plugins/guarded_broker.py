"""Guards calls into broker and feed plugins: what one raises or wrongly returns becomes a `BrokerError` with its name.

A failure becomes `Unavailable`, after the permit of an order was redeemed `OutcomeUnknown`. `CallGuard` counts it.
"""

from __future__ import annotations

from decimal import localcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import BrokerError, OutcomeUnknown, PluginError, TbotError, Unavailable
from tbot_core.model.formatting import one_line
from tbot_core.plugins.account_mode import account_mode_error
from tbot_core.plugins.broker_answers import checked_answer
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded_feed import MARKET_DATA, GuardedFeed
from tbot_core.plugins.network.request_limits import ON_SEND
from tbot_core.plugins.number_bounds import FigureOutOfBounds
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, raise_own
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime
    from decimal import Decimal
    from pathlib import Path

    from tbot_core.contracts import (
        AccountSnapshot,
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        Feed,
        FeedRequest,
        Gap,
        Permit,
    )
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account, Order
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo

_REMEDY: Final = "`tbot plugins info` shows its last failure."
_log = log.logger(__name__)


def guard_broker(entry: EntryPointInfo, made: Any, guard: CallGuard, *, live: bool | None = None) -> Any:
    """The guarded broker; a venue that fills from bars is returned unchanged to a simulation, which its faults end.

    `live`: whether the run's mode is live or paper; None where no account is traded.

    Raises PluginError for an object without valid capabilities.
    """
    calls = _PluginCalls(entry, guard)
    try:
        with localcontext():
            capabilities: BrokerCapabilities = checked_answer("capabilities", made.capabilities)
    except BaseException as fault:
        assert_failure(fault)
        raise PluginError(PluginFailure.of(entry, "create", fault).sentence, _REMEDY) from fault
    if capabilities.simulated:
        return made if guard.strict else _GuardedVenue(made, capabilities, calls, live=live)
    return GuardedBroker(made, capabilities, calls, live=live)


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
                return checked_answer(name, function())
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
                return self._sound(name, found) if name in MARKET_DATA else checked_answer(name, found)
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
                    checked_answer(name, item)
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
            return checked_answer(name, found)
        except FigureOutOfBounds:
            return [one for one in found if self._is_sound(name, [one])]

    def _is_sound(self, name: str, found: object) -> bool:
        # Whether no figure is out of bounds; if one is, it is left out: one bad print of a symbol ends no feed.
        try:
            checked_answer(name, found)
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


def _asks(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    # The method that awaits an optional method of the plugin.
    async def method(self: GuardedBroker, *arguments: object) -> Any:
        return await self._answer(name, *arguments)

    return method


class GuardedBroker:
    """A broker plugin whose failures are BrokerErrors."""

    def __init__(
        self, inner: Broker, capabilities: BrokerCapabilities, calls: _PluginCalls, *, live: bool | None
    ) -> None:
        self._inner: Any = inner
        self._live = live
        self._connected = False
        self._capabilities = capabilities
        self._calls = calls

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The capabilities of the broker; the last known ones if the plugin fails."""
        try:
            self._capabilities = self._calls.read("capabilities", lambda: self._inner.capabilities)
        except BrokerError:  # which is reported
            return self._capabilities
        return self._capabilities

    async def connect(self) -> Account:
        """Log in and return the account; raises AccountRefused for one of another mode."""
        found: Account = await self._answer("connect")
        self._connected = True
        return self._of_the_mode(found)

    async def connect_for_data(self) -> None:
        """Log in for data alone, once: whose account it is does not matter."""
        if not self._connected:
            await self._answer("connect")
            self._connected = True

    async def account(self) -> Account:
        """The current cash, equity and buying power."""
        found: Account = await self._answer("account")
        return self._of_the_mode(found)

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order; once its permit was redeemed, a failure leaves the outcome unknown."""
        observed = _ObservedPermit(permit)
        before = ON_SEND.set(observed.mark_sent)
        try:
            await self._calls.answer("submit", partial(self._inner.submit, order, observed), observed)
        finally:
            ON_SEND.reset(before)
        if not observed.redeemed:
            fault = PluginError("it sent an order without redeeming its permit")
            raise self._calls.failed("submit", fault, sent=True)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._answer("cancel", client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Replace a working order."""
        await self._answer("replace", client_order_id, order)

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account."""
        found: AccountSnapshot = await self._answer("snapshot", since)
        self._of_the_mode(found.account)
        return found

    async def close(self) -> None:
        """Log out."""
        self._connected = False
        await self._answer("close")

    def _of_the_mode(self, account: Account) -> Account:
        # The account, if it is one of the run's mode.
        fault = None if self._live is None else account_mode_error(account, self._calls.name, live=self._live)
        if fault is not None:
            raise fault
        return account

    async def _answer(self, name: str, *arguments: object) -> Any:
        return await self._calls.answer(name, lambda: getattr(self._inner, name)(*arguments))

    def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The broker's order events."""
        return self._calls.items("events", lambda: self._inner.events())  # noqa: PLW0108  -- the call may fail too

    poll = _asks("poll")
    find = _asks("find")
    open_orders = _asks("open_orders")
    instruments = _asks("instruments")
    maintenance = _asks("maintenance")
    hours = _asks("hours")
    prices = _asks("prices")
    vix_close = _asks("vix_close")
    vix_now = _asks("vix_now")
    market_caps = _asks("market_caps")

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead; unknown if the plugin fails."""
        try:
            found: Sequence[float] = self._calls.read("clock_ahead_s", lambda: self._inner.clock_ahead_s)
        except BrokerError:  # which is reported
            return ()
        return found

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request; the plugin's own faults of a request pass: they name what is missing."""
        feed: Feed = self._calls.read("feed", lambda: self._inner.feed(request), TbotError)
        return GuardedFeed(feed, self._calls, self.connect_for_data)


class _GuardedVenue(GuardedBroker):
    # A venue that fills from bars. What it is shown ends no session when it fails: the failure is reported, and orders
    # and events say the rest.
    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        self._calls.read("keep_books", partial(self._inner.keep_books, path, cash))

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        self._show("open_session", session, symbols, cash, partial_volume)

    def observe(self, minute: MinuteSlice) -> None:
        self._show("observe", minute)

    def close_session(self) -> None:
        self._show("close_session")

    def _show(self, name: str, *what: object) -> None:
        try:
            with self._calls.mark(name), localcontext():
                getattr(self._inner, name)(*what)
        except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
            assert_failure(fault)
            self._calls.failed(name, fault)
