"""Blocks: a month as the engine reads it, made of the Parquet files, and never anything else than these."""

from __future__ import annotations

import datetime as dt
import errno
import os
import queue
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tbot_core.contracts.feed import ExtraFacts
from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import manifest, month_blocks
from tbot_core.marketdata.store.verification import FindingLevel, verify_store
from tbot_core.model.bars import FIELDS
from tbot_core.model.calendar import ClosedDay, EarlyClose, ExchangeCalendar
from tbot_core.system import filesystem, large_files
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.marketdata.store.month_blocks import MonthBlock, MonthFiles
    from tbot_core.marketdata.store.store import BarBlock

FIRST, LAST = dt.date(2019, 11, 27), dt.date(2020, 1, 3)
WHOLE = exchange_sessions("2019-11-27", "2020-01-03")
BOTH = ("AAA", "BBB")
NAMES = (*FIELDS, "vwap")


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """Two symbols in three months with half days; one of them begins a session later."""
    made = StoreFixture(folder=tmp_path)
    made.put(rising_bars("AAA", WHOLE), rising_bars("BBB", WHOLE[1:], price=20.0))
    return made


def read(
    bench: StoreFixture, symbols: Sequence[str] = BOTH, first: dt.date = FIRST, last: dt.date = LAST
) -> list[BarBlock]:
    """The blocks of a range, by a store that has read nothing before."""
    return list(bench.store.blocks(first, last, symbols))


def files(bench: StoreFixture) -> list[Path]:
    """The block files of all months."""
    return sorted(bench.bars.glob("*/bars-*.block"))


def same(one: Sequence[BarBlock], two: Sequence[BarBlock]) -> bool:
    """Whether blocks have the same sessions, symbols and bars."""
    return [(it.sessions, it.bars.symbols) for it in one] == [(it.sessions, it.bars.symbols) for it in two] and all(
        np.array_equal(a.bars.field(name), b.bars.field(name), equal_nan=True)
        for a, b in zip(one, two, strict=True)
        for name in NAMES
    )


def mapped(block: BarBlock) -> bool:
    """Whether the bars are views of a file: neither owned nor writable."""
    return all(not block.bars.field(name).flags.writeable for name in FIELDS)


def test_a_month_is_mapped_once_its_file_is_made(bench: StoreFixture) -> None:
    """The first reading makes one private file a month and maps it; the second opens no Parquet file of bars."""
    made = read(bench)
    assert [path.parent.name for path in files(bench)] == ["2019-11", "2019-12", "2020-01"]
    assert {path.stat().st_mode & 0o777 for path in files(bench)} == {0o600}
    for path in bench.bars.glob("*/*.parquet"):
        if not path.name.startswith("daily"):
            path.unlink()
    found = read(bench)
    assert same(made, found)
    assert all(mapped(block) for block in (*made, *found))
    assert all(block.bars.field(name).flags.c_contiguous for block in found for name in FIELDS)


def test_a_field_without_numbers_is_left_out_of_the_file(bench: StoreFixture) -> None:
    """The VWAP takes space only in a month in which some bar has one; where it is left out it is NaN."""
    frame = rising_bars("CCC", WHOLE[-2:])
    bench.put(frame.with_columns(vwap=pl.col("open")))
    before, after = read(bench, (*BOTH, "CCC")), read(bench, (*BOTH, "CCC"))
    assert same(before, after)
    assert np.isnan(after[0].bars.field("vwap")).all()
    assert after[-1].bars.field("vwap")[7, 0, 2] == 100.07
    sizes = {path.parent.name: path.stat().st_size - month_blocks.HEADER_LENGTH for path in files(bench)}
    assert sizes["2019-11"] == 5 * 8 * 2 * (390 + 210)
    assert sizes["2020-01"] == 6 * 8 * 3 * 390 * 2


