"""Checks of a bar: prices, volume and time; and bars that contradict each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from tbot_core.marketdata.store import manifest
from tbot_core.marketdata.store.session_grid import MINUTE_US
from tbot_core.marketdata.store.source_files import RowFault
from tbot_core.model.bars import VWAP_BEYOND
from tbot_core.model.types import MOST_SPLIT_SHARES, TICKS_PER_DOLLAR

if TYPE_CHECKING:
    from collections.abc import Mapping

HIGHEST_INDEX: Final = 200
_HIGHEST_PRICE: Final = 2.0**53 / TICKS_PER_DOLLAR
_MOST_SHARES: Final = 2**53
_MOST_USD: Final = 1e15
"""Above these limits a float cannot represent every 1e-4 USD or every share."""

_OPEN, _HIGH, _LOW, _CLOSE = (pl.col(name) for name in manifest.PRICES)
_NO_PRICE: Final = {
    name: ~(pl.col(name).is_not_null() & pl.col(name).is_finite() & (pl.col(name) > 0)) for name in manifest.PRICES
}
_SOUND: Final = ~pl.any_horizontal(_NO_PRICE.values())
_VOLUME: Final = pl.col("volume").cast(pl.Float64)
_COUNTED: Final = _VOLUME.is_not_null() & _VOLUME.is_finite() & (_VOLUME >= 0)
_VWAP: Final = pl.col("vwap")

VWAP_FAR: Final = RowFault(
    what=f"vwap more than {VWAP_BEYOND:.0%} outside the bar's low and high",
    wrong={"vwap": _SOUND & ((_VWAP > _HIGH * (1 + VWAP_BEYOND)) | (_VWAP < _LOW * (1 - VWAP_BEYOND)))},
    remedy="Correct it, or leave the column vwap out.",
)
"""A bar's own VWAP that cannot be the average of its trades."""


def _above(limit: float) -> Mapping[str, pl.Expr]:
    # Finite ones: an infinite price is no number, which is a fault of its own.
    return {name: pl.col(name).is_between(limit, math.inf, closed="none") for name in manifest.PRICES}


BAR_FAULTS: Final = (
    RowFault(what="price that is missing, zero, negative or not a number", wrong=_NO_PRICE),
    RowFault(
        what="high below the bar's open, close or low",
        wrong={"high": _SOUND & (pl.max_horizontal(_OPEN, _CLOSE, _LOW) > _HIGH)},
        shown=manifest.PRICES,
    ),
    RowFault(
        what="low above the bar's open or close",
        wrong={"low": _SOUND & (pl.min_horizontal(_OPEN, _CLOSE) < _LOW)},
        shown=manifest.PRICES,
    ),
    RowFault(what="volume that is missing, negative or not a number", wrong={"volume": ~_COUNTED}),
    RowFault(
        what="volume that is not a whole number of shares", wrong={"volume": _COUNTED & (_VOLUME.round() != _VOLUME)}
    ),
    RowFault(
        what=f"price above {_HIGHEST_PRICE:.0f} USD, which cannot be held to 1e-4 USD", wrong=_above(_HIGHEST_PRICE)
    ),
    RowFault(
        what=f"volume above {_MOST_SHARES} shares, which cannot be held exactly",
        wrong={"volume": _COUNTED & (_VOLUME > _MOST_SHARES)},
    ),
    VWAP_FAR,
    RowFault(
        what="time that is not on the minute",
        wrong={"ts": (pl.col("ts").dt.epoch("us") % MINUTE_US) != 0},
        remedy="The time of a bar is the start of its minute.",
    ),
)
"""The faults of a bar; over columns ts, open, high, low, close, volume, vwap."""

FACT_FAULTS: Final = {
    manifest.VIX: (
        RowFault(what="value that is missing, zero, negative or not a number", wrong=_NO_PRICE),
        RowFault(
            what=f"value above {HIGHEST_INDEX}, which the VIX has never reached",
            wrong=_above(HIGHEST_INDEX),
            remedy="Import the file of the VIX, not of another index.",
        ),
    ),
    manifest.FUNDAMENTALS: (
        RowFault(what="capitalisation of zero or less", wrong={"market_cap": pl.col("market_cap") <= 0}),
        RowFault(what="capitalisation of 10^15 USD or more", wrong={"market_cap": pl.col("market_cap") >= _MOST_USD}),
        RowFault(
            what="row without a symbol or date",
            wrong={name: pl.col(name).is_null() for name in ("symbol", "as_of")},
        ),
    ),
    manifest.SPLITS: (
        RowFault(
            what=f"number of shares that is not from 1 to {MOST_SPLIT_SHARES}",
            wrong={
                name: ~pl.col(name).is_between(1, MOST_SPLIT_SHARES).fill_null(value=False)
                for name in ("before", "after")
            },
        ),
        RowFault(what="ratio of 1 to 1", wrong={"after": pl.col("before") == pl.col("after")}),
        RowFault(what="row without a symbol", wrong={"symbol": pl.col("symbol").is_null()}),
    ),
}
"""Faults of each table of facts. The bound detects another index's file, which has the VIX's columns.

The order of its prices is not checked: the published history has closes outside high and low, and only the close is
used.
"""


def rounded_to_grid(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Round prices to the nearest 1e-4 USD; returns the bars and how many of them changed."""
    # In numpy: polars multiplies by the reciprocal instead of dividing, which misses the nearest float.
    rounded = np.empty((len(manifest.PRICES), len(frame)))
    changed = np.zeros(len(frame), dtype=np.bool_)
    for name, column in zip(manifest.PRICES, rounded, strict=True):
        prices = frame[name].to_numpy()
        with np.errstate(over="ignore"):  # one so large is a fault of its own
            np.multiply(prices, TICKS_PER_DOLLAR, out=column)
        np.rint(column, out=column)
        np.divide(column, TICKS_PER_DOLLAR, out=column)
        changed |= np.isfinite(prices) & (prices != column)
    if not changed.any():
        return frame, 0
    columns = (pl.Series(name, column) for name, column in zip(manifest.PRICES, rounded, strict=True))
    return frame.with_columns(columns), int(changed.sum())


def differing_rows(frame: pl.DataFrame, other: pl.DataFrame, keys: tuple[str, ...]) -> pl.DataFrame:
    """The rows of `frame` whose key exists in `other` with different values, which get the suffix _stored."""
    values = [name for name in other.columns if name not in keys]
    both = frame.join(other, on=list(keys), how="inner", suffix="_stored", maintain_order="left")
    return both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_stored")) for name in values))
