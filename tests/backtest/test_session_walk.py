"""A walk skips the minutes of complete bars that change nothing, and no others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.backtest.session_walk import first_quiet_end, first_reached, mark_at_end, plain_id
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ATOMS_PER_DOLLAR, Leg, Side
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import order, proposal, rules, session
from tbot_core.trading.commands import CancelOrder, SubmitOrder, TradingCommand
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES, MatchingEngine
from tbot_core.trading.orders import BROKER_EVENT_KINDS
from tbot_core.trading.price_grid import PriceLevel
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.contracts.settings import RebalanceSettings
    from tbot_core.model.bars import Bars

SYMBOLS = ("AAA", "BBB")
EQUITY = 100_000 * ATOMS_PER_DOLLAR
ON_CLOSE = ExitRules(trigger="close")


class Walked:
    """A session after its first minutes: entries at the closes of minute 25 at 100, filled in minute 26 at 100."""

    def __init__(self, *symbols: str, exits: ExitRules = ON_CLOSE, side: Side = Side.LONG, **settings: Any) -> None:
        wide = {"fixed_units": 100_000_000, "max_risk_per_trade": "1", "max_gross_exposure": "10"}
        every = {"entry_order_type": "market", "flatten_before_close": 5, "trailing_stop": False, "target_r": 0.0}
        given = rules(venue=SIMULATOR_CAPABILITIES, **{**wide, **every, **settings})
        costs = FillCosts(slippage=Slippage(kind="none", mean=0, deviation=0, seed=0))
        self.policy: RebalanceSettings = given.rebalance
        self.decision_engine = DecisionEngine(given, session(), EQUITY, plain_id)
        self.venue = MatchingEngine(costs, session(), SYMBOLS)
        proposals = [
            proposal(symbol, 25, exits=exits, side=side, row=SYMBOLS.index(symbol)) for symbol in symbols or ("AAA",)
        ]
        for one in self.decision_engine.decide(proposals):
            assert one.order is not None
            self.venue.accept(one.order, 25)
        self.minute(26, SessionDraft(*SYMBOLS).bars())

    def minute(self, minute: int, bars: Bars) -> None:
        """Step one minute without signals."""
        manager = self.decision_engine.position_manager
        self.venue.match(bars, minute)
        self.events(minute)
        self.decision_engine.mark(bars, minute)
        self.send(manager.orders_after_minute(bars, minute), minute)

    def events(self, minute: int) -> None:
        """Book the venue's events, and send what follows."""
        manager = self.decision_engine.position_manager
        for event in self.venue.events():
            manager.book.tickets[event.client_order_id].on_answer(BROKER_EVENT_KINDS[event.kind])
            manager.on_order_event(event)
        self.send(manager.orders_due_now(), minute)

    def send(self, actions: list[TradingCommand], minute: int) -> None:
        """Carry out commands."""
        for one in actions:
            if isinstance(one, SubmitOrder):
                self.venue.accept(one.order, minute)
            elif isinstance(one, CancelOrder):
                self.venue.cancel(one.client_order_id)
        if actions:
            self.events(minute)

    def quiet_end(self, draft: SessionDraft, minutes: range = range(27, 300)) -> int:
        """The first minute that may change something."""
        return first_quiet_end(self.decision_engine, self.venue, self.policy, draft.bars(), minutes)


def flat() -> SessionDraft:
    """A day of bars at 100 for both symbols."""
    return SessionDraft(*SYMBOLS)


WALKED: list[tuple[str, Callable[[], Walked], SessionDraft, int]] = [
    ("nothing happens", Walked, flat(), 300),
    ("a close at the stop", Walked, flat().bar(40, 98.0), 40),
    ("a close a cent above the stop", Walked, flat().bar(40, 98.01), 300),
    ("a low at a stop on the close", Walked, flat().bar(40, 99.0, low=90.0), 300),
    ("the first of two", partial(Walked, "AAA", "BBB"), flat().bar(60, 97.0).bar(50, 97.0, "BBB"), 50),
    ("a symbol that is not held", Walked, flat().bar(40, 50.0, "BBB"), 300),
    ("a close above a short's stop", partial(Walked, side=Side.SHORT), flat().bar(40, 102.0), 40),
    ("a short's gain", partial(Walked, side=Side.SHORT), flat().bar(40, 90.0), 300),
    ("a stop at the venue", partial(Walked, exits=ExitRules()), flat().bar(40, 99.0, low=98.0), 40),
    ("a low above it", partial(Walked, exits=ExitRules()), flat().bar(40, 99.0, low=98.01), 300),
    ("a target at the venue", partial(Walked, exits=ExitRules(), target_r=1.0), flat().bar(40, 101.0, high=102.5), 40),
    ("the time of the exit", partial(Walked, exits=ExitRules(trigger="close", leave=60)), flat(), 59),
    ("a holding time", partial(Walked, exits=ExitRules(trigger="close", hold=20)), flat(), 45),
    ("a trailing stop", partial(Walked, exits=ExitRules(trailing=True)), flat(), 27),
    ("a check of sizes", partial(Walked, rebalance_enabled=True, rebalance_check_interval=600), flat(), 29),
    ("half of the daily loss", partial(Walked, daily_loss_limit="0.002"), flat().bar(40, 99.0), 40),
    ("less than half of it", partial(Walked, daily_loss_limit="0.003"), flat().bar(40, 99.0), 300),
    (
        "the sum of two losses",
        partial(Walked, "AAA", "BBB", daily_loss_limit="0.003"),
        flat().bar(40, 99.0).gap(41, 60).bar(50, 99.5, "BBB"),
        50,
    ),
    (
        "the loss of a window",
        partial(Walked, window_loss_limit="0.01", total_allocation="0.05"),
        flat().bar(40, 99.5),
        40,
    ),
    ("minutes without a bar", Walked, flat().gap(27, 299), 300),
]


