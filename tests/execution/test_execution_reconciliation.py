"""Reconciliation: the broker wins on facts, the journal on intent, and nothing is invented to make numbers match."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import AccountSnapshot, OrderStatusReport, PositionReport
from tbot_core.execution.reconciliation import (
    LocalBooks,
    PositionDifference,
    ReconciliationStatus,
    compare_with_books,
    events_from_report,
    open_beyond_books,
    snapshots_agree,
)
from tbot_core.model.types import Account, Fill, OrderState
from tbot_core.testing.trades import fill, order
from tbot_core.trading.orders import BROKER_EVENT_KINDS, SUPPOSED_PREFIX, OrderEvent, OrderRecord, advance

D = Decimal
OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
LATER = OPEN + timedelta(minutes=5)
ACCOUNT = Account(account_id="A", equity=D(100_000), cash=D(100_000))
EMPTY = AccountSnapshot(account=ACCOUNT)


def record(state: OrderState = OrderState.NEW, filled: str = "0", *executions: str) -> OrderRecord:
    """An entry to buy 100 AAA at 100, in a state."""
    return OrderRecord(
        order=order(limit="100"),
        state=state,
        filled=Decimal(filled),
        executions=dict.fromkeys(executions, fill(order(), "100")),
    )


def report(
    kind: str = "acknowledged", *fills: Fill, filled: str | None = None, average: str = "100"
) -> OrderStatusReport:
    """What the broker says of it."""
    total = sum((fill.quantity for fill in fills), D(0)) if filled is None else D(filled)
    one = order(limit="100")
    return OrderStatusReport(
        client_order_id=one.client_order_id,
        broker_order_id="1",
        kind=kind,
        symbol=one.symbol,
        buy=one.buy,
        quantity=one.quantity,
        time=LATER,
        filled=total,
        average_price=D(average),
        fills=fills,
    )


def part(quantity: str, execution: str, price: str = "100") -> Fill:
    """An execution of the entry."""
    one = order(limit="100")
    return Fill(
        execution_id=execution,
        client_order_id=one.client_order_id,
        symbol=one.symbol,
        buy=True,
        quantity=D(quantity),
        price=D(price),
        fees=D(0),
        time=LATER,
    )


def settled(before: OrderRecord, said: OrderStatusReport) -> OrderRecord:
    """The record after everything that the report tells."""
    for event in events_from_report(before, said):
        before, _ = advance(before, BROKER_EVENT_KINDS[event.kind], event.fill)
    return before


def books(one: OrderRecord, held: str = "0", foreign: str = "0") -> LocalBooks:
    """The journal's side of one order."""
    cid = one.order.client_order_id
    return LocalBooks(orders={cid: one}, held={"AAA": D(held)}, external={"AAA": D(foreign)}, listed=frozenset({cid}))


def reading(*reports: OrderStatusReport, held: str = "0") -> AccountSnapshot:
    """All that the broker shows."""
    holdings = (PositionReport(symbol="AAA", quantity=D(held)),) if D(held) else ()
    return AccountSnapshot(account=ACCOUNT, orders=reports, holdings=holdings)


ENDS = [
    ("acknowledged", OrderState.NEW),
    ("rejected", OrderState.REJECTED),
    ("cancelled", OrderState.CANCELLED),
    ("expired", OrderState.EXPIRED),
]


@pytest.mark.parametrize(("kind", "state"), ENDS)
@pytest.mark.parametrize("before", [OrderState.SENDING, OrderState.UNKNOWN, OrderState.LOST])
def test_an_order_in_doubt_becomes_what_the_broker_says(before: OrderState, kind: str, state: OrderState) -> None:
    """Whatever it is, the report settles it, once."""
    after = settled(record(before), report(kind))
    assert after.state is state
    assert not list(events_from_report(after, report(kind)))


@pytest.mark.parametrize("state", [OrderState.NEW, OrderState.PARTIALLY_FILLED])
def test_a_looked_up_rejection_ends_an_order_that_was_taken(state: OrderState) -> None:
    """The stream's word alone leaves it in doubt; what the broker knows of it when asked ends it, and is told once."""
    events = [*events_from_report(record(state), attrs.evolve(report("rejected"), words="not tradable"))]
    assert [(event.kind, event.words) for event in events] == [("cancelled", "not tradable")]
    after, _ = advance(record(state), BROKER_EVENT_KINDS[events[0].kind])
    assert after.state is OrderState.CANCELLED
    assert [*events_from_report(after, report("rejected"))] == []


