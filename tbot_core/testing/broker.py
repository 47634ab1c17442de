"""The contract of brokers: numbered cases, and a pytest class that a plugin's tests inherit.

A plugin's test supplies a venue: the connected broker with an open session, and a market that the test moves::

    class TestContract(BrokerContract):
        @pytest.fixture
        def venue(self) -> FakeExchange:
            return FakeExchange()

Tests of optional capabilities are skipped according to its declared capabilities, those of faults where the venue has
no scripted server (`tbot_core.testing.venue`, `tbot_core.testing.broker_faults`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, cast
from weakref import WeakKeyDictionary

import attrs

from tbot_core.contracts import Broker, BrokerEvent, BrokerEventKind, Gap, OrderStatus
from tbot_core.contracts.abilities import OPEN_ORDERS, ORDER_LOOKUP, POLLING, REPLACE, STREAM, undeclared_differences
from tbot_core.errors import BrokerError, Withdrawn
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import Leg, Order, OrderType, SignalId
from tbot_core.testing.broker_faults import FAULT_CASES
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand
from tbot_core.testing.venue import PartlyFillingVenue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from tbot_core.model.types import Account, Fill
    from tbot_core.testing.venue import BrokerUnderTest

PRICE: Final = Decimal(20)
DAWN: Final = datetime(2000, 1, 1, tzinfo=UTC)
_QUANTITY: Final = Decimal(10)
_FAR: Final = Decimal(10)
_PART: Final = Decimal(3)
_QUIET_S: Final = 0.5
_ELSE: Final = "or declare brackets=False: tbot then places a stop after each fill"


class CaseOrderOptions(TypedDict, total=False):
    """The terms of an order in a test case."""

    leg: Leg
    buy: bool
    quantity: Decimal
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    protection: tuple[Order, ...]


def b01_it_is_a_broker(venue: BrokerUnderTest) -> None:
    """The broker has every method of the protocol."""
    demand(isinstance(venue.broker, Broker), "a broker must have every method of the protocol")


def b02_its_capabilities_fit_each_other(venue: BrokerUnderTest) -> None:
    """Quantities have a step, which is below one share exactly if some order type may be fractional."""
    declared = venue.broker.capabilities
    demand(declared.quantity_step > 0, "the quantity step must be above 0")
    demand(
        (declared.quantity_step < 1) == bool(declared.fractional_types),
        "fractional quantities need a step below 1 and an order type",
    )
    demand(declared.fractional_types <= {*OrderType}, "fractional types must be order types")
    readable = declared.lists_closed or declared.lists_fills or declared.query_by_cid
    demand(readable, "the outcome of a finished order must be readable in at least one way")
    demand(declared.cid_length >= 20, "a client order id must allow 20 characters")


def b03_it_says_whose_account_it_is(venue: BrokerUnderTest) -> None:
    """The account has an id and finite amounts, and connecting again changes nothing."""
    account = venue.wait(venue.broker.connect())
    demand(bool(account.account_id), "the account must have an id")
    demand(account.equity.is_finite() and account.cash.is_finite(), "equity and cash must be finite")
    demand(venue.wait(venue.broker.connect()) == account, "connecting twice must give the same account")


def b04_a_market_order_is_filled(venue: BrokerUnderTest) -> None:
    """A market order is acknowledged, then filled: completely, on its side, with fees of 0 or more, an aware time."""
    events = _traded(venue, _order(venue, "kit-1"))
    demand(events[0].kind == BrokerEventKind.ACKNOWLEDGED, "the first event of an order must acknowledge it")
    fills = _fills(events)
    demand(sum((fill.quantity for fill in fills), Decimal(0)) == _QUANTITY, "the fills must add up to the order")
    for fill in fills:
        demand(
            (fill.client_order_id, fill.symbol, fill.buy) == ("kit-1", venue.symbol, True),
            "a fill must name its order",
        )
        demand(fill.price > 0 and fill.fees >= 0, "a fill needs a price, and fees that are not negative")
        demand(fill.time.utcoffset() is not None, "the time of a fill must be aware")


def b05_an_event_is_reported_once(venue: BrokerUnderTest) -> None:
    """Ids of events and executions are unique, kinds are known, and a poll returns nothing twice."""
    events = _traded(venue, _order(venue, "kit-1"))
    events += _traded(venue, _order(venue, "kit-2", buy=False, leg=Leg.EXIT))
    demand(not _poll(venue), "a polled event must not be reported again")
    demand({event.kind for event in events} <= {*BrokerEventKind}, "events must have a kind of the core")
    demand(_distinct([event.event_id for event in events]), "event ids must be unique")
    if venue.broker.capabilities.exec_ids_unique:
        demand(_distinct([fill.execution_id for fill in _fills(events)]), "execution ids must be unique")


def b07_a_resting_order_is_cancelled(venue: BrokerUnderTest) -> None:
    """The cancel of a resting order is reported as an event, and the order is no longer filled."""
    _submit(venue, _order(venue, "kit-1", type=OrderType.LIMIT, limit_price=PRICE - _FAR))
    venue.wait(venue.broker.cancel("kit-1"))
    kinds = [event.kind for event in _poll(venue)]
    demand(BrokerEventKind.CANCELLED in kinds, "a cancel must be reported")
    venue.trade_at(PRICE - _FAR - 1)
    demand(not _fills(_poll(venue)), "a cancelled order must not fill")


def b08_an_unknown_order_cannot_be_cancelled(venue: BrokerUnderTest) -> None:
    """A cancel of an unknown order is rejected, as an error or an event."""
    try:
        venue.wait(venue.broker.cancel("kit-never-sent"))
    except BrokerError:
        return
    kinds = {event.kind for event in _poll(venue)}
    demand(bool(kinds & {BrokerEventKind.CANCEL_REFUSED, BrokerEventKind.NOT_FOUND}), "the rejection must be reported")
    demand(BrokerEventKind.CANCELLED not in kinds, "nothing must be cancelled")


def b09_protection_rests_from_the_fill_on(venue: BrokerUnderTest) -> None:
    """The stop of a filled entry is acknowledged, and fills once the market trades through it."""
    _needs_brackets(venue)
    events = _traded(venue, _protected(venue))
    demand((BrokerEventKind.ACKNOWLEDGED, "kit-stop") in _reported(events), "the stop must be working")
    venue.trade_at(PRICE - 5)
    demand([fill.client_order_id for fill in _fills(_poll(venue))] == ["kit-stop"], "the stop must fill")


def b10_a_stop_moves_at_once(venue: BrokerUnderTest) -> None:
    """A moved stop fills at its new level, not at its old one."""
    _needs_brackets(venue)
    broker = REPLACE.of(venue.broker)
    if broker is None:
        raise NotClaimed("the broker's capabilities do not claim it")
    _traded(venue, _protected(venue))
    venue.wait(broker.replace("kit-stop", _stop(venue, PRICE - 8)))
    demand((BrokerEventKind.REPLACED, "kit-stop") in _reported(_poll(venue)), "the replace must be reported")
    venue.trade_at(PRICE - 5)
    demand(not _fills(_poll(venue)), "the old level must no longer apply")
    venue.trade_at(PRICE - 9)
    demand([fill.client_order_id for fill in _fills(_poll(venue))] == ["kit-stop"], "the new level must apply")


def b11_fractions_are_filled(venue: BrokerUnderTest) -> None:
    """If market orders may be fractional, one share and one step are filled exactly."""
    declared = venue.broker.capabilities
    if OrderType.MARKET not in declared.fractional_types:
        raise NotClaimed("the broker's capabilities do not claim it")
    quantity = 1 + declared.quantity_step
    fills = _fills(_traded(venue, _order(venue, "kit-1", quantity=quantity)))
    demand(sum((fill.quantity for fill in fills), Decimal(0)) == quantity, "fractional quantities must be exact")


def b12_cash_follows_fills(venue: BrokerUnderTest) -> None:
    """The cost of a fill, including fees, is deducted from the account to the cent."""
    before: Account = venue.wait(venue.broker.account())
    fills = _fills(_traded(venue, _order(venue, "kit-1")))
    after: Account = venue.wait(venue.broker.account())
    cost = sum((fill.quantity * fill.price + fill.fees for fill in fills), Decimal(0))
    demand(abs(before.cash - cost - after.cash) < Decimal("0.01"), "cash must fall by price x quantity and fees")


def b13_nothing_leaves_without_a_permit(venue: BrokerUnderTest) -> None:
    """An order whose permit was withdrawn is not sent, even if sending it had begun."""
    order = _order(venue, "kit-1")
    withdrawn = False
    try:
        venue.wait(venue.broker.submit(order, SendPermit(order, lambda _: "cancelled by the contract kit")))
    except Withdrawn:
        withdrawn = True
    demand(withdrawn, "the permit must be redeemed before anything is sent")
    venue.trade_at(PRICE)
    demand(not _poll(venue), "an order that was not sent must not exist")


def b14_a_snapshot_shows_what_was_traded(venue: BrokerUnderTest) -> None:
    """Positions, cash and the orders of the day are read together, including a working order."""
    resting = _order(venue, "kit-2", type=OrderType.LIMIT, limit_price=PRICE - _FAR)
    _traded(venue, _order(venue, "kit-1"))
    _submit(venue, resting)
    snapshot = venue.wait(venue.broker.snapshot(DAWN))
    held = {holding.symbol: holding.quantity for holding in snapshot.holdings}
    demand(held == {venue.symbol: _QUANTITY}, "the account must hold what was bought, and nothing else")
    demand(snapshot.account == venue.wait(venue.broker.account()), "cash must match the account")
    kinds = {report.client_order_id: report.kind for report in snapshot.orders}
    demand(kinds.get("kit-2") == OrderStatus.WORKING, "a working order must be listed as open")
    if (lister := OPEN_ORDERS.of(venue.broker)) is not None:
        working = [one for one in venue.wait(lister.open_orders()) if one.kind == OrderStatus.WORKING]
        demand([one.client_order_id for one in working] == ["kit-2"], "open_orders must list exactly what works")
    if venue.broker.capabilities.lists_closed:
        demand(kinds.get("kit-1") == OrderStatus.FILLED, "a filled order must be listed as filled")
    if venue.broker.capabilities.lists_fills:
        done = [fill.quantity for fill in snapshot.fills if fill.client_order_id == "kit-1"]
        demand(sum(done) == _QUANTITY, "the executions of filled orders must be listed")


def b15_an_order_is_found_by_its_id(venue: BrokerUnderTest) -> None:
    """An order is found by its id, with the filled quantity and price; an id that was never sent is unknown."""
    broker = ORDER_LOOKUP.of(venue.broker)
    if broker is None:
        raise NotClaimed("the broker's capabilities do not claim it")
    fills = _fills(_traded(venue, _order(venue, "kit-1")))
    report = venue.wait(broker.find("kit-1"))
    demand(report is not None and report.kind == OrderStatus.FILLED, "a filled order must be reported as filled")
    if report is not None:
        demand(report.filled == _QUANTITY, "the filled quantity must be the sum of the fills")
        demand(report.average_price == fills[0].price or len(fills) > 1, "one fill has the average price")
    demand(venue.wait(broker.find("kit-never-sent")) is None, "an order that was never sent must not be found")


def b16_it_declares_its_optional_methods(venue: BrokerUnderTest) -> None:
    """The broker has the optional methods that its capabilities declare, and no others."""
    differences = "; ".join(undeclared_differences(venue.broker, venue.broker.capabilities))
    demand(not differences, differences)


def b17_it_says_how_it_knows_whose_money_it_is(venue: BrokerUnderTest) -> None:
    """An account that is reported as live money, or as none, comes with the evidence."""
    account = venue.wait(venue.broker.account())
    if account.live is None:
        raise NotClaimed("the account does not say whether it is live money, so live trading is refused")
    demand(bool(account.evidence.strip()), "Account.live needs Account.evidence: how it is known")


def b18_a_stream_says_when_it_stands(venue: BrokerUnderTest) -> None:
    """The first item of a stream is a gap, so that the account is read; then events come in their order."""
    if STREAM.of(venue.broker) is None:
        raise NotClaimed("the broker's capabilities do not claim a stream")
    demand([type(item) for item in _stream(venue)] == [Gap], "a connected stream must report a Gap, and nothing else")
    _submit(venue, _order(venue, "kit-1"))
    venue.trade_at(PRICE)
    kinds = [event.kind for event in _poll(venue) if event.client_order_id == "kit-1"]
    demand(kinds[:1] == [BrokerEventKind.ACKNOWLEDGED], "an order must be acknowledged before it is filled")
    demand(BrokerEventKind.FILL in kinds[1:], "the fill must be reported by the stream")


def b19_brackets_protect_a_part(venue: BrokerUnderTest) -> None:
    """What is filled of an entry is protected by its legs at once, and still after the rest of the entry has ended."""
    _needs_brackets(venue)
    shown = isinstance(venue, PartlyFillingVenue)
    demand(shown, f"the venue must have trade_some, to show that brackets protect a part of an entry, {_ELSE}")
    _submit(venue, attrs.evolve(_protected(venue), type=OrderType.LIMIT, limit_price=PRICE - 1))
    cast("PartlyFillingVenue", venue).trade_some(PRICE - 2, _PART)
    events = _poll(venue)
    demand(_quantity(events, "kit-1") == _PART, "trade_some must fill a part of the entry")
    words = "the stop of an entry that is filled in part must"
    demand((BrokerEventKind.ACKNOWLEDGED, "kit-stop") in _reported(events), f"{words} be working, {_ELSE}")
    with suppress(BrokerError):  # the venue may have ended the rest itself
        venue.wait(venue.broker.cancel("kit-1"))
    venue.trade_at(PRICE - 5)
    sold = _quantity(_poll(venue), "kit-stop")
    demand(sold == _PART, f"{words} sell that part when the rest has ended, not {sold} of {_PART}, {_ELSE}")


CASES: Final[tuple[ContractCase, ...]] = (
    b01_it_is_a_broker,
    b02_its_capabilities_fit_each_other,
    b03_it_says_whose_account_it_is,
    b04_a_market_order_is_filled,
    b05_an_event_is_reported_once,
    b07_a_resting_order_is_cancelled,
    b08_an_unknown_order_cannot_be_cancelled,
    b09_protection_rests_from_the_fill_on,
    b10_a_stop_moves_at_once,
    b11_fractions_are_filled,
    b12_cash_follows_fills,
    b13_nothing_leaves_without_a_permit,
    b14_a_snapshot_shows_what_was_traded,
    b15_an_order_is_found_by_its_id,
    b16_it_declares_its_optional_methods,
    b17_it_says_how_it_knows_whose_money_it_is,
    b18_a_stream_says_when_it_stands,
    b19_brackets_protect_a_part,
    *FAULT_CASES,
)
"""The contract, in order of the numbers."""


class BrokerContract(ContractTests):
    """The contract of brokers as tests; a subclass, or its module, has a fixture `venue`."""

    cases = CASES

    def test_contract(self, case: ContractCase, venue: BrokerUnderTest) -> None:
        """Run one case."""
        case(venue)


def _order(venue: BrokerUnderTest, client_order_id: str, **terms: Unpack[CaseOrderOptions]) -> Order:
    signal = SignalId(session=date(2026, 1, 5), strategy="kit", symbol=venue.symbol, minute=0, rule="kit")
    order = Order(
        client_order_id=client_order_id,
        signal=signal,
        leg=Leg.ENTRY,
        symbol=venue.symbol,
        buy=True,
        quantity=_QUANTITY,
        type=OrderType.MARKET,
    )
    return attrs.evolve(order, **terms)


def _protected(venue: BrokerUnderTest) -> Order:
    return _order(venue, "kit-1", protection=(_stop(venue, PRICE - 4),))


def _stop(venue: BrokerUnderTest, price: Decimal) -> Order:
    return _order(venue, "kit-stop", buy=False, leg=Leg.STOP, type=OrderType.STOP, stop_price=price)


def _submit(venue: BrokerUnderTest, order: Order) -> None:
    if venue not in _connections:
        _stream(venue)
    venue.wait(venue.broker.submit(order, SendPermit(order, never_refuse)))


def _traded(venue: BrokerUnderTest, order: Order) -> list[BrokerEvent]:
    # The events of an order that is sent and filled at the usual price.
    _submit(venue, order)
    venue.trade_at(PRICE)
    return _poll(venue)


class _Connection:
    # An open stream of events. The pending item is kept: cancelling it would close the stream.
    def __init__(self, events: AsyncIterator[BrokerEvent | Gap]) -> None:
        self._events = events
        self._pending: asyncio.Future[BrokerEvent | Gap] | None = None

    async def receive(self) -> list[BrokerEvent | Gap]:
        # Everything that arrives until nothing has for a while.
        received: list[BrokerEvent | Gap] = []
        while True:
            self._pending = self._pending or asyncio.ensure_future(_next(self._events))
            done, _ = await asyncio.wait({self._pending}, timeout=_QUIET_S)
            if not done:
                return received
            received.append(self._pending.result())
            self._pending = None


_connections: Final[MutableMapping[BrokerUnderTest, _Connection]] = WeakKeyDictionary()


async def _next(events: AsyncIterator[BrokerEvent | Gap]) -> BrokerEvent | Gap:
    return await anext(events)


def _stream(venue: BrokerUnderTest) -> list[BrokerEvent | Gap]:
    # What the stream of events has reported since the last call; it is opened by the first one.
    source = STREAM.of(venue.broker)
    if source is None:
        return []
    if venue not in _connections:
        _connections[venue] = _Connection(source.events())
    return venue.wait(_connections[venue].receive())


def _poll(venue: BrokerUnderTest) -> list[BrokerEvent]:
    source = POLLING.of(venue.broker)
    reported = _stream(venue) if source is None else venue.wait(source.poll())
    return [event for event in reported if isinstance(event, BrokerEvent)]


def _fills(events: list[BrokerEvent]) -> list[Fill]:
    return [event.fill for event in events if event.fill is not None]


def _quantity(events: list[BrokerEvent], client_order_id: str) -> Decimal:
    # The filled quantity of an order.
    return sum((fill.quantity for fill in _fills(events) if fill.client_order_id == client_order_id), Decimal(0))


def _reported(events: list[BrokerEvent]) -> set[tuple[str, str]]:
    return {(event.kind, event.client_order_id) for event in events}


def _distinct(names: list[str]) -> bool:
    return len(set(names)) == len(names)


def _needs_brackets(venue: BrokerUnderTest) -> None:
    if not venue.broker.capabilities.brackets:
        raise NotClaimed("the broker's capabilities do not claim brackets")
