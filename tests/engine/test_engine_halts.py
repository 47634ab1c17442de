"""Halts through whole sessions: what rests, what is held, what is due, over the bell, and of the whole market."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.cli.commands.status import feed_lines
from tbot_core.contracts import Urgency
from tbot_core.contracts.settings import StrategySettings
from tbot_core.journal import records
from tbot_core.journal.projection import fold
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.projections.feed_health import DataHealth
from tbot_core.journal.store import Event, open_journal
from tbot_core.marketdata.received_files import FOLDER
from tbot_core.model.signals import ExitRules
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.prices import STEPS_A_MINUTE
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import World
from tbot_core.status.instance import feed_document
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy

SEED: Final = 4
MINUTES: Final = 30
PRICE: Final = 1_000_000
A, B = 0, 1
"""The rows of the two symbols that these sessions speak of."""


@attrs.define(kw_only=True, eq=False)
class Scene:
    """A calm market at one price, of which a test says what halts and who signals: (minute, row), held for `hold`.

    `stops` are (symbol's row, from minute, to minute), `wide` (from, to, level) of the whole market, `thin` (row, from,
    to) where nobody trades though nothing is halted. `dies` is the minute in which the process is killed and started.
    """

    home: Path
    calls: tuple[tuple[int, int], ...] = ((2, A),)
    hold: int = 4
    stops: tuple[tuple[int, float, float], ...] = ()
    wide: tuple[tuple[float, float, int], ...] = ()
    thin: tuple[tuple[int, float, float], ...] = ()
    dies: float | None = None
    events: list[Event] = attrs.field(factory=list)
    world: World = attrs.field(
        factory=lambda: World(SEED, (), rates={}, live=True, venues=1, minutes=MINUTES, character=VenueProfile())
    )

    def live(self) -> Scene:
        """Trade the session to its end."""
        world = self.world
        paths = [*world.market.paths.values()]
        for path in paths:
            path.prices[:] = [PRICE] * len(path.prices)
            path.depth[:] = [10**15] * len(path.depth)
            path.quiet = frozenset()
        for row, begins, ends in self.stops:
            paths[row].halts.append((_step(begins), _step(ends)))
        for row, begins, ends in self.thin:
            for step in range(_step(begins), _step(ends)):
                paths[row].depth[step] = 0
        world.market.wide.extend((_step(begins), _step(ends), level) for begins, ends, level in self.wide)
        world.run(self._lives)
        with closing(open_journal(self.home / "tbot.sqlite")) as journal:
            self.events = list(journal.events())
        return self

    async def _lives(self) -> None:
        if self.dies is not None:
            first = self._life()
            process = asyncio.ensure_future(first.live())
            await self.world.clock.sleep_until(self.moment(self.dies))
            process.cancel()
            await asyncio.gather(process, return_exceptions=True)
            first.close()
        second = self._life()
        await second.live()
        second.close()

    def _life(self) -> BotProcess:
        world = self.world
        return BotProcess(world, world.names, self.home, self._habits(), PlannedCrash(10**9, after=False))

    def _habits(self) -> BotConfig:
        window = Window(start=0, analysis=0, breakout=20, monitoring=6)
        entrants = tuple(
            ActiveStrategy(
                name=f"told{rank}",
                rank=rank,
                strategy=ScriptedStrategy(
                    window=window,
                    calls=((minute, row, 1),),
                    exits=ExitRules(leave=window.leave, hold=self.hold),
                    distance=0.02,
                ),
                frame=StrategySettings(),
            )
            for rank, (minute, row) in enumerate(self.calls)
        )
        stream = self.world.chances.stream("bot")
        return BotConfig(
            entrants=entrants, rules=lambda venue: rules(venue=venue, flatten_before_close=2), stream=stream
        )

    def moment(self, minute: float) -> dt.datetime:
        """A moment of the session."""
        return self.world.session.open + dt.timedelta(minutes=minute)

    def at(self, event: Event) -> float:
        """The minute of the session at which something was written down."""
        return (event.applied - self.world.session.open).total_seconds() / 60

    def symbol(self, row: int) -> str:
        """The symbol of a row."""
        return self.world.market.symbols[row]

    def of(self, kind: str) -> list[Event]:
        """What was written down of a kind."""
        return [event for event in self.events if event.kind == kind]

    def sent(self, leg: str, row: int = A) -> list[float]:
        """When orders of that leg and symbol left."""
        mine = {one.cid for one in self.of(records.INTENDED)
                if (one.payload["leg"], one.payload["signal"]["symbol"]) == (leg, self.symbol(row))}  # fmt: skip
        return [self.at(one) for one in self.of(records.SENDING) if one.cid in mine]

    def reasons(self) -> dict[int, str]:
        """Why each minute's signal was not entered, or that it was allowed."""
        return {one.payload["signal"]["minute"]: one.payload["reason"] for one in self.of(records.DECISION)}

    def told(self, until: float = 10_000.0) -> AlertRules:
        """What a person had been told by a minute of the session."""
        watch = AlertRules(RoutineEvents())
        for event in self.events:
            if self.at(event) <= until:
                watch.apply(event)
        return watch

    def standing(self, minute: float) -> dict[str, Any]:
        """The incidents that stood at a minute of the session, and how urgent each is."""
        return {key: one.urgency for key, one in self.told(minute).open_incidents(self.moment(minute)).items()}

    def status(self, minute: float) -> list[str]:
        """What `tbot status` says of the data at a minute of the session."""
        known = [event for event in self.events if self.at(event) <= minute]
        shown = feed_document(self.home / FOLDER, fold(known, DataHealth()), self.moment(minute))
        return [] if shown is None else list(feed_lines(shown))

    def causes(self) -> set[str]:
        """Every cause of a state that came."""
        return {one.payload["cause"] for one in self.of(records.STATE) if one.payload["there"]}