def test_executions_that_the_journal_lacks_are_told_once() -> None:
    """The ones it has stay as they are; the order ends filled."""
    said = report("fill", part("40", "a"), part("60", "b"))
    events = list(events_from_report(record(OrderState.PARTIALLY_FILLED, "40", "a"), said))
    assert [event.event_id for event in events] == ["execution b"]
    after = settled(record(OrderState.PARTIALLY_FILLED, "40", "a"), said)
    assert (after.state, after.filled) == (OrderState.FILLED, D(100))


def test_a_cumulative_quantity_without_executions_becomes_one_supposed_fill() -> None:
    """At the price that makes the average true, under an id that the same report gives again."""
    said = report("acknowledged", part("40", "a", "100"), filled="60", average="101")
    (event,) = events_from_report(record(OrderState.PARTIALLY_FILLED, "40", "a"), said)
    assert event.fill is not None
    assert (event.fill.quantity, event.fill.price) == (D(20), D(103))
    assert event.fill.execution_id == f"{SUPPOSED_PREFIX}entry-40-60"
    after = settled(record(OrderState.PARTIALLY_FILLED, "40", "a"), said)
    assert not list(events_from_report(after, said))
    named = report("acknowledged", part("40", "a"), part("20", "b", "103"), filled="60", average="101")
    assert settled(after, named).filled == D(60)


def test_a_fill_of_an_order_that_ended_is_told() -> None:
    """A late fill counts, and the end stays what it was."""
    after = settled(record(OrderState.CANCELLED), report("cancelled", part("30", "a")))
    assert (after.state, after.filled) == (OrderState.CANCELLED, D(30))


def test_what_agrees_is_matched() -> None:
    """Orders, holdings and nothing else: no event, no difference."""
    findings = compare_with_books(books(record(), "40"), reading(report(), held="40"))
    assert findings.verdict is ReconciliationStatus.MATCHED


def test_f26_executions_are_told_of_orders_that_are_listed_no_more() -> None:
    """Each once, those too that a report of a cumulative quantity does not name."""
    apart = attrs.evolve(reading(held="100"), fills=(part("40", "a"), part("60", "b")))
    findings = compare_with_books(books(record(OrderState.PARTIALLY_FILLED, "40", "a"), "40"), apart)
    assert [event.event_id for event in findings.events] == ["execution b"]
    assert findings.differences == ()
    beside = attrs.evolve(reading(report("fill", filled="100"), held="100"), fills=apart.fills)
    findings = compare_with_books(books(record()), beside)
    assert [event.event_id for event in findings.events] == ["execution a", "execution b"]
    assert findings.differences == ()


def test_an_execution_that_was_supposed_adds_nothing_when_it_is_named() -> None:
    """The holding that is expected counts it once."""
    before = attrs.evolve(record(OrderState.PARTIALLY_FILLED, "40"), inferred_quantity=D(40))
    named = reading(report("acknowledged", part("40", "a"), part("10", "b")), held="50")
    assert compare_with_books(books(before, "40"), named).differences == ()


def test_readings_that_list_other_executions_do_not_agree() -> None:
    """One of them is older than the other."""
    assert not snapshots_agree(reading(), attrs.evolve(reading(), fills=(part("40", "a"),)))


def test_an_order_that_is_nowhere_is_absent_and_nothing_more() -> None:
    """It is not taken for rejected; one that ended or was sent just now cannot be missed."""
    findings = compare_with_books(books(record(OrderState.SENDING)), EMPTY)
    assert (findings.not_found, findings.verdict) == (("entry",), ReconciliationStatus.UNSETTLED)
    assert not findings.events
    assert not compare_with_books(books(record(OrderState.CANCELLED)), EMPTY).not_found
    assert not compare_with_books(attrs.evolve(books(record()), listed=frozenset()), EMPTY).not_found


