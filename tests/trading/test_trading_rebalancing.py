"""Positions under their share of equity are topped up to it: only to it, only while they win, and never for nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, DayTradeRule
from tbot_core.contracts.settings import RebalanceSettings
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, OrderType, RiskState, Side, atoms_of, ticks_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, identity, order, placed_and_cancelled, proposal, rules, session
from tbot_core.trading import exit_plan
from tbot_core.trading.commands import Decision, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.portfolio import Portfolio, Position
from tbot_core.trading.positions import rebalance_rules
from tbot_core.trading.risk.account import simulated_account
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.types import Order, SignalId
    from tbot_core.trading.commands import TradingCommand

BARE = BrokerCapabilities(shortable=True)
BRACKETS = BrokerCapabilities(brackets=True, replace="same_id", shortable=True)
POLICY = {"rebalance_enabled": True, "rebalance_top_up": True, "rebalance_check_interval": 60.0}
WIDE = {"stop_loss_pct": Decimal("0.5"), "rebalance_threshold": Decimal("0.05")}
TWO = ExitRules(leave=380)


def name(_signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{leg.value} {attempt}"


class Bench:
    """A desk that holds 7 shares of AAA, bought or sold short at 100.00 USD with a stop far away."""

    def __init__(self, venue: BrokerCapabilities = BARE, side: Side = Side.LONG, **told: Any) -> None:
        shape: dict[str, Any] = {"side": side, "exits": TWO, "stop": 100.0 - 50 * side, "minute": 5}
        shape |= {key: told.pop(key) for key in ("target", "exits", "stop") if key in told}
        self.desk = DecisionEngine(
            rules(venue=venue, **{**POLICY, **WIDE, **told}), session(), atoms_of(Decimal(100_000)), name
        )
        self.desk.update_account(attrs.evolve(simulated_account("", Decimal(100_000)), day_trades=0))
        entry = self.desk.decide([proposal(**shape)])[0].order
        assert entry is not None
        self.orders: dict[str, Order] = {one.client_order_id: one for one in (entry, *entry.protection)}
        self._count = 0
        self.fill("entry 1")
        self.take(self.desk.position_manager.orders_due_now())

    def take(self, actions: Sequence[TradingCommand]) -> list[str]:
        """Keep the orders that are placed; all that is asked for, in words."""
        self.orders |= {one.order.client_order_id: one.order for one in actions if isinstance(one, SubmitOrder)}
        return placed_and_cancelled(actions)

    def fill(self, cid: str, price: str = "100", quantity: str | None = None) -> list[str]:
        """Let an order be filled; what that sets free."""
        self._count += 1
        one = fill(self.orders[cid], price, quantity, str(self._count))
        self.desk.position_manager.on_order_event(
            BrokerEvent(kind="fill", event_id=str(self._count), client_order_id=cid, fill=one)
        )
        return self.take(self.desk.position_manager.orders_due_now())

    def say(self, kind: str, *cids: str) -> list[str]:
        """Let the broker say a word on orders; what that sets free."""
        for cid in cids:
            self.desk.position_manager.on_order_event(
                BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid)
            )
        return self.take(self.desk.position_manager.orders_due_now())

    def close(self, price: float, minute: int = 30) -> tuple[list[str], list[Decision]]:
        """Let a minute close at a price: what is asked for, and what is decided of top-ups."""
        bars = SessionDraft().bar(minute, price, high=price, low=price).bars()
        self.desk.mark(bars, minute)
        asked = self.take(self.desk.position_manager.orders_after_minute(bars, minute))
        decided = self.desk.top_up(self.desk.position_manager.top_ups.proposals(bars, minute))
        self.orders |= {one.order.client_order_id: one.order for one in decided if one.order is not None}
        return asked, decided

    def trimmed(self, price: float = 150.0, minute: int = 30) -> Bench:
        """Let it grow to a price, and be taken back to its share."""
        asked, decided = self.close(price, minute)
        assert (len(asked) in {1, 2}, decided) == (True, [])
        sold = self.say("cancelled", *(one.split(" ", 1)[1] for one in asked))
        (trim,) = (one.split()[1:3] for one in sold if one.startswith("place exit"))
        self.fill(" ".join(trim), str(price))
        return self

    def reason(self, price: float, minute: int = 31) -> Reason | None:
        """Why nothing is added at a price; None where nothing is decided."""
        decided = self.close(price, minute)[1]
        return decided[0].reason if decided else None


@pytest.mark.parametrize(
    ("price", "lacks"), [("100", "0"), ("90", "0"), ("89.99", "1001"), ("50", "5000"), ("150", "0")]
)
def test_what_a_position_lacks_of_its_target(price: str, lacks: str) -> None:
    """Beyond the threshold all that is missing, and nothing before that."""
    position = Position(signal=identity(), side=Side.LONG, entry_time=session().open, units=100, entry_units=100)
    position.entry_atoms, position.mark = 100 * 1_000_000, ticks_of(float(price))
    assert rebalance_rules.missing_atoms(RebalanceSettings(), position) == int(lacks) * 10_000


def test_what_was_added_moves_no_target() -> None:
    """A target is what the entry cost: top-ups cost something too, and are no reason for more of them."""
    books = Portfolio(opening_atoms=atoms_of(Decimal(10_000)))
    entry, added = order(Leg.ENTRY, quantity="10"), order(Leg.ENTRY, "more", quantity="5", reason=ExitReason.REBALANCE)
    sold = order(Leg.EXIT, quantity="5", reason=ExitReason.REBALANCE)
    books.apply(fill(entry, "100", execution="1"), identity(), Leg.ENTRY)
    books.apply(fill(sold, "120", execution="2"), identity(), Leg.EXIT, ExitReason.REBALANCE)
    books.apply(fill(added, "110", execution="3"), identity(), Leg.ENTRY, ExitReason.REBALANCE)
    position = books.in_symbol("AAA")[0]
    assert (position.target_atoms, position.entry_atoms) == (atoms_of(Decimal(1000)), atoms_of(Decimal(1550)))
    books.correct_fill(fill(added, "110", "0", "3"), identity())
    assert books.in_symbol("AAA")[0].entry_atoms == atoms_of(Decimal(1000))
    alone = Portfolio(opening_atoms=0)
    alone.apply(fill(added, "110"), identity(), Leg.ENTRY, ExitReason.REBALANCE)  # too late: what it is for was closed
    assert alone.in_symbol("AAA")[0].target_atoms == atoms_of(Decimal(550))


def test_a_position_that_was_trimmed_and_fell_back_is_topped_up() -> None:
    """Never beyond what its entry cost at the worst price, as an entry of its own number, reason and tag."""
    bench = Bench().trimmed()
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 5 * UNITS_PER_SHARE
    asked, (decided,) = bench.close(110.0, 31)
    added = decided.order
    assert added is not None
    assert (asked, decided.reason) == ([], Reason.ALLOWED)
    assert (added.client_order_id, added.buy, added.quantity, added.type) == (
        "entry 2",
        True,
        Decimal(1),
        OrderType.LIMIT,
    )
    assert (added.reason, added.tag, added.tops_up, added.trims) == (ExitReason.REBALANCE, "REBALANCE", True, False)
    assert added.limit_price == Decimal("110.22")
    assert bench.desk.exposure.sent == {"open": 1}  # MAX_TRADES does not count it
    assert bench.desk.exposure.sent_at == (31, 1)  # MAX_ORDERS_PER_MINUTE does
    assert bench.desk.exposure.position_count == 1
    assert bench.close(110.0, 32) == ([], [])  # not while it works
    assert not bench.desk.decide([proposal(minute=32)])[0].order


@pytest.mark.parametrize("venue", [BARE, BRACKETS], ids=["stops", "brackets"])
@pytest.mark.parametrize(("side", "price"), [(Side.LONG, 150.0), (Side.LONG, 250.0), (Side.SHORT, 145.0)])
def test_a_stop_and_a_trim_are_for_no_more_than_is_held(side: Side, price: float, venue: BrokerCapabilities) -> None:
    """Both work at once, and both may fill: together they are for what is held, also when the trim ends in part."""
    bench = Bench(venue, side, stop=100.0 - 90 * side)
    held = bench.desk.portfolio.in_symbol("AAA")[0].units // UNITS_PER_SHARE
    cancelled = bench.close(price)[0]
    placed = bench.say("cancelled", *(one.removeprefix("cancel ") for one in cancelled))
    stop, trim = (bench.orders[cid] for cid in ("stop 2", "exit 1"))
    assert placed == [f"place stop 2 {stop.quantity}", f"place exit 1 {trim.quantity}"]
    assert stop.quantity + trim.quantity == held
    assert (stop.buy, trim.buy) == (side is Side.SHORT, side is Side.SHORT)
    assert bench.fill("exit 1", str(price), "1") == []
    assert bench.say("cancelled", "exit 1") == ["cancel stop 2"]
    assert bench.say("cancelled", "stop 2") == [f"place stop 3 {held - 1}"]


def test_the_stop_covers_what_was_added() -> None:
    """With the fill the old stop is taken away, and one for all of it is placed once that has ended."""
    bench = Bench().trimmed()
    bench.close(110.0, 31)
    assert bench.fill("entry 2", "110") == ["cancel stop 2"]
    assert bench.close(110.0, 32)[0] == ["cancel stop 2"]  # until it is gone
    assert bench.say("cancelled", "stop 2") == ["place stop 3 6"]
    assert not bench.desk.exposure.working
    assert bench.close(112.0, 33) == ([], [])


def test_what_rests_as_a_bracket_is_replaced_by_a_stop_for_all() -> None:
    """A target for the old size goes with the stop: no more is for sale than is held; closes watch it from then on."""
    bench = Bench(BRACKETS, Side.SHORT, target=60.0, max_risk_per_trade=Decimal("0.02"), stop=150.0)
    _, (decided,) = bench.close(88.0, 31)
    assert decided.order is not None
    assert (decided.order.buy, decided.order.quantity) == (False, Decimal(1))
    assert bench.fill("entry 2", "88") == ["cancel target 1", "cancel stop 1"]
    assert bench.say("cancelled", "target 1") == []
    assert bench.say("cancelled", "stop 1") == [
        f"place stop 2 {bench.desk.portfolio.in_symbol('AAA')[0].units // UNITS_PER_SHARE}"
    ]


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        (99.0, Reason.TOP_UP_LOSING),
        (100.0, Reason.ALLOWED),
        (116.0, Reason.ALLOWED),
        (125.0, Reason.QUANTITY_TOO_SMALL),
    ],
)
def test_never_below_the_entry_price(price: float, reason: Reason) -> None:
    """A position that loses is not made larger."""
    assert Bench().trimmed().reason(price) is reason


def test_a_short_is_mirrored() -> None:
    """It is topped up as it wins, as far as MAX_RISK_PER_TRADE lets a trade go, and not when it loses."""
    roomy = Bench(side=Side.SHORT, max_risk_per_trade=Decimal("0.02"), stop=150.0)
    assert roomy.reason(80.0) is Reason.ALLOWED
    capped = Bench(side=Side.SHORT, max_risk_per_trade=Decimal("0.0075"), stop=150.0)
    assert capped.reason(80.0) is Reason.QUANTITY_TOO_SMALL


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disable_all_trades": True}, Reason.TRADING_DISABLED),
        ({"max_order_notional": Decimal(50)}, Reason.ORDER_NOTIONAL),
        ({"max_symbol_exposure": Decimal("0.0055")}, Reason.SYMBOL_EXPOSURE),
        ({"price_band_pct": Decimal("0.001")}, Reason.PRICE_BAND),
        ({"trade_confirmation_required": True}, Reason.TOP_UP_UNCONFIRMED),
    ],
)
def test_the_gate_is_that_of_entries(changes: dict[str, Any], reason: Reason) -> None:
    """Caps and switches deny a top-up with their own codes, and a denial is told once until it changes."""
    bench = Bench().trimmed()
    other = DecisionEngine(rules(**{**POLICY, **WIDE, **changes}), session(), atoms_of(Decimal(100_000)), name)
    bench.desk.position_manager.top_ups._rules = other._rules
    bench.desk._gate, bench.desk._limits = other._gate, other._limits
    assert bench.reason(110.0, 31) is reason
    assert bench.reason(110.0, 32) is None
    assert bench.reason(142.0, 33) is None  # at its share: nothing is lacking
    assert bench.reason(110.0, 34) is reason


@pytest.mark.parametrize(
    ("state", "reason"),
    [(RiskState.DEFENSE, Reason.DEFENSE), (RiskState.EXIT_ONLY, Reason.EXIT_ONLY), (RiskState.HALTED, Reason.HALTED)],
)
def test_nothing_is_added_in_defense_or_worse(state: RiskState, reason: Reason) -> None:
    """Only entries that the settings shrink go on in defense."""
    bench = Bench().trimmed()
    bench.desk.exposure.imposed_state = state
    assert bench.reason(110.0) is reason


def test_a_top_up_is_a_day_trade_of_its_own() -> None:
    """What was sold and bought again is one more; an account that allows no more of them adds nothing."""
    rule = DayTradeRule(until=session().date, account="margin", equity_below=Decimal(10**9), max_day_trades=2)
    bench = Bench(BrokerCapabilities(day_trade_rules=(rule,)))
    assert bench.desk.limits.day_trades == 2
    bench.trimmed()
    assert bench.reason(110.0) is Reason.ALLOWED
    bench.fill("entry 2", "110")
    bench.say("cancelled", "stop 2")
    bench.trimmed(150.0, 32)
    assert bench.reason(110.0, 33) is Reason.DAY_TRADES


def test_plugins_limits_hold_for_top_ups() -> None:
    """What a plugin denies is denied in its words."""
    bench = Bench().trimmed()
    bench.desk._checks = (("mine", lambda one: "no more" if one.tops_up else None),)
    (decided,) = bench.close(110.0, 31)[1]
    assert (decided.reason, decided.detail) == (Reason.RISK_CHECK_DENIED, "mine: no more")


def test_nothing_is_added_while_the_position_changes_or_nothing_is_known() -> None:
    """Not while its stop is renewed, without a bar in the minute, without a check, or with the switch off."""
    bench = Bench()
    bench.close(150.0)
    assert bench.close(110.0, 31)[1] == []
    waiting = Bench().trimmed()
    bars = SessionDraft().bar(30, 110.0).gap(31, 32).bars()
    waiting.desk.mark(bars, 31)
    assert waiting.desk.position_manager.top_ups.proposals(bars, 31) == []
    off = Bench(rebalance_top_up=False).trimmed()
    assert off.reason(110.0) is None
    rare = Bench(rebalance_check_interval=1860.0)
    assert rare.desk.position_manager.top_ups.proposals(bars, 31) == []


@pytest.mark.parametrize(
    ("leave", "stop", "target", "price", "closed", "near"),
    [
        (None, 90, None, 100, 19, False),
        (100, 90, None, 100, 78, False),
        (100, 90, None, 100, 80, True),
        (None, 90, None, 100, 378, True),
        (None, 90, None, 92.5, 19, False),
        (None, 90, None, 92.4, 19, True),
        (None, 90, 110, 107.5, 19, False),
        (None, 90, 110, 107.6, 19, True),
    ],
)
def test_near_its_exit(
    leave: int | None, stop: float, target: float | None, price: float, closed: int, near: bool
) -> None:
    """Less than a quarter of the time, or of the way to stop or target, is left."""
    shape = ExitRules(leave=leave)
    levels = (100.0, float(stop), float("nan") if target is None else float(target))
    plan = exit_plan.make_exit_plan(Side.LONG, levels, shape, rules().exits)
    assert exit_plan.near_exit(plan, ticks_of(float(price)), 20, closed, 385) is near
    if near:
        bench = Bench(exits=ExitRules(leave=60)).trimmed()
        assert bench.reason(110.0, 53) is Reason.TOP_UP_NEAR_EXIT


def test_an_exit_takes_the_top_up_away_first() -> None:
    """What works for a position is cancelled before it is closed; one that was filled meanwhile is closed with it."""
    bench = Bench(exits=ExitRules(leave=60)).trimmed()
    assert bench.reason(110.0) is Reason.ALLOWED
    added = bench.orders["entry 2"]
    assert bench.desk.position_manager.top_ups.denial_reason(added) == ""
    assert bench.close(110.0, 59)[0] == ["cancel entry 2", "cancel stop 2"]
    assert "closed, or changes" in bench.desk.position_manager.top_ups.denial_reason(added)
    assert bench.fill("entry 2", "110") == []
    assert bench.say("cancelled", "stop 2") == ["place exit 2 6"]


def test_what_is_added_behind_a_stop_that_fills_is_closed() -> None:
    """A stop that has begun to fill is not waited for with more behind it."""
    bench = Bench().trimmed()
    bench.close(110.0, 31)
    bench.fill("stop 2", "50", "2")
    bench.fill("entry 2", "110")
    assert bench.close(110.0, 32)[0] == ["cancel stop 2"]
    assert bench.say("cancelled", "stop 2") == ["place exit 2 4"]


@pytest.mark.parametrize("kind", ["triggered", "fill"])
def test_nothing_is_trimmed_or_added_once_the_stop_has_triggered(kind: str) -> None:
    """The triggered stop goes on, whether a part of it is filled or nothing yet; no new one waits for a new trigger."""

    def triggers(bench: Bench) -> Bench:
        bench.fill("stop 1", "50", "1") if kind == "fill" else bench.say("triggered", "stop 1")
        return bench

    assert triggers(Bench()).close(150.0) == ([], [])
    assert triggers(Bench()).close(50.0) == ([], [])
    moved = triggers(Bench(exits=attrs.evolve(TWO, trailing=True)))
    assert moved.close(150.0) == ([], [])


@pytest.mark.parametrize("kind", ["triggered", "fill"])
def test_a_stop_that_triggers_while_a_trim_cancels_it_closes_the_position(kind: str) -> None:
    """What is left goes at the market as soon as the stop has ended, in place of the trim."""
    bench = Bench()
    assert bench.close(150.0)[0] == ["cancel stop 1"]
    left = 6 if kind == "fill" else 7
    assert (bench.fill("stop 1", "50", "1") if kind == "fill" else bench.say("triggered", "stop 1")) == []
    assert bench.say("cancelled", "stop 1") == [f"place exit 1 {left}"]
    assert bench.orders["exit 1"].reason is ExitReason.STOP


def test_a_trigger_of_another_stop_changes_nothing() -> None:
    """Only the stop that rests counts: after a late fill of the one before it is made as large as what is left."""
    bench = Bench().trimmed()
    bench.say("triggered", "stop 1")
    assert bench.close(200.0, 31)[0] == ["cancel stop 2"]
    late = Bench().trimmed()
    assert late.fill("stop 1", "50", "2") == ["cancel stop 2"]
    assert late.say("cancelled", "stop 2") == ["place stop 3 3"]


def test_a_fill_that_comes_when_all_is_closed_is_a_position_with_a_stop() -> None:
    """The broker's truth is booked and protected, whoever is to blame."""
    bench = Bench(BRACKETS).trimmed()
    bench.close(110.0, 31)
    bench.fill("stop 2", "50")
    assert "closed, or changes" in bench.desk.position_manager.top_ups.denial_reason(bench.orders["entry 2"])
    assert bench.fill("entry 2", "110") == ["place stop 3 1"]


