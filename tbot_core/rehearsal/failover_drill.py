"""Worlds of two venues in which chosen outages hit the first, and a bot that may fail over to the second.

A drill rehearses that the primary fails in each way, and checks the result. Tests of single faults and crash tests of
a failover use the same worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerCapabilities
from tbot_core.contracts.settings import StrategySettings
from tbot_core.journal import records
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import UNITS_PER_SHARE, atoms_of
from tbot_core.model.window import Window
from tbot_core.rehearsal.bot import BotConfig, BotConnections, BotProcess, PlannedCrash, ScriptedStrategy
from tbot_core.rehearsal.history import RehearsalHistory
from tbot_core.rehearsal.invariants.all import violations
from tbot_core.rehearsal.rehearsal import memory_folder
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.testing.trades import rules
from tbot_core.trading.proposals import ActiveStrategy
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.journal.store import Event

_BREAK: Final = (5.0, 15.0)

MINUTES: Final = 42

_MINUTE_S: Final = 60.0

_CALLS: Final = tuple(range(8, 36, 2))

_HOLD: Final = 3

_LONG_LIFE: Final = 10**9


@attrs.frozen(kw_only=True)
class OutageTrial:
    """One outage, the expected result in words, and its check."""

    faults: str
    words: str
    outage: OutageScenario
    holds: Callable[[OutageResult], bool]


@attrs.frozen(kw_only=True)
class OutageScenario:
    """Outages of two venues: (venue, fault, from, to), in minutes after the open; `ambushed`: F64 from then on.

    `drilled`: whether the bot may fail over; `second_cash`: the cash of the second account; `most_trades`: MAX_TRADES.
    By default another symbol is entered every second minute from the eighth to the 34th, and closed three minutes
    later.
    """

    troubles: tuple[tuple[int, str, float, float], ...] = ()
    ambushed: float | None = None
    seed: int = 1
    calls: tuple[int, ...] = _CALLS
    drilled: bool = True
    second_cash: Decimal = Decimal(100_000)
    most_trades: int = 20

    def world(self) -> World:
        """A new world; each call creates an equal one."""
        venue = BrokerCapabilities(
            brackets=True,
            replace="same_id",
            query_by_cid=True,
            lists_closed=True,
            exec_ids_unique=True,
            lookup_window_s=60.0,
            shortable=True,
        )
        world = World(self.seed, (), character=VenueProfile(rules=venue), live=False, venues=2, minutes=MINUTES)
        second = world.ways[1].exchange.matching
        second.character = attrs.evolve(second.character, cash=self.second_cash, account_id="SIM-2")
        second.books.cash = atoms_of(self.second_cash)
        for place, fault, begins, ends in self.troubles:
            world.ways[place].add_fault(fault, LEAD_S + begins * _MINUTE_S, LEAD_S + ends * _MINUTE_S)
        if self.ambushed is not None:
            world.ways[0].ambush(LEAD_S + self.ambushed * _MINUTE_S)
        for path in world.market.paths.values():
            path.depth[:] = [10**6 * UNITS_PER_SHARE] * len(path.depth)
        return world

    def bot(self, world: World) -> BotConfig:
        """One strategy, with limits that allow every entry."""
        settings: dict[str, Any] = {
            "max_gross_exposure": Decimal("0.9"),
            "total_allocation": Decimal("0.6"),
            "max_risk_per_trade": Decimal("0.1"),
            "max_trades": self.most_trades,
            "weights": (Decimal("0.05"),) * 20,
            "max_open_positions": 8,
            "daily_loss_limit": Decimal("0.5"),
            "defense_mode_trade_limit_pct": Decimal(100),
            "defense_mode_total_allocation": Decimal("0.6"),
            "one_trade_per_symbol_per_day": False,
            "flatten_before_close": 3,
        }
        symbols = len(world.market.symbols)
        window = Window(start=0, analysis=0, breakout=MINUTES - 6, monitoring=5)
        calls = tuple((minute, number % symbols, 1) for number, minute in enumerate(self.calls))
        strategy = ScriptedStrategy(window=window, calls=calls, exits=ExitRules(hold=_HOLD), distance=0.05)
        return BotConfig(
            entrants=(ActiveStrategy(name="steady", rank=0, strategy=strategy, frame=StrategySettings()),),
            rules=lambda venue: rules(venue=venue, **settings),
            stream=world.chances.stream("bot"),
            failover=True,
            is_drilled=self.drilled,
        )

    def story(self, world: World) -> RehearsalHistory:
        """An empty history of the world."""
        name = world.names[0]
        return RehearsalHistory(world=world, name=name, rules=self.bot(world).rules(world.client(name).capabilities))

    def play(
        self, home: Path, *plans: tuple[float, Callable[[World], None]], ways: BotConnections | None = None
    ) -> OutageResult:
        """Run the scenario once; each plan is (minutes after the open, action)."""
        world = self.world()
        story = self.story(world)
        life = BotProcess(world, world.names, home, self.bot(world), ways or PlannedCrash(_LONG_LIFE, after=False))
        for minute, act in plans:
            world.loop.call_at(LEAD_S + minute * _MINUTE_S, act, world)
        world.run(life.live)
        story.lives.append(life.lived)
        story.end(life)
        life.close()
        return OutageResult.of(story, home)


@attrs.frozen(kw_only=True)
class OutageResult:
    """The result of an outage scenario."""

    story: RehearsalHistory
    violations: tuple[str, ...]

    @classmethod
    def of(cls, story: RehearsalHistory, home: Path) -> OutageResult:
        """Read and verify the journal, and check the invariants."""
        from tbot_core.journal.store import open_journal

        journal = open_journal(home / "tbot.sqlite")
        try:
            journal.verify()
            story.events = list(journal.events())
        finally:
            journal.close()
        return cls(story=story, violations=tuple(violations(story)))

    def events(self, kind: str) -> list[Event]:
        """The journal's events of a kind."""
        return [event for event in self.story.events if event.kind == kind]

    def entries(self, broker: str = "") -> list[Event]:
        """The entry intents of a venue, "" for the first."""
        intents = (event for event in self.events("intended") if event.payload["leg"] == "entry")
        return [event for event in intents if event.payload.get("broker", "") == broker]

    def minutes(self, events: Iterable[Event]) -> list[int]:
        """The minutes of the session in which events happened."""
        return [self.story.world.session.minute(event.applied) for event in events]


