"""The desk of a session: from proposals to orders, from fills to exits, minute by minute against a venue."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.errors import PluginError, RejectionMeaning
from tbot_core.model.reasons import CONFIRMED, Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import ExitReason, Leg, OrderType, RiskState, Side, atoms_of, dollars_of, stock, units_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, order, proposal, rules, session
from tbot_core.trading.commands import CancelOrder, Decision, ReplaceOrder, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES, MatchingEngine, last_close_ticks
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderEvent
from tbot_core.trading.portfolio import CarriedPosition
from tbot_core.trading.risk.exposure import ReservedEntry
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import RiskCheck
    from tbot_core.model.bars import Bars
    from tbot_core.model.types import Order, SignalId
    from tbot_core.trading.commands import TradingCommand
    from tbot_core.trading.proposals import Proposal, TradingRules
    from tbot_core.trading.risk.exposure import RiskChange

EQUITY = atoms_of(Decimal(100_000))
FREE = FillCosts(slippage=Slippage(kind="none", mean=0.0, deviation=0.0, seed=0))
NONE = float("nan")


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


def name_by_strategy(signal: SignalId, leg: Leg, attempt: int) -> str:
    """An id of its own for each strategy, as real ones are: two may enter a symbol one after the other."""
    return f"{signal.strategy} {name(signal, leg, attempt)}"


def desk(found: TradingRules | None = None, checks: tuple[tuple[str, RiskCheck], ...] = ()) -> DecisionEngine:
    """A desk of a session that opened with 100,000 USD."""
    return DecisionEngine(found or rules(), session(), EQUITY, name, checks)


class Day:
    """A session walked minute by minute, as every clock does it."""

    def __init__(self, bars: Bars, found: TradingRules | None = None, costs: FillCosts = FREE) -> None:
        self.bars = bars
        self.desk = desk(found)
        self.venue = MatchingEngine(costs, session(), bars.symbols)
        self.decisions: list[Decision] = []
        self.actions: list[tuple[int, TradingCommand]] = []
        self.changes: list[tuple[int, RiskChange]] = []

    def book(self) -> None:
        """Hand the venue's events to the desk."""
        for event in self.venue.events():
            self.desk.book.tickets[event.client_order_id].on_answer(BROKER_EVENT_KINDS[event.kind])
            self.desk.position_manager.on_order_event(event)

    def step(self, minute: int, *proposals: Proposal) -> None:
        """One minute in the order that all clocks keep."""
        self.venue.match(self.bars, minute)
        self.book()
        self.changes += [(minute, change) for change in self.desk.mark(self.bars, minute)]
        self.act(self.desk.position_manager.orders_after_minute(self.bars, minute), minute)
        self.book()
        self.act(self.desk.position_manager.orders_due_now(), minute)
        for decision in self.desk.decide(proposals):
            self.decisions.append(decision)
            if decision.order is not None:
                self.venue.accept(decision.order, minute)
        self.book()

    def act(self, actions: Sequence[TradingCommand], minute: int) -> None:
        """Do what the desk asks for."""
        for action in actions:
            self.actions.append((minute, action))
            match action:
                case SubmitOrder(order=order):
                    self.venue.accept(order, minute)
                case CancelOrder(client_order_id=cid):
                    self.venue.cancel(cid)
                case ReplaceOrder(client_order_id=cid, stop_price=price):
                    self.venue.replace(cid, price)

    def walk(self, *proposals: Proposal, last: int = 389, close: bool = True) -> Day:
        """The session from the first signal on."""
        for minute in range(min(one.signal.minute for one in proposals), last + 1):
            self.step(minute, *(one for one in proposals if one.signal.minute == minute))
        if close:
            self.venue.close(partial(last_close_ticks, self.bars))
            self.book()
        return self

    @property
    def trades(self) -> list[tuple[str, int, str, int, str, ExitReason]]:
        """Symbol, entry minute and price, exit minute and price, reason."""
        found = []
        for trade in (position.to_trade() for position in self.desk.portfolio.closed):
            entered, left = session().minute(trade.entry_time), session().minute(trade.exit_time)
            found.append(
                (trade.symbol, entered, str(trade.entry_price), left, str(trade.exit_price), trade.exit_reason)
            )
        return found

    @property
    def reasons(self) -> list[Reason]:
        """The decisions' reasons in order."""
        return [decision.reason for decision in self.decisions]


LEAVING = [
    (ExitRules(leave=60), None, 60, ExitReason.TIME),  # after bar 59, at the open of bar 60
    (ExitRules(hold=30), None, 56, ExitReason.TIME),  # filled in 26: after bar 55
    (ExitRules(), None, 385, ExitReason.SESSION_END),  # after bar 384: five minutes before the close
    (ExitRules(), 10, 380, ExitReason.SESSION_END),
    (ExitRules(leave=390), None, 385, ExitReason.SESSION_END),
]


@pytest.mark.parametrize(("shape", "flatten", "minute", "reason"), LEAVING)
def test_a_position_is_left_at_its_minute(
    shape: ExitRules, flatten: int | None, minute: int, reason: ExitReason
) -> None:
    """The exit goes when the last bar of its time has closed and meets the open of the next."""
    found = rules(flatten_before_close=flatten) if flatten else rules()
    day = Day(SessionDraft().bars(), found).walk(proposal(exits=shape))
    assert day.trades == [("AAA", 26, "100.0000", minute, "100.0000", reason)]
    assert [(at, type(action).__name__) for at, action in day.actions] == [
        (minute - 1, "CancelOrder"),
        (minute - 1, "SubmitOrder"),
    ]


def test_an_exit_waits_for_a_bar_and_the_session_ends_all() -> None:
    """An exit without a bar is filled at the last price, NO_MARKET."""
    day = Day(SessionDraft().bar(59, 99.0).gap(60, 390).bars()).walk(proposal(exits=ExitRules(leave=60)))
    assert [(trade[4], trade[5]) for trade in day.trades] == [("99.0000", ExitReason.NO_MARKET)]
    assert day.desk.position_manager.is_idle


