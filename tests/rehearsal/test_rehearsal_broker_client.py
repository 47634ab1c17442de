"""Each fault of the way shows as the matrix words it, and a request that has left arrives though its caller gave up."""

from __future__ import annotations

import asyncio
import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, ReplaceMode
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, RejectionMeaning, Unavailable, Withdrawn
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.model.types import UNITS_PER_SHARE, Leg, Order, OrderType, SignalId
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.faults import SeedFaults
from tbot_core.rehearsal.network import TIMEOUT_S
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.small_world import SmallWorld
from tbot_core.rehearsal.venue_profiles import ReadingLags, VenueProfile, random_profile, with_lags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.contracts import AccountSnapshot, BrokerEvent

    Make = Callable[..., SmallWorld]

RULES = BrokerCapabilities(lists_closed=True, query_by_cid=True, exec_ids_unique=True)
USUAL = VenueProfile(rules=RULES)
REPLACING = VenueProfile(rules=attrs.evolve(RULES, replace=ReplaceMode.NEW_ID))
FAR = Decimal(15)


def order(cid: str = "o1", *, rests: bool = False, quantity: int = 10) -> Order:
    """An order to buy, at the market or at a limit that rests."""
    return Order(
        client_order_id=cid,
        signal=SignalId(session=dt.date(2026, 3, 3), strategy="test", symbol="A", minute=0, rule="test"),
        leg=Leg.ENTRY,
        buy=True,
        quantity=Decimal(quantity),
        type=OrderType.LIMIT if rests else OrderType.MARKET,
        limit_price=FAR if rests else None,
    )


def said(events: list[BrokerEvent]) -> list[tuple[str, str]]:
    """Kinds and ids."""
    return [(event.kind, event.client_order_id) for event in events]


@pytest.fixture
def stages() -> Iterator[Make]:
    """Makes stages whose faults begin once the client is connected, and ends them."""
    made: list[SmallWorld] = []

    def make(character: VenueProfile = USUAL, **rates: float) -> SmallWorld:
        stage = SmallWorld(character)
        stage.faults.rates.update(rates)
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def troubled() -> Iterator[Make]:
    """Makes stages on whose way a trouble lasts from second 180 to 300 of the world, and ends them."""
    made: list[SmallWorld] = []

    def make(fault: str, character: VenueProfile = USUAL) -> SmallWorld:
        stage = SmallWorld(character)
        stage.way.add_fault(fault, 180.0, 300.0)
        made.append(stage)
        return stage

    yield make
    for stage in made:
        stage.close()


SUBMITS: list[tuple[str, type[BrokerError], set[bool]]] = [
    ("F1", OutcomeUnknown, {False}),
    ("F2", OutcomeUnknown, {True}),
    ("F3", OutcomeUnknown, {True}),
    ("F4", OutcomeUnknown, {False}),
    ("F5", OutcomeUnknown, {False, True}),
    ("F9", OutcomeUnknown, {False, True}),
    ("F10", OutcomeUnknown, {False, True}),
    ("F11", Unavailable, {False}),
    ("F15", OutcomeUnknown, {True}),
    ("F16", OutcomeUnknown, {True}),
    ("F17", OutcomeUnknown, {True}),
]


@pytest.mark.parametrize(("fault", "error", "arrives"), SUBMITS, ids=[fault for fault, *_ in SUBMITS])
def test_f1_to_f5_f9_to_f11_f15_to_f17_a_submit_under_a_fault_ends_in_its_error(
    stages: Make, fault: str, error: type[BrokerError], arrives: set[bool]
) -> None:
    """F1 to F17: the error says no more than is known, and orders arrive or do not, as the fault has it."""
    seen = set()
    stage = stages(**{fault: 1.0})
    for number in range(20):
        with pytest.raises(error):
            stage.submit(order(f"o{number}", rests=True))
        stage.pass_time(0)
        seen.add(stage.matching.find(f"o{number}") is not None)
    assert seen == arrives
    assert stage.faults.injected == {fault: 20}
    assert [request.reached for request in stage.way.requests if request.kind == "submit"].count(True) == sum(
        working.ours for working in stage.matching.orders
    )


