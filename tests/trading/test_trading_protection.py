"""The desk between its minutes: stops of its own, orders that were dropped or lost, and what a restart recalls."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, RejectionMeaning, ReplaceMode
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, OrderState, RiskState, Side, atoms_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, order, proposal, resting_ids, rules, session
from tbot_core.trading.commands import CancelOrder, ReplaceOrder, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.orders import BROKER_EVENT_KINDS, ExecutionUpdate
from tbot_core.trading.portfolio import CarriedPosition
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Bars
    from tbot_core.model.types import Order, SignalId
    from tbot_core.trading.commands import TradingCommand
    from tbot_core.trading.proposals import Proposal

BARE = BrokerCapabilities(shortable=True)
BRACKETS = BrokerCapabilities(brackets=True, replace="same_id", shortable=True)
UNMOVED = BrokerCapabilities(brackets=True, shortable=True)
ONE_SIDED = BrokerCapabilities(shortable=True, both_sides=False)
FRACTIONS = BrokerCapabilities(
    shortable=True, quantity_step=Decimal("0.000001"), fractional_types=frozenset({"market", "limit"})
)
"""Fractions of a share are traded there, and not stopped."""
TIMED = ExitRules(leave=60)


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


def desk(venue: BrokerCapabilities = BRACKETS, **settings: Any) -> DecisionEngine:
    """A desk of a session that opened with 100,000 USD, at a venue that can do so much."""
    return DecisionEngine(rules(venue=venue, **settings), session(), atoms_of(Decimal(100_000)), name)


def say(found: DecisionEngine, kind: str, cid: str) -> None:
    """Let the broker say a word on an order."""
    found.book.tickets[cid].on_answer(BROKER_EVENT_KINDS[kind])
    found.position_manager.on_event(BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid), None)


def filled(
    found: DecisionEngine, of: Order, price: str = "100", quantity: str | None = None, execution: str = "1"
) -> None:
    """Let an order be filled."""
    cid = of.client_order_id
    one = fill(of, price, quantity, execution)
    event = BrokerEvent(kind="fill", event_id=execution, client_order_id=cid, fill=one)
    found.position_manager.on_event(event, ExecutionUpdate(one, is_correction=False))
    found.position_manager.on_event(event, None)  # told again it is no news


def enter(found: DecisionEngine, one: Proposal | None = None, quantity: str = "7") -> Order:
    """The entry of AAA, filled by so many of its 7 shares."""
    entry = found.decide([one or proposal(exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry, quantity=quantity)
    return entry


def names(actions: Sequence[TradingCommand]) -> list[str]:
    """What is asked for, in words."""
    return [_name(one) for one in actions]


def _name(action: TradingCommand) -> str:
    match action:
        case SubmitOrder(order=one):
            return f"place {one.client_order_id}"
        case ReplaceOrder(client_order_id=cid, stop_price=price):
            return f"replace {cid} {price.normalize()}"
        case CancelOrder(client_order_id=cid):
            return f"cancel {cid}"


def placed(actions: Sequence[TradingCommand]) -> Order:
    """The one order that is placed."""
    (one,) = (action.order for action in actions if isinstance(action, SubmitOrder))
    return one


def test_f36_a_stop_of_ones_own_covers_what_was_filled() -> None:
    """Where no brackets rest, a stop follows each fill, sized to what is held; one of another size is renewed first."""
    found = desk(BARE)
    entry = enter(found, quantity="3")
    assert entry.protection == ()
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.quantity, stop.stop_price, stop.buy, stop.reason) == (Decimal(3), Decimal(98), False, ExitReason.STOP)
    assert found.position_manager.orders_due_now() == []
    filled(found, entry, quantity="4", execution="2")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    assert found.position_manager.orders_due_now() == []  # until the old one is proven to have ended
    say(found, "cancelled", "AAA stop")
    assert (again := placed(found.position_manager.orders_due_now())).client_order_id == "AAA stop 2"
    assert again.quantity == 7


def test_a_venue_that_takes_one_side_has_the_rest_of_an_entry_cancelled_first() -> None:
    """The stop of what has filled is placed when the rest has ended; the cancel is requested once, then each minute."""
    found = desk(ONE_SIDED)
    entry = enter(found, quantity="3")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA entry"]
    assert found.position_manager.orders_due_now() == []
    filled(found, entry, quantity="1", execution="2")
    assert found.position_manager.orders_due_now() == []
    bars = SessionDraft().bar(30, 100.0).bars()
    assert names(found.position_manager.orders_after_minute(bars, 30)) == ["cancel AAA entry"]
    say(found, "cancelled", "AAA entry")
    assert placed(found.position_manager.orders_due_now()).quantity == 4


def test_an_entry_that_fills_whole_is_protected_at_once_there_too() -> None:
    """Nothing works on the other side then, also where the fill came before the cancel."""
    found = desk(ONE_SIDED)
    entry = enter(found, quantity="3")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA entry"]
    filled(found, entry, quantity="4", execution="2")
    assert placed(found.position_manager.orders_due_now()).quantity == 7


def test_a_short_is_protected_by_a_purchase() -> None:
    """The stop of a short buys back."""
    found = desk(BARE)
    enter(found, proposal(side=Side.SHORT))
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.buy, stop.quantity, stop.stop_price) == (True, Decimal(7), Decimal(102))


def test_a_stop_that_acts_on_closes_rests_nowhere_of_its_own() -> None:
    """Nothing is placed for a position whose stop looks at closes."""
    found = desk(BARE)
    enter(found, proposal(exits=ExitRules(trigger="close")))
    assert found.position_manager.orders_due_now() == []


def test_a_stop_that_has_begun_to_fill_is_left_alone() -> None:
    """What it has left is what is held; nothing takes it away."""
    found = desk(BARE)
    enter(found)
    stop = placed(found.position_manager.orders_due_now())
    filled(found, stop, "98", "2", "2")
    assert found.position_manager.orders_due_now() == []


def test_a_stop_that_cannot_be_moved_is_renewed() -> None:
    """A trail takes the resting stop away, each minute anew, and places another once it has ended, at the new level."""
    found = desk(UNMOVED)
    enter(found, proposal(exits=ExitRules(trailing=True)))
    bars = SessionDraft().bar(30, 110.0).bar(31, 120.0).bars()
    assert names(found.position_manager.orders_after_minute(bars, 30)) == ["cancel AAA stop"]
    assert names(found.position_manager.orders_after_minute(bars, 31)) == [
        "cancel AAA stop"
    ]  # the first may have got lost
    say(found, "cancelled", "AAA stop")
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.client_order_id, stop.reason) == ("AAA stop 2", ExitReason.TRAILING_STOP)
    assert stop.stop_price is not None
    assert 117 < stop.stop_price < 118


TRAILED = SessionDraft().bar(30, 110.0).bar(31, 109.0).bar(32, 109.0).bar(33, 109.0)
"""A long's trail of 2 % is at 107.80 after minute 30, and nothing trades at it."""


def trailing(bars: SessionDraft = TRAILED) -> tuple[DecisionEngine, Bars]:
    """A desk that has asked a broker to move a stop to 107.80."""
    found = desk()
    enter(found, proposal(exits=ExitRules(trailing=True)))
    assert names(found.position_manager.orders_after_minute(bars.bars(), 30)) == ["replace AAA stop 107.8"]
    return found, bars.bars()


def test_a_move_that_nobody_answered_is_asked_for_each_minute() -> None:
    """Where a stop rests the broker says: until then it is asked again, once a minute, bar or no bar."""
    found, bars = trailing()
    bars.field("high")[32], bars.field("close")[32] = math.nan, math.nan
    assert found.position_manager.orders_after_minute(bars, 30) == []
    for minute in (31, 32):
        assert names(found.position_manager.orders_after_minute(bars, minute)) == ["replace AAA stop 107.8"]
        assert found.position_manager.orders_after_minute(bars, minute) == []
    say(found, "replaced", "AAA stop")
    assert found.position_manager.orders_after_minute(bars, 33) == []


def test_of_two_moves_and_one_answer_the_older_one_counts() -> None:
    """It may be the other that got lost: the latest level is asked for again, until that is told."""
    found, bars = trailing(SessionDraft().bar(30, 110.0).bar(31, 112.0).bar(32, 111.0).bar(33, 111.0))
    assert names(found.position_manager.orders_after_minute(bars, 31)) == ["replace AAA stop 109.76"]
    say(found, "replaced", "AAA stop")
    assert names(found.position_manager.orders_after_minute(bars, 32)) == ["replace AAA stop 109.76"]
    say(found, "replaced", "AAA stop")
    assert found.position_manager.orders_after_minute(bars, 33) == []


def test_a_stop_that_a_broker_refuses_to_move_stays_and_is_asked_for_again() -> None:
    """It covers the position at its old level: nothing is cancelled, and each minute asks for the new level."""
    found, bars = trailing()
    say(found, "cancel_refused", "AAA stop")
    assert found.position_manager.orders_after_minute(bars, 30) == []
    for minute in (31, 32):
        assert names(found.position_manager.orders_after_minute(bars, minute)) == ["replace AAA stop 107.8"]
        say(found, "cancel_refused", "AAA stop")
    assert names(found.position_manager.orders_after_minute(bars, 33)) == ["replace AAA stop 107.8"]
    say(found, "replaced", "AAA stop")
    assert found.position_manager.orders_after_minute(bars, 34) == []