def test_stop_and_target_end_a_trade_at_the_venue() -> None:
    """What rests there closes the position; the desk has nothing to do."""
    for bar, price, reason in ((97.0, "97.0000", ExitReason.STOP), (104.0, "104.0000", ExitReason.TARGET)):
        day = Day(SessionDraft().bar(30, bar).bars()).walk(proposal(target=103.0))
        assert [(trade[3], trade[4], trade[5]) for trade in day.trades] == [(30, price, reason)]
        assert day.actions == []


def test_a_trail_follows_completed_bars_only() -> None:
    """The stop of minute t hangs on highs up to t-1: the bar that makes the high cannot be stopped by it."""
    draft = SessionDraft().bar(30, 105.0, high=110.0, low=104.0).bar(31, 107.7, open=107.9, low=107.7, high=107.9)
    day = Day(draft.bars()).walk(proposal(exits=ExitRules(trailing=True)))
    assert [(at, action) for at, action in day.actions if isinstance(action, ReplaceOrder)] == [
        (
            30,
            ReplaceOrder(client_order_id="AAA stop", stop_price=Decimal("107.8000"), reason=ExitReason.TRAILING_STOP),
        )
    ]
    assert day.trades == [("AAA", 26, "100.0000", 31, "107.8000", ExitReason.TRAILING_STOP)]


def test_a_trail_begins_with_the_entry_bar() -> None:
    """The entry bar's own high moves the stop when that bar has closed."""
    day = Day(SessionDraft().bar(26, 104.0, open=100.0, high=104.0).bars()).walk(
        proposal(exits=ExitRules(trailing=True)), last=27
    )
    assert [(at, str(action.stop_price)) for at, action in day.actions if isinstance(action, ReplaceOrder)] == [
        (26, "101.9200")
    ]


def test_bars_with_an_unknown_price_move_no_trail() -> None:
    """A minute that lacks its high or low is not followed."""
    bars = SessionDraft().bar(30, 110.0).bars()
    bars.field("low")[30] = np.nan
    day = Day(bars).walk(proposal(exits=ExitRules(trailing=True)), last=30, close=False)
    assert day.actions == []


def test_a_stop_that_has_triggered_trails_no_more() -> None:
    """After a part of it is filled the rest goes at the market, and its reason stays."""
    costs = attrs.evolve(FREE, share_cap=(1, 10))
    draft = SessionDraft().bar(30, 97.9, volume=30).bar(31, 120.0, volume=0).bar(32, 101.0)
    day = Day(draft.bars(), costs=costs).walk(proposal(exits=ExitRules(trailing=True)))
    assert not any(isinstance(action, ReplaceOrder) for _, action in day.actions)
    assert [(trade[3], trade[5]) for trade in day.trades] == [(32, ExitReason.STOP)]


def test_a_stop_on_closes_rests_nowhere() -> None:
    """With `trigger=close` no stop is sent; the close beyond it sends the exit, which meets the next open."""
    draft = SessionDraft().bar(30, 99.0, low=90.0).bar(31, 97.0).bar(32, 96.0)
    day = Day(draft.bars()).walk(proposal(exits=ExitRules(trigger="close")))
    assert day.decisions[0].order is not None
    assert day.decisions[0].order.protection == ()
    assert day.trades == [("AAA", 26, "100.0000", 32, "96.0000", ExitReason.STOP)]


def test_the_order_that_is_written_down() -> None:
    """A marketable limit with stop and target of the same quantity, on the tick grid."""
    entry = desk().decide([proposal(target=103.0)])[0].order
    assert entry is not None
    assert (entry.type, entry.limit_price, entry.stop_price) == (OrderType.LIMIT, Decimal("100.2000"), None)
    assert entry.buy
    assert entry.quantity == 7  # 100,000 x 0.02 x 0.4 = 800 USD at 100.20
    stop, target = entry.protection
    assert (stop.leg, stop.type, stop.stop_price, stop.buy) == (Leg.STOP, OrderType.STOP, Decimal("98.0000"), False)
    assert (target.leg, target.limit_price) == (Leg.TARGET, Decimal("103.0000"))
    assert stop.quantity == target.quantity == 7
    assert {one.time_in_force for one in (entry, stop, target)} == {"day"}


def test_a_market_entry_has_no_limit() -> None:
    """ENTRY_ORDER_TYPE=market sends no price, and sizes and reserves at PRICE_BAND_PCT above the signal's close."""
    found = desk(rules(entry_order_type="market", price_band_pct="0.15"))
    entry = found.decide([proposal()])[0].order
    assert entry is not None
    assert (entry.type, entry.limit_price) == (OrderType.MARKET, None)
    assert entry.quantity == 6  # 800 USD at 115.00
    assert dollars_of(found.exposure.gross()) == 690


def test_a_market_entry_counts_at_its_worst_price_until_it_is_filled() -> None:
    """What is reserved for it denies others; once it is filled, what it cost counts."""
    found = rules(
        entry_order_type="market", max_risk_per_trade="0.02", max_gross_exposure="0.0212", fixed_units=10_000_000
    )
    day = Day(SessionDraft("AAA", "BBB").bars(), found)
    wanted = [proposal("AAA"), proposal("BBB", row=1), proposal("BBB", 26, row=1)]
    assert day.walk(*wanted, last=27, close=False).reasons == [
        Reason.ALLOWED,
        Reason.ALLOWED,
        Reason.ALREADY_HELD,
    ]
    tight = Day(day.bars, attrs.evolve(found, risk=attrs.evolve(found.risk, max_gross_exposure=Decimal("0.0206"))))
    assert tight.walk(*wanted, last=27, close=False).reasons == [
        Reason.ALLOWED,
        Reason.GROSS_EXPOSURE,
        Reason.ALLOWED,
    ]


