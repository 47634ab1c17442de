"""The quick questions of a minute never say no where the rules that they stand for would act."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ExitReason, Leg, Side, atoms_of, ticks_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import NONE, fill, proposal, resting_ids, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.orders import ExecutionUpdate
from tbot_core.trading.price_grid import may_reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.bars import Bars
    from tbot_core.trading.account_book import ManagedPosition

BRACKETS = BrokerCapabilities(brackets=True, replace="same_id", shortable=True, buy_stop_collar=Decimal("0.01"))
BARE = BrokerCapabilities(shortable=True)
PRICES = st.integers(1, 20_000_000).map(lambda ticks: ticks / 10_000)


def entered(chance: random.Random) -> DecisionEngine:
    """A session with one position of 7 shares at about 100, with a random plan."""
    side = chance.choice([Side.LONG, Side.SHORT])
    exits = ExitRules(
        trigger=chance.choice(["close", "intrabar"]),
        trailing=chance.random() < 0.4,
        leave=chance.choice([None, 31, 40]),
    )
    target = chance.choice([NONE, 100.0 + 2 * side])
    found = DecisionEngine(
        rules(venue=chance.choice([BRACKETS, BRACKETS, BARE]), trailing_stop=False, target_r=0.0),
        session(),
        atoms_of(Decimal(100_000)),
        lambda signal, leg, attempt: f"{signal.symbol} {leg.value} {attempt}",
    )
    order = found.decide([proposal(side=side, stop=100.0 - 2 * side, target=target, exits=exits)])[0].order
    assert order is not None
    one = fill(order, "100", "7")
    event = BrokerEvent(kind="fill", event_id="1", client_order_id=order.client_order_id, fill=one)
    found.position_manager.on_event(event, ExecutionUpdate(one, is_correction=False))
    return found


def stop_ends(found: DecisionEngine, kind: str) -> None:
    """The broker reports that the stop has ended, if one rests."""
    cid = resting_ids(found.position_manager.book.held_in("AAA")[0]).get(Leg.STOP)
    if cid is not None:
        found.position_manager.on_event(BrokerEvent(kind=kind, event_id=kind, client_order_id=cid), None)


def being_closed(held: ManagedPosition) -> None:
    """Its exit is due, and not sent."""
    held.exit_reason = ExitReason.TIME


HAPPENED: tuple[Callable[[DecisionEngine, ManagedPosition], Any], ...] = (
    lambda found, _: found.position_manager.orders_due_now(),
    lambda found, _: stop_ends(found, "rejected"),
    lambda found, _: stop_ends(found, "cancelled"),
    lambda found, _: found.position_manager.exits.flatten(),
    lambda found, _: setattr(found.exposure, "daily_loss", True),
    lambda _, held: held.plan.trail(101.0, 99.0),
    lambda _, held: held.plan.set_tick_grid(100),
    lambda _, held: held.plan.set_tick_grid(5_000),
    lambda _, held: setattr(held.plan, "target", held.plan.price),
    lambda _, held: setattr(held, "stop_triggered", True),
    lambda _, held: setattr(held, "trim_to_units", 1_000_000),
    lambda _, held: being_closed(held),
)
"""What may have happened to a position before a minute."""


def acts(found: DecisionEngine, held: ManagedPosition, bars: Bars, minute: int) -> bool:
    """Whether a rule has an effect on the position in a minute."""
    manager, plan = found.position_manager, held.plan
    extremes = held.bar_value(bars, "high", minute), held.bar_value(bars, "low", minute)
    before = (plan.stop, plan.extreme, *resting_ids(held).values())
    due = manager.exits.exit_reason(held, bars, minute) is not None
    moved = plan.trail(*extremes) or bool(manager.protection.move_lagging(held, minute))
    ordered = bool(manager.orders_due_now())
    return due or moved or ordered or before != (plan.stop, plan.extreme, *resting_ids(held).values())


def test_a_position_that_is_not_active_is_left_alone_by_every_rule() -> None:
    """No exit is due, its stop neither trails nor lags, nothing is ordered; many idle minutes are recognised."""
    idle = recognised = 0
    for seed in range(600):
        chance = random.Random(seed)
        found = entered(chance)
        (held,) = found.position_manager.held.values()
        for happens in chance.sample(HAPPENED, chance.choice([0, 0, 1, 2])):
            happens(found, held)
        close = chance.choice([100.0, 100.5, 99.5, 98.0, 102.0, 98.01, 101.99, 97.0, 104.0])
        draft = SessionDraft().bar(30, close, high=max(close, 100.2), low=min(close, 99.8))
        bars = (draft.gap(30, 31) if chance.random() < 0.1 else draft).bars()
        minute = chance.choice([29, 30, 30, 383, 384])
        active = found.position_manager.exits.active([held], bars, minute)
        acting = acts(found, held, bars, minute)
        assert active or not acting, f"seed {seed}"
        idle, recognised = idle + (not acting), recognised + (not active)
    assert idle > recognised > 0.4 * idle > 50


@hypothesis.given(PRICES, st.integers(1, 20_000_000), st.sampled_from([1, -1]))
def test_a_price_at_a_level_or_beyond_it_may_reach_it(price: float, level: int, side: int) -> None:
    """One that is two ticks short of it does not."""
    beyond = side * (ticks_of(price) - level)
    assert may_reach(level, price, side) or beyond < 0
    assert not (may_reach(level, price, side) and beyond < -1)


@pytest.mark.parametrize("side", [1, -1])
def test_no_price_reaches_nothing(side: int) -> None:
    """NaN is a minute without a bar."""
    assert may_reach(np.array([1, 1]), np.array([np.nan, np.nan]), side).tolist() == [False, False]
