"""What happens between brokers, in words that a person understands at once."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.failover_text import failover_event_text
from tbot_core.journal.store import NewEvent

NOW = dt.datetime(2026, 3, 3, 15, 0, tzinfo=dt.UTC)
STANDS = {"of": "alpha", "to": "beta", "why": ""}


@pytest.mark.parametrize(
    ("kind", "payload", "told"),
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
def test_each_event_is_a_sentence_that_names_the_brokers(kind: str, payload: dict[str, Any], told: str) -> None:
    """Who broke, where entries go, and why they do not."""
    assert told in failover_event_text(NewEvent(kind=kind, time=NOW, payload=payload))