def test_the_kth_order_gets_the_kth_weight() -> None:
    """Sent orders move along WEIGHTS whatever became of them; MAX_TRADES ends the window, and no other."""
    found = rules(max_open_positions=9, max_gross_exposure="1")
    day = Day(SessionDraft("AAA", "BBB", "CCC", "DDD", "EEE").gap(26, 29, "BBB").bars(), found)
    wanted = [proposal(symbol, 25, row=row, price=10.0, stop=9.0) for row, symbol in enumerate(day.bars.symbols[:2])]
    wanted += [proposal(symbol, 26, row=row + 2, price=10.0, stop=9.0) for row, symbol in enumerate(("CCC", "DDD"))]
    wanted += [
        proposal("EEE", 27, row=4, price=10.0, stop=9.0),
        proposal("EEE", 28, "mid", row=4, price=10.0, stop=9.0),
    ]
    day.walk(*wanted, last=30)
    quantities = [int(one.order.quantity) for one in day.decisions if one.order]
    assert quantities == [79, 39, 39, 39, 79]
    assert day.reasons[4] is Reason.MAX_TRADES


def test_the_cap_of_a_trade_is_not_handed_on() -> None:
    """MAX_RISK_PER_TRADE cuts one order; the next gets its own weight and no more."""
    found = rules(max_risk_per_trade="0.005", max_symbol_exposure="1")
    decisions = desk(found).decide([proposal("AAA", price=10.0), proposal("BBB", price=10.0)])
    assert [int(one.order.quantity) for one in decisions if one.order] == [49, 39]


def test_fixed_quantity_needs_no_weight() -> None:
    """FIXED_QUANTITY goes beyond WEIGHTS; without it an order without weight is denied."""
    signals = [proposal(symbol) for symbol in "ABC"]
    short: dict[str, Any] = {"weights": (Decimal("0.4"), Decimal("0.2")), "max_trades": 4}
    assert [one.reason for one in desk(rules(**short)).decide(signals)][2] is Reason.NO_WEIGHT
    fixed = desk(rules(**short, fixed_units=5_000_000)).decide(signals)
    assert [int(one.order.quantity) for one in fixed if one.order] == [5, 5, 5]


def test_too_small_a_budget_is_denied() -> None:
    """A share that costs more than the budget: QUANTITY_TOO_SMALL, unless fractions are allowed."""
    dear = proposal(price=5000.0, stop=4900.0)
    assert desk().decide([dear])[0].reason is Reason.QUANTITY_TOO_SMALL
    part = desk(rules(fractional=True, venue=SIMULATOR_CAPABILITIES)).decide([dear])[0].order
    assert part is not None
    assert part.quantity == Decimal("0.159680")
    short = attrs.evolve(dear, side=Side.SHORT, stop=5100.0)
    assert (
        desk(rules(fractional=True, venue=SIMULATOR_CAPABILITIES)).decide([short])[0].reason
        is Reason.QUANTITY_TOO_SMALL
    )


@pytest.mark.parametrize(
    ("stopped", "permitted", "price", "reason"),
    [
        (False, False, 900.0, Reason.FRACTION_UNPROTECTED),
        (False, True, 900.0, Reason.ALLOWED),
        (True, False, 900.0, Reason.ALLOWED),
        (False, False, 500.0, Reason.ALLOWED),
    ],
)
def test_less_than_a_share_is_entered_only_where_its_stop_rests_or_its_lack_is_permitted(
    *, stopped: bool, permitted: bool, price: float, reason: Reason
) -> None:
    """FRACTIONAL_UNPROTECTED permits it, in every mode alike; a share and more are entered as ever."""
    types = frozenset({"market", "limit", "stop"} if stopped else {"market", "limit"})
    venue = BrokerCapabilities(quantity_step=Decimal("0.001"), fractional_types=types)
    found = desk(rules(fractional=True, fractional_unprotected=permitted, venue=venue))
    assert found.decide([proposal(price=price, stop=price * 0.98)])[0].reason is reason
    assert bool(found.exposure.working) is (reason is Reason.ALLOWED)


def test_signals_of_a_minute_are_decided_by_strength_rank_and_symbol() -> None:
    """The strongest first, then STRATEGY_SEQUENCE, then the symbol."""
    wanted = [
        proposal("D", strength=0.01, rank=1),
        proposal("C", strength=0.02, rank=1),
        proposal("B", strength=0.01, rank=0),
        proposal("A", strength=0.01, rank=1),
    ]
    decided = [one.proposal.signal.symbol for one in desk().decide(wanted)]
    assert decided == ["C", "B", "A", "D"]
    assert decided == [one.proposal.signal.symbol for one in desk().decide(list(reversed(wanted)))]


def test_a_symbol_is_entered_once() -> None:
    """Worked or held: ALREADY_HELD; after a fill and an exit: SYMBOL_TRADED; an unfilled entry leaves it free."""
    day = Day(SessionDraft().bar(30, 97.0).bars())
    day.walk(*(proposal("AAA", minute, strategy) for minute, strategy in ((25, "open"), (26, "mid"), (31, "close"))))
    assert day.reasons == [Reason.ALLOWED, Reason.ALREADY_HELD, Reason.SYMBOL_TRADED]
    missed = Day(SessionDraft().gap(26, 29).bars()).walk(proposal("AAA", 25), proposal("AAA", 28, "mid"), last=28)
    assert missed.reasons == [Reason.ALLOWED, Reason.ALLOWED]
    again = Day(SessionDraft().bar(30, 97.0).bars(), rules(one_trade_per_symbol_per_day=False))
    again.walk(proposal("AAA", 25), proposal("AAA", 31, "mid"), last=31)
    assert again.reasons == [Reason.ALLOWED, Reason.ALLOWED]


def test_an_exit_of_this_minute_frees_its_slot_and_a_pending_one_does_not() -> None:
    """MAX_OPEN_POSITIONS counts what is held after the minute's fills."""
    found = rules(max_open_positions=1)
    stopped = Day(SessionDraft("AAA", "BBB").bar(30, 97.0).bars(), found)
    stopped.walk(proposal("AAA", 25), proposal("BBB", 30, row=1), last=30)
    assert stopped.reasons == [Reason.ALLOWED, Reason.ALLOWED]
    pending = Day(SessionDraft("AAA", "BBB").bars(), found)
    pending.walk(
        proposal("AAA", 25, exits=ExitRules(leave=31)), proposal("BBB", 30, row=1), proposal("BBB", 31, row=1), last=31
    )
    assert pending.reasons == [Reason.ALLOWED, Reason.MAX_OPEN_POSITIONS, Reason.ALLOWED]


