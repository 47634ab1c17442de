"""What a simulated venue does is what venues do, and its books balance to the atom."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.errors import Rejected
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Instrument,
    Leg,
    Order,
    OrderType,
    SignalId,
    atoms_of,
    stock,
    units_of,
)
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.small_world import LEAD_S, SmallWorld
from tbot_core.rehearsal.third_parties import SymbolEvent
from tbot_core.rehearsal.venue_matching import fill_effect
from tbot_core.rehearsal.venue_profiles import ReadingLags, VenueProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., SmallWorld]

BRACKETS = VenueProfile(rules=BrokerCapabilities(brackets=True, lists_closed=True, exec_ids_unique=True))
PLAIN = VenueProfile(rules=BrokerCapabilities(lists_closed=True), fee_ticks=35)
PRICE = Decimal(20)


class Terms(TypedDict, total=False):
    """What a test says of an order."""

    leg: Leg
    instrument: Instrument
    buy: bool
    quantity: Decimal
    type: OrderType
    limit_price: Decimal | None
    stop_price: Decimal | None
    protection: tuple[Order, ...]


def order(cid: str = "o1", **terms: Unpack[Terms]) -> Order:
    """An order to buy ten at the market, unless said otherwise."""
    signal = SignalId(session=dt.date(2026, 3, 3), strategy="test", symbol="A", minute=0, rule="test")
    usual = Order(
        client_order_id=cid,
        signal=signal,
        leg=Leg.ENTRY,
        buy=True,
        quantity=Decimal(10),
        type=OrderType.MARKET,
    )
    return attrs.evolve(usual, **terms)


def stop(cid: str = "stop", price: Decimal = Decimal(18), quantity: Decimal = Decimal(10)) -> Order:
    """A protective stop of a long position."""
    return order(cid, leg=Leg.STOP, buy=False, type=OrderType.STOP, stop_price=price, quantity=quantity)


def target(cid: str = "target", price: Decimal = Decimal(22)) -> Order:
    """A target of a long position."""
    return order(cid, leg=Leg.TARGET, buy=False, type=OrderType.LIMIT, limit_price=price)


def said(events: list[BrokerEvent]) -> list[tuple[str, str]]:
    """Kinds and ids."""
    return [(event.kind, event.client_order_id) for event in events]


@pytest.fixture
def stages() -> Iterator[Make]:
    """Makes stages, and ends them."""
    made: list[SmallWorld] = []

    def make(character: VenueProfile = PLAIN, **rates: float) -> SmallWorld:
        made.append(SmallWorld(character, rates))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


def balanced(stage: SmallWorld) -> bool:
    """Whether cash and holdings are the sum of the facts, and of executions where nothing else happened."""
    books = stage.matching.books
    fills = [fact.fill for fact in books.facts if fact.kind == "execution" and fact.fill is not None]
    facts = sum(fact.atoms for fact in books.facts)
    others = sum(fact.atoms for fact in books.facts if fact.kind != "execution")
    held = {symbol: units for symbol, units in books.units.items() if units}
    summed: dict[str, int] = {}
    for fact in books.facts:
        summed[fact.symbol] = summed.get(fact.symbol, 0) + fact.units
    return (
        books.cash == atoms_of(stage.matching.character.cash) + facts
        and facts == sum(fill_effect(fill)[1] for fill in fills) + others
        and held == {symbol: units for symbol, units in summed.items() if units}
    )


@given(
    trades=st.lists(
        st.tuples(
            st.booleans(), st.integers(1, 300), st.sampled_from([None, "19.5", "20", "20.5"]), st.integers(1, 80)
        ),
        max_size=12,
    )
)
def test_cash_and_holdings_follow_executions_to_the_atom(trades: list[tuple[bool, int, str | None, int]]) -> None:
    """Whatever is bought and sold, in parts or whole, at market or limit, with fees."""
    stage = SmallWorld(PLAIN)
    path = stage.market.paths["A"]
    for number, (buy, quantity, limit, depth) in enumerate(trades):
        path.depth[:] = [depth * UNITS_PER_SHARE] * len(path.depth)
        price = None if limit is None else Decimal(limit)
        kind = OrderType.MARKET if price is None else OrderType.LIMIT
        sent = order(f"o{number}", buy=buy, quantity=Decimal(quantity), type=kind, limit_price=price)
        stage.submit(sent)
        stage.trade_at(Decimal(20) + Decimal(number % 3 - 1) / 2)
    assert balanced(stage)
    for working in stage.matching.orders:
        assert working.filled == sum(units_of(fill.quantity) for fill in working.fills) <= working.units
    account = stage.wait(stage.broker.account())
    assert atoms_of(account.cash) == stage.matching.books.cash
    stage.close()


def test_an_order_is_filled_as_deep_as_the_market_is(stages: Make) -> None:
    """A step fills its depth; the rest waits for the next steps, and each part is an execution."""
    stage = stages()
    stage.market.paths["A"].depth[:] = [4 * UNITS_PER_SHARE] * len(stage.market.paths["A"].depth)
    stage.submit(order())
    fills = [event.fill.quantity for event in stage.poll_after(30) if event.fill is not None]
    assert fills == [4, 4, 2]
    report = stage.wait(stage.broker.snapshot(stage.session.open)).orders[0]
    assert (report.kind, report.filled, report.average_price) == ("fill", Decimal(10), Decimal("20.01"))


def test_a_limit_waits_for_its_price_and_gets_the_better_one(stages: Make) -> None:
    """It rests while the market is dearer, and is filled at what the market asks then."""
    stage = stages()
    stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal("19.50")))
    assert said(stage.poll_after()) == [("acknowledged", "o1")]
    stage.trade_at(Decimal(19))
    assert [event.fill.price for event in stage.poll_after() if event.fill is not None] == [Decimal("19.01")]


def test_a_stop_triggers_and_then_takes_the_market(stages: Make) -> None:
    """After a gap it fills where the market is, not where it stood."""
    stage = stages()
    stage.submit(order())
    stage.submit(stop())
    stage.trade_at(Decimal(17))
    assert [event.fill.price for event in stage.poll_after() if event.fill is not None][1:] == [Decimal("16.99")]
    assert stage.wait(stage.broker.snapshot(stage.session.open)).holdings == ()


def test_protection_rests_for_what_was_filled(stages: Make) -> None:
    """The legs of a bracket follow a partly filled entry, and one leg's fill takes the other and the entry's rest."""
    stage = stages(BRACKETS)
    path = stage.market.paths["A"]
    path.depth[:] = [4 * UNITS_PER_SHARE] * len(path.depth)
    path.depth[stage.matching.step + 1 :] = [0] * (len(path.depth) - stage.matching.step - 1)
    stage.submit(order(protection=(stop(), target())))
    legs = {working.cid: working for working in stage.matching.open}
    assert [legs[cid].remaining_units for cid in ("o1", "stop", "target")] == [
        6 * UNITS_PER_SHARE,
        *[4 * UNITS_PER_SHARE] * 2,
    ]
    path.depth[:] = [100 * UNITS_PER_SHARE] * len(path.depth)
    path.prices[stage.matching.step :] = [170_000] * (len(path.prices) - stage.matching.step)
    stage.poll_after(0)
    stage.matching.end(legs["o1"], "cancelled")
    reports = said(stage.poll_after(10))
    assert ("fill", "stop") in reports
    assert ("cancelled", "target") in reports
    assert stage.matching.books.units == {}
    assert balanced(stage)


def test_an_entry_that_is_being_left_takes_in_no_more(stages: Make) -> None:
    """Once its target filled, what is left of a partly filled entry goes, and the stop with it."""
    stage = stages(BRACKETS)
    path = stage.market.paths["A"]
    path.depth[:] = [4 * UNITS_PER_SHARE] * len(path.depth)
    limit = Decimal("20.01")
    stage.submit(order(type=OrderType.LIMIT, limit_price=limit, protection=(stop(), target())))
    path.move(stage.matching.step + 1, 230_000)
    reports = said(stage.poll_after(20))
    assert reports[-3:] == [("fill", "target"), ("cancelled", "o1"), ("cancelled", "stop")]
    assert stage.matching.books.units == {}


def test_protection_of_an_entry_that_never_filled_goes_with_it(stages: Make) -> None:
    """Nothing of the bracket is left."""
    stage = stages(BRACKETS)
    stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal(15), protection=(stop(price=Decimal(14)),)))
    stage.wait(stage.broker.cancel("o1"))
    assert said(stage.poll_after()) == [("acknowledged", "o1"), ("cancelled", "o1"), ("cancelled", "stop")]


@pytest.mark.parametrize(("after_s", "orders"), [(60, 1), (121, 2)])
def test_an_id_is_one_order_inside_the_window_only(stages: Make, after_s: float, orders: int) -> None:
    """A venue that dedupes for two minutes makes a second order of an id that comes later."""
    stage = stages(VenueProfile(dedupe_window_s=120.0))
    stage.submit(order())
    stage.pass_time(after_s)
    stage.submit(order())
    assert stage.matching.books.units == {"A": orders * 10 * UNITS_PER_SHARE}


def test_a_venue_that_does_not_dedupe_buys_twice(stages: Make) -> None:
    """An id means nothing to it."""
    stage = stages()
    stage.submit(order())
    stage.submit(order())
    assert stage.matching.books.units == {"A": 20 * UNITS_PER_SHARE}


CASES: list[tuple[VenueProfile, Order, str]] = [
    (PLAIN, order(instrument=stock("ZZ")), "42210002"),
    (PLAIN, order(quantity=Decimal("1.5")), "42210003"),
    (PLAIN, order(quantity=Decimal(0)), "42210003"),
    (PLAIN, order(type=OrderType.LIMIT, limit_price=Decimal("19.999")), "42210004"),
    (PLAIN, order(type=OrderType.LIMIT, limit_price=Decimal(30)), "42210005"),
    (attrs.evolve(PLAIN, refuses_crossed_stops=True), stop(price=Decimal(21)), "42210006"),
    (PLAIN, order(protection=(stop(),)), "42210007"),
    (PLAIN, order(type=OrderType.LIMIT), "42210010"),
    (PLAIN, order(quantity=Decimal(50_000)), "40310000"),
    (attrs.evolve(PLAIN, margin=False), order(quantity=Decimal(6_000)), "40310000"),
    (attrs.evolve(PLAIN, margin=False), order(buy=False), "40310001"),
]


@pytest.mark.parametrize(("character", "refused", "code"), CASES, ids=[code for *_, code in CASES])
def test_what_cannot_be_is_refused_with_its_code(
    stages: Make, character: VenueProfile, refused: Order, code: str
) -> None:
    """Nothing is taken, and the words begin with the venue's code."""
    stage = stages(character)
    with pytest.raises(Rejected, match=f"^{code}"):
        stage.submit(refused)
    assert stage.matching.orders == []
    assert stage.poll_after() == []