@pytest.mark.parametrize("mode", ReplaceMode)
def test_a_trailing_step_cancels_only_where_the_venue_cannot_replace(mode: ReplaceMode) -> None:
    """Elsewhere the position is covered at each moment, whatever id the venue gives the replacement."""
    found = desk(attrs.evolve(BRACKETS, replace=mode))
    bars = SessionDraft().bar(30, 110.0).bar(31, 109.0).bars()
    enter(found, proposal(exits=ExitRules(trailing=True)))
    step = names(found.position_manager.orders_after_minute(bars, 30))
    assert step == (["cancel AAA stop"] if mode is ReplaceMode.CANCEL_AND_NEW else ["replace AAA stop 107.8"])


@pytest.mark.parametrize("word", ["", "cancel_refused"])
def test_a_close_beyond_a_level_to_which_no_stop_was_moved_ends_the_position(word: str) -> None:
    """The stop that rests is too far away: the position is closed for the trail's reason, the stop taken away first."""
    found, bars = trailing(SessionDraft().bar(30, 110.0).bar(31, 105.0))
    if word:
        say(found, word, "AAA stop")
    assert names(found.position_manager.orders_after_minute(bars, 31)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    leaves = placed(found.position_manager.orders_due_now())
    assert (leaves.leg, leaves.reason) == (Leg.EXIT, ExitReason.TRAILING_STOP)


def test_a_close_beyond_a_stop_that_was_moved_is_the_brokers_to_act_on() -> None:
    """It rests where it should; another word for the same says nothing new."""
    found, bars = trailing(SessionDraft().bar(30, 110.0).bar(31, 105.0))
    for _ in range(2):
        say(found, "replaced", "AAA stop")
    assert found.position_manager.orders_after_minute(bars, 31) == []


def test_the_stop_of_a_short_is_asked_for_again_too() -> None:
    """And a close above the level to which it was not moved ends the position."""
    found = desk()
    enter(found, proposal(side=Side.SHORT, exits=ExitRules(trailing=True)))
    bars = SessionDraft().bar(30, 90.0).bar(31, 91.0).bar(32, 92.0).bars()
    assert (
        names(found.position_manager.orders_after_minute(bars, 30))
        == names(found.position_manager.orders_after_minute(bars, 31))
        == ["replace AAA stop 91.8"]
    )
    assert names(found.position_manager.orders_after_minute(bars, 32))[-1] == "cancel AAA stop"


def test_f43_a_split_says_nothing_of_a_stop_that_lags() -> None:
    """Its level may be one of before: the stop is made anew, and no close of before is held against it."""
    found, bars = trailing()
    found.position_manager.apply_split("AAA", Fraction(1, 7))
    assert names(found.position_manager.orders_after_minute(bars, 31)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert placed(found.position_manager.orders_due_now()).stop_price == Decimal("754.6")
    other = desk()
    enter(other, proposal(exits=ExitRules(trigger="close")))
    other.position_manager.apply_split("AAA", Fraction(2))  # where none rests, none is made
    assert other.position_manager.orders_due_now() == []


def test_f37_a_stop_that_is_refused_is_tried_once_more_then_the_position_is_closed() -> None:
    """Two refusals of a stop of its own, and what it should have protected is sold as UNPROTECTED."""
    found = desk(BARE)
    enter(found)
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop"]
    say(found, "rejected", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]
    say(found, "rejected", "AAA stop 2")
    leaving = placed(found.position_manager.orders_due_now())
    assert (leaving.leg, leaving.reason, leaving.quantity) == (Leg.EXIT, ExitReason.UNPROTECTED, Decimal(7))
    filled(found, leaving, "99", execution="2")
    say(found, "rejected", "AAA stop 2")  # said again of a position that is gone
    assert found.position_manager.is_idle


def test_a_target_that_cannot_rest_is_emulated() -> None:
    """A bar that trades at the target closes the position, once its stop is taken away."""
    found = desk(BARE)
    enter(found, proposal(target=103.0))
    found.position_manager.orders_due_now()
    bars = SessionDraft().bar(30, 103.0).bars()
    assert found.position_manager.orders_after_minute(bars, 29) == []
    assert names(found.position_manager.orders_after_minute(bars, 30)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert placed(found.position_manager.orders_due_now()).reason is ExitReason.TARGET


@pytest.mark.parametrize(
    ("collar", "close", "due"), [("0.025", 104.6, True), ("0.025", 104.5, False), ("0", 110.0, False)]
)
def test_a_short_beyond_the_limit_of_a_collared_stop_is_covered(collar: str, close: float, due: bool) -> None:
    """A stop to buy that may have become a limit order is not trusted beyond that limit; a plain stop is."""
    found = desk(attrs.evolve(BARE, buy_stop_collar=Decimal(collar)))
    entry = found.decide([proposal(side=Side.SHORT, exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry)
    found.position_manager.orders_due_now()
    bars = SessionDraft().bar(30, close).bars()
    assert names(found.position_manager.orders_after_minute(bars, 30)) == (["cancel AAA stop"] if due else [])


def test_a_collar_says_nothing_about_a_stop_to_sell() -> None:
    """A long position keeps its stop."""
    found = desk(attrs.evolve(BARE, buy_stop_collar=Decimal("0.025")))
    enter(found)
    found.position_manager.orders_due_now()
    bars = SessionDraft().bar(30, 90.0).bars()
    assert found.position_manager.orders_after_minute(bars, 30) == []


def test_while_halted_time_waits_and_stops_go_on() -> None:
    """A kill keeps positions: what is due by time goes with the kill's end, a close beyond the stop at once."""
    found = desk()
    enter(found)
    bars = SessionDraft().bars()
    found.exposure.imposed_state = RiskState.HALTED
    assert found.position_manager.orders_after_minute(bars, 59) == []
    found.exposure.imposed_state = RiskState.NORMAL
    assert names(found.position_manager.orders_after_minute(bars, 60)) == ["cancel AAA stop"]
    other = desk()
    enter(other, proposal(exits=ExitRules(trigger="close")))
    other.exposure.imposed_state = RiskState.HALTED
    assert (
        placed(other.position_manager.orders_after_minute(SessionDraft().bar(30, 97.0).bars(), 30)).reason
        is ExitReason.STOP
    )


def test_a_kill_that_flattens_closes_what_is_held() -> None:
    """Stopping goes over the wait of a halt."""
    found = desk()
    enter(found)
    found.exposure.imposed_state = RiskState.HALTED
    found.position_manager.exits.flatten()
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 30)) == ["cancel AAA stop"]


def test_what_was_dropped_frees_what_it_reserved() -> None:
    """An entry that was never sent is not worked any more; an exit goes again, under another name."""
    found = desk()
    entry = found.decide([proposal("BBB")])[0].order
    assert entry is not None
    for one in (entry, *entry.protection):
        found.position_manager.on_dropped(one.client_order_id)
    assert found.position_manager.is_idle
    enter(found)
    found.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    say(found, "cancelled", "AAA stop")
    found.position_manager.on_dropped(placed(found.position_manager.orders_due_now()).client_order_id)
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 60)) == ["place AAA exit 2"]


def test_a_lost_entry_stays_reserved() -> None:
    """It may still turn up: its symbol is not entered again, and its worst case counts."""
    found = desk()
    found.decide([proposal()])
    found.position_manager.on_lost("AAA entry")
    assert list(found.exposure.working) == ["AAA entry"]
    assert found.decide([proposal(minute=26)])[0].reason is Reason.ALREADY_HELD


def test_a_lost_exit_is_made_anew_and_taken_back_should_it_turn_up() -> None:
    """What closes a position goes once more, a stop that was lost acts on closes; neither may act a second time."""
    found = desk()
    enter(found)
    bars = SessionDraft().bar(30, 97.0).bars()
    found.position_manager.on_lost("AAA stop")
    first = placed(found.position_manager.orders_after_minute(bars, 30))
    assert first.reason is ExitReason.STOP
    found.position_manager.on_lost(first.client_order_id)
    assert names(found.position_manager.orders_after_minute(bars, 31)) == [
        "cancel AAA exit",
        "cancel AAA stop",
        "place AAA exit 2",
    ]
    for cid in ("AAA stop", "AAA exit"):
        say(found, "cancelled", cid)
    assert found.position_manager.orders_after_minute(bars, 32) == []


def test_an_end_that_is_told_twice_ends_no_newer_stop() -> None:
    """The old stop's end, heard again by another way, leaves the one that has taken its place."""
    found = desk(BARE)
    entry = enter(found, quantity="3")
    found.position_manager.orders_due_now()
    filled(found, entry, quantity="4", execution="2")
    found.position_manager.orders_due_now()
    say(found, "cancelled", "AAA stop")
    found.position_manager.orders_due_now()
    for word in ("cancelled", "rejected", "rejected"):
        say(found, word, "AAA stop")
    assert found.position_manager.orders_due_now() == []
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 384)) == ["cancel AAA stop 2"]


