"""`tbot backtest` from the command line: its words, its document, and what it refuses."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from tbot_core import cli
from tbot_core.errors import UsageError
from tbot_core.model.dates import day_range, parse_day, parse_symbols
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

DAY = "2018-07-02"
RANGE = ("--from", DAY, "--to", DAY)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with one session of a stock that rises a cent a minute, and a strategy that buys it."""
    bench = StoreFixture(folder=tmp_path / "data")
    bench.folder.mkdir()
    bench.put(rising_bars("AAA", exchange_sessions(DAY, DAY), price=20.0))
    lines = ("STRATEGY_SEQUENCE=open,mid", "FILTERS=none", "BROKER_NAME=PAPER", "STRAT_OPEN_BUFFER=0", "VOLUME_LIMIT=0")
    (tmp_path / ".env_bot").write_text("\n".join(lines))
    return tmp_path


def test_the_document_holds_the_trade(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json writes one document with the trade, the denials and both hashes; --progress what is done."""
    progress = home / "progress"
    words = ["backtest", *RANGE, "--json", "--home", str(home), "--seed", "3", "--progress", str(progress)]
    assert cli.invoke(words) == 0
    document = json.loads(capsys.readouterr().out)
    notes = document["notes"][:1]
    assert json.loads(progress.read_text()) == {"done": 1, "of": 1, "notes": notes}
    assert notes[0].startswith("Stored bars have no quotes")
    assert (document["mode"], document["sessions"], document["symbols"]) == ("backtest", 1, 1)
    assert [(trade["strategy"], trade["symbol"]) for trade in document["trades"]] == [("open", "AAA")]
    assert document["settings_hash"]
    assert document["data_hash"]
    report = Path(document["report"])
    assert "Backtest, 2018-07-02" in report.read_text(encoding="utf-8")
    assert report.with_suffix(".csv").read_text(encoding="utf-8").count("\n") == 2


@pytest.mark.slow
def test_a_person_reads_what_a_replay_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bars, trades, profit, notes and equity are as those of a replay; how far to trust it is the backtest's own."""
    assert cli.invoke(["backtest", *RANGE, "--home", str(home), "--symbols", "aaa"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert cli.invoke(["run", "--replay", f"{DAY}..{DAY}", "--home", str(home), "--symbols", "aaa"]) == 0
    replayed = capsys.readouterr().out.splitlines()
    assert said[0] == "tbot backtest. Market prices: stored bars."
    place = said.index("Reliability")
    shared, own = said[1:place], said[place:]
    assert [line for line in shared if line not in replayed] == []
    assert own[1] == (
        "  95\N{NO-BREAK SPACE}% of the profit is left at twice the slippage, "
        "97\N{NO-BREAK SPACE}% with entries one bar later."
    )
    assert "  1 trade is few: the result may be chance." in own
    assert "  Universe: The 1 symbol that was named. Delisted symbols" in "\n".join(own)
    for head in ("Trades", "Net P&L by strategy", "Notes"):
        assert head in said
    assert said[-3] in replayed
    assert said[-3].startswith("1 session, 1 trade, equity ")
    assert said[-2] == "1 session: 1 by their signals alone."
    assert said[-1].startswith(f"Report: {home / 'reports'}")


@pytest.mark.parametrize("words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}")])
@pytest.mark.parametrize("suffix", [".html", ".csv"])
@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_at_the_report_costs_no_result(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    suffix: str,
    as_json: bool,
) -> None:
    """The trades are printed, then what could not be written and where: exit 1, and no part of a report is left."""
    write = filesystem.write_atomic

    def full(path: Path, data: bytes, **options: Any) -> None:
        with filesystem.raising_access_errors("write", path):
            if path.suffix == suffix and path.parent.name == "reports":
                raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **options)

    monkeypatch.setattr(filesystem, "write_atomic", full)
    assert cli.invoke([*words, "--home", str(home), *(["--json"] if as_json else [])]) == 1
    said = capsys.readouterr()
    if as_json:
        document = json.loads(said.out)
        assert [trade["symbol"] for trade in document["trades"]] == ["AAA"]
        assert document["report"] == ""
    else:
        assert "1 session, 1 trade, equity " in said.out
        assert "Report:" not in said.out
    assert f"Cannot write {home / 'reports'}" in said.err
    assert "The disk is full: free some space. The result is complete; only its report is missing." in said.err
    assert [path.name for path in (home / "reports").iterdir()] == []
    monkeypatch.setattr(filesystem, "write_atomic", write)
    assert cli.invoke([*words, "--home", str(home)]) == 0