def test_in_a_cash_account_others_sell_no_more_than_is_held(stages: Make) -> None:
    """An order that was covered when it was sent is cancelled when it is not any more."""
    stage = stages(attrs.evolve(PLAIN, margin=False))
    stage.submit(order(quantity=Decimal(5)))
    stage.pass_time(10)
    matching = stage.matching
    theirs = matching.accept(order("theirs", buy=False, quantity=Decimal(4)), ours=False)
    stage.submit(order("o2", buy=False, quantity=Decimal(3)))
    matching.rest(theirs)
    stage.pass_time(10)
    assert (theirs.kind, theirs.filled) == ("cancelled", 0)
    assert matching.books.units == {"A": 2 * UNITS_PER_SHARE}


def test_a_slow_refusal_is_reported_after_an_acknowledgement(stages: Make) -> None:
    """A venue that looks later takes the order first."""
    stage = stages(attrs.evolve(PLAIN, refuses_at_once=False))
    stage.submit(order(instrument=stock("ZZ")))
    assert said(stage.poll_after()) == [("acknowledged", "o1"), ("rejected", "o1")]


def test_nothing_is_taken_outside_the_session_and_what_rests_expires(stages: Make) -> None:
    """F39: at the close resting orders of the day expire, and new ones are refused."""
    stage = stages()
    stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal(15)))
    stage.pass_time(stage.session.minutes * 60)
    assert said(stage.poll_after()) == [("acknowledged", "o1"), ("expired", "o1")]
    with pytest.raises(Rejected, match="closed"):
        stage.submit(order("o2"))