@pytest.mark.parametrize("early", [True, False])
def test_f37_the_stop_of_a_bracket_that_is_refused_is_tried_once_more_then_the_position_is_closed(early: bool) -> None:
    """Its own stop takes the place, whenever that is told, and the target is cancelled: the two are not linked."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED, target=105.0)])[0].order
    assert entry is not None
    if early:
        say(found, "rejected", "AAA stop")
        filled(found, entry)
    else:
        filled(found, entry)
        say(found, "acknowledged", "AAA stop")
        say(found, "rejected", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA target", "place AAA stop 2"]
    say(found, "cancelled", "AAA target")
    say(found, "rejected", "AAA stop 2")
    assert placed(found.position_manager.orders_due_now()).reason is ExitReason.UNPROTECTED


@pytest.mark.parametrize("brackets", [True, False])
def test_of_a_fractional_position_a_stop_covers_the_whole_shares_where_no_fraction_may_be_stopped(
    brackets: bool,
) -> None:
    """No bracket goes along with it; with FRACTIONAL_UNPROTECTED the fraction acts on closes when that has filled."""
    found = desk(attrs.evolve(FRACTIONS, brackets=brackets), fractional=True, fractional_unprotected=True)
    entry = found.decide([proposal(exits=TIMED, target=105.0)])[0].order
    assert entry is not None
    assert (entry.quantity % 1 > 0, entry.protection) == (True, ())
    filled(found, entry, quantity=str(entry.quantity))
    stop = placed(found.position_manager.orders_due_now())
    assert stop.quantity == entry.quantity // 1
    say(found, "acknowledged", "AAA stop")
    assert found.position_manager.orders_due_now() == []
    filled(found, stop, "98", str(stop.quantity), "2")
    assert found.position_manager.orders_due_now() == []
    assert found.position_manager.orders_after_minute(SessionDraft().bar(30, 99.0).bars(), 30) == []
    rest = placed(found.position_manager.orders_after_minute(SessionDraft().bar(31, 97.9).bars(), 31))
    assert (rest.quantity, rest.reason) == (entry.quantity % 1, ExitReason.STOP)


def test_a_position_under_one_share_acts_on_closes_and_gets_a_stop_when_it_has_grown() -> None:
    """Where no fraction may be stopped, with FRACTIONAL_UNPROTECTED."""
    found = desk(FRACTIONS, fractional=True, fractional_unprotected=True)
    entry = enter(found, quantity="0.4")
    assert found.position_manager.orders_due_now() == []
    assert found.position_manager.orders_after_minute(SessionDraft().bar(30, 99.0).bars(), 30) == []
    filled(found, entry, quantity="3.2", execution="2")
    assert placed(found.position_manager.orders_due_now()).quantity == 3
    other = desk(FRACTIONS, fractional=True, fractional_unprotected=True)
    enter(other, quantity="0.4")
    assert names(other.position_manager.orders_after_minute(SessionDraft().bar(30, 97.9).bars(), 30)) == [
        "cancel AAA entry"
    ]
    say(other, "cancelled", "AAA entry")
    assert placed(other.position_manager.orders_due_now()).reason is ExitReason.STOP


def test_what_has_come_to_less_than_a_share_is_closed_where_it_may_not_be_held_without_a_stop() -> None:
    """Not before its entry has ended, which may still make it more; what a stop leaves over is closed with it."""
    found = desk(FRACTIONS, fractional=True)
    enter(found, quantity="0.4")
    assert found.position_manager.orders_due_now() == []
    say(found, "cancelled", "AAA entry")
    closes = placed(found.position_manager.orders_due_now())
    assert (closes.quantity, closes.reason) == (Decimal("0.4"), ExitReason.UNPROTECTED)
    assert found.position_manager.orders_due_now() == []
    other = desk(FRACTIONS, fractional=True)
    entry = other.decide([proposal()])[0].order
    assert entry is not None
    filled(other, entry, quantity=str(entry.quantity))
    stop = placed(other.position_manager.orders_due_now())
    filled(other, stop, "98", "1", "2")
    assert other.position_manager.orders_due_now() == []
    filled(other, stop, "98", str(stop.quantity - 1), "3")
    closes = placed(other.position_manager.orders_due_now())
    assert (closes.quantity, closes.reason) == (entry.quantity % 1, ExitReason.STOP)


@pytest.mark.parametrize("before", [True, False], ids=["before its entry has ended", "after its exit was decided"])
@pytest.mark.parametrize("how", ["killed", "kept"])
def test_what_has_come_to_less_than_a_share_stays_in_a_kill_and_where_all_is_kept(how: str, *, before: bool) -> None:
    """Without a stop it acts on closes; when that is over it is closed as ever."""
    found = desk(FRACTIONS, fractional=True)
    enter(found, quantity="0.4")

    def let(*, stay: bool) -> None:
        if how == "killed":
            found.exposure.imposed_state = RiskState.HALTED if stay else RiskState.NORMAL
        else:
            found.position_manager.exits.keep_positions_while(lambda: stay)

    if before:
        let(stay=True)
        assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 31)) == ["cancel AAA entry"] * (
            how == "killed"
        )
        say(found, "cancelled", "AAA entry")
    else:
        say(found, "cancelled", "AAA entry")
        found.position_manager.on_dropped(placed(found.position_manager.orders_due_now()).client_order_id)
        let(stay=True)
        found.position_manager.unsent_orders.release(barred=True)
    assert found.position_manager.orders_due_now() == []
    assert found.position_manager.orders_after_minute(SessionDraft().bar(32, 99.0).bars(), 32) == []
    let(stay=False)
    assert placed(found.position_manager.orders_due_now()).reason is ExitReason.UNPROTECTED


def test_what_has_come_to_less_than_a_share_goes_on_like_a_stop_in_a_kill() -> None:
    """A close beyond its level closes it, and so does what its stop has begun; `--flatten` closes all."""
    found = desk(FRACTIONS, fractional=True)
    enter(found, quantity="0.4")
    found.exposure.imposed_state = RiskState.HALTED
    say(found, "cancelled", "AAA entry")
    assert (
        placed(found.position_manager.orders_after_minute(SessionDraft().bar(32, 97.9).bars(), 32)).reason
        is ExitReason.STOP
    )
    other = desk(FRACTIONS, fractional=True)
    enter(other, quantity="1.4")
    stop = placed(other.position_manager.orders_due_now())
    say(other, "cancelled", "AAA entry")
    other.exposure.imposed_state = RiskState.HALTED
    filled(other, stop, "98", "1", "2")
    assert placed(other.position_manager.orders_due_now()).reason is ExitReason.STOP
    closed = desk(FRACTIONS, fractional=True)
    enter(closed, quantity="0.4")
    closed.exposure.imposed_state = RiskState.HALTED
    closed.position_manager.exits.flatten()
    say(closed, "cancelled", "AAA entry")
    assert placed(closed.position_manager.orders_due_now()).quantity == Decimal("0.4")


@pytest.mark.parametrize("can", ["the venue stops fractions", "the venue sells none"])
def test_less_than_a_share_is_held_where_its_stop_rests_and_where_nobody_buys_fractions(can: str) -> None:
    """As at every simulated venue; and after a split that leaves a fraction which cannot be sold."""
    types = frozenset({"market", "limit", "stop"}) if "stops" in can else frozenset[str]()
    found = desk(attrs.evolve(FRACTIONS, fractional_types=types), fractional=True)
    enter(found, quantity="0.4")
    say(found, "cancelled", "AAA entry")
    legs = {one.order.leg for one in found.position_manager.orders_due_now() if isinstance(one, SubmitOrder)}
    assert legs == ({Leg.STOP} if "stops" in can else set())


def test_where_fractions_may_be_stopped_the_stop_covers_all_of_a_position() -> None:
    """As at a venue that is simulated, whose brackets rest for a fraction too."""
    found = desk(attrs.evolve(FRACTIONS, fractional_types=frozenset({"market", "limit", "stop"})), fractional=True)
    enter(found, quantity="6.5")
    assert placed(found.position_manager.orders_due_now()).quantity == Decimal("6.5")
    simulated = desk(SIMULATOR_CAPABILITIES, fractional=True)
    entry = simulated.decide([proposal()])[0].order
    assert entry is not None
    assert [one.quantity for one in entry.protection] == [entry.quantity]
    assert entry.quantity % 1


def test_a_stop_that_never_left_is_placed_once_the_way_is_free_at_the_latest_with_the_next_minute() -> None:
    """Not at once: whoever was just refused a connection is spared."""
    found = desk(BARE)
    enter(found)
    for number in ("", " 2"):
        assert names(found.position_manager.orders_due_now()) == [f"place AAA stop{number}"]
        found.position_manager.on_dropped(f"AAA stop{number}")
        assert found.position_manager.orders_due_now() == []
        assert found.position_manager.unsent_orders.has_waiting
        found.position_manager.unsent_orders.release(barred=False)
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 3"]
    found.position_manager.on_dropped("AAA stop 3")
    assert names(found.position_manager.orders_after_minute(SessionDraft().bar(30, 99.0).bars(), 30)) == [
        "place AAA stop 4"
    ]


def test_a_stop_that_was_barred_goes_with_the_next_minute_and_no_sooner() -> None:
    """What forbids it does not end with the way to the broker."""
    found = desk(BARE)
    enter(found)
    dropped(found, found.position_manager.orders_due_now())
    assert not found.position_manager.unsent_orders.has_waiting
    found.position_manager.unsent_orders.release(barred=False)
    assert found.position_manager.orders_due_now() == []
    assert names(found.position_manager.orders_after_minute(SessionDraft().bar(30, 99.0).bars(), 30)) == [
        "place AAA stop 2"
    ]


def test_while_no_stop_rests_a_close_beyond_it_closes_the_position() -> None:
    """The bot keeps a stop itself that could not be sent."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    found.position_manager.on_dropped("AAA stop")
    assert (
        placed(found.position_manager.orders_after_minute(SessionDraft().bar(30, 97.9).bars(), 30)).reason
        is ExitReason.STOP
    )


