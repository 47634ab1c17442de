"""Bad bars from the command line: each has its sentence and its exit code, and what is stored can be tested."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "ts,open,high,low,close,volume\n"
DAY = "2018-07-02"
RANGE = ("--from", DAY, "--to", DAY)
SETTINGS = (
    "STRATEGY_SEQUENCE=open\nFILTERS=none\nBROKER_NAME=PAPER\nSTRAT_OPEN_BUFFER=0\nVOLUME_LIMIT=0\n"
    "STRAT_OPEN_STOP_LOSS=0.5\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance without bars, whose strategy buys what rises."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".env_bot").write_text(SETTINGS)
    return folder


def rows(count: int = 390, volume: str = "100") -> list[str]:
    """Bars of the first minutes of the day, which rise a cent a minute."""
    found = []
    for minute in range(count):
        hour, rest = divmod(13 * 60 + 30 + minute, 60)
        price = 20 + minute / 100
        prices = f"{price:.2f},{price + 0.05:.2f},{price - 0.05:.2f},{price + 0.01:.2f}"
        found.append(f"{DAY}T{hour:02}:{rest:02}:00Z,{prices},{volume}")
    return found


def put(home: Path, lines: list[str], name: str = "AAA.csv") -> int:
    """Import a CSV file of these rows; the exit code."""
    path = home.parent / name
    path.write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return cli.invoke(["data", "import", str(path), "--home", str(home)])


def trades(home: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    """The trades of a backtest of the day, which must end with 0."""
    capsys.readouterr()
    assert cli.invoke(["backtest", *RANGE, "--json", "--home", str(home)]) == 0
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)["trades"]
    return found


def test_no_bars_are_exit_1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table without a row stores nothing, and a backtest without bars names what gets some."""
    assert put(home, []) == 1
    assert "refused: AAA.csv: it has no rows." in capsys.readouterr().err
    assert cli.invoke(["backtest", *RANGE, "--home", str(home)]) == 1
    said = capsys.readouterr().err
    assert f"No bars of any symbol are stored from {DAY} to {DAY}." in said
    assert "`tbot data import PATH`" in said


