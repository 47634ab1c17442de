"""The ledger books the journal exactly: postings sum to zero, and lots close in their order."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import AccountActivity, BrokerEvent, OrderStatusReport
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import AccountMoved, Adjustment, CashStated, ForeignOrder
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.ledger import (
    Ledger,
    LotMovement,
    Posting,
    ShareSplit,
    SymbolLots,
    Transaction,
    ledger_of,
    lots_of,
)
from tbot_core.journal.projection import TypedEvent
from tbot_core.model.types import (
    ATOMS_PER_DOLLAR,
    Account,
    ExitReason,
    Fill,
    Leg,
    Order,
    atoms_of,
    quantity_of,
    units_of,
)
from tbot_core.testing.trades import fill, identity, order
from tbot_core.trading.orders import SUPPOSED_PREFIX
from tbot_core.trading.portfolio import Portfolio

MOMENT = dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)

ENTRY = order(name="entry", limit="10")

EXIT = order(Leg.EXIT, name="exit")


@attrs.frozen(kw_only=True)
class Said(TypedEvent):
    """An event without a journal."""

    kind: str
    payload: dict[str, Any]
    cid: str | None = None
    applied: dt.datetime = MOMENT


def reported(of: Order, price: str, quantity: str = "100", *, kind: str = "fill", execution: str = "1") -> Said:
    """A broker's word of an execution, with a fee of ten cents."""
    one = fill(of, price, quantity, execution=execution, fees="0.10")
    event = BrokerEvent(kind=kind, event_id=execution, client_order_id=of.client_order_id, fill=one)
    return Said(kind=kind, cid=of.client_order_id, payload=codec.write(OrderReported.of(event)))


def ledger(*events: Said) -> Ledger:
    """The ledger of a session that began with 10,000 USD, in which both orders were written down."""
    intents = [
        Said(kind=records.INTENDED, cid=one.client_order_id, payload=codec.write(OrderIntended.of(one)))
        for one in (ENTRY, EXIT)
    ]
    opened = Said(kind=records.SESSION_OPENED, payload={"equity": "10000"})
    return ledger_of([opened, *intents, *events])


def test_a_trade_is_balanced_entry_by_entry() -> None:
    """Bought at 10 and sold in part at 11: cash, shares at cost, fees and profit, and all of it is nothing."""
    found = ledger(reported(ENTRY, "10"), reported(EXIT, "11", "40", execution="2"))
    assert found.balances == {
        "cash": Decimal("9439.80"),
        "fees": Decimal("0.20"),
        "opening": -10000,
        "realised": -40,
        "securities:AAA": 600,
    }
    assert sum(found.balances.values()) == 0
    assert (found.cash, found.holdings) == (Decimal("9439.80"), {"AAA": Decimal(60)})
    assert [(one.what, one.reference) for one in found.transactions] == [("opening", ""), ("fill", "1"), ("fill", "2")]
    assert [lot.key for lot in found.lots["AAA"].open] == ["1"]


def test_a_transaction_that_does_not_balance_cannot_be_made() -> None:
    """The error names the difference."""
    with pytest.raises(ValueError, match="fill 1: the postings add up to 1, not to zero"):
        Transaction(time=MOMENT, what="fill", reference="1", postings=(Posting("cash", Decimal(1)),))


def test_i10_an_execution_is_booked_once() -> None:
    """Reported again it moves nothing, and the next session's opening says nothing new either."""
    once = ledger(reported(ENTRY, "10"))
    again = ledger(
        reported(ENTRY, "10"), reported(ENTRY, "10"), Said(kind=records.SESSION_OPENED, payload={"equity": "9"})
    )
    assert again.balances == once.balances


def test_what_is_not_ours_moves_nothing() -> None:
    """Orders that were never written down here, and words without an execution."""
    stranger = order(name="somebody")
    mute = Said(kind="fill", cid="entry", payload={"words": ""})
    void = Said(kind="busted", cid="entry", payload={"words": ""})
    strange = [reported(stranger, "10", kind=kind) for kind in ("fill", "busted", "corrected")]
    found = ledger(*strange, mute, void, Said(kind=records.INTENDED, payload={}))
    assert found.balances == {"cash": 10000, "opening": -10000}


