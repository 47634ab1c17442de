"""Facts that do not come from bars: daily closes of the VIX, fundamentals, splits, facts of filters, daily series.

Stored beside the months as `vix-<content>.parquet`, `fundamentals-<content>.parquet`, `splits-<content>.parquet`,
`fetched-<content>.parquet` and `series-<content>.parquet`, listed in `facts.json`, which is written last.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Final, cast

import attrs
import polars as pl

from tbot_core.contracts.feed import Split
from tbot_core.marketdata.store import daily_facts, manifest, parquet, recorded_facts
from tbot_core.marketdata.store.manifest import FETCHED, FUNDAMENTALS, SERIES, SPLITS, VIX, FactsRow, FactsTable
from tbot_core.marketdata.store.recorded_facts import RecordedFact, RecordedFacts
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMAS: Final = {
    VIX: pl.Schema([("date", pl.Date()), *((name, pl.Float64()) for name in manifest.PRICES)]),
    FUNDAMENTALS: pl.Schema(
        [
            ("symbol", pl.String()),
            ("as_of", pl.Date()),
            ("market_cap", pl.Float64()),
            ("pe_ratio", pl.Float64()),
            ("debt_to_equity", pl.Float64()),
            ("eps", pl.Float64()),
            ("sector", pl.String()),
        ]
    ),
    SPLITS: pl.Schema(
        [("symbol", pl.String()), ("date", pl.Date()), ("before", pl.Int64()), ("after", pl.Int64())],
    ),
    FETCHED: pl.Schema(
        [
            ("name", pl.String()),
            ("symbol", pl.String()),
            ("first", pl.Date()),
            ("last", pl.Date()),
            ("value", pl.Float64()),
        ]
    ),
    SERIES: pl.Schema(
        [
            ("name", pl.String()),
            ("code", pl.String()),
            ("date", pl.Date()),
            ("value", pl.Float64()),
            ("source", pl.String()),
        ]
    ),
}
KEYS: Final = {
    VIX: ("date",),
    FUNDAMENTALS: ("symbol", "as_of"),
    SPLITS: ("symbol", "date"),
    FETCHED: ("name", "symbol", "first"),
    SERIES: ("name", "code", "date"),
}
COMPARED: Final = {VIX: ("close",)}
"""The columns by which rows of a table differ, where these are not all: of the VIX only the close is used."""

_DAYS: Final = {VIX: "date", FUNDAMENTALS: "as_of", SPLITS: "date", FETCHED: "first", SERIES: "date"}
"""The column of the day from which a row counts."""


@attrs.frozen(kw_only=True)
class FactsOfDay:
    """What is stored of one fact from one day on: for how many symbols, and how many of these have a value.

    `first` is the session from which the values count, `source` is imported or fetched (by a filter).
    """

    first: dt.date
    fact: str
    source: str
    symbols: int
    known: int


def facts_by_day(folder: Path) -> list[FactsOfDay]:
    """The stored facts about symbols by day, fact and source; raises DataError for a changed file."""
    known = manifest.read_facts(folder)
    imported = _read(folder, known, FUNDAMENTALS).with_columns(first=pl.col("as_of") + pl.duration(days=1))
    fetched = _read(folder, known, FETCHED)
    found = [
        row
        for source, table in (
            ("imported", imported.unpivot(recorded_facts.IMPORTED, index=["symbol", "first"], variable_name="name")),
            ("fetched", fetched),
        )
        for row in table.group_by("first", "name")
        .agg(symbols=pl.len(), known=pl.col("value").count())
        .with_columns(source=pl.lit(source))
        .filter((pl.col("known") > 0) | (pl.col("source") == "fetched"))
        .rename({"name": "fact"})
        .iter_rows(named=True)
    ]
    return sorted((FactsOfDay(**row) for row in found), key=lambda one: (one.first, one.fact, one.source))


def read_table(folder: Path, table: str) -> pl.DataFrame:
    """Read a table of facts, empty if never imported; raises DataError for a changed file."""
    return _read(folder, manifest.read_facts(folder), table)


def extent(table: str, frame: pl.DataFrame) -> FactsRow | None:
    """The first and last day of a table's rows, and their number; None without rows."""
    days = frame[_DAYS[table]]
    if days.is_empty():
        return None
    return FactsRow(first=cast("dt.date", days.min()), last=cast("dt.date", days.max()), rows=len(days))