def test_f2_keeps_the_acknowledgement_too_and_f3_brings_it_late(stages: Make) -> None:
    """After a lost answer only a look-up finds the order; a delayed one settles itself."""
    lost, late = stages(F2=1.0), stages(F3=1.0)
    for stage in (lost, late):
        with pytest.raises(OutcomeUnknown):
            stage.submit(order(rests=True))
    assert lost.poll_after(60) == []
    report = lost.wait(lost.broker.find("o1"))
    assert report is not None
    assert report.kind == "acknowledged"
    assert said(late.poll_after(60)) == [("acknowledged", "o1")]


def test_f4_a_request_arrives_five_minutes_later(stages: Make) -> None:
    """It was given up long since, and is taken all the same."""
    stage = stages(F4=1.0)
    with pytest.raises(OutcomeUnknown):
        stage.submit(order(rests=True))
    assert stage.poll_after(280) == []
    assert said(stage.poll_after(20)) == [("acknowledged", "o1")]


def test_f11_is_unknown_where_the_venue_documents_nothing(stages: Make) -> None:
    """Too many requests may mean that this one was taken."""
    stage = stages(attrs.evolve(USUAL, documents_429=False), F11=1.0)
    with pytest.raises(OutcomeUnknown, match="429"):
        stage.submit(order(rests=True))


def test_f14_a_duplicate_is_unknown_and_never_rejected(stages: Make) -> None:
    """The id exists: a look-up says what became of it, while a rejection would say that there is no order."""
    stage = stages(attrs.evolve(USUAL, dedupe_window_s=600.0), F14=1.0)
    stage.submit(order(rests=True))
    with pytest.raises(Rejected, match="must be unique"):
        stage.submit(order(rests=True))
    assert len(stage.matching.orders) == 1


def test_f19_another_quantity_is_taken(stages: Make) -> None:
    """Never more than was asked for; the report says how much."""
    stage = stages(F19=1.0)
    stage.submit(order(rests=True))
    report = stage.wait(stage.broker.find("o1"))
    assert report is not None
    assert report.quantity == 5


STREAMS = [
    ("F18", [("acknowledged", 0), ("fill", 0), ("pending_review", 1)]),
    ("F21", [("acknowledged", 0), ("fill", 0), ("acknowledged", 1)]),
    ("F22", [("fill", 0), ("acknowledged", 20)]),
    ("F23", [("acknowledged", 0), ("fill", 0), ("fill", 1)]),
    ("F25", [("acknowledged", 0), ("fill", 12)]),
    ("F26", [("acknowledged", 0)]),
    ("F27", [("acknowledged", 0), ("fill", 30)]),
]


@pytest.mark.parametrize(("fault", "expected"), STREAMS, ids=[fault for fault, _ in STREAMS])
def test_the_stream_under_a_fault(stages: Make, fault: str, expected: list[tuple[str, int]]) -> None:
    """F18 to F27: each event comes as the fault has it, so many seconds late."""
    stage = stages(**{fault: 1.0})
    stage.submit(order())
    arrivals = [(event.kind, second) for second in range(40) for event in stage.poll_after(1)]
    assert [kind for kind, _ in arrivals] == [kind for kind, _ in expected]
    assert all(abs(second - late) <= 1 for (_, second), (_, late) in zip(arrivals, expected, strict=True))
    assert stage.faults.injected == {fault: 1}


