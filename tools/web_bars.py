"""Bars of a session for a backtest: those of the demo's companies, as `tbot data import` reads them."""

from __future__ import annotations

import csv
import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from web_browser import Child

from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.rehearsal.demo_market import demo_market
from tbot_core.rehearsal.prices import bars_of

if TYPE_CHECKING:
    from pathlib import Path

DAY: Final = dt.date(2026, 11, 24)


def store_bars(home: Path) -> None:
    """Import a session of bars."""
    file = home.parent / "bars.csv"
    with ThreadPoolExecutor(1) as thread:  # the browser's driver runs a loop in this one
        thread.submit(write_bars, file, DAY).result()
    with Child("data", "import", str(file), "--home", str(home)) as importing:
        importing.awaited("(added)")


def write_bars(file: Path, day: dt.date, seed: int = 1) -> None:
    """Write the bars of the demo's companies on a day, as `tbot data import` reads them."""
    session = ExchangeCalendar().session(day)
    if session is None:
        raise ValueError(f"{day} has no session.")
    market = demo_market(seed)
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("symbol", "timestamp", "open", "high", "low", "close", "volume", "vwap"))
        for minute in range(session.minutes):
            for bar in bars_of(session, market.minute(minute), market.symbols):
                rows.writerow(
                    (bar.symbol, bar.start.isoformat(), bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap)
                )