def test_an_exit_that_never_left_goes_once_the_way_is_free() -> None:
    """Nothing protects its position any more: it does not wait for the next minute."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    found.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]
    found.position_manager.on_dropped("AAA exit")
    assert found.position_manager.orders_due_now() == []
    found.position_manager.unsent_orders.release(barred=False)
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit 2"]


def found_again(order_of_words: Sequence[str]) -> DecisionEngine:
    """A desk whose bracket was given up as lost, and of which the broker tells these words after all."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    for cid in ("AAA entry", "AAA stop"):
        found.position_manager.on_lost(cid)
    assert (
        found.position_manager.orders_after_minute(SessionDraft().bars(), 30) == []
    )  # whatever it is by now, it protects nothing else
    for word in order_of_words:
        if word == "fill":
            filled(found, entry)
        else:
            say(found, "acknowledged", f"AAA {word}")
    return found


@pytest.mark.parametrize(
    "words", [("entry", "stop", "fill"), ("stop", "fill"), ("fill", "stop"), ("stop", "entry", "fill")]
)
def test_f4_the_stop_of_a_bracket_that_turns_up_protects_its_position(words: Sequence[str]) -> None:
    """In whichever order it is told: it stays, and is taken back and proven to have ended before an exit leaves."""
    found = found_again(words)
    held = found.position_manager.book.held_in("AAA")[0]
    assert (resting_ids(held), held.plan.on_close) == ({Leg.STOP: "AAA stop"}, False)
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 31) == []
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]


def test_f4_of_a_bracket_that_turns_up_the_rest_of_the_entry_is_in_the_way_of_an_exit() -> None:
    """It works again: it could fill beside the exit."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    found.position_manager.on_lost("AAA entry")
    say(found, "acknowledged", "AAA entry")
    filled(found, entry, quantity="3")
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == [
        "cancel AAA entry",
        "cancel AAA stop",
    ]


def test_an_exit_for_more_than_is_left_is_cancelled_and_sent_again_at_once() -> None:
    """Somebody else has sold a part: meanwhile the rest has neither a stop nor an exit."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry)
    found.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]
    found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "4", "outside"))
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA exit"]
    say(found, "cancelled", "AAA exit")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit 2"]


def test_an_exit_that_works_while_its_symbol_is_split_is_sent_again_for_all() -> None:
    """The broker's order is for the shares of before."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry)
    found.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    say(found, "cancelled", "AAA stop")
    found.position_manager.orders_due_now()
    found.position_manager.apply_split("AAA", Fraction(2))
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA exit"]
    say(found, "cancelled", "AAA exit")
    [again] = found.position_manager.orders_due_now()
    assert isinstance(again, SubmitOrder)
    assert again.order.quantity == 2 * entry.quantity


@pytest.mark.parametrize("unknown", [True, False])
def test_an_exit_does_not_wait_for_an_entry_whose_outcome_is_unknown(*, unknown: bool) -> None:
    """Its stop has been cancelled, and the entry can only add to the position."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry, quantity="3")
    ticket = found.book.tickets["AAA entry"]
    ticket.record = ticket.record.in_state(OrderState.UNKNOWN if unknown else OrderState.PARTIALLY_FILLED)
    found.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"] * unknown


def test_f4_the_stop_of_a_bracket_that_turns_up_without_its_entry_is_taken_back() -> None:
    """Nothing is held and nothing will be: it would open the opposite position."""
    found = found_again(())
    say(found, "cancelled", "AAA entry")
    say(found, "acknowledged", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]


def test_f4_a_stop_that_ended_after_it_was_given_up_as_lost_does_not_rest_again() -> None:
    """A late event that it works, of before its end, brings it not back: another one is placed."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    found.position_manager.on_lost("AAA stop")
    for word in ("cancelled", "acknowledged"):
        say(found, word, "AAA stop")
    filled(found, entry)
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_a_position_whose_bracket_has_lost_its_stop_before_the_fill_gets_another_at_once(end: str) -> None:
    """It is the first stop of a fill: it need not wait for a reading."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    say(found, end, "AAA stop")
    filled(found, entry)
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


def test_a_target_that_ended_before_the_fill_leaves_the_stop_of_its_bracket() -> None:
    """The stop protects what the entry has bought: nothing is placed or cancelled."""
    found = desk()
    entry = found.decide([proposal(target=150.0, exits=TIMED)])[0].order
    assert entry is not None
    say(found, "cancelled", "AAA target")
    filled(found, entry)
    assert found.position_manager.orders_due_now() == []
    assert [*resting_ids(found.position_manager.book.held_in("AAA")[0])] == [Leg.STOP]


def test_a_stop_that_is_refused_for_its_quantity_waits_for_a_reading() -> None:
    """An order may hold the shares, or fewer are held: both are read before another stop is placed."""
    found = desk()
    enter(found)
    refusal = BrokerEvent(
        kind="rejected",
        event_id="refused",
        client_order_id="AAA stop",
        meaning=RejectionMeaning.INSUFFICIENT_QUANTITY,
    )
    found.position_manager.on_event(refusal, None, at=40.0)
    assert (found.position_manager.reading_due, found.position_manager.orders_due_now()) == (40.0, [])
    found.position_manager.on_reading(41.0, ())
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


def test_a_lost_target_ends_no_wait_for_a_reading() -> None:
    """Who cancelled the stop may have sold the shares, whatever became of the target."""
    found = desk()
    enter(found, proposal(target=150.0))
    say(found, "cancelled", "AAA stop")
    due = found.position_manager.reading_due
    found.position_manager.on_lost("AAA target")
    assert found.position_manager.reading_due == due


def test_f4_a_target_that_turns_up_rests_again() -> None:
    """Beside the stop of its bracket: an exit waits until it has been taken back, too."""
    found = desk()
    enter(found, proposal(target=150.0, exits=TIMED))
    found.position_manager.on_lost("AAA target")
    assert Leg.TARGET not in resting_ids(found.position_manager.book.held_in("AAA")[0])
    say(found, "acknowledged", "AAA target")
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == [
        "cancel AAA target",
        "cancel AAA stop",
    ]


def test_f4_a_stop_that_turns_up_while_its_position_is_closed_is_taken_back() -> None:
    """The exit is on its way: what rests beside it would sell the same shares."""
    found = desk()
    enter(found, proposal(exits=TIMED))
    found.position_manager.on_lost("AAA stop")
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == [
        "cancel AAA stop",
        "place AAA exit",
    ]
    say(found, "acknowledged", "AAA stop")
    assert found.position_manager.book.held_in("AAA")[0].exit is not None
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 60)) == ["cancel AAA stop"]


def test_f4_the_stop_of_a_bracket_that_turns_up_beside_an_exit_is_taken_back() -> None:
    """It was unknown when the exit left: it is asked to end before that, and at once when it turns up."""
    found = found_again(("fill",))
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == [
        "cancel AAA stop",
        "place AAA exit",
    ]
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 60)) == ["cancel AAA stop"]
    say(found, "acknowledged", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 61)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 62) == []


def test_f4_the_stop_of_a_bracket_that_turns_up_beside_one_of_the_positions_own_is_taken_back() -> None:
    """The other was placed as soon as the one of the bracket was given up."""
    found = desk()
    enter(found, proposal(exits=TIMED))
    found.position_manager.on_lost("AAA stop")
    held = found.position_manager.book.held_in("AAA")[0]
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]
    say(found, "acknowledged", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 31)) == ["cancel AAA stop"]
    assert resting_ids(held) == {Leg.STOP: "AAA stop 2"}


def test_f4_the_stop_of_a_bracket_that_turns_up_beside_another_is_cancelled() -> None:
    """Its entry filled while it was lost: a stop for all that is held has taken its place."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    for cid in ("AAA entry", "AAA stop"):
        found.position_manager.on_lost(cid)
    filled(found, entry, quantity="8")
    assert placed(found.position_manager.orders_due_now()).quantity == 8
    say(found, "acknowledged", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]


def test_f4_an_exit_that_has_not_left_waits_for_a_stop_that_turns_up() -> None:
    """What else works for the position holds the exit back: the stop is taken back and proven to have ended as well."""
    found = desk()
    enter(found, proposal(target=150.0, exits=TIMED))
    found.position_manager.on_lost("AAA stop")
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == [
        "cancel AAA target",
        "cancel AAA stop",
    ]
    say(found, "acknowledged", "AAA stop")
    say(found, "cancelled", "AAA target")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]


def test_f4_that_a_lost_order_could_not_be_cancelled_does_not_say_that_it_works() -> None:
    """It may be over as well: another stop takes its place at once, and the lost one is cancelled if it works."""
    found = desk()
    enter(found, proposal(exits=TIMED))
    found.position_manager.on_lost("AAA stop")
    say(found, "cancel_refused", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]
    say(found, "acknowledged", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    assert resting_ids(found.position_manager.book.held_in("AAA")[0]) == {Leg.STOP: "AAA stop 2"}


def test_f27_an_entry_that_is_told_after_its_stop_has_sold_it_is_not_sold_again() -> None:
    """Seven were bought and sold, and the purchase of four is told last: nothing is held, and nothing is closed."""
    found = desk()
    entry = enter(found, quantity="3")
    filled(found, entry.protection[0], "98", "7", "2")
    assert found.portfolio.unassigned_units == {"AAA": -4_000_000}
    filled(found, entry, quantity="4", execution="3")
    assert (found.portfolio.holdings, dict(found.position_manager.held)) == ({}, {})
    assert not [
        one
        for one in found.position_manager.orders_after_minute(SessionDraft().bar(30, 97.0).bars(), 30)
        if isinstance(one, SubmitOrder)
    ]


def test_a_target_ends_with_the_stop_that_another_replaces() -> None:
    """A target beside a stop of the position's own could sell too much; the stop is placed again when both ended."""
    found = desk(UNMOVED)
    enter(found, proposal(target=150.0, exits=ExitRules(trailing=True)))
    assert names(found.position_manager.orders_after_minute(SessionDraft().bar(30, 110.0).bars(), 30)) == [
        "cancel AAA target",
        "cancel AAA stop",
    ]
    for leg in (Leg.TARGET, Leg.STOP):
        say(found, "cancelled", f"AAA {leg.value}")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


