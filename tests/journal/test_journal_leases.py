"""Leases: one owner for each instrument, moved by what is known and never by guess."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.leases import FRESH, WITHIN, FailoverBlocker, Lease, Leases, RouteFailure

START = datetime(2026, 3, 3, 15, 0, tzinfo=UTC)
READ = START - timedelta(seconds=59)


@attrs.frozen
class Said(TypedEvent):
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
    """Let a lease move, as the journal tells it."""
    leases.apply(Said(records.LEASE, codec.write(leases.move(symbol, to, broken(since))), now))


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
    leases.apply(Said("decision", {}))
    leases.apply(Said(records.SESSION_OPENED, {}))
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
    """f64: an order in doubt forbids it, and so does a last reading that is a minute older than the break."""
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