def test_an_atomic_replacement_keeps_its_id(stages: Make) -> None:
    """The order is changed in place; what does not fit changes nothing."""
    stage = stages(VenueProfile(rules=BrokerCapabilities(replace="same_id")))
    stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal(15)))
    for price in (Decimal("15.999"), Decimal(16)):
        stage.wait(stage.broker.replace("o1", order(type=OrderType.LIMIT, limit_price=price)))
    assert said(stage.poll_after()) == [("acknowledged", "o1"), ("cancel_refused", "o1"), ("replaced", "o1")]
    assert [working.level for working in stage.matching.open] == [160_000]


def test_what_is_over_cannot_be_replaced_or_cancelled(stages: Make) -> None:
    """The refusals name the state, and an unknown order is not found."""
    stage = stages()
    stage.submit(order())
    stage.wait(stage.broker.cancel("o1"))
    stage.exchange.replace("o1", order("o2"))
    stage.wait(stage.broker.cancel("never"))
    assert said(stage.poll_after())[2:] == [
        ("cancel_refused", "o1"),
        ("cancel_refused", "o1"),
        ("not_found", "never"),
    ]


def test_a_reading_shows_one_moment(stages: Make) -> None:
    """Its barrier changes with every fact, where the venue numbers its moments."""
    stage = stages()
    first = stage.wait(stage.broker.snapshot(stage.session.open))
    assert stage.wait(stage.broker.snapshot(stage.session.open)) == first
    stage.submit(order())
    later = stage.wait(stage.broker.snapshot(stage.session.open))
    assert later.barrier != first.barrier
    assert [(held.symbol, held.quantity) for held in later.holdings] == [("A", Decimal(10))]


