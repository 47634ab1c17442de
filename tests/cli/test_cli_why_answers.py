"""What `tbot why` says of sessions that a run does not have."""

from __future__ import annotations

import datetime as dt

import pytest

from tbot_core.status.why import recorded_sessions_text

DAYS = [f"2018-02-{day:02}" for day in (16, 20, 21, 22, 23, 26, 27)]


@pytest.mark.parametrize(
    ("days", "date", "near"),
    [
        (DAYS, "2018-02-24", "2018-02-22, 2018-02-23, 2018-02-26, 2018-02-27"),
        (DAYS, "2018-02-01", "2018-02-16, 2018-02-20"),
    ],
)
def test_a_session_that_is_not_there_is_answered_with_those_next_to_it(days: list[str], date: str, near: str) -> None:
    """How many there are, from when to when, and the nearest on either side; of a few all."""
    assert (
        recorded_sessions_text(days, dt.date.fromisoformat(date))
        == f"It has 7 sessions, 2018-02-16 to 2018-02-27; next to that day are {near}."
    )
    few = recorded_sessions_text(days[:2], dt.date(2018, 2, 19))
    assert few == "It has 2018-02-16, 2018-02-20."
