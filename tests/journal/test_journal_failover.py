"""Leases move only where that is safe, drills are valid for their time, and each event of failover has its sentence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.codec import Payload
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.failover import (
    DRILL_VALID_FOR,
    FRESH,
    WITHIN,
    DrillStep,
    FailoverBlocker,
    FailoverDrill,
    Lease,
    Leases,
    RouteFailure,
    drill_objection,
    failover_event_text,
    latest_drill,
)
from tbot_core.journal.store import NewEvent

START = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)

READ = START - timedelta(seconds=59)


@attrs.frozen
class Recorded(TypedEvent):
    """An event."""

    kind: str
    payload: Mapping[str, Any]
    applied: datetime = START
    cid: str | None = None


def broken(since: datetime = START, **facts: Any) -> RouteFailure:
    """A break with all that is needed, but for what a test says."""
    return RouteFailure(
        **{"broker": "alpha", "since": since, "read": since - timedelta(seconds=59), "in_flight": 0, **facts}
    )


def moved(leases: Leases, symbol: str, to: str, since: datetime = START, now: datetime = START) -> None:
    """Let a lease move, as the journal records it."""
    leases.apply(Recorded(records.LEASE, codec.write(leases.move(symbol, to, broken(since))), now))


def test_every_instrument_belongs_to_the_primary_until_it_moves() -> None:
    """i13: one owner; a move counts one epoch on and names both brokers."""
    leases = Leases(primary="alpha")
    assert leases.of("SPY") == Lease(broker="alpha", epoch=0)
    assert codec.write(leases.move("SPY", "beta", broken())) == {
        "symbol": "SPY", "from": "alpha", "to": "beta", "epoch": 1, "since": START.isoformat(),
    }  # fmt: skip
    moved(leases, "SPY", "beta")
    moved(leases, "SPY", "alpha")
    moved(leases, "KO", "beta")
    assert leases.moved == {"KO": Lease(broker="beta", epoch=1), "SPY": Lease(broker="alpha", epoch=2)}
    assert leases.of("AMD") == Lease(broker="alpha")


def test_a_new_session_begins_at_the_primary() -> None:
    """Leases are a session's; so is what the flap guard remembers."""
    leases = Leases(primary="alpha")
    for minute in range(2):
        moved(leases, "SPY", "beta", START + timedelta(minutes=minute))
    leases.apply(Recorded("decision", {}))
    leases.apply(Recorded(records.SESSION_OPENED, {}))
    assert leases.moved == {}
    assert leases.may_move(broken(), START) is None


@pytest.mark.parametrize(
    ("facts", "against"),
    [
        ({}, None),
        ({"in_flight": 1}, FailoverBlocker.IN_FLIGHT),
        ({"read": None}, FailoverBlocker.UNREAD),
        ({"read": START - FRESH}, FailoverBlocker.UNREAD),
        ({"read": START + timedelta(seconds=5)}, None),
        ({"in_flight": 3, "read": None, "confirmed": True}, None),
    ],
)
def test_an_entry_moves_when_all_is_known_of_what_broke_or_a_person_has_said_it(
    facts: dict[str, Any], against: FailoverBlocker | None
) -> None:
    """f64: an unknown order forbids it, and so does a last reading that is a minute older than the break."""
    assert Leases(primary="alpha").may_move(broken(**facts), START) is against


def test_f66_two_breaks_an_hour_move_leases_and_a_third_moves_none() -> None:
    """The guard counts breaks: the same break may move any number of instruments, and an hour frees it again."""
    leases = Leases(primary="alpha")
    third = START + timedelta(minutes=40)
    moved(leases, "SPY", "beta", START, START)
    moved(leases, "KO", "beta", START, START)
    moved(leases, "SPY", "alpha", START + timedelta(minutes=20), START + timedelta(minutes=21))
    assert leases.may_move(broken(third), third) is FailoverBlocker.FLAPPING
    assert leases.may_move(broken(START), third) is None
    assert leases.may_move(broken(third), START + WITHIN) is None


