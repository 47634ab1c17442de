"""How a session's data are shown: in `tbot status`, and on the screen of a run."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tbot_core.cli.commands.status import feed_lines
from tbot_core.journal import records
from tbot_core.journal.projection import fold
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.marketdata.received_bars import RecordedMinute, RecordingHeader, SessionRecorder
from tbot_core.marketdata.received_files import FOLDER
from tbot_core.model.bars import FIELDS, MinuteSlice
from tbot_core.rehearsal.feed import facts_of_the_day
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStream
from tbot_core.rehearsal.world import short_day
from tbot_core.status.event_lines import event_words
from tbot_core.status.instance import feed_document
from tbot_core.testing.trades import journal_event

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.store import Event

_, SESSION = short_day(6)
UNIVERSE = {"kept": 1, "limit": 1, "by": "UNIVERSE_MAX", "cut": ["B", "C"]}
APART = {"symbol": "A", "feed": "10.3", "theirs": "10", "there": True}


def events_of(*said: tuple[str, dict[str, Any]]) -> list[Event]:
    """Events of a session that is open."""
    opened = (records.SESSION_OPENED, {"open": SESSION.open.isoformat()})
    return [
        journal_event(number, kind, payload, SESSION.open) for number, (kind, payload) in enumerate((opened, *said))
    ]


def recorded(data: Path) -> SessionRecorder:
    """A recording of one symbol."""
    facts = facts_of_the_day(SimulatedMarket.flat(200_000, ("A",), 6), RandomStream(0))
    header = RecordingHeader(session=SESSION, symbols=("A",), day=facts, source="acme", coverage="single_venue")
    return SessionRecorder.open(data / FOLDER, header)


def test_the_status_shows_feed_age_late_bars_and_what_is_wrong(tmp_path: Path) -> None:
    """All from the journal and the recording, so that it can be asked of a running bot."""
    minute = MinuteSlice(index=2, **dict.fromkeys((*FIELDS, "vwap"), np.ones(1)))
    recorded(tmp_path).append(RecordedMinute(minute=minute, at=SESSION.moment(3), counts={"late": 12, "revised": 1}))
    events = events_of(
        (records.UNIVERSE, UNIVERSE),
        (records.FEED_GAP, {"first": 0, "last": 1, "words": ""}),
        (records.HALT, {"symbol": "", "halted": True, "level": 1, "words": ""}),
        (records.HALT, {"symbol": "A", "halted": True, "level": 0, "words": ""}),
        (records.FEEDS_APART, APART),
    )
    shown = feed_document(tmp_path / FOLDER, fold(events, DataHealth()), SESSION.moment(3) + dt.timedelta(seconds=34))
    assert shown is not None
    assert list(feed_lines(shown)) == [
        "feed        acme, single venue: last bar 34 s ago, 12 late bars, 1 revised",
        "universe    1 of 3 symbols, by UNIVERSE_MAX of 1",
        "gaps        2 minutes lost and not backfilled",
        "halted      A, the whole market",
        "apart       feed and broker differ on A: no entries",
    ]


def test_the_age_of_a_dead_feed_is_that_of_its_last_bar(tmp_path: Path) -> None:
    """Minutes without a bar make it no younger, a clock that is behind makes no negative age; after the end none."""
    one, nothing = np.ones(1), np.full(1, np.nan)
    recording = recorded(tmp_path)
    for index, values in ((2, one), (3, nothing), (4, nothing)):
        minute = MinuteSlice(index=index, **dict.fromkeys((*FIELDS, "vwap"), values))
        recording.append(RecordedMinute(minute=minute, at=SESSION.moment(index + 1), counts={}))
    for seconds, words in ((150, "last bar 150 s ago"), (-0.3, "last bar 0 s ago")):
        now = SESSION.moment(3) + dt.timedelta(seconds=seconds)
        shown = feed_document(tmp_path / FOLDER, fold(events_of(), DataHealth()), now)
        assert shown is not None
        assert f": {words}, 0 late bars" in next(iter(feed_lines(shown)))
    ended = feed_document(tmp_path / FOLDER, fold(events_of(), DataHealth()), None)
    assert ended is not None
    assert ended["age_s"] is None
    assert list(feed_lines(ended, running=False)) == ["feed        acme, single venue: 0 late bars, 0 revised"]


def test_before_the_first_minute_there_is_no_age(tmp_path: Path) -> None:
    """The feed is named all the same."""
    recorded(tmp_path)
    shown = feed_document(tmp_path / FOLDER, fold(events_of(), DataHealth()), SESSION.open)
    assert shown is not None
    assert list(feed_lines(shown)) == ["feed        acme, single venue: no bar yet, 0 late bars, 0 revised"]


def test_without_a_session_or_a_recording_nothing_is_shown(tmp_path: Path) -> None:
    """A recording that holds nothing whole is none."""
    assert feed_document(tmp_path / FOLDER, fold([], DataHealth()), SESSION.open) is None
    shown = feed_document(tmp_path / FOLDER, fold(events_of(), DataHealth()), SESSION.open)
    assert shown is not None
    assert list(feed_lines(shown)) == []
    path = recorded(tmp_path).path
    path.write_bytes(b"torn")
    shown = feed_document(tmp_path / FOLDER, fold(events_of(), DataHealth()), SESSION.open)
    assert shown is not None
    assert shown["source"] is None


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (records.UNIVERSE, UNIVERSE, "UNIVERSE_TRUNCATED: 1 of 3 symbols, by UNIVERSE_MAX of 1"),
        (
            records.UNIVERSE,
            UNIVERSE | {"denied": {"VOLUME_LOW": ["D", "E"]}},
            "UNIVERSE_TRUNCATED: 1 of 5 symbols, by UNIVERSE_MAX of 1; filters deny 2 of the others",
        ),
        (
            records.FEED_GAP,
            {"first": 3, "last": 5, "words": "no prices for 180 s"},
            "Feed: no prices for 180 s, 3 minutes to backfill",
        ),
        (records.FEED_FILLED, {"minutes": [3], "open": 2}, "Feed: 1 minute backfilled, 2 still missing"),
        (records.HALT, {"symbol": "A", "halted": True, "level": 0, "words": "LULD"}, "A is halted (LULD)"),
        (records.HALT, {"symbol": "", "halted": False, "level": 0, "words": ""}, "The whole market is trading again"),
        (
            records.HALT,
            {"symbol": "", "halted": True, "level": 1, "words": "MWCB"},
            "The whole market is halted (level 1, MWCB)",
        ),
        (
            records.HALT,
            {"symbol": "", "halted": True, "level": 3, "words": ""},
            "The whole market is halted to the close (level 3)",
        ),
        (records.FEEDS_APART, APART, "A: feed and broker differ, 10.30 and 10.00"),
        (records.FEEDS_APART, {**APART, "there": False}, "A: feed and broker agree again, 10.30 and 10.00"),
    ],
)
def test_what_happens_to_the_data_is_said_in_a_line(kind: str, payload: dict[str, Any], words: str) -> None:
    """With its numbers."""
    assert event_words(journal_event(1, kind, payload, SESSION.open)) == words