def test_the_worst_case_counts_what_is_working() -> None:
    """Two orders that would together exceed MAX_GROSS_EXPOSURE: the second is denied while the first only works."""
    decisions = desk(rules(max_gross_exposure="0.011")).decide(
        [proposal("AAA", price=10.0), proposal("BBB", price=10.0)]
    )
    assert [one.reason for one in decisions] == [Reason.ALLOWED, Reason.GROSS_EXPOSURE]
    assert decisions[1].order is None
    assert (decisions[1].value, decisions[1].limit) == (Decimal("1182.36"), Decimal("1100.00"))


def test_what_was_denied_before_stays_denied() -> None:
    """A filter's reason is the decision's, and nothing is sized."""
    decision = desk().decide([proposal(reason=Reason.PRICE_LOW)])[0]
    assert (decision.reason, decision.order) == (Reason.PRICE_LOW, None)


@pytest.mark.parametrize(("minute", "reason"), [(383, Reason.ALLOWED), (384, Reason.FLATTENING)])
def test_no_entries_once_flattening_has_started(minute: int, reason: Reason) -> None:
    """From the minute in which exits go, signals are denied."""
    assert desk().decide([proposal(minute=minute)])[0].reason is reason


def test_flattening_cancels_working_entries() -> None:
    """An entry that still works when flattening starts is taken back."""
    day = Day(SessionDraft().gap(384, 386).bars()).walk(proposal(minute=383))
    assert [(at, action) for at, action in day.actions] == [(384, CancelOrder(client_order_id="AAA entry"))]
    assert day.trades == []
    assert day.desk.position_manager.is_idle


def test_a_risk_check_may_only_deny() -> None:
    """A plugin's sentence is quoted with its name; what it denies is neither counted nor sent."""
    asked: list[Order] = []

    def check(order: Order) -> str | None:
        asked.append(order)
        return "not on Mondays" if order.symbol == "AAA" else None

    found = desk(checks=(("calendar", check),))
    decisions = found.decide([proposal("AAA", reason=Reason.PRICE_LOW), proposal("AAA"), proposal("BBB")])
    assert [one.reason for one in decisions] == [Reason.PRICE_LOW, Reason.RISK_CHECK_DENIED, Reason.ALLOWED]
    assert decisions[1].detail == "calendar: not on Mondays"
    assert [order.symbol for order in asked] == ["AAA", "BBB"]
    assert found.exposure.sent == {"open": 1}


def test_a_risk_check_that_fails_denies_with_a_code_of_its_own() -> None:
    """Unknown means deny: the failure is quoted with the plugin's name, and the next signal is asked for anew."""

    def check(order: Order) -> str | None:
        if order.symbol == "AAA":
            raise PluginError("KeyError: 'sector'", "Mend it.")
        return None

    found = desk(checks=(("sectors", check),))
    denied, allowed = found.decide([proposal("AAA"), proposal("BBB")])
    assert (denied.reason, denied.detail, denied.order) == (
        Reason.RISK_CHECK_FAILED,
        "sectors: KeyError: 'sector'",
        None,
    )
    assert allowed.reason is Reason.ALLOWED
    assert found.exposure.sent == {"open": 1}


def crash(settings: dict[str, Any], *signals: Proposal) -> Day:
    """Fixed quantities of 100 shares, and AAA falls by 3 USD in minute 30 without touching its stop."""
    found = rules(
        max_risk_per_trade="1", max_gross_exposure="1", max_symbol_exposure="1", fixed_units=100_000_000, **settings
    )
    draft = SessionDraft("AAA", "BBB", "CCC").bar(30, 97.0).gap(30, 32, "CCC").bar(31, 96.0)
    return Day(draft.bars(), found).walk(*signals, last=40, close=False)


AAA = proposal("AAA", stop=50.0)
LATER = (
    proposal("BBB", 29, row=1, stop=50.0),
    proposal("CCC", 29, row=2, stop=50.0),
    proposal("BBB", 33, "mid", row=1),
)


def test_f98_the_daily_loss_cancels_flattens_and_latches() -> None:
    """At the limit entries are taken back, positions leave at the next open, later signals are DAILY_LOSS."""
    day = crash({"daily_loss_limit": "0.003"}, AAA, *LATER)
    assert [(at, change.what) for at, change in day.changes] == [
        (30, "daily loss latch"),
        (30, "defense"),
        (30, "window loss latch of open"),
    ]
    assert (30, CancelOrder(client_order_id="CCC entry")) in day.actions
    assert [(trade[0], trade[3], trade[5]) for trade in day.trades] == [
        ("AAA", 31, ExitReason.DAILY_LOSS),
        ("BBB", 31, ExitReason.DAILY_LOSS),
    ]
    assert day.reasons[-1] is Reason.DAILY_LOSS
    assert desk().exposure.daily_loss is False


def test_half_of_the_daily_loss_is_defense_until_the_next_session() -> None:
    """Counts and budget shrink at once; a new session's desk is normal again."""
    day = crash({"daily_loss_limit": "0.006", "window_loss_limit": "1", "max_trades": 3}, AAA, *LATER[:1], LATER[2])
    assert (30, "defense") in [(at, change.what) for at, change in day.changes]
    assert day.desk.limits.max_trades == 1
    assert day.desk.exposure.state is RiskState.DEFENSE
    assert desk().exposure.state is RiskState.NORMAL
    assert desk(rules(defense_mode_active=True)).exposure.state is RiskState.DEFENSE


def test_a_windows_loss_ends_its_entries_alone() -> None:
    """WINDOW_LOSS_LIMIT keeps the window's positions and lets other windows go on."""
    more = (proposal("BBB", 31, row=1, stop=50.0), proposal("BBB", 32, "mid", row=1, stop=50.0))
    day = crash({}, AAA, *more)
    assert day.reasons == [Reason.ALLOWED, Reason.WINDOW_LOSS, Reason.ALLOWED]
    assert day.desk.portfolio.symbols == ["AAA", "BBB"]