def test_f29_a_bust_is_undone_by_a_reversing_entry() -> None:
    """The first lot never was: what it closed is taken from the second one, and its money comes back."""
    before = ledger(reported(ENTRY, "12", "60", execution="2"), reported(EXIT, "11", "40", execution="3"))
    after = ledger(
        reported(ENTRY, "10", "40"),
        reported(ENTRY, "12", "60", execution="2"),
        reported(EXIT, "11", "40", execution="3"),
        reported(ENTRY, "10", "40", kind="busted"),
    )
    assert after.balances == before.balances
    assert after.transactions[-1].what == "busted"
    assert {one.account: one.amount for one in after.transactions[-1].postings} == {
        "cash": Decimal("400.10"),
        "fees": Decimal("-0.10"),
        "securities:AAA": -480,
        "realised": Decimal(80),
    }


def test_f29_a_correction_is_the_difference() -> None:
    """Another price moves cash and cost."""
    found = ledger(reported(ENTRY, "10"), reported(ENTRY, "10.05", kind="corrected"))
    assert found.balances == ledger(reported(ENTRY, "10.05")).balances
    assert len(found.transactions) == 3


def test_f27_f29_a_report_of_an_execution_after_its_correction_changes_nothing() -> None:
    """One that was void before it was reported moves nothing, nor is it corrected; one with other terms is booked."""
    void = reported(ENTRY, "10", kind="busted"), reported(ENTRY, "10"), reported(ENTRY, "9", kind="corrected")
    assert (ledger(*void).holdings, len(ledger(*void).transactions)) == ({}, 1)
    corrected = reported(ENTRY, "10.05", kind="corrected"), reported(ENTRY, "10")
    assert ledger(*corrected).balances == ledger(reported(ENTRY, "10.05")).balances


def test_f26_a_supposed_fill_is_replaced_by_the_executions_that_are_named_later() -> None:
    """Each takes its part at its own price; what goes beyond the supposed one is booked besides."""
    supposed = reported(ENTRY, "10", "60", execution=f"{SUPPOSED_PREFIX}1")
    named = (reported(ENTRY, "9.90", "20", execution="a"), reported(ENTRY, "10.10", "80", execution="b"))
    assert ledger(supposed, named[0]).holdings == {"AAA": 60}
    found = ledger(supposed, *named)
    assert found.holdings == {"AAA": 100}
    assert found.cash == ledger(*named).cash - Decimal("0.10")
    assert ledger(supposed, *named, reported(ENTRY, "10", "5", execution="c")).holdings == {"AAA": 105}
    short = order(name="entry", buy=False)
    sold = ledger(
        reported(short, "10", "60", execution=f"{SUPPOSED_PREFIX}1"), reported(short, "9", "20", execution="a")
    )
    assert sold.holdings == {"AAA": -60}
    assert sold.cash == Decimal("10579.80")


def test_f46_what_others_closed_is_owed_and_no_cash_of_the_account() -> None:
    """The shares go at what they were worth, with their profit; the cash is what it was."""
    one = fill(EXIT, "10.50", "40", execution="outside")
    found = ledger(reported(ENTRY, "10"), Said(kind=records.ADJUSTMENT, payload=codec.write(Adjustment.of(one))))
    assert found.holdings == {"AAA": 60}
    assert found.cash == ledger(reported(ENTRY, "10")).cash
    assert found.balances["external"] == 420
    assert found.balances["realised"] == -20


def test_f45_every_payment_has_its_account() -> None:
    """By its kind; a word that the ledger does not know is an adjustment."""
    kinds = ("dividend", "fee", "interest", "transfer", "journal entry")
    paid = [
        AccountActivity(activity_id=kind, kind=kind, time=MOMENT, cash=Decimal(1 - at * 2))
        for at, kind in enumerate(kinds)
    ]
    found = ledger(*(Said(kind=records.ACTIVITY, payload=codec.write(AccountMoved.of(one))) for one in paid))
    assert found.balances == {
        "adjustments": 7,
        "cash": 9985,
        "dividends": -1,
        "fees": 1,
        "interest": 3,
        "opening": -10000,
        "transfers": 5,
    }


