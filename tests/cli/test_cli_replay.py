"""`tbot run --replay` over real bars: six weeks of 2018 and a half day, from import to explanation."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli, records
from tbot_core.clock import exchange_time
from tbot_core.journal import read_journal
from tbot_core.model import dollars_of
from tbot_core.projection import Book

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """BROKER_NAME=PAPER
STRATEGY_SEQUENCE=open,mid,close
MAX_PRICE=2000
STRAT_OPEN_BUFFER=0.002
STRAT_MID_VWAP_THRESHOLD=0.005
SHORT_TYPE_OPEN=ShortSell
SHORT_TYPE_MID=ShortSell
SHORT_TYPE_CLOSE=ShortSell
START_TIME_OPEN=14:30
START_TIME_MID=15:30
START_TIME_CLOSE=19:30
"""
WEEKS = "2018-02-16..2018-03-29"

pytestmark = pytest.mark.slow


def imported(home: Path, shared: Path, *names: str) -> Path:
    """An instance with the settings above and these files of the shared data."""
    home.mkdir(exist_ok=True)
    (home / ".env_bot").write_text(SETTINGS)
    for name in names:
        assert cli.invoke(["data", "import", str(shared / "data" / name), "--home", str(home)]) == 0
    return home


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """An instance with sixteen symbols of 2018 and the daily VIX."""
    return imported(tmp_path_factory.mktemp("weeks"), shared, "bars/us300_2018", "vix_daily.parquet")


def replay(home: Path, days: str, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    """The document of a replay."""
    capsys.readouterr()
    assert cli.invoke(["run", "--replay", days, "--home", str(home), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def document(weeks: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The document of the six weeks."""
    return replay(weeks, WEEKS, capsys)


def test_six_weeks_are_traded_by_all_strategies(document: Any) -> None:
    """29 sessions of 16 symbols, trades of all three strategies, and no bar after a close is traded."""
    assert (document["mode"], document["sessions"], document["symbols"]) == ("replay", 29, 16)
    assert {trade["strategy"] for trade in document["trades"]} == {"open", "mid", "close"}
    for trade in document["trades"]:
        entry, left = (exchange_time(dt.datetime.fromisoformat(trade[name])) for name in ("entry_time", "exit_time"))
        assert entry.date() == left.date()
        assert dt.time(9, 30, 30) <= entry.time() <= left.time() < dt.time(16)


def test_daylight_saving_moves_no_window_against_the_bell(document: Any) -> None:
    """Before and after 2018-03-11 entries of each strategy lie in the same minutes of New York time."""
    spans: dict[tuple[str, bool], set[dt.time]] = {}
    for trade in document["trades"]:
        entry = exchange_time(dt.datetime.fromisoformat(trade["entry_time"]))
        summer = entry.date() > dt.date(2018, 3, 11)
        spans.setdefault((trade["strategy"], summer), set()).add(entry.time())
    # Entries fill within three bars after a window's last trigger bar; these are the windows of the settings.
    bounds = {"open": ((9, 50), (10, 3)), "mid": ((10, 45), (11, 3)), "close": ((14, 35), (15, 3))}
    for (strategy, _), times in spans.items():
        first, last = (dt.time(*bound) for bound in bounds[strategy])
        assert first <= min(times) <= max(times) <= last
    assert {summer for _, summer in spans} == {False, True}


def test_the_vix_gate_closes_quiet_days(document: Any) -> None:
    """Where the previous session's VIX closed under the threshold, the close strategy has no entry."""
    assert document["denials"]["VIX_LOW"] > 0
    quiet = [one for one in document["trades"] if one["strategy"] == "close" and one["entry_time"] < "2018-03-13"]
    assert all(not one["entry_time"].startswith("2018-03-12") for one in quiet)


def test_money_adds_up_at_every_event(document: Any, weeks: Path) -> None:
    """Cash and positions are equity at each event, nothing is open at a session's end, and trades add up to the end."""
    (file,) = (weeks / "data" / "runs").glob("*.sqlite")
    journal, book = read_journal(file), Book()
    for event in journal.events():
        book.apply(event.kind, event.cid, event.payload, event.applied)
        portfolio = book.portfolio
        assert portfolio.opening_atoms + portfolio.pnl_atoms == portfolio.equity_atoms
        if event.kind == records.SESSION_CLOSED:
            assert (event.payload["open"], portfolio.positions) == ([], {})
            assert Decimal(event.payload["cash"]) == dollars_of(portfolio.cash_atoms)
    journal.close()
    earned = sum(Decimal(trade["pnl"]) for trade in document["trades"])
    assert Decimal(document["equity_end"]) - Decimal(document["equity_start"]) == earned


def test_the_same_replay_twice_is_equal_to_the_byte(document: Any, weeks: Path, capsys: Any) -> None:
    """A finished replay is run anew and says the same."""
    assert replay(weeks, WEEKS, capsys) == document


def test_a_missing_volume_rejects_the_first_sessions(weeks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With FILTER_MISSING_DATA=reject the first five sessions lack a mean volume: no trade, and the reason is said."""
    settings = weeks / ".env_bot"
    settings.write_text(SETTINGS + "FILTER_MISSING_DATA=reject\nMIN_VOLUME_THRESHOLD=1000000\n")
    try:
        found = replay(weeks, "2018-02-16..2018-02-23", capsys)
    finally:
        settings.write_text(SETTINGS)
    assert found["trades"] == []
    assert found["denials"]["VOLUME_UNKNOWN"] > 0


def test_a_symbol_of_a_replay_is_explained(document: Any, weeks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first trade's symbol is explained from the stored bars: what fired is what was decided."""
    trade = document["trades"][0]
    day = trade["entry_time"][:10]
    assert cli.invoke(["why", trade["symbol"], "--date", day, "--home", str(weeks), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["simulated"] is False
    allowed = next(one for one in found["decisions"] if one["reason"] == "ALLOWED")
    minute = next(one for one in found["minutes"] if one["minute"] == allowed["signal"]["minute"])
    fired = [one["rule"] for part in minute["strategies"] for one in part["comparisons"] if one["fires"]]
    assert allowed["signal"]["rule"] in fired


def test_a_half_day_has_no_close_window(tmp_path: Path, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On 2019-12-24 the close window is outside the session; nothing is traded after 13:00."""
    home = imported(tmp_path, shared, "bars/yahoo_2019_12")
    found = replay(home, "2019-12-24..2019-12-24", capsys)
    assert found["denials"]["WINDOW_OUTSIDE_SESSION"] == found["symbols"]
    assert all(trade["strategy"] != "close" for trade in found["trades"])
    last = max(dt.datetime.fromisoformat(trade["exit_time"]) for trade in found["trades"])
    assert exchange_time(last).time() < dt.time(13)
