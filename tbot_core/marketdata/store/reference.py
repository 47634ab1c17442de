"""Facts that do not come from bars: daily closes of the VIX, imported fundamentals, splits, and what filters fetched.

Stored beside the months as `vix-<content>.parquet`, `fundamentals-<content>.parquet`, `splits-<content>.parquet` and
`fetched-<content>.parquet`, listed in `facts.json`, which is written last.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import polars as pl

from tbot_core.contracts.feed import Split
from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import daily_facts, manifest, parquet, recorded_facts
from tbot_core.marketdata.store.recorded_facts import RecordedFact, RecordedFacts
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

VIX: Final = "vix"
FUNDAMENTALS: Final = "fundamentals"
FETCHED: Final = "fetched"
SPLITS: Final = "splits"
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
}
KEYS: Final = {
    VIX: ("date",),
    FUNDAMENTALS: ("symbol", "as_of"),
    SPLITS: ("symbol", "date"),
    FETCHED: ("name", "symbol", "first"),
}
COMPARED: Final = {VIX: ("close",)}
"""The columns by which rows of a table differ, where these are not all: of the VIX only the close is used."""

NUMBERS: Final = (recorded_facts.MARKET_CAP, "pe_ratio", "debt_to_equity", "eps")
"""The columns of imported fundamentals that are facts."""

_FORMAT: Final = 1


def stored_tables(folder: Path) -> dict[str, tuple[str, str]]:
    """The stored tables' files and SHA-256; raises DataError for an invalid manifest."""
    path = folder / manifest.FACTS
    if not filesystem.exists(path):
        return {}
    text = filesystem.read_bytes(path)
    try:
        return _tables_of_json(json_document.parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        message = f"{path} is damaged or of a newer tbot: {type(fault).__name__} ({fault})."
        raise DataError(
            message, "Restore it, or remove it and import the VIX, fundamentals and splits again."
        ) from fault


def read_table(folder: Path, table: str) -> pl.DataFrame:
    """Read a table of facts, empty if never imported; raises DataError for a changed file."""
    return _read(folder, stored_tables(folder), table)


def write_table(folder: Path, table: str, frame: pl.DataFrame) -> None:
    """Replace a table of facts."""
    known = stored_tables(folder)
    before = known.get(table)
    known[table] = parquet.write_frame(folder, "", table, frame)
    entries = {name: {"file": file, "sha256": sha256} for name, (file, sha256) in known.items()}
    text = json.dumps({"format": _FORMAT, "tables": entries}, sort_keys=True, indent=1)
    filesystem.settle(folder)  # the files that it lists come first
    filesystem.write_atomic(folder / manifest.FACTS, f"{text}\n".encode())
    if before is not None and before != known[table]:
        filesystem.remove(folder / before[0])


def copy_imported(source: Path, folder: Path) -> None:
    """Add the imported VIX, fundamentals and splits of another store; a row with the same keys is replaced.

    Raises AccessError when the folder cannot be written or another process writes to it.
    """
    imported = {
        table: read_table(source, table) for table in (VIX, FUNDAMENTALS, SPLITS) if table in stored_tables(source)
    }
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
    known = stored_tables(folder)
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
    rows = [attrs.asdict(one) | {"value": None if math.isnan(one.value) else one.value} for one in facts]
    keys = list(KEYS[FETCHED])
    filesystem.make_folder(folder)
    with filesystem.hold_lock(folder / manifest.LOCK):
        new = pl.DataFrame(rows, schema=SCHEMAS[FETCHED])
        kept = read_table(folder, FETCHED).join(new, on=keys, how="anti")
        write_table(folder, FETCHED, pl.concat([kept, new]).sort(keys))


def _imported(table: pl.DataFrame) -> Iterator[RecordedFact]:
    for name in NUMBERS:
        rows = table.drop_nulls(name).select("symbol", "as_of", name).iter_rows()
        for symbol, as_of, value in cast("Iterator[tuple[str, dt.date, float]]", rows):
            yield RecordedFact(name=name, symbol=symbol, first=as_of + dt.timedelta(days=1), last=None, value=value)


def _fetched(table: pl.DataFrame) -> Iterator[RecordedFact]:
    for row in table.iter_rows(named=True):
        yield RecordedFact(**row | {"value": math.nan if row["value"] is None else row["value"]})


def _read(folder: Path, known: Mapping[str, tuple[str, str]], table: str) -> pl.DataFrame:
    # Read the file in `known`; raises DataError when an import has removed it since.
    if table not in known:
        return pl.DataFrame(schema=SCHEMAS[table])
    file, sha256 = known[table]
    try:
        return parquet.read_proved((folder / file, sha256))
    except (DataError, AccessError) as fault:
        if stored_tables(folder).get(table) != known[table]:
            raise manifest.store_changed_error(f"The facts of {table}") from fault
        raise


def _tables_of_json(content: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    known = {name: (str(entry["file"]), str(entry["sha256"])) for name, entry in content["tables"].items()}
    if content["format"] != _FORMAT or not SCHEMAS.keys() >= known.keys():
        raise ValueError(f"format {content['format']!r} with {', '.join(known)}")
    return known
