"""Positions, cash and profit as sums of fills."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.types import ATOMS_PER_DOLLAR, ExitReason, Leg, Side, dollars_of, price_of, quantity_of, units_of
from tbot_core.testing.trades import fill, identity, order, session
from tbot_core.trading.portfolio import Portfolio

CASH = 100_000 * ATOMS_PER_DOLLAR


def book(*done: tuple[Leg, bool, str, str, str], portfolio: Portfolio | None = None) -> Portfolio:
    """A portfolio after fills of one symbol: leg, buy, shares, price, fees."""
    found = portfolio or Portfolio(opening_atoms=CASH)
    for leg, buy, shares, price, fees in done:
        one = fill(order(leg, buy=buy), price, shares, fees=fees)
        found.apply(one, identity(), leg, None if leg is Leg.ENTRY else ExitReason.TARGET)
    return found


def test_a_long_trade() -> None:
    """Bought and sold in parts: cash, cost, value and profit at every step."""
    held = book((Leg.ENTRY, True, "100", "10", "0.01"), (Leg.ENTRY, True, "50", "10.30", "0"))
    position = held.in_symbol("AAA")[0]
    assert (position.side, position.units, position.signal) == (Side.LONG, 150_000_000, identity())
    assert dollars_of(held.cash_atoms) == Decimal("98484.99")
    assert dollars_of(held.cost_atoms) == 1515
    assert dollars_of(position.value_atoms) == 1545
    held.mark("AAA", 110_000)
    assert dollars_of(held.pnl_atoms) == Decimal("134.99")
    assert dollars_of(held.equity_atoms) == Decimal("100134.99")
    with pytest.raises(ValueError, match="2026-01-05/open/AAA/25/breakout is still open"):
        position.to_trade()
    book((Leg.TARGET, False, "50", "11", "0"), portfolio=held)
    assert dollars_of(held.cost_atoms) == 1010
    book((Leg.STOP, False, "100", "9.5", "0.02"), portfolio=held)
    assert (held.positions, held.closed) == ({}, [position])
    trade = position.to_trade()
    assert (trade.entry_price, trade.exit_price) == (Decimal("10.1000"), Decimal("10.0000"))
    assert trade.quantity == 150
    assert (trade.fees, trade.pnl) == (Decimal("0.03"), Decimal("-15.03"))
    assert (trade.entry_time, trade.exit_time) == (session().moment(30), session().moment(30))
    assert held.equity_atoms == held.cash_atoms == CASH + held.pnl_atoms


def test_a_short_trade() -> None:
    """Sold first: a negative value, profit when price falls."""
    held = book((Leg.ENTRY, False, "100", "10", "0.03"))
    assert dollars_of(held.cash_atoms) == Decimal("100999.97")
    assert dollars_of(held.in_symbol("AAA")[0].value_atoms) == -1000
    held.mark("AAA", 90_000)
    assert dollars_of(held.pnl_atoms) == Decimal("99.97")
    book((Leg.EXIT, True, "100", "9", "0"), portfolio=held)
    assert held.closed[0].to_trade().pnl == Decimal("99.97")


@pytest.mark.parametrize("buy", [True, False])
@pytest.mark.parametrize(("held_first", "shares"), [("0", "1"), ("100", "100.000001"), ("34", "160")])
def test_f32_an_exit_never_crosses_zero(held_first: str, shares: str, buy: bool) -> None:
    """A position is closed by a fill of its own for more; the rest is surplus, cash and profit follow the truth."""
    held = book(*(((Leg.ENTRY, buy, held_first, "10", "0"),) if held_first != "0" else ()))
    book((Leg.EXIT, not buy, shares, "11", "0.01"), portfolio=held)
    assert not held.positions
    closed = units_of(Decimal(held_first))
    assert [one.exit_units for one in held.closed] == ([closed] if closed else [])
    (surplus,) = held.surplus
    more = units_of(Decimal(shares)) - closed
    assert (surplus.symbol, surplus.units) == ("AAA", -more if buy else more)
    assert held.holdings == {"AAA": -more if buy else more}
    assert held.equity_atoms == held.opening_atoms + held.pnl_atoms


def test_f29_what_was_taken_back_closes_nothing_that_is_held_again() -> None:
    """Too much was sold and bought back; when the sale is void, the purchase is held beside the position."""
    held = book((Leg.ENTRY, True, "10", "10", "0"), (Leg.STOP, False, "14", "9", "0"), (Leg.EXIT, True, "4", "9", "0"))
    assert held.holdings == {"AAA": 0}
    held.correct_fill(fill(order(Leg.STOP), "9", "0", execution="1"), identity())
    assert (held.in_symbol("AAA")[0].units, held.unassigned_units) == (10_000_000, {"AAA": 4_000_000})
    assert held.equity_atoms == held.opening_atoms + held.pnl_atoms


def test_a_late_fill_touches_no_other_signals_position() -> None:
    """A stop of an earlier trade that fills once more leaves the present position of the symbol alone."""
    held = book((Leg.ENTRY, True, "10", "10", "0"))
    before = held.in_symbol("AAA")[0].units
    late = attrs.evolve(held.in_symbol("AAA")[0].signal, minute=1, strategy="earlier")
    assert held.apply(fill(order(Leg.STOP, buy=False), "9.5", "5"), late, Leg.STOP, ExitReason.STOP) is None
    assert held.in_symbol("AAA")[0].units == before
    assert held.cost_atoms == 10 * 10 * ATOMS_PER_DOLLAR + 5 * 95 * ATOMS_PER_DOLLAR // 10
    assert held.equity_atoms == held.opening_atoms + held.pnl_atoms


@pytest.mark.parametrize(
    ("prices", "mean"),
    [
        (("1.0001",), "1.0001"),
        (("1.0001", "1.0003"), "1.0002"),
        (("1.0001", "1.0002"), "1.00015"),
        (("1", "1", "1.0001"), "1.0000333333"),
        (("1", "1.0001", "1.0001"), "1.0000666667"),
        (("100", "100.0002"), "100.0001"),
        (("30", "30"), "30.0000"),
    ],
)
def test_mean_prices_have_the_decimals_that_they_need(prices: tuple[str, ...], mean: str) -> None:
    """Averages are weighted by quantity: a whole tick has four decimals, others up to ten."""
    entries = [(Leg.ENTRY, True, "1", price, "0") for price in prices]
    held = book(*entries, (Leg.EXIT, False, str(len(prices)), "1", "0"))
    assert str(held.closed[0].to_trade().entry_price) == mean


def test_a_mean_price_that_is_nearly_a_tick_has_four_decimals() -> None:
    """What ten decimals cannot tell from a tick is written as one."""
    held = book(
        (Leg.ENTRY, True, "999999", "30", "0"),
        (Leg.ENTRY, True, "0.000001", "30.0001", "0"),
        (Leg.EXIT, False, "999999.000001", "31", "0"),
    )
    assert str(held.closed[0].to_trade().entry_price) == "30.0000"


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**7)), min_size=1, max_size=6),
    st.lists(st.integers(1, 10**7), min_size=6, max_size=6),
)
def test_a_trades_prices_give_its_profit_to_the_cent(
    long: bool, entries: list[tuple[int, int]], exits: list[int]
) -> None:
    """Quantity x (exit - entry) - fees, with the side's sign, is the pnl, also for averages of many fills."""
    fills = [(Leg.ENTRY, long, str(quantity_of(units)), str(price_of(ticks)), "0.01") for units, ticks in entries]
    for (units, _), ticks in zip(entries, exits, strict=False):
        fills.append((Leg.EXIT, not long, str(quantity_of(units)), str(price_of(ticks)), "0.02"))
    trade = book(*fills).closed[0].to_trade()
    computed = trade.side * trade.quantity * (trade.exit_price - trade.entry_price) - trade.fees
    assert abs(computed - trade.pnl) < Decimal("0.001")


