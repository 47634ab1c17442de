"""Positions that outgrew their share of equity are trimmed to it, and never is more for sale than is held."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.contracts.settings import RebalanceSettings
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ExitReason, Leg, OrderType, RiskState, Side, atoms_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, identity, order, placed_and_cancelled, proposal, rules, session
from tbot_core.trading.commands import SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.portfolio import Portfolio, Position
from tbot_core.trading.positions import rebalance_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.types import SignalId
    from tbot_core.trading.commands import TradingCommand

BARE = BrokerCapabilities(shortable=True)
BRACKETS = BrokerCapabilities(brackets=True, replace="same_id", shortable=True)
OFTEN = {"rebalance_enabled": True, "rebalance_threshold": Decimal("0.05"), "rebalance_check_interval": 60.0}
LONG_HELD = ExitRules(leave=200)


def name(_signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{leg.value} {attempt}"


class Bench:
    """A desk that holds 7 shares of AAA, or `filled`, bought or sold short at 100.00 USD, and what it asks for."""

    def __init__(
        self, venue: BrokerCapabilities = BRACKETS, side: Side = Side.LONG, filled: str | None = None, **told: Any
    ) -> None:
        shape: dict[str, Any] = {
            "side": side,
            "exits": LONG_HELD,
            **{key: told.pop(key) for key in ("target", "exits") if key in told},
        }
        self.desk = DecisionEngine(rules(venue=venue, **{**OFTEN, **told}), session(), atoms_of(Decimal(100_000)), name)
        entry = self.desk.decide([proposal(**shape)])[0].order
        assert entry is not None
        self.entry = entry
        self._count = 0
        self.orders = {one.client_order_id: one for one in (entry, *entry.protection)}
        self.fill("entry 1", quantity=filled)
        self.take(self.desk.position_manager.orders_due_now())

    def take(self, actions: Sequence[TradingCommand]) -> list[str]:
        """Keep the orders that are placed; all that is asked for, in words."""
        self.orders |= {one.order.client_order_id: one.order for one in actions if isinstance(one, SubmitOrder)}
        return placed_and_cancelled(actions)

    def fill(self, cid: str, price: str = "100", quantity: str | None = None) -> None:
        """Let an order be filled."""
        self._count += 1
        one = fill(self.orders[cid], price, quantity, str(self._count))
        self.desk.position_manager.on_order_event(
            BrokerEvent(kind="fill", event_id=str(self._count), client_order_id=cid, fill=one)
        )

    def tell(self, kind: str, *cids: str) -> None:
        """Let the broker say a word on orders."""
        for cid in cids:
            self.desk.position_manager.on_order_event(
                BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid)
            )

    def say(self, kind: str, *cids: str) -> list[str]:
        """Let the broker say a word on orders; what it sets free."""
        self.tell(kind, *cids)
        return self.take(self.desk.position_manager.orders_due_now())

    def close(self, price: float, minute: int = 30) -> list[str]:
        """Let a minute close at a price; what is asked for."""
        bars = SessionDraft().bar(minute, price, high=price, low=price).bars()
        self.desk.mark(bars, minute)
        return self.take(self.desk.position_manager.orders_after_minute(bars, minute))


@pytest.mark.parametrize(
    ("interval", "minutes"), [(60.0, [0, 1, 2, 3, 4, 5]), (120.0, [1, 3, 5]), (90.0, [1, 2, 4, 5]), (300.0, [4])]
)
def test_a_check_falls_every_interval_from_the_bell_on(interval: float, minutes: list[int]) -> None:
    """At the end of the minute in which the interval is over; never where rebalancing is off."""
    policy = RebalanceSettings(rebalance_enabled=True, rebalance_check_interval=interval)
    assert [minute for minute in range(6) if rebalance_rules.checks_positions(policy, minute)] == minutes
    assert not any(
        rebalance_rules.checks_positions(RebalanceSettings(rebalance_check_interval=interval), minute)
        for minute in range(6)
    )


@pytest.mark.parametrize(
    ("price", "beyond"), [("100", "0"), ("110", "0"), ("110.01", "9"), ("200", "50"), ("50", "0"), ("150.5", "33")]
)
def test_a_position_is_trimmed_to_what_its_entry_cost(price: str, beyond: str) -> None:
    """Beyond the threshold, in whole steps, and never below its target."""
    position = Position(signal=identity(), side=Side.LONG, entry_time=session().open, units=100, entry_units=100)
    position.entry_atoms, position.mark = 100 * 1_000_000, int(Decimal(price) * 10_000)
    assert rebalance_rules.excess_units(RebalanceSettings(), position, 1) == int(beyond)


def test_a_trim_waits_until_nothing_rests_and_the_stop_covers_the_rest() -> None:
    """At no moment is more for sale than is held: first what rests is gone, then stop and trim add up to all of it."""
    bench = Bench(target=150.0)
    assert sorted(bench.close(125.0)) == ["cancel stop 1", "cancel target 1"]
    assert bench.say("cancelled", "target 1") == []
    assert bench.say("cancelled", "stop 1") == ["place stop 2 6", "place exit 1 1"]
    trim = bench.orders["exit 1"]
    assert (trim.type, trim.buy, trim.reason, trim.tag) == (OrderType.MARKET, False, ExitReason.REBALANCE, "REBALANCE")
    bench.fill("exit 1", "125")
    assert bench.take(bench.desk.position_manager.orders_due_now()) == []
    assert bench.close(126.0, 31) == []
    assert bench.close(151.0, 32) == ["cancel stop 2"]  # the target, which rests no more, was reached
    assert bench.say("cancelled", "stop 2") == ["place exit 2 6"]
    bench.fill("exit 2", "150")
    (done,) = bench.desk.portfolio.closed
    trade = done.to_trade()
    assert (trade.quantity, trade.exit_reason) == (Decimal(7), ExitReason.TARGET)
    assert trade.exit_price == Decimal("146.4285714286")
    assert trade.pnl == Decimal("325.00")


def test_a_short_that_outgrew_its_share_is_bought_back_in_part() -> None:
    """A short grows as it loses; the trim is a purchase."""
    bench = Bench(BARE, Side.SHORT)
    assert bench.close(101.9) == []
    short = Bench(BARE, Side.SHORT, rebalance_threshold=Decimal("0.01"), stop_loss_pct=Decimal("0.5"))
    assert short.close(118.0) == ["cancel stop 1"]
    assert short.say("cancelled", "stop 1") == ["place stop 2 7", "place exit 1 1"]
    assert short.orders["exit 1"].buy


def test_a_trim_that_ends_unfilled_leaves_the_whole_position_covered() -> None:
    """The stop is renewed for all that is held again, and the next check trims anew."""
    bench = Bench(BARE)
    bench.close(125.0)
    bench.say("cancelled", "stop 1")
    assert bench.say("rejected", "exit 1") == ["cancel stop 2"]
    assert bench.say("cancelled", "stop 2") == ["place stop 3 7"]
    assert bench.close(125.0, 31) == ["cancel stop 3"]


def test_a_position_whose_stop_acts_on_closes_is_trimmed_without_one() -> None:
    """Nothing rests, so the trim goes at once."""
    bench = Bench(BARE, exits=ExitRules(trigger="close", leave=200))
    assert bench.close(125.0) == ["place exit 1 1"]
    assert bench.close(126.0, 31) == []


def test_cancels_are_asked_for_until_what_rests_is_gone() -> None:
    """A cancel that was lost on its way is asked for again with the next minute."""
    bench = Bench(BARE)
    assert bench.close(125.0) == ["cancel stop 1"]
    assert bench.close(125.0, 31) == ["cancel stop 1"]


def test_an_exit_that_falls_due_takes_the_trim_away() -> None:
    """What is left is closed once neither trim nor stop works for it."""
    bench = Bench(BARE, exits=ExitRules(leave=32))
    bench.close(125.0)
    bench.say("cancelled", "stop 1")
    assert bench.close(125.0, 31) == ["cancel exit 1", "cancel stop 2"]
    assert bench.say("cancelled", "exit 1", "stop 2") == ["place exit 2 7"]
    waiting = Bench(BARE, exits=ExitRules(leave=32))
    waiting.close(125.0)
    assert waiting.close(125.0, 31) == ["cancel stop 1"]
    assert waiting.say("cancelled", "stop 1") == ["place exit 1 7"]


def test_what_the_stop_sold_meanwhile_is_not_trimmed_as_well() -> None:
    """A stop that filled in part before its cancel has triggered: all that is left is closed, nothing is trimmed."""
    bench = Bench(BARE)
    bench.close(125.0)
    bench.fill("stop 1", "98", "3")
    assert bench.say("cancelled", "stop 1") == ["place exit 1 4"]
    outside = Bench(exits=ExitRules(trigger="close", leave=200), target=150.0)
    assert outside.close(125.0) == ["cancel target 1"]
    outside.desk.position_manager.on_external_change(fill(outside.orders["target 1"], "125", "3", "outside"))
    assert outside.say("cancelled", "target 1") == []


def test_a_stop_that_fills_beside_a_trim_gives_its_reason() -> None:
    """Stop and trim close the position together; it was stopped, whichever fill came last."""
    bench = Bench(BARE)
    bench.close(125.0)
    bench.say("cancelled", "stop 1")
    bench.fill("stop 2", "98")
    bench.fill("exit 1", "97")
    (done,) = bench.desk.portfolio.closed
    assert (done.exit_reason, bench.desk.portfolio.surplus) == (ExitReason.STOP, [])


@pytest.mark.parametrize("state", [RiskState.EXIT_ONLY, RiskState.HALTED])
def test_nothing_is_trimmed_while_only_exits_are_allowed(state: RiskState) -> None:
    """The account may not be what it seems; in defense a trim lessens the risk, and goes."""
    bench = Bench(BARE)
    bench.desk.exposure.imposed_state = state
    assert bench.close(125.0) == []
    bench.desk.exposure.imposed_state = RiskState.DEFENSE
    assert bench.close(125.0, 31) == ["cancel stop 1"]


def test_nothing_is_trimmed_without_a_price_or_while_its_entry_works() -> None:
    """A symbol without a bar in the minute waits for the next check, and so does one that is still being entered."""
    bench = Bench(BARE)
    bars = SessionDraft().bar(29, 125.0, high=125.0, low=125.0).gap(30, 31).bars()
    bench.desk.mark(bars, 29)
    assert bench.take(bench.desk.position_manager.orders_after_minute(bars, 30)) == []
    part = Bench(BARE, filled="6")
    assert part.close(140.0) == []


def test_a_restart_takes_a_trim_at_work_in_again() -> None:
    """The trim is no exit: the rest goes on being held, and its stop keeps its size."""
    bench = Bench(BARE)
    bench.close(125.0)
    bench.say("cancelled", "stop 1")
    again = Bench(BARE)
    again.desk.position_manager.recovery.restore_request("stop 1")
    again.tell("cancelled", "stop 1")
    for cid in ("stop 2", "exit 1"):
        again.orders[cid] = bench.orders[cid]
        again.desk.position_manager.recovery.restore_order(bench.orders[cid])
    assert again.take(again.desk.position_manager.orders_due_now()) == []
    again.fill("exit 1", "125")
    assert again.take(again.desk.position_manager.orders_due_now()) == []
    assert again.close(104.0, 31) == []


def test_a_fraction_is_trimmed_in_the_venues_step() -> None:
    """A position that is no whole number of shares is taken back by fractions."""
    venue = BrokerCapabilities(quantity_step=Decimal("0.01"), fractional_types=frozenset({"limit", "market"}))
    bench = Bench(venue, fractional=True, total_allocation=Decimal("0.0212"))
    held = bench.entry.quantity
    assert held % 1
    bench.close(200.0)
    bench.say("cancelled", "stop 1")
    kept = held - bench.orders["exit 1"].quantity
    assert held / 2 <= kept < held / 2 + Decimal("0.01")


@pytest.mark.parametrize(("permitted", "trims"), [(False, False), (True, True)])
def test_a_position_is_trimmed_under_a_share_only_where_it_may_be_held_without_a_stop(
    *, permitted: bool, trims: bool
) -> None:
    """All of it would have to be closed, since no fraction may be stopped."""
    venue = BrokerCapabilities(quantity_step=Decimal("0.01"), fractional_types=frozenset({"limit", "market"}))
    bench = Bench(venue, filled="1.5", fractional=True, fractional_unprotected=permitted)
    bench.say("cancelled", "entry 1")
    assert bool(bench.close(250.0)) is trims


@pytest.mark.parametrize(
    ("price", "share", "leaves"), [(100, "0.9", False), (200, "0.818182", True), (None, "1.000000", False)]
)
def test_the_cash_share_leaves_its_target(price: int | None, share: str, leaves: bool) -> None:
    """More than REBALANCE_TRIGGER_PCT points off 1 - TOTAL_ALLOCATION for each strategy; exactly so many are not."""
    books = Portfolio(opening_atoms=atoms_of(Decimal(1000)))
    if price is not None:
        bought = order(Leg.ENTRY, quantity="1")
        books.apply(fill(bought, "100"), identity(), Leg.ENTRY)
        books.mark("AAA", price * 10_000)
    found = rebalance_rules.cash_share(books, Decimal("0.02"), 2)
    assert (found.share, found.target) == (Decimal(share), Decimal("0.96"))
    assert found.exceeds_trigger(RebalanceSettings()) is leaves
    assert not rebalance_rules.CashShare(share=Decimal("0.86"), target=Decimal("0.96")).exceeds_trigger(
        RebalanceSettings()
    )


def test_without_equity_there_is_no_share_of_cash() -> None:
    """It counts as none at all."""
    assert rebalance_rules.cash_share(Portfolio(opening_atoms=0), Decimal(0), 1).share == 0
