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

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Unpack, cast

from tbot_core.contracts import Broker, BrokerEventKind, Gap, OrderStatus
from tbot_core.contracts.abilities import OPEN_ORDERS, ORDER_LOOKUP, REPLACE, undeclared_differences
from tbot_core.errors import BrokerError, Rejected, RejectionMeaning, Withdrawn
from tbot_core.execution.send_permit import SendPermit
from tbot_core.model.types import Leg, Order, OrderType
from tbot_core.testing.broker_faults import FAULT_CASES
from tbot_core.testing.broker_options import OPTION_CASES
from tbot_core.testing.broker_steps import (
    LOW,
    PRICE,
    OrderTerms,
    claimed,
    demand_raised,
    market,
    named,
    received,
    reported,
    resting,
    snapshot,
    stop,
    submit,
    traded,
)
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand
from tbot_core.testing.venue import PartlyFillingVenue

if TYPE_CHECKING:
    from tbot_core.contracts import BrokerEvent
    from tbot_core.model.types import Account, Fill
    from tbot_core.testing.venue import BrokerUnderTest

_QUANTITY: Final = Decimal(10)
_PART: Final = Decimal(3)
_ELSE: Final = "or declare brackets=False: tbot then places a stop after each fill"


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
    events = traded(venue, market("kit-1"))
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
    events = traded(venue, market("kit-1"))
    events += traded(venue, market("kit-2", buy=False, leg=Leg.EXIT))
    demand(not reported(venue), "a polled event must not be reported again")
    demand({event.kind for event in events} <= {*BrokerEventKind}, "events must have a kind of the core")
    demand(_distinct([event.event_id for event in events]), "event ids must be unique")
    if venue.broker.capabilities.exec_ids_unique:
        demand(_distinct([fill.execution_id for fill in _fills(events)]), "execution ids must be unique")


def b07_a_resting_order_is_cancelled(venue: BrokerUnderTest) -> None:
    """The cancel of a resting order is reported as an event, and the order is no longer filled."""
    submit(venue, resting("kit-1"))
    venue.wait(venue.broker.cancel("kit-1"))
    kinds = [event.kind for event in reported(venue)]
    demand(BrokerEventKind.CANCELLED in kinds, "a cancel must be reported")
    venue.trade_at(LOW - 1)
    demand(not _fills(reported(venue)), "a cancelled order must not fill")


def b08_an_unknown_order_cannot_be_cancelled(venue: BrokerUnderTest) -> None:
    """A cancel of an unknown order is rejected, as an error or an event."""
    try:
        venue.wait(venue.broker.cancel("kit-never-sent"))
    except BrokerError:
        return
    kinds = {event.kind for event in reported(venue)}
    demand(bool(kinds & {BrokerEventKind.CANCEL_REFUSED, BrokerEventKind.NOT_FOUND}), "the rejection must be reported")
    demand(BrokerEventKind.CANCELLED not in kinds, "nothing must be cancelled")


def b09_protection_rests_from_the_fill_on(venue: BrokerUnderTest) -> None:
    """The stop of a filled entry is acknowledged, and fills once the market trades through it."""
    _needs_brackets(venue)
    events = traded(venue, _protected())
    demand((BrokerEventKind.ACKNOWLEDGED, "kit-stop") in _kinds(events), "the stop must be working")
    venue.trade_at(PRICE - 5)
    demand([fill.client_order_id for fill in _fills(reported(venue))] == ["kit-stop"], "the stop must fill")


def b10_a_stop_moves_at_once(venue: BrokerUnderTest) -> None:
    """A moved stop fills at its new level, not at its old one."""
    broker = claimed(venue, REPLACE)
    traded(venue, market("kit-1"))
    submit(venue, stop(PRICE - 4))
    venue.wait(broker.replace("kit-stop", named(venue, stop(PRICE - 8))))
    demand((BrokerEventKind.REPLACED, "kit-stop") in _kinds(reported(venue)), "the replace must be reported")
    venue.trade_at(PRICE - 5)
    demand(not _fills(reported(venue)), "the old level must no longer apply")
    venue.trade_at(PRICE - 9)
    demand([fill.client_order_id for fill in _fills(reported(venue))] == ["kit-stop"], "the new level must apply")


