"""The invariants of protection see what is bare, claimed or turned to the other side at a venue, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEventKind
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import NewEvent
from tbot_core.model.types import UNITS_PER_SHARE, ExitReason, Leg, Order, OrderType
from tbot_core.rehearsal.bot import BotProcessResult
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.deadlines import DEADLINE_INVARIANTS
from tbot_core.rehearsal.invariants.external_events import EXTERNAL_EVENT_INVARIANTS
from tbot_core.rehearsal.invariants.outcomes import OUTCOME_INVARIANTS
from tbot_core.rehearsal.invariants.protection import PROTECTION_INVARIANTS, protection_of
from tbot_core.rehearsal.network import DeliveredReading, NetworkRequest
from tbot_core.rehearsal.venue_matching import fill_effect
from tbot_core.rehearsal.venue_profiles import ReadingLags, VenueProfile
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.testing.trades import journal_event, order, rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

FILLED = LEAD_S + 600.0
LAG_S = 5.0


class Day:
    """A day at one venue that is played by hand: what is sent takes effect at once, and each event is delivered."""

    def __init__(self) -> None:
        venue = VenueProfile(rules=BrokerCapabilities(list_lag_s=LAG_S, lists_closed=True))
        world = World(1, (), venues=1, minutes=60, character=venue)
        for path in world.market.paths.values():
            path.depth[:] = [10**6 * UNITS_PER_SHARE] * len(path.depth)
            path.halts.clear()
        self.symbol = world.market.symbols[0]
        self.life = BotProcessResult(acknowledged=[], last=0)
        self.history = RehearsalHistory(world=world, name=world.names[0], rules=rules(), lives=[self.life])
        self.way = world.ways[0]
        self.request("connect", "", 1.0)

    def request(self, kind: str, cid: str, at: float, outcome: str = "ok") -> None:
        """A request that arrived and was answered."""
        one = NetworkRequest(at=at, kind=kind, client_order_id=cid, reached=True, outcome=outcome, answered_at=at)
        self.way.requests.append(one)

    def deliver(self, at: float) -> None:
        """Every event that is not delivered yet."""
        self.way.exchange.advance(at)
        events = self.way.exchange.matching.timed_events[len(self.way.delivered) :]
        self.way.delivered += [(at, event) for _, event in events]

    def send(self, leg: Leg, at: float, name: str = "", *, reported: bool = True, shares: int = 10) -> Order:
        """An order of ours: a stop rests far below the market, all others fill at it."""
        one = attrs.evolve(
            order(leg, name or leg.value, symbol=self.symbol, quantity=f"{shares}", buy=leg is Leg.ENTRY),
            type=OrderType.STOP if leg is Leg.STOP else OrderType.MARKET,
            limit_price=None,
            stop_price=Decimal(1) if leg is Leg.STOP else None,
        )
        number, moment = len(self.history.events) + 1, self.history.world.start
        self.history.events.append(
            journal_event(number, records.INTENDED, codec.write(OrderIntended.of(one)), moment, one.client_order_id)
        )
        self.way.exchange.advance(at)
        self.request("submit", one.client_order_id, at)
        assert not self.way.exchange.submit(one).refusal
        if reported:
            self.deliver(at)
        return one

    def trade_by_hand(self, at: float, shares: int, *, buy: bool = False) -> None:
        """A person sells or buys, without an id of the bot."""
        self.way.exchange.advance(at)
        sale = order(Leg.EXIT, symbol=self.symbol, quantity=f"{shares}", buy=buy)
        by_hand = attrs.evolve(sale, client_order_id="", type=OrderType.MARKET, limit_price=None)
        self.way.exchange.submit(by_hand, ours=False)

    def claim(self, state: str, at: float) -> None:
        """The bot writes how its position is protected."""
        payload = {"symbol": self.symbol, "state": state, "since": "", "bare_s": 0.0, "emulated_s": 0.0}
        event = NewEvent(kind=records.PROTECTION, payload=payload, time=self.history.world.start)
        self.life.written.append((at, event))

    def words(self, checks: Sequence[Any], name: str) -> list[str]:
        """What one invariant says."""
        self.way.exchange.advance(self.way.exchange.matching.closes + 1)
        return [*next(check for check in checks if check.__name__ == f"_{name}")(self.history)]


@pytest.fixture
def day() -> Iterator[Day]:
    """A day without orders."""
    one = Day()
    yield one
    one.history.world.loop.finish()


@pytest.mark.parametrize(("after_s", "found"), [(14.0, 0), (16.0, 1)])
def test_a_position_may_be_bare_for_fifteen_seconds(day: Day, after_s: float, found: int) -> None:
    """From the event that shows its fill to the stop that works at the venue."""
    day.send(Leg.ENTRY, FILLED)
    day.send(Leg.STOP, FILLED + after_s)
    assert len(day.words(PROTECTION_INVARIANTS, "bare")) == found


def test_seconds_count_from_the_first_answer_that_shows_the_fill(day: Day) -> None:
    """An event that is late, or a list that is behind, shows it no earlier."""
    day.send(Leg.ENTRY, FILLED, reported=False)
    lags = ReadingLags(orders_s=10.0)
    for asked_at in (FILLED + 5.0, FILLED + 20.0):
        day.way.readings.append(DeliveredReading(asked_at=asked_at, read_at=asked_at, at=asked_at, lags=lags))
    day.send(Leg.STOP, FILLED + 30.0, reported=False)
    day.deliver(FILLED + 40.0)
    [one] = protection_of(day.history)
    assert (one.unseen_s, one.bare_s) == pytest.approx((20.0, 10.0), abs=0.001)


def test_f30_an_execution_under_a_used_id_is_shown_by_its_own_event(day: Day) -> None:
    """The event of the execution that had the id before shows nothing of it."""
    day.send(Leg.ENTRY, FILLED)
    day.send(Leg.STOP, FILLED + 1)
    matching, at = day.way.exchange.matching, FILLED + 20
    day.way.exchange.advance(at)
    entry = next(one for one in matching.orders if one.order.leg is Leg.ENTRY)
    again = attrs.evolve(entry.fills[-1], time=matching.moment(at))
    gained, paid = fill_effect(again)
    matching.write("execution", entry, units=gained, atoms=paid, fill=again)
    matching.report(BrokerEventKind.FILL, entry, fill=again)
    day.deliver(at + 20)
    day.send(Leg.STOP, at + 30, "again", shares=20)
    day.deliver(at + 31)
    [one] = protection_of(day.history)
    assert (one.unseen_s, one.bare_s) == pytest.approx((20.0, 11.0), abs=0.001)


@pytest.mark.parametrize("excuse", ["failed", "outage", "halted", "feed", "emulated", "dead", "contradicted"])
def test_seconds_in_which_nothing_can_be_done_are_not_counted(day: Day, excuse: str) -> None:
    """Failed requests, an outage, a halt, a stale feed, a death, a contradiction; nor those of an emulated stop."""
    world, until = day.history.world, FILLED + 60.0
    day.send(Leg.ENTRY, FILLED)
    match excuse:
        case "failed":
            for second in range(0, 60, 3):
                day.request("submit", "stop", FILLED + 1 + second, "503 service unavailable")
        case "outage":
            day.way.add_fault("F60", FILLED, until)
        case "halted":
            steps = int((FILLED - LEAD_S) // 5), int((until - LEAD_S) // 5)
            world.market.paths[day.symbol].halts.append(steps)
        case "feed":
            world.timetable.struck["F52"] = [(FILLED - 20, until)]
        case "emulated":
            day.claim("emulated", FILLED + 1)
        case "dead":
            day.history.deaths.append(FILLED + 1)
            day.request("connect", "", until)
        case _:
            day.send(Leg.STOP, FILLED + 1, "first")
            day.way.exchange.advance(FILLED + 2)
            day.way.exchange.matching.end(day.way.exchange.matching.orders[-1], BrokerEventKind.CANCELLED, "by hand")
            day.deliver(FILLED + 3)
    day.send(Leg.STOP, until + 10.0)
    assert day.words(PROTECTION_INVARIANTS, "bare") == []


def test_a_plan_whose_stop_is_on_closed_bars_has_none_at_a_venue(day: Day) -> None:
    """Nor is what was filled beyond a position one that needs a stop."""
    one = day.send(Leg.ENTRY, FILLED)
    day.send(Leg.STOP, FILLED + 1)
    day.send(Leg.EXIT, FILLED + 100, shares=14)
    [protection] = protection_of(day.history)
    assert protection.uncounted_s + protection.bare_s + protection.unseen_s == pytest.approx(1.0, abs=0.001)
    day.history.on_close = frozenset({one.signal.strategy})
    assert protection_of(day.history) == []


@pytest.mark.parametrize(("left", "closed", "found"), [(6, False, 0), (5, False, 1), (6, True, 0)])
def test_what_others_buy_after_they_sold_of_a_position_is_theirs(
    day: Day, left: int, found: int, *, closed: bool
) -> None:
    """It needs no stop of ours; what they left of the position does, until it is closed."""
    day.send(Leg.ENTRY, FILLED)
    day.trade_by_hand(FILLED, 4)
    day.send(Leg.STOP, FILLED + 1, shares=left)
    day.trade_by_hand(FILLED + 2, 9, buy=True)
    day.deliver(FILLED + 2)
    if closed:
        day.way.exchange.matching.end(day.way.exchange.matching.orders[-2], BrokerEventKind.CANCELLED)
        day.send(Leg.EXIT, FILLED + 3, shares=left)
    assert len(day.words(PROTECTION_INVARIANTS, "bare")) == found


def test_a_target_and_a_stop_of_the_other_side_protect_nothing(day: Day) -> None:
    """Only a working stop or exit that closes the position does."""
    day.send(Leg.ENTRY, FILLED)
    resting = order(Leg.TARGET, "target", symbol=day.symbol, quantity="10", buy=False, limit="9999")
    matching = day.way.exchange.matching
    matching.rest(matching.accept(resting))
    wrong = attrs.evolve(order(Leg.STOP, "wrong", symbol=day.symbol, quantity="10", buy=True), stop_price=Decimal(9999))
    matching.rest(matching.accept(attrs.evolve(wrong, type=OrderType.STOP, limit_price=None)))
    assert len(day.words(PROTECTION_INVARIANTS, "bare")) == 1


@pytest.mark.parametrize(("state", "found"), [("resting", 1), ("bare", 0), ("emulated", 0)])
def test_a_claim_that_the_venue_has_contradicted_is_found(day: Day, state: str, found: int) -> None:
    """A stop is not claimed to rest once its end was delivered."""
    matching = day.way.exchange.matching
    day.send(Leg.ENTRY, FILLED)
    day.send(Leg.STOP, FILLED + 1)
    day.claim("resting", FILLED + 1)
    day.way.exchange.advance(FILLED + 20)
    matching.end(matching.orders[-1], BrokerEventKind.CANCELLED)
    day.deliver(FILLED + 21)
    day.claim(state, FILLED + 21.5)
    day.send(Leg.STOP, FILLED + 30, "again")
    assert len(day.words(PROTECTION_INVARIANTS, "claimed")) == found


@pytest.mark.parametrize(
    ("sold", "by_hand_at", "exit_at", "found"),
    [
        (10, FILLED + 20, FILLED + 60, 1),
        (4, FILLED + 20, FILLED + 60, 1),
        (10, FILLED + 45, FILLED + 60, 0),
        (0, FILLED + 20, FILLED + 60, 0),
    ],
)
def test_an_exit_of_what_a_person_has_sold_is_found(
    day: Day, sold: int, by_hand_at: float, exit_at: float, found: int
) -> None:
    """Once the lists must have shown it: what was sold less than that before the exit, no bot could know."""
    day.send(Leg.ENTRY, FILLED)
    if sold:
        day.trade_by_hand(by_hand_at, sold)
    day.send(Leg.EXIT, exit_at)
    assert len(day.words(EXTERNAL_EVENT_INVARIANTS, "i12_opposite")) == found
    day.history.world.faults.injected["F49"] = 1
    assert day.words(EXTERNAL_EVENT_INVARIANTS, "i12_opposite") == []


@pytest.mark.parametrize(("reported_at", "found"), [(FILLED + 21, 1), (FILLED + 24.5, 0)])
def test_an_exit_of_what_an_event_reported_as_sold_is_found_at_once(day: Day, reported_at: float, found: int) -> None:
    """A second after the event nothing may leave, however far lists are behind."""
    day.send(Leg.ENTRY, FILLED)
    day.trade_by_hand(FILLED + 20, 10)
    day.deliver(reported_at)
    day.send(Leg.EXIT, FILLED + 25)
    assert len(day.words(EXTERNAL_EVENT_INVARIANTS, "i12_opposite")) == found


@pytest.mark.parametrize(
    ("asked_s", "by_us", "found"), [(LAG_S, False, 0), (LAG_S - 1, False, 1), (None, False, 1), (None, True, 0)]
)
def test_a_stop_that_was_taken_waits_for_a_list(day: Day, asked_s: float | None, found: int, *, by_us: bool) -> None:
    """One that was asked for as long after the cancel as lists may lag; what the bot takes away itself does not."""
    day.send(Leg.ENTRY, FILLED)
    stop, taken = day.send(Leg.STOP, FILLED + 1), FILLED + 20
    day.way.exchange.advance(taken)
    day.way.exchange.matching.end(day.way.exchange.matching.orders[-1], BrokerEventKind.CANCELLED, "by hand")
    if by_us:
        day.request("cancel", stop.client_order_id, taken)
    if asked_s is not None:
        at = taken + asked_s
        day.way.readings.append(DeliveredReading(asked_at=at, read_at=at, at=at + 1, lags=ReadingLags()))
    day.send(Leg.STOP, FILLED + 40, "again")
    assert len(day.words(EXTERNAL_EVENT_INVARIANTS, "i12_taken")) == found


@pytest.mark.parametrize(
    ("asked", "lost_s", "found"),
    [((1.0, LAG_S + 1), 10.0, 0), ((1.0, LAG_S), 10.0, 1), ((), 10.0, 1), ((), 601.0, 0)],
)
def test_an_exit_is_given_up_after_two_lists(day: Day, asked: tuple[float, ...], lost_s: float, found: int) -> None:
    """They are as far apart as lists may lag; one that is missed for the whole lookup window needs none."""
    one = day.send(Leg.EXIT, FILLED)
    for seconds in asked:
        at = FILLED + seconds
        day.way.readings.append(DeliveredReading(asked_at=at, read_at=at, at=at + 1, lags=ReadingLags()))
    lost = NewEvent(kind=records.LOST, payload={}, time=day.history.world.start, cid=one.client_order_id)
    day.life.written.append((FILLED + lost_s, lost))
    assert len(day.words(DEADLINE_INVARIANTS, "lost_listed")) == found
    day.way.requests[-1].outcome = "422 client_order_id must be unique"
    assert day.words(DEADLINE_INVARIANTS, "lost_listed") == []


@pytest.mark.parametrize(
    "why", ["works", "cancelled", "young", "filled", "trim", "killed", "halted", "died", "clock", "refused"]
)
def test_an_exit_that_works_three_minutes_before_the_close_is_sent_again(day: Day, why: str) -> None:
    """Unless it was sent just now, is no position's exit, or nothing can be done about it."""
    closes, path = day.way.exchange.matching.closes, day.history.world.market.paths[day.symbol]
    path.depth[:] = [0 if why != "filled" else UNITS_PER_SHARE] * len(path.depth)
    day.history.births, day.history.finished = [0.0], closes
    one = day.send(Leg.EXIT, closes - (185 if why == "young" else 400), "" if why != "trim" else "trim")
    match why:
        case "cancelled":
            day.request("cancel", one.client_order_id, closes - 179)
        case "trim":
            trim = codec.write(OrderIntended.of(attrs.evolve(one, reason=ExitReason.REBALANCE)))
            moment = day.history.world.start
            day.history.events[-1] = journal_event(1, records.INTENDED, trim, moment, one.client_order_id)
        case "killed":
            day.history.people.killed.append((closes - 200, closes))
        case "halted":
            path.halts.append((0, len(path.prices)))
        case "died":
            day.history.deaths.append(closes - 175)
        case "clock":
            day.history.world.faults.injected["F69"] = 1
        case "refused":
            day.way.requests[-1].outcome = "503 service unavailable"
    assert len(day.words(DEADLINE_INVARIANTS, "resent")) == (why == "works")


@pytest.mark.parametrize(
    ("leg", "unique", "after_s", "found"),
    [
        (Leg.ENTRY, True, 60.0, 1),
        (Leg.STOP, True, 1.0, 0),
        (Leg.EXIT, False, LAG_S + 1, 0),
        (Leg.EXIT, False, LAG_S - 1, 1),
    ],
)
def test_only_a_stop_or_exit_is_sent_again(day: Day, leg: Leg, after_s: float, found: int, *, unique: bool) -> None:
    """Under its id at once where the venue refuses it a second time, else once it must have been listed."""
    matching = day.way.exchange.matching
    declared = attrs.evolve(matching.character.rules, unique_client_order_id=unique)
    matching.character = attrs.evolve(matching.character, rules=declared)
    one = day.send(leg, FILLED)
    day.request("submit", one.client_order_id, FILLED + after_s)
    assert len(day.words(OUTCOME_INVARIANTS, "i1_sent")) == found