def test_f21_and_f23_are_distinguished_by_their_ids(stages: Make) -> None:
    """A repeated event has the same id; the same execution by another way has another, and the same execution id."""
    for fault, kind, ids in (("F21", "acknowledged", 1), ("F23", "fill", 2)):
        stage = stages(**{fault: 1.0})
        stage.submit(order())
        events = [event for event in stage.poll_after(5) if event.kind == kind]
        assert len(events) == 2
        assert len({event.event_id for event in events}) == ids
        assert len({event.fill.execution_id for event in events if event.fill is not None}) <= 1


def test_f24_the_latest_events_come_again(stages: Make) -> None:
    """With their ids."""
    stage = stages()
    stage.submit(order())
    first = stage.poll_after()
    stage.way.replays.append(stage.loop.time())
    assert stage.poll_after() == first
    assert stage.poll_after() == []


def test_f31_a_cancel_is_answered_and_never_arrives(stages: Make) -> None:
    """The order is still open, and nothing says so."""
    stage = stages(F31=1.0)
    stage.submit(order(rests=True))
    stage.wait(stage.broker.cancel("o1"))
    assert said(stage.poll_after(60)) == [("acknowledged", "o1")]
    assert len(stage.matching.open) == 1


def test_f32_and_f33_a_fill_comes_first(stages: Make) -> None:
    """A cancel or a replacement that crosses the last fill is refused."""
    for fault in ("F32", "F33"):
        stage = stages(REPLACING, **{fault: 1.0})
        stage.submit(order(rests=True))
        if fault == "F32":
            stage.wait(stage.broker.cancel("o1"))
        else:
            stage.wait(stage.broker.replace("o1", order("o2", rests=True)))
        assert said(stage.poll_after())[:3] == [("acknowledged", "o1"), ("fill", "o1"), ("cancel_refused", "o1")]
        assert stage.matching.books.units == {"A": 10 * UNITS_PER_SHARE}


def test_f34_a_refused_replacement_leaves_the_old_order(stages: Make) -> None:
    """It rests as it was, and the refusal is an event."""
    stage = stages(REPLACING, F34=1.0)
    stage.submit(order(rests=True))
    stage.wait(stage.broker.replace("o1", order("o2", rests=True)))
    assert said(stage.poll_after())[1:] == [("cancel_refused", "o1")]
    assert [one.cid for one in stage.matching.open] == ["o1"]


def test_f35_a_cancel_of_many_does_not_leave(stages: Make) -> None:
    """It is said, and the order is open."""
    stage = stages(F35=1.0)
    stage.submit(order(rests=True))
    with pytest.raises(Unavailable):
        stage.wait(stage.broker.cancel("o1"))
    assert [request.left for request in stage.way.requests if request.kind == "cancel"] == [False]


@pytest.mark.parametrize("fault", ["F48", "F50"])
def test_f48_f50_what_was_not_read_whole_is_never_shown(stages: Make, fault: str) -> None:
    """F48, F50: a failed reading and one with a page missing are unavailable."""
    stage = stages(**{fault: 1.0})
    with pytest.raises(Unavailable):
        stage.wait(stage.broker.snapshot(stage.session.open))


@pytest.mark.parametrize("numbers_moments", [True, False])
def test_f49_lists_are_further_behind_than_declared(stages: Make, *, numbers_moments: bool) -> None:
    """Each list by itself, by up to two minutes; never in a reading that bears the number of its moment."""
    stage = stages(attrs.evolve(USUAL, numbers_moments=numbers_moments))
    stage.pass_time(40)
    stage.submit(order())
    stage.faults.rates["F49"] = 1.0
    shown = [stage.wait(stage.broker.snapshot(stage.session.open)) for _ in range(20)]
    parts = {(len(snapshot.holdings), len(snapshot.orders)) for snapshot in shown}
    assert parts == ({(1, 1)} if numbers_moments else {(0, 0), (0, 1), (1, 0), (1, 1)})
    assert ("F49" in stage.faults.injected) is not numbers_moments
    stage.pass_time(RULES.list_lag_s + 121.0)
    assert len(stage.wait(stage.broker.snapshot(stage.session.open)).holdings) == 1


