"""How fast a broker is asked: what protects comes first, and the venue's limit is kept whatever happens."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEvent, PositionReport
from tbot_core.errors import LoginNeeded, OutcomeUnknown, Rejected, Unavailable
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.execution.throttling import RateLimitedBroker
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, Leg, Order
from tbot_core.plugins.network.request_limits import PRIORITY, RequestBudget, RequestPriority
from tbot_core.system.timeouts import CallTimedOut
from tbot_core.testing.trades import fill, order

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

START = dt.datetime(2026, 3, 3, 14, tzinfo=dt.UTC)
LIMIT = 60


@given(st.lists(st.tuples(st.sampled_from(RequestPriority), st.floats(0.0, 20.0)), max_size=300), st.integers(1, 300))
def test_no_minute_sees_more_than_the_limit(asked: Sequence[tuple[RequestPriority, float]], limit: int) -> None:
    """In any 60 s at most 85 % of the limit leave, and one more, whenever they are asked for."""
    budget, now, left = RequestBudget(0.0), 0.0, list[float]()
    for urgency, later in asked:
        now += later
        if not budget.reserve(urgency, limit, now):
            left.append(now)
    for at in left:
        assert sum(1 for other in left if at <= other < at + 60) <= max(1.0, limit * 0.15) + limit * 0.7 + 1


def test_protection_passes_while_entries_and_readings_wait() -> None:
    """A part of what is saved up is left to what comes first: readings stop, then entries, then the rest."""
    budget = RequestBudget(0.0)
    passed = {
        urgency: sum(1 for _ in range(50) if not budget.reserve(urgency, LIMIT, 60.0))
        for urgency in (RequestPriority.READING, RequestPriority.ENTRY, RequestPriority.PROTECTION)
    }
    assert passed == {RequestPriority.READING: 5, RequestPriority.ENTRY: 1, RequestPriority.PROTECTION: 3}
    assert budget.reserve(RequestPriority.PROTECTION, LIMIT, 60.0) > 0


def test_a_new_budget_is_full() -> None:
    """A process that starts again reads the account and protects what is held at once, and waits afterwards."""
    budget = RequestBudget(100.0)
    waits = [budget.reserve(RequestPriority.PROTECTION, LIMIT, 100.0) for _ in range(LIMIT)]
    assert waits[:9] == [0.0] * 9
    assert waits[9] > 0


class Venue:
    """A broker that writes down when it is asked what, and fails where it is told to."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.capabilities = BrokerCapabilities(
            requests_per_minute=limit,
            replace="same_id",
            query_by_cid=True,
            lists_open=True,
            instruments=True,
            maintenance=True,
            hours=True,
            prices=True,
        )
        self.clock = ManualClock(START)
        self.asked: list[str] = []
        self.priorities: list[RequestPriority] = []
        self.fault: Exception | None = None
        self.currency = "USD"
        self.shown: AccountSnapshot | None = None
        self.told: list[BrokerEvent] = []

    def __getattr__(self, name: str) -> Any:
        """Every request is written down."""

        async def ask(*_: object) -> Account | AccountSnapshot | list[BrokerEvent] | None:
            self.asked.append(name)
            self.priorities.append(PRIORITY.get())
            if self.fault is not None:
                raise self.fault
            account = Account(account_id="A1", equity=Decimal(1), cash=Decimal(1), currency=self.currency)
            answers: dict[str, Account | AccountSnapshot | list[BrokerEvent]] = {
                "connect": account,
                "account": account,
                "snapshot": self.shown or AccountSnapshot(account=account),
                "poll": self.told,
            }
            return answers.get(name)

        return ask


def ask_all(broker: Any) -> None:
    """One request of each kind."""
    entry = order(name="buy")

    async def each() -> None:
        await broker.connect()
        await broker.submit(entry, SendPermit(entry, never_refuse))
        await broker.cancel("buy")
        await broker.replace("buy", entry)
        await broker.account()
        await broker.snapshot(START)
        await broker.poll()
        await broker.close()

    asyncio.run(each())


