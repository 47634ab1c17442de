"""The reversion to the session's VWAP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.setting import Permits, fraction, number, setting
from tbot_core.model.signals import ExitRules, Signals, Trigger, first_hits, price_level
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Array, Bars
    from tbot_core.model.day_facts import DayFacts


@attrs.frozen(kw_only=True)
class Mid:
    """Long at or below the session's VWAP x (1 - threshold), short at or above VWAP x (1 + threshold).

    The target is the VWAP at the signal, the stop STOP_LOSS_PCT; each position is held for the monitoring minutes.
    """

    window: Window
    threshold: float = setting(
        "STRAT_MID_VWAP_THRESHOLD",
        fraction(of=float),
        default="0.02",
        doc="Distance of a close from the session's VWAP that gives a signal, as a fraction of the VWAP.",
        permits=Permits("smaller"),
    )
    stop_loss_pct: float = setting(
        "STOP_LOSS_PCT",
        fraction(of=float, least="0.0001", most="0.99"),
        default="0.02",
        doc="Distance of the protective stop from the signal bar's close, as a fraction of that close.",
    )
    stop_atr: float = setting(
        "STOP_ATR",
        number(least=0, most=100),
        default="0",
        doc="Stop distance in units of the daily ATR-14, instead of STOP_LOSS_PCT (0 = off).",
    )

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first close of each row beyond the threshold, from minute `since` on."""
        hits = first_hits(self.triggers(bars, day), self.window.entry)
        price = hits.at(bars.close)
        return hits.signals(
            price,
            ExitRules(hold=self.window.monitoring),
            stop=hits.stop_at(price, self.stop_loss_pct, self.stop_atr * hits.row(day.atr)),
            target=self._vwap(bars)[(*hits.cells, hits.minute - self.window.entry)],
            since=since,
        )

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - it uses only the VWAP
        """A close at or below VWAP x (1 - threshold), and one at or above VWAP x (1 + threshold)."""
        vwap, close = self._vwap(bars), bars.close[..., self.window.entry : self.window.entry_end]
        lower, upper = price_level(vwap, 1 - self.threshold), price_level(vwap, 1 + self.threshold)
        both = partial(Trigger, rule="reversion", value=close, inclusive=True, base="vwap", base_name="VWAP")
        return both(side=1, level=lower, above=False), both(side=-1, level=upper, above=True)

    def _vwap(self, bars: Bars) -> Array:
        return bars.so_far("vwap", self.window.entry, self.window.entry_end)
