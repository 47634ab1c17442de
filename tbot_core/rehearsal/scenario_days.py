"""Runs the scenarios of a broker's venue, each as a day of the real run with one signal, also in several processes.

Run as `python -m tbot_core.rehearsal.scenario_days TASK` it writes a line for each; TASK is `ScenarioBatch.text`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import fnmatch
import json
import math
import sys
import traceback
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.contracts import Plugin, Urgency
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError, UsageError
from tbot_core.journal.store import Event, read_journal
from tbot_core.model import json_document
from tbot_core.model.clock import SystemClock
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Side
from tbot_core.model.window import Window
from tbot_core.plugins import discovery
from tbot_core.rehearsal.bot import ScriptedStrategy
from tbot_core.rehearsal.broker_rehearsal import (
    BrokerDay,
    addresses,
    alert_settings,
    broker_plugin,
    open_day,
    write_instance,
)
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE, SimulatedMarket
from tbot_core.rehearsal.protection import claims
from tbot_core.rehearsal.scenario_judge import ObservedDay, ScenarioReport, judge
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.system import environ, filesystem, processes
from tbot_core.testing.venue import ScenarioVenue, VenueScenario
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.run_plan import RunOutcome

_SYMBOL: Final = "AAPL"
_PRICE: Final = 20 * 100 * CENT
_RISE: Final = 10 * CENT
_DISTANCE: Final = 0.02
_LEAD: Final = dt.timedelta(minutes=1)
_AFTERMATH_S: Final = 900.0
"""So long after the close the run may still work."""

_SETTINGS: Final = {"FILTERS": "none", "EXTENSIONS": "none", "TOTAL_ALLOCATION": "0.2"}


def venue_scenarios(plugin: Plugin) -> dict[str, VenueScenario]:
    """The scenarios that the venue of a broker offers, by name; raises PluginError for one without any."""
    if plugin.venue is not None:
        with plugin.venue() as venue:
            if isinstance(venue, ScenarioVenue):
                return {scenario.name: scenario for scenario in venue.scenarios()}
    raise PluginError(
        f"The venue of the broker {plugin.name} offers no scenarios.",
        "docs/reference/testing-kit.md, section 'Scenarios of a venue', says what it needs.",
    )


def chosen_names(offered: Mapping[str, VenueScenario], patterns: Sequence[str]) -> tuple[str, ...]:
    """The names that fit one of the patterns, without any those that are not full; raises UsageError if none fits."""
    for pattern in patterns:
        if not fnmatch.filter(offered, pattern):
            kinds = ", ".join(f"'{one}: *'" for one in dict.fromkeys(name.partition(":")[0] for name in offered))
            raise UsageError(f"No scenario fits {pattern!r}.", f"'*' fits all; there are {kinds}.")
    return tuple(
        name
        for name, one in offered.items()
        if (any(fnmatch.fnmatch(name, pattern) for pattern in patterns) if patterns else not one.full)
    )


def run_scenario(plugin: Plugin, scenario: VenueScenario) -> ScenarioReport:
    """Trade the day of a scenario, and judge it; raises PluginError if the venue cannot trade a whole day."""
    clock = SystemClock()
    began = clock.monotonic()
    calendar, session = short_day(scenario.minutes)
    market = SimulatedMarket.flat(_PRICE, (_SYMBOL,), session.minutes)
    if scenario.rises:
        _raise(market, scenario)
    with (
        filesystem.scratch_folder() as home,
        open_day(plugin, home, market, calendar, DAY, lead=_LEAD) as (day, run),
    ):
        venue = day.venue
        if not isinstance(venue, ScenarioVenue):
            raise PluginError(f"The venue of the broker {plugin.name} offers no scenarios.", "Name another broker.")
        texts = {
            **_SETTINGS,
            **alert_settings(discovery.installed_plugins()),
            "FLATTEN_BEFORE_CLOSE": str(scenario.flattens),
            "BROKER_NAME": plugin.name.upper(),
            **addresses(plugin, day.venue),
        }
        write_instance(home, texts)
        day.entrants.append(_entrant(scenario))
        lives = _Lives(day, venue)
        scenario.plan(venue, lives.kill)
        ended = run(lambda _day: lives.live())
        report = judge(_observed(scenario, day, venue, _events(home), ended))
    return attrs.evolve(report, took_s=clock.monotonic() - began)


def _observed(
    scenario: VenueScenario, day: BrokerDay, venue: ScenarioVenue, events: list[Event], ended: str
) -> ObservedDay:
    origin = day.session.open - _LEAD
    return ObservedDay(
        scenario=scenario,
        closes_at=(day.session.close - origin).total_seconds(),
        facts=[*venue.facts(), *claims(events, origin)],
        requests=venue.requests_seen(),
        orders=venue.orders_seen(),
        holdings=venue.holdings(),
        cash=venue.cash(),
        events=events,
        alerts=_critical_alerts(events),
        faults_met=venue.faults_met,
        ended=ended,
    )


class _Lives:
    # The processes of a day, one after the other.
    def __init__(self, day: BrokerDay, venue: ScenarioVenue) -> None:
        self._day, self._venue = day, venue
        self._life: asyncio.Task[RunOutcome] | None = None
        self._pauses_s: list[float] = []

    def kill(self, down_s: float) -> None:
        """End the process: nothing that it sends arrives, and nothing reaches it; see `Kill`."""
        if self._life is not None and not self._life.done():
            self._pauses_s.append(down_s)
            self._venue.set_process(runs=False)
            self._life.cancel()

    async def live(self) -> str:
        """Live to the end of the session; what ended the run before, "" for nothing."""
        day = self._day
        until = day.session.close + dt.timedelta(seconds=_AFTERMATH_S)
        while True:
            self._life = day.start()
            await asyncio.wait({self._life}, timeout=(until - day.clock.true()).total_seconds())
            if not self._pauses_s:
                break
            await day.crash(self._life)
            await day.clock.sleep(self._pauses_s.pop())
            self._venue.set_process(runs=True)
        if not self._life.done():
            await day.crash(self._life)
            return ""
        try:
            self._life.result()
        except Exception as fault:  # noqa: BLE001  -- the finding
            last = traceback.extract_tb(fault.__traceback__)[-1]
            return f"{type(fault).__name__}: {fault} ({last.filename}:{last.lineno})"
        return ""


@attrs.frozen(kw_only=True)
class ScenarioBatch:
    """Scenarios of an installed broker, by name."""

    broker: str
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The batch as one command-line argument."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, text: str) -> ScenarioBatch:
        """Parse a batch."""
        found = json_document.parse_json(text)
        return cls(broker=found["broker"], names=tuple(found["names"]))


def run_batch(task: ScenarioBatch) -> Iterator[ScenarioReport]:
    """Run the scenarios of a batch in order."""
    plugin = broker_plugin(task.broker)
    offered = venue_scenarios(plugin)
    for name in task.names:
        yield run_scenario(plugin, offered[name])


@contextmanager
def run_parallel(task: ScenarioBatch, workers: int) -> Iterator[Iterator[ScenarioReport]]:
    """Run a batch in several processes, which have the names in turn; yields the reports as they arrive."""
    parts = [attrs.evolve(task, names=task.names[number::workers]) for number in range(workers)]
    commands = [(sys.executable, "-m", __name__, part.text) for part in parts if part.names]
    with processes.run_together(commands, environment=environ.minimal_environment()) as lines:
        yield (_report_of(line) for line in lines)


def main(argument: str) -> None:
    """Run a batch, and print a line for each scenario; an interrupt ends it normally."""
    with suppress(KeyboardInterrupt):
        for report in run_batch(ScenarioBatch.read(argument)):
            click.echo(json.dumps(attrs.asdict(report)))


def _report_of(line: bytes) -> ScenarioReport:
    found = json_document.parse_json(line)
    return ScenarioReport(**{**found, "violations": tuple(found["violations"])})


def _raise(market: SimulatedMarket, scenario: VenueScenario) -> None:
    # Prices rise from the minute after the signal on.
    path = market.paths[_SYMBOL]
    for minute in range(scenario.enters + 1, scenario.minutes):
        path.move(minute * STEPS_A_MINUTE, path.prices[-1] + _RISE)


def _entrant(scenario: VenueScenario) -> ActiveStrategy:
    # A strategy with the scenario's signal.
    window = Window(start=1, analysis=0, breakout=scenario.enters, monitoring=scenario.holds)
    side = Side.SHORT if scenario.short else Side.LONG
    strategy = ScriptedStrategy(
        window=window,
        calls=((scenario.enters, 0, int(side)),),
        exits=ExitRules(trigger="intrabar", trailing=scenario.rises, leave=window.leave, hold=None),
        distance=_DISTANCE,
        gain=math.nan,
    )
    return ActiveStrategy(name="signal", rank=0, strategy=strategy, frame=StrategySettings(short_type="ShortSell"))


def _events(home: Path) -> list[Event]:
    with closing(read_journal(home / "data" / "tbot.sqlite")) as journal:
        return list(journal.events())


def _critical_alerts(events: Sequence[Event]) -> list[str]:
    # What the critical alerts say that these events raise.
    rules, found = AlertRules(RoutineEvents()), dict[str, None]()
    for event in events:
        raised = [*rules.apply(event), *rules.open_incidents(event.applied).values()]
        found.update((notice.what, None) for notice in raised if notice.urgency is Urgency.CRITICAL)
    return [*found]


if __name__ == "__main__":
    main(sys.argv[1])