def test_without_a_limit_everything_passes_at_once() -> None:
    """A venue that names no limit is asked as before."""
    venue = Venue(0)
    ask_all(RateLimitedBroker(venue, venue.clock))
    assert venue.asked == ["connect", "submit", "cancel", "replace", "account", "snapshot", "poll", "close"]
    assert venue.clock.monotonic() == Venue().clock.monotonic()


def test_an_entry_does_not_wait_for_long_and_protection_does() -> None:
    """With nothing saved up an entry is not sent and says why, a stop waits for its turn."""
    venue = Venue()
    broker, entry, stop = RateLimitedBroker(venue, venue.clock), order(name="buy"), order(Leg.STOP, stop="98")
    permit = SendPermit(entry, never_refuse)
    for _ in range(9):
        asyncio.run(broker.cancel("sell"))
    venue.asked.clear()
    with pytest.raises(Unavailable, match="the order buy was not sent: 60 requests per minute are allowed"):
        asyncio.run(broker.submit(entry, permit))
    assert (permit.redeemed, venue.asked) == (False, [])
    asyncio.run(broker.submit(stop, SendPermit(stop, never_refuse)))
    assert venue.asked == ["submit"]


RESERVED = RequestPriority.PROTECTION
CALLS: list[tuple[Callable[[Any], Coroutine[Any, Any, object]], RequestPriority]] = [
    (lambda broker: broker.submit(order(), SendPermit(order(), never_refuse)), RequestPriority.ENTRY),
    *(
        (lambda broker, leg=leg: broker.submit(order(leg), SendPermit(order(leg), never_refuse)), RESERVED)
        for leg in Leg
        if leg is not Leg.ENTRY
    ),
    (lambda broker: broker.cancel("buy"), RESERVED),
    (lambda broker: broker.replace("buy", order()), RESERVED),
    (lambda broker: broker.find("buy"), RequestPriority.LOOKUP),
    (lambda broker: broker.account(), RequestPriority.READING),
    (lambda broker: broker.snapshot(START), RequestPriority.READING),
    (lambda broker: broker.poll(), RequestPriority.READING),
]


@pytest.mark.parametrize("fault", [None, Unavailable("no line")])
def test_the_requests_of_a_plugin_have_the_priority_of_what_they_are_for(fault: Exception | None) -> None:
    """Cancels and protection alone may use the reserved share, also inside the plugin; nothing of it stays."""

    async def each(venue: Venue) -> list[RequestPriority]:
        broker, after = RateLimitedBroker(venue, venue.clock), list[RequestPriority]()
        venue.fault = fault
        for call, _ in CALLS:
            with suppress(Unavailable):
                await call(broker)
            after.append(PRIORITY.get())
        return after

    venue = Venue(0)
    after = asyncio.run(each(venue))
    assert venue.priorities == [priority for _, priority in CALLS]
    assert set(after) == {RequestPriority.READING}


def test_f11_f12_a_broker_that_wants_to_be_left_alone_is() -> None:
    """Until its time has passed only cancels reach it; a reading fails without being sent, and passes afterwards."""
    venue = Venue(0)
    broker = RateLimitedBroker(venue, venue.clock)
    venue.fault = Rejected("429 too many requests", retry_after_s=30.0)
    with pytest.raises(Rejected):
        asyncio.run(broker.account())
    venue.fault = None
    with pytest.raises(Unavailable, match="not requested: the broker asked for a pause"):
        asyncio.run(broker.snapshot(START))
    asyncio.run(broker.cancel("buy"))
    assert venue.asked == ["account", "cancel"]
    asyncio.run(venue.clock.sleep(25.0))
    asyncio.run(broker.snapshot(START))
    assert venue.asked == ["account", "cancel", "snapshot"]


