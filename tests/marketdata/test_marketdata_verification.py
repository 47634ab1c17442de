"""`verify` finds what is damaged, warns of what is thin, and says what lacks; `list` counts it."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING

import attrs
import polars as pl
import pytest

from tbot_core.errors import DataError
from tbot_core.marketdata.store import manifest, parquet, reference
from tbot_core.marketdata.store.listing import SymbolRow, list_store
from tbot_core.marketdata.store.manifest import FactsRow
from tbot_core.marketdata.store.verification import FindingLevel, StoreVerification, verify_store
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

DAYS = exchange_sessions("2019-12-02", "2019-12-06")


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """A store with one symbol's week."""
    bench = StoreFixture(folder=tmp_path)
    bench.put(rising_bars("AAA", DAYS))
    return bench


def verify(bench: StoreFixture) -> StoreVerification:
    """The check of the store, without progress."""
    return verify_store(bench.bars, bench.calendar, lambda _month: None)


def the_fault(bench: StoreFixture) -> str:
    """Where the only fault is and what it says."""
    (fault,) = verify(bench).of(FindingLevel.FAULT)
    return f"{fault.where}: {fault.message}"


def forge(bench: StoreFixture, frame: pl.DataFrame) -> None:
    """Store a frame as an import would, without an import's checks."""
    month = manifest.read_month(bench.bars, "2019-12")
    assert month is not None
    file, sha256 = parquet.write_frame(bench.bars, "2019-12", "AAA", frame.cast(parquet.BAR_SCHEMA))
    entry = attrs.evolve(month.entries["AAA"], file=file, sha256=sha256)
    manifest.write_month(bench.bars, attrs.evolve(month, entries={"AAA": entry}))


def stored(bench: StoreFixture) -> pl.DataFrame:
    """The symbol's stored bars."""
    month = manifest.read_month(bench.bars, "2019-12")
    assert month is not None
    return parquet.read_bars(bench.bars, month, "AAA")


def test_a_sound_store_has_no_findings(bench: StoreFixture) -> None:
    """Every file and bar is read, months are named, and nothing is found."""
    months: list[str] = []
    bench.put_text("date,open,high,low,close\n2019-11-01,1,1,1,1\n", name="vix.csv")
    proof = verify_store(bench.bars, bench.calendar, months.append)
    assert proof == StoreVerification(findings=(), files=2, bars=1950)
    assert months == ["2019-12"]


def test_no_store_is_a_sound_store(tmp_path: Path) -> None:
    """A folder that does not exist holds nothing wrong."""
    assert verify_store(tmp_path / "none", ExchangeCalendar(), lambda _: None).files == 0


