"""The figures that a decision carries for its reader."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import BrokerCapabilities, DayTradeRule
from tbot_core.journal import codec
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.model.reasons import Reason
from tbot_core.model.types import ATOMS_PER_DOLLAR, Account, RiskState, Side
from tbot_core.testing.trades import proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine

if TYPE_CHECKING:
    from tbot_core.model.types import Leg, SignalId
    from tbot_core.trading.commands import Decision

EQUITY = 100_000 * ATOMS_PER_DOLLAR
RULE = DayTradeRule(until=date(2026, 1, 5), account="margin", equity_below=Decimal(25_000), max_day_trades=3)


def named(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


def desk(opening: int = EQUITY, **settings: Any) -> DecisionEngine:
    """An engine with an opening equity of 100,000 USD."""
    return DecisionEngine(rules(**settings), session(), opening, named)


def limits_of(decision: Decision) -> dict[str, tuple[object, object, object]]:
    """Used, order and allowed of each limit, by its code."""
    return {one.reason.name: (one.used, one.order, one.allowed) for one in decision.limits}


def test_an_entry_shows_its_sizing_from_equity_to_quantity() -> None:
    """Budget, weight, cap, price and quantity, with the setting that decided."""
    (decision,) = desk().decide([proposal(price=100.0)])
    sizing = decision.sizing
    assert decision.order is not None
    assert sizing is not None
    assert (sizing.equity, sizing.window, sizing.weight) == (Decimal(100_000), Decimal(2000), Decimal("0.4"))
    assert (sizing.allocation, sizing.bound) == ("TOTAL_ALLOCATION", "WEIGHTS")
    assert (sizing.share, sizing.cap, sizing.reference) == (Decimal(800), Decimal(2500), Decimal(100))
    assert (sizing.price, sizing.quantity) == (decision.order.limit_price, decision.order.quantity)
    assert sizing.quantity * sizing.price <= sizing.share < (sizing.quantity + sizing.step) * sizing.price


@pytest.mark.parametrize(
    ("settings", "bound", "weight"),
    [
        ({"max_risk_per_trade": "0.001"}, "MAX_RISK_PER_TRADE", Decimal("0.4")),
        ({"fixed_units": 3 * 10**6}, "FIXED_QUANTITY", None),
        ({"first_live_day": True}, "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL", Decimal("0.4")),
        ({}, "WEIGHTS", Decimal("0.4")),
    ],
)
def test_the_setting_that_decided_the_size_is_named(
    settings: dict[str, Any], bound: str, weight: Decimal | None
) -> None:
    """The smaller of share and cap, or the fixed quantity, which has no weight."""
    (decision,) = desk(**settings).decide([proposal(price=10.0)])
    assert decision.sizing is not None
    assert (decision.sizing.bound, decision.sizing.weight) == (bound, weight)
    assert decision.sizing.capped_by in {bound, "MAX_RISK_PER_TRADE"}


def test_in_defense_the_budget_is_that_of_defense() -> None:
    """The window's budget and counts are the reduced ones, and the setting is named."""
    engine = desk()
    engine.exposure.state = RiskState.DEFENSE
    (decision,) = engine.decide([proposal(price=10.0)])
    assert decision.sizing is not None
    assert (decision.sizing.allocation, decision.sizing.window) == ("DEFENSE_MODE_TOTAL_ALLOCATION", Decimal(1000))
    assert limits_of(decision)["MAX_TRADES"] == (0, 1, 2)