steps = st.lists(
    st.tuples(
        st.sampled_from(["AAA", "BBB", "CCC"]),
        st.booleans(),
        st.integers(1, 10**9),
        st.integers(1, 10**7),
        st.integers(0, 10**4),
        st.booleans(),
    ),
    max_size=40,
)


@given(steps)
def test_cash_and_positions_are_equity_by_both_ways_of_counting(
    walk: list[tuple[str, bool, int, int, int, bool]],
) -> None:
    """After any fills and marks equity from cash equals opening equity plus profit by trade, to the atom."""
    held = Portfolio(opening_atoms=CASH)
    for symbol, buy, wanted, ticks, cents, leave in walk:
        position = held.positions.get(identity(symbol))
        leg, side, units = Leg.ENTRY, buy if position is None else position.side is Side.LONG, wanted
        if position is not None and leave:
            leg, side, units = Leg.EXIT, not side, min(units, position.units)
        one = fill(
            order(leg, symbol=symbol, buy=side),
            str(Decimal(ticks).scaleb(-4)),
            str(quantity_of(units)),
            fees=str(Decimal(cents).scaleb(-2)),
        )
        booked = held.apply(one, identity(symbol), leg, None if leg is Leg.ENTRY else ExitReason.STOP)
        assert held.equity_atoms == CASH + held.pnl_atoms
        if booked is not None and booked.units:
            held.mark(symbol, ticks + 7)
        assert held.equity_atoms == CASH + held.pnl_atoms
        assert all(one.units > 0 and one.cost_atoms >= 0 for one in held.positions.values())
    assert sum(Decimal(position.to_trade().pnl) for position in held.closed) == dollars_of(
        sum(position.pnl_atoms for position in held.closed)
    )


