"""How much, and at which limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.settings import EntrySettings
from tbot_core.model.types import ATOMS_PER_DOLLAR, UNITS_PER_SHARE, OrderType, Side, price_of, quantity_of, stock
from tbot_core.testing.trades import OrderOptions, order
from tbot_core.trading.risk.sizing import SizedEntry, Sizer, fraction_of

STOCK = stock("AAA")

LONG, SHORT = Side.LONG, Side.SHORT
FINE = BrokerCapabilities(quantity_step=Decimal("0.001"), fractional_types=frozenset({"limit"}))


def sizer(**settings: Any) -> Sizer:
    """A sizer at a venue of fine limit orders."""
    return Sizer(entries=EntrySettings(**settings), rules=FINE, price_band=Decimal("0.05"))


@pytest.mark.parametrize(
    ("reference", "side", "limit"),
    [
        (1_000_000, LONG, 1_002_000),
        (1_000_000, SHORT, 998_000),
        (333_300, LONG, 333_900),  # 33.39666 down
        (333_300, SHORT, 332_700),  # 33.26334 up
        (5_000, LONG, 5_010),
        (5_001, LONG, 5_011),  # 0.50110 exactly 5011.002
        (5_001, SHORT, 4_991),  # 4990.998 up
        (9_990, LONG, 10_000),  # 1.000998: from 1 USD up in cents
        (10_000, SHORT, 9_980),
        (10_010, SHORT, 9_990),  # 0.998998+: 9,989.98 up, finer below 1 USD
        (1, SHORT, 1),
    ],
)
def test_the_limit_never_exceeds_entry_limit_pct(reference: int, side: Side, limit: int) -> None:
    """Reference x (1 +- 0.002), rounded towards the reference on the tick grid."""
    planned = sizer().plan(STOCK, reference, side, 0)
    assert planned.limit == planned.price == limit
    assert planned.worst == max(limit, reference)


@pytest.mark.parametrize("side", [LONG, SHORT])
@pytest.mark.parametrize(
    ("reference", "band", "worst"),
    [
        (1_000_000, "0.05", 1_050_000),
        (333_300, "0.05", 349_900),  # 34.9965 down
        (5_001, "0.05", 5_251),
        (1_000_000, "0", 1_000_000),
        (1, "0.05", 1),
    ],
)
def test_a_market_order_is_judged_at_the_edge_of_the_price_band(
    reference: int, band: str, worst: int, side: Side
) -> None:
    """It has no limit; bought or sold it is sized, and reserved, at reference x (1 + PRICE_BAND_PCT)."""
    market = Sizer(entries=EntrySettings(entry_order_type="market"), rules=FINE, price_band=Decimal(band))
    planned = market.plan(STOCK, reference, side, 10 * worst * UNITS_PER_SHARE)
    assert (planned.limit, planned.worst, planned.units) == (None, worst, 10 * UNITS_PER_SHARE)
    assert planned.worst_atoms == 10 * worst * UNITS_PER_SHARE
    assert planned.power_atoms(SHORT) == 10 * UNITS_PER_SHARE * max(worst, reference * 103 // 100)


@pytest.mark.parametrize(
    ("fractional", "kind", "side", "budget", "units"),
    [
        (False, "limit", LONG, "1002", 10 * UNITS_PER_SHARE),
        (False, "limit", LONG, "1001.99", 9 * UNITS_PER_SHARE),
        (False, "limit", LONG, "100.19", 0),
        (True, "limit", LONG, "100.19", 999_000),
        (True, "limit", LONG, "0.10", 0),
        (True, "limit", SHORT, "1000", 10 * UNITS_PER_SHARE),  # at the reference, not at its limit of 99.80, and whole
        (True, "limit", SHORT, "999.99", 9 * UNITS_PER_SHARE),
        (True, "market", LONG, "1049.99", 9 * UNITS_PER_SHARE),  # at 105.00, and without fractions at this venue
        (True, "market", SHORT, "1050", 10 * UNITS_PER_SHARE),
        (False, "limit", LONG, "-5", 0),
    ],
)
def test_a_budget_buys_what_it_can_at_the_worst_price(
    fractional: bool,
    kind: str,
    side: Side,
    budget: str,
    units: int,
) -> None:
    """Rounded down to the venue's step where it allows fractions of the type, else whole; shorts are whole."""
    planned = sizer(fractional=fractional, entry_order_type=kind).plan(
        STOCK, 1_000_000, side, int(Decimal(budget) * ATOMS_PER_DOLLAR)
    )
    assert (planned.units, planned.type) == (units, OrderType(kind))


