"""What a restart found and missed, from the journal alone."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.restarts import Restart, document
from tbot_core.testing.trades import journal_event

BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
OPENED: tuple[str, dict[str, Any]] = (records.SESSION_OPENED, {})
UNREAD = (records.STATE, {"cause": "UNRECONCILED", "there": True})
READ = (records.STATE, {"cause": "UNRECONCILED", "there": False})
LATE = (records.DECISION, {"reason": "SIGNAL_TOO_LATE"})


def document_after(*said: tuple[str, dict[str, Any]]) -> dict[str, Any] | None:
    """What these events say of a restart; each a minute after the one before."""
    found = Restart()
    for number, (kind, payload) in enumerate(said):
        found.apply(journal_event(number, kind, payload, BELL + dt.timedelta(minutes=number)))
    return document(found)


def test_a_session_that_was_begun_once_knows_no_restart() -> None:
    """A start before the bell, or in the midst of a session that was not opened, is none; nor one of yesterday."""
    assert document_after(UNREAD, READ, OPENED, LATE, ("fill", {})) is None
    assert document_after(OPENED, UNREAD, READ, (records.SESSION_CLOSED, {})) is None
    assert document_after(OPENED, UNREAD, READ, (records.SESSION_CLOSED, {}), OPENED) is None


def test_what_the_first_readings_report_is_found() -> None:
    """Fills and endings until the account is known; later ones are news. Missed are minutes, and signals too late."""
    gap = (records.FEED_GAP, {"first": 3, "last": 5})
    seen = document_after(OPENED, ("fill", {}), UNREAD, ("fill", {}), ("cancelled", {}), READ, ("fill", {}), gap, LATE)
    assert seen == {
        "at": (BELL + dt.timedelta(minutes=2)).isoformat(),
        "since": (BELL + dt.timedelta(minutes=1)).isoformat(),
        "found": {"cancelled": 1, "fill": 1},
        "missed_minutes": 3,
        "missed_signals": 1,
        "settled": True,
    }
    again = document_after(OPENED, UNREAD, ("fill", {}), READ, UNREAD)
    assert again is not None
    assert (again["found"], again["settled"]) == ({}, False)


@pytest.mark.parametrize("restarted", [True, False])
def test_a_restart_counts_the_minutes_that_it_missed(*, restarted: bool) -> None:
    """A gap of a session that only begins late is no restart."""
    seen = document_after(OPENED, *((UNREAD,) if restarted else ()), (records.GAP, {"from": 20, "to": 33}))
    assert (seen is not None) == restarted
    if seen is not None:
        assert seen["missed_minutes"] == 13
