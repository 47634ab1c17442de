"""The port of the core to one broker: every method of its protocol, and the one pipeline that a call goes through.

What is said of a method stands in its row of `plugins.broker_calls`.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import abilities
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, RejectionMeaning, Unavailable, Withdrawn
from tbot_core.execution.circuit_breaker import CircuitBreaker
from tbot_core.execution.event_stream import EventStream
from tbot_core.model.clock import Clock
from tbot_core.model.types import CURRENCY, Leg
from tbot_core.plugins import broker_calls as calls
from tbot_core.plugins.broker_calls import Answer, RequestKind
from tbot_core.plugins.guarded_broker import guard_broker
from tbot_core.plugins.network.request_limits import PRIORITY, RequestBudget, RequestPriority
from tbot_core.plugins.number_bounds import FigureOutOfBounds, assert_figures
from tbot_core.system import log
from tbot_core.system.timeouts import CallTimedOut, steps_within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import date, datetime
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
        IndexQuote,
        InstrumentRules,
        MaintenanceWindow,
        OptionListing,
        OptionQuoteReport,
        OptionRight,
        OrderStatusReport,
        Permit,
    )
    from tbot_core.model.bars import MinuteSlice
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account, Order
    from tbot_core.plugins.broker_calls import BrokerCall
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.discovery import EntryPointInfo
    from tbot_core.plugins.guarded_broker import BrokerGuard

_log = log.logger(__name__)

READING_PRIORITY: ContextVar[RequestPriority] = ContextVar("reading_priority", default=RequestPriority.READING)
"""The priority of a snapshot: a stop or exit whose outcome only lists can tell does not wait for a pause to end."""

STEP_S: Final = 2.0
"""The longest time that a broker plugin may block the event loop in one step."""


class AccountDiscarded(Unavailable):
    """The account of a snapshot is not valid; its `orders` are."""

    def __init__(self, message: str, remedy: str, *, orders: AccountSnapshot) -> None:
        super().__init__(message, remedy)
        self.orders = orders


@attrs.frozen
class SessionLimits:
    """The limits of a session's requests to one broker; `circuit` is None where no other broker may take over."""

    clock: Clock
    circuit: CircuitBreaker | None
    budget: RequestBudget


def _no_reading() -> None:
    pass


