"""The layout of stored bars on disk, and the reads and writes of what a month holds.

::

    <folder>/2018-02/manifest.json                  the month's content; files not listed here do not count
    <folder>/2018-02/AAPL-<content>.parquet         one symbol's bars of the month
    <folder>/2018-02/daily-<content>.parquet        one row per symbol and session, for facts and listings
    <folder>/facts.json                             the tables of reference facts (`reference`): files, rows and days

Files are named by content hash and written before their manifest. A crash leaves the month in its old or new
state, at worst with an unlisted file. Nothing here reads Parquet, so that a command that needs none loads no polars.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError, DataError
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

ADJUSTMENTS: Final = ("raw", "split", "total")
VOLUMES: Final = ("consolidated", "partial")
PRICES: Final = ("open", "high", "low", "close")
MANIFEST: Final = "manifest.json"
FACTS: Final = "facts.json"
VIX: Final = "vix"
FUNDAMENTALS: Final = "fundamentals"
FETCHED: Final = "fetched"
SPLITS: Final = "splits"
SERIES: Final = "series"
FACTS_HINT: Final = "Restore it, or remove it and import the VIX, fundamentals and splits again."
REIMPORT_HINT: Final = "Import its source again with --replace; `tbot data verify` lists everything that is damaged."
BLOCK_SUFFIX: Final = ".block"
"""The end of the name of a file that is made from those of a month: `block_files`, `daily_rows`."""
LOCK: Final = ".import.lock"
"""The lock file of a store that is being written."""

NAME_LENGTH: Final = 16
SIMULATED: Final = "simulated "
"""The begin of a source that simulates its bars."""

_FORMAT: Final = 1
_TABLES: Final = frozenset({VIX, FUNDAMENTALS, FETCHED, SPLITS, SERIES})
_MONTHS_A_YEAR: Final = 12


@attrs.frozen(kw_only=True)
class SymbolMonth:
    """One symbol's month: its file, the file's SHA-256, the kind of prices and volumes, and the sources' SHA-256."""

    file: str
    sha256: str
    adjustment: str
    volume: str
    sources: tuple[str, ...]

    @property
    def kind(self) -> int:
        """A number that is equal for comparable prices and volumes."""
        return ADJUSTMENTS.index(self.adjustment) * len(VOLUMES) + VOLUMES.index(self.volume)


FIRST_ADJUSTED: Final = len(VOLUMES)
"""The lowest `kind` of a month whose prices are adjusted."""

_ENTRY: Final = tuple(sorted(field.name for field in attrs.fields(SymbolMonth)))


@attrs.frozen(kw_only=True)
class MonthManifest:
    """The content of a month: `entries` by symbol; `daily` is the name of its daily file, `daily_sha256` its hash.

    `sha256` is that of the manifest as it was read; "" for one that was not.
    """

    name: str
    daily: str
    daily_sha256: str
    entries: Mapping[str, SymbolMonth]
    sha256: str = ""

    @property
    def files(self) -> frozenset[str]:
        """The names of all its files."""
        return frozenset((self.daily, *(entry.file for entry in self.entries.values())))


@attrs.frozen(kw_only=True)
class FactsRow:
    """The first and last day of a table of facts, and its number of rows."""

    first: dt.date
    last: dt.date
    rows: int


@attrs.frozen(kw_only=True)
class FactsTable:
    """A stored table of facts: its file, and the file's SHA-256.

    `extent` is None for a table without rows, and for one that an earlier version stored.
    """

    file: str
    sha256: str
    extent: FactsRow | None = None


def month_of(day: dt.date) -> str:
    """The month of a day, such as "2018-02"."""
    return f"{day.year:04}-{day.month:02}"


def months_between(first: dt.date, last: dt.date) -> tuple[str, ...]:
    """The months from one day's to another's, both included; empty if reversed."""
    start = first.year * _MONTHS_A_YEAR + first.month - 1
    stop = last.year * _MONTHS_A_YEAR + last.month
    pairs = (divmod(month, _MONTHS_A_YEAR) for month in range(start, stop))
    return tuple(f"{year:04}-{month + 1:02}" for year, month in pairs)


def stored_months(folder: Path) -> tuple[str, ...]:
    """The months that have a manifest, in order; empty without the folder."""
    if not filesystem.exists(folder):
        return ()
    return tuple(entry.name for entry in filesystem.entries(folder) if filesystem.exists(entry / MANIFEST))