def test_f47_what_others_trade_moves_the_cash_and_nothing_of_ours() -> None:
    """By what their executions have come to, so that a report which is read again moves nothing."""
    report = OrderStatusReport(
        client_order_id="",
        broker_order_id="b7",
        kind="acknowledged",
        symbol="AAA",
        buy=True,
        quantity=Decimal(5),
        time=MOMENT,
        filled=Decimal(2),
        average_price=Decimal(10),
        fills=(fill(ENTRY, "9", "1", fees="0.10"),),
    )
    sold = attrs.evolve(report, broker_order_id="b8", buy=False, fills=(), average_price=None)
    said = [
        Said(kind=records.FOREIGN_ORDER, payload=codec.write(ForeignOrder.of(one))) for one in (report, report, sold)
    ]
    found = ledger(*said)
    assert found.balances == {"cash": Decimal("9980.9"), "external": Decimal("19.1"), "opening": -10000}
    assert found.holdings == {}


def test_the_first_statement_opens_the_books_and_later_ones_are_held_against_them() -> None:
    """What the first has besides is part of the opening; what a later one has, nothing explains."""
    account = Account(account_id="A1", equity=Decimal(1), cash=Decimal(9000))
    first = Said(
        kind=records.STATEMENT, payload=codec.write(CashStated(cash=account.cash, ours=None, currency=account.currency))
    )
    assert ledger(first).balances == {"cash": 9000, "opening": -9000}
    later = Said(kind=records.STATEMENT, payload={"cash": "9001", "ours": "9000", "currency": "USD"})
    assert ledger(first, later, later).balances == {"adjustments": -1, "cash": 9001, "opening": -9000}


STEPS = st.lists(
    st.tuples(
        st.sampled_from([Leg.ENTRY, Leg.EXIT]),
        st.integers(min_value=1, max_value=10**9),
        st.integers(min_value=1, max_value=10**7),
        st.integers(min_value=0, max_value=500),
    ),
    max_size=20,
)


def done(number: int, leg: Leg, units: int, ticks: int, cents: int) -> Fill:
    """A fill of the entry or the exit."""
    of, price, fees = (ENTRY if leg is Leg.ENTRY else EXIT), Decimal(ticks).scaleb(-4), Decimal(cents).scaleb(-2)
    return fill(of, str(price), str(quantity_of(units)), execution=str(number), fees=str(fees))


@given(STEPS)
def test_i4_i5_any_fills_leave_the_ledger_and_the_portfolio_with_the_same_money_and_shares(
    steps: list[tuple[Leg, int, int, int]],
) -> None:
    """Two ways of counting: lots and double entry here, atoms by position there; the same to the last unit."""
    portfolio = Portfolio(opening_atoms=10_000 * ATOMS_PER_DOLLAR)
    events = []
    for number, step in enumerate(steps):
        one = done(number, *step)
        portfolio.apply(one, identity(), step[0], ExitReason.TIME)
        events.append(
            Said(kind="fill", cid=one.client_order_id, payload={"words": ""} | codec.write(Adjustment.of(one)))
        )
    found = ledger(*events)
    assert sum(found.balances.values()) == 0
    assert atoms_of(found.cash) == portfolio.cash_atoms
    held = {symbol: units for symbol, units in portfolio.holdings.items() if units}
    signed = {
        symbol: (1 if quantity > 0 else -1) * units_of(abs(quantity)) for symbol, quantity in found.holdings.items()
    }
    assert signed == held


@given(STEPS, st.data())
def test_f29_taking_an_execution_back_leaves_what_would_be_without_it(
    steps: list[tuple[Leg, int, int, int]], data: st.DataObject
) -> None:
    """Whichever of any fills is busted: balances and lots are those of the others alone."""
    fills = [done(number, *step) for number, step in enumerate(steps)]
    events = [
        Said(kind="fill", cid=one.client_order_id, payload={"words": ""} | codec.write(Adjustment.of(one)))
        for one in fills
    ]
    if not fills:
        return
    at = data.draw(st.integers(min_value=0, max_value=len(fills) - 1))
    void = Said(kind="busted", cid=fills[at].client_order_id, payload=events[at].payload)
    whole, others = ledger(*events, void), ledger(*events[:at], *events[at + 1 :])
    nothing = Decimal(0)
    names = {*whole.balances, *others.balances}
    assert all(whole.balances.get(name, nothing) == others.balances.get(name, nothing) for name in names)
    assert whole.lots["AAA"].open == (others.lots["AAA"].open if "AAA" in others.lots else [])


def moved(key: str, quantity: str, price: str) -> LotMovement:
    """Shares at a price."""
    return LotMovement(key=key, time=MOMENT, quantity=Decimal(quantity), price=Decimal(price))


