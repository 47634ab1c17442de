"""How often a broker is asked: again where it does not answer, and never more than it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core.contracts import (
    Instrument,
    SupportsInstrumentInfo,
    SupportsMaintenanceNotices,
    SupportsOrderLookup,
    SupportsPrices,
)
from tbot_core.errors import BrokerError, LoginNeeded, OutcomeUnknown, Unavailable
from tbot_core.execution.monitored_broker import MonitoredBroker
from tbot_core.model.types import CURRENCY, Leg
from tbot_core.system import log, random
from tbot_core.system.timeouts import CallTimedOut, steps_within

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence
    from datetime import datetime

    from tbot_core.contracts import (
        AccountSnapshot,
        Broker,
        BrokerCapabilities,
        BrokerEvent,
        MaintenanceWindow,
        OrderStatusReport,
        Permit,
    )
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account, Order


Said = TypeVar("Said")
_log = log.logger(__name__)

FIRST_S: Final = 0.5
CYCLE_S: Final = 10.0
"""The waits of one request add up to less: an answer that comes later is too late for its minute."""

STEP_S: Final = 2.0
"""A broker's plugin may not keep the loop from turning for longer than this at a time."""


async def _at_once(_seconds: float) -> None:
    # Wait not at all.
    pass


@attrs.frozen(kw_only=True, eq=False)
class RetryPolicy:
    """API_RETRY_LIMIT as `retries`; `pause` waits so many seconds, `dice` (0 to 1) spreads the waits of many bots."""

    retries: int = 0
    sleep: Callable[[float], Awaitable[None]] = _at_once
    jitter: Callable[[], float] = attrs.field(factory=lambda: random.generator(0).random)

    def delays(self) -> Iterator[float]:
        """The seconds before each further attempt: about twice as long each time, from half a second on."""
        longest, left = FIRST_S, CYCLE_S
        for _ in range(self.retries):
            wait = longest * (0.5 + self.jitter() / 2)
            longest, left = 2 * longest, left - wait
            if left < 0:
                return
            yield wait


class RequestPriority(IntEnum):
    """Who comes first when requests are short."""

    PROTECTION = 0
    ENTRY = 1
    READING = 2


_RATE: Final = 0.7
_BURST: Final = 0.15
_KEPT: Final = {RequestPriority.PROTECTION: 0.0, RequestPriority.ENTRY: 0.3, RequestPriority.READING: 0.5}
_LEAST_S: Final = 0.001
_WAITS_S: Final = {
    RequestPriority.PROTECTION: float("inf"),
    RequestPriority.ENTRY: 1.0,
    RequestPriority.READING: CYCLE_S,
}