pytestmark = pytest.mark.slow


def _step(minute: float) -> int:
    return round(minute * STEPS_A_MINUTE)


def test_without_a_halt_the_exit_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    """What the sessions below are held against: bought at minute 3, sold at 7."""
    scene = Scene(home=tmp_path).live()
    assert scene.sent("entry") == [pytest.approx(3.0, abs=0.05)]
    assert scene.sent("exit") == [pytest.approx(7.0, abs=0.05)]
    assert scene.causes() == {"UNRECONCILED"}


def test_f40_an_entry_that_waits_when_its_symbol_halts_is_taken_back(tmp_path: Path) -> None:
    """Within a second, long before ENTRY_TTL: nothing is bought at whatever price trading resumes at."""
    halted = 3.0 + 1 / 6
    scene = Scene(home=tmp_path, thin=((A, 3.0, 4.0),), stops=((A, halted, 9.0),)).live()
    assert len(scene.sent("entry")) == 1
    cancelled = scene.at(scene.of(records.CANCEL_REQUESTED)[0])
    assert halted <= cancelled < halted + 1 / 60
    assert scene.of("fill") == []
    assert fold_events(scene.events).denials["ENTRY_NOT_FILLED"] == 1


def test_f40_a_halted_position_keeps_its_stop_and_its_exit_leaves_when_trading_resumes(tmp_path: Path) -> None:
    """Its time runs out within the halt; a person is told meanwhile, and `tbot status` names the symbol."""
    scene = Scene(home=tmp_path, stops=((A, 5.5, 12.5),)).live()
    symbol = scene.symbol(A)
    assert scene.sent("exit") == [pytest.approx(12.5, abs=0.05)]
    assert [scene.at(one) for one in scene.of(records.CANCEL_REQUESTED) if scene.at(one) < 12.5] == []
    assert scene.standing(10.0)[f"halt {symbol}"] is Urgency.ROUTINE
    assert scene.standing(13.0) == {}
    assert scene.status(10.0)[-1] == f"halted      {symbol}"
    assert [trade.symbol for trade in fold_events(scene.events).trades] == [symbol]


def test_f40_entries_come_back_two_full_bars_after_the_resumption(tmp_path: Path) -> None:
    """Trading resumes in minute 9: the bars of 10 and 11 are full, so the signal of 11 is the first that counts."""
    calls = tuple((minute, A) for minute in (9, 10, 11))
    scene = Scene(home=tmp_path, calls=calls, stops=((A, 5.0, 9.5),)).live()
    assert scene.reasons() == {9: "SYMBOL_HALTED", 10: "SYMBOL_HALTED", 11: "ALLOWED"}


def test_f40_a_symbol_that_halts_over_the_bell_is_stuck(tmp_path: Path) -> None:
    """Told two minutes before the close, STUCK after it because it is halted; the other symbol's exit leaves."""
    scene = Scene(home=tmp_path, calls=((2, A), (2, B)), hold=20, stops=((A, 12.0, 99.0),)).live()
    symbol = scene.symbol(A)
    assert scene.sent("exit") == []
    assert len(scene.sent("exit", B)) == 1
    (late,) = scene.of(records.CLOSING_LATE)
    assert late.payload["symbol"] == symbol
    assert scene.at(late) == pytest.approx(MINUTES - 2, abs=0.05)
    (stuck,) = scene.of(records.STUCK)
    assert (stuck.payload["symbol"], stuck.payload["words"]) == (symbol, "it is halted")
    assert scene.standing(MINUTES + 1.0)[f"stuck {symbol}"] is Urgency.CRITICAL
    assert scene.of(records.SESSION_CLOSED)[0].payload["open"] == [symbol]