def test_a_strangers_order_is_named() -> None:
    """One with an id that is not ours, and one without any."""
    other = attrs.evolve(report(), client_order_id="human")
    nameless = attrs.evolve(report(), client_order_id="", broker_order_id="7")
    findings = compare_with_books(books(record()), reading(report(), other, nameless))
    assert findings.external_orders == (other, nameless)
    assert findings.verdict is ReconciliationStatus.ADOPTED


def test_holdings_are_compared_after_what_the_reading_brings() -> None:
    """A fill that the journal lacks explains its shares; what nothing explains is a difference."""
    said = report("acknowledged", part("40", "a"))
    assert not compare_with_books(books(record()), reading(said, held="40")).differences
    findings = compare_with_books(books(record(), foreign="5"), reading(said, held="50"))
    assert findings.differences == (PositionDifference(symbol="AAA", ours=D(45), theirs=D(50)),)


def test_a_holding_that_went_away_is_a_difference() -> None:
    """The journal holds it, the broker does not: that is told too."""
    findings = compare_with_books(books(record(OrderState.FILLED, "100"), "100"), EMPTY)
    assert findings.differences == (PositionDifference(symbol="AAA", ours=D(100), theirs=D(0)),)


def test_two_readings_agree_by_their_facts_or_by_the_venues_mark() -> None:
    """Order of listing does not count; cash, holdings and what was filled do; a mark settles it alone."""
    one, two = reading(report(), held="1"), reading(report(), held="2")
    assert snapshots_agree(one, one)
    assert not snapshots_agree(one, two)
    assert not snapshots_agree(one, attrs.evolve(one, account=attrs.evolve(ACCOUNT, cash=D(1))))
    assert not snapshots_agree(one, reading(report(filled="1"), held="1"))
    assert snapshots_agree(attrs.evolve(one, barrier="7"), attrs.evolve(one, barrier="7"))
    assert not snapshots_agree(attrs.evolve(one, barrier="7"), attrs.evolve(one, barrier="8"))


parts = st.lists(st.integers(1, 40), max_size=5)
kinds = st.sampled_from(["acknowledged", "cancelled", "expired"])


@given(
    parts, st.lists(st.booleans(), min_size=5, max_size=5), st.sampled_from(["acknowledged", "cancelled", "expired"])
)
def test_whatever_was_missed_the_report_makes_good(quantities: list[int], seen: list[bool], kind: str) -> None:
    """Some executions came, some did not: after the report the quantity is the broker's, and it tells no more."""
    fills = tuple(part(str(quantity), str(index)) for index, quantity in enumerate(quantities))
    before = record()
    for one, came in zip(fills, seen, strict=False):
        if came:
            before, _ = advance(before, OrderEvent.FILL, one)
    said = report(kind, *fills)
    after = settled(before, said)
    assert after.filled == said.filled
    assert not list(events_from_report(after, said))


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("kind", ["acknowledged", "fill"])
def test_f29_f49_a_report_from_before_a_bust_does_not_bring_its_execution_back(kind: str, *, listed: bool) -> None:
    """Whether it lists executions or counts them only; what it counts beyond them is a fill that was missed."""
    before, _ = advance(record(OrderState.PARTIALLY_FILLED, "40", "a"), OrderEvent.FILL, part("30", "b"))
    before, _ = advance(before, OrderEvent.BUST, part("30", "b"))
    fills = (part("40", "a"), part("30", "b")) if listed else ()
    older = attrs.evolve(report("acknowledged", *fills, filled="70", average="100"))
    assert not list(events_from_report(before, older))
    after = settled(before, attrs.evolve(older, kind=kind, filled=D(100)))
    ended = OrderState.EXPIRED if kind == "fill" else OrderState.PARTIALLY_FILLED
    assert (after.state, after.filled) == (ended, D(70))


def test_f30_of_two_executions_under_one_id_the_second_gets_an_id_of_its_own() -> None:
    """Where what was filled has room for it; one that is listed twice is one."""
    first = part("40", "a")
    second = attrs.evolve(part("60", "a"), time=first.time + timedelta(seconds=5))
    said = report("fill", first, first, second, filled="100")
    assert [event.event_id for event in events_from_report(record(OrderState.NEW, "0"), said)] == [
        "execution a",
        "execution a+2",
    ]
    less = attrs.evolve(report("fill", first, second), filled=Decimal(40))
    assert "execution a+2" not in [event.event_id for event in events_from_report(record(OrderState.NEW, "0"), less)]