@pytest.mark.parametrize(("made", "draft", "end"), [one[1:] for one in WALKED], ids=[one[0] for one in WALKED])
def test_quiet_minutes_end_with_what_may_change_something(
    made: Callable[[], Walked], draft: SessionDraft, end: int
) -> None:
    """The minute of a reached level, of a time, of a check or of a loss limit is stepped; the others are not."""
    assert made().quiet_end(draft) == end


def test_a_position_that_is_being_closed_is_not_skipped() -> None:
    """Nor is a session in which an order may fill at any price."""
    found = Walked()
    found.minute(27, flat().bar(27, 97.0).bars())
    assert [one.order.leg for one in found.venue.resting] == ["exit"]
    assert found.quiet_end(flat(), range(28, 300)) == 28


def test_a_working_entry_is_not_skipped() -> None:
    """An accepted entry waits for its bar."""
    found = Walked()
    (decision,) = found.decision_engine.decide([proposal("BBB", 26, row=1)])
    assert decision.order is not None
    assert found.quiet_end(flat()) == 27


def test_an_order_that_rests_without_a_position_is_watched() -> None:
    """Up to the minute that may fill it, and never into minutes that have passed."""
    found = Walked()
    nothing = DecisionEngine(rules(venue=SIMULATOR_CAPABILITIES), session(), EQUITY, plain_id)
    found.venue.accept(order(Leg.STOP, stop="98"), 26)
    bars = flat().bar(40, 99.0, low=97.0).bars()
    assert first_quiet_end(nothing, found.venue, found.policy, bars, range(27, 300)) == 40
    assert first_quiet_end(nothing, found.venue, found.policy, bars, range(389, 390)) == 389


def test_a_latched_loss_limit_ends_nothing_any_more() -> None:
    """After defense only the whole daily loss counts, and a window that lost its limit does not count again."""
    found = Walked(daily_loss_limit="0.001", window_loss_limit="0.01", total_allocation="0.05")
    deep = flat().bar(27, 99.4).bar(28, 99.4).bar(40, 98.9)
    assert found.quiet_end(deep) == 27  # half of the daily loss, and the window's
    found.minute(27, deep.bars())
    assert found.decision_engine.exposure.window_loss == {"open"}
    assert found.quiet_end(deep, range(28, 300)) == 40


def test_marks_after_skipped_minutes_are_those_of_the_last_bars() -> None:
    """A symbol without a bar at the end keeps the close of its last one, or its mark if it had none."""
    found = Walked("AAA", "BBB")
    draft = flat().bar(30, 101.0).bar(31, 102.0).gap(32, 50).gap(27, 50, "BBB")
    mark_at_end(found.decision_engine, draft.bars(), range(27, 40))
    marks = {one.symbol: one.mark for one in found.decision_engine.portfolio.positions.values()}
    assert marks == {"AAA": 1_020_000, "BBB": 1_000_000}


def test_the_first_level_that_is_reached_counts() -> None:
    """Levels of several fields and rows, from both sides; no level and no minute reach nothing."""
    bars = flat().bar(10, 105.0).bar(20, 95.0, "BBB").bars()
    high, low = PriceLevel("high", 0, 1_040_000, 1), PriceLevel("low", 1, 960_000, -1)
    assert first_reached([high, low], bars, range(5, 40)) == 10
    assert first_reached([low], bars, range(5, 40)) == 20
    assert first_reached([high, low], bars, range(21, 40)) == 40
    assert first_reached([], bars, range(5, 40)) == 40
    assert first_reached([high], bars, range(5, 5)) == 5
