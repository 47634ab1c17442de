"""The bars of a session as they were first received: kept minute by minute, and read back after any crash."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.errors import DataError
from tbot_core.marketdata.bar_aggregator import BarAmendment, BarArrival
from tbot_core.marketdata.received_bars import (
    RecordedMinute,
    RecordedSession,
    RecordingHeader,
    SessionRecorder,
    read_ends,
    read_recording,
)
from tbot_core.marketdata.received_files import recorded_file
from tbot_core.model.bars import FIELDS, MinuteSlice, Quotes, SymbolQuote
from tbot_core.rehearsal.feed import facts_of_the_day
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.rehearsal.random_streams import RandomStream
from tbot_core.rehearsal.world import short_day

if TYPE_CHECKING:
    from pathlib import Path

_, SESSION = short_day(6)
SYMBOLS = ("A", "B")
HEADER = RecordingHeader(
    session=SESSION,
    symbols=SYMBOLS,
    day=facts_of_the_day(SimulatedMarket.flat(200_000, SYMBOLS, 6), RandomStream(0)),
    source="acme",
    coverage="consolidated",
    cut=("C",),
)


def kept(index: int, close: float = 10.0, late: tuple[BarAmendment, ...] = (), **parts: object) -> RecordedMinute:
    """A minute in which only A traded."""
    prices = np.array([close, np.nan])
    minute = MinuteSlice(index=index, **dict.fromkeys(FIELDS, prices), vwap=np.full(2, np.nan))
    at = SESSION.moment(index + 1) + dt.timedelta(seconds=2)
    return attrs.evolve(RecordedMinute(minute=minute, late=late, at=at), **parts)  # type: ignore[arg-type]  # a test's keywords


def closes(found: RecordedSession) -> list[list[float]]:
    """The closing prices of every minute."""

    async def walked() -> list[list[float]]:
        return [minute.close.tolist() async for minute in found.minutes()]

    return asyncio.run(walked())


@pytest.mark.parametrize(("coverage", "partial"), [("consolidated", ""), ("single_venue", "AB"), ("", "")])
def test_a_recording_of_one_venue_has_partial_volume(tmp_path: Path, coverage: str, partial: str) -> None:
    """All of its symbols have, so that a repeated session fills as the first time."""
    recording = SessionRecorder.open(tmp_path, attrs.evolve(HEADER, coverage=coverage))
    recording.append(kept(0))
    assert read_recording(recording.path).partial_volume == set(partial)


def test_what_was_kept_is_read_back_whole(tmp_path: Path) -> None:
    """Bars, tags, counts and the facts of the day, bit by bit."""
    late = BarAmendment(minute=0, row=1, values=np.array([1.0, 2.0, 0.5, 1.5, 7.0, 1.25]), arrival=BarArrival.LATE)
    other = attrs.evolve(late, row=0, arrival=BarArrival.REVISED)
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(0, filled=True))
    recording.append(kept(1, 11.0, (late,), revised=(other,), counts={"late": 1}))
    assert recorded_file(tmp_path, SESSION.date) == recording.path
    found = read_recording(recording.path)
    assert found.header == HEADER
    read, kept_facts = found.day.arrays(), HEADER.day.arrays()
    assert read.keys() == kept_facts.keys()
    for name, value in kept_facts.items():
        np.testing.assert_array_equal(read[name], value)
    np.testing.assert_array_equal(closes(found), [[10.0, np.nan], [11.0, np.nan]])
    (one,), (revised,) = found.late(1), found.records[1].revised
    assert (one.minute, one.row, one.values.tolist(), one.arrival) == (0, 1, late.values.tolist(), BarArrival.LATE)
    assert (revised.row, revised.arrival) == (0, BarArrival.REVISED)
    assert (found.records[0].filled, found.records[1].filled, found.records[1].counts) == (True, False, {"late": 1})
    assert (found.late(0), found.late(5)) == ((), ())
    assert found.records[1].at == SESSION.moment(2) + dt.timedelta(seconds=2)


def test_the_quotes_of_a_decision_are_kept(tmp_path: Path) -> None:
    """Those of the symbols that had one; a minute in which none were looked at has none."""
    quotes = Quotes(bid=np.array([9.99, np.nan]), ask=np.array([10.01, np.nan]), age_s=np.array([1.5, np.nan]))
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(0, quotes=quotes))
    recording.append(kept(1))
    found = read_recording(recording.path)
    again = found.quotes(0)
    assert again is not None
    assert (again.of(0), again.of(1)) == (SymbolQuote(bid=9.99, ask=10.01, age_s=1.5), None)
    assert (found.quotes(1), found.quotes(7)) == (None, None)


def test_a_minute_that_never_came_is_without_bars(tmp_path: Path) -> None:
    """So that minutes keep their places."""
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(2))
    np.testing.assert_array_equal(closes(read_recording(recording.path)), [[np.nan] * 2, [np.nan] * 2, [10.0, np.nan]])


@pytest.mark.parametrize("lost", [1, 5, 40])
def test_what_a_crash_left_of_a_minute_is_passed_over(tmp_path: Path, lost: int) -> None:
    """The minutes before it stand, and the next bot goes on behind them."""
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(0))
    recording.append(kept(1))
    recording.path.write_bytes(recording.path.read_bytes()[:-lost])
    again = SessionRecorder.open(tmp_path, HEADER)
    assert again.path == recording.path
    assert again.previous is not None
    assert [one.minute.index for one in again.previous.records] == [0]
    again.append(kept(0, 99.0))
    again.append(kept(1, 12.0))
    np.testing.assert_array_equal(closes(read_recording(again.path)), [[10.0, np.nan], [12.0, np.nan]])


def test_a_damaged_minute_ends_what_is_believed(tmp_path: Path) -> None:
    """A bit that flipped is no price."""
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(0))
    size = recording.path.stat().st_size
    recording.append(kept(1))
    data = bytearray(recording.path.read_bytes())
    data[size + 20] ^= 1
    recording.path.write_bytes(data)
    assert len(read_recording(recording.path).records) == 1


def test_other_symbols_of_the_same_day_have_a_file_of_their_own(tmp_path: Path) -> None:
    """A bot that comes again with another universe overwrites nothing; the latest file is the one that is shown."""
    first = SessionRecorder.open(tmp_path, HEADER)
    facts = facts_of_the_day(SimulatedMarket.flat(200_000, ("A",), 6), RandomStream(0))
    second = SessionRecorder.open(tmp_path, attrs.evolve(HEADER, symbols=("A",), day=facts))
    assert first.path != second.path
    assert second.previous is None
    assert recorded_file(tmp_path, SESSION.date) == second.path
    ends = read_ends(first.path)
    assert (ends.header, ends.last, ends.with_bars) == (HEADER, None, None)


def test_a_day_has_at_most_999_files(tmp_path: Path) -> None:
    """A folder in which nothing more can be begun is named; what is in it stays as it is."""
    for number in range(1, 1000):
        name = f"{SESSION.date}{'' if number == 1 else f'-{number}'}.bars"
        (tmp_path / name).write_bytes(b"another's")
    with pytest.raises(DataError, match="holds 999 recordings"):
        SessionRecorder.open(tmp_path, HEADER)
    assert {one.read_bytes() for one in tmp_path.iterdir()} == {b"another's"}


def test_the_end_of_a_file_is_its_last_minute_and_the_last_one_with_a_bar(tmp_path: Path) -> None:
    """A feed that has died still closes minutes, without bars; that is all that the status needs."""
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.append(kept(0))
    recording.append(kept(3, counts={"late": 4}))
    ends = read_ends(recording.path)
    assert ends.header == HEADER
    assert ends.last is not None
    assert ends.with_bars is ends.last
    assert (ends.last.minute.index, ends.last.counts) == (3, {"late": 4})
    for index in (4, 5):
        nothing = MinuteSlice(index=index, **dict.fromkeys((*FIELDS, "vwap"), np.full(len(HEADER.symbols), np.nan)))
        recording.append(attrs.evolve(kept(index), minute=nothing))
    ends = read_ends(recording.path)
    assert ends.last is not None
    assert ends.with_bars is not None
    assert (ends.last.minute.index, ends.with_bars.minute.index) == (5, 3)


def test_a_file_without_anything_whole_is_named(tmp_path: Path) -> None:
    """And where nothing was recorded there is no file."""
    assert recorded_file(tmp_path / "none", SESSION.date) is None
    assert recorded_file(tmp_path, SESSION.date) is None
    path = tmp_path / "empty.bars"
    path.write_bytes(b"torn")
    for look in (read_recording, read_ends):
        with pytest.raises(DataError, match="holds no recorded session"):
            look(path)


def test_a_file_that_was_cut_off_in_its_first_frame_is_left_and_another_begun(tmp_path: Path) -> None:
    """Nothing in it is worth going on with."""
    recording = SessionRecorder.open(tmp_path, HEADER)
    recording.path.write_bytes(recording.path.read_bytes()[:10])
    assert SessionRecorder.open(tmp_path, HEADER).path != recording.path


def test_a_day_of_five_hundred_symbols_is_small(tmp_path: Path) -> None:
    """Under ten megabytes for 390 minutes, measured on ten of them."""
    symbols = tuple(f"S{row:03}" for row in range(500))
    draw = np.random.default_rng(1)
    facts = facts_of_the_day(SimulatedMarket.flat(200_000, symbols, 6), RandomStream(0))
    recording = SessionRecorder.open(tmp_path, attrs.evolve(HEADER, symbols=symbols, day=facts))
    begun = recording.path.stat().st_size
    for index in range(6):
        fields = {name: np.round(draw.normal(100, 1, 500), 2) for name in (*FIELDS, "vwap")}
        recording.append(attrs.evolve(kept(index), minute=MinuteSlice(index=index, **fields)))
    assert (recording.path.stat().st_size - begun) / 6 * 390 < 10_000_000