def test_a_fill_far_from_the_price_of_its_decision_is_told() -> None:
    """Held against the price that the top-up was decided at, not against that of the entry long ago."""
    bench = Bench().trimmed()
    bench.close(110.0, 31)
    bench.fill("entry 2", "110")
    assert bench.desk.exposure.deviations_in_row == 0
    other = Bench().trimmed()
    other.close(110.0, 31)
    other.fill("entry 2", "112")
    assert other.desk.exposure.deviations_in_row == 1


def test_a_restart_takes_a_top_up_in_again() -> None:
    """It reserves what it may cost, and the next one bears another number."""
    bench = Bench().trimmed()
    _, (decided,) = bench.close(110.0, 31)
    again = Bench().trimmed()
    assert decided.order is not None
    again.desk.restore_entry(decided.order, decided.proposal)
    assert again.desk.exposure.working == bench.desk.exposure.working
    assert again.desk.exposure.topped_up == 1
    assert again.close(110.0, 32) == ([], [])
    again.say("expired", "entry 2")
    assert again.close(110.0, 33)[1][0].order is not None
    assert "entry 3" in again.orders


def test_a_market_order_is_sized_at_the_far_edge_of_the_band() -> None:
    """An order without a limit adds as little as its worst price allows, and a fraction stays one."""
    bench = Bench(entry_order_type="market").trimmed()
    (decided,) = bench.close(110.0, 31)[1]
    assert decided.order is not None
    assert (decided.order.type, decided.order.quantity) == (OrderType.MARKET, Decimal(1))