def test_holdings_are_what_the_account_must_hold() -> None:
    """Signed shares by symbol: positions, and fills that no position accounts for, with or without one."""
    held = book((Leg.ENTRY, True, "100", "10", "0"), (Leg.STOP, False, "130", "9", "0"))
    assert held.holdings == {"AAA": -30_000_000}
    late = attrs.evolve(identity(), minute=1)
    held = book((Leg.ENTRY, True, "100", "10", "0"))
    held.apply(fill(order(Leg.STOP), "9", "130"), late, Leg.STOP, ExitReason.STOP)
    assert held.holdings == {"AAA": -30_000_000}
    assert held.in_symbol("AAA")[0].units == 100_000_000
    short = book((Leg.ENTRY, False, "5", "10", "0"))
    assert short.holdings == {"AAA": -5_000_000}
    assert book((Leg.STOP, False, "3", "10", "0")).holdings == {"AAA": -3_000_000}


def test_f25_an_entry_that_is_told_after_what_closed_it_is_closed() -> None:
    """What seemed to be sold short is nothing then, and one trade tells of all; what is left of the entry is held."""
    closed = book((Leg.ENTRY, True, "15", "10", "0"), (Leg.STOP, False, "41", "9", "0"))
    assert closed.holdings == {"AAA": -26_000_000}
    closed.apply(fill(order(Leg.ENTRY), "10", "26", "late"), identity(), Leg.ENTRY)
    assert (closed.holdings, closed.surplus, [one.entry_units for one in closed.closed]) == ({}, [], [41_000_000])
    closed.apply(fill(order(Leg.ENTRY), "10", "4", "later"), identity(), Leg.ENTRY)
    assert closed.holdings == {"AAA": 4_000_000}


FILLS = st.lists(
    st.tuples(st.sampled_from([Leg.ENTRY, Leg.EXIT]), st.integers(1, 50), st.integers(1, 10**6), st.integers(0, 99)),
    min_size=1,
    max_size=12,
)


