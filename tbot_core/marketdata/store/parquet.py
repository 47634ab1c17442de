"""Parquet files of stored bars and their daily rows: their columns, and the only reads and writes of them.

`manifest` describes where they lie.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.manifest import NAME_LENGTH, PRICES, MonthManifest
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Int64,
        "digest": pl.Binary,
    }
)
NO_BARS: Final = pl.DataFrame(schema=BAR_SCHEMA)

DailyColumns: TypeAlias = Mapping[str, list[Any]]
"""Daily rows by the names of their columns."""


def read_bars(folder: Path, month: MonthManifest, *symbols: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read symbols' bars of the month: those of one symbol after another, by time; all or some of the columns.

    Raises DataError for a changed file, and when an import has removed a file since the manifest was read.
    """
    entries = [month.entries[symbol] for symbol in symbols]
    return _read_named(folder, month, [(entry.file, entry.sha256) for entry in entries], columns)


def read_daily(folder: Path, month: MonthManifest) -> pl.DataFrame:
    """Read the month's daily rows, by symbol and date; raises DataError as `read_bars` does."""
    frame = _read_named(folder, month, [(month.daily, month.daily_sha256)])
    return frame if "open" in frame.columns else _with_opens(frame, folder, month)


def write_frame(folder: Path, name: str, stem: str, frame: pl.DataFrame) -> tuple[str, str]:
    """Write a frame as `stem`-<content>.parquet, which counts with its manifest; returns file name and SHA-256."""
    data = parquet_bytes(frame, "lz4")  # larger than zstd, but read in half the time
    digest = hashlib.sha256(data).hexdigest()
    file = f"{stem}-{digest[:NAME_LENGTH]}.parquet"
    filesystem.make_folder(folder / name)
    filesystem.write_atomic(folder / name / file, data, settles=False)
    return file, digest


def parquet_bytes(frame: pl.DataFrame, compression: Literal["zstd", "lz4"] = "zstd") -> bytes:
    """Encode the frame as Parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression=compression, statistics=False)
    return buffer.getvalue()


def daily_rows(symbol: str, bars: pl.DataFrame, dates: np.ndarray[Any, np.dtype[np.datetime64]]) -> DailyColumns:
    """One row per session of a symbol's bars, which are sorted by time; `dates` holds each bar's exchange date.

    `digest` is the SHA-256 of the session's values, so that any range can be identified without reading its bars.
    """
    starts = np.flatnonzero(np.append(True, dates[1:] != dates[:-1]))
    numbers = [bars[name].to_numpy() for name in BAR_SCHEMA]
    values, edges = np.stack([column.view("<i8") for column in numbers]), [*starts.tolist(), len(dates)]
    digests = [hashlib.sha256(values[:, at:end].tobytes()).digest() for at, end in itertools.pairwise(edges)]
    _, opened, high, low, close, volume, _ = numbers
    return {
        "symbol": [symbol] * len(starts),
        "date": dates[starts].tolist(),
        "bars": np.diff(edges).tolist(),
        "open": opened[starts].tolist(),
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
    proved: list[IO[bytes]] = [io.BytesIO(manifest.prove(path, sha256)) for path, sha256 in files]
    names = None if columns is None else list(columns)
    return pl.read_parquet(proved, columns=names, use_statistics=False, parallel="none")


def _with_opens(frame: pl.DataFrame, folder: Path, month: MonthManifest) -> pl.DataFrame:
    # Files of earlier versions have no opens: the first bars of each session have them.
    opens = []
    for (symbol,), rows in frame.group_by("symbol", maintain_order=True):
        bars, counts = read_bars(folder, month, str(symbol), columns=["open"]), rows["bars"].to_numpy()
        opens.append(bars["open"].gather(np.cumsum(counts) - counts))
    return frame.with_columns(open=pl.concat(opens) if opens else pl.Series([], dtype=pl.Float64)).select(*DAILY_SCHEMA)


def _read_named(
    folder: Path, month: MonthManifest, files: Sequence[tuple[str, str]], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    try:
        return read_proved(*((folder / month.name / file, sha256) for file, sha256 in files), columns=columns)
    except (DataError, AccessError) as fault:
        now = manifest.read_month(folder, month.name)
        if now is None or not now.files.issuperset(file for file, _ in files):
            raise manifest.store_changed_error(f"The bars of {month.name}") from fault
        raise