def test_a_run_of_losses_ends_the_sessions_entries() -> None:
    """After MAX_CONSECUTIVE_LOSSES no win reopens the session."""
    draft = SessionDraft("AAA", "BBB", "CCC", "DDD").bar(30, 97.0).bar(31, 97.0, "BBB").bar(32, 105.0, "CCC")
    found = rules(max_consecutive_losses=2, window_loss_limit="1")
    day = Day(draft.bars(), found).walk(
        proposal("AAA"),
        proposal("BBB", row=1),
        proposal("CCC", row=2, target=104.0),
        proposal("DDD", 33, "mid", row=3),
    )
    assert [trade[0] for trade in day.trades] == ["AAA", "BBB", "CCC"]
    assert (31, "losing run latch") in [(at, change.what) for at, change in day.changes]
    assert day.reasons[-1] is Reason.CONSECUTIVE_LOSSES


def test_losses_of_one_minute_count_by_client_order_id() -> None:
    """Stops of one minute fill at one moment: a win between two losses by id ends the run, whatever filled first."""

    def backwards(signal: SignalId, leg: Leg, attempt: int) -> str:
        return f"{dict(zip(('AAA', 'BBB', 'CCC', 'DDD'), 'zxyw', strict=True))[signal.symbol]} {leg.value} {attempt}"

    draft = SessionDraft("AAA", "BBB", "CCC", "DDD").bar(30, 97.0).bar(30, 97.0, "BBB").bar(30, 105.0, "CCC")
    found = rules(max_consecutive_losses=2, window_loss_limit="1")
    day = Day(draft.bars(), found)
    day.desk = DecisionEngine(found, session(), EQUITY, backwards)
    day.walk(
        proposal("AAA"),
        proposal("BBB", row=1),
        proposal("CCC", row=2, target=104.0),
        proposal("DDD", 33, "mid", row=3),
    )
    assert [trade[0] for trade in day.trades[:3]] == ["AAA", "BBB", "CCC"]
    assert day.reasons[-1] is Reason.ALLOWED


def said(kind: str, cid: str, words: str = "") -> BrokerEvent:
    """A broker's word on an order."""
    return BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid, words=words)


def released(found: DecisionEngine) -> list[Order]:
    """The orders that nothing stands in the way of any more."""
    return [one.order for one in found.position_manager.orders_due_now() if isinstance(one, SubmitOrder)]


def holding(found: DecisionEngine, shares: str = "7", shape: ExitRules | None = None) -> Bars:
    """Let a desk hold AAA after minute 25, and give it flat bars."""
    bars = SessionDraft().bars()
    entry = found.decide([proposal(exits=shape or ExitRules(leave=60))])[0].order
    assert entry is not None
    one = fill(entry, "100", shares)
    found.position_manager.on_order_event(attrs.evolve(said("fill", entry.client_order_id), fill=one))
    return bars


def leave(found: DecisionEngine, bars: Bars, minute: int = 59) -> Order:
    """The exit of AAA, whose protection ends as soon as it is asked to."""
    for one in found.position_manager.orders_after_minute(bars, minute):
        assert isinstance(one, CancelOrder)
        found.position_manager.on_order_event(said("cancelled", one.client_order_id))
    (exit_order,) = released(found)
    return exit_order


def test_events_of_foreign_orders_change_nothing() -> None:
    """What the desk did not write down is not its own."""
    found = desk()
    found.position_manager.on_order_event(said("cancelled", "somebody else's"))
    assert found.position_manager.is_idle


def test_an_exit_that_ended_is_sent_again_under_a_new_name() -> None:
    """An expired one at once, a cancelled one after a reading; what is said of an older attempt is no news."""
    found = desk()
    bars, manager = holding(found), found.position_manager
    assert leave(found, bars).client_order_id == "AAA exit"
    assert manager.orders_after_minute(bars, 60) == []  # it may still fill
    manager.on_order_event(said("expired", "AAA exit"), at=10.0)
    assert [(one.client_order_id, one.reason) for one in released(found)] == [("AAA exit 2", ExitReason.TIME)]
    manager.on_order_event(said("expired", "AAA exit"), at=10.0)
    manager.on_order_event(said("cancelled", "AAA exit 2"), at=10.0)
    assert (released(found), manager.orders_after_minute(bars, 63)) == ([], [])
    manager.on_reading(manager.reading_due, ())
    assert [(one.client_order_id, one.reason) for one in released(found)] == [("AAA exit 3", ExitReason.TIME)]


def test_a_rejected_exit_puts_its_stop_back_at_once() -> None:
    """The position is not left without one until the exit is decided again, with the next minute."""
    found = desk()
    bars = holding(found)
    leave(found, bars)
    found.position_manager.on_order_event(said("rejected", "AAA exit"))
    assert [one.client_order_id for one in released(found)] == ["AAA stop 2"]
    again = leave(found, bars, 60)
    assert (again.client_order_id, again.reason) == ("AAA exit 2", ExitReason.TIME)


def test_an_exit_that_is_refused_for_its_quantity_puts_its_stop_back_after_a_reading() -> None:
    """An order may hold the shares, or fewer are held: the account says which before a stop is sent."""
    found = desk()
    leave(found, holding(found))
    refusal = attrs.evolve(said("rejected", "AAA exit"), meaning=RejectionMeaning.INSUFFICIENT_QUANTITY)
    found.position_manager.on_order_event(refusal, at=40.0)
    assert (found.position_manager.reading_due, released(found)) == (40.0, [])
    found.position_manager.on_reading(41.0, ())
    assert [one.client_order_id for one in released(found)] == ["AAA stop 2"]


def test_an_exit_that_the_desk_gave_up_keeps_its_reason() -> None:
    """An exit that fills after it was said to have ended is booked all the same, as what it was sent for."""
    found = desk()
    order = leave(found, holding(found))
    found.position_manager.on_order_event(said("expired", "AAA exit"))
    found.position_manager.on_order_event(
        attrs.evolve(said("fill", "AAA exit"), fill=fill(order, "101", execution="2"))
    )
    assert [position.exit_reason for position in found.portfolio.closed] == [ExitReason.TIME]
    assert found.position_manager.is_idle


