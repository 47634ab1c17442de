"""Facts that do not come from bars: the VIX's daily closes and the fundamentals, each with its date."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from tbot_core.barstore import facts, layout
from tbot_core.errors import DataError
from tbot_core.seams import disk

if TYPE_CHECKING:
    from pathlib import Path

VIX_FILE: Final = "vix.parquet"
VIX_SCHEMA: Final = pl.Schema({"date": pl.Date, **dict.fromkeys(layout.PRICES, pl.Float64)})
VIX_KEYS: Final = ("date",)

FUNDAMENTALS_FILE: Final = "fundamentals.parquet"
FUNDAMENTALS_SCHEMA: Final = pl.Schema(
    {
        "symbol": pl.String,
        "as_of": pl.Date,
        "market_cap": pl.Float64,
        "pe_ratio": pl.Float64,
        "debt_to_equity": pl.Float64,
        "eps": pl.Float64,
        "sector": pl.String,
    }
)
FUNDAMENTALS_KEYS: Final = ("symbol", "as_of")
SCHEMAS: Final = {VIX_FILE: VIX_SCHEMA, FUNDAMENTALS_FILE: FUNDAMENTALS_SCHEMA}


def read_vix(folder: Path) -> pl.DataFrame:
    """The stored daily VIX by date, in points; empty where none was imported."""
    return read(folder / VIX_FILE, VIX_SCHEMA)


def read_fundamentals(folder: Path) -> pl.DataFrame:
    """The stored fundamentals by symbol and date; capitalisation in USD, debt to equity as a ratio."""
    return read(folder / FUNDAMENTALS_FILE, FUNDAMENTALS_SCHEMA)


def write(path: Path, frame: pl.DataFrame) -> None:
    """Replace a table of facts."""
    disk.make_folder(path.parent)
    disk.write_atomic(path, layout.parquet_bytes(frame))


def sources(folder: Path) -> facts.Sources:
    """What facts take from elsewhere."""
    caps: dict[str, list[tuple[Any, float]]] = {}
    known = read_fundamentals(folder).drop_nulls("market_cap").sort("as_of")
    for symbol, as_of, value in known.select("symbol", "as_of", "market_cap").iter_rows():
        caps.setdefault(symbol, []).append((as_of, value))
    vix = read_vix(folder)
    return facts.Sources(vix=dict(zip(vix["date"], vix["close"], strict=True)), market_caps=caps)


def read(path: Path, schema: pl.Schema) -> pl.DataFrame:
    """A table of facts, empty where there is none; raises DataError for a file that is not one of ours."""
    if not disk.exists(path):
        return pl.DataFrame(schema=schema)
    data = disk.read_bytes(path)
    try:
        frame = pl.read_parquet(io.BytesIO(data), use_statistics=False)
    except pl.exceptions.PolarsError as fault:
        raise DataError(f"{path} is corrupt: {fault}.", _AGAIN) from fault
    if frame.schema != schema:
        raise DataError(f"{path} is not a file of tbot: it holds {', '.join(frame.columns)}.", _AGAIN)
    return frame


_AGAIN: Final = "Remove it and import its source again with `tbot data import`."
