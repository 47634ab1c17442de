"""What is foreign in an account: its worst case, the price that it counts at, and the limits that it counts in."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import OrderStatusReport, PositionReport
from tbot_core.contracts.settings import RiskSettings
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_DOLLAR, Leg, atoms_of, stock
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, identity, order, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.risk.exposure import (
    ExposureBook,
    external_in,
    held_atoms,
    net_of,
    share_exposure,
    used_buying_power,
)
from tbot_core.trading.risk.external import ExternalPositions, WorstCase, open_shares
from tbot_core.trading.risk.gate import RiskEngine, available_buying_power, review_loss_limits
from tbot_core.trading.risk.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.types import SignalId

EQUITY = 100_000 * ATOMS_PER_DOLLAR
HUNDRED = Decimal(100)


def dollars(worst: WorstCase) -> tuple[int, int]:
    """Both sides in whole dollars."""
    return worst.long_atoms // ATOMS_PER_DOLLAR, worst.short_atoms // ATOMS_PER_DOLLAR


def foreign(
    orders: Sequence[int] = (), symbol: str = "AAA", held: int = 0, price: Decimal | None = HUNDRED
) -> ExternalPositions:
    """So many shares held at 100 USD, and orders for so many: those that sell are negative."""
    made = ExternalPositions()
    made.set_holding(symbol, Decimal(held), price)
    for number, shares in enumerate(orders):
        made.set_open_order(f"b{number}", symbol, Decimal(shares))
    return made


def report(said: str = "acknowledged", quantity: int = 10, filled: int = 0, *, buy: bool = True) -> OrderStatusReport:
    """An order that is not tbot's, as a reading tells of it."""
    return OrderStatusReport(
        client_order_id="",
        broker_order_id="b1",
        kind=said,
        symbol="AAA",
        buy=buy,
        quantity=Decimal(quantity),
        filled=Decimal(filled),
        time=session().open,
    )


def standing(*parts: ExternalPositions) -> ExposureBook:
    """A session that opened with 100,000 USD, at as many brokers as there are parts; returns the first."""
    made = [
        ExposureBook(portfolio=Portfolio(opening_atoms=EQUITY), external=part)
        for part in parts or (ExternalPositions(),)
    ]
    for one in made[1:]:
        share_exposure(one, made[0])
    return made[0]


@pytest.mark.parametrize(
    ("held", "orders", "worst"),
    [
        (5, (), (500, 0)),
        (-5, (), (0, 500)),
        (0, (3,), (300, 0)),
        (0, (-3,), (0, 300)),
        (5, (3, 2), (1000, 0)),
        (5, (-5,), (500, 0)),  # what closes it adds nothing
        (5, (-15,), (500, 1000)),
        (-5, (15, -1), (1000, 600)),
    ],
)
def test_the_worst_case_fills_all_orders_of_one_side_and_none_of_the_other(
    held: int, orders: tuple[int, ...], worst: tuple[int, int]
) -> None:
    """Whichever side may come to more is what the symbol counts for."""
    made = foreign(orders, held=held)
    assert dollars(made.worst["AAA"]) == worst
    assert made.gross == max(worst) * ATOMS_PER_DOLLAR


@given(st.integers(-50, 50), st.lists(st.integers(-50, 50), max_size=4), st.integers(0, 15))
def test_no_choice_of_fills_comes_to_more_than_the_worst_case(held: int, orders: list[int], filled: int) -> None:
    """Whatever part of the orders is filled, the holding is worth no more than was counted."""
    made = foreign(orders, held=held)
    after = held + sum(shares for place, shares in enumerate(orders) if filled >> place & 1)
    assert abs(after) * 100 * ATOMS_PER_DOLLAR <= made.gross