def test_an_exit_waits_until_nothing_else_works_for_its_position() -> None:
    """The entry's rest, target and stop are cancelled, the stop last; only when all have ended, the exit goes, once."""
    found = desk()
    bars = SessionDraft().bars()
    entry = found.decide([proposal(target=103.0, exits=ExitRules(leave=60))])[0].order
    assert entry is not None
    found.position_manager.on_order_event(attrs.evolve(said("fill", "AAA entry"), fill=fill(entry, "100", "3")))
    asked = [CancelOrder(client_order_id=one) for one in ("AAA entry", "AAA target", "AAA stop")]
    assert found.position_manager.orders_after_minute(bars, 59) == asked
    found.position_manager.on_order_event(said("cancelled", "AAA target"))
    found.book.tickets["AAA stop"].on_answer(OrderEvent.CANCEL_REFUSED)
    found.position_manager.on_order_event(said("cancel_refused", "AAA stop"))
    assert found.position_manager.orders_due_now() == []
    assert found.position_manager.orders_after_minute(bars, 60) == [asked[0], asked[2]]
    found.position_manager.on_order_event(said("cancelled", "AAA stop"))
    found.position_manager.on_order_event(said("expired", "AAA entry"))
    (exit_order,) = released(found)
    assert (exit_order.quantity, exit_order.reason) == (Decimal(3), ExitReason.TIME)
    assert (found.position_manager.orders_due_now(), found.position_manager.orders_after_minute(bars, 61)) == ([], [])


def test_an_exit_is_for_what_its_stop_has_left() -> None:
    """A stop that fills in part before its cancel is proven leaves the rest to the exit; one that fills, nothing."""
    for part, left in (("2", [Decimal(5)]), ("7", [])):
        found = desk()
        bars = holding(found)
        found.position_manager.orders_after_minute(bars, 59)
        stop = fill(order(Leg.STOP, "AAA stop"), "98", part, execution="2")
        found.position_manager.on_order_event(attrs.evolve(said("fill", "AAA stop"), fill=stop))
        found.position_manager.on_order_event(said("cancelled", "AAA stop"))
        assert [one.quantity for one in released(found)] == left


def test_an_exit_that_left_something_over_is_followed_by_another() -> None:
    """An entry that fills once more after its exit was sent is closed with the next minute."""
    found = desk()
    bars = holding(found, "3")
    found.position_manager.orders_after_minute(bars, 59)
    for name in ("AAA entry", "AAA stop"):
        found.position_manager.on_order_event(said("cancelled", name))
    (exit_order,) = released(found)
    late = fill(order(name="AAA entry"), "100", "2", execution="2")
    found.position_manager.on_order_event(attrs.evolve(said("fill", "AAA entry"), fill=late))
    found.position_manager.on_order_event(
        attrs.evolve(said("fill", "AAA exit"), fill=fill(exit_order, "101", execution="3"))
    )
    (again,) = found.position_manager.orders_after_minute(bars, 60)
    assert isinstance(again, SubmitOrder)
    assert (again.order.client_order_id, again.order.quantity) == ("AAA exit 2", Decimal(2))


def test_a_stop_that_somebody_else_cancelled_is_placed_again_after_a_reading() -> None:
    """Whoever cancelled it may have sold the shares: until a reading shows that they are held, nothing is sent."""
    found = desk()
    bars, manager = holding(found), found.position_manager
    manager.on_order_event(said("acknowledged", "AAA stop"))
    manager.on_order_event(said("cancelled", "AAA stop"), at=100.0)
    bars.field("close")[30] = 97.9
    due = 100.0 + BrokerCapabilities().list_lag_s
    assert manager.reading_due == due
    for requested, unclear in ((due - 0.1, ()), (due, ("AAA",))):
        manager.on_reading(requested, unclear)
        assert (released(found), manager.orders_after_minute(bars, 30)) == ([], [])
    manager.on_reading(due, ("BBB",))
    assert [(one.client_order_id, one.quantity) for one in released(found)] == [("AAA stop 2", Decimal(7))]
    assert manager.reading_due == math.inf


def test_a_target_that_is_lost_changes_nothing_else() -> None:
    """The stop rests; an end of what never rested is nothing either."""
    found = desk()
    bars = SessionDraft().bar(30, 97.0).bars()
    entry = found.decide([proposal(target=103.0)])[0].order
    assert entry is not None
    found.position_manager.on_order_event(attrs.evolve(said("fill", "AAA entry"), fill=fill(entry, "100")))
    for _ in range(2):
        found.position_manager.on_order_event(said("cancelled", "AAA target"))
    assert found.position_manager.orders_after_minute(bars, 30) == []


def test_rejects_in_a_row_leave_exits_only() -> None:
    """MAX_REJECTS_IN_ROW entries rejected: EXIT_ONLY for the next; their brackets count once each."""
    found = desk()
    for symbol in "ABC":
        assert found.exposure.state is RiskState.NORMAL
        found.decide([proposal(symbol)])
        found.position_manager.on_order_event(said("rejected", f"{symbol} entry"))
        found.position_manager.on_order_event(said("rejected", f"{symbol} stop"))
        assert not found.exposure.working
    assert found.exposure.state is RiskState.EXIT_ONLY
    changes = found.mark(SessionDraft("A", "B", "C").bars(), 26)
    assert [change.what for change in changes] == ["exit-only"]
    assert found.decide([proposal("D", strategy="mid")])[0].reason is Reason.EXIT_ONLY


def test_an_acknowledgement_starts_the_count_of_rejects_again() -> None:
    """Two rejections, one order taken, two rejections: still normal."""
    found = desk(rules(max_trades=9, weights=(Decimal("0.1"),) * 9))
    for symbol, word in zip("ABCDE", ("rejected", "rejected", "acknowledged", "rejected", "rejected"), strict=True):
        found.decide([proposal(symbol, price=10.0, stop=9.0)])
        found.position_manager.on_order_event(said(word, f"{symbol} entry"))
    assert found.exposure.state is RiskState.NORMAL