def test_what_somebody_else_closed_is_no_longer_ours() -> None:
    """Shares that the account has no more are booked as OUTSIDE; what rested for them is taken back, at once first."""
    found = desk()
    enter(found, proposal(target=103.0))
    found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "7", "outside"))
    assert [one.exit_reason for one in found.portfolio.closed] == [ExitReason.OUTSIDE]
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA target", "cancel AAA stop"]
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 30)) == [
        "cancel AAA target",
        "cancel AAA stop",
    ]
    for leg in (Leg.TARGET, Leg.STOP):
        say(found, "cancelled", f"AAA {leg.value}")
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 31) == []


@pytest.mark.parametrize("venue", [BARE, UNMOVED, BRACKETS])
def test_protection_shrinks_with_what_somebody_else_left(venue: BrokerCapabilities) -> None:
    """No stop and no target sells more than is held, from this moment on: one is renewed at its size, one emulated."""
    found = desk(venue)
    enter(found, proposal(target=103.0))
    found.position_manager.orders_due_now()
    found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "4", "outside"))
    bars = SessionDraft().bar(31, 103.0).bars()
    asked = ["cancel AAA target", "cancel AAA stop"] if venue.brackets else ["cancel AAA stop"]
    assert names(found.position_manager.orders_due_now()) == asked
    assert names(found.position_manager.orders_after_minute(bars, 30)) == asked
    for cid in [one.removeprefix("cancel ") for one in asked]:
        say(found, "cancelled", cid)
    assert placed(found.position_manager.orders_due_now()).quantity == 3
    assert names(found.position_manager.orders_after_minute(bars, 31)) == ["cancel AAA stop 2"]
    say(found, "cancelled", "AAA stop 2")
    assert (leaving := placed(found.position_manager.orders_due_now())).quantity == 3
    assert leaving.reason is ExitReason.TARGET


def recalled(one: Proposal, venue: BrokerCapabilities = BRACKETS, quantity: str = "7") -> DecisionEngine:
    """A desk after a restart: the entry of an older one, filled by so many shares."""
    entry = desk(venue).decide([one])[0].order
    assert entry is not None
    found = desk(venue)
    found.restore_entry(entry, one)
    filled(found, entry, quantity=quantity)
    return found


def test_a_restart_recalls_an_entry_with_its_reservation() -> None:
    """What was written down counts as it did: worst case, weight, plan and protection."""
    before, after = desk(), desk()
    entry = before.decide([proposal()])[0].order
    assert entry is not None
    after.restore_entry(entry, proposal())
    assert after.exposure.working == before.exposure.working
    assert after.exposure.sent == before.exposure.sent
    filled(after, entry)
    assert names(after.position_manager.orders_after_minute(SessionDraft().bars(), 384)) == ["cancel AAA stop"]


def test_a_restart_recalls_an_exit_that_is_under_way() -> None:
    """It is not sent twice; when it ends without a fill, the next one has another name."""
    found = recalled(proposal(exits=TIMED))
    say(found, "cancelled", "AAA stop")
    leaving = attrs.evolve(order(Leg.EXIT, "AAA exit", quantity="7"), reason=ExitReason.TIME)
    found.position_manager.recovery.restore_order(leaving)
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 60) == []
    say(found, "expired", "AAA exit")
    found.position_manager.on_reading(found.position_manager.reading_due, ())
    again = placed(found.position_manager.orders_due_now())
    assert (again.client_order_id, again.reason) == ("AAA exit 2", ExitReason.TIME)


def test_a_restart_recalls_a_stop_of_its_own() -> None:
    """It rests for the position already; one of another size is renewed under a name that was not used."""
    found = recalled(proposal(), BARE)
    found.position_manager.recovery.restore_order(order(Leg.STOP, "AAA stop", stop="98", quantity="7"))
    assert found.position_manager.orders_due_now() == []
    found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "4", "outside"))
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


def test_a_restart_recalls_a_stop_that_was_moved() -> None:
    """The level that was asked for is the level that the trail goes on from; until it is told, it is asked for."""
    found = recalled(proposal(exits=ExitRules(trailing=True)))
    moved = ReplaceOrder(client_order_id="AAA stop", stop_price=Decimal("107.80"), reason=ExitReason.TRAILING_STOP)
    found.position_manager.recovery.restore_request("AAA stop", moved)
    assert names(found.position_manager.orders_after_minute(TRAILED.bars(), 31)) == ["replace AAA stop 107.8"]
    say(found, "replaced", "AAA stop")
    assert found.position_manager.orders_after_minute(SessionDraft().bar(30, 110.0).bars(), 30) == []
    filled(found, order(Leg.STOP, "AAA stop", quantity="7"), "107.80", execution="2")
    assert [one.exit_reason for one in found.portfolio.closed] == [ExitReason.TRAILING_STOP]


@pytest.mark.parametrize("venue", [UNMOVED, BRACKETS])
def test_a_restart_recalls_where_a_trail_was_that_a_renewed_stop_rests_at(venue: BrokerCapabilities) -> None:
    """A price that gives less is no reason to take it back."""
    found = recalled(proposal(exits=ExitRules(trailing=True)), venue)
    say(found, "cancelled", "AAA stop")
    found.position_manager.recovery.restore_order(order(Leg.STOP, "AAA stop 2", stop="107.80", quantity="7"))
    assert found.position_manager.orders_after_minute(SessionDraft().bar(30, 109.0).bars(), 30) == []


def test_a_restart_recalls_a_stop_that_was_being_taken_away() -> None:
    """Its end, when it comes, is no loss: another one takes its place."""
    found = recalled(proposal(), UNMOVED)
    found.position_manager.recovery.restore_request("AAA stop")
    assert found.position_manager.orders_due_now() == []
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]


def test_a_restart_recalls_a_cancel_of_an_entry() -> None:
    """An entry that was being taken back stays reserved until the broker has said what became of it."""
    found = desk()
    entry = desk().decide([proposal()])[0].order
    assert entry is not None
    found.restore_entry(entry, proposal())
    found.position_manager.recovery.restore_request("AAA entry")
    assert list(found.exposure.working) == ["AAA entry"]
    say(found, "cancelled", "AAA entry")
    assert found.position_manager.is_idle


def test_a_cancel_with_an_exit_behind_it_is_no_renewal() -> None:
    """A cancel that was asked for because the position leaves is followed by the exit alone."""
    found = recalled(proposal(exits=TIMED))
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 59) == [
        CancelOrder(client_order_id="AAA stop")
    ]
    found.position_manager.recovery.restore_request("AAA stop")
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]


def leaving() -> tuple[DecisionEngine, Order]:
    """A desk whose exit works, and the stop that was proven to have ended before it."""
    found = desk()
    stop = enter(found).protection[0]
    assert names(found.position_manager.orders_after_minute(SessionDraft().bars(), 59)) == ["cancel AAA stop"]
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]
    return found, stop


@pytest.mark.parametrize("late", [True, False], ids=["a late fill of the stop", "somebody else"])
def test_an_exit_whose_position_is_gone_is_taken_back_at_once(late: bool) -> None:
    """Whatever closed the position, the exit beside it would open another: it is cancelled until it has ended."""
    found, stop = leaving()
    if late:
        filled(found, stop, "98", execution="2")
    else:
        found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "7", "outside"))
    assert found.position_manager.orders_due_now() == [CancelOrder(client_order_id="AAA exit")]
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 60) == [
        CancelOrder(client_order_id="AAA exit")
    ]
    say(found, "cancelled", "AAA exit")
    assert found.position_manager.orders_after_minute(SessionDraft().bars(), 61) == []


@pytest.mark.parametrize("late", [True, False], ids=["a late fill of the stop", "somebody else"])
def test_an_exit_for_more_than_is_left_goes_again_for_the_rest(late: bool) -> None:
    """Where a part of the position was closed beside it, it is taken back at once, and made anew at what is left."""
    found, stop = leaving()
    if late:
        filled(found, stop, "98", "3", "2")
    else:
        found.position_manager.on_external_change(fill(order(Leg.EXIT), "100", "3", "outside"))
    assert found.position_manager.orders_due_now() == [CancelOrder(client_order_id="AAA exit")]
    say(found, "cancelled", "AAA exit")
    assert placed(found.position_manager.orders_after_minute(SessionDraft().bars(), 60)).quantity == 4


def test_an_exit_that_fills_is_not_taken_back() -> None:
    """In parts or whole, it does what it was sent for; of another position's exit nothing is asked later."""
    found, _ = leaving()
    leaves = attrs.evolve(order(Leg.EXIT, "AAA exit", quantity="7"), signal=proposal().signal)
    filled(found, leaves, quantity="3", execution="2")
    assert found.position_manager.orders_due_now() == []
    filled(found, leaves, quantity="4", execution="3")
    assert (found.position_manager.orders_to_cancel, found.position_manager.is_idle) == ((), True)


