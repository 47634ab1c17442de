"""Strategy `bench`: the opening-range breakout of the engine comparison, as a plugin of anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.setting import fraction, setting
from tbot_core.model.signals import ExitRules, Signals, Trigger, first_hits, price_level
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Context
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts


@attrs.frozen(kw_only=True)
class BenchBreakout:
    """Long above the range of the analysis bars, short below it; out after a close at the range's other side."""

    window: Window
    buffer: float = setting(
        "STRAT_BENCH_BUFFER",
        fraction(of=float),
        default="0.0017",
        doc="Distance beyond the opening range that a close must exceed, as a fraction of the range's high or low.",
    )

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first close of each row beyond the range, from minute `since` on."""
        hits = first_hits(self.triggers(bars, day), self.window.entry)
        high, low = bars.range(self.window.start, self.window.entry)
        exits = ExitRules(trigger="close", leave=self.window.leave)
        return hits.signals(hits.at(bars.close), exits, stop=hits.pick(low, high), since=since)

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - it uses only the range
        """A close above the range's high x (1 + buffer), and one below its low x (1 - buffer)."""
        high, low = bars.range(self.window.start, self.window.entry)
        close = bars.close[..., self.window.entry : self.window.entry_end]
        upper, lower = price_level(high, 1 + self.buffer)[..., None], price_level(low, 1 - self.buffer)[..., None]
        return (
            Trigger(rule="breakout", side=1, value=close, level=upper, above=True),
            Trigger(rule="breakout", side=-1, value=close, level=lower, above=False),
        )


@hookimpl
def tbot_strategy() -> Plugin:
    """Describe the plugin."""
    return Plugin(name="bench", summary="Opening-range breakout of a benchmark", config=BenchBreakout, create=_create)


def _create(config: BenchBreakout, context: Context) -> BenchBreakout:  # noqa: ARG001 - a pure strategy needs none
    return config
