"""Formats of bars: vendors' own files, compressed ones, and any other with a mapping file; the same bars from each."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tbot_core.errors import AccessError, UsageError
from tbot_core.marketdata.store import source_readers
from tbot_core.marketdata.store.importer import ImportedFile, RefusedFile, source_files
from tbot_core.marketdata.store.source_readers import SourceFormat, read_mapping
from tbot_core.testing.store import StoreFixture

if TYPE_CHECKING:
    from pathlib import Path

DAY = dt.date(2019, 12, 2)
# Two bars of AAPL from 09:30 New York on, as each vendor writes them.
ALPACA = (
    "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n"
    "AAPL,2019-12-02 14:30:00+00:00,10,11,9,10.5,100.0,7.0,10.25\n"
    "AAPL,2019-12-02 14:31:00+00:00,10.5,12,10,11,200.0,9.0,11.0\n"
)
POLYGON = (
    "ticker,volume,open,close,high,low,window_start,transactions\n"
    "AAPL,100,10,10.5,11,9,1575297000000000000,7\n"
    "AAPL,200,10.5,11,12,10,1575297060000000000,9\n"
)
KIBOT = "12/02/2019,09:30,10,11,9,10.5,100\r\n12/02/2019,09:31,10.5,12,10,11,200\r\n"
YAHOO = (
    "Datetime,Open,High,Low,Close,Adj Close,Volume\n"
    "2019-12-02 09:30:00-05:00,10,11,9,10.5,10.5,100\n"
    "2019-12-02 09:31:00-05:00,10.5,12,10,11,11,200\n"
)
YAHOO_LINES = (
    "Price,Close,High,Low,Open,Volume\nTicker,AAPL,AAPL,AAPL,AAPL,AAPL\nDatetime,,,,,\n"
    "2019-12-02 14:30:00+00:00,10.5,11,9,10,100\n2019-12-02 14:31:00+00:00,11,12,10,10.5,200\n"
)
BARS = [
    {"t": "2019-12-02T14:30:00Z", "o": 10, "h": 11, "l": 9, "c": 10.5, "v": 100, "n": 7, "vw": 10.25},
    {"t": "2019-12-02T14:31:00Z", "o": 10.5, "h": 12, "l": 10, "c": 11, "v": 200, "n": 9, "vw": 11},
]
REPLY = json.dumps({"bars": {"AAPL": BARS, "MSFT": None}, "next_page_token": None})
REPLY_OF_ONE = json.dumps({"bars": BARS, "symbol": "AAPL", "next_page_token": "x"})
PAGES = "\n".join(json.dumps({"bars": {"AAPL": [bar]}}) for bar in BARS) + "\n"
EXPECTED = [(10.0, 11.0, 9.0, 10.5, 100.0), (10.5, 12.0, 10.0, 11.0, 200.0)]


@pytest.fixture
def bench(tmp_path: Path) -> StoreFixture:
    """An empty store."""
    return StoreFixture(folder=tmp_path)


def bars(bench: StoreFixture, symbol: str = "AAPL") -> list[tuple[float, ...]]:
    """The first two bars of the day."""
    (block,) = bench.store.blocks(DAY, DAY, [symbol])
    names = ("open", "high", "low", "close", "volume")
    return [tuple(float(block.bars.field(name)[minute, 0, 0]) for name in names) for minute in range(2)]


def taken(outcome: ImportedFile | RefusedFile) -> ImportedFile:
    """The outcome, which must be an import."""
    assert isinstance(outcome, ImportedFile), outcome
    return outcome


def refused(outcome: ImportedFile | RefusedFile) -> str:
    """The reason of an outcome, which must be a refusal."""
    assert isinstance(outcome, RefusedFile), outcome
    return outcome.reason


def put(bench: StoreFixture, name: str, data: bytes, **options: object) -> ImportedFile | RefusedFile:
    """Import a file of these bytes."""
    path = bench.folder / name
    path.write_bytes(data)
    (outcome,) = bench.import_files(path, **options)
    return outcome


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bars.csv", ALPACA),
        ("2019-12-02.csv", POLYGON),
        ("AAPL.txt", KIBOT),
        ("AAPL.csv", KIBOT),
        ("AAPL.csv", YAHOO),
        ("download.csv", YAHOO_LINES),
        ("bars.json", REPLY),
        ("bars.json", REPLY_OF_ONE),
        ("bars.json", PAGES),
        ("AAPL.csv", "\ufeff" + YAHOO),
        ("AAPL.csv", YAHOO.replace("\n", "\r\n")),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_vendors_files_are_recognised(bench: StoreFixture, name: str, text: str, packed: bool) -> None:  # a parameter
    """Alpaca, Polygon, Kibot and Yahoo, plain or compressed by gzip: the same two bars, without an option."""
    data = gzip.compress(text.encode()) if packed else text.encode()
    outcome = taken(put(bench, f"{name}.gz" if packed else name, data))
    assert (outcome.symbols, outcome.added) == (("AAPL",), 2)
    assert bars(bench) == EXPECTED


def test_a_date_and_a_time_in_two_columns_are_one(bench: StoreFixture) -> None:
    """In one zone, with or without seconds."""
    text = (
        "Date,Time,Open,High,Low,Close,Volume\n20191202,09:30:00,10,11,9,10.5,100\n20191202,09:31,10.5,12,10,11,200\n"
    )
    assert "give their time zone with --zone" in refused(bench.put_text(text))
    taken(bench.put_text(text, zone="America/New_York"))
    assert bars(bench) == EXPECTED


MAPPING = """
zone = "Europe/Zurich"
format = "%d.%m.%Y %H:%M:%S"
separator = ";"
[columns]
ts = "Gmt time"
open = "O"
high = "H"
low = "L"
close = "C"
volume = "Vol"
"""
MAPPED = "Gmt time;O;H;L;C;Vol;x\n02.12.2019 15:30:00;10;11;9;10.5;100;\n02.12.2019 15:31:00;10.5;12;10;11;200;\n"


def test_a_mapping_file_makes_any_table_readable(bench: StoreFixture, tmp_path: Path) -> None:
    """Names of columns, zone, form of times and separator; a file without a header by the numbers of its columns."""
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    taken(bench.put_text(MAPPED, mapping=read_mapping(path)))
    assert bars(bench) == EXPECTED
    path.write_text(
        'format = "ms"\nheader = false\n[columns]\nsymbol = 1\nts = 2\n'
        "open = 4\nhigh = 5\nlow = 6\nclose = 7\nvolume = 8\n"
    )
    text = "MSFT,1575297000000,?,10,11,9,10.5,100\nMSFT,1575297060000,?,10.5,12,10,11,200\n"
    taken(put(bench, "x.csv", text.encode(), mapping=read_mapping(path)))
    assert bars(bench, "MSFT") == EXPECTED


def test_a_mapping_file_that_does_not_fit_names_the_columns_of_both(bench: StoreFixture, tmp_path: Path) -> None:
    """As they are written in the two files; capitals and blanks make no difference, an optional column does."""
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.replace('"O"', '"Open"') + 'vwap = "Average"\n')
    assert refused(bench.put_text(MAPPED, mapping=read_mapping(path))) == (
        'AAPL.csv: the mapping names 2 columns that it lacks: open = "Open", vwap = "Average".'
        " It has Gmt time, O, H, L, C, Vol, x. Name the columns as the file does, or leave out an optional one."
    )
    path.write_text(MAPPING.replace('"O"', '" o "'))
    assert taken(bench.put_text(MAPPED, mapping=read_mapping(path))).added == 2


@pytest.mark.parametrize(
    ("form", "first"), [("s", "1575297000"), ("us", "1575297000000000"), ("%Y%m%d%H%M%z", "201912020930-0500")]
)
def test_times_are_read_by_their_unit_or_form(bench: StoreFixture, form: str, first: str) -> None:
    """Seconds and their parts since 1970, in text and in a Parquet file; a form that has an offset needs no zone."""
    columns = {name: name for name in ("ts", "open", "high", "low", "close", "volume")}
    mapping = SourceFormat(columns=columns, time=form)
    taken(bench.put_text(f"ts,open,high,low,close,volume\n{first},10,11,9,10.5,100\n", mapping=mapping))
    assert bars(bench)[0] == EXPECTED[0]
    if form in {"s", "us"}:
        frame = pl.DataFrame({"ts": [int(first)], "symbol": ["AAPL"], "open": [10], "high": [11], "low": [9]})
        frame = frame.with_columns(close=10.5, volume=100)
        assert taken(bench.put(frame, mapping=mapping)[0]).unchanged == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("zone =", "zone ="), ""),
        (("[columns]", "rows = 1\n[columns]"), "unknown key rows"),
        (("Europe/Zurich", "Mars/Base"), "zone 'Mars/Base' is not a time zone"),
        (('";"', '";;"'), "separator must be one character"),
        (('";"', "5"), "separator must be text"),
        (("[columns]", "[rows]"), "the table [columns] is missing"),
        (('open = "O"', 'opens = "O"'), "unknown column opens, known are symbol, ts, date"),
        (('open = "O"', ""), "column open is missing"),
        (('ts = "Gmt time"', ""), "column ts is missing, or date and time"),
        (('open = "O"', "open = 1"), "column open must be the name of a column"),
        (("[columns]", "header = false\n[columns]"), "column ts must be the number of a column, from 1"),
        (("[columns]", "[columns"), "not a TOML file"),
    ],
)
def test_a_faulty_mapping_file_is_refused(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    """Each fault in its own words, before a file is read."""
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.replace(*change))
    if not words:
        assert read_mapping(path).zone == "Europe/Zurich"
        return
    with pytest.raises(UsageError) as caught:
        read_mapping(path)
    assert words in caught.value.message
    assert caught.value.message.startswith("mapping.toml: ")


def test_a_mapping_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """Bytes that are no text, and an absent file."""
    path = tmp_path / "mapping.toml"
    path.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not a TOML file"):
        read_mapping(path)
    with pytest.raises(AccessError, match="No such file"):
        read_mapping(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("AAPL.csv.gz", b"rubbish", "AAPL.csv.gz: not a gzip file, or a damaged one"),
        ("AAPL.csv.gz", gzip.compress(YAHOO.encode())[:-9], "AAPL.csv.gz: not a gzip file, or a damaged one"),
        ("AAPL.csv.gz", gzip.compress(YAHOO.encode())[:30] + b"\xff" * 99, "not a gzip file, or a damaged one"),
        ("two.csv", YAHOO_LINES.replace("AAPL,AAPL\n", "AAPL,MSFT\n").encode(), "several tickers side by side"),
        ("bars.json", b"{", "no bars can be read from it (invalid JSON at line 1, column 2)"),
        ("bars.json", b"{}\n{", "no bars can be read from it (invalid JSON at line 1, column 2)"),
        ("bars.json", b'{"quotes": {}}', "no bars can be read from it (a reply without bars: it has quotes)"),
        ("bars.json", b'{"message": "forbidden."}', "(a reply without bars: it has message, message 'forbidden.')"),
        ("bars.json", b'{"bars": []}', "(a reply without symbol: it has bars)"),
        ("bars.json", b'{"bars": {"AAPL": [1]}}', "(its bars are not lists of rows with names)"),
        ("bars.json", b'{"bars": null, "symbol": "AAPL"}', "it has no rows"),
        ("bars.json", b"[1]", "no bars can be read from it (a reply without bars: it has no names)"),
        ("bars.json", b'{"bars": {"AAPL": [{"t": "x", "o": 1}]}}', "time that cannot be read"),
        ("bars.json", b'{"bars": {}}', "it has no rows"),
    ],
)
def test_a_file_of_a_vendor_that_cannot_be_read_says_why(
    bench: StoreFixture, name: str, data: bytes, words: str
) -> None:
    """Damaged archives, replies without bars, and tables of several tickers; nothing is stored."""
    assert words in refused(put(bench, name, data))
    assert bench.store.symbols(DAY, DAY) == ()


def test_a_large_json_file_is_refused(bench: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would need memory without a bound; the remedy is named."""
    monkeypatch.setattr(source_readers, "LONGEST_JSON", 1 << 20)
    assert "a JSON file of more than 1 MB. Split it by its pages." in refused(put(bench, "a.json", b" " * (1 << 21)))


def test_a_folder_gives_files_of_every_format(tmp_path: Path) -> None:
    """Text files only where they hold bars without a header; other files are left out."""
    for name in ("a.csv.gz", "b.json", "c.json.gz", "d.parquet", "notes.md", "x.gz", "folder.txt.d"):
        (tmp_path / name).touch()
    (tmp_path / "README.txt").write_text("These are bars, of some symbols.\n")
    (tmp_path / "damaged.txt.gz").write_text("rubbish")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "IBM.txt").write_text(KIBOT)
    (tmp_path / "KO.txt.gz").write_bytes(gzip.compress(KIBOT.encode()))
    found = [path.name for path in source_files(tmp_path)]
    assert found == ["IBM.txt", "KO.txt.gz", "a.csv.gz", "b.json", "c.json.gz", "d.parquet"]