def amend(found: DecisionEngine, of: Order, quantity: str = "0", price: str = "100", execution: str = "1") -> None:
    """Let an execution of an order be void, or have other terms."""
    one = fill(of, price, quantity, execution)
    event = BrokerEvent(kind="busted", event_id=f"bust {execution}", client_order_id=of.client_order_id, fill=one)
    found.position_manager.on_event(event, ExecutionUpdate(one, is_correction=True))


def test_f29_a_position_whose_exit_was_busted_is_held_and_protected_again_at_once() -> None:
    """The stop was filled, and its fill is void: the shares are back, a new stop goes out with the next thing sent."""
    found = desk()
    entry = enter(found)
    filled(found, entry.protection[0], "98", execution="2")
    assert (found.position_manager.is_idle, found.portfolio.holdings) == (True, {})
    amend(found, entry.protection[0], execution="2")
    assert found.portfolio.holdings == {"AAA": 7_000_000}
    (again,) = found.position_manager.orders_due_now()
    assert isinstance(again, SubmitOrder)
    assert (again.order.leg, again.order.quantity, again.order.stop_price) == (
        Leg.STOP,
        Decimal(7),
        Decimal("98.0000"),
    )
    assert found.exposure.losses_in_row == 1
    assert found.position_manager.orders_due_now() == []


def test_f29_the_exit_of_a_position_whose_entry_was_busted_is_cancelled_at_once() -> None:
    """Nothing is held any more: filled, the exit would open a position of the other side."""
    found = desk(BARE)
    entry = enter(found)
    stop = placed(found.position_manager.orders_due_now())
    found.position_manager.orders_after_minute(late(61, 99.0), 59)
    say(found, "cancelled", stop.client_order_id)
    out = placed(found.position_manager.orders_due_now())
    amend(found, entry)
    assert (found.portfolio.holdings, dict(found.position_manager.held)) == ({}, {})
    assert found.position_manager.orders_due_now() == [CancelOrder(client_order_id=out.client_order_id)]


def test_f29_a_part_that_was_busted_makes_the_stop_smaller() -> None:
    """Its stop is renewed at what is left, its target taken back at once and emulated."""
    found = desk()
    entry = found.decide([proposal(exits=TIMED, target=110.0)])[0].order
    assert entry is not None
    filled(found, entry, quantity="4")
    filled(found, entry, quantity="3", execution="2")
    amend(found, entry, execution="2")
    assert found.portfolio.holdings == {"AAA": 4_000_000}
    assert [*found.position_manager.orders_due_now()] == [
        CancelOrder(client_order_id="AAA target"),
        CancelOrder(client_order_id="AAA stop"),
    ]


def test_f29_an_exit_for_more_than_is_left_is_taken_back() -> None:
    """It would sell what was never bought."""
    found = desk(BARE)
    entry = found.decide([proposal(exits=TIMED)])[0].order
    assert entry is not None
    filled(found, entry, quantity="4")
    filled(found, entry, quantity="3", execution="2")
    found.position_manager.exits.flatten()
    (leave,) = found.position_manager.orders_after_minute(SessionDraft("AAA").bars(), 26)
    assert isinstance(leave, SubmitOrder)
    amend(found, entry, execution="2")
    assert found.position_manager.orders_due_now() == [CancelOrder(client_order_id=leave.order.client_order_id)]
    filled(found, leave.order, quantity="4", execution="3")
    amend(found, entry, execution="1")
    assert found.exposure.state is RiskState.EXIT_ONLY


def test_f29_a_position_that_never_was_takes_its_orders_with_it() -> None:
    """All of the entry is void: its protection is taken back at once, and nothing is left to manage."""
    found = desk()
    entry = enter(found)
    amend(found, entry)
    assert found.position_manager.is_idle
    assert found.position_manager.orders_due_now() == [CancelOrder(client_order_id="AAA stop")]
    assert found.position_manager.orders_due_now() == []


def test_f29_a_position_that_a_bust_gives_back_to_an_earlier_signal_is_held_by_its_plan() -> None:
    """A later signal holds the symbol by then: what works for that goes, the earlier one gets its stop, and is left."""

    def own(signal: SignalId, leg: Leg, attempt: int) -> str:
        return f"{signal.strategy} {leg.value} {attempt}"

    given = rules(venue=BARE, one_trade_per_symbol_per_day=False)
    found = DecisionEngine(given, session(), atoms_of(Decimal(100_000)), own)
    first = proposal(exits=TIMED)
    enter(found, first)
    busted = placed(found.position_manager.orders_due_now())
    filled(found, busted, "98", execution="2")
    second = attrs.evolve(first, signal=attrs.evolve(first.signal, strategy="close"), stop=97.0)
    entry = found.decide([second])[0].order
    assert entry is not None
    filled(found, entry, execution="3")
    assert placed(found.position_manager.orders_due_now()).signal == second.signal
    amend(found, busted, execution="2")
    assert names(found.position_manager.orders_due_now()) == ["cancel close stop 1", "place open stop 2"]
    (held,) = found.position_manager.book.held_in("AAA")
    assert (held.position.signal, held.plan.stop) == (first.signal, 980_000)
    found.position_manager.on_external_change(attrs.evolve(fill(busted, "98", "7", "4"), client_order_id=""))
    assert not found.position_manager.book.held_in("AAA")


def test_f29_a_part_of_an_entry_that_was_busted_may_fill_again() -> None:
    """While the entry works its open quantity grows back, and it takes its place until the rest has filled."""
    found = desk()
    entry = enter(found, quantity="4")
    amend(found, entry, "1")
    filled(found, entry, quantity="3", execution="2")
    assert found.exposure.working
    filled(found, entry, quantity="3", execution="3")
    assert not found.exposure.working
    assert found.portfolio.holdings == {"AAA": 7_000_000}


def test_f29_a_price_that_was_corrected_changes_no_order() -> None:
    """Cost and profit follow; the stop stays where it is."""
    found = desk()
    entry = enter(found)
    amend(found, entry, "7", "101")
    assert found.portfolio.in_symbol("AAA")[0].entry_atoms == 7 * 101 * 10**10
    assert found.position_manager.orders_due_now() == []


def test_f29_what_was_sold_of_a_purchase_that_never_was_is_surplus() -> None:
    """The account is short then: nothing is entered until a person has looked."""
    found = desk()
    entry = enter(found)
    filled(found, entry.protection[0], "98", "3", "2")
    amend(found, entry)
    assert found.portfolio.holdings == {"AAA": -3_000_000}
    assert found.exposure.state is RiskState.EXIT_ONLY


def test_f29_an_execution_that_was_never_booked_amends_nothing() -> None:
    """A part of a supposed fill has no entry of its own."""
    found = desk()
    entry = enter(found)
    amend(found, entry, execution="never")
    assert found.portfolio.holdings == {"AAA": 7_000_000}


def both_legs(found: DecisionEngine) -> Order:
    """The entry of AAA, and then its stop and its target, each filled whole; the stop."""
    entry = found.decide([proposal(exits=TIMED, target=104.0)])[0].order
    assert entry is not None
    stop, target = entry.protection
    for number, one in enumerate((entry, stop, target)):
        filled(found, one, execution=str(number))
    return stop


def test_f28_a_bracket_of_an_entry_that_filled_too_much_gives_way_to_a_stop_for_all_that_is_held() -> None:
    """Whether the broker's bracket rests for what was ordered or for what was filled is not known."""
    found = desk()
    entry = enter(found, proposal(target=103.0))
    filled(found, entry, quantity="2", execution="2")
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA target", "cancel AAA stop"]
    say(found, "cancelled", "AAA target")
    say(found, "cancelled", "AAA stop")
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.client_order_id, stop.quantity) == ("AAA stop 2", Decimal(9))


def test_f38_what_both_legs_filled_is_taken_back_once_a_reading_has_proven_it() -> None:
    """It is an alarm and no entry follows; one order buys back what was sold too much, and nothing more."""
    found = desk(BRACKETS)
    both_legs(found)
    assert found.portfolio.holdings == {"AAA": -7_000_000}
    assert found.exposure.current_state >= RiskState.EXIT_ONLY
    bars = SessionDraft().bars()
    assert placed_of(found, bars, 40) == []
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    (back,) = placed_of(found, bars, 41)
    assert (back.leg, back.buy, back.quantity, back.reason) == (Leg.EXIT, True, Decimal(7), ExitReason.EXCESS)
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    assert placed_of(found, bars, 42) == []
    told = len(found.exposure.pending_changes)
    filled(found, back, execution="9")
    assert found.portfolio.holdings == {"AAA": 0}
    assert len(found.exposure.pending_changes) == told
    assert placed_of(found, bars, 43) == []


def test_f38_what_is_too_much_is_taken_back_anew_where_the_order_ended_without_a_fill() -> None:
    """Each time a reading has to prove it first; a kill keeps it waiting."""
    found = desk(BRACKETS)
    both_legs(found)
    bars = SessionDraft().bars()
    for minute in (40, 41):
        found.position_manager.overfills.confirmed = frozenset({"AAA"})
        (back,) = placed_of(found, bars, minute)
        say(found, "rejected", back.client_order_id)
    assert placed_of(found, bars, 42) == []
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    found.exposure.imposed_state = RiskState.HALTED
    assert placed_of(found, bars, 43) == []