def test_what_was_bought_first_is_sold_first() -> None:
    """A sale closes the oldest lot, then the next, and earns on each what that one has cost less."""
    lots = lots_of((moved("a", "100", "10"), moved("b", "50", "12"), moved("c", "-120", "13")))
    assert [(lot.key, lot.quantity, lot.cost) for lot in lots.open] == [("b", Decimal(30), Decimal(360))]
    assert [one.opened for one in lots.closed] == ["a", "b"]
    assert [(one.quantity, one.gain) for one in lots.closed] == [
        (Decimal(100), Decimal(300)),
        (Decimal(20), Decimal(20)),
    ]
    assert [lots.quantity, lots.cost, lots.gain] == [30, 360, 320]


def test_shares_sold_short_are_lots_too() -> None:
    """Their cost is what they brought; buying them back earns what is left of it, and what goes beyond is held."""
    lots = lots_of((moved("a", "-100", "10"), moved("b", "40", "9"), moved("c", "80", "11")))
    assert [one.gain for one in lots.closed] == [40, -60]
    assert [(lot.key, lot.quantity, lot.cost) for lot in lots.open] == [("c", Decimal(20), Decimal(220))]


def test_a_part_of_a_lot_takes_its_part_of_the_cost() -> None:
    """What cannot be halved stays with the rest, so that all parts together cost what the lot did."""
    lots = lots_of((moved("a", "0.000003", "0.33333333"), moved("b", "-0.000001", "1"), moved("c", "-0.000002", "1")))
    assert sum(one.cost for one in lots.closed) == Decimal("0.000003") * Decimal("0.33333333")
    assert not lots.open
    assert lots.cost == 0


def test_f43_a_split_changes_shares_and_not_what_they_cost() -> None:
    """Two for one doubles every lot at the same cost; one for three drops what is less than a unit."""
    lots = lots_of((moved("a", "100", "10"), ShareSplit(key="s", before=1, after=2), moved("b", "-50", "6")))
    assert [lots.quantity, lots.cost, lots.gain] == [150, 750, 50]
    shrunk = lots_of((moved("a", "10", "3"), ShareSplit(key="s", before=3, after=1)))
    assert [shrunk.quantity, shrunk.cost] == [Decimal("3.333333"), 30]


def test_f43_a_split_of_several_lots_leaves_what_a_split_of_them_all_leaves() -> None:
    """What one lot is rounded down by, the next has more: ten, ten and ten are ten after one for three."""
    bought = [moved(key, "10", "3") for key in "abc"]
    lots = lots_of((*bought, ShareSplit(key="s", before=3, after=1)))
    assert [str(lot.quantity) for lot in lots.open] == ["3.333333", "3.333333", "3.333334"]
    assert lots.quantity == 10


def test_the_method_says_which_lot_is_closed() -> None:
    """First in, first out is one pick among others that a ledger may be given."""
    lots = SymbolLots(pick=lambda held: len(held) - 1)
    for movement in (moved("a", "10", "10"), moved("b", "10", "12"), moved("c", "-10", "13")):
        lots.apply(movement)
    assert [lot.key for lot in lots.open] == ["a"]


QUANTITIES = st.integers(min_value=-(10**9), max_value=10**9).filter(bool).map(lambda units: Decimal(units).scaleb(-6))

PRICES = st.integers(min_value=1, max_value=10**8).map(lambda ticks: Decimal(ticks).scaleb(-4))


@given(st.lists(st.tuples(QUANTITIES, PRICES), max_size=30))
def test_every_sequence_of_movements_balances(steps: list[tuple[Decimal, Decimal]]) -> None:
    """What is held is what came less what went, all of one sign, and cost less gain is what was paid."""
    lots = SymbolLots()
    for number, (quantity, price) in enumerate(steps):
        lots.apply(LotMovement(key=str(number), time=MOMENT, quantity=quantity, price=price))
        assert len({lot.quantity > 0 for lot in lots.open}) <= 1
    assert Fraction(lots.quantity) == sum((Fraction(quantity) for quantity, _ in steps), Fraction(0))
    paid = sum((Fraction(quantity) * Fraction(price) for quantity, price in steps), Fraction(0))
    assert Fraction(lots.cost) - Fraction(lots.gain) == paid
    assert Fraction(lots.gain) == sum((Fraction(one.gain) for one in lots.closed), Fraction(0))