LAGS = [
    ("positions_s", lambda snapshot: len(snapshot.holdings), False),
    ("orders_s", lambda snapshot: len(snapshot.orders), False),
    ("activities_s", lambda snapshot: len(snapshot.fills), False),
    ("account_s", lambda snapshot: int(snapshot.account.cash < USUAL.cash), False),
    ("lookup_s", None, True),
]


@pytest.mark.parametrize(("lag", "seen", "by_id"), LAGS, ids=[lag for lag, *_ in LAGS])
def test_each_reading_is_behind_by_itself(stages: Make, lag: str, seen: Any, by_id: bool) -> None:
    """Up to the seconds of its lag it may show what was, and is then right again; the others are right at once."""
    rules = attrs.evolve(RULES, lists_fills=True)
    stage = stages(attrs.evolve(USUAL, rules=rules, numbers_moments=False, lags=ReadingLags(**{lag: 30.0})))
    stage.pass_time(40)
    stage.submit(order())

    def is_shown(at: tuple[str, Any, bool]) -> bool:
        if at[2]:
            return stage.wait(stage.broker.find("o1")) is not None
        return bool(at[1](stage.wait(stage.broker.snapshot(stage.session.open))))

    stage.pass_time(5)
    assert {is_shown((lag, seen, by_id)) for _ in range(20)} == {True, False}
    assert all(is_shown(other) for other in LAGS if other[0] != lag)
    stage.pass_time(30)
    assert all(is_shown((lag, seen, by_id)) for _ in range(20))


def test_the_stream_is_behind_and_keeps_its_order(stages: Make) -> None:
    """Each event comes up to the seconds of its lag later, and never before one that was earlier."""
    stage = stages(attrs.evolve(USUAL, lags=ReadingLags(events_s=30.0)))
    for number in range(5):
        stage.submit(order(f"o{number}"))
    assert len(stage.poll_after(5)) < 10
    events = [event for _ in range(30) for event in stage.poll_after(1)]
    assert [event.client_order_id for event in events] == sorted(event.client_order_id for event in events)
    assert len(stage.matching.timed_events) == 10


def test_a_bracket_that_was_read_late_is_shown_as_it_was(stages: Make) -> None:
    """A stop is shown with the quantity that it covered then, also where its entry filled since."""
    rules = attrs.evolve(RULES, brackets=True)
    stage = stages(attrs.evolve(USUAL, rules=rules))
    stop = attrs.evolve(order("stop"), leg=Leg.STOP, buy=False, type=OrderType.STOP, stop_price=Decimal(18))
    stage.submit(attrs.evolve(order(rests=True), protection=(stop,)))
    stage.pass_time(10)
    stage.trade_at(Decimal(14))
    filled_at = stage.matching.orders[0].changed
    before = stage.exchange.snapshot(stage.session.open, ReadingLags.of_lists(stage.matching.now - filled_at + 1))
    after = stage.exchange.snapshot(stage.session.open, ReadingLags.of_lists(stage.matching.now - filled_at))
    assert [one.filled for one in before.orders] == [0, 0]
    assert before.holdings == ()
    assert after.holdings
    assert int(before.barrier) < int(after.barrier)


def readings(stage: SmallWorld) -> list[AccountSnapshot]:
    """Readings of an account that bought twice; one of its orders still rests."""
    for cid, rests in (("o1", False), ("o2", False), ("o3", True)):
        stage.submit(order(cid, rests=rests))
    stage.matching.write("fee", atoms=-1)
    stage.matching.write("fee", atoms=-1)
    return [stage.wait(stage.broker.snapshot(stage.session.open)) for _ in range(30)]