def b11_fractions_are_filled(venue: BrokerUnderTest) -> None:
    """If market orders may be fractional, one share and one step are filled exactly."""
    declared = venue.broker.capabilities
    if OrderType.MARKET not in declared.fractional_types:
        raise NotClaimed("the broker's capabilities do not claim fractional market orders")
    quantity = 1 + declared.quantity_step
    fills = _fills(traded(venue, market("kit-1", quantity=quantity)))
    demand(sum((fill.quantity for fill in fills), Decimal(0)) == quantity, "fractional quantities must be exact")


def b12_cash_follows_fills(venue: BrokerUnderTest) -> None:
    """The cost of a fill, including fees, is deducted from the account to the cent."""
    before: Account = venue.wait(venue.broker.account())
    fills = _fills(traded(venue, market("kit-1")))
    after: Account = venue.wait(venue.broker.account())
    cost = sum((fill.quantity * fill.price + fill.fees for fill in fills), Decimal(0))
    demand(abs(before.cash - cost - after.cash) < Decimal("0.01"), "cash must fall by price x quantity and fees")


def b13_nothing_leaves_without_a_permit(venue: BrokerUnderTest) -> None:
    """An order whose permit was withdrawn is not sent, even if sending it had begun."""
    order = market("kit-1")
    withdrawn = False
    try:
        submit(venue, order, SendPermit(order, lambda _: "cancelled by the contract kit"))
    except Withdrawn:
        withdrawn = True
    demand(withdrawn, "the permit must be redeemed before anything is sent")
    venue.trade_at(PRICE)
    demand(not reported(venue), "an order that was not sent must not exist")


def b14_a_snapshot_shows_what_was_traded(venue: BrokerUnderTest) -> None:
    """Positions, cash and the orders of the day are read together, including a working order."""
    traded(venue, market("kit-1"))
    submit(venue, resting("kit-2"))
    found = snapshot(venue)
    held = {holding.symbol: holding.quantity for holding in found.holdings}
    demand(held == {venue.symbol: _QUANTITY}, "the account must hold what was bought, and nothing else")
    demand(found.account == venue.wait(venue.broker.account()), "cash must match the account")
    kinds = {report.client_order_id: report.kind for report in found.orders}
    demand(kinds.get("kit-2") == OrderStatus.WORKING, "a working order must be listed as open")
    if (lister := OPEN_ORDERS.of(venue.broker)) is not None:
        working = [report for report in venue.wait(lister.open_orders()) if report.kind == OrderStatus.WORKING]
        demand([report.client_order_id for report in working] == ["kit-2"], "open_orders must list exactly what works")
    if venue.broker.capabilities.lists_closed:
        demand(kinds.get("kit-1") == OrderStatus.FILLED, "a filled order must be listed as filled")
    if venue.broker.capabilities.lists_fills:
        done = [fill.quantity for fill in found.fills if fill.client_order_id == "kit-1"]
        demand(sum(done) == _QUANTITY, "the executions of filled orders must be listed")


def b15_an_order_is_found_by_its_id(venue: BrokerUnderTest) -> None:
    """An order is found by its id, with the filled quantity and price; an id that was never sent is unknown."""
    broker = claimed(venue, ORDER_LOOKUP)
    fills = _fills(traded(venue, market("kit-1")))
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
    demand([type(item) for item in received(venue)] == [Gap], "a connected stream must report a Gap, and nothing else")
    kinds = [event.kind for event in traded(venue, market("kit-1")) if event.client_order_id == "kit-1"]
    demand(kinds[:1] == [BrokerEventKind.ACKNOWLEDGED], "an order must be acknowledged before it is filled")
    demand(BrokerEventKind.FILL in kinds[1:], "the fill must be reported by the stream")