@pytest.mark.parametrize("venue", [BARE, BRACKETS])
def test_a_stop_stays_while_the_one_for_an_added_quantity_waits_for_a_reading(venue: BrokerCapabilities) -> None:
    """Somebody else may have sold: until a reading shows the holding nothing is placed, so nothing is cancelled."""
    bench = Bench(venue).trimmed()
    added = bench.close(100.0, 31)[1][0].order
    assert added is not None
    manager = bench.desk.position_manager
    stop = manager.book.held_in("AAA")[0].stop
    assert stop is not None
    manager.on_foreign_fill(attrs.evolve(fill(stop.order, "100", "1", "foreign"), client_order_id="by hand"), 100.0)
    assert bench.fill(added.client_order_id) == []
    manager.on_reading(200.0, ())
    assert bench.take(manager.orders_due_now()) == [f"cancel {stop.cid}"]


def test_the_stop_of_a_bracket_stays_while_readings_contradict_the_books_of_what_was_added() -> None:
    """None of its own may be placed then, and the bracket's closes no more than is held."""
    bench = Bench(BRACKETS, side=Side.SHORT, target=10.0)
    manager = bench.desk.position_manager
    held = manager.book.held_in("AAA")[0]
    assert held.stop is not None
    bench.say("acknowledged", held.stop.cid)
    added = bench.close(80.0, 31)[1][0].order
    assert added is not None
    bench.desk.exposure.holds.add("AAA", Hold.DISPUTED)
    assert bench.fill(added.client_order_id, "80") == []
    bench.desk.exposure.holds.end("AAA", Hold.DISPUTED)
    assert sorted(bench.take(manager.orders_due_now())) == ["cancel stop 1", "cancel target 1"]