def write_table(folder: Path, table: str, frame: pl.DataFrame) -> None:
    """Replace a table of facts."""
    known = manifest.read_facts(folder)
    before = known.get(table)
    file, sha256 = parquet.write_frame(folder, "", table, frame)
    known[table] = FactsTable(file=file, sha256=sha256, extent=extent(table, frame))
    manifest.write_facts(folder, known)
    if before is not None and before.file != file:
        filesystem.remove(folder / before.file)


def copy_imported(source: Path, folder: Path) -> None:
    """Add the imported VIX, fundamentals and splits of another store; a row with the same keys is replaced.

    Raises AccessError when the folder cannot be written or another process writes to it.
    """
    known = manifest.read_facts(source)
    imported = {table: _read(source, known, table) for table in (VIX, FUNDAMENTALS, SPLITS) if table in known}
    if not imported:
        return
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / manifest.LOCK):
        for table, new in imported.items():
            keys = list(KEYS[table])
            before = read_table(folder, table).sort(keys)
            after = pl.concat([before.join(new, on=keys, how="anti"), new]).sort(keys)
            if not after.equals(before):
                write_table(folder, table, after)


def reference_facts(folder: Path) -> daily_facts.ReferenceFacts:
    """Read VIX closes in points, splits, and the dated facts about symbols.

    An imported fundamental is known from the day after its `as_of`; of a fact that was also fetched the later counts.
    """
    known = manifest.read_facts(folder)
    recorded = RecordedFacts(_imported(_read(folder, known, FUNDAMENTALS)))
    recorded.add(_fetched(_read(folder, known, FETCHED)))
    vix = _read(folder, known, VIX)
    return daily_facts.ReferenceFacts(
        vix=dict(zip(vix["date"], vix["close"], strict=True)),
        splits=tuple(Split(**row) for row in _read(folder, known, SPLITS).iter_rows(named=True)),
        recorded=recorded,
    )


def add_fetched(folder: Path, facts: Iterable[RecordedFact]) -> None:
    """Store fetched facts; one with the same name, symbol and first day is replaced.

    Raises AccessError when the folder cannot be written or another process writes to it.
    """
    rows = [attrs.asdict(fact) | {"value": None if math.isnan(fact.value) else fact.value} for fact in facts]
    keys = list(KEYS[FETCHED])
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / manifest.LOCK):
        new = pl.DataFrame(rows, schema=SCHEMAS[FETCHED])
        kept = read_table(folder, FETCHED).join(new, on=keys, how="anti")
        write_table(folder, FETCHED, pl.concat([kept, new]).sort(keys))


def _imported(table: pl.DataFrame) -> Iterator[RecordedFact]:
    for name in recorded_facts.IMPORTED:
        rows = table.drop_nulls(name).select("symbol", "as_of", name).iter_rows()
        for symbol, as_of, value in cast("Iterator[tuple[str, dt.date, float]]", rows):
            yield RecordedFact(name=name, symbol=symbol, first=as_of + dt.timedelta(days=1), last=None, value=value)


def _fetched(table: pl.DataFrame) -> Iterator[RecordedFact]:
    for row in table.iter_rows(named=True):
        yield RecordedFact(**row | {"value": math.nan if row["value"] is None else row["value"]})


def _read(folder: Path, known: Mapping[str, FactsTable], name: str) -> pl.DataFrame:
    # Read the file in `known`; raises DataError when an import has removed it since.
    if name not in known:
        return pl.DataFrame(schema=SCHEMAS[name])
    table = known[name]
    with manifest.reading_facts(folder, name, table):
        return parquet.read_proved((folder / table.file, table.sha256))