@pytest.mark.parametrize("bust_first", [True, False])
def test_f32_a_stop_that_fills_for_more_than_a_bust_has_left_closes_the_position(*, bust_first: bool) -> None:
    """What is left was sold with the rest: no stop and no exit sells it again, and what is too much is bought back."""
    found = desk(BARE)
    entry = enter(found, quantity="3")
    filled(found, entry, quantity="4", execution="2")
    stop = placed(found.position_manager.orders_due_now())
    if bust_first:
        amend(found, entry, execution="2")
    filled(found, stop, "98", "7", "3")
    if not bust_first:
        amend(found, entry, execution="2")
    assert found.portfolio.holdings == {"AAA": -4_000_000}
    assert not found.portfolio.positions
    assert found.exposure.pending_changes[-1].cause == "a fill of AAA beyond what is held"
    assert found.exposure.pending_changes[-1].value == 4
    assert found.position_manager.orders_due_now() == []
    assert placed_of(found, SessionDraft().bars(), 40) == []
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    (back,) = placed_of(found, SessionDraft().bars(), 41)
    assert (back.buy, back.quantity, back.reason) == (True, Decimal(4), ExitReason.EXCESS)


def test_f28_what_is_taken_back_too_much_is_too_much_itself() -> None:
    """What leaves less of it is no news; the share that goes beyond it is, and so is a bust of what took it back."""
    found = desk(BRACKETS)
    both_legs(found)
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    (back,) = placed_of(found, SessionDraft().bars(), 40)
    told = len(found.exposure.pending_changes)
    filled(found, back, quantity="3", execution="8")
    filled(found, back, quantity="4", execution="9")
    assert len(found.exposure.pending_changes) == told
    filled(found, back, quantity="1", execution="10")
    assert [one.value for one in found.exposure.pending_changes[told:]] == [1]
    amend(found, back, execution="10")
    assert len(found.exposure.pending_changes) == told + 1
    amend(found, back, execution="9")
    assert [one.value for one in found.exposure.pending_changes[told:]] == [1, 4]


def test_f38_a_restart_takes_in_what_was_taking_too_much_back() -> None:
    """No second order goes beside it."""
    found = desk(BRACKETS)
    both_legs(found)
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    (back,) = placed_of(found, SessionDraft().bars(), 40)
    after = desk(BRACKETS)
    both_legs(after)
    after.position_manager.recovery.restore_order(back)
    after.position_manager.overfills.confirmed = frozenset({"AAA"})
    assert placed_of(after, SessionDraft().bars(), 41) == []
    filled(after, back, execution="9")
    assert after.portfolio.holdings == {"AAA": 0}


def placed_of(found: DecisionEngine, bars: Bars, minute: int) -> list[Order]:
    """The orders that a minute places."""
    return [
        action.order
        for action in found.position_manager.orders_after_minute(bars, minute)
        if isinstance(action, SubmitOrder)
    ]


def test_f38_nothing_is_taken_back_of_a_symbol_that_is_frozen_or_still_worked() -> None:
    """What is not clear waits, and so does what may still fill."""
    found = desk(BRACKETS)
    both_legs(found)
    found.position_manager.apply_split("AAA", Fraction(2))
    found.position_manager.overfills.confirmed = frozenset({"AAA"})
    found.exposure.holds.add("AAA", Hold.FROZEN, "not clear")
    assert placed_of(found, SessionDraft().bars(), 40) == []
    found.exposure.holds.end("AAA", Hold.FROZEN)
    (back,) = placed_of(found, SessionDraft().bars(), 41)
    assert back.quantity == 14


@pytest.mark.parametrize("shown", ["", "later", "before"])
def test_what_an_event_tells_that_others_closed_is_waited_for_until_a_list_shows_it(shown: str) -> None:
    """A list that may be behind shows nothing; the one that has the change ends it, also ahead of the event."""
    found = desk(BARE)
    enter(found)
    manager, lag_s = found.position_manager, BARE.list_lag_s
    foreign = attrs.evolve(fill(order(Leg.EXIT, "", symbol="AAA", quantity="3"), "100"), buy=False)
    if shown == "before":
        manager.on_external_change(foreign)
    manager.on_foreign_fill(foreign, 100.0)
    manager.on_reading(100.1, ())
    assert manager.book.held_in("AAA")[0].reading_after == (None if shown == "before" else 100.0 + lag_s)
    if shown == "later":
        manager.on_external_change(foreign)
    manager.on_reading(100.0 + lag_s if not shown else 100.2, ())
    assert manager.book.held_in("AAA")[0].reading_after is None


@pytest.mark.parametrize(("barred", "due"), [(False, 5.0), (True, None)])
def test_after_a_break_only_what_waits_for_the_connection_waits_for_a_reading(
    *, barred: bool, due: float | None
) -> None:
    """What a kill or an exit-only state holds back has no need of one."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    found.position_manager.on_dropped("AAA stop", barred=barred)
    found.position_manager.unsent_orders.await_reading(5.0)
    assert found.position_manager.book.held_in("AAA")[0].reading_after == due


def dropped(found: DecisionEngine, actions: Sequence[TradingCommand]) -> None:
    """Refuse the orders that are placed at the second barrier."""
    for one in actions:
        if isinstance(one, SubmitOrder):
            found.position_manager.on_dropped(one.order.client_order_id, barred=True)


def late(minute: int, price: float) -> Bars:
    """A session whose bars from a minute on have this price."""
    draft = SessionDraft()
    for one in range(minute, 390):
        draft.bar(one, price)
    return draft.bars()


def kill(found: DecisionEngine) -> None:
    """Somebody kills the bot."""
    found.exposure.imposed_state = RiskState.HALTED


def freeze(found: DecisionEngine) -> None:
    """What is true of the symbol is not clear."""
    found.exposure.holds.add("AAA", Hold.FROZEN, "the quantity is unclear")


def halt(found: DecisionEngine) -> None:
    """The symbol does not trade."""
    found.exposure.holds.add("AAA", Hold.HALTED)


@pytest.mark.parametrize("holds", [kill, freeze, halt])
@pytest.mark.parametrize("venue", [BARE, BRACKETS])
@pytest.mark.parametrize("proven", [True, False])
def test_an_exit_that_must_wait_gives_the_stop_its_place_back(
    venue: BrokerCapabilities, holds: Any, proven: bool
) -> None:
    """Held back between the stop's cancel and its own sending, it is given up, and a stop rests for the position.

    It is decided anew as soon as nothing holds it back any more.
    """
    found = desk(venue)
    enter(found)
    found.position_manager.orders_due_now()
    assert "cancel AAA stop" in names(found.position_manager.orders_after_minute(late(61, 99.0), 59))
    if proven:
        say(found, "cancelled", "AAA stop")
        exits = found.position_manager.orders_due_now()
        assert names(exits) == ["place AAA exit"]
        holds(found)
        dropped(found, exits)
    else:
        holds(found)
        assert found.position_manager.orders_due_now() == []
        say(found, "cancelled", "AAA stop")
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.client_order_id, stop.quantity, stop.stop_price) == ("AAA stop 2", Decimal(7), Decimal(98))
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 60)) == []
    found.exposure.imposed_state = RiskState.NORMAL
    found.exposure.holds.end("AAA", Hold.HALTED)
    found.exposure.holds.end("AAA", Hold.FROZEN)
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 61)) == ["cancel AAA stop 2"]
    say(found, "cancelled", "AAA stop 2")
    assert placed(found.position_manager.orders_due_now()).reason is ExitReason.TIME


def test_an_exit_that_a_kill_finds_at_work_is_not_taken_back() -> None:
    """Another could not be sent in its place; in the last minutes before the close least of all."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    found.position_manager.orders_after_minute(late(61, 99.0), 59)
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA exit"]
    kill(found)
    assert found.position_manager.orders_after_minute(late(61, 99.0), 388) == []
    found.exposure.imposed_state = RiskState.NORMAL
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 388)) == ["cancel AAA exit"]


@pytest.mark.parametrize(("latched", "minute"), [(False, 61), (False, 388), (True, 30)])
def test_a_stop_of_the_bots_own_acts_in_a_kill_whatever_else_is_due(latched: bool, minute: int) -> None:
    """Neither its time nor a latch of losses, which wait for the kill's end, hides a close beyond it."""
    found = desk()
    enter(found, proposal(exits=ExitRules(trigger="close", leave=60)))
    kill(found)
    found.exposure.daily_loss = latched
    assert found.position_manager.orders_after_minute(late(20, 98.5), minute) == []
    assert placed(found.position_manager.orders_after_minute(late(20, 97.0), minute)).reason is ExitReason.STOP


def test_what_another_session_left_waits_for_the_end_of_a_kill() -> None:
    """Nothing is known of its stop: it is closed when the kill is over, at once."""
    carried = CarriedPosition(
        fill=fill(order(), "100", "7"), signal=proposal().signal, attempts={Leg.EXIT: 1}, account="A1"
    )
    other = desk()
    other.position_manager.recovery.restore_position(carried, 0)
    kill(other)
    assert other.position_manager.on_market_open() == []
    assert other.position_manager.orders_after_minute(late(0, 50.0), 30) == []
    other.exposure.imposed_state = RiskState.NORMAL
    assert placed(other.position_manager.orders_due_now()).reason is ExitReason.SESSION_END


@pytest.mark.parametrize("holds", [kill, freeze, halt])
def test_a_target_is_taken_back_where_the_stop_beside_it_is_made_anew(holds: Any) -> None:
    """Two that are not linked would sell what is held twice: it is cancelled at once, and each minute until it ends.

    So is what is left when the stop has closed the position.
    """
    found = desk(BRACKETS)
    enter(found, proposal(exits=TIMED, target=105.0))
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 59)) == [
        "cancel AAA target",
        "cancel AAA stop",
    ]
    holds(found)
    say(found, "cancelled", "AAA stop")
    assert names(found.position_manager.orders_due_now()) == ["place AAA stop 2"]
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 60)) == ["cancel AAA target"]
    filled(found, order(Leg.STOP, name="AAA stop 2"), "98", "7", "2")
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 61)) == ["cancel AAA target"]