def test_what_has_no_price_counts_for_nothing_until_one_is_known() -> None:
    """A close of the session comes before what a reading says, and a price before what was paid."""
    made = foreign(held=5, price=None)
    assert (bool(made), made.worst, made.gross, made.price("AAA")) == (True, {}, 0, None)
    for paid, price, counts in (("0", None, 0), (None, "NaN", 0), ("40", None, 200), ("40", "60", 300)):
        told = [None if one is None else Decimal(one) for one in (paid, price)]
        made.apply_reading(
            [PositionReport(symbol="AAA", quantity=Decimal(5), average_price=told[0], price=told[1])], (), {}
        )
        assert made.gross == counts * ATOMS_PER_DOLLAR
    bars = SessionDraft("BBB", "AAA").gap(0, 390, "AAA").bar(1, 80.0, "AAA").bars()
    made.mark(bars, 0)
    assert made.price("AAA") == Decimal(60)
    for minute in (1, 2):
        made.mark(bars, minute)
        assert (made.price("AAA"), made.gross) == (Decimal(80), 400 * ATOMS_PER_DOLLAR)


def test_an_option_is_valued_at_its_multiplier() -> None:
    """Two contracts at 1.50 a share are worth 300 dollars, and the price of one is 150."""
    name = "AAA260116P00020000"
    made = ExternalPositions(held={name: Decimal(2)})
    made.apply_reading([PositionReport(symbol=name, quantity=Decimal(2), price=Decimal("1.5"), multiplier=100)], (), {})
    assert (made.gross, made.price(name)) == (300 * ATOMS_PER_DOLLAR, Decimal(150))


def test_a_reading_tells_all_foreign_orders_that_are_open() -> None:
    """What has filled of one is a holding by then; one that has ended, or is listed no more, counts no more."""
    made = foreign(held=0)
    for said, buy, shares in (("acknowledged", True, 7), ("acknowledged", False, -7), ("cancelled", True, 0)):
        assert open_shares(said, Decimal(7), buy=buy) == shares
        made.apply_reading((), [report(said, 10, 3, buy=buy)], {})
        assert made.gross == abs(shares) * 100 * ATOMS_PER_DOLLAR
    made.apply_reading((), [report()], {})
    made.apply_reading((), (), {})
    assert (made.worst, bool(made)) == ({}, True)


@pytest.mark.parametrize(("shares", "worst"), [(3, (800, 0)), (-3, (500, 0)), (-8, (500, 300))])
def test_shares_in_dispute_count_besides_until_a_reading_leaves_none(shares: int, worst: tuple[int, int]) -> None:
    """They are foreign or they are not: the worse of both counts, also where nothing else is foreign."""
    made, alone = foreign(held=5), ExternalPositions()
    made.apply_reading((), (), {"AAA": Decimal(shares)})
    assert dollars(made.worst["AAA"]) == worst
    alone.apply_reading((), (), {"AAA": Decimal(shares)})
    assert (bool(alone), alone.gross) == (True, 0)
    alone.mark(SessionDraft("AAA").bar(0, 100.0).bars(), 0)
    assert alone.gross == abs(shares) * 100 * ATOMS_PER_DOLLAR
    for one in (made, alone):
        one.apply_reading((), (), {})
    assert (made.gross, bool(alone), alone.gross) == (500 * ATOMS_PER_DOLLAR, False, 0)


def test_a_split_leaves_what_it_is_worth() -> None:
    """Twice the shares at half the price; a symbol of which nothing is foreign stays unknown."""
    made = foreign(held=5)
    for symbol in ("AAA", "BBB"):
        made.apply_split(symbol, Fraction(2))
    assert (made.held, made.price("AAA"), made.gross) == ({"AAA": Decimal(10)}, Decimal(50), 500 * ATOMS_PER_DOLLAR)


