"""`tbot run --replay` over some weeks of real bars: the same twice, and explained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core import cli

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
    """The document of these weeks."""
    return replay(weeks, WEEKS, capsys)


@pytest.mark.first(0)  # every hash seed gives the same bytes: test_cli_interrupts
def test_the_same_replay_twice_is_equal_to_the_byte(document: Any, weeks: Path, capsys: Any) -> None:
    """A finished replay is run anew and says the same."""
    assert replay(weeks, WEEKS, capsys) == document


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