def test_fixed_quantity_knows_no_budget() -> None:
    """FIXED_QUANTITY is taken as it is."""
    fixed = attrs.evolve(sizer(fractional=True), fixed_units=100 * UNITS_PER_SHARE)
    assert fixed.plan(STOCK, 1_000_000, LONG, 0).units == 100 * UNITS_PER_SHARE


def test_a_short_takes_more_of_the_buying_power() -> None:
    """At worst a short costs 1.03 x the ask; for exposure it counts at the higher of limit and reference."""
    planned = SizedEntry(
        instrument=STOCK, type=OrderType.LIMIT, price=998_000, units=10 * UNITS_PER_SHARE, reference=1_000_000
    )
    assert planned.worst_atoms == 1000 * ATOMS_PER_DOLLAR
    assert planned.power_atoms(LONG) == 1000 * ATOMS_PER_DOLLAR
    assert planned.power_atoms(SHORT) == 1030 * ATOMS_PER_DOLLAR
    quoted = attrs.evolve(planned, ask=1_010_000)
    assert quoted.power_atoms(LONG) == planned.power_atoms(LONG)
    assert quoted.power_atoms(SHORT) == Decimal("1040.3") * ATOMS_PER_DOLLAR
    assert attrs.evolve(quoted, price=1_050_000).power_atoms(SHORT) == 1050 * ATOMS_PER_DOLLAR


@given(
    st.integers(1, 10**8),
    st.sampled_from([LONG, SHORT]),
    st.integers(0, 10**16),
    st.booleans(),
    st.sampled_from(["limit", "market"]),
)
def test_a_plan_never_costs_more_than_its_budget(
    reference: int, side: Side, budget: int, fractional: bool, kind: str
) -> None:
    """Filled at its worst price it costs at most the budget, and a step more would cost more."""
    planned = sizer(fractional=fractional, entry_order_type=kind).plan(STOCK, reference, side, budget)
    assert 0 <= planned.worst_atoms <= budget
    step = 1000 if fractional and side is LONG and kind == "limit" else UNITS_PER_SHARE
    assert (planned.units + step) * planned.worst > budget
    assert planned.units % step == 0


@given(st.integers(0, 10**17), st.decimals(0, 1, places=6))
def test_a_share_is_rounded_down_and_exact(atoms: int, fraction: Decimal) -> None:
    """A fraction of an amount is never more than the fraction says."""
    millionths = int(fraction * 10**6)
    assert fraction_of(atoms, fraction) == atoms * millionths // 10**6


@pytest.mark.parametrize("kind", ["limit", "market"])
@pytest.mark.parametrize("side", [LONG, SHORT])
def test_a_plan_is_read_back_from_its_order(kind: str, side: Side) -> None:
    """What was written down reserves after a restart what it did before, also when the settings of now are others."""
    sized = sizer(entry_order_type=kind).plan(STOCK, 1_000_000, side, 700 * ATOMS_PER_DOLLAR)
    terms: OrderOptions = {"quantity": str(quantity_of(sized.units)), "buy": side is LONG}
    if sized.limit is not None:
        terms["limit"] = str(price_of(sized.limit))
    again = sizer(entry_order_type=kind, entry_limit_pct=Decimal("0.01"))
    assert again.plan_of(order(**terms), 1_000_000, side) == sized