@pytest.mark.parametrize(("held", "told"), [("130", ["execution a+2"]), ("100", [])])
def test_f28_f30_more_than_was_ordered_under_a_used_id_counts_if_the_account_holds_it(
    held: str, told: list[str]
) -> None:
    """The order is not listed any more, and its executions are: what the account holds says whether both count."""
    first, second = part("100", "a"), part("30", "a")
    there = attrs.evolve(record(OrderState.FILLED, "100"), executions={"a": first})
    findings = compare_with_books(books(there, "100"), attrs.evolve(reading(held=held), fills=(first, second)))
    assert [event.event_id for event in findings.events] == told
    assert findings.differences == ()


@pytest.mark.parametrize("price", [10, 11])
def test_f25_f30_of_two_executions_under_one_id_the_second_may_be_told_first(price: int) -> None:
    """The first, which is listed before it, gets the id of its own, at one price or two; nothing is booked twice."""
    first, second = (
        attrs.evolve(part(quantity, "a"), price=Decimal(paid)) for quantity, paid in (("40", 10), ("60", price))
    )
    second = attrs.evolve(second, time=first.time + timedelta(seconds=5))
    there = attrs.evolve(record(OrderState.PARTIALLY_FILLED, "60"), executions={"a": second})
    (event,) = events_from_report(there, report("fill", first, second, filled="100"))
    assert event.fill == attrs.evolve(first, execution_id="a+2")


@pytest.mark.parametrize(
    ("state", "ended", "said", "filled", "more"),
    [
        (OrderState.CANCELLED, True, "acknowledged", "0", "100"),
        (OrderState.CANCELLED, False, "acknowledged", "0", None),
        (OrderState.CANCELLED, True, "cancelled", "0", None),
        (OrderState.FILLED, True, "acknowledged", "100", None),
        (OrderState.NEW, False, "acknowledged", "0", None),
    ],
)
def test_what_is_open_beyond_the_books_is_what_they_do_not_count(
    state: OrderState, said: str, filled: str, more: str | None, *, ended: bool
) -> None:
    """An order that was over before the broker was asked is, with all that may still fill of it; no other is."""
    one = record(state, filled)
    found = open_beyond_books(one, report(said, filled=filled), ended=ended)
    assert (None if found is None else found.quantity - found.filled) == (None if more is None else D(more))


@pytest.mark.parametrize(("filled", "more"), [("0", "600"), ("30", "600"), ("150", "550")])
def test_f19_what_is_worked_for_more_than_was_ordered_is_open_beyond_it(filled: str, more: str) -> None:
    """The ordered part of what is left counts already."""
    found = open_beyond_books(record(filled=filled), attrs.evolve(report(filled=filled), quantity=D(700)), ended=False)
    assert found is not None
    assert found.quantity - found.filled == D(more)


def test_f19_a_leg_of_a_bracket_may_shrink_and_not_grow() -> None:
    """Its other leg was filled in part, or not all of the entry was; any other order was taken for less."""
    leg = attrs.evolve(order(limit="100"), client_order_id="leg", quantity=D(50))
    entry = attrs.evolve(record(), order=attrs.evolve(order(limit="100"), protection=(leg,)))
    orders = {entry.order.client_order_id: entry, "leg": OrderRecord(order=leg, state=OrderState.NEW)}
    for quantity, otherwise in (("40", False), ("50", False), ("60", True)):
        said = attrs.evolve(report(), client_order_id="leg", quantity=D(quantity))
        found = compare_with_books(LocalBooks(orders=orders, held={}), attrs.evolve(EMPTY, orders=(said,)))
        assert bool(found.open_with_other_terms) is otherwise
        assert bool(found.open_beyond_books) is otherwise
    less = attrs.evolve(report(), quantity=D(40))
    assert compare_with_books(books(record()), attrs.evolve(EMPTY, orders=(less,))).open_with_other_terms == (less,)
