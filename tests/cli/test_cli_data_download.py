"""`tbot data download`: simulated sessions in the store, and a replay and a backtest of them with the same trades."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.backtest.data_download import DownloadResult
from tbot_core.cli.commands import data
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.marketdata.history import DownloadProgress
from tbot_core.testing.store import exchange_sessions

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """BROKER_NAME=PAPER
STRATEGY_SEQUENCE=open,mid
STRAT_OPEN_BUFFER=0
STRAT_MID_VWAP_THRESHOLD=0.003
MAX_GAP_PCT_OPEN=0.5
MAX_GAP_PCT_MID=0.5
MAX_RISK_PER_TRADE=0.1
MAX_PRICE=500
SHORT_TYPE_OPEN=ShortSell
START_TIME_OPEN=14:30
START_TIME_MID=15:30
"""
RANGE = "--from", "2026-02-23", "--to", "2026-03-04"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that trades on the simulator."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / ".env_bot").write_text(SETTINGS)
    return folder


def tbot(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """The document of a command."""
    capsys.readouterr()
    assert cli.invoke([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_replay_and_backtest_of_downloaded_sessions_make_the_same_trades(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything can be tried without a vendor; the same download again skips what is stored."""
    words = "data", "download", "--source", "PAPER", *RANGE, "--symbols", "axilo,FENNO,ZOLTA", "--home", home
    first = tbot(capsys, *words)
    assert (first["sessions"], first["downloaded"], first["skipped"]) == (8, 24, 0)
    assert (first["symbols"], first["refused"]) == (["AXILO", "FENNO", "ZOLTA"], [])
    assert first["bars"] > 8 * 3 * 380
    again = tbot(capsys, *words)
    assert (again["downloaded"], again["skipped"], again["bars"], again["facts"]) == (0, 24, 0, 0)
    replay = tbot(capsys, "run", "--replay", "2026-02-23..2026-03-04", "--home", home)
    backtest = tbot(capsys, "backtest", *RANGE, "--home", home)
    assert replay["trades"]
    assert (replay["trades"], replay["data_hash"]) == (backtest["trades"], backtest["data_hash"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--source", "paper", "--from", "2026-03-04", "--to", "2026-03-02"), 2, "is reversed"),
        (("--source", "paper", "--from", "2026-02-28", "--to", "2026-03-01"), 1, "No session from 2026-02-28"),
        (("--source", "paper", *RANGE, "--symbols", "MSFT"), 1, "does not list MSFT"),
        (("--source", "acme", *RANGE), 3, "--source acme: no such broker is installed."),
    ],
)
def test_what_cannot_be_downloaded_has_its_exit_code(
    home: Path, words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reversed days: 2; no session, and no such symbol: 1; a plugin that is not installed: 3."""
    assert cli.invoke(["data", "download", *words, "--home", str(home)]) == code
    assert said in capsys.readouterr().err


def test_a_download_says_what_it_added_and_what_it_did_not(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bars of another kind than the stored ones are named, with the remedy, and the exit code is 1."""
    days = exchange_sessions("2026-02-23", "2026-02-24")
    progress = DownloadProgress(done=2, total=2, skipped=1, bars=780, invalid=3, refused=("AAA in 2026-02: why",))
    result = DownloadResult(
        folder=home / "bars", sessions=days, symbols=("AAA",), unknown=("ZZZ",), progress=progress, facts=0
    )
    monkeypatch.setattr(data, "download_with_progress", lambda *_given: result)
    words = ["data", "download", "--source", "acme", *RANGE, "--home", str(home)]
    assert cli.invoke(words) == 1
    assert capsys.readouterr().out.splitlines() == [
        "acme: 2 sessions from 2026-02-23 to 2026-02-24, 1 symbol: 780 bars added.",
        "Stored already: 1 session of single symbols.",
        "3 invalid bars left out.",
        "acme does not know ZZZ.",
        "not stored: AAA in 2026-02: why. `tbot data import --replace` replaces a month whole.",
    ]
    whole = attrs.evolve(result, progress=DownloadProgress(done=2, total=2, bars=780), unknown=(), facts=2)
    monkeypatch.setattr(data, "download_with_progress", lambda *_given: whole)
    assert cli.invoke(words) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["2 facts of days added: closes of the VIX, capitalisations."]
    monkeypatch.setenv(REHEARSAL_VARIABLE, "http://127.0.0.1:1")
    assert cli.invoke(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"The bars are in {home / 'bars'}, for this rehearsal only: the instance's own store is unchanged."


def test_progress_is_shown_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that is rewritten, and removed at the end; a file has its figures, on a terminal or not."""
    with data.progress_line(tmp_path / "progress") as report:
        report(DownloadProgress(done=2, total=1200, bars=780))
    assert json.loads((tmp_path / "progress").read_text()) == {"done": 2, "of": 1200}
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with data.progress_line() as report:
        report(DownloadProgress(done=3, total=1200, bars=1170))
    assert capsys.readouterr().err == "\r\x1b[KDownloading 3 of 1,200 sessions of single symbols: 1,170 bars\r\x1b[K"


def test_an_interrupted_download_says_how_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends the command; what is stored stays."""
    with pytest.raises(KeyboardInterrupt), data.continuable():
        raise KeyboardInterrupt
    assert "the same command continues the download" in capsys.readouterr().err
