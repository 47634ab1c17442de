"""A journal says whether live trading is armed, and which entries wait for a confirmation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from tbot_core.engine.session.arming import armed_event
from tbot_core.journal import codec, records
from tbot_core.journal.codec import Payload
from tbot_core.journal.events.orders import ConfirmationAsked, SignalDecided
from tbot_core.journal.projection import TypedEvent
from tbot_core.journal.projections.approvals import (
    MOST_SESSIONS,
    NEVER,
    SHORTEST,
    ArmingGrant,
    ArmingTerms,
    PendingConfirmations,
    next_sessions,
    recall_arming,
    recall_confirmations,
    short_id,
)
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.reasons import Reason
from tbot_core.model.types import Side
from tbot_core.testing.trades import order, proposal
from tbot_core.trading.commands import Decision

TERMS = ArmingTerms(mode="live", account="U1", settings="a1", plugins="b2")

MONDAY = dt.date(2026, 1, 5)

FRIDAY = dt.date(2026, 1, 9)

ARMED = ArmingGrant(terms=TERMS, sessions=(MONDAY, dt.date(2026, 1, 6)), actor="ann")


@attrs.frozen
class Recorded(TypedEvent):
    """An event."""

    kind: str
    payload: Mapping[str, Any] = attrs.field(factory=dict)
    cid: str | None = None
    applied: dt.datetime = dt.datetime(2026, 1, 5, 15, 0, tzinfo=dt.UTC)


ARM = Recorded(records.ARMED, codec.write(armed_event(ARMED)))


def test_without_an_arming_nothing_is_armed() -> None:
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
    latch = Recorded(records.RISK, {"what": what, "cause": "the limit is reached"})
    assert recall_arming([ARM, latch]).denial_reason(TERMS, ARMED.sessions[1]) == f"{what}: the limit is reached"
    assert recall_arming([ARM, latch, ARM]).denial_reason(TERMS, MONDAY) == ""


def test_other_changes_of_risk_leave_it_armed() -> None:
    """A window's latch ends a window, defense makes trades smaller; neither disarms."""
    latches = [Recorded(records.RISK, {"what": what, "cause": ""}) for what in ("window loss latch of open", "defense")]
    assert recall_arming([ARM, *latches]).denial_reason(TERMS, MONDAY) == ""
    assert recall_arming([latches[0]]).why == NEVER


def test_disarming_says_why() -> None:
    """What was said last counts."""
    disarm = Recorded(records.DISARMED, {"why": "requested by ann"})
    assert recall_arming([ARM, disarm]).denial_reason(TERMS, MONDAY) == "requested by ann"
    assert recall_arming([disarm, ARM]).denial_reason(TERMS, MONDAY) == ""


def test_restarts_are_counted_by_session() -> None:
    """A session that opens begins to count anew."""
    kept = Recorded(records.ARMING_KEPT, {"restarts": 1})
    assert recall_arming([ARM, kept, kept]).restarts == 2
    assert recall_arming([ARM, kept, Recorded(records.SESSION_OPENED), kept]).restarts == 1


def test_the_terms_of_the_last_live_session_are_known() -> None:
    """Armed or not: the person who is about to arm reads which account it is."""
    assert recall_arming([Recorded(records.LIVE_TERMS, attrs.asdict(TERMS))]).terms == TERMS


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


NOON = dt.datetime(2026, 1, 5, 17, 0, tzinfo=dt.UTC)

LATER = NOON + dt.timedelta(seconds=60)


@attrs.frozen(kw_only=True)
class RecordedRequest(TypedEvent):
    """An event."""

    kind: str
    payload: Payload
    cid: str | None = None
    applied: dt.datetime = NOON


def asked(symbol: str) -> Payload:
    """An entry that somebody is asked about."""
    found = proposal(symbol)
    decision = Decision(proposal=found, reason=Reason.ALLOWED, order=order(symbol=symbol))
    return codec.write(ConfirmationAsked.asked(short_id(found.signal, ()), decision, LATER))


def test_a_name_is_short_and_its_own() -> None:
    """The same signal has the same one; where that is taken it grows by a sign."""
    signal = proposal("AAA").signal
    name = short_id(signal, ())
    assert (len(name), short_id(signal, ())) == (SHORTEST, name)
    assert short_id(signal, {name}) == short_id(signal, {name})
    assert short_id(signal, {name}).startswith(name)
    assert short_id(proposal("BBB").signal, ()) != name


def test_what_is_asked_says_what_would_be_sent() -> None:
    """Side, quantity, reference price and until when; without an order there is no quantity."""
    payload = asked("AAA")
    assert (payload["side"], payload["quantity"], payload["price"]) == (Side.LONG.word, "100", 100.0)
    assert payload["expires"] == LATER.isoformat()
    assert (
        codec.write(ConfirmationAsked.asked("x", Decision(proposal=proposal(), reason=Reason.ALLOWED), LATER))[
            "quantity"
        ]
        is None
    )


def test_an_entry_waits_until_it_is_decided_or_its_time_is_over() -> None:
    """The oldest first; a decision on another signal changes nothing."""
    waiting = PendingConfirmations()
    for symbol in ("AAA", "BBB", "CCC"):
        waiting.apply(RecordedRequest(kind=records.CONFIRMATION_ASKED, payload=asked(symbol)))
    for symbol in ("DDD", "BBB"):
        denied = Decision(proposal=proposal(symbol), reason=Reason.HALTED)
        waiting.apply(RecordedRequest(kind=records.DECISION, payload=codec.write(SignalDecided.of(denied))))
    assert [one["signal"]["symbol"] for one in waiting.open_entries(NOON)] == ["AAA", "CCC"]
    assert [one["reason"] for one in waiting.decided.values()] == ["HALTED"]
    assert waiting.open_entries(LATER) == []


def test_a_new_session_asks_anew() -> None:
    """What waited in the one before is gone."""
    waiting = PendingConfirmations()
    waiting.apply(RecordedRequest(kind=records.CONFIRMATION_ASKED, payload=asked("AAA")))
    waiting.apply(RecordedRequest(kind=records.SESSION_OPENED, payload={}))
    waiting.apply(RecordedRequest(kind=records.SENDING, payload={}))
    assert (waiting.entries, waiting.open_entries(NOON)) == ({}, [])


def test_a_journal_is_read_from_its_beginning() -> None:
    """Its events in their order come to what waits."""
    questions = (asked("AAA"), asked("BBB"))
    events = [RecordedRequest(kind=records.CONFIRMATION_ASKED, payload=payload) for payload in questions]
    assert [one["signal"]["symbol"] for one in recall_confirmations(events).open_entries(NOON)] == ["AAA", "BBB"]
