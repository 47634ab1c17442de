"""Splits of shares, by which prices and volumes of earlier sessions are compared with those of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import Split
    from tbot_core.model.bars import Array
    from tbot_core.model.day_facts import Dates


def share_counts(splits: Iterable[Split], days: Dates, symbols: Sequence[str]) -> Array:
    """How many shares one share from before all splits is on each day, shape (days, symbols)."""
    counts, columns = np.ones((len(days), len(symbols))), {symbol: column for column, symbol in enumerate(symbols)}
    for one in splits:
        if one.symbol in columns:
            counts[days >= np.datetime64(one.date, "D"), columns[one.symbol]] *= one.after / one.before
    return counts
