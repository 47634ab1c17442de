"""Late-day momentum and fade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import attrs
import numpy as np

from tbot_core.contracts import Check
from tbot_core.contracts.setting import Permits, fraction, minutes, number, setting
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger, first_hits, price_level
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Array, Bars
    from tbot_core.model.day_facts import DayFacts


@attrs.frozen(kw_only=True)
class Close:
    """Momentum: a close beyond the session's extreme at the end of analysis. Fade: a large move that turns.

    No signals when the VIX is low or unknown, or while the session's range is small. The stop trails at STOP_LOSS_PCT;
    each position is held for the monitoring minutes.
    """

    window: Window
    analysis_minutes: int = setting(
        "CLOSE_ANALYSIS_TIME",
        minutes(least=1),
        default="20",
        doc="Analysis minutes; a fade compares with the close this many minutes earlier.",
    )
    vix_threshold: float = setting(
        "STRAT_CLOSE_VIX_THRESHOLD",
        number(least=0, most=1000),
        default="15",
        doc="Smallest VIX close of the previous session, in points, for entries; an equal value passes.",
        permits=Permits("smaller"),
    )
    buffer: float = setting(
        "CLOSE_BUFFER",
        fraction(of=float),
        default="0",
        doc="Distance beyond the session's high or low that momentum needs, as a fraction of it.",
        permits=Permits("smaller"),
    )
    min_range_pct: float = setting(
        "CLOSE_MIN_RANGE_PCT",
        fraction(of=float),
        default="0.01",
        doc="Smallest range of the session at entry, as a fraction of its open.",
        permits=Permits("smaller"),
    )
    fade_pct: float = setting(
        "CLOSE_FADE_PCT",
        fraction(of=float),
        default="0.05",
        doc="Return of the session from its open, as a fraction, beyond which a reversal is faded.",
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

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """Compare the previous session's VIX close with the threshold. Unknown always denies."""
        vix = Check(
            name="vix",
            value=np.broadcast_to(day.vix, day.previous_close.shape),
            low=self.vix_threshold,
            below=Reason.VIX_LOW,
            above=Reason.VIX_LOW,
            unknown=Reason.VIX_UNKNOWN,
            required=True,
        )
        return (vix,)

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first momentum or fade of each row, momentum first within a minute, from minute `since` on."""
        hits = first_hits(self.triggers(bars, day), self.window.entry)
        price = hits.at(bars.close)
        return hits.signals(
            price,
            ExitRules(trailing=True, hold=self.window.monitoring),
            stop=hits.stop_at(price, self.stop_loss_pct, self.stop_atr * hits.row(day.atr)),
            since=since,
        )

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - the VIX is screened before the open
        """Momentum long and short, then fade of a rise and of a fall, each in a session of enough range."""
        entry, entry_end = self.window.entry, self.window.entry_end
        high, low = bars.so_far("high", entry, entry_end), bars.so_far("low", entry, entry_end)
        opened = bars.first_open[..., None]
        ranged = Condition(
            name="range so far",
            value=price_level(high - low, 1),
            level=price_level(opened, self.min_range_pct),
            above=True,
            inclusive=True,
        )
        return (
            self._momentum(1, bars, ranged, high - low),
            self._momentum(-1, bars, ranged, high - low),
            self._fade(-1, bars, ranged, opened),
            self._fade(1, bars, ranged, opened),
        )

    def _momentum(self, side: Literal[1, -1], bars: Bars, ranged: Condition, scale: Array) -> Trigger:
        entry = self.window.entry
        extreme = bars.highest(0, entry) if side > 0 else bars.lowest(0, entry)
        return Trigger(
            rule="momentum",
            side=side,
            value=bars.close[..., entry : self.window.entry_end],
            level=price_level(extreme, 1 + side * self.buffer)[..., None],
            above=side > 0,
            when=(ranged,),
            scale=scale,
            base=extreme[..., None],
            base_name="session high" if side > 0 else "session low",
        )

    def _fade(self, side: Literal[1, -1], bars: Bars, ranged: Condition, opened: Array) -> Trigger:
        # As prices, so that `return beyond the limit` is exact: close against open x (1 + limit), distance relative to
        # the open.
        close = bars.close[..., self.window.entry : self.window.entry_end]
        before = bars.close[..., self.window.start : self.window.start + close.shape[-1]]
        turned = Condition(name=f"{self.window.analysis} minutes before", value=close, level=before, above=side > 0)
        return Trigger(
            rule="fade",
            side=side,
            value=close,
            level=price_level(opened, 1 - side * self.fade_pct),
            above=side < 0,
            when=(ranged, turned),
            scale=opened,
            base=opened,
            base_name="session open",
        )
