"""Lists the store: one row per symbol, and the ranges of the other facts.

A store without bars is listed without numpy. Polars is imported for facts that an earlier version stored, and for
downloaded series.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.series import RATES
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.manifest import FactsRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tbot_core.marketdata.store.manifest import FactsTable
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
class StoreListing:
    """The content of the store; None for facts that were never imported."""

    symbols: tuple[SymbolRow, ...]
    vix: FactsRow | None
    rates: FactsRow | None
    fundamentals: FactsRow | None
    splits: FactsRow | None
    fetched: FactsRow | None


def list_store(folder: Path, calendar: ExchangeCalendar) -> StoreListing:
    """List the store under `folder`; raises DataError for a damaged manifest or daily file."""
    months = [it for name in manifest.stored_months(folder) if (it := manifest.read_month(folder, name)) is not None]
    rows: dict[str, list[SymbolRow]] = {}
    for month in months:
        for row in _month_rows(folder, month, calendar.every_weekday):
            rows.setdefault(row.symbol, []).append(row)
    symbols = tuple(_summed(rows[symbol]) for symbol in sorted(rows))
    known = manifest.read_facts(folder)
    return StoreListing(
        symbols=symbols,
        vix=_extent(folder, known, manifest.VIX),
        rates=_rates(folder, known),
        fundamentals=_extent(folder, known, manifest.FUNDAMENTALS),
        splits=_extent(folder, known, manifest.SPLITS),
        fetched=_extent(folder, known, manifest.FETCHED),
    )


def _rates(folder: Path, known: Mapping[str, FactsTable]) -> FactsRow | None:
    # The days of the downloaded rates; their table has the closes of the VIX that were downloaded too.
    if manifest.SERIES not in known:
        return None
    from tbot_core.marketdata.store.series import stored_series

    days = [value.day for value, _ in stored_series(folder, RATES)]
    return FactsRow(first=min(days), last=max(days), rows=len(days)) if days else None


def _month_rows(folder: Path, month: manifest.MonthManifest, calendar: ExchangeCalendar) -> Iterator[SymbolRow]:
    # One row per symbol of a month: range, sessions, bars, and missing minutes of its sessions.
    import numpy as np

    from tbot_core.marketdata.store.daily_rows import read_daily
    from tbot_core.marketdata.store.session_grid import month_sessions

    daily = read_daily(folder, month)
    table = daily.table[np.lexsort((daily.table["date"], daily.table["code"]))]
    lengths = {session.date: session.minutes for session in month_sessions(calendar, month.name)}
    expected = np.array([lengths.get(day, 0) for day in table["date"].tolist()], dtype=np.int64)
    missing = np.maximum(expected - table["bars"], 0)
    places = np.searchsorted(table["code"], np.arange(len(daily.names) + 1)).tolist()
    for symbol, start, stop in zip(daily.names, places, places[1:], strict=False):
        days, entry = table["date"][start:stop], month.entries[symbol]
        yield SymbolRow(
            symbol=symbol,
            first=days[0].item(),
            last=days[-1].item(),
            sessions=stop - start,
            bars=int(table["bars"][start:stop].sum()),
            missing_minutes=int(missing[start:stop].sum()),
            adjustment=entry.adjustment,
            volume=entry.volume,
        )


def _summed(months: list[SymbolRow]) -> SymbolRow:
    # The row of a symbol over its months, which are in order.
    return SymbolRow(
        symbol=months[0].symbol,
        first=months[0].first,
        last=months[-1].last,
        sessions=sum(month.sessions for month in months),
        bars=sum(month.bars for month in months),
        missing_minutes=sum(month.missing_minutes for month in months),
        adjustment=_joined({month.adjustment for month in months}),
        volume=_joined({month.volume for month in months}),
    )


def _joined(words: set[str]) -> str:
    return ", ".join(sorted(words))


def _extent(folder: Path, known: Mapping[str, FactsTable], name: str) -> FactsRow | None:
    # The days and rows of a table, whose file is the one that was stored.
    if (table := known.get(name)) is None:
        return None
    if table.extent is None:
        from tbot_core.marketdata.store import reference

        return reference.extent(name, reference.read_table(folder, name))
    with manifest.reading_facts(folder, name, table):
        manifest.prove(folder / table.file, table.sha256)
    return table.extent