def test_an_entry_filled_in_part_works_on_until_it_ends() -> None:
    """Position and rest both count until the rest ends."""
    found = desk()
    holding(found, "3")
    assert found.exposure.is_busy("AAA")
    assert list(found.exposure.working) == ["AAA entry"]
    found.position_manager.on_order_event(said("expired", "AAA entry"))
    assert found.exposure.working == {}
    assert found.portfolio.in_symbol("AAA")[0].units == 3_000_000


def test_an_entry_may_fill_in_several_parts() -> None:
    """Parts add up to one position, and the last one ends the working entry."""
    found = desk()
    bars = holding(found, "3", ExitRules(hold=30))
    entry = found.decide([proposal("BBB")])[0].order
    assert entry is not None
    found.position_manager.on_order_event(
        attrs.evolve(said("fill", "AAA entry"), fill=fill(attrs.evolve(entry, instrument=stock("AAA")), "100.10", "4"))
    )
    assert found.portfolio.in_symbol("AAA")[0].units == 7_000_000
    assert list(found.exposure.working) == ["BBB entry"]
    assert leave(found, bars).quantity == 7


def test_stopping_closes_what_is_held_and_enters_nothing() -> None:
    """While the desk is stopping, entries are taken back, positions leave as STOPPED, and signals are EXIT_ONLY."""
    found = desk()
    bars = holding(found, "3")
    found.position_manager.exits.flatten()
    assert found.position_manager.orders_after_minute(bars, 30) == [
        CancelOrder(client_order_id=one) for one in ("AAA entry", "AAA stop")
    ]
    assert found.decide([proposal("BBB", 30)])[0].reason is Reason.EXIT_ONLY
    due = desk()
    bars = holding(due)
    due.position_manager.exits.flatten()
    assert leave(due, bars).reason is ExitReason.TIME


def test_a_fill_without_its_details_is_no_fill() -> None:
    """A word that says fill and brings none changes nothing."""
    found = desk()
    found.decide([proposal()])
    found.position_manager.on_order_event(said("fill", "AAA entry"))
    assert not found.portfolio.positions


def test_marks_are_the_close_or_the_last_known() -> None:
    """A minute without a bar keeps the mark."""
    found = desk()
    bars = holding(found)
    bars.field("close")[30] = 101.0
    bars.field("close")[31] = np.nan
    for minute in (30, 31):
        found.mark(bars, minute)
        assert dollars_of(found.portfolio.pnl_atoms) == 7


prices = st.lists(st.sampled_from([-0.021, -0.005, -0.001, 0.0, 0.001, 0.004, 0.012]), min_size=60, max_size=60)
signals = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.sampled_from(["open", "mid"]), st.booleans(), st.booleans()),
    max_size=10,
)


def _market(walks: list[list[float]], holes: set[tuple[int, int]], volume: int) -> Bars:
    draft = SessionDraft(*"ABCD", minutes=390)
    for row, walk in enumerate(walks):
        price = 100.0
        for minute in range(390):
            opened, price = price, round(price * (1 + walk[minute % 60]), 2)
            reach = round(0.003 * price, 2)
            draft.bar(
                minute, price, "ABCD"[row], open=opened, high=max(opened, price) + reach,
                low=min(opened, price) - reach, volume=volume,
            )  # fmt: skip
    for row, minute in holes:
        draft.gap(minute, minute + 2, "ABCD"[row])
    return draft.bars()


@pytest.mark.slow
@given(
    st.lists(prices, min_size=4, max_size=4),
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=12),
    signals,
    st.sampled_from([40, 200, 100_000]),
    st.sampled_from(["none", "randomized"]),
)
def test_any_session_keeps_its_promises(
    walks: list[list[float]],
    holes: set[tuple[int, int]],
    wanted: list[tuple[int, int, str, bool, bool]],
    volume: int,
    kind: str,
) -> None:
    """Worst cases within limits, value conserved, one entry a symbol, flat at the end, fills inside their bars."""
    bars = _market(walks, holes, volume)
    found = rules(max_gross_exposure="0.03", max_open_positions=3, daily_loss_limit="0.0002")
    costs = FillCosts(slippage=Slippage(kind=kind, mean=0.001, deviation=0.001, seed=1), share_cap=(1, 10))
    day = Day(bars, found, costs)
    day.desk = DecisionEngine(found, session(), EQUITY, name_by_strategy, ())
    proposals: dict[tuple[str, int], Proposal] = {}
    for row, minute, strategy, long, trailing in wanted:
        close = float(bars.field("close")[minute, row])
        if close == close:  # noqa: PLR0124 - NaN: no bar, no signal
            side = Side.LONG if long else Side.SHORT
            proposals[strategy, row] = proposal(
                "ABCD"[row],
                minute,
                strategy,
                row=row,
                side=side,
                price=close,
                stop=round(close * (1 - side * 0.01), 4),
                target=round(close * (1 + side * 0.01), 4),
                exits=ExitRules(hold=20, trailing=trailing),
            )
    for minute in range(80):
        before = day.desk.exposure.gross()
        sent = len(day.decisions)
        day.step(minute, *(one for one in proposals.values() if one.signal.minute == minute))
        standing = day.desk.exposure
        if any(one.order for one in day.decisions[sent:]):
            assert standing.gross() <= max(before, day.desk.limits.gross)
            assert len(standing.portfolio.positions) + len(standing.working) <= day.desk.limits.max_positions
        assert standing.portfolio.equity_atoms == EQUITY + standing.portfolio.pnl_atoms
        assert all(position.units > 0 for position in standing.portfolio.positions.values())
        if standing.daily_loss:
            assert not standing.working
    day.venue.close(partial(last_close_ticks, bars))
    day.book()
    assert all((one.order is None) is (one.reason is not Reason.ALLOWED) for one in day.decisions)
    assert day.desk.position_manager.is_idle
    assert day.venue.idle
    entered = [trade.symbol for trade in (position.to_trade() for position in day.desk.portfolio.closed)]
    assert len(set(entered)) == len(entered)
    if kind == "none":
        _inside(day)