NOW = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)

BROKERS = ("alpha", "beta")


@attrs.frozen
class RecordedDrill(TypedEvent):
    """An event."""

    kind: str
    payload: Payload
    applied: datetime
    cid: str | None = None


def drill(*passed: bool, days: float = 0.0, brokers: tuple[str, ...] = BROKERS) -> FailoverDrill:
    """A drill of so many steps, held so many days ago."""
    steps = tuple(DrillStep(what=f"step {number}", passed=one) for number, one in enumerate(passed))
    return FailoverDrill(brokers=brokers, settings="abc", time=NOW - timedelta(days=days), steps=steps)


def test_the_last_drill_of_the_same_brokers_in_their_order_counts() -> None:
    """One of other brokers, or of the same in another order, says nothing of these."""
    held = [drill(False, days=3), drill(True, days=2), drill(True, brokers=("beta", "alpha"))]
    drills = [RecordedDrill(records.DRILL, codec.write(one.event), one.time) for one in held]
    assert latest_drill([*drills, RecordedDrill(records.READY, {}, NOW)], BROKERS) == held[1]
    assert latest_drill(drills, ("alpha",)) is None


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "no failover drill was run with these brokers"),
        (drill(True, False, days=1), "the drill of 2026-03-02 failed"),
        (drill(True, days=DRILL_VALID_FOR.days), ""),
        (drill(True, days=DRILL_VALID_FOR.days + 0.01), "the last drill, of 2026-02-01, is older than 30 days"),
    ],
)
def test_a_drill_counts_for_thirty_days_when_every_step_was_passed(held: FailoverDrill | None, words: str) -> None:
    """The words say what is missing."""
    assert drill_objection(held, NOW) == words


NOW_FAILOVER_TEXT = dt.datetime(2026, 3, 3, 15, 0, tzinfo=dt.UTC)

STANDS = {"of": "alpha", "to": "beta", "why": ""}


@pytest.mark.parametrize(
    ("kind", "payload", "sentence"),
    [
        (
            records.CIRCUIT,
            {"of": "alpha", "state": "open"},
            "The circuit breaker of alpha is open: three requests",
        ),
        (records.LEASE, {"symbol": "SPY", "from": "alpha", "to": "beta"}, "Entries in SPY go to beta from now on"),
        (
            records.FAILOVER_CONFIRMED,
            {"of": "alpha", "actor": "ada", "amount": "6000", "reserved": "5000.5"},
            (
                "ada confirms that at most 6,000.00 are open at alpha, where 5,000.50 are reserved; entries may go "
                "to another broker"
            ),
        ),
        (records.STANDBY_ABSENT, {"of": "beta", "words": "401"}, "Login to beta failed"),
        (records.DRILL, {"brokers": ["alpha", "beta"], "passed": False}, "A drill of alpha, beta was not passed"),
        (records.FAILOVER, STANDS | {"phase": "entries go on"}, "alpha does not respond: entries go to beta"),
        (
            records.FAILOVER,
            STANDS | {"phase": "entries go on", "why": "FLAPPING"},
            "; no further leases move, because two outages within an hour have moved entries already",
        ),
        (
            records.FAILOVER,
            STANDS | {"phase": "the others only reduce", "why": "UNREAD"},
            "alpha does not respond, and beta only reduces: its account was not read in the minute before it failed",
        ),
        (
            records.FAILOVER,
            STANDS | {"phase": "no broker answers", "to": "", "why": "NO_OTHER"},
            "alpha does not respond, and no other broker is ready: entries are blocked",
        ),
        (records.FAILOVER, STANDS | {"phase": "over", "to": ""}, "alpha is proven to respond"),
    ],
)
def test_each_event_is_a_sentence_that_names_the_brokers(kind: str, payload: dict[str, Any], sentence: str) -> None:
    """Who broke, where entries go, and why they do not."""
    assert sentence in failover_event_text(NewEvent(kind=kind, time=NOW_FAILOVER_TEXT, payload=payload))
