"""Lists the store: one row per symbol, and the ranges of the other facts."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import attrs
import polars as pl

from tbot_core.marketdata.store import manifest, parquet, reference
from tbot_core.marketdata.store.session_grid import month_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.model.calendar import ExchangeCalendar


@attrs.frozen(kw_only=True)
class SymbolRow:
    """One symbol's stored bars; `missing_minutes` counts within its stored sessions.

    Several kinds are joined by commas.
    """

    symbol: str
    first: dt.date
    last: dt.date
    sessions: int
    bars: int
    missing_minutes: int
    adjustment: str
    volume: str


@attrs.frozen(kw_only=True)
class FactsRow:
    """The range of a table of facts, and its number of rows."""

    first: dt.date
    last: dt.date
    rows: int


@attrs.frozen(kw_only=True)
class StoreListing:
    """The content of the store; None for facts that were never imported."""

    symbols: tuple[SymbolRow, ...]
    vix: FactsRow | None
    fundamentals: FactsRow | None
    splits: FactsRow | None


def list_store(folder: Path, calendar: ExchangeCalendar) -> StoreListing:
    """List the store under `folder`; raises DataError for a damaged manifest or daily file."""
    names = manifest.stored_months(folder)
    months = [month for name in names if (month := manifest.read_month(folder, name)) is not None]
    index = pl.concat([pl.DataFrame(schema=parquet.DAILY_SCHEMA), *(parquet.read_daily(folder, it) for it in months)])
    kinds: dict[str, tuple[set[str], set[str]]] = {}
    for month in months:
        for symbol, entry in month.entries.items():
            adjustments, volumes = kinds.setdefault(symbol, (set(), set()))
            adjustments.add(entry.adjustment)
            volumes.add(entry.volume)
    rows = _counted(index, calendar.every_weekday, names)
    return StoreListing(
        symbols=tuple(
            SymbolRow(**row, adjustment=_joined(kinds[row["symbol"]][0]), volume=_joined(kinds[row["symbol"]][1]))
            for row in rows.iter_rows(named=True)
        ),
        vix=_range(reference.read_table(folder, reference.VIX), "date"),
        fundamentals=_range(reference.read_table(folder, reference.FUNDAMENTALS), "as_of"),
        splits=_range(reference.read_table(folder, reference.SPLITS), "date"),
    )


def _counted(index: pl.DataFrame, calendar: ExchangeCalendar, months: Sequence[str]) -> pl.DataFrame:
    # One row per symbol: range, sessions, bars, and missing minutes of its sessions.
    sessions = [session for month in months for session in month_sessions(calendar, month)]
    lengths = pl.DataFrame(
        [(session.date, session.minutes) for session in sessions],
        schema={"date": pl.Date, "minutes": pl.Int64},
        orient="row",
    )
    return (
        index.join(lengths, on="date", how="left")
        .group_by("symbol")
        .agg(
            first=pl.col("date").min(),
            last=pl.col("date").max(),
            sessions=pl.len(),
            bars=pl.col("bars").sum(),
            missing_minutes=(pl.col("minutes").fill_null(0) - pl.col("bars")).clip(0).sum(),
        )
        .sort("symbol")
    )


def _joined(words: set[str]) -> str:
    return ", ".join(sorted(words))


def _range(table: pl.DataFrame, column: str) -> FactsRow | None:
    days = sorted(table[column])
    return FactsRow(first=days[0], last=days[-1], rows=len(days)) if days else None