def test_each_limit_shows_what_is_used_and_what_the_order_adds() -> None:
    """Counts, losses, the band and the amounts before the order; the next entry finds the first one in them."""
    first, second = desk(max_order_notional="900").decide([proposal("AAA", price=10.0), proposal("BBB", price=10.0)])
    assert first.order is not None
    assert first.order.limit_price is not None
    worst = first.order.quantity * first.order.limit_price
    before, after = limits_of(first), limits_of(second)
    assert list(before) == [
        "DAILY_LOSS",
        "WINDOW_LOSS",
        "MAX_TRADES",
        "MAX_OPEN_POSITIONS",
        "ORDER_RATE",
        "PRICE_BAND",
        "TRADE_NOTIONAL",
        "ORDER_NOTIONAL",
        "SYMBOL_EXPOSURE",
        "GROSS_EXPOSURE",
        "BUYING_POWER",
    ]
    assert before["GROSS_EXPOSURE"] == (0, worst, 10_000)
    assert after["GROSS_EXPOSURE"][0] == worst
    assert (before["MAX_TRADES"], after["MAX_TRADES"]) == ((0, 1, 4), (1, 1, 4))
    assert before["DAILY_LOSS"] == (0, 0, 5000)
    assert before["PRICE_BAND"] == (0, Decimal("0.002"), Decimal("0.05"))
    assert all(one.used + one.order <= one.allowed for one in first.limits)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_gross_exposure": "0.001"}, "GROSS_EXPOSURE"),
        ({"max_symbol_exposure": Decimal("0.001")}, "SYMBOL_EXPOSURE"),
        ({"max_trades": 0, "weights": ()}, "MAX_TRADES"),
        ({"max_order_notional": "100"}, "ORDER_NOTIONAL"),
        ({"max_leverage": "0.001"}, "BUYING_POWER"),
    ],
)
def test_the_limit_that_denies_is_the_first_that_is_exceeded(settings: dict[str, Any], reason: str) -> None:
    """A denial and its figures say the same; what was denied before sizing has no size."""
    (decision,) = desk(**settings).decide([proposal(price=10.0)])
    exceeded = [one.reason.name for one in decision.limits if one.used + one.order > one.allowed]
    assert (decision.reason.name, exceeded[0]) == (reason, reason)
    assert (decision.sizing is None) is (reason == "MAX_TRADES")


def test_losses_in_a_row_and_day_trades_are_shown_where_they_are_limited() -> None:
    """Both are counts; without their limits they are left out."""
    engine = desk(
        20_000 * ATOMS_PER_DOLLAR,
        max_consecutive_losses=2,
        venue=BrokerCapabilities(brackets=True, replace="same_id", day_trade_rules=(RULE,)),
    )
    said = Account(account_id="A", equity=Decimal(20_000), cash=Decimal(20_000), margin=True, day_trades=1)
    engine.update_account(said)
    found = limits_of(engine.decide([proposal(price=10.0)])[0])
    assert (found["CONSECUTIVE_LOSSES"], found["DAY_TRADES"]) == ((0, 0, 2), (1, 1, 3))


def test_a_quantity_of_zero_has_sizing_and_no_amounts() -> None:
    """What the budget does not buy is explained by the sizing."""
    (decision,) = desk().decide([proposal(price=5000.0, stop=4900.0)])
    assert decision.reason is Reason.QUANTITY_TOO_SMALL
    assert decision.sizing is not None
    assert decision.sizing.quantity == 0
    assert "GROSS_EXPOSURE" not in limits_of(decision)


def test_without_figures_the_decision_is_the_same() -> None:
    """A backtest leaves them out, and decides alike; a signal that the filters denied has none at all."""
    bare = desk()
    bare.with_figures = False
    wanted = [proposal("AAA", price=10.0), proposal("BBB", reason=Reason.PRICE_LOW), proposal("CCC", side=Side.SHORT)]
    for plain, full in zip(bare.decide(wanted), desk().decide(wanted), strict=True):
        assert (plain.reason, plain.order, plain.value) == (full.reason, full.order, full.value)
        assert (plain.sizing, plain.limits) == (None, ())
    assert desk().decide(wanted[1:2])[0].limits == ()


def test_the_journal_has_the_figures_as_text() -> None:
    """Exact amounts as strings, reasons and types by name; the keys are left out where there are no figures."""
    (decision,) = desk(fixed_units=10**6).decide([proposal(price=10.0)])
    payload = codec.write(SignalDecided.of(decision))
    assert (payload["sizing"]["weight"], payload["sizing"]["type"]) == (None, "limit")
    assert Decimal(payload["sizing"]["window"]) == 2000
    assert payload["limits"][2] == {"reason": "MAX_TRADES", "used": "0", "order": "1", "allowed": "4"}
    (denied,) = desk().decide([proposal(reason=Reason.PRICE_LOW)])
    assert not {"sizing", "limits"} & codec.write(SignalDecided.of(denied)).keys()
