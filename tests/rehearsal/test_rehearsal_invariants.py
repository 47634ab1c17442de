"""The judges of a simulated world find what they look for, in stories that were made up."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.engine.control import ControlVerb
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import Event, NewEvent
from tbot_core.model.types import ExitReason, Leg, Order, units_of
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.rehearsal.history import RehearsalHistory, RequestWait
from tbot_core.rehearsal.invariants.all import violations
from tbot_core.rehearsal.invariants.approvals import APPROVAL_INVARIANTS, STOP_INVARIANTS
from tbot_core.rehearsal.invariants.external_events import EXTERNAL_EVENT_INVARIANTS
from tbot_core.rehearsal.invariants.limits import i18_starved
from tbot_core.rehearsal.invariants.outcomes import OUTCOME_INVARIANTS
from tbot_core.rehearsal.network import NetworkRequest
from tbot_core.rehearsal.operator import OperatorActions, OperatorAnswer, OperatorMode, SimulatedOperator
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.venue_matching import VenueFact
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.testing.trades import fill, journal_event, order, rules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


OPEN = dt.datetime(2026, 3, 3, 14, 30, tzinfo=dt.UTC)
ENTRY = codec.write(OrderIntended.of(order()))
SIGNAL = ENTRY["signal"]


def events_of(*said: tuple[str, dict[str, Any]]) -> list[Event]:
    """Events of the entry "entry", a second apart."""
    return [
        journal_event(number, kind, payload, OPEN + dt.timedelta(seconds=number), "entry")
        for number, (kind, payload) in enumerate(said, 1)
    ]


def story(
    events: Sequence[Event] = (), people: OperatorActions | None = None, *requests: NetworkRequest
) -> RehearsalHistory:
    """A story in a world without faults."""
    world = World(0, ())
    world.ways[0].requests += requests
    return RehearsalHistory(
        world=world, name=world.names[0], rules=rules(), people=people or OperatorActions(), events=[*events]
    )


def found(checks: Sequence[Any], of: RehearsalHistory) -> list[str]:
    """What judges say of a story."""
    return [words for check in checks for words in check(of)]


EXPIRES = OPEN + dt.timedelta(seconds=61)
QUESTION = {"id": "ab12", "signal": SIGNAL, "quantity": ENTRY["quantity"], "expires": EXPIRES.isoformat()}
ASKED = (records.CONFIRMATION_ASKED, QUESTION)
INTENDED = (records.INTENDED, ENTRY)


def answered(*verbs: tuple[ControlVerb, float]) -> OperatorActions:
    """People who are asked, and answer so many seconds after the bell."""
    answers = [
        OperatorAnswer(identity="ab12", verb=verb, made=OPEN + dt.timedelta(seconds=after)) for verb, after in verbs
    ]
    return OperatorActions(manner=OperatorMode(timeout_s=60.0), answers=answers)


@pytest.mark.parametrize(
    ("answers", "wrong"),
    [
        ([(ControlVerb.CONFIRM, 5.0)], 0),
        ([(ControlVerb.REJECT, 5.0)], 1),
        ([(ControlVerb.REJECT, 5.0), (ControlVerb.CONFIRM, 6.0)], 1),
        ([(ControlVerb.CONFIRM, 62.0)], 1),
        ([], 1),
    ],
)
def test_the_first_answer_in_time_counts(answers: list[tuple[ControlVerb, float]], wrong: int) -> None:
    """An entry needs it, and it has to be yes."""
    assert len(found(APPROVAL_INVARIANTS, story(events_of(ASKED, INTENDED), answered(*answers)))) == wrong


@pytest.mark.parametrize(("asked", "wrong"), [("100", 0), ("101", 0), ("99", 1)])
def test_an_entry_beyond_the_confirmed_quantity_is_found(asked: str, wrong: int) -> None:
    """Less may be sent than was confirmed, never more."""
    question = (records.CONFIRMATION_ASKED, QUESTION | {"quantity": asked})
    people = answered((ControlVerb.CONFIRM, 5.0))
    assert len(found(APPROVAL_INVARIANTS, story(events_of(question, INTENDED), people))) == wrong


@pytest.mark.parametrize(("late", "wrong"), [(30, 0), (90, 1)])
def test_an_entry_that_is_sent_after_the_expiry_is_found(late: int, wrong: int) -> None:
    """However early it was confirmed; what waits for the end of a minute may be a minute late."""
    expires = OPEN - dt.timedelta(seconds=late)
    question = (records.CONFIRMATION_ASKED, QUESTION | {"expires": expires.isoformat()})
    people = answered((ControlVerb.CONFIRM, -100.0))
    assert len(found(APPROVAL_INVARIANTS, story(events_of(question, INTENDED), people))) == wrong


def test_an_entry_without_a_confirmation_request_is_found() -> None:
    """Where people have to be asked; elsewhere no person is."""
    assert len(found(APPROVAL_INVARIANTS, story(events_of(INTENDED), answered()))) == 1
    assert not found(APPROVAL_INVARIANTS, story(events_of(INTENDED)))


TERMS = {"terms": {"mode": "live"}}
SENT: tuple[str, dict[str, Any]] = (records.SENDING, {})
ARMED = ((records.LIVE_TERMS, TERMS["terms"]), (records.ARMED, TERMS))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ((*ARMED, INTENDED, SENT), 0),
        ((INTENDED, SENT), 1),
        ((*ARMED, (records.DISARMED, {}), INTENDED, SENT), 1),
        ((*ARMED, (records.RISK, {"what": "daily loss latch"}), INTENDED, SENT), 1),
        ((*ARMED, (records.LIVE_TERMS, {"mode": "other"}), INTENDED, SENT), 1),
    ],
)
def test_an_entry_of_a_live_bot_needs_an_arming_that_holds(said: Any, wrong: int) -> None:
    """Of the bot as it is, and neither taken back nor ended by a latch."""
    assert (
        len(found(APPROVAL_INVARIANTS, story(events_of(*said), OperatorActions(manner=OperatorMode(live=True)))))
        == wrong
    )


def test_what_leaves_long_after_a_disarming_is_found() -> None:
    """Whatever the journal says."""
    people = OperatorActions(manner=OperatorMode(live=True), disarmed=[(100.0, float("inf"))])
    late = NetworkRequest(at=140.0, kind="submit", client_order_id="entry")
    (words,) = found(APPROVAL_INVARIANTS, story(events_of(*ARMED, INTENDED, SENT), people, late))
    assert words == "entry left 40 s after the bot was disarmed"


def test_what_was_dropped_and_has_left_is_found() -> None:
    """An order is written down as never sent only if it never was."""
    left = NetworkRequest(at=1.0, kind="submit", client_order_id="entry")
    dropped = events_of(INTENDED, (records.DROPPED, {"words": ""}))
    assert len(found(OUTCOME_INVARIANTS, story(dropped, None, left))) == 1
    assert not found(OUTCOME_INVARIANTS, story(dropped))


def test_an_end_without_a_report_is_found() -> None:
    """The venue has to have said so, or to have refused the order."""
    ended = events_of(INTENDED, ("cancelled", {"words": ""}))
    assert len(found(OUTCOME_INVARIANTS, story(ended))) == 1
    refused = NetworkRequest(at=1.0, kind="submit", client_order_id="entry", outcome="401 unauthorized")
    assert not found(OUTCOME_INVARIANTS, story(ended, None, refused))


def test_a_request_that_touches_what_is_not_ours_is_found() -> None:
    """Orders of others are left alone."""
    touched = NetworkRequest(at=1.0, kind="cancel", client_order_id="mobile-1")
    assert found(EXTERNAL_EVENT_INVARIANTS, story((), None, touched)) == ["cancel of mobile-1, which is not ours"]


def test_an_entry_right_after_the_clock_was_set_is_found() -> None:
    """In the life that saw it, and for a minute."""
    entry = NetworkRequest(at=130.0, kind="submit", client_order_id="entry")
    jumped = story(events_of(INTENDED), None, entry)
    jumped.world.jumps.append(100.0)
    jumped.births.append(20.0)
    assert found(EXTERNAL_EVENT_INVARIANTS, jumped) == ["entry left 30.0 s after the clock was set"]
    jumped.births.append(110.0)
    assert not found(EXTERNAL_EVENT_INVARIANTS, jumped)


def test_a_cancel_that_waits_for_others_is_found() -> None:
    """Three that come at once need three turns; one alone does not wait so long."""
    turns = [
        RequestWait(paced="a", urgency=RequestPriority.PROTECTION, began=0.0, ended=end, per_minute=60)
        for end in (1.4, 2.8, 4.2)
    ]
    whole = story()
    whole.turns += turns
    assert not [*i18_starved(whole)]
    whole.turns.append(RequestWait(paced="b", urgency=RequestPriority.PROTECTION, began=0.0, ended=4.2, per_minute=60))
    assert len([*i18_starved(whole)]) == 1


def test_people_differ_with_the_seed() -> None:
    """Some are asked, some have to arm their bot, most do neither."""
    manners = [OperatorMode.drawn(RandomStreams(seed)) for seed in range(400)]
    assert 50 < sum(one.timeout_s is not None for one in manners) < 120
    assert 60 < sum(one.live for one in manners) < 150


@pytest.mark.parametrize(
    ("symbol", "leg", "wrong"), [("AAA", "entry", 1), ("AAA", "exit", 1), ("AAA", "stop", 0), ("BBB", "entry", 0)]
)
def test_what_leaves_for_a_frozen_instrument_is_found(symbol: str, leg: str, wrong: int) -> None:
    """Entries and exits of just that symbol, until it is free again; what protects it may leave."""
    frozen = {"symbol": symbol, "there": True, "words": "unclear", "lasting": False}
    said: list[tuple[str, dict[str, Any]]] = [(records.INTENDED, ENTRY | {"leg": leg}), (records.FROZEN, frozen)]
    assert len(found(EXTERNAL_EVENT_INVARIANTS, story(events_of(*said, (records.SENDING, {}))))) == wrong
    said += [(records.FROZEN, frozen | {"there": False}), (records.SENDING, {})]
    assert found(EXTERNAL_EVENT_INVARIANTS, story(events_of(*said))) == []


def executed(kind: str, of: Order, shares: int, execution: str) -> tuple[str, str, dict[str, Any]]:
    """What the broker says of an execution."""
    return kind, of.client_order_id, {"words": ""} | codec.write(Adjustment.of(fill(of, "9", f"{shares}", execution)))


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ([("fill", 8, "1")], 0),
        ([("fill", 5, "1")], 0),
        ([("fill", 8, "1"), ("fill", 2, "2")], 1),
        ([("fill", 10, "1")], 1),
        ([("fill", 8, "1"), ("busted", 8, "1")], 1),
    ],
)
def test_an_entry_after_more_than_is_held_was_filled_is_found(said: list[tuple[str, int, str]], wrong: int) -> None:
    """What takes back is expected to leave less of what is too much; more, or the other side, has to be said."""
    stop = order(Leg.STOP, "stop", quantity="8")
    back = attrs.evolve(order(Leg.EXIT, "back", quantity="8", buy=True), reason=ExitReason.EXCESS)
    events: list[tuple[str, str, dict[str, Any]]] = [
        *((records.INTENDED, one.client_order_id, codec.write(OrderIntended.of(one))) for one in (order(), stop, back)),
        executed("fill", stop, 8, "1"),
    ]
    assert len(found(EXTERNAL_EVENT_INVARIANTS, story(of_orders(*events, SENDS)))) == 1
    events += [("state", "", {"cause": "SURPLUS", "state": "exit-only", "there": True, "words": ""})]
    assert found(EXTERNAL_EVENT_INVARIANTS, story(of_orders(*events, SENDS))) == []
    events += [executed(kind, back, shares, execution) for kind, shares, execution in said]
    assert len(found(EXTERNAL_EVENT_INVARIANTS, story(of_orders(*events, SENDS)))) == wrong


SENDS: tuple[str, str, dict[str, Any]] = (records.SENDING, "entry", {})


def of_orders(*said: tuple[str, str, dict[str, Any]]) -> list[Event]:
    """Events of several orders."""
    events = events_of(*((kind, payload) for kind, _, payload in said))
    return [attrs.evolve(event, cid=cid or None) for event, (_, cid, _) in zip(events, said, strict=True)]


@pytest.mark.parametrize(
    ("at", "left", "wrong"), [(104.0, True, 1), (101.0, True, 0), (104.0, False, 0), (210.0, True, 0)]
)
def test_an_entry_that_leaves_while_a_stop_stands_is_found(at: float, left: bool, wrong: int) -> None:
    """Two seconds after somebody asked for it, until it was taken back."""
    request = NetworkRequest(at=at, kind="submit", client_order_id="entry", left=left)
    people = OperatorActions(stopped=[(100.0, 200.0)])
    assert len(found(STOP_INVARIANTS, story(events_of(INTENDED), people, request))) == wrong


def test_what_a_stop_that_is_over_has_left_behind_is_found() -> None:
    """A position, an order that works by the journal, and one that rests at a venue that no fault kept from us."""
    held = executed("fill", order(), 100, "1")
    events = of_orders((records.INTENDED, "entry", ENTRY), (records.SENDING, "entry", {}), held)
    works = of_orders((records.INTENDED, "entry", ENTRY), (records.SENDING, "entry", {}))
    assert found(STOP_INVARIANTS, story(events)) == []  # no stop has ended it
    for of, words in ((events, "AAA is held"), (works, "entry works in the journal"), ([], "entry rests at a venue")):
        over = story(of)
        over.stopped = True
        if not of:
            matching = over.world.ways[0].exchange.matching
            matching.rest(matching.accept(order(name="entry", symbol=over.world.market.symbols[0], limit="0.01")))
        assert [one.partition(" after")[0] for one in found(STOP_INVARIANTS, over)] == [words]


def test_people_ask_for_stops_and_take_some_back(tmp_path: Path) -> None:
    """Nothing may be entered from what is asked on, but for defense, until that is taken back."""
    spans: list[list[tuple[float, float]]] = []
    for seed in range(120):
        world = World(seed, (), live=False, venues=1)
        if not RandomStreams(seed).stream("stop").happens(0.12):
            continue
        people = SimulatedOperator(world, tmp_path / str(seed))

        async def main(people: SimulatedOperator = people, world: World = world) -> None:
            people.begin()
            await world.clock.sleep(world.quiet_from + 700.0)

        world.run(main)
        spans.append(people.acts.stopped)
    ends = [until for one in spans for _, until in one]
    assert [one for one in spans if not one]  # defense
    assert float("inf") in ends
    assert [until for until in ends if until < float("inf")]


AIMED_AT = 85
"""A seed whose first entry is aimed at by a kill."""


@pytest.mark.parametrize(
    ("seed", "leg", "kills"), [(AIMED_AT, Leg.ENTRY, 1), (AIMED_AT, Leg.EXIT, 0), (0, Leg.ENTRY, 0)]
)
def test_a_kill_may_come_as_an_entry_leaves(tmp_path: Path, seed: int, leg: Leg, kills: int) -> None:
    """In some seeds the file is there between the mark of an entry and the moment at which it leaves."""
    world = World(seed, (), live=False)
    people = SimulatedOperator(world, tmp_path)

    async def main() -> None:
        people.begin()
        await world.clock.sleep(LEAD_S)
        for kind, payload in ((records.INTENDED, codec.write(OrderIntended.of(order(leg)))), (records.SENDING, {})):
            people.on_events([NewEvent(kind=kind, payload=payload, time=OPEN, cid="order")])
        await world.clock.sleep(0.01)

    world.run(main)
    assert len(people.acts.killed) == kills


@pytest.mark.parametrize(
    ("shares", "wrong"),
    [
        ([("execution", 4), ("execution", 6)], 0),
        ([("execution", 4), ("execution", 7)], 1),
        ([("execution", 4), ("busted", -4), ("execution", 10)], 0),
        ([("execution", 4), ("execution", 7), ("busted", -4)], 1),
        ([("execution", 10), ("corrected", 1)], 1),
    ],
)
def test_an_entry_that_has_bought_too_much_at_any_moment_is_found(shares: list[tuple[str, int]], wrong: int) -> None:
    """What was taken back and is filled anew was not bought twice; what is taken back too late was."""
    seen = story(events_of((records.INTENDED, codec.write(OrderIntended.of(order(quantity="10"))))))
    seen.world.ways[0].exchange.matching.books.facts += [
        VenueFact(at=OPEN, kind=kind, ours=True, client_order_id="entry", symbol="AAA", units=units_of(Decimal(count)))
        for kind, count in shares
    ]
    assert len([one for one in violations(seen) if one.startswith("I1:")]) == wrong
