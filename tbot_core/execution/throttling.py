"""Calls of a broker: within its rate limit, bounded in time, and checked."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tbot_core.contracts import abilities
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, RejectionMeaning, Unavailable
from tbot_core.execution.event_stream import EventStream
from tbot_core.execution.monitored_broker import offered
from tbot_core.model.types import CURRENCY, Leg
from tbot_core.plugins.network.request_limits import PRIORITY, RequestBudget, RequestPriority
from tbot_core.plugins.number_bounds import FigureOutOfBounds, assert_figures
from tbot_core.system import log
from tbot_core.system.timeouts import CallTimedOut, steps_within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime
    from decimal import Decimal

    from tbot_core.contracts import (
        AccountSnapshot,
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        Permit,
    )
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order


Answer = TypeVar("Answer")
_log = log.logger(__name__)

READING_PRIORITY: ContextVar[RequestPriority] = ContextVar("reading_priority", default=RequestPriority.READING)
"""The priority of a snapshot: a stop or exit whose outcome only lists can tell does not wait for a pause to end."""

STEP_S: Final = 2.0
"""The longest time that a broker plugin may block the event loop in one step."""


def _asks(
    ability: abilities.Ability[Any], what: str, priority: RequestPriority = RequestPriority.READING
) -> Callable[..., Coroutine[Any, Any, Any]]:
    # The method that asks an optional method of the broker, within the rate limit.
    async def method(self: RateLimitedBroker, *arguments: object) -> Any:
        broker = offered(ability, self._broker)
        await self._wait_turn(priority, what.format(*arguments))
        return _checked(await self._read(getattr(broker, ability.method)(*arguments), priority))

    return method


class AccountDiscarded(Unavailable):
    """The account of a snapshot is not valid; its `orders` are."""

    def __init__(self, message: str, remedy: str, *, orders: AccountSnapshot) -> None:
        super().__init__(message, remedy)
        self.orders = orders


class RateLimitedBroker:
    """A broker wrapper that keeps to the broker's rate limit.

    Polls are not counted: with a stream they send no request, and without one the plugin counts them itself. `stream`:
    the broker's event stream, None if it has none.

    A plugin call that blocks the event loop is interrupted: a reading fails, an order or cancel has an unknown outcome.

    Protective orders, exits and cancels wait as long as needed. An entry that would wait for more than one second, or a
    reading that would wait for more than `CYCLE_S`, raises Unavailable and is not sent.

    The optional methods raise Unavailable where the broker does not declare them.

    `login_rejection` is the broker's message of a failed login, "" after any answer. `equity` is the last reported
    equity, `latency_s` the duration of the last answer; None before the first.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._budget = RequestBudget(clock.monotonic())
        self.login_rejection = ""
        self.equity: Decimal | None = None
        self.latency_s: float | None = None
        source = abilities.STREAM.of(broker)
        self.stream = None if source is None else EventStream(source, clock, STEP_S)

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The broker's capabilities."""
        return self._broker.capabilities

    @property
    def available_requests(self) -> int | None:
        """The number of requests that could be sent now; None without a limit."""
        limit = self._broker.capabilities.requests_per_minute
        return self._budget.available(limit, self._clock.monotonic()) if limit else None

    async def connect(self) -> Account:
        """Log in; not counted in the budget."""
        return self._accept_account(await self._read(self._broker.connect()))

    async def account(self) -> Account:
        """Current cash, equity and buying power."""
        await self._wait_turn(RequestPriority.READING, "the account")
        return self._accept_account(await self._read(self._broker.account()))

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order."""
        priority = RequestPriority.ENTRY if order.leg is Leg.ENTRY else RequestPriority.PROTECTION
        await self._wait_turn(priority, f"the order {order.client_order_id}")
        await self._send(self._broker.submit(order, permit), priority)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._wait_turn(RequestPriority.PROTECTION, "a cancel")
        await self._send(self._broker.cancel(client_order_id))

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._wait_turn(RequestPriority.PROTECTION, "a change")
        await self._send(offered(abilities.REPLACE, self._broker).replace(client_order_id, order))

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call, without those that have invalid numbers."""
        if self.stream is not None:
            return [event for event in self.stream.receive() if _is_bookable(event)]
        before = self.login_rejection, self.latency_s
        answer = await self._read(offered(abilities.POLLING, self._broker).poll())
        self.login_rejection, self.latency_s = before  # a poll may not contact the broker
        return [event for event in answer if _is_bookable(event)]

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """A snapshot of the account, with the priority of `READING_PRIORITY`."""
        priority = READING_PRIORITY.get()
        await self._wait_turn(priority, "the account")
        snapshot = _checked(await self._read(self._broker.snapshot(since), priority))
        try:
            self._accept_account(snapshot.account)
        except Unavailable as fault:
            raise AccountDiscarded(fault.message, fault.remedy, orders=snapshot) from fault
        return snapshot

    find = _asks(abilities.ORDER_LOOKUP, "the order {}", RequestPriority.LOOKUP)
    open_orders = _asks(abilities.OPEN_ORDERS, "the open orders", RequestPriority.LOOKUP)
    prices = _asks(abilities.PRICES, "prices")
    maintenance = _asks(abilities.MAINTENANCE, "the maintenance notices")
    hours = _asks(abilities.HOURS, "the trading hours")
    instruments = _asks(abilities.INSTRUMENTS, "the rules of instruments", RequestPriority.PROTECTION)

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at the latest responses."""
        return offered(abilities.SERVER_TIME, self._broker).clock_ahead_s

    async def close(self) -> None:
        """Log out."""
        await self._read(self._broker.close())

    def _accept_account(self, account: Account) -> Account:
        # The account, if it is valid.
        self.equity = _checked_account(account).equity
        return account

    async def _wait_turn(self, priority: RequestPriority, what: str) -> None:
        # Wait until the budget allows the request.
        await self._budget.wait_turn(self._clock, priority, self._broker.capabilities.requests_per_minute, what)

    async def _send(self, request: Awaitable[None], priority: RequestPriority = RequestPriority.PROTECTION) -> None:
        # A request that may have been sent when its plugin is interrupted.
        try:
            await self._call(request, priority)
        except CallTimedOut as fault:
            raise OutcomeUnknown(f"the broker's plugin blocked the event loop: {fault}") from fault

    async def _read(self, request: Awaitable[Answer], priority: RequestPriority = RequestPriority.READING) -> Answer:
        # A reading fails when its plugin is interrupted.
        try:
            return await self._call(request, priority)
        except CallTimedOut as fault:
            raise Unavailable(f"the broker's plugin blocked the event loop: {fault}") from fault

    async def _call(self, request: Awaitable[Answer], priority: RequestPriority) -> Answer:
        started_at, before = self._clock.monotonic(), PRIORITY.set(priority)
        try:
            answer = await steps_within(STEP_S, request)
        except BrokerError as fault:
            if isinstance(fault, Rejected) and fault.meaning is RejectionMeaning.NOT_LOGGED_IN:
                self.login_rejection = fault.message
            if fault.retry_after_s:
                self._budget.back_off(fault.retry_after_s, self._clock.monotonic(), fault.remedy)
            raise
        finally:
            PRIORITY.reset(before)
        self.login_rejection, self.latency_s = "", self._clock.monotonic() - started_at
        return answer


def _checked_account(account: Account) -> Account:
    # The account; raises Unavailable for another currency or an invalid number.
    if account.currency != CURRENCY:
        words = (
            f"The account {account.account_id} was reported in {account.currency}, but money is counted in {CURRENCY}."
        )
        raise Unavailable(words, f"The snapshot was discarded. Use an account in {CURRENCY}.")
    return _checked(account)


def _checked(reading: Answer) -> Answer:
    # The reading; raises Unavailable for a number that is not finite, or that no such number can be.
    try:
        assert_figures(reading)
    except (FigureOutOfBounds, TypeError) as fault:
        raise Unavailable(f"The broker's response cannot be used: {fault}.", "The reading was discarded.") from fault
    return reading


def _is_bookable(event: BrokerEvent) -> bool:
    # Whether an event can be booked; the next reading reports a dropped fill again.
    try:
        assert_figures(event)
    except (FigureOutOfBounds, TypeError) as fault:
        reason = str(fault)
    else:
        if event.fill is None or (event.fill.quantity > 0 and event.fill.price > 0):
            return True
        reason = f"quantity {event.fill.quantity} at {event.fill.price}"
    _log.error("broker.event_without_numbers", kind=event.kind, id=event.client_order_id, reason=reason)
    return False


async def run_concurrently(calls: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Run all calls concurrently; the first exception is raised when all have ended."""
    if not calls:
        return
    if len(calls) == 1:
        await calls[0]()
        return
    for outcome in await asyncio.gather(*(call() for call in calls), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
