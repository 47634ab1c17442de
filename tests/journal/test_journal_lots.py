"""Lots: what is bought first is sold first, and not a unit or an atom is lost on the way."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tbot_core.journal.ledger.lots import METHODS, LotMovement, ShareSplit, SymbolLots, lots_of

MOMENT = dt.datetime(2026, 3, 3, 15, tzinfo=dt.UTC)


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
    assert METHODS["fifo"](lots.open) == 0


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
