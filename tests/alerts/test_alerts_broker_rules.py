"""What a person is told of several brokers: how urgent, and what to run next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tbot_core.alerts.broker_rules import (
    FAILOVER_CONFIRM_COMMAND,
    FAILOVER_DRILL_COMMAND,
    FAILOVER_STATUS_COMMAND,
    notices_of_event,
)
from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.contracts import Urgency
from tbot_core.journal import records
from tbot_core.journal.store import Event

GRAVE, ROUTINE = Urgency.CRITICAL, Urgency.ROUTINE
STANDS = {"of": "alpha", "to": "beta", "why": ""}


@pytest.mark.parametrize(
    ("kind", "payload", "urgency", "command"),
    [
        (records.CIRCUIT, {"of": "alpha", "state": "open"}, GRAVE, FAILOVER_STATUS_COMMAND),
        (records.CIRCUIT, {"of": "alpha", "state": "closed"}, ROUTINE, FAILOVER_STATUS_COMMAND),
        (records.LEASE, {"symbol": "SPY", "from": "alpha", "to": "beta"}, ROUTINE, FAILOVER_STATUS_COMMAND),
        (records.STANDBY_ABSENT, {"of": "beta", "words": "401"}, GRAVE, "tbot check"),
        (records.FAILOVER, STANDS | {"phase": "entries go on"}, GRAVE, FAILOVER_STATUS_COMMAND),
        (records.FAILOVER, STANDS | {"phase": "entries go on", "why": "FLAPPING"}, GRAVE, FAILOVER_STATUS_COMMAND),
        (
            records.FAILOVER,
            STANDS | {"phase": "the others only reduce", "why": "IN_FLIGHT"},
            GRAVE,
            FAILOVER_CONFIRM_COMMAND,
        ),
        (
            records.FAILOVER,
            STANDS | {"phase": "the others only reduce", "why": "NO_DRILL"},
            GRAVE,
            FAILOVER_DRILL_COMMAND,
        ),
        (records.FAILOVER, STANDS | {"phase": "no broker answers", "why": "NO_OTHER"}, GRAVE, FAILOVER_STATUS_COMMAND),
        (records.FAILOVER, STANDS | {"phase": "over"}, ROUTINE, FAILOVER_STATUS_COMMAND),
    ],
)
def test_each_notice_has_its_urgency_and_the_one_command(
    kind: str, payload: dict[str, Any], urgency: Urgency, command: str
) -> None:
    """f66, f67: a break, a move, a refusal to move, the guard and both down wake somebody; returns do not."""
    (notice,) = notices_of_event(kind, payload)
    assert (notice.urgency, notice.command) == (urgency, command)
    assert notice.what.endswith(".")


def test_a_drill_is_told_to_nobody_else() -> None:
    """Who held it has seen it."""
    assert list(notices_of_event(records.DRILL, {"brokers": ["alpha"], "passed": True})) == []


def test_a_cause_at_another_broker_is_an_incident_of_its_own() -> None:
    """It names the broker, and ends without ending the primary's."""
    watch, now = AlertRules(RoutineEvents()), datetime(2026, 3, 3, 15, 0, tzinfo=UTC)

    def event(seq: int, there: bool, **whose: str) -> None:
        payload = {"cause": "MISMATCH", "there": there, "state": "?", "words": "5 SPY", **whose}
        made = Event(
            seq=seq, kind=records.STATE, cid=None, source=None, payload=payload, received=now, applied=now, hash=""
        )
        watch.apply(made)

    event(1, True)
    event(2, True, broker="beta")
    found = watch.open_incidents(now)
    assert found.keys() == {"state MISMATCH", "state MISMATCH at beta"}
    assert found["state MISMATCH at beta"].what.startswith("Exit-only at beta: ")
    event(3, False, broker="beta")
    assert watch.open_incidents(now).keys() == {"state MISMATCH"}