def test_some_symbols_and_days_are_those_of_the_whole(bench: StoreFixture) -> None:
    """A block serves any part of its month, with NaN for a symbol that the month lacks."""
    days = WHOLE[4].date, WHOLE[9].date
    fresh = read(bench, ("BBB", "MMM"), *days)
    read(bench)
    for symbols in (BOTH, ("BBB",), ("BBB", "MMM"), ("AAA", "BBB", "MMM")):
        (block,) = read(bench, symbols, *days)
        (whole,) = [one for one in read(bench) if one.month == "2019-12" and one.sessions[0].minutes == 390]
        row = whole.sessions.index(block.sessions[0])
        for column, symbol in enumerate(symbols):
            cells = block.bars.close[:, column]
            if symbol == "MMM":
                assert np.isnan(cells).all()
            else:
                assert np.array_equal(cells, whole.bars.close[row : row + 6, BOTH.index(symbol)])
    assert same(fresh, read(bench, ("BBB", "MMM"), *days))


def test_few_symbols_of_many_come_from_their_own_files(tmp_path: Path) -> None:
    """One of nine symbols makes no block and needs none; all of them do, and then it is served the same."""
    bench = StoreFixture(folder=tmp_path)
    names = tuple(f"S{number}" for number in range(9))
    bench.put(*(rising_bars(name, WHOLE[5:7], price=10.0 + at) for at, name in enumerate(names)))
    alone = read(bench, names[4:5])
    assert files(bench) == []
    read(bench, names)
    assert len(files(bench)) == 1
    assert same(alone, read(bench, names[4:5]))


def test_a_month_of_many_symbols_is_made_some_at_a_time(tmp_path: Path) -> None:
    """Each of twenty symbols is in its own column."""
    bench = StoreFixture(folder=tmp_path)
    names = tuple(f"S{number:02}" for number in range(20))
    bench.put(pl.concat(rising_bars(name, WHOLE[5:6], price=10.0 + at, minutes=2) for at, name in enumerate(names)))
    for _ in range(2):
        (block,) = read(bench, names)
        assert block.bars.open[0, :, 0].tolist() == [10.0 + at for at in range(20)]


def test_a_field_of_some_of_many_symbols_is_unknown_of_the_others(tmp_path: Path) -> None:
    """A VWAP that only an early or only a late symbol of a month has is theirs alone, with or without missing bars."""
    bench, names = StoreFixture(folder=tmp_path), tuple(f"S{number:02}" for number in range(20))
    owners = {WHOLE[1]: "S18", WHOLE[5]: "S02", WHOLE[-1]: "S18"}
    frames = [
        rising_bars(name, [session], price=10.0, minutes=300 if session is WHOLE[-1] else session.minutes).with_columns(
            vwap=pl.col("open") if name == owner else pl.lit(None, dtype=pl.Float64)
        )
        for session, owner in owners.items()
        for name in names
    ]
    bench.put(pl.concat(frames))
    for block, owner in zip(read(bench, names), owners.values(), strict=True):
        known = ~np.isnan(block.bars.field("vwap"))
        assert {names[column] for column in np.flatnonzero(known.any(axis=(0, 1)))} == {owner}
        assert np.isnan(block.bars.close).sum() == (20 * 90 if block.month == "2020-01" else 0)


@pytest.mark.parametrize("damage", ["cut", "long", "header", "number", "empty", "foreign", "folder", "other fields"])
def test_a_file_that_is_not_the_months_is_made_again(bench: StoreFixture, damage: str) -> None:
    """A short, damaged or foreign file is not used, one with a changed number neither: the Parquet files are."""
    made = read(bench)
    path = files(bench)[1]
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        header = bytearray(data[: month_blocks.HEADER_LENGTH])
        header[80] ^= 1
        path.write_bytes(
            {
                "cut": data[:-8],
                "long": data + bytes(8),
                "header": bytes(header) + data[len(header) :],
                "number": data[:-1] + bytes([data[-1] ^ 1]),
                "empty": b"",
                "foreign": files(bench)[0].read_bytes(),
                "other fields": files(bench)[0].read_bytes()[: month_blocks.HEADER_LENGTH] + data[len(header) :],
            }[damage]
        )
    assert same(made, read(bench))
    assert path.is_dir() or path.read_bytes() == data


@pytest.mark.parametrize("place", [month_blocks.HEADER_LENGTH, 50_000, -1])
def test_a_number_that_was_changed_in_a_block_is_never_traded(
    bench: StoreFixture, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    """A bit that is written anywhere in a file: it is noted once, and the file is made again."""
    expected = read(bench)  # from files that are replaced now
    for path in files(bench):
        path.unlink()
    read(bench)
    path = files(bench)[1]
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_SET if place > 0 else os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 64]))
    with caplog.at_level("WARNING"):
        assert same(expected, read(bench))
        assert same(expected, read(bench))
    assert caplog.text.count("bars.block_damaged") == 1


