"""Busy worlds for crash tests: every point at which a process may crash is reached, whatever the seed.

A bot trades several symbols at once at a venue with a chosen profile; the seed draws only prices and latencies.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import UNITS_PER_SHARE
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, ScriptedStrategy
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from tbot_core.rehearsal.prices import PricePath
    from tbot_core.rehearsal.random_streams import RandomStream

_DEPTH: Final = 4 * UNITS_PER_SHARE
_FALLS_AT: Final = 9
_FALL: Final = 0.03
_EVERY_MINUTES: Final = 2
_CALLS: Final = 5
_POLL_S: Final = 4.0
_SHAPES: Final = (
    {"trailing": True},
    {"hold": 3},
    {"trailing": True, "hold": 6},
)


@attrs.frozen(kw_only=True)
class Scenario:
    """The settings of such a world.

    `brackets`: an entry's stop rests at the venue from its fill on, and is amended in place; else each stop is a
    separate order, cancelled before the next is placed. `thin`: only a few shares fill at a time. `falls`: all prices
    fall below every stop and the daily loss limit. `faults` are those that may strike.
    """

    seed: int
    brackets: bool = True
    thin: bool = False
    falls: bool = False
    faults: tuple[str, ...] = ()

    def world(self) -> World:
        """A new world; each call creates an equal one."""
        venue = BrokerCapabilities(
            brackets=self.brackets,
            replace="same_id" if self.brackets else "cancel_and_new",
            query_by_cid=True,
            lists_closed=True,
            exec_ids_unique=True,
            lookup_window_s=60.0,
            shortable=True,
        )
        character = VenueProfile(rules=venue, numbers_moments=self.seed % 2 == 0)
        world = World(self.seed, self.faults, character=character)
        for path in world.market.paths.values():
            path.depth[:] = [_DEPTH if self.thin else 10**6 * UNITS_PER_SHARE] * len(path.depth)
            if self.falls:
                _fall(path)
        return world

    def bot(self, world: World) -> BotConfig:
        """Strategies that enter repeatedly, each with its own exits, and limits that allow most entries."""
        stream = world.chances.stream("bot")
        settings: dict[str, Any] = {
            "max_gross_exposure": Decimal("0.9"),
            "total_allocation": Decimal("0.6"),
            "max_risk_per_trade": Decimal("0.1"),
            "max_trades": 20,
            "weights": (Decimal("0.05"),) * 20,
            "max_open_positions": 8,
            "daily_loss_limit": Decimal("0.002" if self.falls else "0.5"),
            "one_trade_per_symbol_per_day": False,
            "flatten_before_close": 3,
            "max_rejects_in_row": 50,
        }
        return BotConfig(
            entrants=tuple(_entrant(world, stream, rank) for rank in range(len(_SHAPES))),
            rules=lambda venue: rules(venue=venue, **settings),
            stream=stream,
            poll_s=_POLL_S,
        )


def _entrant(world: World, stream: RandomStream, rank: int) -> ActiveStrategy:
    minutes, symbols = world.session.minutes, len(world.market.symbols)
    window = Window(start=0, analysis=0, breakout=minutes - 6, monitoring=5)
    calls = tuple((1 + _EVERY_MINUTES * number, (number + rank) % symbols, 1) for number in range(_CALLS))
    strategy = ScriptedStrategy(
        window=window, calls=calls, exits=ExitRules(**_SHAPES[rank]), distance=stream.between(0.004, 0.01)
    )
    return ActiveStrategy(name=f"busy{rank}", rank=rank, strategy=strategy, frame=StrategySettings())


def _fall(path: PricePath) -> None:
    start = _FALLS_AT * STEPS_A_MINUTE
    for step in range(start, len(path.prices)):
        path.prices[step] = max(int(path.prices[step] * (1 - _FALL)) // CENT * CENT, 100 * CENT)