class BrokerPort:
    """A `contracts.Broker` with every optional method, and a `SimulatedVenue`, as the core calls them.

    `guard` is the border of its plugin; None where faults pass: in a simulation, and at brokers of our own. `limits`
    are those of a session (`for_session`); without them nothing is limited, counted or checked. In a session an
    optional method raises Unavailable where the broker does not declare it.

    Protective orders, exits and cancels wait for the rate limit as long as needed. An entry that would wait for more
    than one second, or a reading that would wait for more than `CYCLE_S`, raises Unavailable and is not sent. Polls are
    not counted: with a stream they send no request, and without one the plugin counts them itself. A plugin call that
    blocks the event loop is interrupted: a reading fails, an order or cancel has an unknown outcome.

    `stream` is the broker's event stream in a session, None if it has none. `login_rejection` is the broker's message
    of a failed login, "" after any answer. `reported_account` is the account as last reported, `latency_s` the duration
    of the last answer; None before the first.
    """

    def __init__(
        self,
        plugin: object,
        guard: BrokerGuard | None = None,
        limits: SessionLimits | None = None,
        on_gap: Callable[[], None] = _no_reading,
    ) -> None:
        self._plugin: Any = plugin
        self._guard = guard
        self._limits = limits
        self.login_rejection = ""
        self.reported_account: Account | None = None
        self.latency_s: float | None = None
        streams = limits is not None and abilities.STREAM.of(self) is not None
        self.stream = EventStream(self, limits.clock, STEP_S, on_gap) if limits is not None and streams else None

    def for_session(
        self, clock: Clock, circuit: CircuitBreaker | None = None, on_gap: Callable[[], None] = _no_reading
    ) -> BrokerPort:
        """The port with the limits of a new session; a venue that fills from bars has none.

        `on_gap` is called when the stream of order events may have missed some: the account must be read.
        """
        if self.capabilities.simulated:
            return self
        limits = SessionLimits(clock, circuit, RequestBudget(clock.monotonic()))
        return BrokerPort(self._plugin, self._guard, limits, on_gap)

    @property
    def capabilities(self) -> BrokerCapabilities:
        """The capabilities of the broker; the last known ones if the plugin fails."""
        capabilities: BrokerCapabilities = (self._guard or self._plugin).capabilities
        return capabilities

    @property
    def clock_ahead_s(self) -> Sequence[float]:
        """How far this machine's clock was ahead at the latest responses; unknown if the plugin fails."""
        self._assert_offered(calls.CLOCK_AHEAD_S)
        offsets: Sequence[float] = (self._guard or self._plugin).clock_ahead_s
        return offsets

    @property
    def available_requests(self) -> int | None:
        """The number of requests that could be sent now; None without a limit."""
        limit = self.capabilities.requests_per_minute
        if self._limits is None or not limit:
            return None
        return self._limits.budget.available(limit, self._limits.clock.monotonic())

    async def connect(self) -> Account:
        """Log in and return the account; raises AccountRefused for one of another mode."""
        return await self._ask(calls.CONNECT)

    async def account(self) -> Account:
        """The current cash, equity and buying power."""
        return await self._ask(calls.ACCOUNT)

    async def submit(self, order: Order, permit: Permit) -> None:
        """Submit an order; once its permit was redeemed, a failure leaves the outcome unknown."""
        priority = RequestPriority.ENTRY if order.leg is Leg.ENTRY else calls.SUBMIT.priority
        await self._ask(calls.SUBMIT, order, permit, priority=priority)

    async def cancel(self, client_order_id: str) -> None:
        """Request a cancel."""
        await self._ask(calls.CANCEL, client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Replace a working order."""
        await self._ask(calls.REPLACE, client_order_id, order)

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The whole account; in a session with the priority of `READING_PRIORITY`."""
        return await self._ask(calls.SNAPSHOT, since, priority=READING_PRIORITY.get())

    async def close(self) -> None:
        """Log out."""
        await self._ask(calls.CLOSE)

    def events(self) -> AsyncIterator[BrokerEvent | Gap]:
        """The broker's order events; the circuit breaker counts each, and an end of the connection as a failure."""
        items: AsyncIterator[BrokerEvent | Gap] = (self._guard or self._plugin).events()
        if self._limits is None or self._limits.circuit is None:
            return items
        return _monitored(items, self._limits.circuit, self._limits.clock)

    async def poll(self) -> Sequence[BrokerEvent]:
        """The events since the last call; in a session without those that have invalid numbers."""
        if self.stream is not None:
            return _bookable(self.stream.receive())
        return await self._ask(calls.POLL)

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """An order by its id, None if the broker does not know it."""
        return await self._ask(calls.FIND, client_order_id)

    async def open_orders(self) -> Sequence[OrderStatusReport]:
        """Every order that works at the account."""
        return await self._ask(calls.OPEN_ORDERS)

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The current facts of these instruments."""
        return await self._ask(calls.INSTRUMENTS, symbols)

    async def maintenance(self) -> Sequence[MaintenanceWindow]:
        """All announced periods of maintenance."""
        return await self._ask(calls.MAINTENANCE)

    async def hours(self, day: date) -> Session | None:
        """The session of an exchange day, None if there is none."""
        return await self._ask(calls.HOURS, day)

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The current prices; symbols without one are left out."""
        return await self._ask(calls.PRICES, symbols)

    async def vix_close(self, day: date) -> float | None:
        """The close of the VIX on a day, None if it is not known."""
        return await self._ask(calls.VIX_CLOSE, day)

    async def vix_now(self) -> IndexQuote | None:
        """The latest value of the VIX, None if it is not known."""
        return await self._ask(calls.VIX_NOW)

    async def market_caps(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The market capitalisations in dollars; symbols without one are left out."""
        return await self._ask(calls.MARKET_CAPS, symbols)

    async def option_contracts(
        self, underlying: str, right: OptionRight, first_expiry: date, last_expiry: date
    ) -> Sequence[OptionListing]:
        """The contracts of an underlying that expire in these days."""
        return await self._ask(calls.OPTION_CONTRACTS, underlying, right, first_expiry, last_expiry)

    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        """The latest quotes of options; contracts without one are left out."""
        return await self._ask(calls.OPTION_QUOTES, symbols)

    def feed(self, request: FeedRequest) -> Feed:
        """The feed for the request; the plugin's own faults of a request pass: they name what is missing."""
        feed: Feed = (self._guard or self._plugin).feed(request)
        return feed

    def keep_books(self, path: Path, cash: Decimal | None) -> None:
        """Have a venue that fills from bars keep its account in this file."""
        (self._guard or self._plugin).keep_books(path, cash)

    def open_session(
        self, session: Session, symbols: tuple[str, ...], cash: Decimal, partial_volume: frozenset[str] = frozenset()
    ) -> None:
        """Start a session at a venue that fills from bars."""
        self._show("open_session", session, symbols, cash, partial_volume)

    def observe(self, minute: MinuteSlice) -> None:
        """Show a venue that fills from bars a closed minute."""
        self._show("observe", minute)

    def close_session(self) -> None:
        """End the session at a venue that fills from bars."""
        self._show("close_session")

    async def _ask(self, call: BrokerCall[Answer], *arguments: Any, priority: RequestPriority | None = None) -> Answer:
        # The pipeline of a call: the wait for the rate limit, the plugin's answer within the limit of a step, its
        # record in circuit breaker and budget, and its check.
        limits = self._limits
        if limits is None:
            return await self._answer(call, *arguments)
        self._assert_offered(call)
        priority = call.priority if priority is None else priority
        if call.subject:
            await self._wait_turn(priority, call.subject.format(*arguments))
        # A failure counts from the start of its request, not from its time-out.
        sent_at, started_s, before = limits.clock.now(), limits.clock.monotonic(), PRIORITY.set(priority)
        try:
            answer = await steps_within(STEP_S, self._answer(call, *arguments))
        except CallTimedOut as fault:
            kind = OutcomeUnknown if call.sends else Unavailable
            raise kind(f"the broker's plugin blocked the event loop: {fault}") from fault
        except BrokerError as fault:
            self._record_failure(limits, call, fault, sent_at)
            raise
        finally:
            PRIORITY.reset(before)
        if limits.circuit is not None and call.monitored is not None:
            limits.circuit.record_answer(call.monitored, limits.clock.now())
        if call is not calls.POLL:  # a poll may not contact the broker
            self.login_rejection, self.latency_s = "", limits.clock.monotonic() - started_s
        usable: Answer = self._checked(call, answer)
        return usable

    async def _answer(self, call: BrokerCall[Answer], *arguments: Any) -> Answer:
        # What the plugin answers.
        if self._guard is not None:
            return await self._guard.ask(call, *arguments)
        answer: Answer = await getattr(self._plugin, call.method)(*arguments)
        return answer

    async def _wait_turn(self, priority: RequestPriority, subject: str) -> None:
        # Wait until the budget allows the request.
        if self._limits is not None:
            per_minute = self.capabilities.requests_per_minute
            await self._limits.budget.wait_turn(self._limits.clock, priority, per_minute, subject)

    def _record_failure(
        self, limits: SessionLimits, call: BrokerCall[Any], fault: BrokerError, sent_at: datetime
    ) -> None:
        circuit, kind = limits.circuit, call.monitored
        if circuit is not None and kind is not None and not isinstance(fault, Withdrawn):  # of which nothing was sent
            if isinstance(fault, Rejected):  # which is an answer
                circuit.record_answer(kind, limits.clock.now())
            else:
                circuit.record_failure(kind, sent_at)
        if isinstance(fault, Rejected) and fault.meaning is RejectionMeaning.NOT_LOGGED_IN:
            self.login_rejection = fault.message
        if fault.retry_after_s:
            limits.budget.back_off(fault.retry_after_s, limits.clock.monotonic(), fault.remedy)

    def _checked(self, call: BrokerCall[Any], answer: Any) -> Any:
        # The answer, if it can be used; of a poll what can be used.
        if call.answer is None:
            return answer
        if call is calls.POLL:
            return _bookable(answer)
        _checked_figures(answer)
        if call.account_of is not None:
            try:
                self.reported_account = _checked_account(call.account_of(answer))
            except Unavailable as fault:
                if call is calls.SNAPSHOT:
                    raise AccountDiscarded(fault.message, fault.remedy, orders=answer) from fault
                raise
        return answer

    def _assert_offered(self, call: BrokerCall[Any]) -> None:
        ability = call.ability
        if self._limits is not None and ability is not None and ability.of(self) is None:
            raise Unavailable(f"The broker does not offer {ability.method} (capability {ability.capability}).")

    def _show(self, name: str, *arguments: object) -> None:
        # Call a method of a venue that fills from bars.
        if self._guard is None:
            getattr(self._plugin, name)(*arguments)
        else:
            self._guard.show(name, *arguments)


def port_of(broker: Broker) -> BrokerPort:
    """The port to a broker: itself, or an unguarded one to a broker of our own."""
    return broker if isinstance(broker, BrokerPort) else BrokerPort(broker)


def open_port(entry: EntryPointInfo, plugin: object, guard: CallGuard, *, live: bool | None = None) -> BrokerPort:
    """The port to a broker plugin; `live` and what is raised are those of `guard_broker`."""
    return BrokerPort(plugin, guard_broker(entry, plugin, guard, live=live))


async def _monitored(
    items: AsyncIterator[BrokerEvent | Gap], circuit: CircuitBreaker, clock: Clock
) -> AsyncIterator[BrokerEvent | Gap]:
    # The items of a connection; an end without an error is a failure too.
    try:
        async for item in items:
            circuit.record_answer(RequestKind.STREAM, clock.now())
            yield item
    except BrokerError:
        circuit.record_failure(RequestKind.STREAM, clock.now())
        raise
    circuit.record_failure(RequestKind.STREAM, clock.now())


def _checked_account(account: Account) -> Account:
    # The account; raises Unavailable for another currency.
    if account.currency != CURRENCY:
        words = (
            f"The account {account.account_id} was reported in {account.currency}, but money is counted in {CURRENCY}."
        )
        raise Unavailable(words, f"The snapshot was discarded. Use an account in {CURRENCY}.")
    return account


def _checked_figures(answer: object) -> None:
    # Raises Unavailable for a number that is not finite, or that no such number can be.
    try:
        assert_figures(answer)
    except (FigureOutOfBounds, TypeError) as fault:
        raise Unavailable(f"The broker's response cannot be used: {fault}.", "The reading was discarded.") from fault


def _bookable(events: Sequence[BrokerEvent]) -> list[BrokerEvent]:
    # The events that can be booked; the next reading reports a dropped fill again.
    return [event for event in events if _is_bookable(event)]


def _is_bookable(event: BrokerEvent) -> bool:
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