@pytest.mark.parametrize("read_only", [False, True])
def test_a_copied_block_is_compared_with_its_checksum(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    """A copy has another time: it is proved, once where its time can be set, and used as it is."""
    expected = read(bench)
    for path in files(bench):
        os.utime(path, (1e9, 1e9))
    data = {path: path.read_bytes() for path in files(bench)}
    computed = list[int]()
    crc32 = zlib.crc32

    def count(content: memoryview) -> int:
        computed.append(len(content))
        return crc32(content)

    def refuse(path: Path, _other: Path) -> None:
        raise AccessError(f"Cannot write {path}: Read-only file system.")

    monkeypatch.setattr(zlib, "crc32", count)
    if read_only:
        monkeypatch.setattr(large_files, "set_modified_as", refuse)
    for _ in range(2):
        found = read(bench)
        assert same(expected, found)
        assert all(mapped(block) for block in found)
    assert len(computed) == (6 if read_only else 3)
    assert {path: path.read_bytes() for path in files(bench)} == data


def test_an_import_makes_a_months_block_useless(bench: StoreFixture) -> None:
    """Its file goes with the month's old manifest; other months keep theirs; the new bars are served."""
    read(bench)
    before = files(bench)
    bench.put(rising_bars("AAA", WHOLE[-2:], price=300.0), replace=True)
    assert files(bench) == before[:2]
    assert read(bench)[-1].bars.open[0, 0, 0] == 300.0
    assert len(files(bench)) == 3


def test_what_is_mapped_outlives_its_file(bench: StoreFixture) -> None:
    """A reader goes on with the bars that it named while an import replaces them."""
    read(bench)
    store = bench.store
    blocks = store.blocks(FIRST, LAST, BOTH)
    first = next(blocks)
    for path in files(bench):
        path.unlink()
    assert first.bars.open[0, 0, 0] == 100.0


def test_a_disk_without_room_is_noted_once(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The bars are served all the same, with one warning a store; nothing is left behind."""
    expected = read(bench)
    for path in files(bench):
        path.unlink()
    monkeypatch.setattr(filesystem, "free_bytes", lambda _path: month_blocks.ROOM_LEFT)
    with caplog.at_level("WARNING"):
        assert same(expected, read(bench))
    assert caplog.text.count("bars.block_not_kept") == 1
    assert "the disk is nearly full" in caplog.text
    assert files(bench) == []
    assert [path.name for path in bench.bars.rglob(".bars*")] == []


def test_older_blocks_and_stranded_parts_are_removed(bench: StoreFixture) -> None:
    """What a crash left behind goes with the next block; what another run is writing stays."""
    folder = bench.bars / "2019-12"
    old, writing, stranded = (folder / name for name in ("bars-0.block", ".bars-1.block.a.tmp", ".bars-1.block.b.tmp"))
    for path in (old, writing, stranded):
        path.touch()
    os.utime(stranded, (1e9, 1e9))
    read(bench)
    assert [path.exists() for path in (old, writing, stranded)] == [False, True, False]


def test_an_instances_calendar_cuts_a_block(bench: StoreFixture) -> None:
    """Early closes of its own, also of the length of a half day, and closures hide bars of the same file."""
    read(bench)
    closes = EarlyClose(close=dt.time(13, 0))
    days: dict[dt.date, ClosedDay | EarlyClose] = {
        dt.date(2019, 12, 5): closes,
        dt.date(2019, 12, 6): ClosedDay(reason="storm"),
    }
    store = StoreFixture(folder=bench.folder, calendar=ExchangeCalendar(overrides=days)).store
    full, half = store.blocks(dt.date(2019, 12, 1), dt.date(2019, 12, 31), BOTH)
    assert [one.date.day for one in half.sessions] == [5, 24]
    assert half.bars.close.shape == (2, 2, 210)
    assert np.array_equal(half.bars.close[0, 0], half.bars.close[1, 0])
    assert not np.isnan(half.bars.close).any()
    assert len(full.sessions) == 18
    assert not np.isnan(full.bars.close[:, 0]).any()


def test_the_next_month_is_read_ahead(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a month is walked the system already reads the block of the next; few symbols of many need no block."""
    asked = list[Path]()
    monkeypatch.setattr(large_files, "read_ahead", asked.append)
    read(bench)
    assert asked == []
    read(bench)
    assert [path.parent.name for path in asked] == ["2019-11", "2019-12", "2020-01"]
    assert asked == files(bench)
    bench.put(*(rising_bars(f"S{number}", WHOLE[5:6]) for number in range(9)))
    whole = read(bench, (*BOTH, "S1"), *((WHOLE[5].date,) * 2))
    asked.clear()
    found = read(bench, BOTH[:1])
    assert [path.parent.name for path in asked] == ["2019-11", "2020-01"]
    (same_day,) = [one for one in found if WHOLE[5] in one.sessions]
    row = same_day.sessions.index(WHOLE[5])
    assert np.array_equal(same_day.bars.close[row, 0], whole[0].bars.close[0, 0])
    read(bench, BOTH[:1], WHOLE[5].date, WHOLE[6].date)  # a single month is read as it is needed
    assert len(asked) == 2


def test_one_month_is_made_ahead_in_the_memory_of_the_one_before(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first of six months is used the second is made, not the third; all six in the same arrays."""
    bench.put(*(rising_bars(name, exchange_sessions("2020-02-01", "2020-04-30")) for name in BOTH))
    begun: queue.Queue[str] = queue.Queue()
    memories = set[int]()
    collect = month_blocks.MonthFiles.collect

    def count(files: MonthFiles, groups: Any, symbols: Any, memory: Any = None) -> MonthBlock:
        begun.put(files.month.name)
        memories.add(id(memory))
        return collect(files, groups, symbols, memory)

    monkeypatch.setattr(month_blocks.MonthFiles, "collect", count)
    months = bench.store.blocks(FIRST, dt.date(2020, 4, 30), BOTH)
    served = {next(months).month}
    assert [begun.get(timeout=20) for _ in range(2)] == ["2019-11", "2019-12"]
    for block in months:
        served.add(block.month)
        assert begun.qsize() + 2 <= len(served) + 1
    assert len(served) == 6
    assert begun.qsize() == 4
    assert len(memories) == 1


def test_memory_for_months_is_used_again_where_it_is_large_enough() -> None:
    """A smaller month lies in the arrays of a larger one; the parts of a month do not overlap."""
    memory = month_blocks.BlockMemory()
    (large,) = memory.fields([(390, 23, 2)])
    one, two = memory.fields([(390, 20, 2), (210, 1, 2)])
    (larger,) = memory.fields([(390, 24, 2)])
    for name in NAMES:
        assert np.shares_memory(large[name], one[name])
        assert np.shares_memory(large[name], two[name])
        assert not np.shares_memory(one[name], two[name])
        assert not np.shares_memory(large[name], larger[name])


def test_a_damaged_month_is_named_when_it_is_reached(bench: StoreFixture) -> None:
    """The month before is served; of two damaged months the earlier is named, and no block of it is kept."""
    for name in ("2019-12/BBB", "2020-01/AAA"):
        (path,) = bench.bars.glob(f"{name}-*.parquet")
        path.write_bytes(path.read_bytes()[:-1])
    blocks = bench.store.blocks(FIRST, LAST, BOTH)
    served = [next(blocks).month, next(blocks).month]
    assert served == ["2019-11", "2019-11"]
    with pytest.raises(DataError, match=r"2019-12/BBB-\w+\.parquet is corrupt"):
        next(blocks)
    assert [path.parent.name for path in files(bench)] == ["2019-11"]
    assert [path.name for path in bench.bars.rglob(".bars*")] == []


def test_the_first_of_several_damaged_symbols_is_named(tmp_path: Path) -> None:
    """In the order of the symbols, although several threads read them."""
    bench, names = StoreFixture(folder=tmp_path), tuple(f"S{number:02}" for number in range(70))
    bench.put(pl.concat(rising_bars(name, WHOLE[5:6], minutes=2) for name in names))
    for name in names[20:]:
        (path,) = bench.bars.glob(f"*/{name}-*.parquet")
        path.write_bytes(b"damaged")
    for _ in range(5):
        with pytest.raises(DataError, match=r"S20-\w+\.parquet is corrupt"):
            read(bench, names)


def test_an_abandoned_walk_over_months_leaves_nothing_half_written(bench: StoreFixture) -> None:
    """A reader that stops after its first block: each file is whole, and none has a temporary name."""
    expected = read(bench)
    for path in files(bench):
        path.unlink()
    blocks = bench.store.blocks(FIRST, LAST, BOTH)
    next(blocks)
    del blocks
    assert [path.name for path in bench.bars.rglob(".bars*")] == []
    assert {path.parent.name for path in files(bench)} <= {"2019-11", "2019-12"}
    assert same(expected, read(bench))


@pytest.mark.parametrize("ahead", [True, False])
def test_a_block_that_the_disk_does_not_take_is_served_from_memory(
    bench: StoreFixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, ahead: bool
) -> None:
    """A disk that turns out to be full when a block is synced: the same bars, one warning, nothing left behind."""
    days = (FIRST, LAST) if ahead else (WHOLE[4].date, WHOLE[9].date)
    expected = read(bench, BOTH, *days)
    for path in files(bench):
        path.unlink()

    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with caplog.at_level("WARNING"), monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        assert same(expected, read(bench, BOTH, *days))
    assert caplog.text.count("bars.block_not_kept") == 1
    assert files(bench) == []
    assert [path.name for path in bench.bars.rglob(".bars*")] == []


def test_typical_volumes_are_the_same_from_blocks(bench: StoreFixture) -> None:
    """Over months and session lengths, whether the look-back comes from Parquet files or from blocks."""
    days = dt.date(2019, 12, 2), LAST
    made, found = ([*bench.store.blocks(*days, BOTH, extra=ExtraFacts(typical_volume=True))] for _ in range(2))
    for one, two in zip(made, found, strict=True):
        assert one.day.typical_volume is not None
        assert two.day.typical_volume is not None
        assert one.day.typical_volume.shape == one.bars.close.shape
        assert np.array_equal(one.day.typical_volume, two.day.typical_volume, equal_nan=True)
    assert found[-1].day.typical_volume[-1, 0, 2] == 100 + 101 + 102  # type: ignore[index]  # it is there, as asserted


def test_a_check_compares_a_block_with_its_parquet_files(bench: StoreFixture) -> None:
    """One changed number in a block is a fault with a remedy; a block that cannot be read is none."""
    read(bench)
    path = files(bench)[1]
    assert verify_store(bench.bars, bench.calendar, lambda _: None).of(FindingLevel.FAULT) == ()
    data = bytearray(path.read_bytes())
    data[month_blocks.HEADER_LENGTH + 3] ^= 1
    path.write_bytes(data)
    (fault,) = verify_store(bench.bars, bench.calendar, lambda _: None).of(FindingLevel.FAULT)
    assert fault.where == str(path)
    assert fault.message == "has other bars than the month's Parquet files."
    assert "Remove it" in fault.remedy
    path.write_bytes(bytes(data[:-8]))
    assert verify_store(bench.bars, bench.calendar, lambda _: None).of(FindingLevel.FAULT) == ()
    (bars,) = (bench.bars / "2019-12").glob("AAA-*")
    bars.unlink()
    path.write_bytes(data)
    (fault,) = verify_store(bench.bars, bench.calendar, lambda _: None).of(FindingLevel.FAULT)
    assert "is missing" in fault.message


def test_the_key_of_a_block_is_that_of_the_manifest(bench: StoreFixture) -> None:
    """A manifest with other bytes names another file."""
    month = manifest.read_month(bench.bars, "2019-12")
    assert month is not None
    days = {one.date for one in WHOLE}
    one = month_blocks.BlockLayout.of(bench.bars, month, days)
    path = bench.bars / "2019-12" / "manifest.json"
    path.write_bytes(path.read_bytes() + b"\n")
    again = manifest.read_month(bench.bars, "2019-12")
    assert again is not None
    assert month_blocks.BlockLayout.of(bench.bars, again, days).path != one.path
    assert month_blocks.BlockLayout.of(bench.bars, month, days - {dt.date(2019, 12, 4)}).path != one.path