@pytest.mark.parametrize(
    ("fault", "arrived"), [("F113", [(0, 3, 2), (1, 0, 2), (1, 3, 0)]), ("F114", [(0, 3, 2), (1, 1, 2), (1, 3, 1)])]
)
def test_f113_f114_a_list_is_empty_or_lacks_a_page(stages: Make, fault: str, arrived: list[tuple[int, ...]]) -> None:
    """One list at a time, and without a sign: holdings, orders, or activities."""
    shown = readings(stages(**{fault: 1.0}))
    assert sorted({(len(one.holdings), len(one.orders), len(one.activities)) for one in shown}) == arrived


def test_f115_a_row_that_cannot_be_read_makes_the_reading_unavailable(stages: Make) -> None:
    """A missing field or an unknown status is never read as a value, in a list, an account or a look-up."""
    stage = stages(F115=1.0)
    for reading in (stage.broker.snapshot(stage.session.open), stage.broker.account(), stage.broker.find("o1")):
        with pytest.raises(Unavailable, match="status that is not known"):
            stage.wait(reading)


def test_f116_a_quantity_or_an_amount_is_absurd_and_another_one_each_time(stages: Make) -> None:
    """In one holding, or in all amounts of the account."""
    stage = stages()
    (right, *_) = readings(stage)
    stage.faults.rates["F116"] = 1.0
    assert stage.wait(stage.broker.account()).equity >= 100 * right.account.equity
    shown = [stage.wait(stage.broker.snapshot(stage.session.open)) for _ in range(20)]
    quantities = {one.holdings[0].quantity / right.holdings[0].quantity for one in shown}
    amounts = {one.account.cash / right.account.cash for one in shown}
    assert min(quantities) == min(amounts) == 1
    assert min(*quantities - {Decimal(1)}, *amounts - {Decimal(1)}) >= 100
    assert len(quantities) + len(amounts) > 15


KINDS = {"F117": Leg.ENTRY, "F118": Leg.STOP, "F119": Leg.EXIT}


@pytest.mark.parametrize("fault", KINDS)
def test_f117_f118_f119_an_order_is_answered_with_a_status(fault: str) -> None:
    """Of its kind alone, some in a row: refused or unknown; it is booked or not, and refused for good only if not."""
    seen = set()
    for seed in range(60):
        stage = SmallWorld(USUAL, {fault: 1.0}, seed=seed)
        for leg in Leg:
            cid = f"{leg.value}-1"
            try:
                stage.submit(attrs.evolve(order(cid, rests=True), leg=leg))
            except (OutcomeUnknown, Rejected) as error:
                assert leg is KINDS[fault] or {leg, KINDS[fault]} == {Leg.TARGET, Leg.EXIT}
                stage.pass_time(0)
                booked = stage.matching.find(cid) is not None
                seen.add((type(error), getattr(error, "meaning", None), booked))
        stage.close()
    meanings = [RejectionMeaning.DUPLICATE_ID] + [RejectionMeaning.INSUFFICIENT_QUANTITY] * (fault != "F117")
    either = {(Rejected, meaning, booked) for meaning in meanings for booked in (True, False)}
    assert seen == either | {(OutcomeUnknown, None, True), (OutcomeUnknown, None, False), (Rejected, None, False)}


@pytest.mark.parametrize("fault", ["F120", "F121"])
def test_f120_f121_a_replace_and_a_cancel_are_answered_with_a_status(fault: str) -> None:
    """The order is changed or not, and after a refusal it is not."""
    seen = set()
    for seed in range(40):
        stage = SmallWorld(REPLACING, {fault: 1.0}, seed=seed)
        stage.submit(order(rests=True))
        changed = attrs.evolve(order(rests=True), limit_price=Decimal(14))
        try:
            stage.wait(stage.broker.cancel("o1") if fault == "F121" else stage.broker.replace("o1", changed))
        except (OutcomeUnknown, Rejected) as error:
            stage.pass_time(0)
            seen.add((type(error), len(stage.matching.books.facts) > 1))
        stage.close()
    assert seen == {(OutcomeUnknown, True), (OutcomeUnknown, False), (Rejected, False)}