class RequestBudget:
    """What a venue allows of requests, spent evenly: at most 85 % of a minute's in any minute, a sixth of that at once.

    It begins empty, so that a restart adds nothing to what the process before has spent; the rest is for logging in.
    Part of what is saved up is left to those who come first: entries leave 30 % of it, readings half.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._saved = 0.0
        self._held_until = now

    def available(self, per_minute: int, now: float) -> int:
        """How many requests could leave now, one after the other; nothing is spent."""
        return int(min(max(1.0, per_minute * _BURST), self._saved + (now - self._at) * per_minute * _RATE / 60))

    def back_off(self, seconds: float, now: float) -> None:
        """The venue wants to be left alone: until then only what protects or takes back is sent."""
        self._held_until = max(self._held_until, now + seconds)

    def reserve(self, urgency: RequestPriority, per_minute: int, now: float) -> float:
        """Seconds until such a request may leave; 0 where it may now, and then it is spent. 0 a minute: no limit."""
        held = 0.0 if urgency is RequestPriority.PROTECTION else max(0.0, self._held_until - now)
        if not per_minute:
            return held
        burst, rate = max(1.0, per_minute * _BURST), per_minute * _RATE / 60
        self._saved = min(burst, self._saved + (now - self._at) * rate)
        self._at = now
        lacking = 1.0 + (burst - 1.0) * _KEPT[urgency] - self._saved
        if held or lacking > 1e-9:
            return max(held, lacking / rate)
        self._saved -= 1.0
        return 0.0


class RateLimitedBroker:
    """A broker whose requests keep to its limit, and wait where it says so.

    A poll is not counted: with a stream it asks nothing of the venue, and without one its plugin keeps count itself.

    Its plugin is interrupted where it blocks the loop: a reading fails then, and what may have left is in doubt.

    What protects or takes back waits as long as it must. An entry that would wait longer than a second is not sent, and
    a reading that would wait longer than a cycle fails: both raise Unavailable, and nothing has left.

    `denied` are the words with which the venue refused our key, "" since it has answered something. `equity` is what
    it said last of the account, `latency_s` how long its last answer took; None before the first.
    """

    def __init__(self, broker: Broker, clock: Clock) -> None:
        self._broker = broker
        self._clock = clock
        self._budget = RequestBudget(clock.monotonic())
        self.login_rejection = ""
        self.equity: Decimal | None = None
        self.latency_s: float | None = None
        self.has_prices = (
            broker.has_prices if isinstance(broker, MonitoredBroker) else isinstance(broker, SupportsPrices)
        )

    @property
    def rules(self) -> BrokerCapabilities:
        """What the venue can do."""
        return self._broker.rules

    @property
    def available_requests(self) -> int | None:
        """How many requests could leave now; None where the venue has no limit."""
        limit = self._broker.rules.requests_per_minute
        return self._budget.available(limit, self._clock.monotonic()) if limit else None

    async def connect(self) -> Account:
        """Log in; what is left of the limit is for that."""
        return self._known(await self._heard(self._broker.connect()))

    async def account(self) -> Account:
        """Cash, equity and buying power now."""
        await self._turn(RequestPriority.READING, "the account")
        return self._known(await self._heard(self._broker.account()))

    async def submit(self, order: Order, permit: Permit) -> None:
        """Hand an order over."""
        urgency = RequestPriority.ENTRY if order.leg is Leg.ENTRY else RequestPriority.PROTECTION
        await self._turn(urgency, f"the order {order.client_order_id}")
        await self._sent(self._broker.submit(order, permit))

    async def cancel(self, client_order_id: str) -> None:
        """Ask for a cancel."""
        await self._turn(RequestPriority.PROTECTION, "a cancel")
        await self._sent(self._broker.cancel(client_order_id))

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Change a resting order."""
        await self._turn(RequestPriority.PROTECTION, "a change")
        await self._sent(self._broker.replace(client_order_id, order))

    async def poll(self) -> Sequence[BrokerEvent]:
        """Everything that happened since the last call."""
        before = self.login_rejection, self.latency_s
        said = await self._heard(self._broker.poll())
        self.login_rejection, self.latency_s = before  # what had come already says nothing of the key, or of the way
        return [event for event in said if _told_in_numbers(event)]

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """Everything at the account."""
        await self._turn(RequestPriority.READING, "the account")
        snapshot = await self._heard(self._broker.snapshot(since))
        self._known(snapshot.account)
        return _in_numbers(snapshot)

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """One order, where the broker can be asked for it."""
        if not isinstance(self._broker, SupportsOrderLookup):
            raise Unavailable("The broker does not support order lookup by client order id.")
        await self._turn(RequestPriority.READING, f"the order {client_order_id}")
        return _in_numbers(await self._heard(self._broker.find(client_order_id)))

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """What symbols trade at, where the broker says it."""
        if not isinstance(self._broker, SupportsPrices):
            raise Unavailable("The broker does not report prices.")
        await self._turn(RequestPriority.READING, "prices")
        return await self._heard(self._broker.prices(symbols))

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """What the broker has announced; nothing where it announces nothing."""
        broker = self._broker.broker if isinstance(self._broker, MonitoredBroker) else self._broker
        if not isinstance(broker, SupportsMaintenanceNotices):
            return ()
        await self._turn(RequestPriority.READING, "the maintenance notices")
        return await self._heard(broker.maintenance())

    async def instrument(self, symbol: str) -> Instrument:
        """What may be traded of an instrument now, where the broker says it."""
        if not isinstance(self._broker, SupportsInstrumentInfo):
            raise Unavailable("The broker does not report instrument rules.")
        await self._turn(RequestPriority.PROTECTION, f"the rules of {symbol}")
        return _in_numbers(await self._heard(self._broker.instrument(symbol)))

    async def close(self) -> None:
        """Log out."""
        await self._heard(self._broker.close())

    def _known(self, account: Account) -> Account:
        # The account, if it is to be believed.
        self.equity = _in_dollars(account).equity
        return account

    async def _turn(self, urgency: RequestPriority, what: str) -> None:
        # Wait for a request's turn.
        latest = self._clock.monotonic() + _WAITS_S[urgency]
        while True:
            now, limit = self._clock.monotonic(), self._broker.rules.requests_per_minute
            wait = self._budget.reserve(urgency, limit, now)
            if not wait:
                return
            if now + wait > latest:
                words = f"{what} was not requested" if urgency is RequestPriority.READING else f"{what} was not sent"
                allowed = f"{limit} requests per minute are allowed" if limit else "the broker asked for a pause"
                raise Unavailable(f"{words}: {allowed}, and the wait would be {wait:.1f} s.", retry_after_s=wait)
            await self._clock.sleep(max(wait, _LEAST_S))

    async def _sent(self, request: Awaitable[None]) -> None:
        # A request that may have left when its plugin is interrupted.
        try:
            await self._answered(request)
        except CallTimedOut as fault:
            raise OutcomeUnknown(f"the broker's plugin blocked the event loop: {fault}") from fault

    async def _heard(self, request: Awaitable[Said]) -> Said:
        # A reading, which fails when its plugin is interrupted.
        try:
            return await self._answered(request)
        except CallTimedOut as fault:
            raise Unavailable(f"the broker's plugin blocked the event loop: {fault}") from fault

    async def _answered(self, request: Awaitable[Said]) -> Said:
        asked = self._clock.monotonic()
        try:
            said = await steps_within(STEP_S, request)
        except BrokerError as fault:
            if isinstance(fault, LoginNeeded):
                self.login_rejection = fault.message
            if fault.retry_after_s:
                self._budget.back_off(fault.retry_after_s, self._clock.monotonic())
            raise
        self.login_rejection, self.latency_s = "", self._clock.monotonic() - asked
        return said