def test_closed_orders_are_listed_where_the_rules_say_so(stages: Make) -> None:
    """Otherwise, and before the moment that is asked for, only what rests is."""
    lists, hides = stages(), stages(VenueProfile())
    for stage in (lists, hides):
        stage.submit(order())
        stage.pass_time(60)
    since = lists.session.open
    assert [report.kind for report in lists.wait(lists.broker.snapshot(since)).orders] == ["fill"]
    assert lists.wait(lists.broker.snapshot(lists.clock.now())).orders == ()
    assert hides.wait(hides.broker.snapshot(since)).orders == ()


def test_an_order_cannot_be_found_before_it_is_listed() -> None:
    """Not found says nothing of an order that was just sent."""
    stage = SmallWorld(VenueProfile(rules=BrokerCapabilities(query_by_cid=True), lags=ReadingLags(lookup_s=3.0)))
    stage.submit(order())
    assert stage.wait(stage.broker.find("o1")) is None
    stage.pass_time(3)
    assert stage.wait(stage.broker.find("o1")) is not None
    stage.close()


def test_execution_ids_are_unique_only_where_the_rules_say_so(stages: Make) -> None:
    """Else each order counts its own."""
    for character, ids in ((PLAIN, ["1", "1"]), (BRACKETS, ["SIM-1-1", "SIM-1-2"])):
        stage = stages(character)
        stage.submit(order())
        stage.submit(order("o2"))
        fills = [event.fill for event in stage.poll_after() if event.fill is not None]
        assert [fill.execution_id for fill in fills] == ids


def test_f28_more_is_filled_than_was_ordered(stages: Make) -> None:
    """Half as much again, and the books have it."""
    stage = stages(F28=1.0)
    stage.submit(order())
    assert sum(event.fill.quantity for event in stage.poll_after() if event.fill is not None) == 15
    assert stage.matching.books.units == {"A": 15 * UNITS_PER_SHARE}


def test_f29_an_execution_is_taken_back_or_corrected(stages: Make) -> None:
    """It is reported with the execution's id, and money and shares follow."""
    stage = stages(attrs.evolve(PLAIN, fee_ticks=0), F29=1.0)
    stage.submit(order())
    events = stage.poll_after(600)
    retold = [event for event in events if event.kind in {"busted", "corrected"}]
    assert {event.kind for event in retold} <= {"busted", "corrected"}
    assert retold
    assert balanced(stage)
    assert stage.faults.injected["F29"] == len(retold)


def test_f30_an_execution_bears_the_id_of_another(stages: Make) -> None:
    """The second part of an order comes under the id of the first, with its own quantity."""
    stage = stages(BRACKETS, F30=1.0)
    stage.market.paths["A"].depth[:] = [6 * UNITS_PER_SHARE] * len(stage.market.paths["A"].depth)
    stage.submit(order())
    fills = [event.fill for event in stage.poll_after(30) if event.fill is not None]
    assert [(fill.execution_id, fill.quantity) for fill in fills] == [("SIM-1-1", Decimal(6)), ("SIM-1-1", Decimal(4))]


def test_f37_a_stop_is_rejected_once_its_entry_filled(stages: Make) -> None:
    """The target rests, the stop does not."""
    stage = stages(BRACKETS, F37=1.0)
    stage.submit(order(protection=(stop(), target())))
    assert ("rejected", "stop") in said(stage.poll_after())
    assert [working.cid for working in stage.matching.open] == ["target"]