def submitted(broker: Any, sent: Order) -> Coroutine[Any, Any, None]:
    """A request to submit this order."""
    return broker.submit(sent, SendPermit(sent, never_refuse))  # type: ignore[no-any-return]  # of any broker


REQUESTS: list[tuple[str, RequestPriority, Callable[[Any], Coroutine[Any, Any, Any]]]] = [
    ("submit", RequestPriority.ENTRY, lambda broker: submitted(broker, order(name="buy"))),
    ("submit", RequestPriority.PROTECTION, lambda broker: submitted(broker, order(Leg.STOP, stop="98"))),
    ("cancel", RequestPriority.PROTECTION, lambda broker: broker.cancel("buy")),
    ("replace", RequestPriority.PROTECTION, lambda broker: broker.replace("buy", order(Leg.STOP, stop="98"))),
    ("find", RequestPriority.LOOKUP, lambda broker: broker.find("buy")),
    ("open_orders", RequestPriority.LOOKUP, lambda broker: broker.open_orders()),
    ("instruments", RequestPriority.PROTECTION, lambda broker: broker.instruments(["AAA"])),
    ("connect", RequestPriority.READING, lambda broker: broker.connect()),
    ("account", RequestPriority.READING, lambda broker: broker.account()),
    ("snapshot", RequestPriority.READING, lambda broker: broker.snapshot(START)),
    ("poll", RequestPriority.READING, lambda broker: broker.poll()),
    ("prices", RequestPriority.READING, lambda broker: broker.prices(["AAA"])),
    ("maintenance", RequestPriority.READING, lambda broker: broker.maintenance()),
    ("hours", RequestPriority.READING, lambda broker: broker.hours(START.date())),
    ("close", RequestPriority.READING, lambda broker: broker.close()),
]


def test_the_table_of_requests_has_each() -> None:
    """A request that is added to the broker needs its line."""
    methods = {name for name, one in vars(RateLimitedBroker).items() if inspect.iscoroutinefunction(one)}
    assert {name for name in methods if not name.startswith("_")} == {name for name, *_ in REQUESTS}


@pytest.mark.parametrize(("name", "priority", "request_it"), REQUESTS)
def test_f11_f92_no_request_passes_by_the_limits(
    name: str, priority: RequestPriority, request_it: Callable[[Any], Coroutine[Any, Any, Any]]
) -> None:
    """Each is sent at its priority, a pause that its refusal asks for is kept, and an interrupted one has no answer."""
    venue = Venue(0)
    broker = RateLimitedBroker(venue, venue.clock)
    asyncio.run(request_it(broker))
    assert (venue.asked, venue.priorities) == ([name], [priority])
    venue.fault = CallTimedOut("it did not finish within 2 s")
    with pytest.raises(OutcomeUnknown if name in {"submit", "cancel", "replace"} else Unavailable, match="blocked"):
        asyncio.run(request_it(broker))
    venue.fault = Rejected("429 too many requests", retry_after_s=30.0)
    with pytest.raises(Rejected):
        asyncio.run(request_it(broker))
    venue.fault = None
    with pytest.raises(Unavailable, match="not requested: the broker asked for a pause"):
        asyncio.run(broker.account())


