"""What a journal says of arming: for which sessions, under which terms, and what ends it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from tbot_core.engine.session.arming import armed_event
from tbot_core.journal import codec, records
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.arming import (
    MOST_SESSIONS,
    NEVER,
    ArmingGrant,
    ArmingTerms,
    next_sessions,
    recall_arming,
)
from tbot_core.model.calendar import ExchangeCalendar

TERMS = ArmingTerms(mode="live", account="U1", settings="a1", plugins="b2")
MONDAY = dt.date(2026, 1, 5)
FRIDAY = dt.date(2026, 1, 9)
ARMED = ArmingGrant(terms=TERMS, sessions=(MONDAY, dt.date(2026, 1, 6)), actor="ann")


@attrs.frozen
class Told(TypedEvent):
    """An event."""

    kind: str
    payload: Mapping[str, Any] = attrs.field(factory=dict)
    cid: str | None = None
    applied: dt.datetime = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)


ARM = Told(records.ARMED, codec.write(armed_event(ARMED)))


def test_what_nobody_armed_is_not_armed() -> None:
    """An empty journal lets nothing be entered, and says why."""
    assert recall_arming(()).denial_reason(TERMS, MONDAY) == NEVER


def test_an_arming_holds_for_its_sessions() -> None:
    """It is read back as it was written, and names its last day on any other one."""
    found = recall_arming([ARM])
    assert found.armed == ARMED
    assert [found.denial_reason(TERMS, day) for day in ARMED.sessions] == ["", ""]
    assert found.denial_reason(TERMS, FRIDAY) == "it was armed until 2026-01-06"


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("mode", "the mode has changed"),
        ("account", "the account is a different one"),
        ("settings", "the settings have changed"),
        ("plugins", "the plugins have changed"),
    ],
)
def test_a_changed_term_ends_it(field: str, words: str) -> None:
    """Another mode, account, other settings or plugins have to be armed anew."""
    assert recall_arming([ARM]).denial_reason(attrs.evolve(TERMS, **{field: "other"}), MONDAY) == words


@pytest.mark.parametrize("what", ["daily loss latch", "losing run latch"])
def test_a_loss_latch_disarms_over_the_days(what: str) -> None:
    """The next session is not armed either, and the latch is named; an arming after it holds."""
    latch = Told(records.RISK, {"what": what, "cause": "the limit is reached"})
    assert recall_arming([ARM, latch]).denial_reason(TERMS, ARMED.sessions[1]) == f"{what}: the limit is reached"
    assert recall_arming([ARM, latch, ARM]).denial_reason(TERMS, MONDAY) == ""


def test_other_changes_of_risk_leave_it_armed() -> None:
    """A window's latch ends a window, defense makes trades smaller; neither disarms."""
    told = [Told(records.RISK, {"what": what, "cause": ""}) for what in ("window loss latch of open", "defense")]
    assert recall_arming([ARM, *told]).denial_reason(TERMS, MONDAY) == ""
    assert recall_arming([told[0]]).why == NEVER


def test_disarming_says_why() -> None:
    """What was said last counts."""
    disarm = Told(records.DISARMED, {"why": "requested by ann"})
    assert recall_arming([ARM, disarm]).denial_reason(TERMS, MONDAY) == "requested by ann"
    assert recall_arming([disarm, ARM]).denial_reason(TERMS, MONDAY) == ""


def test_restarts_are_counted_by_session() -> None:
    """A session that opens begins to count anew."""
    kept = Told(records.ARMING_KEPT, {"restarts": 1})
    assert recall_arming([ARM, kept, kept]).restarts == 2
    assert recall_arming([ARM, kept, Told(records.SESSION_OPENED), kept]).restarts == 1


def test_the_terms_of_the_last_live_session_are_known() -> None:
    """Armed or not: whoever is about to arm is told which account it is."""
    assert recall_arming([Told(records.LIVE_TERMS, attrs.asdict(TERMS))]).terms == TERMS


@pytest.mark.parametrize(
    ("now", "count", "days"),
    [
        ("2026-01-09T14:00", 1, ["2026-01-09"]),
        ("2026-01-09T20:59", 1, ["2026-01-09"]),
        ("2026-01-09T21:00", 1, ["2026-01-12"]),
        ("2026-01-10T12:00", 2, ["2026-01-12", "2026-01-13"]),
        ("2026-01-16T14:00", 3, ["2026-01-16", "2026-01-20", "2026-01-21"]),
    ],
)
def test_sessions_are_counted_by_the_calendar(now: str, count: int, days: list[str]) -> None:
    """From the session at hand, else from the next; week-ends and holidays have none."""
    moment = dt.datetime.fromisoformat(f"{now}+00:00")
    assert [day.isoformat() for day in next_sessions(ExchangeCalendar(), moment, count)] == days


@pytest.mark.parametrize("count", [0, -1, MOST_SESSIONS + 1])
def test_no_more_than_five_sessions_are_armed(count: int) -> None:
    """Nor fewer than one."""
    with pytest.raises(ValueError, match="cannot be armed: allowed are 1 to 5"):
        next_sessions(ExchangeCalendar(), dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC), count)
