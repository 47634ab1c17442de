"""The layout of stored bars on disk, and the only reads and writes of them.

::

    <folder>/2018-02/manifest.json                  the month's content; files not listed here do not count
    <folder>/2018-02/AAPL-<content>.parquet         one symbol's bars of the month
    <folder>/2018-02/daily-<content>.parquet        one row per symbol and session, for facts and listings
    <folder>/facts.json                             the files of reference facts (`reference`)

Files are named by content hash and written before their manifest. A crash leaves the month in its old or new
state, at worst with an unlisted file.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ADJUSTMENTS: Final = ("raw", "split", "total")
VOLUMES: Final = ("consolidated", "partial")

PRICES: Final = ("open", "high", "low", "close")
BAR_SCHEMA: Final = pl.Schema(
    [
        ("ts", pl.Datetime("us", "UTC")),
        *((name, pl.Float64()) for name in PRICES),
        ("volume", pl.Int64()),
        ("vwap", pl.Float64()),
    ]
)
DAILY_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String,
        "date": pl.Date,
        "bars": pl.Int64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Int64,
        "digest": pl.Binary,
    }
)
NO_BARS: Final = pl.DataFrame(schema=BAR_SCHEMA)
MANIFEST: Final = "manifest.json"
REIMPORT_HINT: Final = "Import its source again with --replace; `tbot data verify` lists everything that is damaged."
BLOCK_SUFFIX: Final = ".block"
"""The end of the name of a file that `block_files` makes from those of a month."""
LOCK: Final = ".import.lock"
"""The lock file of a store that is being written."""

_FORMAT: Final = 1
NAME_LENGTH: Final = 16
_MONTHS_A_YEAR: Final = 12


DailyColumns: TypeAlias = Mapping[str, list[Any]]
"""Daily rows by the names of their columns."""

SIMULATED: Final = "simulated "
"""The begin of a source that simulates its bars."""


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
    symbols = {symbol: attrs.asdict(entry) for symbol, entry in month.entries.items()}
    content = {"format": _FORMAT, "daily": month.daily, "daily_sha256": month.daily_sha256, "symbols": symbols}
    filesystem.write_atomic(place / MANIFEST, f"{json.dumps(content, sort_keys=True, indent=1)}\n".encode())
    blocks = [path for path in filesystem.entries(place) if path.suffix == BLOCK_SUFFIX]
    for path in (*unnamed_files(folder, month.name, month.files), *blocks):
        filesystem.remove(path)


def unnamed_files(folder: Path, name: str, named: Iterable[str]) -> list[Path]:
    """The month's Parquet files that no manifest lists: left by an interrupted import, or foreign."""
    known = set(named)
    return [path for path in filesystem.entries(folder / name) if path.suffix == ".parquet" and path.name not in known]


def read_bars(folder: Path, month: MonthManifest, *symbols: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read symbols' bars of the month: those of one symbol after another, by time; all or some of the columns.

    Raises DataError for a changed file, and when an import has removed a file since the manifest was read.
    """
    entries = [month.entries[symbol] for symbol in symbols]
    return _read_named(folder, month, [(entry.file, entry.sha256) for entry in entries], columns)


def read_daily(folder: Path, month: MonthManifest) -> pl.DataFrame:
    """Read the month's daily rows, by symbol and date; raises DataError as `read_bars` does."""
    return _read_named(folder, month, [(month.daily, month.daily_sha256)])


def write_frame(folder: Path, name: str, stem: str, frame: pl.DataFrame) -> tuple[str, str]:
    """Write a frame as `stem`-<content>.parquet; returns file name and SHA-256."""
    data = parquet_bytes(frame)
    digest = hashlib.sha256(data).hexdigest()
    file = f"{stem}-{digest[:NAME_LENGTH]}.parquet"
    filesystem.make_folder(folder / name)
    filesystem.write_atomic(folder / name / file, data)
    return file, digest


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Encode the frame as Parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def daily_rows(symbol: str, bars: pl.DataFrame, dates: np.ndarray[Any, np.dtype[np.datetime64]]) -> DailyColumns:
    """One row per session of a symbol's bars, which are sorted by time; `dates` holds each bar's exchange date.

    `digest` is the SHA-256 of the session's values, so that any range can be identified without reading its bars.
    """
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    numbers = [bars[name].to_numpy() for name in BAR_SCHEMA]
    values, edges = np.stack([column.view("<i8") for column in numbers]), [*starts.tolist(), len(dates)]
    digests = [hashlib.sha256(values[:, at:end].tobytes()).digest() for at, end in itertools.pairwise(edges)]
    _, _, high, low, close, volume, _ = numbers
    return {
        "symbol": [symbol] * len(starts),
        "date": dates[starts].tolist(),
        "bars": np.diff(edges).tolist(),
        "high": np.maximum.reduceat(high, starts).tolist(),
        "low": np.minimum.reduceat(low, starts).tolist(),
        "close": close[np.array(edges[1:]) - 1].tolist(),
        "volume": np.add.reduceat(volume, starts).tolist(),
        "digest": digests,
    }


def daily_frame(parts: Sequence[DailyColumns]) -> pl.DataFrame:
    """The daily rows of several symbols as one frame."""
    columns = {name: [value for part in parts for value in part[name]] for name in DAILY_SCHEMA}
    return pl.DataFrame(columns, schema=DAILY_SCHEMA)


def read_proved(*files: tuple[Path, str], columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read stored files, each with its SHA-256: all or some columns; raises DataError if one is missing or changed.

    They were checked on import, so an equal SHA-256 proves the checks again.
    """
    # Files are small: threads cost more than they save, and to read one alone takes twice the time.
    proved: list[IO[bytes]] = [io.BytesIO(prove(path, sha256)) for path, sha256 in files]
    names = None if columns is None else list(columns)
    return pl.read_parquet(proved, columns=names, use_statistics=False, parallel="none")


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


def _read_named(
    folder: Path, month: MonthManifest, files: Sequence[tuple[str, str]], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    try:
        return read_proved(*((folder / month.name / file, sha256) for file, sha256 in files), columns=columns)
    except (DataError, AccessError) as fault:
        now = read_month(folder, month.name)
        if now is None or not now.files.issuperset(file for file, _ in files):
            raise store_changed_error(f"The bars of {month.name}") from fault
        raise


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