def _in_dollars(account: Account) -> Account:
    # The account; raises Unavailable for one that is told in another currency, which no figure here is.
    if account.currency != CURRENCY:
        words = (
            f"The account {account.account_id} was reported in {account.currency}, but money is counted in {CURRENCY}."
        )
        raise Unavailable(words, f"The snapshot was discarded. Use an account in {CURRENCY}.")
    return _in_numbers(account)


def _in_numbers(reading: Said) -> Said:
    # The reading; raises Unavailable for one with a figure that is no number: nothing of it is believed.
    if not _finite(reading):
        raise Unavailable("An amount in the broker's response is not a number.", "The snapshot was discarded.")
    return reading


def _told_in_numbers(event: BrokerEvent) -> bool:
    # Whether an event can be booked; what a fill without numbers was, the next reading tells.
    sound = event.fill is None or (_finite(event.fill) and event.fill.quantity > 0 and event.fill.price > 0)
    if not sound:
        _log.error("broker.event_without_numbers", kind=event.kind, id=event.client_order_id)
    return sound


def _finite(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return all(_finite(getattr(value, name)) for name in _fields(type(value)))  # type: ignore[arg-type]  # types hash


@cache
def _fields(kind: type) -> tuple[str, ...]:
    # The names of an attrs class's fields; of another type, none.
    return tuple(field.name for field in attrs.fields(kind)) if attrs.has(kind) else ()


async def run_concurrently(acts: Sequence[Callable[[], Coroutine[Any, Any, object]]]) -> None:
    """Do all of them, none waiting for another; what one of them raises is raised when all have ended."""
    if not acts:
        return
    if len(acts) == 1:
        await acts[0]()
        return
    for outcome in await asyncio.gather(*(act() for act in acts), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
