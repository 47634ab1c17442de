"""The opening-range breakout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts.setting import Permits, fraction, minutes, number, setting
from tbot_core.model.signals import ExitRules, Signals, Trigger, first_hits, price_level
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts


@attrs.frozen(kw_only=True)
class Open:
    """Long above the range of the analysis bars, short below it.

    The stop is the nearer of the range's other side and STOP_LOSS_PCT; positions are closed when the window ends.
    """

    window: Window
    analysis_minutes: int = setting(
        "OPEN_ANALYSIS_TIME",
        minutes(least=1),
        default="20",
        doc="Minutes of the opening range.",
    )
    buffer: float = setting(
        "STRAT_OPEN_BUFFER",
        fraction(of=float),
        default="0.02",
        doc="Distance beyond the opening range that a close must exceed, as a fraction of the range's high or low.",
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
        """The first close of each row beyond the range, from minute `since` on."""
        hits = first_hits(self.triggers(bars, day), self.window.entry)
        high, low = bars.range(self.window.start, self.window.entry)
        price = hits.at(bars.close)
        stop = hits.nearer(
            hits.pick(low, high), hits.stop_at(price, self.stop_loss_pct, self.stop_atr * hits.row(day.atr))
        )
        return hits.signals(price, ExitRules(leave=self.window.leave), stop=stop, since=since)

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - it uses only the range
        """A close above the range's high x (1 + buffer), and one below its low x (1 - buffer)."""
        high, low = bars.range(self.window.start, self.window.entry)
        close = bars.close[..., self.window.entry : self.window.entry_end]
        upper, lower = price_level(high, 1 + self.buffer), price_level(low, 1 - self.buffer)
        return (
            Trigger(
                rule="breakout",
                side=1,
                value=close,
                level=upper[..., None],
                above=True,
                base=high[..., None],
                base_name="opening range high",
            ),
            Trigger(
                rule="breakout",
                side=-1,
                value=close,
                level=lower[..., None],
                above=False,
                base=low[..., None],
                base_name="opening range low",
            ),
        )