def test_answers_with_a_status_come_also_in_the_last_minutes() -> None:
    """They begin ten minutes longer than any other fault, until two minutes before the close."""
    faults = SeedFaults(RandomStreams(0), (), rates={"F118": 1.0, "F60": 1.0}, until=1_000.0)
    assert 1_000.0 < faults.planned("F118", 900.0, 9_999.0)[-1][0] < 1_600.0
    assert all(begins < 1_000.0 for begins, _ in faults.planned("F60", 900.0, 9_999.0))


def test_a_unique_id_is_refused_a_second_time_whatever_became_of_the_first(stages: Make) -> None:
    """Where the venue declares it: also an order that has ended, with the meaning that the bot must look it up."""
    stage = stages(
        attrs.evolve(USUAL, rules=attrs.evolve(RULES, unique_client_order_id=True), dedupe_window_s=86_400.0)
    )
    stage.submit(order(rests=True))
    stage.wait(stage.broker.cancel("o1"))
    with pytest.raises(Rejected, match="must be unique") as refused:
        stage.submit(order(rests=True))
    assert refused.value.meaning is RejectionMeaning.DUPLICATE_ID


@pytest.mark.parametrize(
    ("leg", "unique", "after_s"),
    [(Leg.ENTRY, False, 300), (Leg.STOP, True, 300), (Leg.STOP, False, 3), (Leg.EXIT, False, 3)],
)
def test_f4_a_late_stop_or_exit_is_listed_within_what_is_declared(
    stages: Make, leg: Leg, after_s: float, *, unique: bool
) -> None:
    """Unless its id is refused a second time, so that the same order can be sent again."""
    rules = attrs.evolve(RULES, unique_client_order_id=unique, list_lag_s=5.0)
    lags = ReadingLags(orders_s=2.0, lookup_s=1.0)
    stage = stages(attrs.evolve(USUAL, rules=rules, lags=lags, numbers_moments=False), F4=1.0)
    sent = stage.loop.time()
    with pytest.raises(OutcomeUnknown):
        stage.submit(attrs.evolve(order(rests=True), leg=leg))
    stage.pass_time(301)
    (working,) = stage.matching.orders
    assert working.accepted_at - sent == pytest.approx(after_s, abs=0.1)


def test_f122_profiles_keep_what_they_declare() -> None:
    """Ids are unique where they are refused for the whole day, and no reading lags more than is declared."""
    streams = [RandomStreams(seed) for seed in range(200)]
    profiles = [with_lags(random_profile(one, "alpha"), one.stream("lags")) for one in streams]
    assert {one.rules.unique_client_order_id for one in profiles} == {True, False}
    assert {one.rules.list_lag_s for one in profiles} == {1.0, 5.0, 15.0, 30.0}
    for one in profiles:
        assert one.rules.unique_client_order_id is (one.dedupe_window_s == 86_400.0)
        assert all(0.0 <= lag <= one.rules.list_lag_s for lag in attrs.astuple(one.lags))
    assert all(any(getattr(one.lags, name) > 10 for one in profiles) for name in attrs.asdict(ReadingLags()))


def test_f64_an_order_falls_into_a_partition_that_begins_with_it(stages: Make) -> None:
    """It is unknown while nothing can be asked."""
    stage = stages()
    stage.way.ambush(stage.loop.time())
    with pytest.raises(OutcomeUnknown):
        stage.submit(order())
    with pytest.raises(Unavailable):
        stage.wait(stage.broker.snapshot(stage.session.open))
    stage.pass_time(120)
    stage.submit(order("o2"))
    assert stage.faults.injected == {"F64": 1}


def test_f51_the_balance_is_in_another_currency(stages: Make) -> None:
    """In both readings that show money."""
    stage = stages(F51=1.0)
    assert stage.wait(stage.broker.account()).currency == "EUR"
    assert stage.wait(stage.broker.snapshot(stage.session.open)).account.currency == "EUR"


