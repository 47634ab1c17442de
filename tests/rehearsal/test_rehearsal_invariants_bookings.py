"""The invariants of when the bot may act see what breaks them, and nothing else."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import Event, NewEvent
from tbot_core.model.types import ExitReason, Leg, Order
from tbot_core.rehearsal.bot import BotProcessResult
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.deadlines import BOOKED_S, DEADLINE_INVARIANTS
from tbot_core.rehearsal.invariants.external_events import EXTERNAL_EVENT_INVARIANTS
from tbot_core.rehearsal.invariants.outcomes import OUTCOME_INVARIANTS
from tbot_core.rehearsal.network import NetworkRequest
from tbot_core.rehearsal.operator import OperatorActions, OperatorMode
from tbot_core.rehearsal.venue_matching import VenueFact
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.testing.trades import fill, identity, order, rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AT = LEAD_S + 120.0
WINDOW_S = 600.0


class Written:
    """The journal of one process and the facts of one venue, written by hand in seconds of the world."""

    def __init__(self) -> None:
        world = World(1, (), venues=1, minutes=60)
        self.history = RehearsalHistory(world=world, name=world.names[0], rules=rules(), births=[0.0], held={})
        self.life = BotProcessResult(acknowledged=[], last=0)
        self.history.lives.append(self.life)
        self.event(records.SESSION_OPENED, {"equity": "10000", "date": "2026-03-03", "symbols": 1}, at=LEAD_S)

    def moment(self, at: float) -> dt.datetime:
        """The time of a second of the world."""
        return self.history.world.start + dt.timedelta(seconds=at)

    def event(self, kind: str, payload: Mapping[str, Any], cid: str | None = None, at: float = AT) -> None:
        """Write an event at a second of the world."""
        time, seq = self.moment(at), len(self.history.events) + 1
        self.life.written.append((at, NewEvent(kind=kind, payload=payload, time=time, cid=cid)))
        self.history.events.append(
            Event(seq=seq, kind=kind, cid=cid, payload=payload, source=None, received=time, applied=time, hash=f"{seq}")
        )

    def order(self, leg: Leg = Leg.ENTRY, name: str = "entry", minute: int = 1, at: float = AT) -> Order:
        """An order of ten shares is written, and marked as being sent."""
        one = attrs.evolve(
            order(leg, name, symbol="A", quantity="10", limit="100"), signal=identity("A", minute=minute)
        )
        self.event(records.INTENDED, codec.write(OrderIntended.of(one)), name, at)
        self.event(records.SENDING, {}, name, at)
        return one

    def fact(self, kind: str, at: float, units: int, **terms: Any) -> None:
        """What happened at the venue."""
        self.history.facts.append(VenueFact(at=self.moment(at), kind=kind, symbol="A", units=units, **terms))

    def words(self, checks: Any, name: str) -> list[str]:
        """What one invariant says."""
        check = next(check for check in checks if check.__name__ == f"_{name}")
        return [*check(self.history)]


@pytest.fixture
def written() -> Iterator[Written]:
    """An empty journal."""
    one = Written()
    yield one
    one.history.world.loop.finish()


@pytest.mark.parametrize(("after", "count"), [(WINDOW_S - 1, 1), (WINDOW_S + 1, 0)])
def test_an_order_is_lost_only_after_its_lookup_window(written: Written, after: float, count: int) -> None:
    """Whatever the clock of the bot shows."""
    written.order()
    written.event(records.LOST, {"words": ""}, "entry", AT + after)
    written.event(records.LOST, {"words": ""}, "another account's", AT)
    assert len(written.words(DEADLINE_INVARIANTS, "lost")) == count


def test_the_wait_for_an_order_that_a_crash_left_is_not_known(written: Written) -> None:
    """The process that marked it crashed before it could say when."""
    written.order()
    written.life.written[:] = [it for it in written.life.written if it[1].kind != records.SENDING]
    written.event(records.LOST, {"words": ""}, "entry", AT)
    assert written.words(DEADLINE_INVARIANTS, "lost") == []


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("late", 1),
        ("never", 1),
        ("booked", 0),
        ("crashed", 0),
        ("closed", 0),
        ("another", 0),
        ("acknowledged", 0),
        ("reused", 0),
        ("elsewhere", 0),
    ],
)
def test_an_execution_that_was_received_is_booked(written: Written, kind: str, count: int) -> None:
    """Within seconds, by a process that lives on."""
    history, one = written.history, written.order()
    executed = fill(one, "100", "10", "x-1")
    at = history.way.exchange.matching.closes - 1 if kind == "closed" else AT
    cid = "another" if kind == "another" else "entry"
    event = BrokerEvent(kind=BrokerEventKind.FILL, event_id="e", client_order_id=cid, fill=executed)
    if kind == "acknowledged":
        event = attrs.evolve(event, kind=BrokerEventKind.ACKNOWLEDGED, fill=None)
    history.way.delivered.append((at, event))
    if kind in {"booked", "late"}:
        booked_at = AT + BOOKED_S + (1 if kind == "late" else -1)
        written.event(BrokerEventKind.FILL, {"words": ""} | codec.write(Adjustment.of(executed)), "entry", booked_at)
    if kind == "elsewhere":
        written.life.written.clear()
    if kind == "crashed":
        history.deaths.append(AT + 1)
    if kind == "reused":
        history.world.faults.injected["F30"] = 1
    assert len(written.words(DEADLINE_INVARIANTS, "delivered")) == count


@pytest.mark.parametrize(
    ("leg", "behind", "asked", "count"),
    [
        (Leg.ENTRY, 51.0, False, 1),
        (Leg.ENTRY, 49.0, False, 0),
        (Leg.EXIT, 300.0, False, 0),
        (Leg.ENTRY, 300.0, True, 0),
    ],
)
def test_a_signal_is_entered_soon_or_never(written: Written, leg: Leg, behind: float, asked: bool, count: int) -> None:
    """The limit holds from the end of its minute; a person may take longer to confirm it."""
    if asked:
        written.history.people = OperatorActions(manner=OperatorMode(timeout_s=300.0))
    written.order(leg, minute=1, at=LEAD_S + 120.0 + behind)
    assert len(written.words(DEADLINE_INVARIANTS, "late")) == count


@pytest.mark.parametrize("kind", [records.ADJUSTMENT, records.FOREIGN_HOLDING])
def test_what_is_called_external_has_a_cause_at_the_venue(written: Written, kind: str) -> None:
    """Somebody else traded the symbol before, or an execution was void; our own orders explain nothing."""
    written.fact("execution", AT - 5, 10, ours=True)
    written.event(kind, {"symbol": "A", "quantity": "10"})
    assert written.words(EXTERNAL_EVENT_INVARIANTS, "external") == [
        f"{kind} of 10 A at {AT:.0f} s, and no other order had traded it"
    ]
    written.fact("execution", AT - 1, 10)
    assert written.words(EXTERNAL_EVENT_INVARIANTS, "external") == []


@pytest.mark.parametrize("kind", ["nothing", "busted", "overfilled", "another broker"])
def test_what_explains_an_external_holding(written: Written, kind: str) -> None:
    """A holding of nothing needs no cause, and an overfill is not external."""
    payload = {"symbol": "A", "quantity": "0" if kind == "nothing" else "10"}
    if kind == "busted":
        written.fact("busted", AT - 1, -10, ours=True)
    if kind == "overfilled":
        written.history.world.faults.injected["F28"] = 1
    if kind == "another broker":
        payload["broker"] = "beta"
    written.event(records.FOREIGN_HOLDING, payload)
    assert written.words(EXTERNAL_EVENT_INVARIANTS, "external") == []


def test_an_entry_leaves_once(written: Written) -> None:
    """A request that did not leave does not count."""
    requests = written.history.way.requests
    requests += [
        NetworkRequest(at=AT, kind="submit", client_order_id="entry", left=False),
        NetworkRequest(at=AT, kind="submit", client_order_id="entry"),
        NetworkRequest(at=AT, kind="cancel", client_order_id="entry"),
    ]
    assert written.words(OUTCOME_INVARIANTS, "i1_sent") == []
    requests.append(NetworkRequest(at=AT + 60, kind="submit", client_order_id="entry"))
    assert written.words(OUTCOME_INVARIANTS, "i1_sent") == ["entry was sent again after 60.0 s"]


@pytest.mark.parametrize(("unique", "seconds", "count"), [(True, 0.5, 0), (False, 4.0, 1), (False, 6.0, 0)])
def test_a_stop_is_sent_again_where_its_id_is_refused_or_lists_must_have_shown_it(
    written: Written, unique: bool, seconds: float, count: int
) -> None:
    """Never sooner: it could be booked twice."""
    matching = written.history.way.exchange.matching
    rules = attrs.evolve(matching.character.rules, unique_client_order_id=unique, list_lag_s=5.0)
    matching.character = attrs.evolve(matching.character, rules=rules)
    written.order(Leg.STOP, "stop")
    sent = [NetworkRequest(at=AT + late, kind="submit", client_order_id="stop") for late in (0.0, seconds)]
    written.history.way.requests.extend(sent)
    assert len(written.words(OUTCOME_INVARIANTS, "i1_sent")) == count


@pytest.mark.parametrize(
    ("kind", "shares", "count"),
    [
        ("no_answer", 0, 1),
        ("fill", 4, 1),
        ("fill", 10, 0),
        ("cancelled", 0, 0),
        ("lost", 0, 0),
        ("dropped", 0, 0),
    ],
)
def test_an_exit_is_ordered_alone(written: Written, kind: str, shares: int, count: int) -> None:
    """Another one of the same position has to have ended, or to be lost."""
    one = written.order(Leg.EXIT, "exit-1")
    payload: dict[str, Any] = {"words": ""}
    if shares:
        payload |= codec.write(Adjustment.of(fill(one, "100", f"{shares}")))
    written.event(kind, payload, "exit-1")
    written.order(Leg.EXIT, "exit-2", minute=2)
    assert written.words(OUTCOME_INVARIANTS, "i12_beside") == []
    written.order(Leg.EXIT, "exit-3")
    assert len(written.words(OUTCOME_INVARIANTS, "i12_beside")) == count


@pytest.mark.parametrize(("reported", "count"), [(False, 1), (True, 0)])
def test_a_surplus_is_reported_by_the_end(written: Written, reported: bool, count: int) -> None:
    """Whether or not anything is entered after it."""
    written.order(Leg.ENTRY, "entry")
    stop = attrs.evolve(written.order(Leg.STOP, "stop"), reason=ExitReason.STOP)
    written.event("fill", {"words": ""} | codec.write(Adjustment.of(fill(stop, "100", "10"))), "stop")
    if reported:
        payload = {"cause": "SURPLUS", "state": "exit-only", "there": True, "words": ""}
        written.event(records.STATE, payload)
    assert len(written.words(EXTERNAL_EVENT_INVARIANTS, "i8_surplus")) == count
    written.history.held = None
    assert written.words(EXTERNAL_EVENT_INVARIANTS, "i8_surplus") == []
