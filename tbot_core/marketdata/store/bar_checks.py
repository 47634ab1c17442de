"""Checks of a bar: prices, volume and time; and bars that contradict each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from tbot_core.marketdata.store import manifest, reference
from tbot_core.marketdata.store.session_grid import MINUTE_US
from tbot_core.model.bars import VWAP_BEYOND
from tbot_core.model.types import TICKS_PER_DOLLAR

if TYPE_CHECKING:
    from collections.abc import Mapping

HIGHEST_INDEX: Final = 200
HIGHEST_PRICE: Final = 2.0**53 / TICKS_PER_DOLLAR
MOST_SHARES: Final = 2**53
"""Above these limits a float cannot represent every 1e-4 USD or every share."""

_OPEN, _HIGH, _LOW, _CLOSE = (pl.col(name) for name in manifest.PRICES)
_SOUND: Final = pl.all_horizontal(
    pl.col(name).is_not_null() & pl.col(name).is_finite() & (pl.col(name) > 0) for name in manifest.PRICES
)
_VOLUME: Final = pl.col("volume").cast(pl.Float64)
_COUNTED: Final = _VOLUME.is_not_null() & _VOLUME.is_finite() & (_VOLUME >= 0)

VWAP_FAR: Final = f"vwap more than {VWAP_BEYOND:.0%} outside the bar's low and high"
_VWAP: Final = pl.col("vwap")

BAR_FAULTS: Final = (
    ("price that is missing, zero, negative or not a number", ~_SOUND),
    ("high below the bar's open, close or low", _SOUND & (pl.max_horizontal(_OPEN, _CLOSE, _LOW) > _HIGH)),
    ("low above the bar's open or close", _SOUND & (pl.min_horizontal(_OPEN, _CLOSE) < _LOW)),
    ("volume that is missing, negative or not a number", ~_COUNTED),
    ("volume that is not a whole number of shares", _COUNTED & (_VOLUME.round() != _VOLUME)),
    (
        f"price above {HIGHEST_PRICE:.0f} USD, which cannot be held to 1e-4 USD",
        _SOUND & (pl.max_horizontal(manifest.PRICES) > HIGHEST_PRICE),
    ),
    (f"volume above {MOST_SHARES} shares, which cannot be held exactly", _COUNTED & (_VOLUME > MOST_SHARES)),
    (VWAP_FAR, _SOUND & ((_VWAP > _HIGH * (1 + VWAP_BEYOND)) | (_VWAP < _LOW * (1 - VWAP_BEYOND)))),
    ("time that is not on the minute", (pl.col("ts").dt.epoch("us") % MINUTE_US) != 0),
)
"""Each fault's text, and the rows that have it; over columns ts, open, high, low, close, volume, vwap."""

FACT_FAULTS: Final = {
    reference.VIX: (
        ("value that is missing, zero, negative or not a number", ~_SOUND),
        (
            f"value above {HIGHEST_INDEX}, which the VIX has never reached",
            _SOUND & (pl.max_horizontal(manifest.PRICES) > HIGHEST_INDEX),
        ),
    ),
    reference.FUNDAMENTALS: (
        ("capitalisation of zero or less", pl.col("market_cap") <= 0),
        ("row without a symbol or date", pl.col("symbol").is_null() | pl.col("as_of").is_null()),
    ),
}
"""Faults of each table of facts. The bound detects another index's file, which has the VIX's columns.

The order of its prices is not checked: the published history has closes outside high and low, and only the close is
used.
"""


def out_of_range_column(what: str, row: Mapping[str, Any]) -> str:
    """The column of a row whose number is too large or too far off; "" without one."""
    if what == VWAP_FAR:
        return "vwap"
    bounds = {**dict.fromkeys(manifest.PRICES, HIGHEST_PRICE), "volume": MOST_SHARES}
    return next((name for name, most in bounds.items() if name in row and (row[name] or 0) > most), "")


def rounded_to_grid(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Round prices to the nearest 1e-4 USD; returns the bars and how many of them changed."""
    # In numpy: polars multiplies by the reciprocal instead of dividing, which misses the nearest float.
    prices = frame.select(manifest.PRICES).to_numpy()
    rounded = np.rint(prices * TICKS_PER_DOLLAR) / TICKS_PER_DOLLAR
    changed = np.isfinite(prices) & (prices != rounded)
    if not changed.any():
        return frame, 0
    columns = (pl.Series(name, column) for name, column in zip(manifest.PRICES, rounded.T, strict=True))
    return frame.with_columns(columns), int(changed.any(axis=1).sum())


def differing_rows(frame: pl.DataFrame, other: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The rows of `frame` whose key exists in `other` with different values, which get the suffix _stored."""
    values = [name for name in other.columns if name not in keys]
    both = frame.join(other, on=list(keys), how="inner", suffix="_stored", maintain_order="left")
    return both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stored")) for name in values))


def contradicting_rows(frame: pl.DataFrame, keys: tuple[str, ...], values: tuple[str, ...]) -> pl.DataFrame:
    """The rows that repeat a key with different values, from the second row on."""
    once = frame.unique([*keys, *values], keep="first", maintain_order=True)
    return once.filter(~pl.struct(keys).is_first_distinct())