def test_a_stop_that_has_begun_to_fill_is_not_made_anew_in_a_kill() -> None:
    """It would act at once: what is left of the position is closed, as the stop would have."""
    found = desk(BARE)
    enter(found)
    stop = placed(found.position_manager.orders_due_now())
    found.position_manager.orders_after_minute(late(61, 99.0), 59)
    filled(found, stop, "98", "3", "2")
    kill(found)
    assert found.position_manager.orders_due_now() == []
    say(found, "cancelled", "AAA stop")
    rest = placed(found.position_manager.orders_due_now())
    assert (rest.leg, rest.quantity, rest.reason) == (Leg.EXIT, Decimal(4), ExitReason.STOP)


def test_a_stop_that_has_begun_to_fill_waits_for_the_end_of_a_halt() -> None:
    """Nothing is placed in it; the rest is closed as soon as it is over."""
    found = desk(BARE)
    enter(found)
    stop = placed(found.position_manager.orders_due_now())
    found.position_manager.orders_after_minute(late(61, 99.0), 59)
    filled(found, stop, "98", "3", "2")
    halt(found)
    say(found, "cancelled", "AAA stop")
    assert found.position_manager.orders_due_now() == []
    found.exposure.holds.end("AAA", Hold.HALTED)
    assert placed(found.position_manager.orders_due_now()).reason is ExitReason.STOP


@pytest.mark.parametrize("holds", [kill, freeze, halt])
def test_a_trim_that_must_wait_is_given_up_for_a_stop_of_all_that_is_held(holds: Any) -> None:
    """What rested has been taken away for it, and nothing of it is sold now."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    held = found.position_manager.book.held_in("AAA")[0]
    held.trim_to_units = 5 * UNITS_PER_SHARE
    assert names(found.position_manager.orders_after_minute(late(61, 99.0), 30)) == ["cancel AAA stop"]
    holds(found)
    say(found, "cancelled", "AAA stop")
    stop = placed(found.position_manager.orders_due_now())
    assert (stop.leg, stop.quantity) == (Leg.STOP, Decimal(7))


def test_a_trim_that_was_not_sent_holds_up_no_stop() -> None:
    """All is held on: the stop for the part to keep gives way at once to one for the whole."""
    found = desk(BARE)
    enter(found)
    found.position_manager.orders_due_now()
    found.position_manager.book.held_in("AAA")[0].trim_to_units = 5 * UNITS_PER_SHARE
    found.position_manager.orders_after_minute(late(61, 99.0), 30)
    say(found, "cancelled", "AAA stop")
    kept, trim = [one.order for one in found.position_manager.orders_due_now() if isinstance(one, SubmitOrder)]
    assert (kept.quantity, trim.quantity) == (Decimal(5), Decimal(2))
    found.position_manager.on_dropped(trim.client_order_id, barred=True)
    assert names(found.position_manager.orders_due_now()) == ["cancel AAA stop 2"]
    say(found, "cancelled", "AAA stop 2")
    assert placed(found.position_manager.orders_due_now()).quantity == Decimal(7)


@pytest.mark.parametrize("minutes", [390, 210], ids=["whole day", "half day"])
def test_an_exit_that_does_not_fill_is_sent_again_from_three_minutes_before_the_close(minutes: int) -> None:
    """With three minutes left, and not with four; each minute from then on, another one when the last has ended."""
    today = attrs.evolve(session(), close=session().open + dt.timedelta(minutes=minutes))
    found = DecisionEngine(rules(venue=BARE), today, atoms_of(Decimal(100_000)), name)
    enter(found, proposal(exits=ExitRules(trigger="close")))
    found.position_manager.exits.flatten()
    asked = dict[int, list[str]]()
    for left in range(6, 0, -1):  # minutes between the end of this bar and the close
        orders = found.position_manager.orders_after_minute(SessionDraft(minutes=minutes).bars(), minutes - left - 1)
        asked[left] = names(orders)
        for one in orders:
            if isinstance(one, CancelOrder):
                say(found, "cancelled", one.client_order_id)
                asked[left] += names(found.position_manager.orders_due_now())
    assert asked == {
        6: ["place AAA exit"],
        5: [],
        4: [],
        3: ["cancel AAA exit", "place AAA exit 2"],
        2: ["cancel AAA exit 2", "place AAA exit 3"],
        1: ["cancel AAA exit 3", "place AAA exit 4"],
    }


def test_a_minute_that_is_managed_twice_takes_no_exit_back() -> None:
    """In the last minutes an exit that works is sent again each minute, and not oftener."""
    found = desk(BARE)
    enter(found, proposal(exits=ExitRules(trigger="close")))
    found.position_manager.exits.flatten()
    assert names(found.position_manager.orders_after_minute(late(20, 99.0), 387)) == ["place AAA exit"]
    assert found.position_manager.orders_after_minute(late(20, 99.0), 387) == []
    assert names(found.position_manager.orders_after_minute(late(20, 99.0), 388)) == ["cancel AAA exit"]


def test_a_restart_knows_that_an_exit_was_given_up() -> None:
    """A stop was placed after it: nothing closes the position once what held it back is over and its reason gone."""
    live = desk(BARE)
    enter(live)
    first = placed(live.position_manager.orders_due_now())
    live.position_manager.exits.flatten()
    live.position_manager.orders_after_minute(late(61, 99.0), 30)
    say(live, "cancelled", "AAA stop")
    exits = live.position_manager.orders_due_now()
    freeze(live)
    dropped(live, exits)
    again = placed(live.position_manager.orders_due_now())
    restarted = desk(BARE)
    enter(restarted)
    restarted.position_manager.recovery.restore_order(first)
    restarted.position_manager.recovery.restore_request("AAA stop")
    say(restarted, "cancelled", "AAA stop")
    restarted.position_manager.recovery.restore_order(placed(exits))
    dropped(restarted, exits)
    restarted.position_manager.recovery.restore_order(again)
    live.exposure.holds.end("AAA", Hold.FROZEN)
    live.position_manager.exits.flatten(on=False)
    for one in (live, restarted):
        say(one, "acknowledged", "AAA stop 2")
        assert one.position_manager.orders_after_minute(late(0, 100.0), 40) == []
        assert one.position_manager.book.held_in("AAA")[0].exit_reason is None


def test_an_entry_that_is_cancelled_as_an_orphan_leaves_the_protection_as_it_is() -> None:
    """Only a stop or target that the broker works for more than the books have is replaced."""
    found = desk()
    entry = enter(found)
    held = found.position_manager.book.held_in("AAA")[0]
    before = dict(resting_ids(held))
    found.position_manager.mismatched_orders.on_orphan_cancel(entry.client_order_id)
    assert resting_ids(held) == before
    assert held.is_bracketed


def test_a_stop_after_one_that_filled_grows_with_its_entry() -> None:
    """The first one fills while it is cancelled as too small, and the entry fills on: the second one is enlarged."""
    found = desk(BARE)
    entry = enter(found, quantity="2")
    manager = found.position_manager
    [first] = (one.order for one in manager.orders_due_now() if isinstance(one, SubmitOrder))
    filled(found, entry, quantity="2", execution="2")
    assert manager.orders_due_now() == [CancelOrder(client_order_id=first.client_order_id)]
    filled(found, first, quantity="2", execution="3")
    [second] = (one.order for one in manager.orders_due_now() if isinstance(one, SubmitOrder))
    assert second.quantity == 2
    filled(found, entry, quantity="3", execution="4")
    assert manager.orders_due_now() == [CancelOrder(client_order_id=second.client_order_id)]
    say(found, "cancelled", second.client_order_id)
    [third] = (one.order for one in manager.orders_due_now() if isinstance(one, SubmitOrder))
    assert third.quantity == 5


def test_a_restart_cancels_the_target_of_a_bracket_whose_stop_another_has_replaced() -> None:
    """The bracket's stop was lost, one of its own was placed: the target ends after a restart as before it."""
    live, restarted = desk(BRACKETS), desk(BRACKETS)
    for found in (live, restarted):
        entry = found.decide([proposal(exits=TIMED, target=110.0)])[0].order
        assert entry is not None
        found.position_manager.on_lost("AAA stop")
        filled(found, entry)
    restarted.position_manager.recovery.restore_order(placed(live.position_manager.orders_due_now()))
    assert {*restarted.position_manager.orders_to_cancel} == {*live.position_manager.orders_to_cancel} >= {"AAA target"}


def test_the_target_of_a_position_that_its_stop_closed_while_its_shares_had_departed_ends() -> None:
    """The shares are taken back to be those that the stop has sold: no position is left, and nothing works for one."""
    found = desk(BRACKETS)
    entry = found.decide([proposal(exits=TIMED, target=110.0)])[0].order
    assert entry is not None
    filled(found, entry)
    manager = found.position_manager
    stop = manager.book.held_in("AAA")[0].stop
    assert stop is not None
    departed = attrs.evolve(fill(stop.order, "100", "7", "departed 1"), client_order_id="")
    manager.on_external_change(departed, unexplained=True)
    filled(found, stop.order, "98", execution="9")
    manager.on_external_change(attrs.evolve(departed, quantity=Decimal(0)))
    assert (manager.held, manager.orders_to_cancel) == ({}, ("AAA target",))
