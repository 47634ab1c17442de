"""`tbot data`: its words, its documents and its exit codes."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core import cli
from tbot_core.contracts import DailyValue
from tbot_core.contracts.series import RATES, VIX
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.marketdata.store import parquet, reference
from tbot_core.marketdata.store.recorded_facts import RecordedFact
from tbot_core.marketdata.store.series import PublishedSeries, merge_series
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

DAY = dt.date(2019, 12, 3)
HEAD = "ts,open,high,low,close,volume\n"
ROW = "2019-12-02T14:30:00Z,10,11,9,10,100\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance without bars."""
    folder = tmp_path / "home"
    folder.mkdir()
    write(folder, ".env_bot", "")
    return folder


def tbot(*words: object) -> int:
    """Run a command line and return its exit code."""
    return cli.invoke([str(word) for word in words])


def write(folder: Path, name: str, text: str = HEAD + ROW) -> Path:
    """A CSV file."""
    path = folder / name
    path.write_text(text)
    return path


def test_import_says_what_it_took(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a file and one in all; the same again says that nothing changed; no progress without a terminal."""
    path = write(tmp_path, "AAPL.csv", f"{HEAD}{ROW}2019-12-02T12:00:00Z,10,11,9,10,100\n")
    assert tbot("data", "import", path, "--home", home) == 0
    assert tbot("data", "import", path, "--home", home) == 0
    said = capsys.readouterr()
    what = "AAPL.csv: bars of AAPL, 2019-12-02 to 2019-12-02"
    assert said.out.splitlines() == [
        f"{what}: 1 added, 1 outside regular hours dropped.",
        "1 file read: 1 row added, 0 replaced.",
        f"{what}: 1 already stored, 1 outside regular hours dropped. No change.",
        "1 file read: 0 rows added, 0 replaced.",
    ]
    assert said.err == ""


def test_an_import_has_a_document(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the lines say, and the progress in a file for who waits; the reason of a refusal is a line too."""
    write(tmp_path / "home", "AAPL.csv")
    write(tmp_path / "home", "bad.csv", "ts\n")
    progress = tmp_path / "progress"
    assert tbot("data", "import", tmp_path / "home", "--home", home, "--json", "--progress", progress) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    ((one,), (refused,)) = found["files"], found["refused"]
    assert (one["kind"], one["symbols"], one["first"], one["added"]) == ("bars", ["AAPL"], "2019-12-02", 1)
    assert (found["added"], found["replaced"], refused["file"]) == (1, 0, "bad.csv")
    assert said.err.startswith(f"refused: {refused['reason']}\n")
    assert json.loads(progress.read_text()) == {"done": 100, "of": 100}


def test_the_symbol_of_a_file_can_be_given(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In place of the file's name; another symbol for the same file is another import."""
    path = write(tmp_path, "my bars.csv")
    assert tbot("data", "import", path, "--home", home) == 1
    assert "Give the symbol with --symbol." in capsys.readouterr().err
    for symbol in ("brk.b", "AAPL"):
        assert tbot("data", "import", path, "--symbol", symbol, "--home", home) == 0
        assert f"bars of {symbol.upper()}, 2019-12-02 to 2019-12-02: 1 added." in capsys.readouterr().out
    assert tbot("data", "import", path, "--symbol", "A;B", "--home", home) == 2
    assert tbot("data", "import", tmp_path, "--symbol", "A", "--home", home) == 2


@pytest.mark.parametrize("words", [("import", "AAPL.csv"), ("list",), ("verify",)])
def test_stored_data_needs_an_instance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """In a folder without one nothing is imported or created, and nothing counts as an empty store: exit 3."""
    empty = tmp_path / "empty"
    empty.mkdir()
    files = [write(tmp_path, name) for name in words[1:]]
    assert tbot("data", words[0], *files, "--home", empty) == 3
    assert f"{empty} is not an instance." in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_an_import_makes_private_folders(home: Path, tmp_path: Path) -> None:
    """The data folder and the bars in it belong to the owner alone, as after `tbot init`."""
    assert tbot("data", "import", write(tmp_path, "AAPL.csv"), "--home", home) == 0
    assert [path.stat().st_mode & 0o777 for path in (home / "data", home / "data" / "bars")] == [0o700, 0o700]


def test_subfolders_are_named_and_not_searched(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in the imported one is named as not searched, beside imported files and without any."""
    folder = tmp_path / "bars"
    (folder / "2019").mkdir(parents=True)
    assert tbot("data", "import", folder, "--home", home) == 1
    assert "Subfolders are not searched: give one of 2019." in capsys.readouterr().err
    write(folder, "AAPL.csv")
    assert tbot("data", "import", folder, "--home", home) == 0
    assert capsys.readouterr().err == "Not imported: 2019; subfolders are not searched.\n"


def test_a_source_without_an_end_is_refused_at_once(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A named pipe, alone or in a folder, and a device are refused with a sentence instead of being waited for."""
    os.mkfifo(tmp_path / "bars.csv")
    for source in (tmp_path / "bars.csv", tmp_path, "/dev/zero"):
        assert tbot("data", "import", source, "--home", home) == 1
        assert "it is a pipe, a socket or a device. Give a regular file." in capsys.readouterr().err


def test_many_symbols_are_counted(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four are named, the others counted."""
    rows = "".join(f"S{number},{ROW}" for number in range(6))
    assert tbot("data", "import", write(tmp_path, "all.csv", f"symbol,{HEAD}{rows}"), "--home", home) == 0
    assert "bars of S0, S1, S2, S3 and 2 more, " in capsys.readouterr().out


def test_a_refused_file_makes_exit_1(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others of the folder come in, the reason goes to standard error."""
    folder = tmp_path / "bars"
    folder.mkdir()
    write(folder, "AAPL.csv")
    write(folder, "MSFT.csv", f"{HEAD}2019-12-02T14:30:00Z,10,9,8,10,100\n")
    assert tbot("data", "import", folder, "--home", home) == 1
    said = capsys.readouterr()
    assert "1 file read: 1 row added, 0 replaced; 1 refused." in said.out
    assert said.err.startswith("refused: MSFT.csv: high below the bar's open, close or low (1, first: line 2")


def test_progress_is_shown_on_a_terminal(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, one line that is wiped at the end."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert tbot("data", "import", write(tmp_path, "AAPL.csv"), "--home", home) == 0
    assert tbot("data", "verify", "--home", home) == 0
    shown = capsys.readouterr().err
    assert "Importing 1 of 1 [##############################] 100%: AAPL.csv" in shown
    assert "Verifying 1: 2019-12" in shown
    assert shown.endswith("\r\x1b[K")


@pytest.mark.parametrize(
    "words",
    [
        ("import", "nowhere.csv"),
        ("import",),
        ("import", ".", "--adjustment", "none"),
        ("import", ".", "--zone", "Mars/Base"),
        ("import", ".", "--as-of", "yesterday"),
        ("list", "more"),
    ],
)
def test_wrong_usage_is_exit_2(home: Path, words: tuple[str, ...]) -> None:
    """Paths that are not there, and words that are none."""
    assert tbot("data", *words, "--home", home) == 2


def test_a_folder_without_files_is_exit_1(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to import, in one sentence."""
    folder = tmp_path / "empty"
    folder.mkdir()
    assert tbot("data", "import", folder, "--home", home) == 1
    assert f"{folder} contains no Parquet, CSV or JSON file." in capsys.readouterr().err


def test_an_instance_that_cannot_be_written_is_exit_1(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the data folder belongs: one sentence that names it."""
    (home / "data").touch()
    assert tbot("data", "import", write(tmp_path, "AAPL.csv"), "--home", home) == 1
    assert f"Cannot make the folder {home / 'data'}:" in capsys.readouterr().err


def test_list_shows_an_empty_store(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that nothing is stored, and how to change that."""
    assert tbot("data", "list", "--home", home) == 0
    assert capsys.readouterr().out.splitlines() == [
        "No bars are stored. Import bars with `tbot data import PATH`.",
        "Daily VIX: none",
        "Daily rates: none",
        "Fundamentals: none",
        "Splits: none",
        "Facts fetched by filters: none",
    ]


def test_list_names_the_bars_of_the_rehearsal(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While TBOT_REHEARSAL names one that has bars of its own; without them it says nothing."""
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1?opens=20260303T143000")
    assert tbot("data", "list", "--home", home) == 0
    assert not capsys.readouterr().err
    (home / "data/runs/rehearsal-20260303T143000-bars").mkdir(parents=True)
    assert tbot("data", "list", "--home", home) == 0
    assert "bars of the rehearsal are in data/runs/rehearsal-20260303T143000-bars." in capsys.readouterr().err


def test_a_vix_of_the_future_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the clock of the command, with its line."""
    vix = write(tmp_path, "vix.csv", "date,open,high,low,close\n2059-12-01,12,13,11,12.5\n")
    assert tbot("data", "import", vix, "--home", home) == 1
    assert "vix.csv: day in the future (line 2 of 2059-12-01)" in capsys.readouterr().err


def test_list_shows_from_which_day_on_a_fact_is_known(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For how many symbols, imported or fetched, and how many of these the source had a value."""
    rows = "AAPL,2019-12-02,9000,18.1\nMSFT,2019-12-02,8000,\n"
    assert (
        tbot("data", "import", write(tmp_path, "f.csv", f"symbol,as_of,market_cap,pe_ratio\n{rows}"), "--home", home)
        == 0
    )
    unknown = RecordedFact(name="pe_ratio", symbol="IBM", first=DAY, last=DAY, value=math.nan)
    reference.add_fetched(home / "data/bars", [unknown, attrs.evolve(unknown, symbol="AAPL", value=20.0)])
    capsys.readouterr()
    assert tbot("data", "list", "--by-day", "--home", home) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Daily VIX: none",
        "Daily rates: none",
        "Fundamentals: 2 rows, 2019-12-02 to 2019-12-02",
        "Splits: none",
        "Facts fetched by filters: 2 rows, 2019-12-03 to 2019-12-03",
        "FROM        FACT        SOURCE    SYMBOLS  KNOWN",
        "2019-12-03  market_cap  imported  2        2",
        "2019-12-03  pe_ratio    fetched   2        1",
        "2019-12-03  pe_ratio    imported  2        1",
    ]
    assert tbot("data", "list", "--by-day", "--json", "--home", home) == 0
    assert json.loads(capsys.readouterr().out)["facts_by_day"][1] == {
        "first": "2019-12-03", "fact": "pe_ratio", "source": "fetched", "symbols": 2, "known": 1,
    }  # fmt: skip


def test_list_shows_a_table_and_a_document(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures for people and for scripts."""
    vix = write(tmp_path, "vix.csv", "date,open,high,low,close\n2019-12-02,12,13,11,12.5\n")
    assert tbot("data", "import", write(tmp_path, "AAPL.csv"), "--home", home) == 0
    assert tbot("data", "import", vix, "--home", home) == 0
    capsys.readouterr()
    assert tbot("data", "list", "--home", home) == 0
    assert capsys.readouterr().out.splitlines() == [
        "SYMBOL  FIRST       LAST        SESSIONS  BARS  MISSING  ADJUSTMENT  VOLUME",
        "AAPL    2019-12-02  2019-12-02  1         1     389      raw         consolidated",
        "Daily VIX: 1 row, 2019-12-02 to 2019-12-02",
        "Daily rates: none",
        "Fundamentals: none",
        "Splits: none",
        "Facts fetched by filters: none",
    ]
    assert tbot("data", "list", "--json", "--home", home) == 0
    assert json.loads(capsys.readouterr().out) == {
        "symbols": [
            {
                "symbol": "AAPL",
                "first": "2019-12-02",
                "last": "2019-12-02",
                "sessions": 1,
                "bars": 1,
                "missing_minutes": 389,
                "adjustment": "raw",
                "volume": "consolidated",
            }
        ],
        "vix": {"first": "2019-12-02", "last": "2019-12-02", "rows": 1},
        "rates": None,
        "fundamentals": None,
        "splits": None,
        "fetched": None,
    }


def test_list_counts_the_days_of_downloaded_rates(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Apart from the closes of the VIX that were downloaded, which the VIX has."""
    for name, code, days in ((VIX, "", (DAY,)), (RATES, "US", (DAY, DAY + dt.timedelta(days=1)))):
        values = [DailyValue(day=one, value=0.04, code=code) for one in days]
        found = PublishedSeries(name=name, source="a source", values=values)
        merge_series(home / "data/bars", ExchangeCalendar(), found, DAY + dt.timedelta(days=3))
        capsys.readouterr()
        assert tbot("data", "list", "--home", home) == 0
        shown = "Daily rates: 2 rows, 2019-12-03 to 2019-12-04" if name == RATES else "Daily rates: none"
        assert shown in capsys.readouterr().out.splitlines()


def test_verify_fails_on_faults_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thin sessions are warned of with exit 0; a corrupt file is exit 1, in words and as a document."""
    bench = StoreFixture(folder=home / "data")
    bench.folder.mkdir()
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-03"), minutes=300))
    assert tbot("data", "verify", "--home", home) == 0
    assert capsys.readouterr().out.splitlines() == [
        "warning: AAA: under 90 % of the minutes in 2 sessions (2019-12-02, 2019-12-03).",
        "note: AAA: 180 of 780 minutes have no bar.",
        "1 file, 600 bars: 0 faults, 1 warning.",
    ]
    (path,) = bench.bars.glob("*/AAA-*.parquet")
    path.write_bytes(parquet.parquet_bytes(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-02"))))
    assert tbot("data", "verify", "--json", "--home", home) == 1
    document = json.loads(capsys.readouterr().out)
    assert sorted(document) == ["bars", "faults", "files", "notes", "warnings"]
    (fault,) = document["faults"]
    assert fault["where"] == str(path)
    assert "is corrupt" in fault["message"]
    assert tbot("data", "verify", "--home", home) == 1
    first_line = capsys.readouterr().out.splitlines()[0]
    assert first_line.startswith(f"fault: {path} is corrupt")
    assert first_line.count(str(path)) == 1


@pytest.mark.parametrize("name", ["AAA-*.parquet", "daily-*.parquet"])
def test_a_folder_in_place_of_a_file_is_named_once_with_its_remedy(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """It is one fault, which says that a folder stands there and to remove it; a person is not asked to name a file."""
    bench = StoreFixture(folder=home / "data")
    bench.folder.mkdir()
    bench.put(rising_bars("AAA", exchange_sessions("2019-12-02", "2019-12-02")))
    (path,) = bench.bars.glob(f"*/{name}")
    path.unlink()
    path.mkdir()
    assert tbot("data", "verify", "--home", home) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fault: ")]
    assert faults[0].startswith(f"fault: {path} is a folder, but must be a file. Remove it, then import")
    assert faults[0].count(str(path)) == 1
    assert "use a settings file" not in faults[0]


def test_each_example_of_the_page_of_formats_is_imported(
    home: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files that docs/data-formats.md shows are bars, VIX, fundamentals and splits."""
    page = (root / "docs" / "data-formats.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .+\n)+", page, re.MULTILINE)
    for number, block in enumerate(blocks):
        path = write(home, f"{number}.csv", "".join(f"{line.strip()}\n" for line in block.splitlines()))
        assert tbot("data", "import", path, "--home", home) == 0
    said = capsys.readouterr().out
    kinds = ("bars", "VIX", "fundamentals", "splits")
    assert [f"{number}.csv: {kind}" in said for number, kind in enumerate(kinds)] == [True] * 4
    assert len(blocks) == 4