@pytest.mark.parametrize("stem", ["AAA", "daily"])
def test_a_corrupt_file_is_a_fault(bench: StoreFixture, stem: str) -> None:
    """It is named, with what to do."""
    (path,) = (bench.bars / "2019-12").glob(f"{stem}-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path} is corrupt" in the_fault(bench)


def test_a_damaged_manifest_is_a_fault(bench: StoreFixture) -> None:
    """The month's files are then unnamed, which is said too."""
    (bench.bars / "2019-12" / "manifest.json").write_text("{")
    proof = verify(bench)
    assert [finding.level for finding in proof.findings] == [
        FindingLevel.FAULT,
        FindingLevel.WARNING,
    ]
    assert "manifest.json is damaged" in proof.findings[0].message


def test_a_corrupt_table_of_facts_is_a_fault(bench: StoreFixture) -> None:
    """Also where no run needs it today; and so is a manifest of facts that cannot be understood."""
    bench.put_text("symbol,as_of,market_cap\nAAA,2019-01-01,5\n", name="caps.csv")
    (path,) = bench.bars.glob("fundamentals-*")
    data = path.read_bytes()
    path.write_bytes(b"rubbish")
    assert f"{path} is corrupt" in the_fault(bench)
    path.write_bytes(data)
    (bench.bars / "facts.json").write_text("[]")
    assert "facts.json is damaged" in the_fault(bench)


@pytest.mark.parametrize("place", ["AAPL.parquet", "2019-12/AAPL.parquet"])
def test_a_file_that_is_no_import_is_named(bench: StoreFixture, place: str) -> None:
    """Rubbish is a fault; sound Parquet that somebody copied there is a warning, for it is not used."""
    path = bench.bars / place
    path.write_bytes(b"rubbish")
    assert f"{path}: cannot be read as Parquet" in the_fault(bench)
    path.write_bytes(parquet.parquet_bytes(stored(bench)))
    (warning,) = verify(bench).findings
    assert (warning.level, warning.where) == (FindingLevel.WARNING, str(path.parent))
    assert warning.message == (
        "1 file is listed in no manifest and not used, as an interrupted import leaves them: AAPL.parquet."
    )
    assert warning.remedy == "Repeat that import, or remove them."
    (bench.bars / "notes.txt").touch()
    path.with_name("MSFT.parquet").write_bytes(path.read_bytes())
    (warning,) = verify(bench).findings
    assert warning.message.startswith("2 files are listed in no manifest and not used, ")
    assert warning.message.endswith(": AAPL.parquet and others.")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("close", float("nan"), "price that is missing"),
        ("high", 1.0, "high below"),
        ("low", 500.0, "low above"),
        ("volume", -1, "volume that is missing"),
        ("vwap", 1200.0, "vwap more than 5% outside"),
        ("ts", DAYS[0].open + dt.timedelta(seconds=1), "time that is not on the minute"),
        ("ts", DAYS[0].open - dt.timedelta(minutes=1), "bar outside the calendar's regular hours"),
        ("ts", DAYS[0].open + dt.timedelta(minutes=1), "bar that is not later than the one before"),
    ],
)
def test_bars_are_checked_again(bench: StoreFixture, column: str, value: object, words: str) -> None:
    """What no import lets in is found where it got in otherwise."""
    frame = stored(bench)
    wrong = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value).cast(frame.schema[column])).otherwise(column)
    forge(bench, frame.with_columns(wrong.alias(column)))
    assert words in the_fault(bench)


def test_daily_rows_of_other_bars_are_a_fault(bench: StoreFixture) -> None:
    """Facts come from the daily rows, so they must be those of the bars."""
    forge(bench, stored(bench)[:-1])
    assert "AAA: the month's daily rows do not match its bars" in the_fault(bench)


def test_an_early_close_that_became_known_is_a_fault(bench: StoreFixture) -> None:
    """Stored bars after it are outside regular hours now."""
    early = EarlyClose(close=dt.time(13, 0))
    calendar = ExchangeCalendar(overrides={DAYS[1].date: early})
    (fault,) = verify_store(bench.bars, calendar, lambda _: None).of(FindingLevel.FAULT)
    assert "bar outside the calendar's regular hours (180, first: 2019-12-03 18:00 UTC)" in fault.message


def test_what_is_missing_is_reported_by_its_weight(tmp_path: Path) -> None:
    """Missing minutes are a note; thin sessions and missing ones are warnings; none of them fails the check."""
    bench = StoreFixture(folder=tmp_path)
    bench.put(rising_bars("AAA", DAYS[:1], minutes=389), rising_bars("BBB", [DAYS[4]]))
    bench.put(*(rising_bars("BBB", [session], minutes=300) for session in DAYS[:3]))
    bench.put(rising_bars("CCC", exchange_sessions("2019-11-29", "2019-11-29")), rising_bars("CCC", DAYS[3:4]))
    finding_rows = [(finding.level, finding.where, finding.message) for finding in verify(bench).findings]
    assert finding_rows == [
        (FindingLevel.NOTE, "AAA", "1 of 390 minutes has no bar."),
        (FindingLevel.WARNING, "BBB", "under 90 % of the minutes in 3 sessions (2019-12-02, 2019-12-03, 2019-12-04)."),
        (FindingLevel.WARNING, "BBB", "no bar in 1 session (2019-12-05), between its first and last."),
        (FindingLevel.NOTE, "BBB", "270 of 1,560 minutes have no bar."),
        (
            FindingLevel.WARNING,
            "CCC",
            "no bar in 3 sessions (2019-12-02, 2019-12-03, 2019-12-04), between its first and last.",
        ),
    ]