def b19_brackets_protect_a_part(venue: BrokerUnderTest) -> None:
    """What is filled of an entry is protected by its legs at once, and still after the rest of the entry has ended."""
    _needs_brackets(venue)
    shown = isinstance(venue, PartlyFillingVenue)
    demand(shown, f"the venue must have trade_some, to show that brackets protect a part of an entry, {_ELSE}")
    submit(venue, _protected(type=OrderType.LIMIT, limit_price=PRICE - 1))
    cast("PartlyFillingVenue", venue).trade_some(PRICE - 2, _PART)
    events = reported(venue)
    demand(_quantity(events, "kit-1") == _PART, "trade_some must fill a part of the entry")
    words = "the stop of an entry that is filled in part must"
    demand((BrokerEventKind.ACKNOWLEDGED, "kit-stop") in _kinds(events), f"{words} be working, {_ELSE}")
    with suppress(BrokerError):  # the venue may have ended the rest itself
        venue.wait(venue.broker.cancel("kit-1"))
    venue.trade_at(PRICE - 5)
    sold = _quantity(reported(venue), "kit-stop")
    demand(sold == _PART, f"{words} sell that part when the rest has ended, not {sold} of {_PART}, {_ELSE}")


def b20_an_id_is_used_once(venue: BrokerUnderTest) -> None:
    """An order under an id that was used before is refused as DUPLICATE_ID, while the first works and after its end."""
    if not venue.broker.capabilities.unique_client_order_id:
        raise NotClaimed("the broker's capabilities do not claim unique_client_order_id")
    submit(venue, resting("kit-1"))
    _demand_used(venue, "kit-1", "works")
    venue.wait(venue.broker.cancel("kit-1"))
    demand((BrokerEventKind.CANCELLED, "kit-1") in _kinds(reported(venue)), "the cancel must be reported")
    _demand_used(venue, "kit-1", "was cancelled")
    traded(venue, market("kit-2"))
    _demand_used(venue, "kit-2", "was filled")


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
    b20_an_id_is_used_once,
    *OPTION_CASES,
    *FAULT_CASES,
)
"""The contract, in order of the numbers."""


class BrokerContract(ContractTests):
    """The contract of brokers as tests; a subclass, or its module, has a fixture `venue`."""

    cases = CASES

    def test_contract(self, case: ContractCase, venue: BrokerUnderTest) -> None:
        """Run one case."""
        case(venue)


def _protected(**terms: Unpack[OrderTerms]) -> Order:
    terms["protection"] = (stop(PRICE - 4),)
    return market("kit-1", **terms)


def _demand_used(venue: BrokerUnderTest, client_order_id: str, state: str) -> None:
    words = f"the id of an order that {state} is refused"
    fault = demand_raised(Rejected, lambda: submit(venue, resting(client_order_id)), words)
    meaning = getattr(fault, "meaning", None)
    demand(meaning is RejectionMeaning.DUPLICATE_ID, f"{words} with the meaning DUPLICATE_ID, not {meaning}")


def _fills(events: list[BrokerEvent]) -> list[Fill]:
    return [event.fill for event in events if event.fill is not None]


def _quantity(events: list[BrokerEvent], client_order_id: str) -> Decimal:
    # The filled quantity of an order.
    return sum((fill.quantity for fill in _fills(events) if fill.client_order_id == client_order_id), Decimal(0))


def _kinds(events: list[BrokerEvent]) -> set[tuple[str, str]]:
    return {(event.kind, event.client_order_id) for event in events}


def _distinct(names: list[str]) -> bool:
    return len(set(names)) == len(names)


def _needs_brackets(venue: BrokerUnderTest) -> None:
    if not venue.broker.capabilities.brackets:
        raise NotClaimed("the broker's capabilities do not claim brackets")