TROUBLES: list[tuple[str, type[BrokerError], bool, type[BrokerError] | None]] = [
    ("F6", Unavailable, False, Unavailable),
    ("F7", Unavailable, False, Unavailable),
    ("F8", Unavailable, False, Unavailable),
    ("F12", Unavailable, True, None),
    ("F13", Rejected, True, Rejected),
    ("F59", OutcomeUnknown, True, OutcomeUnknown),
    ("F60", OutcomeUnknown, True, OutcomeUnknown),
    ("F61", OutcomeUnknown, True, OutcomeUnknown),
    ("F63", Unavailable, True, Unavailable),
]


@pytest.mark.parametrize(("fault", "error", "left", "cancels"), TROUBLES, ids=[fault for fault, *_ in TROUBLES])
def test_f6_f7_f8_f12_f13_f59_f60_f61_f63_a_trouble_on_the_way_stops_orders_while_it_lasts(
    troubled: Make, fault: str, error: type[BrokerError], left: bool, cancels: type[BrokerError] | None
) -> None:
    """F6 to F8, F12, F13, F59 to F61, F63: nothing arrives, then all is as before; F12 lets cancels through."""
    stage = troubled(fault)
    stage.submit(order("o0", rests=True))
    stage.pass_time(180 - stage.loop.time())
    with pytest.raises(error):
        stage.submit(order(rests=True))
    assert stage.way.requests[-1].left is left
    stage.pass_time(stage.loop.time() < 190 and 190 - stage.loop.time())
    if cancels is None:
        stage.wait(stage.broker.cancel("o0"))
    else:
        with pytest.raises((cancels, Unavailable)):
            stage.wait(stage.broker.cancel("o0"))
    stage.pass_time(300 - stage.loop.time())
    assert stage.matching.find("o1") is None
    stage.wait(stage.broker.connect())
    stage.submit(order("o2", rests=True))
    assert stage.matching.find("o2") is not None
    assert stage.faults.injected == {fault: 1}


def test_f58_the_stream_is_closed_as_soon_as_it_is_opened(troubled: Make) -> None:
    """Requests pass, and connecting again does not help while it lasts."""
    stage = troubled("F58")
    stage.pass_time(70)
    for _ in range(3):
        with pytest.raises(Unavailable):
            stage.wait(stage.broker.poll())
        stage.wait(stage.broker.connect())
    stage.submit(order())
    stage.pass_time(120)
    assert ("fill", "o1") in said(stage.poll_after())


def test_f59_a_dead_connection_is_silent_until_it_is_noticed(troubled: Make) -> None:
    """Then it must be made anew, which helps at once."""
    stage = troubled("F59")
    stage.pass_time(65)
    assert stage.poll_after(1) == []
    stage.pass_time(20)
    with pytest.raises(Unavailable, match="two heartbeats"):
        stage.wait(stage.broker.poll())
    stage.wait(stage.broker.connect())
    stage.submit(order())
    assert ("fill", "o1") in said(stage.poll_after())


def test_f60_f61_a_partition_is_noticed_and_only_f60_cuts_readings(troubled: Make) -> None:
    """After a while nothing is sent any more; what happened meanwhile is reported once it is over."""
    for fault, readable in (("F60", False), ("F61", True)):
        stage = troubled(fault)
        stage.submit(order(rests=True))
        stage.pass_time(210 - stage.loop.time())
        with pytest.raises(Unavailable):
            stage.submit(order("o2"))
        assert not stage.way.requests[-1].left
        if readable:
            stage.wait(stage.broker.account())
        else:
            with pytest.raises(Unavailable):
                stage.wait(stage.broker.account())
        stage.trade_at(Decimal(14))
        stage.pass_time(60)
        assert ("fill", "o1") in said(stage.poll_after())


