"""Recorded sessions, traded over real connections at the test venue, are those of a replay under its capabilities."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING

import polars as pl
import pytest
from tbot_broker_alpaca import tbot_broker

from tbot_core.instance import Instance
from tbot_core.marketdata.store.importer import RefusedFile, import_files
from tbot_core.marketdata.store.source_files import ImportOptions
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.session_rehearsal import Cause, SessionReport, SessionTerms, recorded_days, rehearse_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

DAY = dt.date(2018, 3, 20)
CENT = Decimal("0.01")
EARLY = {
    "UNIVERSE": "AMD,BA,FB,GE,NFLX",
    "CALENDAR_OVERRIDES": f"{DAY} 09:55",
    "FLATTEN_BEFORE_CLOSE": "1",
    "STRATEGY_SEQUENCE": "open,mid",
    "START_TIME_MID": "14:35",
    "OPEN_BREAKOUT_TIME": "8",
    "OPEN_MONITORING_TIME": "6",
    "MID_BREAKOUT_TIME": "6",
    "MID_MONITORING_TIME": "4",
    "TRAILING_STOP": "true",
}
"""The first 25 minutes of the session, with windows that lie in them."""

PAST = dt.datetime(2018, 3, 12, tzinfo=dt.UTC)
"""The start of the seven sessions that the short tests have in their history."""

SETTINGS = {
    "BROKER_NAME": "PAPER",
    "FILTERS": "price_volume",
    "MAX_PRICE": "2000",
    "TOTAL_ALLOCATION": "0.04",
    "MAX_RISK_PER_TRADE": "0.2",
    "STOP_LOSS_PCT": "0.005",
    "STRAT_OPEN_BUFFER": "0.001",
    "STRAT_MID_VWAP_THRESHOLD": "0.002",
    "STRAT_CLOSE_VIX_THRESHOLD": "0",
    **{f"{name}_ANALYSIS_TIME": "5" for name in ("OPEN", "MID", "CLOSE")},
    **{f"SHORT_TYPE_{name}": "ShortSell" for name in ("OPEN", "MID", "CLOSE")},
}


def instance(home: Path, shared: Path, settings: dict[str, str], since: dt.datetime | None = None) -> Path:
    """An instance with the recorded sessions of the spring of 2018."""
    home.mkdir()
    texts = SETTINGS | settings
    (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))
    names = texts.get("UNIVERSE", "*").split(",")
    files = [file for name in names for file in sorted((shared / "data/bars/us300_2018").glob(f"{name}.parquet"))]
    if since is not None:
        frames = {home / file.name: pl.read_parquet(file).filter(pl.col("ts") >= since) for file in files}
        for file, frame in frames.items():
            frame.write_parquet(file)
        files = list(frames)
    files.append(shared / "data/vix_daily.parquet")
    imported: list[object] = []
    import_files(Instance.at(home).bars, ExchangeCalendar(), files, ImportOptions(), imported.append)
    assert not [one for one in imported if isinstance(one, RefusedFile)]
    return home


def traded(home: Path, day: dt.date = DAY, half_spread: Decimal = Decimal(0), seed: int | None = None) -> SessionReport:
    """The report of a session."""
    return rehearse_session(tbot_broker(), home, day, SessionTerms(half_spread=half_spread, seed=seed), SystemClock())


@pytest.mark.first(0)  # over two seconds
def test_the_first_minutes_are_traded_as_in_its_replay(tmp_path: Path, shared: Path) -> None:
    """With bid and ask at the last close: the same decisions, orders, fills and trades, short ones too, and books."""
    home = instance(tmp_path / "home", shared, EARLY, PAST)
    assert recorded_days(home, DAY, DAY, SystemClock()) == (DAY,)
    report = traded(home)
    assert report.differences == ()
    assert report.violations == ()
    assert report.decisions > 5
    assert report.fills == 2 * report.trades > 6
    assert report.shorts > 0
    assert any("replaced" in line for line in report.venue)  # a stop was moved


@pytest.mark.first(0)  # over two seconds
def test_a_spread_of_two_cents_is_the_cause_of_each_difference(tmp_path: Path, shared: Path) -> None:
    """Entries are priced at the far side of the quote, and what follows from that is named so."""
    report = traded(instance(tmp_path / "home", shared, EARLY, PAST), half_spread=CENT)
    assert report.violations == ()
    assert report.causes[Cause.SPREAD.name] >= 3


DAYS = [dt.date(2018, 3, day) for day in (20, 22, 23, 26, 28)]
WHOLE = {"STRATEGY_SEQUENCE": "open,mid,close", "START_TIME_MID": "15:30", "START_TIME_CLOSE": "19:00"}


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("day", DAYS)
def test_a_whole_session_is_traded_as_in_its_replay(day: dt.date, tmp_path: Path, shared: Path) -> None:
    """16 symbols with 20 sessions before: no difference without a spread, and a cause for each one with it."""
    home = instance(tmp_path / "home", shared, WHOLE)
    report = traded(home, day)
    assert report.differences == ()
    assert report.violations == ()
    assert report.trades > 0
    assert traded(home, day, half_spread=CENT).violations == ()


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("day", DAYS)
def test_venue_journal_and_bot_agree_after_a_session_with_faults(day: dt.date, tmp_path: Path, shared: Path) -> None:
    """Restarts, lost replies, dropped and half-open connections: positions, cash and fills are the same to the cent."""
    report = traded(instance(tmp_path / "home", shared, WHOLE), day, seed=day.day)
    assert report.disagreements == ()
    assert sum(report.faults.values()) > 20
    assert report.fills > 0
