"""The daily bars of the sessions before a day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.model.bars import FIELDS, Array

if TYPE_CHECKING:
    from collections.abc import Callable


@attrs.frozen(kw_only=True, eq=False)
class DailyBars:
    """Bars of consecutive exchange sessions before a day, the last of the session before it.

    Arrays of shape (..., symbols, days), oldest first, in dollars and shares. They are adjusted for the splits that
    took effect up to the morning of the day, and not for dividends. NaN: no bar is known, or none of the day's kind.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array

    @property
    def days(self) -> int:
        """The number of sessions."""
        return int(self.close.shape[-1])

    @classmethod
    def unknown(cls, shape: tuple[int, ...]) -> DailyBars:
        """Bars of which nothing is known."""
        return cls(**{name: np.full(shape, np.nan) for name in FIELDS})

    def latest(self, days: int) -> DailyBars:
        """The bars of the last so many sessions; those before the first one of these are unknown."""
        held = self.each(lambda values: values[..., max(0, self.days - days) :])
        if held.days == days:
            return held
        before = np.full((*self.close.shape[:-1], days - held.days), np.nan)
        return held.each(lambda values: np.concatenate((before, values), axis=-1))

    def each(self, function: Callable[[Array], Array]) -> DailyBars:
        """Bars with a function applied to each field."""
        return DailyBars(**{name: function(getattr(self, name)) for name in FIELDS})