def test_f62_a_slow_link_answers_in_time_all_the_same(troubled: Make) -> None:
    """Five seconds more for each request."""
    stage = troubled("F62")
    stage.pass_time(70)
    before = stage.loop.time()
    stage.submit(order())
    assert 5 < stage.loop.time() - before < TIMEOUT_S


def test_a_permit_is_redeemed_just_before_the_request_leaves(stages: Make) -> None:
    """After the wait for its turn, so that a kill in between holds it back."""
    stage = stages()
    killed = False
    sent = order()

    async def send() -> None:
        nonlocal killed
        task = asyncio.create_task(stage.broker.submit(sent, SendPermit(sent, lambda _: "killed" if killed else "")))
        await asyncio.sleep(0)
        killed = True
        await task

    with pytest.raises(Withdrawn):
        stage.wait(send())
    assert [request.kind for request in stage.way.requests] == ["connect"]


def test_a_request_that_has_left_arrives_though_its_caller_gave_up(stages: Make) -> None:
    """A bot that is cancelled, or crashes, has an order at the venue."""
    stage = stages()

    async def crash() -> None:
        task = asyncio.create_task(stage.broker.submit(order(), SendPermit(order(), never_refuse)))
        await asyncio.sleep(0.006)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stage.wait(crash())
    assert stage.poll_after(1)
    assert stage.matching.find("o1") is not None


def test_another_client_receives_nothing_of_what_was_before_it(stages: Make) -> None:
    """After a restart the past is found by reading, the rest by the stream."""
    stage = stages()
    stage.submit(order(rests=True))
    again = SimulatedBroker(stage.way, stage.clock)
    with pytest.raises(Unavailable, match="not connected"):
        stage.wait(again.poll())
    stage.wait(again.connect())
    stage.pass_time(1)
    assert stage.wait(again.poll()) == []
    stage.wait(again.cancel("o1"))
    stage.pass_time(1)
    assert said(list(stage.wait(again.poll()))) == [("cancelled", "o1")]


def test_a_venue_that_cancels_by_its_own_ids_must_have_reported_them(stages: Make) -> None:
    """A client that knows no id of the venue's for an order reads first."""
    stage = stages(attrs.evolve(USUAL, cancels_by_cid=False))
    stage.submit(order(rests=True))
    again = SimulatedBroker(stage.way, stage.clock)
    stage.wait(again.connect())
    with pytest.raises(Unavailable, match="not known"):
        stage.wait(again.cancel("o1"))
    stage.wait(again.snapshot(stage.session.open))
    stage.wait(again.cancel("o1"))
    assert stage.matching.open == []


def test_the_venue_counts_requests(stages: Make) -> None:
    """One too many in a minute is turned away, and says how long to wait; a minute later all is well."""
    stage = stages(attrs.evolve(USUAL, rules=attrs.evolve(RULES, requests_per_minute=5)))
    stage.pass_time(60)
    for number in range(5):
        stage.submit(order(f"o{number}", rests=True))
    with pytest.raises(Unavailable, match="429") as refused:
        stage.submit(order("o5", rests=True))
    assert refused.value.retry_after_s is not None
    assert 55 < refused.value.retry_after_s <= 60
    stage.pass_time(refused.value.retry_after_s)
    stage.submit(order("o6", rests=True))
    assert [request.outcome for request in stage.way.requests][-2:] == ["429", "ok"]


def test_a_closed_client_receives_nothing(stages: Make) -> None:
    """What rests stays at the venue."""
    stage = stages()
    stage.submit(order(rests=True))
    stage.wait(stage.broker.close())
    with pytest.raises(Unavailable):
        stage.wait(stage.broker.poll())
    assert len(stage.matching.open) == 1


def test_only_a_venue_that_says_so_is_asked_for_an_order(stages: Make) -> None:
    """Elsewhere the method is absent."""
    assert not hasattr(stages(VenueProfile()).broker, "find")
    assert hasattr(stages(VenueProfile(rules=BrokerCapabilities(query_by_cid=True))).broker, "find")