def _inside(day: Day) -> None:
    for trade in (position.to_trade() for position in day.desk.portfolio.closed):
        row, minute = "ABCD".index(trade.symbol), session().minute(trade.entry_time)
        low, high = (float(day.bars.field(one)[minute, row]) for one in ("low", "high"))
        assert low - 1e-9 <= float(trade.entry_price) <= high + 1e-9


def test_a_late_fill_is_booked_and_leaves_exits_only() -> None:
    """A stop that fills once more after the trade is done crashes nothing, is counted, and ends the entries."""
    found = desk()
    holding(found)
    stop = found.decide([proposal("BBB")])[0].order
    assert stop is not None
    leg = next(one for one in stop.protection if one.leg is Leg.STOP)
    late = attrs.evolve(said("fill", leg.client_order_id), fill=fill(leg, "99", "4", execution="9"))
    found.position_manager.on_order_event(late)
    assert [(one.symbol, one.units) for one in found.portfolio.surplus] == [("BBB", -4_000_000)]
    assert found.exposure.state is RiskState.EXIT_ONLY
    assert found.exposure.pending_changes[-1].cause == "a fill of BBB beyond what is held"
    assert found.portfolio.equity_atoms == found.portfolio.opening_atoms + found.portfolio.pnl_atoms


def test_what_is_held_can_be_looked_at_and_not_changed() -> None:
    """Whoever judges a desk reads its positions from here; only what happens changes them."""
    found = desk()
    bought = fill(order(), "100")
    found.position_manager.recovery.restore_position(
        CarriedPosition(fill=bought, signal=order().signal, attempts={}, account="A"), 0
    )
    assert [*found.position_manager.held] == [order().signal]
    assert found.position_manager.orders_to_cancel == ()
    with pytest.raises(TypeError):
        found.position_manager.held[order().signal] = found.position_manager.book.held_in("AAA")[0]  # type: ignore[index]  # it must not be
    assert not found.position_manager.is_idle


def test_a_preview_counts_the_entries_ahead_of_it_and_nothing_stays() -> None:
    """Sized by the next weight and against what is left; afterwards the engine decides as without it."""
    found = desk(rules(weights=(Decimal("0.4"), Decimal("0.1")), max_trades=2))
    wanted = [proposal(symbol, price=50.0, stop=49.0) for symbol in ("AAA", "BBB", "CCC")]
    first = found.preview(wanted[0])
    assert first.order is not None
    ahead = [
        ReservedEntry(
            signal=wanted[0].signal, instrument=wanted[0].instrument, side=Side.LONG, worst_atoms=1, power_atoms=1
        )
    ]
    second = found.preview(wanted[1], ahead)
    assert second.order is not None
    assert second.order.quantity * 4 == pytest.approx(first.order.quantity, abs=4)
    twice = [*ahead, attrs.evolve(ahead[0], signal=wanted[1].signal)]
    assert found.preview(wanted[2], twice).reason is Reason.MAX_TRADES
    assert found.preview(wanted[0], ahead).reason is Reason.ALREADY_HELD
    assert (found.exposure.sent, found.exposure.working) == ({}, {})
    alone = found.preview(wanted[1]).order
    assert alone is not None
    assert alone.quantity == first.order.quantity


def test_a_confirmed_quantity_is_the_most_that_is_sent() -> None:
    """Less where less is possible by now; the figures name what decided."""
    found = desk()
    possible = found.preview(proposal("AAA"))
    assert possible.order is not None
    assert possible.sizing is not None
    units = units_of(possible.order.quantity)
    more = found.preview(attrs.evolve(proposal("AAA"), most_units=2 * units))
    assert (more.order, more.sizing) == (possible.order, possible.sizing)
    (less,) = found.decide([attrs.evolve(proposal("AAA"), most_units=units // 2)])
    assert less.order is not None
    assert less.sizing is not None
    assert less.order.quantity == less.sizing.quantity == possible.order.quantity / 2
    assert possible.sizing.bound != less.sizing.bound == CONFIRMED


NARROW: dict[str, Any] = {"max_trades": 12, "weights": (Decimal("0.05"),) * 12, "total_allocation": "0.3"}
WHOLES: list[tuple[Reason, dict[str, Any], int]] = [
    (Reason.ORDER_RATE, {"max_orders_per_minute": 3}, 3),
    (Reason.MAX_OPEN_POSITIONS, {"max_open_positions": 4}, 4),
    (Reason.MAX_TRADES, {"max_trades": 2}, 2),
    (Reason.GROSS_EXPOSURE, {"max_gross_exposure": "0.08"}, 5),
    (Reason.BUYING_POWER, {"max_leverage": "0.08"}, 5),
]
"""A limit of all entries together, settings that make it bind, and how many of 1,500 USD it lets pass."""


@pytest.mark.parametrize(("reason", "settings", "most"), WHOLES, ids=[one[0].name for one in WHOLES])
@pytest.mark.parametrize("parts", [(9,), (1,) * 9, (4, 5), (2, 6, 1)])
def test_a_limit_of_the_whole_counts_the_entries_of_one_minute_however_they_come(
    reason: Reason, settings: dict[str, Any], most: int, parts: tuple[int, ...]
) -> None:
    """Nine signals in a minute, decided at once or in parts: the first ones up to the limit, and no more."""
    wide: dict[str, Any] = {"max_gross_exposure": "1", "max_open_positions": 20, "entry_limit_pct": "0"}
    whole = desk(rules(**{**NARROW, **wide, **settings}))
    signals = iter(proposal(f"S{number}", row=number) for number in range(9))
    decisions = [one for part in parts for one in whole.decide([next(signals) for _ in range(part)])]
    assert [one.reason for one in decisions] == [Reason.ALLOWED] * most + [reason] * (9 - most)
    assert whole.exposure.gross() == most * atoms_of(Decimal(1500))