@pytest.mark.first(1)
@pytest.mark.parametrize("words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}")])
def test_a_symbol_without_bars_is_named_and_the_others_are_traded(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A symbol of --symbols that the range has no bars of is warned of before the run, and noted in the document."""
    assert cli.invoke([*words, "--symbols", "AAA,NOPE", "--json", "--home", str(home)]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert [trade["symbol"] for trade in document["trades"]] == ["AAA"]
    assert "No bars are stored for NOPE." in document["notes"]
    assert "No bars are stored for NOPE." in captured.err


@pytest.mark.first(1)
@pytest.mark.parametrize("words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}")])
def test_symbols_none_of_which_has_bars_end_the_run(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any bar of what was asked for there is nothing to trade, as in a range without bars."""
    assert cli.invoke([*words, "--symbols", "NOPE,NADA", "--home", str(home)]) == 1
    assert f"No bars of NADA, NOPE are stored from {DAY} to {DAY}." in capsys.readouterr().err


def test_one_strategy_may_run_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--strategy runs that one, whatever the sequence says."""
    assert cli.invoke(["backtest", *RANGE, "--json", "--home", str(home), "--strategy", "mid"]) == 0
    assert json.loads(capsys.readouterr().out)["trades"] == []


def test_a_strategy_that_is_not_installed_is_wrong_usage(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with the option, its value and the installed strategies."""
    assert cli.invoke(["backtest", *RANGE, "--home", str(home), "--strategy", "nosuch"]) == 2
    said = capsys.readouterr().err
    assert "--strategy nosuch: not installed (installed: " in said
    assert "open" in said


@pytest.mark.parametrize("text", [",,,", " , "])
@pytest.mark.parametrize("words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}")])
def test_a_list_without_symbols_is_refused(
    home: Path, words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list that contains no symbol does not mean all of them."""
    assert cli.invoke([*words, "--symbols", text, "--home", str(home)]) == 2
    assert "contains no symbol" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}")])
def test_settings_that_are_a_folder_are_faulty_settings(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A trading configuration that cannot be read is said in a sentence, exit 3; only the lock of a run is written."""
    (tmp_path / ".env_bot").mkdir()
    assert cli.invoke([*words, "--home", str(tmp_path)]) == 3
    said = capsys.readouterr().err
    assert "Cannot read" in said
    assert "move the folder away" in said
    assert {path.name for path in tmp_path.rglob("*")} <= {".env_bot", "data", "tbot.lock"}


SWITCHES = """LOT_METHOD=lifo
TRADE_CONFIRMATION_REQUIRED=false
NOTIFY_ON_FILL=false
LEDGER_EXPORT_MODE=auto
ENABLE_STRATEGY_OPTIMIZER=true
OPTIMIZER_ALGORITHM=genetic
SECRETS_WRITE_FORMAT=fernet
"""


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "words", [("backtest", *RANGE), ("run", "--replay", f"{DAY}..{DAY}"), ("run", "--demo", "--sessions", "1")]
)
def test_switches_that_nothing_acts_on_are_one_line(
    home: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every run names in one line what is switched on without effect, and no repetition that changes nothing.

    Each bears its value and the line of the file that says it.
    """
    settings = home / ".env_bot"
    settings.write_text(f"{settings.read_text()}\n{SWITCHES}LOT_METHOD=lifo\n")
    assert cli.invoke([*words, "--home", str(home)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tbot: ")]
    (idle,) = [line for line in said if "its plugin is not installed" in line]
    found = sorted(idle.partition("is not installed: ")[2].removesuffix(".").split(", "))
    lines = settings.read_text().splitlines()
    expected = {
        "LOT_METHOD=lifo",
        "ENABLE_STRATEGY_OPTIMIZER=true",
    }
    places = {text: len(lines) - lines[::-1].index(text) for text in expected}
    assert found == sorted(f"{text} (.env_bot:{line})" for text, line in places.items())
    assert not any("with the same value" in line for line in said)


def test_days_and_lists_as_people_type_them() -> None:
    """Symbols are capitals, each once; days are ISO; a reversed range says how to write it."""
    assert parse_symbols("spy, qqq,SPY") == ("SPY", "QQQ")
    assert parse_symbols(None) == ()
    with pytest.raises(UsageError, match="Invalid date"):
        parse_day("yesterday")
    with pytest.raises(UsageError, match="is reversed"):
        day_range("2018-07-03", DAY)


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "command", [["backtest", "--from", DAY, "--to", DAY], ["run", "--replay", f"{DAY}..{DAY}"]], ids=lambda it: it[0]
)
def test_where_nothing_can_be_read_only_the_error_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Corrupt bars end both commands with 1 before a banner is written to standard output."""
    (path,) = (home / "data").glob("**/AAA-*.parquet")
    path.write_bytes(b"no bars")
    assert cli.invoke([*command, "--home", str(home)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{path} is corrupt" in said.err
