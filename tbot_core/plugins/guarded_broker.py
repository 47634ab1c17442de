"""Guards calls into broker and feed plugins: what one raises or wrongly returns becomes a `BrokerError` with its name.

A failure becomes `Unavailable`, after the permit of an order was redeemed `OutcomeUnknown`. `CallGuard` counts it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    Instrument,
    MaintenanceWindow,
    OrderStatusReport,
    RejectionMeaning,
)
from tbot_core.errors import BrokerError, OutcomeUnknown, PluginError, TbotError, Unavailable
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account, Fill
from tbot_core.plugins.answer_checks import decimal_words
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded_feed import FEED_ANSWERS, GuardedFeed
from tbot_core.plugins.network.request_limits import ON_SEND
from tbot_core.system.foreign_faults import assert_failure, is_failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime

    from tbot_core.contracts import Broker, Feed, FeedRequest, Permit
    from tbot_core.model.types import Order
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo

_REMEDY: Final = "`tbot plugins info` shows its last failure."
_NUMBER: Final = int | float


def _one(*kinds: type | None) -> Callable[[object], bool]:
    known = tuple(type(None) if kind is None else kind for kind in kinds)
    return lambda answer: isinstance(answer, known)


def _many(kind: Any) -> Callable[[object], bool]:
    return lambda answer: isinstance(answer, list | tuple) and all(isinstance(part, kind) for part in answer)


def _is_snapshot(answer: object) -> bool:
    if not (isinstance(answer, AccountSnapshot) and isinstance(answer.account, Account)):
        return False
    parts: tuple[object, ...] = (answer.holdings, answer.orders, answer.activities, answer.fills)
    return all(isinstance(part, tuple) and all(map(attrs.has, map(type, part))) for part in parts)


def _is_event(answer: object) -> bool:
    return isinstance(answer, BrokerEvent) and isinstance(answer.fill, Fill | None)


def _is_events(answer: object) -> bool:
    return isinstance(answer, list | tuple) and all(map(_is_event, answer))


def _is_prices(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(isinstance(price, _NUMBER) for price in answer.values())


def _is_skews(answer: object) -> bool:
    return isinstance(answer, Sequence) and all(isinstance(skew, _NUMBER) for skew in answer)


_ANSWERS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "capabilities": (_one(BrokerCapabilities), "BrokerCapabilities"),
    "connect": (_one(Account), "Account"),
    "account": (_one(Account), "Account"),
    "poll": (_is_events, "a list of BrokerEvent"),
    "snapshot": (_is_snapshot, "AccountSnapshot"),
    "find": (_one(OrderStatusReport, None), "OrderStatusReport or None"),
    "meaning": (_one(RejectionMeaning, None), "RejectionMeaning or None"),
    "instrument": (_one(Instrument), "Instrument"),
    "maintenance": (_many(MaintenanceWindow), "a list of MaintenanceWindow"),
    "hours": (_one(Session, None), "Session or None"),
    "ahead_s": (_is_skews, "a list of numbers"),
    "prices": (_is_prices, "a mapping of numbers"),
    **FEED_ANSWERS,
}
"""The checks of what each call or property returns, and the expected type as text; other answers are ignored."""


def guard_broker(entry: EntryPointInfo, made: Any, guard: CallGuard) -> Any:
    """The guarded broker, with the optional protocols that the plugin has; a simulated venue is returned unchanged.

    Raises PluginError for an object without valid capabilities.
    """
    calls = _PluginCalls(entry, guard)
    try:
        capabilities: BrokerCapabilities = _checked("capabilities", made.capabilities)
    except BaseException as fault:
        assert_failure(fault)
        raise PluginError(PluginFailure.of(entry, "create", fault).sentence, _REMEDY) from fault
    if capabilities.simulated:
        return made
    optional = {name: part for name, part in _OPTIONAL.items() if _has(made, name)}
    return type(GuardedBroker.__name__, (GuardedBroker,), optional)(made, capabilities, calls)


class _PluginCalls:
    # The calls of one plugin.
    def __init__(self, entry: EntryPointInfo, guard: CallGuard) -> None:
        self._entry = entry
        self._guard = guard

    def failed(self, name: str, fault: BaseException, *, sent: bool = False) -> BrokerError:
        # Report a failure; returns the error that the caller raises.
        words = self._guard.report_failure(self._entry, name, fault)
        kind = OutcomeUnknown if sent else Unavailable
        return kind(f"The plugin {self._entry.kind}/{self._entry.name} failed: {words}.", _REMEDY)

    def read(self, name: str, function: Callable[[], object], *passing: type[TbotError]) -> Any:
        # The answer of a call that does not wait.
        try:
            return _checked(name, function())
        except BrokerError:
            raise
        except BaseException as fault:
            if isinstance(fault, passing) or not is_failure(fault):
                raise
            raise self.failed(name, fault) from fault

    async def answer(self, name: str, call: Callable[[], Awaitable[Any]], permit: _ObservedPermit | None = None) -> Any:
        # The answer of a call; `permit`: the one of the order that it sends.
        try:
            return _checked(name, await call())
        except BrokerError:
            raise
        except BaseException as fault:
            if _is_requested(fault):
                raise
            if permit is not None and permit.fault is not None:
                raise permit.fault from fault
            raise self.failed(name, fault, sent=permit is not None and permit.used) from fault

    async def items(
        self, name: str, source: Callable[[], AsyncIterator[Any]], *passing: type[TbotError]
    ) -> AsyncIterator[Any]:
        # The checked items of an asynchronous iterator.
        try:
            async for item in source():
                yield _checked(name, item)
        except BrokerError:
            raise
        except BaseException as fault:
            if isinstance(fault, passing) or _is_requested(fault):
                raise
            raise self.failed(name, fault) from fault


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


class GuardedBroker:
    """A broker plugin whose failures are BrokerErrors."""

    def __init__(self, inner: Broker, capabilities: BrokerCapabilities, calls: _PluginCalls) -> None:
        self._inner: Any = inner
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
        """Log in and return the account."""
        found: Account = await self._answer("connect")
        return found

    async def account(self) -> Account:
        """The current cash, equity and buying power."""
        found: Account = await self._answer("account")
        return found

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

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call."""
        found: Sequence[BrokerEvent] = await self._answer("poll")
        return found

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account."""
        found: AccountSnapshot = await self._answer("snapshot", since)
        return found

    async def close(self) -> None:
        """Log out."""
        await self._answer("close")

    async def _answer(self, name: str, *arguments: object) -> Any:
        return await self._calls.answer(name, lambda: getattr(self._inner, name)(*arguments))

    def _meaning(self, words: str) -> RejectionMeaning | None:
        # The meaning of a rejection; None if the plugin fails, as for an unknown text.
        try:
            found: RejectionMeaning | None = self._calls.read("meaning", lambda: self._inner.meaning(words))
        except BrokerError:  # which is reported
            return None
        return found

    @property
    def _ahead_s(self) -> Sequence[float]:
        # How far this machine's clock was ahead; unknown if the plugin fails.
        try:
            found: Sequence[float] = self._calls.read("ahead_s", lambda: self._inner.ahead_s)
        except BrokerError:  # which is reported
            return ()
        return found

    def _feed(self, request: FeedRequest) -> Feed:
        # The plugin's own faults of a request pass: they name what is missing.
        feed: Feed = self._calls.read("feed", lambda: self._inner.feed(request), TbotError)
        return GuardedFeed(feed, self._calls)


def _awaited(name: str) -> Callable[..., Awaitable[Any]]:
    # The method that awaits the plugin's method of that name.
    async def method(self: GuardedBroker, *arguments: object) -> Any:
        return await self._answer(name, *arguments)

    return method


_OPTIONAL: Final[Mapping[str, object]] = {
    **{name: _awaited(name) for name in ("find", "instrument", "maintenance", "hours", "prices")},
    **{name: _awaited(name) for name in ("vix_close", "vix_now", "market_caps")},
    "meaning": GuardedBroker._meaning,  # noqa: SLF001  -- present only where the plugin has it
    "ahead_s": GuardedBroker._ahead_s,  # noqa: SLF001  -- present only where the plugin has it
    "feed": GuardedBroker._feed,  # noqa: SLF001  -- present only where the plugin has it
}
"""The methods of the optional protocols; a broker has only those of its plugin, so that protocol checks hold."""


def _checked(name: str, answer: Any) -> Any:
    # The answer of a call; raises TypeError for another type than the contract's.
    if name in _ANSWERS:
        fits, expected = _ANSWERS[name]
        if not fits(answer):
            words = decimal_words(answer)
            raise TypeError(words or f"it returned an object of type {type(answer).__name__} instead of {expected}")
    return answer


def _has(made: object, name: str) -> bool:
    # Whether an object has an attribute; a property that fails is one.
    try:
        return hasattr(made, name)
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin: reported when it is used
        assert_failure(fault)
        return True


def _is_requested(fault: BaseException) -> bool:
    # Whether the core itself ended the call; a plugin may cancel a task of its own and let that escape.
    if not isinstance(fault, asyncio.CancelledError):
        return not is_failure(fault)
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
