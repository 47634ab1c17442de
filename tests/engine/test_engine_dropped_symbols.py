"""A session that is started again in its midst with fewer symbols or strategies than before."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts.settings import StrategySettings
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.journal import records
from tbot_core.journal.store import Event, open_journal
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import TOPPING_UP, BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy, TradingRules
from tbot_core.trading.universe import Universe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from tbot_core.contracts import Bar, Broker, DailyBar, FeedLabel, FeedMessage, FeedQuality
    from tbot_core.model.clock import Clock
    from tbot_core.rehearsal.feed import SimulatedLiveFeed


class Fewer:
    """A feed that lists all symbols but one."""

    def __init__(self, feed: SimulatedLiveFeed, symbol: str) -> None:
        self._feed = feed
        self.session = feed.session
        self.symbols = tuple(one for one in feed.symbols if one != symbol)
        self.asked: list[str] = []

    @property
    def quality(self) -> FeedQuality:
        """That of the whole feed."""
        return self._feed.quality

    @property
    def label(self) -> FeedLabel:
        """That of the whole feed."""
        return self._feed.label

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """What the whole feed says of these symbols."""
        self.asked += symbols
        async for one in self._feed.messages(symbols):
            yield one

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        """What the whole feed has of these symbols."""
        return await self._feed.daily(symbols, first, last)

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """What the whole feed has of these symbols."""
        return await self._feed.history(symbols, first, last)


@attrs.frozen(eq=False)
class Elsewhere:
    """A world whose feed lists a symbol no more."""

    world: World
    feed: Fewer

    @property
    def clock(self) -> Clock:
        """The world's."""
        return self.world.clock

    def client(self, name: str) -> Broker:
        """One of the world's."""
        return self.world.client(name)

    def session_feed(self) -> Fewer:
        """What the bot hears."""
        return self.feed

    def universe(self) -> Universe:
        """All that it lists, with the world's facts."""
        whole = self.world.universe()
        kept = [row for row, one in enumerate(whole.symbols) if one in self.feed.symbols]
        return Universe(symbols=self.feed.symbols, day=whole.day.symbols(kept))


def still() -> World:
    """A world in which nothing fails; all prices fall once by a hundredth."""
    world = World(4, (), rates={}, live=True, venues=1, minutes=30, character=VenueProfile())
    for path in world.market.paths.values():
        half = len(path.prices) // 2
        path.prices[:] = [1_000_000] * half + [990_000] * (len(path.prices) - half)
        path.depth[:] = [10**15] * len(path.depth)
        path.quiet = frozenset()
    return world


def bot(world: World, *, hold: int | None = None, **settings: Any) -> BotConfig:
    """A bot that is called to enter the first symbol in the second minute."""
    window = Window(start=0, analysis=0, breakout=20, monitoring=6)
    exits = ExitRules(leave=window.leave, hold=hold)
    strategy = ScriptedStrategy(window=window, calls=((2, 0, 1),), exits=exits, distance=0.02)

    def ruled(venue: Any) -> TradingRules:
        return rules(venue=venue, flatten_before_close=2, **settings)

    return BotConfig(
        entrants=(ActiveStrategy(name="told", rank=0, strategy=strategy, frame=StrategySettings()),),
        rules=ruled,
        stream=world.chances.stream("bot"),
        signals=ProcessSignals(),
    )


def confirm(world: World, home: Path) -> None:
    """A person confirms all that is asked."""
    with closing(open_journal(home / "tbot.sqlite")) as journal:
        for one in journal.events(kind=records.CONFIRMATION_ASKED):
            arguments = {"id": one.payload["id"]}
            control.write_request(
                home / "control", ControlVerb.CONFIRM, actor="ann", now=world.clock.now(), arguments=arguments
            )


def restarted(home: Path, *, idle: bool = False, **habits: Any) -> tuple[list[Event], int, Fewer]:
    """The journal of a session that was killed after five minutes and went on without its first symbol, or `idle`.

    An idle one has lost its strategy instead. The number of its last event before that, and what the second process
    heard. What was asked before is confirmed.
    """
    world = still()
    symbol = world.market.symbols[0]
    before = BotProcess(world, world.names, home, bot(world, **habits), PlannedCrash(10**9, after=False))
    fewer = Fewer(world.live_feed(), symbol)
    heads = []

    async def lives() -> None:
        first = asyncio.ensure_future(before.live())
        await world.clock.sleep_until(world.session.moment(5))
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        heads.append(before.journal.head[0])
        before.close()
        confirm(world, home)
        later = bot(world, **habits)
        if idle:
            later = attrs.evolve(later, entrants=())
        around = world if idle else Elsewhere(world, fewer)
        after = BotProcess(around, world.names, home, later, PlannedCrash(10**9, after=False))
        await after.live()
        after.close()

    world.run(lives)
    with closing(open_journal(home / "tbot.sqlite")) as journal:
        return list(journal.events()), heads[0], fewer


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("hold", [10, None])
def test_what_is_held_of_a_symbol_that_is_heard_no_more_is_protected_and_closed(
    tmp_path: Path, hold: int | None
) -> None:
    """Its stop rests on, and it is left at its time, or at the session's end at the latest, without a bar of it."""
    events, head, fewer = restarted(tmp_path, hold=hold)
    bought = next(one for one in events if one.kind == "fill")
    symbol = bought.payload["symbol"]
    mine = [one for one in events if one.kind == records.INTENDED and one.payload["signal"]["symbol"] == symbol]
    exits = [one.payload["reason"] for one in mine if one.payload["leg"] == "exit"]
    stops = {one.cid for one in mine if one.payload["leg"] == "stop"}
    ended = [one.seq for one in events if one.cid in stops and one.kind == records.CANCEL_REQUESTED]
    (closed,) = [one for one in events if one.kind == records.SESSION_CLOSED]
    assert bought.seq <= head < min(ended)
    assert symbol not in fewer.asked
    assert exits == ["TIME"]
    assert closed.payload["open"] == []


def test_a_question_about_a_symbol_that_is_heard_no_more_expires(tmp_path: Path) -> None:
    """There is no price to size it at: it is not entered, though a person confirms."""
    events, head, _ = restarted(tmp_path, trade_confirmation_required=True, confirmation_timeout=600.0)
    asked = next(one for one in events if one.kind == records.CONFIRMATION_ASKED)
    signal = asked.payload["signal"]
    (decided,) = [one for one in events if one.kind == records.DECISION and one.payload["signal"] == signal]
    assert asked.seq <= head < decided.seq
    assert decided.payload["reason"] == "CONFIRMATION_EXPIRED"


def test_a_question_of_a_strategy_that_is_traded_no_more_expires(tmp_path: Path) -> None:
    """It cannot be sized again, though a person confirms."""
    events, head, _ = restarted(tmp_path, idle=True, trade_confirmation_required=True, confirmation_timeout=600.0)
    (decided,) = [one for one in events if one.kind == records.DECISION]
    assert head < decided.seq
    assert decided.payload["reason"] == "CONFIRMATION_EXPIRED"


@pytest.mark.slow
def test_a_position_of_a_strategy_that_is_traded_no_more_is_not_topped_up(tmp_path: Path) -> None:
    """It has fallen under its share, is held on, and closed by the session's end."""
    events, head, _ = restarted(tmp_path, idle=True, rebalance_enabled=True, **TOPPING_UP)
    top_ups = [one for one in events if one.kind == records.TOP_UP and one.seq > head]
    (closed,) = [one for one in events if one.kind == records.SESSION_CLOSED]
    assert top_ups == []
    assert (closed.payload["trades"], closed.payload["open"]) == (1, [])