@pytest.mark.parametrize("figure", [Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
def test_f17_a_reading_with_a_figure_that_is_no_number_is_none(figure: Decimal) -> None:
    """Whatever part of it has the figure, nothing of the reading is believed."""
    account = Account(account_id="A1", equity=Decimal(1), cash=Decimal(1))
    holding = PositionReport(symbol="AAA", quantity=Decimal(1), average_price=figure)
    for shown in (
        AccountSnapshot(account=attrs.evolve(account, cash=figure)),
        AccountSnapshot(account=account, holdings=(holding,)),
    ):
        venue = Venue(0)
        venue.shown = shown
        with pytest.raises(Unavailable, match="cannot be used: "):
            asyncio.run(RateLimitedBroker(venue, venue.clock).snapshot(START))


@pytest.mark.parametrize(
    "changed",
    [{"quantity": Decimal("NaN")}, {"price": Decimal("Infinity")}, {"quantity": Decimal(0)}, {"price": Decimal(0)}],
)
def test_f17_a_fill_without_numbers_is_not_booked(changed: dict[str, Decimal]) -> None:
    """What came with it is; the next reading tells what the fill was."""
    sound = fill(order(name="buy"), "10")
    venue = Venue(0)
    venue.told = [
        BrokerEvent(kind="fill", event_id=str(number), client_order_id="buy", fill=one)
        for number, one in enumerate((attrs.evolve(sound, **changed), sound))  # type: ignore[arg-type]  # a test's
    ]
    heard = asyncio.run(RateLimitedBroker(venue, venue.clock).poll())
    assert [event.event_id for event in heard] == ["1"]


def test_f13_a_key_that_is_refused_is_remembered_until_something_is_answered() -> None:
    """A poll says nothing of the key, since nothing is asked for it."""
    venue = Venue(0)
    broker = RateLimitedBroker(venue, venue.clock)
    venue.fault = LoginNeeded("401 unauthorized")
    with pytest.raises(LoginNeeded):
        asyncio.run(broker.account())
    venue.fault = None
    asyncio.run(broker.poll())
    assert broker.login_rejection == "401 unauthorized"
    asyncio.run(broker.account())
    assert broker.login_rejection == ""


def test_a_broker_that_cannot_find_says_so() -> None:
    """It is not asked, and nothing is spent."""
    venue = Venue()
    venue.capabilities = BrokerCapabilities()
    with pytest.raises(Unavailable, match="does not offer find"):
        asyncio.run(RateLimitedBroker(venue, venue.clock).find("buy"))
    assert venue.asked == []


@pytest.mark.parametrize("asked", ["connect", "account", "snapshot"])
def test_f51_money_in_another_currency_is_no_reading(asked: str) -> None:
    """An account that is told in euros is refused as one that was not read, and the sentence names both currencies."""
    venue = Venue(0)
    venue.currency = "EUR"
    broker = RateLimitedBroker(venue, venue.clock)
    with pytest.raises(Unavailable, match="The account A1 was reported in EUR, but money is counted in USD") as refused:
        asyncio.run(broker.snapshot(START) if asked == "snapshot" else getattr(broker, asked)())
    assert "The snapshot was discarded" in refused.value.remedy


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_f92_a_broker_that_blocks_the_loop_is_interrupted() -> None:
    """A reading fails, and an order that may have left is in doubt: neither is answered for the broker."""

    class Blocks(Venue):
        def __getattr__(self, name: str) -> Any:
            async def call(*_: object) -> None:
                while True:
                    pass

            return call

    broker = RateLimitedBroker(Blocks(0), ManualClock(START))
    with pytest.raises(Unavailable, match="blocked the event loop: it did not finish within 2 s"):
        asyncio.run(broker.poll())
    entry = order()
    with pytest.raises(OutcomeUnknown, match="blocked the event loop"):
        asyncio.run(broker.submit(entry, SendPermit(entry, never_refuse)))


def test_what_is_left_of_a_budget_can_be_asked_without_spending_it() -> None:
    """As much as could leave at once, a sixth of a minute's at most, less what has left."""
    budget = RequestBudget(0.0)
    assert budget.available(LIMIT, 0.0) == 9
    assert not budget.reserve(RequestPriority.PROTECTION, LIMIT, 0.0, 9)
    assert (budget.available(LIMIT, 0.0), budget.available(LIMIT, 5.0), budget.available(LIMIT, 60.0)) == (0, 3, 9)
    assert not budget.reserve(RequestPriority.PROTECTION, LIMIT, 60.0)
    assert budget.available(LIMIT, 60.0) == 8
    budget.back_off(5.0, 60.0)
    assert (budget.available(LIMIT, 64.0), budget.available(LIMIT, 65.0)) == (0, 9)