def test_f38_both_legs_fill(stages: Make) -> None:
    """The position turns round."""
    stage = stages(BRACKETS, F38=1.0)
    stage.submit(order(protection=(stop(), target())))
    stage.trade_at(Decimal(17))
    assert stage.matching.books.units == {"A": -10 * UNITS_PER_SHARE}


def test_f40_a_halt_keeps_orders_and_fills_none(stages: Make) -> None:
    """Orders are taken and wait; the minutes of the halt have no bar."""
    stage = stages(F40=1.0)
    halts = stage.market.paths["A"].halts
    assert halts
    start, stop_at = halts[0]
    stage.pass_time(max(start * STEP_S + LEAD_S - stage.loop.time() + 1, 0))
    stage.submit(order())
    assert said(stage.poll_after()) == [("acknowledged", "o1")]
    assert stop_at > start


def test_f42_prices_become_coarser(stages: Make) -> None:
    """A cent that was fine a while ago is refused."""
    stage = stages(F42=1.0)
    stage.pass_time(120)
    with pytest.raises(Rejected, match="tick grid"):
        stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal("19.99")))


def test_f43_a_split_doubles_shares_and_ends_orders(stages: Make) -> None:
    """Two shares for one, named as an activity."""
    stage = stages()
    stage.submit(order())
    stage.submit(stop())
    stage.market.paths["A"].split(stage.matching.step + 1)
    news = SymbolEvent(at=0.0, kind="split", symbol="A")
    just_before = LEAD_S + (stage.matching.step + 1) * STEP_S - 0.001
    stage.exchange.schedule(just_before, lambda: stage.others.apply_split_or_delisting(news))
    assert said(stage.poll_after(10))[-1] == ("cancelled", "stop")
    snapshot = stage.wait(stage.broker.snapshot(stage.session.open))
    assert [(held.symbol, held.quantity) for held in snapshot.holdings] == [("A", Decimal(20))]
    assert [(activity.kind, activity.quantity) for activity in snapshot.activities] == [("split", Decimal(10))]


def test_f44_a_symbol_is_traded_no_more(stages: Make) -> None:
    """Orders in it go, new ones are refused, and what is held stays."""
    stage = stages(F44=1.0)
    stage.pass_time(60)
    with pytest.raises(Rejected, match="not tradable"):
        stage.submit(order())


def test_f45_money_moves_without_an_order(stages: Make) -> None:
    """Dividends and fees are activities, and cash follows them."""
    stage = stages(F45=1.0)
    stage.submit(order())
    stage.pass_time(1800)
    activities = stage.wait(stage.broker.snapshot(stage.session.open)).activities
    assert {activity.kind for activity in activities} == {"dividend", "fee"}
    assert balanced(stage)


def test_f46_the_broker_closes_a_position(stages: Make) -> None:
    """By an order of its own, without an id of ours."""
    stage = stages(F46=1.0)
    stage.submit(order())
    stage.pass_time(120)
    assert stage.matching.books.units == {}
    assert [working.cid for working in stage.matching.orders if not working.ours] == [""]


def test_f47_a_person_trades(stages: Make) -> None:
    """Orders that are not ours appear, reported without an id or under another's, and ours may be cancelled."""
    stage = stages(F47=1.0, F20=1.0)
    stage.submit(order(type=OrderType.LIMIT, limit_price=Decimal(5)))
    events = stage.poll_after(3600)
    foreign = [fact for fact in stage.matching.books.facts if fact.kind == "accepted" and not fact.ours]
    assert {fact.client_order_id for fact in foreign} >= {"", "mobile-1"}
    assert ("cancelled", "o1") in said(events)
    assert balanced(stage)


def test_in_a_queue_every_second_limit_entry_rests_before_it_may_fill(stages: Make) -> None:
    """The first and the third wait for the seconds of the queue; other orders and those between fill at once."""
    stage = stages(attrs.evolve(PLAIN, queue_s=60.0))
    limit = partial(order, type=OrderType.LIMIT, limit_price=Decimal(22))
    for one in (limit("first"), order("market"), limit("second"), limit("third")):
        stage.submit(one)
    filled = {working.cid: working.filled > 0 for working in stage.matching.orders}
    assert filled == {"first": False, "market": True, "second": True, "third": False}
    stage.pass_time(60 + 2 * STEP_S)
    assert [working.cid for working in stage.matching.orders if not working.filled] == []
