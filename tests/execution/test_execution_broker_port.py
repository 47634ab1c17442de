"""A call of a broker: protection comes first, limits are kept, answers checked, and failures open the circuit."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
from collections.abc import Callable, Coroutine
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEvent, OptionRight, PositionReport
from tbot_core.contracts.abilities import ABILITIES
from tbot_core.errors import LoginNeeded, OutcomeUnknown, Rejected, Unavailable, Withdrawn
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.circuit_breaker import CircuitBreaker, CircuitState
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Account, Leg, Order
from tbot_core.plugins.broker_calls import BROKER_CALLS
from tbot_core.plugins.network.request_limits import PRIORITY, RequestBudget, RequestPriority
from tbot_core.system.timeouts import CallTimedOut
from tbot_core.testing.trades import fill, order

if TYPE_CHECKING:
    from collections.abc import Sequence

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
            server_time=True,
            daily_vix=True,
            live_vix=True,
            market_caps=True,
            option_contracts=True,
            option_quotes=True,
        )
        self.clock_ahead_s = (0.5,)
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


def in_session(venue: Venue, circuit: CircuitBreaker | None = None) -> BrokerPort:
    """The port to a venue in a session."""
    return BrokerPort(venue).for_session(venue.clock, circuit)


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
    ask_all(in_session(venue))
    assert venue.asked == ["connect", "submit", "cancel", "replace", "account", "snapshot", "poll", "close"]
    assert venue.clock.monotonic() == Venue().clock.monotonic()


def test_an_entry_does_not_wait_for_long_and_protection_does() -> None:
    """With nothing saved up an entry is not sent and says why, a stop waits for its turn."""
    venue = Venue()
    broker, entry, stop = in_session(venue), order(name="buy"), order(Leg.STOP, stop="98")
    permit = SendPermit(entry, never_refuse)
    for _ in range(9):
        asyncio.run(broker.cancel("sell"))
    venue.asked.clear()
    with pytest.raises(Unavailable, match="the order buy was not sent: 60 requests per minute are allowed"):
        asyncio.run(broker.submit(entry, permit))
    assert (permit.redeemed, venue.asked) == (False, [])
    asyncio.run(broker.submit(stop, SendPermit(stop, never_refuse)))
    assert venue.asked == ["submit"]


def test_f11_f12_a_broker_that_wants_to_be_left_alone_is() -> None:
    """Until its time has passed only cancels reach it; a reading fails without being sent, and passes afterwards."""
    venue = Venue(0)
    broker = in_session(venue)
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


Request = Callable[[Any], Coroutine[Any, Any, Any]]
COUNTED: list[tuple[str, RequestPriority, Request]] = [
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
]
"""The requests that the circuit breaker counts."""

PUTS = (OptionRight.PUT, START.date(), START.date())

OTHERS: list[tuple[str, RequestPriority, Request]] = [
    ("prices", RequestPriority.READING, lambda broker: broker.prices(["AAA"])),
    ("maintenance", RequestPriority.READING, lambda broker: broker.maintenance()),
    ("hours", RequestPriority.READING, lambda broker: broker.hours(START.date())),
    ("close", RequestPriority.READING, lambda broker: broker.close()),
    ("vix_close", RequestPriority.READING, lambda broker: broker.vix_close(START.date())),
    ("vix_now", RequestPriority.READING, lambda broker: broker.vix_now()),
    ("market_caps", RequestPriority.READING, lambda broker: broker.market_caps(["AAA"])),
    ("option_contracts", RequestPriority.READING, lambda broker: broker.option_contracts("AAA", *PUTS)),
    ("option_quotes", RequestPriority.LOOKUP, lambda broker: broker.option_quotes(["AAA260116P00020000"])),
]
"""The requests that may have another connection than the account."""

REQUESTS = [*COUNTED, *OTHERS]


def test_each_row_of_the_table_is_a_method_of_the_port() -> None:
    """A row is a method, a method is tested here, and each optional ability has its row."""
    methods = {name for name, one in vars(BrokerPort).items() if inspect.iscoroutinefunction(one)}
    assert {name for name in methods if not name.startswith("_")} == {name for name, *_ in REQUESTS}
    assert {call.method for call in BROKER_CALLS} <= vars(BrokerPort).keys()
    assert {call.method for call in BROKER_CALLS} >= {name for name, *_ in REQUESTS}
    assert {call.ability for call in BROKER_CALLS} == {None, *ABILITIES}
    assert all(call.method == call.ability.method for call in BROKER_CALLS if call.ability is not None)


@pytest.mark.parametrize(("name", "priority", "request_it"), REQUESTS)
def test_f11_f92_no_request_passes_by_the_limits(name: str, priority: RequestPriority, request_it: Request) -> None:
    """Each is sent at its priority, a pause that its refusal asks for is kept, and an interrupted one has no answer."""
    venue = Venue(0)
    broker = in_session(venue)
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


@pytest.mark.parametrize("fault", [None, Unavailable("no line")])
def test_the_requests_of_a_plugin_have_the_priority_of_what_they_are_for(fault: Exception | None) -> None:
    """Cancels and protection alone may use the reserved share, also inside the plugin; nothing of it stays."""

    async def each(venue: Venue) -> list[RequestPriority]:
        broker, after = in_session(venue), list[RequestPriority]()
        venue.fault = fault
        for _, _, request_it in REQUESTS:
            with suppress(Unavailable):
                await request_it(broker)
            after.append(PRIORITY.get())
        return after

    venue = Venue(0)
    after = asyncio.run(each(venue))
    assert venue.priorities == [priority for _, priority, _ in REQUESTS]
    assert set(after) == {RequestPriority.READING}


@pytest.mark.parametrize("leg", [leg for leg in Leg if leg is not Leg.ENTRY])
def test_every_order_that_is_no_entry_protects(leg: Leg) -> None:
    """Stops, targets and exits have the priority of cancels."""
    venue = Venue(0)
    asyncio.run(submitted(in_session(venue), order(leg)))
    assert venue.priorities == [RequestPriority.PROTECTION]


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
            asyncio.run(in_session(venue).snapshot(START))


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
    heard = asyncio.run(in_session(venue).poll())
    assert [event.event_id for event in heard] == ["1"]


def test_f13_a_key_that_is_refused_is_remembered_until_something_is_answered() -> None:
    """A poll says nothing of the key, since nothing is asked for it."""
    venue = Venue(0)
    broker = in_session(venue)
    venue.fault = LoginNeeded("401 unauthorized")
    with pytest.raises(LoginNeeded):
        asyncio.run(broker.account())
    venue.fault = None
    asyncio.run(broker.poll())
    assert broker.login_rejection == "401 unauthorized"
    asyncio.run(broker.account())
    assert broker.login_rejection == ""


def test_a_broker_that_cannot_do_it_says_so() -> None:
    """It is not asked, nothing is spent, and that is no failure of its connection."""
    venue, circuit = Venue(), CircuitBreaker()
    broker = in_session(venue, circuit)
    assert broker.clock_ahead_s == (0.5,)
    venue.capabilities = BrokerCapabilities(requests_per_minute=LIMIT, streams=True)
    names = {ability.method for ability in ABILITIES} - {"events", "feed", "clock_ahead_s"}
    for name, _, request_it in REQUESTS:
        if name in names:
            with pytest.raises(Unavailable, match=f"does not offer {name}"):
                asyncio.run(request_it(broker))
    with pytest.raises(Unavailable, match="does not offer clock_ahead_s"):
        _ = broker.clock_ahead_s
    assert (venue.asked, broker.available_requests, circuit) == ([], 9, CircuitBreaker())


@pytest.mark.parametrize(("name", "_priority", "request_it"), COUNTED)
@pytest.mark.parametrize("fault", [Unavailable("gone"), OutcomeUnknown("silent")])
def test_f12_three_failures_of_any_request_open_the_circuit(
    name: str, _priority: RequestPriority, request_it: Request, fault: Exception
) -> None:
    """From the start of the first of them; the caller gets the error. A rejection before them is an answer."""
    venue, circuit = Venue(0), CircuitBreaker()
    broker = in_session(venue, circuit)
    for venue.fault in (Rejected("no"), Rejected("no"), Rejected("no"), None):
        with suppress(Rejected):
            asyncio.run(request_it(broker))
        assert circuit.closed, name
    venue.fault = fault
    for _ in range(3):
        assert circuit.closed, name
        with pytest.raises(type(fault)):
            asyncio.run(request_it(broker))
    assert (circuit.state, circuit.since) == (CircuitState.OPEN, START)


@pytest.mark.parametrize(("name", "_priority", "request_it"), OTHERS)
def test_what_may_have_another_connection_opens_no_circuit(
    name: str, _priority: RequestPriority, request_it: Request
) -> None:
    """Prices, hours and notices say nothing of orders and account."""
    venue, circuit = Venue(0), CircuitBreaker()
    venue.fault = Unavailable(f"no {name}")
    for _ in range(5):
        with pytest.raises(Unavailable):
            asyncio.run(request_it(in_session(venue, circuit)))
    assert circuit.closed


def test_an_order_that_was_held_back_here_is_no_failure() -> None:
    """A revoked permit says nothing of the connection."""
    venue, circuit = Venue(0), CircuitBreaker()
    venue.fault = Withdrawn("killed")
    for _ in range(4):
        with pytest.raises(Withdrawn):
            asyncio.run(submitted(in_session(venue, circuit), order()))
    assert circuit == CircuitBreaker()


def test_a_simulated_venue_has_no_limits() -> None:
    """It is asked as it is, also in a session; what it is shown reaches it."""
    venue = Venue()
    venue.capabilities = BrokerCapabilities(simulated=True, requests_per_minute=1)
    port = BrokerPort(venue)
    broker = port.for_session(venue.clock, CircuitBreaker())
    assert broker is port
    venue.currency = "EUR"
    ask_all(broker)
    ask_all(broker)
    assert (broker.available_requests, broker.stream, broker.reported_account) == (None, None, None)


@pytest.mark.parametrize("asked", ["connect", "account", "snapshot"])
def test_f51_money_in_another_currency_is_no_reading(asked: str) -> None:
    """An account that is told in euros is refused as one that was not read, and the sentence names both currencies."""
    venue = Venue(0)
    venue.currency = "EUR"
    broker = in_session(venue)
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

    broker = in_session(Blocks(0))
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