def read_month(folder: Path, name: str) -> MonthManifest | None:
    """Read the month's manifest; None without one. Raises DataError for an invalid one."""
    path = folder / name / MANIFEST
    if not filesystem.exists(path):
        return None
    text = filesystem.read_bytes(path)
    try:
        month = _month_of_json(name, json_document.parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        message = f"{path} is damaged or of a newer tbot: {type(fault).__name__} ({fault})."
        raise DataError(message, "Restore it, or remove the month's folder and import its bars again.") from fault
    return attrs.evolve(month, sha256=hashlib.sha256(text).hexdigest())


def write_month(folder: Path, month: MonthManifest) -> None:
    """Write the manifest, and remove our files that it no longer lists, with the month's blocks."""
    place = folder / month.name
    filesystem.settle(place)  # the files that it lists come first
    filesystem.write_atomic(place / MANIFEST, _json_of_month(month).encode())
    blocks = [path for path in filesystem.entries(place) if path.suffix == BLOCK_SUFFIX]
    for path in (*unnamed_files(folder, month.name, month.files), *blocks):
        filesystem.remove(path)


def read_facts(folder: Path) -> dict[str, FactsTable]:
    """The stored tables of facts by name; raises DataError for an invalid manifest."""
    path = folder / FACTS
    if not filesystem.exists(path):
        return {}
    text = filesystem.read_bytes(path)
    try:
        return _facts_of_json(json_document.parse_json(text))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        message = f"{path} is damaged or of a newer tbot: {type(fault).__name__} ({fault})."
        raise DataError(message, FACTS_HINT) from fault


def write_facts(folder: Path, tables: Mapping[str, FactsTable]) -> None:
    """Write the manifest of the tables of facts, whose files are written."""
    entries = {name: _json_of_table(table) for name, table in tables.items()}
    text = json.dumps({"format": _FORMAT, "tables": entries}, sort_keys=True, indent=1)
    filesystem.settle(folder)  # the files that it lists come first
    filesystem.write_atomic(folder / FACTS, f"{text}\n".encode())


@contextmanager
def reading_facts(folder: Path, name: str, table: FactsTable) -> Iterator[None]:
    """Read the file of a table of facts in this context: a fault says so if an import has replaced it since."""
    try:
        yield
    except (DataError, AccessError) as fault:
        if read_facts(folder).get(name) != table:
            raise store_changed_error(f"The facts of {name}") from fault
        raise


def unnamed_files(folder: Path, name: str, named: Iterable[str]) -> list[Path]:
    """The month's Parquet files that no manifest lists: left by an interrupted import, or foreign."""
    known = set(named)
    return [path for path in filesystem.entries(folder / name) if path.suffix == ".parquet" and path.name not in known]


def prove(path: Path, sha256: str) -> bytes:
    """The content of a stored file; raises DataError if it is missing or changed."""
    if filesystem.is_folder(path):
        raise DataError(f"{path} is a folder, but must be a file.", f"Remove it, then import{REIMPORT_HINT[6:]}")
    if not filesystem.exists(path):
        raise DataError(f"{path} is missing.", REIMPORT_HINT)
    data = filesystem.read_bytes(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path} is corrupt: it differs from the file that was stored.", REIMPORT_HINT)
    return data


def store_changed_error(what: str) -> DataError:
    """Return the error of a reader that an import has overtaken."""
    return DataError(
        f"{what} changed while they were read: an import is or was running.", "Try again after the import."
    )


def _json_of_month(month: MonthManifest) -> str:
    # A line for each symbol. Written with indents it would take eight times the time, and each commit writes it all.
    head = json.dumps({"daily": month.daily, "daily_sha256": month.daily_sha256, "format": _FORMAT})
    entries = (f"{json.dumps(symbol)}: {_json_of_entry(entry)}" for symbol, entry in sorted(month.entries.items()))
    lines = ",\n".join(entries)
    return f'{head[:-1]}, "symbols": {{\n{lines}\n}}}}\n'


def _json_of_entry(entry: SymbolMonth) -> str:
    return json.dumps({name: getattr(entry, name) for name in _ENTRY})


def _month_of_json(name: str, content: Mapping[str, Any]) -> MonthManifest:
    if content["format"] != _FORMAT:
        raise ValueError(f"format {content['format']!r}, but {_FORMAT} is supported")
    entries = {
        str(symbol): SymbolMonth(**{**fields, "sources": tuple(fields["sources"])})
        for symbol, fields in content["symbols"].items()
    }
    _ = [entry.kind for entry in entries.values()]
    return MonthManifest(
        name=name, daily=str(content["daily"]), daily_sha256=str(content["daily_sha256"]), entries=entries
    )


def _json_of_table(table: FactsTable) -> dict[str, str | int]:
    entry: dict[str, str | int] = {"file": table.file, "sha256": table.sha256}
    if (extent := table.extent) is not None:
        entry |= {"first": extent.first.isoformat(), "last": extent.last.isoformat(), "rows": extent.rows}
    return entry


def _facts_of_json(content: Mapping[str, Any]) -> dict[str, FactsTable]:
    tables = {
        name: FactsTable(file=str(entry["file"]), sha256=str(entry["sha256"]), extent=_extent_of_json(entry))
        for name, entry in content["tables"].items()
    }
    if content["format"] != _FORMAT or not tables.keys() <= _TABLES:
        raise ValueError(f"format {content['format']!r} with {', '.join(tables)}")
    return tables


def _extent_of_json(entry: Mapping[str, Any]) -> FactsRow | None:
    if "rows" not in entry:
        return None
    first, last = (dt.date.fromisoformat(entry[name]) for name in ("first", "last"))
    return FactsRow(first=first, last=last, rows=int(entry["rows"]))
