"""How many requests a minute a running session makes at a broker: 30 symbols, and 5 positions for half an hour.

A day of 36 minutes at the test venue of an installed broker (an argument, or alpaca), in virtual time. Prints what the
venue has received: of each host the busiest minute by kind of request, and the median of its minutes.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, broker_plugin, open_day, venue_summary
from tbot_core.rehearsal.prices import CENT, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.testing.venue import TradingVenue

SYMBOLS = tuple(f"Q{letter}{other}" for letter in "ABC" for other in "ABCDEFGHIJ")
POSITIONS, HELD_MINUTES = 5, 31
SETTINGS = {
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "TOTAL_ALLOCATION": "0.9",
    "MAX_GROSS_EXPOSURE": "1",
    "MAX_OPEN_POSITIONS": str(POSITIONS),
    "MAX_TRADES": str(POSITIONS),
    "WEIGHTS": ",".join([str(1 / POSITIONS)] * POSITIONS),
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}


def entries() -> ActiveStrategy:
    """A strategy that enters so many symbols in the same minute, and holds them."""
    window = Window(start=1, analysis=0, breakout=2, monitoring=HELD_MINUTES)
    strategy = ScriptedStrategy(
        window=window,
        calls=tuple((2, row, 1) for row in range(POSITIONS)),
        exits=ExitRules(trigger="intrabar", trailing=False, leave=window.leave, hold=None),
        distance=0.02,
        gain=math.nan,
    )
    return ActiveStrategy(name="entries", rank=0, strategy=strategy, frame=StrategySettings())


async def whole(day: BrokerDay) -> RunOutcome:
    """The session from before the bell to its close."""
    return await day.start()


def figures(name: str, prepare: Callable[[TradingVenue], object] = lambda _venue: None) -> list[str]:
    """What the venue of a broker has received on the day; `prepare` sets the venue up before it."""
    plugin, (calendar, session) = broker_plugin(name), short_day(36)
    market = SimulatedMarket.flat(20 * 100 * CENT, SYMBOLS, session.minutes)
    with tempfile.TemporaryDirectory() as folder, open_day(plugin, Path(folder), market, calendar, DAY) as (day, run):
        texts = {**SETTINGS, "BROKER_NAME": name.upper(), **addresses(plugin, day.venue)}
        (Path(folder) / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in texts.items()))
        day.entrants.append(entries())
        prepare(day.venue)
        outcome = run(whole)
        return [f"{len(SYMBOLS)} symbols, {len(outcome.summary.trades)} positions", *venue_summary(day.venue)]


def main() -> None:
    """Print the figures."""
    sys.stdout.write("\n".join([*figures((sys.argv[1:] or ["alpaca"])[0]), ""]))


if __name__ == "__main__":
    main()