def rehearse_trials() -> Iterator[DrillStep]:
    """Rehearse each outage; a violated invariant fails its step."""
    for trial in TRIALS:
        with memory_folder() as home:
            result = trial.outage.play(home)
        wrong = result.violations or (() if trial.holds(result) else ("the expected result did not occur",))
        yield DrillStep(what=f"{trial.faults}: {trial.words}", passed=not wrong, words="; ".join(wrong[:3]))


def _phases(result: OutageResult) -> list[str]:
    return [event.payload["phase"] for event in result.events(records.FAILOVER)]


def _moved(result: OutageResult) -> bool:
    return _phases(result)[:1] == [FailoverPhase.ENTRIES.value] and bool(result.entries("beta"))


def _stays(result: OutageResult) -> bool:
    # A moved instrument is not entered at the primary again.
    moved = {event.payload["symbol"]: event.seq for event in result.events(records.LEASE)}
    entries = ((event.payload["signal"]["symbol"], event.seq) for event in result.entries())
    return _moved(result) and not any(seq > moved.get(symbol, seq) for symbol, seq in entries)


def _reduces(result: OutageResult) -> bool:
    return _phases(result)[:1] == [FailoverPhase.REDUCE_ONLY.value] and not result.entries("beta")


def _guards(result: OutageResult) -> bool:
    moved = {event.payload["since"] for event in result.events(records.LEASE)}
    return len(moved) == 2 and any(event.payload["why"] == "FLAPPING" for event in result.events(records.FAILOVER))


def _waits(result: OutageResult) -> bool:
    during = range(int(_BREAK[0]), int(_BREAK[1]))
    entered = result.minutes([*result.entries(), *result.entries("beta")])
    return FailoverPhase.DOWN.value in _phases(result) and not any(minute in during for minute in entered)


TRIALS: Final = (
    OutageTrial(
        faults="F60, F65",
        words="the primary is unreachable for ten minutes: entries go to the other broker, and what moved stays there",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK),)),
        holds=_stays,
    ),
    OutageTrial(
        faults="F61",
        words="only orders fail at the primary: entries go to the other broker",
        outage=OutageScenario(troubles=((0, "F61", *_BREAK),)),
        holds=_moved,
    ),
    OutageTrial(
        faults="F64",
        words="an order at the primary is unknown: the other broker only reduces",
        outage=OutageScenario(ambushed=7.0),
        holds=_reduces,
    ),
    OutageTrial(
        faults="F66",
        words="the primary fails three times in an hour: the third failure moves nothing",
        outage=OutageScenario(
            troubles=tuple((0, "F60", begins, begins + 3.0) for begins in (5.0, 13.0, 21.0)),
            calls=(7, 15, 23, 24, 25, 26),
            seed=3,
        ),
        holds=_guards,
    ),
    OutageTrial(
        faults="F67",
        words="both brokers are unreachable: nothing is entered",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK), (1, "F60", *_BREAK))),
        holds=_waits,
    ),
)
"""The outages that a drill rehearses."""