@pytest.mark.parametrize(
    ("setting", "there", "reason"),
    [
        ("max_gross_exposure", {"symbol": "ZZZ", "held": -96}, Reason.GROSS_EXPOSURE),
        ("max_gross_exposure", {"symbol": "ZZZ", "orders": (96,)}, Reason.GROSS_EXPOSURE),
        ("max_symbol_exposure", {"held": 96}, Reason.SYMBOL_EXPOSURE),
        ("max_symbol_exposure", {"held": -96}, Reason.SYMBOL_EXPOSURE),  # it may be gone at any time
        ("max_index_exposure", {"symbol": "SPY", "held": 96}, Reason.INDEX_EXPOSURE),
        ("max_index_exposure", {"symbol": "SH", "held": -96}, Reason.INDEX_EXPOSURE),
        ("max_leverage", {"symbol": "ZZZ", "held": 96}, Reason.BUYING_POWER),
    ],
)
def test_foreign_holdings_and_orders_count_in_the_limits_of_exposure(
    setting: str, there: dict[str, Any], reason: Reason
) -> None:
    """With 9,600 USD of them a limit of 10,000 leaves no room for 500, at whichever broker they are."""
    indices = {"S&P 500": {"AAA": Decimal(1), "SPY": Decimal(1), "SH": Decimal(-1)}}
    whole = dict.fromkeys(("max_symbol_exposure", "max_gross_exposure", "max_index_exposure", "max_leverage"), "1")
    small: dict[str, Any] = {"max_risk_per_trade": "0.005", "weights": (Decimal("0.5"),)}
    found = rules(indices, **{**whole, setting: "0.1"}, **small)
    here, elsewhere = (DecisionEngine(found, session(), EQUITY, name) for _ in range(2))
    elsewhere.share_limits_with(here)
    assert here.preview(proposal()).reason is Reason.ALLOWED
    for one in (here, elsewhere):
        one.exposure.external = foreign(**there)
        assert (here.preview(proposal()).reason, elsewhere.preview(proposal()).reason) == (reason, reason)
        one.exposure.external = ExternalPositions()


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


def test_what_is_foreign_nets_nothing_of_an_index() -> None:
    """A foreign short leaves no more room for ours, long, and counts for itself where ours would be short."""
    now = standing(foreign((-1,), symbol="SPY", held=-4))
    factors = {"SPY": Decimal(2)}
    assert (net_of(now, factors, 1), net_of(now, factors, -1)) == (0, 1000 * ATOMS_PER_DOLLAR)


def test_what_a_person_states_holds_what_is_foreign_as_well() -> None:
    """Who says what may be open at a broker counts all that is there: the larger figure is taken, never both."""
    now = standing(foreign(held=50), foreign(symbol="ZZZ", held=10))
    assert now.gross() == used_buying_power(now) == held_atoms(now) == 6000 * ATOMS_PER_DOLLAR
    assert (now.reserved, external_in(now, "ZZZ")) == (5000 * ATOMS_PER_DOLLAR, 1000 * ATOMS_PER_DOLLAR)
    now.stated_atoms = 5500 * ATOMS_PER_DOLLAR
    assert now.gross() == used_buying_power(now) == 6500 * ATOMS_PER_DOLLAR


def test_foreign_holdings_move_neither_losses_nor_counts() -> None:
    """Their price may fall as it likes: no loss latch, no place taken, and the symbol is not held by tbot."""
    now = standing(foreign(held=5000))
    limits = Limits.of(RiskSettings(), EQUITY, defense=False)
    now.external.mark(SessionDraft("AAA").bar(0, 1.0).bars(), 0)
    assert (review_loss_limits(now, limits), now.pnl_atoms, now.position_count, now.is_busy("AAA")) == ([], 0, 0, False)
    assert available_buying_power(now, limits) == limits.leverage - 5000 * ATOMS_PER_DOLLAR
    now.portfolio.apply(fill(order(quantity="1"), "100"), identity(), Leg.ENTRY)
    assert now.reserved == 5100 * ATOMS_PER_DOLLAR
    assert (
        RiskEngine(risk=RiskSettings(), once_a_day=True).before_sizing(now, limits, identity("BBB"), stock("BBB"))
        is None
    )


def test_a_desk_values_what_is_foreign_with_each_minute() -> None:
    """At the closes of the session, as it does positions."""
    desk = DecisionEngine(rules(), session(), atoms_of(Decimal(100_000)), name)
    desk.exposure.external.set_holding("AAA", Decimal(5))
    bars = SessionDraft("AAA").bar(0, 30.0).bars()
    desk.mark(bars, 0)
    assert desk.exposure.gross() == 150 * ATOMS_PER_DOLLAR