def test_long_lists_of_sessions_are_cut(tmp_path: Path) -> None:
    """Three dates are named, and how many there are."""
    bench = StoreFixture(folder=tmp_path)
    bench.put(rising_bars("AAA", DAYS, minutes=5))
    (warning,) = verify(bench).of(FindingLevel.WARNING)
    assert warning.message.endswith("in 5 sessions (2019-12-02, 2019-12-03, 2019-12-04, ...).")


def test_a_listing_counts_what_is_stored(bench: StoreFixture) -> None:
    """A row a symbol over all its months, and the ranges of the other facts."""
    bench.put(rising_bars("BBB", DAYS[3:], minutes=389), volume="partial")
    bench.put(rising_bars("BBB", exchange_sessions("2020-01-02", "2020-01-03")), adjustment="split")
    bench.put_text("date,open,high,low,close\n2019-11-01,1,1,1,1\n2019-11-05,1,1,1,1\n", name="vix.csv")
    listing = list_store(bench.bars, bench.calendar)
    assert listing.symbols == (
        SymbolRow(
            symbol="AAA",
            first=dt.date(2019, 12, 2),
            last=dt.date(2019, 12, 6),
            sessions=5,
            bars=1950,
            missing_minutes=0,
            adjustment="raw",
            volume="consolidated",
        ),
        SymbolRow(
            symbol="BBB",
            first=dt.date(2019, 12, 5),
            last=dt.date(2020, 1, 3),
            sessions=4,
            bars=1558,
            missing_minutes=2,
            adjustment="raw, split",
            volume="consolidated, partial",
        ),
    )
    assert listing.vix == FactsRow(first=dt.date(2019, 11, 1), last=dt.date(2019, 11, 5), rows=2)
    assert listing.fundamentals is None


def test_facts_that_an_earlier_version_stored_are_listed_too(bench: StoreFixture) -> None:
    """Their manifest has no days and rows: these are counted in the file."""
    bench.put_text("date,open,high,low,close\n2019-11-01,1,1,1,1\n2019-11-05,1,1,1,1\n", name="vix.csv")
    listed = list_store(bench.bars, bench.calendar).vix
    tables = manifest.read_facts(bench.bars)
    manifest.write_facts(bench.bars, {name: attrs.evolve(one, extent=None) for name, one in tables.items()})
    assert list_store(bench.bars, bench.calendar).vix == listed
    assert verify(bench).findings == ()
    empty = pl.DataFrame(schema=reference.SCHEMAS[manifest.VIX])
    reference.write_table(bench.bars, manifest.VIX, empty)
    assert list_store(bench.bars, bench.calendar).vix is None


def test_a_listing_proves_the_facts(bench: StoreFixture) -> None:
    """A table whose file is not the one that was stored is refused; days or rows that its file lacks are a fault."""
    bench.put_text("date,open,high,low,close\n2019-11-01,1,1,1,1\n", name="vix.csv")
    (vix,) = bench.bars.glob("vix-*")
    tables, data = manifest.read_facts(bench.bars), vix.read_bytes()
    vix.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"vix-[0-9a-f]+.parquet is corrupt"):
        list_store(bench.bars, bench.calendar)
    vix.write_bytes(data)
    other = FactsRow(first=dt.date(2019, 11, 1), last=dt.date(2019, 11, 1), rows=2)
    manifest.write_facts(bench.bars, {"vix": attrs.evolve(tables["vix"], extent=other)})
    assert "the days or rows of vix are not those of its file" in the_fault(bench)


def test_an_empty_store_lists_nothing(tmp_path: Path) -> None:
    """A folder that does not exist has no symbols and no facts."""
    listing = list_store(tmp_path / "none", ExchangeCalendar())
    assert (listing.symbols, listing.vix, listing.fundamentals) == ((), None, None)


def test_files_are_named_by_their_content(bench: StoreFixture) -> None:
    """The name and the manifest both carry the SHA-256 of the bytes."""
    month = manifest.read_month(bench.bars, "2019-12")
    assert month is not None
    entry = month.entries["AAA"]
    assert hashlib.sha256((bench.bars / "2019-12" / entry.file).read_bytes()).hexdigest() == entry.sha256
    assert entry.file == f"AAA-{entry.sha256[:16]}.parquet"
    assert len(entry.sources) == 1
