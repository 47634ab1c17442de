"""What the operator reads about several brokers and about bad data: how urgent, and what to run next."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.alerts.rules import AlertRules, FeedAlertRules, RoutineEvents, notices_of_event
from tbot_core.alerts.store import FAILOVER_CONFIRM_COMMAND, FAILOVER_DRILL_COMMAND, FAILOVER_STATUS_COMMAND
from tbot_core.contracts import Urgency
from tbot_core.journal import records
from tbot_core.journal.store import Event, NewEvent
from tbot_core.model.formatting import first_names

if TYPE_CHECKING:
    from tbot_core.alerts.store import Notice

NOW = dt.datetime(2026, 3, 3, 15, 0, tzinfo=dt.UTC)
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
    (notice,) = notices_of_event(NewEvent(kind=kind, time=NOW, payload=payload))
    assert (notice.urgency, notice.command) == (urgency, command)
    assert notice.what.endswith(".")


def test_a_drill_sends_no_notice() -> None:
    """Who held it has seen it."""
    drill = {"brokers": ["alpha"], "passed": True}
    assert list(notices_of_event(NewEvent(kind=records.DRILL, time=NOW, payload=drill))) == []


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


BELL = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
OPENED = {"date": "2026-11-24", "open": BELL.isoformat()}


class Story:
    """A watch that reads events along."""

    def __init__(self) -> None:
        self.watch = FeedAlertRules()
        self.event(records.SESSION_OPENED, OPENED)

    def event(self, kind: str, payload: dict[str, Any]) -> list[Notice]:
        """The next event."""
        event = Event(seq=1, kind=kind, cid=None, source=None, payload=payload, received=BELL, applied=BELL, hash="")
        return list(self.watch.apply(event))

    def incidents(self, *held: str) -> dict[str, Notice]:
        """What stands while these are held."""
        return {one.key: one for one in self.watch.open_incidents(held)}


def halt(symbol: str, *, halted: bool = True, words: str = "") -> dict[str, Any]:
    """A halt that begins or ends."""
    return {"symbol": symbol, "halted": halted, "level": 0, "words": words}


def denied(symbol: str, reason: str = "ANALYSIS_INCOMPLETE") -> dict[str, Any]:
    """A decision."""
    return {
        "signal": {"session": "2026-03-03", "strategy": "open", "symbol": symbol, "minute": 5, "rule": "break"},
        "reason": reason,
    }


def test_f53_a_gap_stands_until_it_is_filled() -> None:
    """It says how many minutes and which; what history has answered for is no longer counted."""
    story = Story()
    story.event(records.FEED_GAP, {"first": 3, "last": 5, "words": "no prices for 180 s"})
    (gap,) = story.incidents().values()
    assert gap.urgency is Urgency.ROUTINE
    assert gap.what.startswith(
        "The feed lost 3 minutes between 14:33 UTC (09:33 New York) and 14:36 UTC (09:36 New York)"
    )
    story.event(records.FEED_FILLED, {"minutes": [3, 4], "open": 1})
    assert story.incidents()["feed gap"].what.startswith("The feed lost 1 minute between 14:35 UTC")
    story.event(records.FEED_FILLED, {"minutes": [5], "open": 0})
    assert story.incidents() == {}


def test_f40_a_halt_stands_while_its_symbol_is_held() -> None:
    """The halt of a symbol that is not held sends no alert; the next command explains the symbol."""
    story = Story()
    story.event(records.HALT, halt("ACME", words="LULD"))
    assert story.incidents() == {}
    assert story.incidents("XYZ") == {}
    notice = story.incidents("ACME")["halt ACME"]
    assert notice.what == "ACME is halted (LULD) with an open position: exits wait, the stop keeps working."
    assert notice.command == "tbot why ACME"
    story.event(records.HALT, halt("ACME", halted=False))
    assert story.incidents("ACME") == {}


def test_a_halt_of_the_whole_market_names_what_is_held() -> None:
    """Whatever is held is in it."""
    story = Story()
    story.event(records.HALT, halt(""))
    assert story.incidents() == {}
    assert story.incidents("B", "A")["halt"].what == (
        "The whole market is halted; open positions: A, B: exits wait, stops keep working."
    )


def test_f41_the_third_level_is_reported_as_the_end_of_the_session() -> None:
    """Once, held or not, until the next session."""
    story = Story()
    third = halt("", words="MWCB") | {"level": 3}
    assert story.event(records.HALT, halt("", words="MWCB") | {"level": 2}) == []
    (sent_notice,) = story.event(records.HALT, third)
    assert sent_notice.what == "The whole market is halted to the close (level 3): the session has ended."
    assert story.event(records.HALT, third) == []
    assert story.incidents("A")["halt"].what.startswith(
        "The whole market is halted to the close (MWCB); open positions: A"
    )
    story.event(records.SESSION_CLOSED, {})
    story.event(records.SESSION_OPENED, OPENED)
    assert len(story.event(records.HALT, third)) == 1


def test_f57_a_disagreement_stands_until_both_agree() -> None:
    """Both prices are named."""
    story = Story()
    seen = {"symbol": "ACME", "feed": "10.3", "theirs": "10", "there": True}
    story.event(records.FEEDS_APART, seen)
    notice = story.incidents()["feeds apart ACME"]
    assert notice.what == "No entries in ACME: its price is 10.30 at the feed, 10.00 at the broker."
    story.event(records.FEEDS_APART, {**seen, "broker": "beta"})
    story.event(records.FEEDS_APART, {**seen, "there": False})
    (there,) = story.incidents().values()
    assert there.what == "No entries in ACME at beta: its price is 10.30 at the feed, 10.00 at beta."
    story.event(records.FEEDS_APART, {**seen, "broker": "beta", "there": False})
    assert story.incidents() == {}


def test_signals_without_their_analysis_are_reported_when_the_window_ends() -> None:
    """Once, with their symbols; other denials send no alert."""
    story = Story()
    story.event(records.DECISION, denied("ACME"))
    story.event(records.DECISION, denied("BETA"))
    story.event(records.DECISION, denied("CORP", "NO_QUOTE"))
    assert story.event(records.WINDOW_CLOSED, {"strategy": "mid"}) == []
    (sent_notice,) = story.event(records.WINDOW_CLOSED, {"strategy": "open"})
    assert sent_notice.what == (
        "ANALYSIS_INCOMPLETE: 2 signals of open not entered, "
        "because the feed lost a minute of the analysis: ACME, BETA."
    )
    assert sent_notice.command == "tbot why ACME"


def test_a_universe_that_was_cut_is_reported_once() -> None:
    """How many are left, by which limit, and the first of those that are not subscribed."""
    cut = [f"S{number}" for number in range(9)]
    (sent_notice,) = Story().event(records.UNIVERSE, {"kept": 30, "limit": 30, "by": "UNIVERSE_MAX", "cut": cut})
    assert sent_notice.what == (
        "UNIVERSE_TRUNCATED: 30 of 39 symbols are subscribed, by UNIVERSE_MAX of 30; dropped: S0, S1, S2, S3, "
        "S4, S5, S6, S7 and 1 more."
    )
    payload = {"kept": 1, "limit": 1, "by": "UNIVERSE_MAX", "cut": ["B"], "denied": {"VOLUME_LOW": ["C", "D"]}}
    (more,) = Story().event(records.UNIVERSE, payload)
    assert more.what == "UNIVERSE_TRUNCATED: 1 of 4 symbols are subscribed, by UNIVERSE_MAX of 1; dropped: B."


@pytest.mark.parametrize("kind", [records.SESSION_CLOSED, records.SESSION_OPENED])
def test_another_session_begins_anew(kind: str) -> None:
    """Nothing of the one before stands on."""
    story = Story()
    story.event(records.HALT, halt("ACME"))
    story.event(records.FEED_GAP, {"first": 3, "last": 5, "words": ""})
    story.event(records.FEEDS_APART, {"symbol": "ACME", "feed": "1", "theirs": "2", "there": True})
    story.event(kind, OPENED)
    assert story.incidents("ACME") == {}


def test_few_names_are_all_named() -> None:
    """In their order."""
    assert first_names(["B", "A"]) == "A, B"
