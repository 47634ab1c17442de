"""Writes stored bars to a file that can be imported again: the same values give the same content hash."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np
import polars as pl

from tbot_core.errors import AccessError, DataError
from tbot_core.marketdata.store import parquet
from tbot_core.marketdata.store.session_grid import SessionGrid, times_of
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.marketdata.store.store import BarStore
    from tbot_core.model.calendar import Session

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@attrs.frozen(kw_only=True)
class ExportRequest:
    """What to write: a range of days, its symbols (none: all), and a new folder for a file of each symbol."""

    first: dt.date
    last: dt.date
    symbols: tuple[str, ...]
    folder: Path
    format: str = "parquet"


@attrs.frozen(kw_only=True)
class ExportedBars:
    """What was written: files and bars, and what an import has to state: the kind of prices and volumes.

    `simulated`: some bars come from a simulation, which an import of the files does not label. `absent`: the symbols of
    the request that have no bars in its range.
    """

    files: tuple[str, ...]
    bars: int
    adjustment: str
    volume: str
    simulated: bool
    absent: tuple[str, ...] = ()


def export_bars(store: BarStore, request: ExportRequest, on_symbol: Callable[[str], None]) -> ExportedBars:
    """Write the bars; `on_symbol` receives each symbol before it is written.

    Raises DataError without bars, for bars of several kinds, and for a file that exists; AccessError where it cannot
    be written.
    """
    stored = store.symbols(request.first, request.last)
    symbols = tuple(symbol for symbol in stored if not request.symbols or symbol in set(request.symbols))
    if not symbols:
        raise store.absence(request.first, request.last, request.symbols)
    kinds = store.kinds(request.first, request.last, symbols)
    if len(kinds) > 1:
        words = "; ".join(f"{adjustment} prices and {volume} volume" for adjustment, volume in kinds)
        raise DataError(f"The bars are of several kinds: {words}.", "Export symbols or months of one kind.")
    filesystem.make_folder(request.folder)
    sessions = store.sessions(request.first, request.last, symbols)
    files, bars = list[str](), 0
    for symbol in symbols:
        on_symbol(symbol)
        frame = pl.concat(list(_bars(store, symbol, sessions)))
        path = request.folder / f"{symbol}.{request.format}"
        if filesystem.exists(path):
            raise AccessError(f"Cannot write {path}: it exists.", "Choose another folder, or move the file away.")
        filesystem.write_atomic(path, _encoded(frame, request.format))
        files.append(path.name)
        bars += len(frame)
    simulated = store.is_simulated(request.first, request.last, symbols)
    ((adjustment, volume),) = kinds
    return ExportedBars(
        files=tuple(files),
        bars=bars,
        adjustment=adjustment,
        volume=volume,
        simulated=simulated,
        absent=tuple(sorted(set(request.symbols) - set(symbols))),
    )


def _bars(store: BarStore, symbol: str, sessions: Sequence[Session]) -> Iterator[pl.DataFrame]:
    # The bars of a symbol, month by month, in the sessions.
    dates = np.array([session.date for session in sessions], dtype="datetime64[D]")
    grid = SessionGrid(sessions)
    for bars in store.stored_bars(sessions[0].date, sessions[-1].date, symbol):
        rows, _, inside = grid.place(times_of(bars))
        chosen = inside & np.isin(grid.dates[rows], dates)
        yield bars.filter(pl.Series(chosen)).select(pl.lit(symbol).alias("symbol"), *parquet.BAR_SCHEMA.names())


def _encoded(frame: pl.DataFrame, form: str) -> bytes:
    if form == "parquet":
        return parquet.parquet_bytes(frame)
    buffer = io.BytesIO()
    frame.with_columns(pl.col("ts").dt.strftime(_TIME)).write_csv(buffer)
    return buffer.getvalue()