@pytest.mark.parametrize("level", [1, 2])
def test_f41_a_market_wide_halt_pauses_everything_until_it_reopens(tmp_path: Path, level: int) -> None:
    """Exits that were due leave at once, entries wait five minutes; no silence of the halt counts against the feed."""
    calls = ((2, A), *((minute, B) for minute in (12, 16, 17, 18, 19)))
    scene = Scene(home=tmp_path, calls=calls, wide=((5.5, 12.5, level),)).live()
    assert scene.sent("exit") == [pytest.approx(12.5, abs=0.05)]
    denied = dict.fromkeys((12, 16), "MARKET_HALTED")
    assert scene.reasons() == {2: "ALLOWED", **denied, 17: "ALLOWED", 18: "ALREADY_HELD", 19: "ALREADY_HELD"}
    assert scene.causes() == {"UNRECONCILED"}
    assert scene.of(records.FEED_GAP) == []
    assert scene.standing(10.0)["halt"] is Urgency.ROUTINE
    assert scene.status(10.0)[-1] == "halted      the whole market"
    assert scene.of(records.STUCK) == []


def test_f41_the_third_level_ends_the_day(tmp_path: Path) -> None:
    """What is held is STUCK at once, and told; nothing is entered or closed any more, whatever is said of an end."""
    calls = ((2, A), *((minute, B) for minute in (15, 19)))
    scene = Scene(home=tmp_path, calls=calls, hold=20, wide=((7.5, 14.0, 3),)).live()
    symbol = scene.symbol(A)
    first, last = scene.of(records.STUCK)
    assert scene.at(first) == pytest.approx(7.5, abs=0.05)
    assert first.payload["words"] == "it is halted"
    assert scene.standing(8.0)[f"stuck {symbol}"] is Urgency.CRITICAL
    assert scene.status(8.0)[-1] == "halted      the whole market, to the close"
    assert set(scene.reasons().values()) == {"ALLOWED", "MARKET_HALTED"}
    assert max(scene.at(one) for one in scene.of(records.SENDING)) < 7.5
    assert scene.of(records.CLOSING_LATE) == []
    assert scene.at(last) == pytest.approx(MINUTES, abs=0.05)
    (carried,) = carryover.carried_positions(scene.events)
    assert carried.fill.symbol == symbol


def test_f41_with_nothing_held_the_third_level_is_told_as_the_sessions_end(tmp_path: Path) -> None:
    """Once, as routine; an entry that waits is taken back."""
    scene = Scene(home=tmp_path, thin=((A, 3.0, 9.0),), wide=((3.0 + 1 / 6, 99.0, 3),)).live()
    assert scene.at(scene.of(records.CANCEL_REQUESTED)[0]) < 3.2
    assert scene.of("fill") == []
    watch = AlertRules(RoutineEvents())
    told = [one.what for event in scene.events for one in watch.apply(event)]
    assert [words for words in told if "level 3" in words] == [
        "The whole market is halted to the close (level 3): the session has ended."
    ]


@pytest.mark.parametrize("dies", [8.2, 14.2])
def test_f41_a_restart_remembers_halts(tmp_path: Path, dies: float) -> None:
    """Killed in a market-wide halt, or within the five minutes after it: what waits goes on waiting."""
    calls = ((2, A), *((minute, B) for minute in (15, 16, 17)))
    scene = Scene(home=tmp_path, calls=calls, wide=((5.5, 12.5, 1),), dies=dies).live()
    assert scene.reasons() == {2: "ALLOWED", 15: "MARKET_HALTED", 16: "MARKET_HALTED", 17: "ALLOWED"}
    assert scene.sent("exit") == [pytest.approx(12.5, abs=0.05)]


def test_f41_a_restart_does_not_take_the_third_level_back(tmp_path: Path) -> None:
    """The feed that is connected to anew says nothing of it: the day is over all the same, and STUCK is told once."""
    scene = Scene(home=tmp_path, calls=((2, A), (19, B)), hold=20, wide=((7.5, 14.0, 3),), dies=15.5).live()
    assert scene.reasons()[19] == "MARKET_HALTED"
    assert [scene.at(one) < MINUTES for one in scene.of(records.STUCK)] == [True, False]
    assert scene.sent("exit") == []