def applied(fills: list[tuple[Leg, int, int, int]]) -> Portfolio:
    """A portfolio after these fills: leg, shares, ticks, cents of fees."""
    found = Portfolio(opening_atoms=CASH)
    for number, (leg, shares, ticks, cents) in enumerate(fills):
        price, fees = str(Decimal(ticks).scaleb(-4)), str(Decimal(cents).scaleb(-2))
        one = fill(order(leg), price, str(shares), str(number), fees)
        found.apply(one, identity(), leg, None if leg is Leg.ENTRY else ExitReason.TARGET)
    return found


@given(FILLS, st.data())
def test_f29_an_execution_that_is_void_leaves_what_would_be_without_it(
    fills: list[tuple[Leg, int, int, int]], data: st.DataObject
) -> None:
    """Cash, positions, trades and surplus of any fills, whichever of them is taken back."""
    at = data.draw(st.integers(0, len(fills) - 1))
    found, leg = applied(fills), fills[at][0]
    was = found.correct_fill(fill(order(leg), "1", "0", str(at)), identity())
    assert was is not None
    assert was.quantity == fills[at][1]
    others = applied([*fills[:at], *fills[at + 1 :]])
    for one in (found, others):
        for position in one.positions.values():
            position.mark = 10_000
    assert (found.cash_atoms, found.positions, found.surplus) == (others.cash_atoms, others.positions, others.surplus)
    assert found.closed == others.closed


def test_f29_a_correction_changes_profit_and_leaves_the_mark() -> None:
    """Bought dearer than was said first: cash and profit are less, the position is valued as before."""
    held = book((Leg.ENTRY, True, "100", "10", "0.01"))
    held.mark("AAA", 110_000)
    held.correct_fill(fill(order(), "10.50", "100", fees="0.02"), identity())
    assert dollars_of(held.cash_atoms) == Decimal("98949.98")
    assert dollars_of(held.pnl_atoms) == Decimal("49.98")
    assert held.in_symbol("AAA")[0].mark == 110_000
    assert held.correct_fill(fill(order(), "10", execution="never"), identity()) is None


def test_f43_a_split_costs_nothing_and_an_execution_before_it_can_still_be_taken_back() -> None:
    """Shares and marks follow, cost and cash do not; what an amended fill leaves is split as well."""
    held = Portfolio(opening_atoms=CASH)
    parts = [fill(order(Leg.ENTRY), "10", "100", "1"), fill(order(Leg.ENTRY), "11", "50", "2")]
    for part in parts:
        held.apply(part, identity(), Leg.ENTRY)
    cash, equity = held.cash_atoms, held.equity_atoms
    held.apply_split("AAA", Fraction(2))
    held.apply_split("BBB", Fraction(2))
    position = held.in_symbol("AAA")[0]
    assert (position.units, position.entry_units, position.mark) == (300_000_000, 300_000_000, 55_000)
    assert (held.cash_atoms, held.equity_atoms, held.cost_atoms) == (cash, equity, dollars(1550))
    held.correct_fill(attrs.evolve(parts[1], quantity=Decimal(0)), identity())
    assert held.in_symbol("AAA")[0].units == 200_000_000
    assert held.cost_atoms == dollars(1000)


def test_f43_a_split_multiplies_what_no_position_accounts_for() -> None:
    """A late fill beyond what is held, and that of its symbol alone."""
    held = Portfolio(opening_atoms=CASH)
    held.apply(fill(order(Leg.EXIT, buy=False), "10", "30", "1"), identity(), Leg.EXIT)
    held.apply(fill(order(Leg.EXIT, buy=False, symbol="BBB"), "10", "30", "1"), identity("BBB"), Leg.EXIT)
    equity = held.equity_atoms
    held.apply_split("AAA", Fraction(3, 2))
    assert held.holdings == {"AAA": -45_000_000, "BBB": -30_000_000}
    assert abs(held.equity_atoms - equity) <= 45_000_000


def dollars(amount: int) -> int:
    """Dollars in atoms."""
    return amount * ATOMS_PER_DOLLAR