def test_one_bar_is_a_session_without_trades(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is stored and tested, with exit 0; the check of the store warns of the minutes that lack."""
    assert put(home, rows(1)) == 0
    assert "AAA.csv: bars of AAA, 2018-07-02 to 2018-07-02: 1 added." in capsys.readouterr().out
    assert trades(home, capsys) == []
    assert cli.invoke(["data", "verify", "--home", str(home)]) == 0
    assert "warning: AAA: under 90 % of the minutes in 1 session (2018-07-02)" in capsys.readouterr().out


@pytest.mark.parametrize("price", ["NaN", "-20.05", "0", "", "inf", "x"])
def test_a_price_that_is_none_is_exit_1(home: Path, price: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a number, negative, zero or missing: the file is refused with its first line, and nothing is stored."""
    lines = rows()
    lines[7] = lines[7].replace(",20.07,", f",{price},")
    assert put(home, lines) == 1
    said = capsys.readouterr().err
    assert (
        "refused: AAA.csv: price that is missing, zero, negative or not a number (1, first: line 9, 2018-07-02" in said
    )
    assert cli.invoke(["backtest", *RANGE, "--home", str(home)]) == 1


def test_bars_without_volume_are_tested(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Minutes without a trade are bars all the same: exit 0 from import and backtest."""
    assert put(home, rows(volume="0")) == 0
    trades(home, capsys)


def test_the_order_of_rows_does_not_matter(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows in reverse, and some of them twice: the same trades, and the repeated ones are counted."""
    assert put(home, rows()) == 0
    expected = trades(home, capsys)
    assert len(expected) == 1
    other = home.parent / "other"
    other.mkdir()
    (other / ".env_bot").write_text(SETTINGS)
    assert put(other, [*reversed(rows()), *rows(30)]) == 0
    assert "390 added, 30 repeated" in capsys.readouterr().out
    assert trades(other, capsys) == expected
    assert put(other, [*rows(), rows()[3].replace(",100", ",101")], "AAA.csv") == 1
    assert "row that contradicts an earlier one (1, first: line 392" in capsys.readouterr().err


def test_a_symbol_that_vanishes_is_closed_at_its_last_price(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A position in a symbol that has no more bars ends with the session, named as such; the check warns."""
    put(home, rows(), "BBB.csv")
    put(home, rows(60))
    found = {trade["symbol"]: trade for trade in trades(home, capsys)}
    assert found["AAA"]["exit_reason"] == "NO_MARKET"
    assert float(found["AAA"]["exit_price"]) == 20.6
    assert found["BBB"]["exit_reason"] != "NO_MARKET"
    assert cli.invoke(["data", "verify", "--home", str(home)]) == 0
    assert "warning: AAA: under 90 % of the minutes" in capsys.readouterr().out


def test_a_full_disk_is_exit_1(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence with the remedy; nothing is stored by half, and the same command imports it later."""
    write = filesystem.write_atomic

    def full(path: Path, data: bytes, **options: Any) -> None:
        with filesystem.raising_access_errors("write", path):
            if path.suffix == ".parquet":
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr(filesystem, "write_atomic", full)
    assert put(home, rows()) == 1
    said = capsys.readouterr().err
    assert "No space left on device." in said
    assert "The disk is full: free some space." in said
    assert "No file of this import is stored as a whole: the same command begins it again." in said
    assert list(home.rglob("*.parquet")) == []
    monkeypatch.setattr(filesystem, "write_atomic", write)
    assert put(home, rows()) == 0


@pytest.mark.parametrize(
    ("done", "words"),
    [
        (0, "No file of this import is stored as a whole: the same command begins it again."),
        (1, "1 of 3 files is stored: the same command continues with the others."),
        (2, "2 of 3 files are stored: the same command continues with the others."),
    ],
)
def test_an_interrupted_import_says_what_is_stored(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, done: int, words: str
) -> None:
    """Ctrl-C ends it with 130; the files that it counts are there, and the same command imports the others."""
    folder = home / "sources"
    folder.mkdir()
    names = ("AAA", "BBB", "CCC")
    for name in names:
        (folder / f"{name}.csv").write_text(HEAD + "\n".join(rows()))
    write = filesystem.write_atomic

    def interrupted(path: Path, data: bytes, **options: Any) -> None:
        if path.name.startswith(names[done]):
            raise KeyboardInterrupt
        write(path, data, **options)

    monkeypatch.setattr(filesystem, "write_atomic", interrupted)
    assert cli.invoke(["data", "import", str(folder), "--home", str(home)]) == 130
    assert f"tbot: {words}" in capsys.readouterr().err
    monkeypatch.setattr(filesystem, "write_atomic", write)
    cli.invoke(["data", "list", "--home", str(home), "--json"])
    assert [row["symbol"] for row in json.loads(capsys.readouterr().out)["symbols"]] == list(names[:done])
    assert cli.invoke(["data", "import", str(folder), "--home", str(home)]) == 0
    assert capsys.readouterr().out.count("already stored") == done


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_is_imported_again(home: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The files are named, a second export does not overwrite them, and an import of them changes nothing."""
    put(home, rows())
    capsys.readouterr()
    words = ["data", "export", str(home.parent / "out"), *RANGE, "--format", form, "--home", str(home)]
    assert cli.invoke(words) == 0
    assert capsys.readouterr().out == f"390 bars in 1 file written to {home.parent / 'out'}.\n"
    assert cli.invoke(words) == 1
    assert f"AAA.{form}: it exists. Choose another folder" in capsys.readouterr().err.replace("\n      ", " ")
    assert cli.invoke(["data", "import", str(home.parent / "out"), "--home", str(home)]) == 0
    assert "390 already stored. No change." in capsys.readouterr().out
    assert cli.invoke(["data", "export", str(home.parent / "x"), "--from", DAY, "--to", "2018-07-01"]) == 2


def test_an_export_names_symbols_without_bars(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others are written; the note is that of a backtest of the same list, and in the document as well."""
    put(home, rows())
    asked = ["--symbols", "ZZZ,AAA,NOPE", "--home", str(home)]
    capsys.readouterr()
    assert cli.invoke(["data", "export", str(home.parent / "out"), *RANGE, *asked]) == 0
    said = capsys.readouterr().out
    assert said.startswith("390 bars in 1 file written to ")
    assert cli.invoke(["backtest", *RANGE, *asked]) == 0
    note = next(line.strip() for line in said.splitlines() if "ZZZ" in line)
    assert note in capsys.readouterr().out
    assert cli.invoke(["data", "export", str(home.parent / "two"), *RANGE, *asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["absent"] == ["NOPE", "ZZZ"]


def test_an_export_names_what_an_import_must_know(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Adjusted prices and volumes of a part of the tape, and prices that are simulated."""
    path = home.parent / "AAA.csv"
    path.write_text(HEAD + "\n".join(rows()) + "\n")
    kind = ["--adjustment", "split", "--volume", "partial"]
    assert cli.invoke(["data", "import", str(path), *kind, "--home", str(home)]) == 0
    manifest = home / "data" / "bars" / "2018-07" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["symbols"]["AAA"]["sources"] = ["simulated feed x"]
    manifest.write_text(json.dumps(document))
    assert cli.invoke(["data", "export", str(home.parent / "out"), *RANGE, "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "Import them with --adjustment split --volume partial." in said
    assert "These prices are simulated" in said


def test_a_mapping_file_is_an_option(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bars of any table come in with it; a faulty one is wrong usage, and a table of a plugin has none."""
    source, mapping = home.parent / "AAA.csv", home.parent / "mapping.toml"
    source.write_text("T;O;H;L;C;V\n02.07.2018 09:30;20;21;19;20;100\n")
    columns = '[columns]\nts = "T"\nopen = "O"\nhigh = "H"\nlow = "L"\nclose = "C"\nvolume = "V"\n'
    mapping.write_text(f'zone = "America/New_York"\nformat = "%d.%m.%Y %H:%M"\nseparator = ";"\n{columns}')
    words = ["data", "import", str(source), "--mapping", str(mapping), "--home", str(home)]
    assert cli.invoke(words) == 0
    assert "1 added" in capsys.readouterr().out
    mapping.write_text("[columns]\n")
    assert cli.invoke(words) == 2
    assert "mapping.toml: column open is missing" in capsys.readouterr().err
    assert cli.invoke(["data", "import", "funds", str(source), "--mapping", str(mapping), "--home", str(home)]) == 2
    assert "--mapping does not apply to a table" in capsys.readouterr().err
