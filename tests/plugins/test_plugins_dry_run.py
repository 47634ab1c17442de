"""A dry run: live data and the instance's settings decide, nothing is sent, and the instance's day is not touched."""

from __future__ import annotations

import asyncio
import importlib
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.alerts.service import alerts_beside
from tbot_core.cli.commands.run import feed_request
from tbot_core.cli.run_display import PlainDisplay
from tbot_core.cli.run_options import RunOptions
from tbot_core.contracts import FeedRequest, SupportsDailyVix
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.feed_quality import BarsOnlyBroker
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.marketdata import received_bars, received_files
from tbot_core.rehearsal.world import World
from tbot_core.status import runs
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.instance import Mode
    from tbot_core.journal.store import Event
    from tbot_core.plugins.discovery import EntryPointInfo

ACME = '''
from decimal import Decimal

import attrs

from tbot_core.contracts import FeedCoverage, FeedLabel, FeedQuality, Plugin, BrokerCapabilities
from tbot_core.contracts.hooks import hookimpl
from tbot_core.model.types import Account

WORLD = None
CALLED = []
ASKED = []


@attrs.frozen(kw_only=True)
class Config:
    pass


def quality(config):
    return FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, halts=True, history_delay_s=1.0,
        minute_history=False,)


class Acme:
    """A feed, and an account at which every call is an alarm."""

    label = FeedLabel(name="acme", simulated=False, quotes=True)
    capabilities = BrokerCapabilities(feed=True, daily_vix=True, replace="same_id")

    def __getattr__(self, name):
        if name not in {"account", "submit", "cancel", "replace", "poll", "snapshot"}:
            raise AttributeError(name)

        async def alarm(*args):
            CALLED.append(name)
            raise AssertionError(name)

        return alarm

    async def connect(self):
        CALLED.append("connect")
        return Account(account_id="A", equity=Decimal(1), cash=Decimal(1), live=True, evidence="its host")

    async def close(self):
        CALLED.append("close")

    async def vix_close(self, day):
        ASKED.append(day)
        return 21.5

    def feed(self, request):
        return self

    async def sessions(self):
        yield WORLD.live_feed()


@hookimpl
def tbot_broker():
    return Plugin(
        name="acme", summary="A broker", config=Config, create=lambda config, context: Acme(), quality=quality,
    )
'''

SETTINGS = {
    "BROKER_NAME": "ACME",
    "STRATEGY_SEQUENCE": "open",
    "START_TIME_OPEN": "14:30",
    "OPEN_ANALYSIS_TIME": "3",
    "OPEN_BREAKOUT_TIME": "9",
    "OPEN_MONITORING_TIME": "5",
    "STRAT_OPEN_BUFFER": "0",
    "FILTERS": "price_volume",
    "MAX_GAP_PCT_OPEN": "0.5",
    "FILTER_MISSING_DATA": "pass",
    "ENTRY_ORDER_TYPE": "market",
    "SHORT_TYPE_OPEN": "ShortSell",
    "TRADE_CONFIRMATION_REQUIRED": "true",
}


@attrs.define(eq=False)
class House:
    """An instance whose broker sounds an alarm at every call, in a world without faults; stopped at that second."""

    world: World
    home: Path
    module: Any
    stops_at: float | None = None
    lines: PlainDisplay | None = None

    def run(self, mode: Mode = "dry-run", **settings: str) -> RunOutcome:
        """One session."""
        self.settle(**settings)
        options = RunOptions(mode="dry-run", home=self.home)
        assembly = assemble(self.home, mode, self.world.clock)
        plan = RunPlan(
            assembly=attrs.evolve(assembly, calendar=self.world.calendar),
            request=attrs.evolve(feed_request(options, assembly), calendar=self.world.calendar),
            wall=self.world.clock,
            once=True,
            watch_s=30.0,
        )
        if self.stops_at is not None:
            self.world.loop.call_at(self.stops_at, plan.stop.set)
        watcher = RunWatcher() if self.lines is None else self.lines.watcher
        return self.world.run(lambda: run(plan, watcher))

    def again(self, at: float) -> None:
        """The same world once more, from that second on."""
        self.world, self.stops_at = World(46, (), rates={}, live=True), None
        self.world.loop.pass_time(at)
        vars(self.module)["WORLD"] = self.world

    def settle(self, **settings: str) -> None:
        """Write the settings."""
        texts = SETTINGS | settings
        filesystem.write_atomic(
            self.home / ".env_bot", "".join(f"{key}={text}\n" for key, text in texts.items()).encode()
        )

    @property
    def called(self) -> list[str]:
        """What the broker was asked besides its bars."""
        return list(vars(self.module)["CALLED"])


def events(outcome: RunOutcome, kind: str) -> list[Event]:
    """What the journal of a run holds of a kind."""
    with closing(read_journal(outcome.journal)) as journal:
        return list(journal.events(kind=kind))


@pytest.fixture
def house(tmp_path: Path, plant: Callable[..., EntryPointInfo]) -> House:
    """The plugin is installed, and finds the world by its own module."""
    plant("acme", ACME, kind="broker")
    module = importlib.import_module("their_acme")
    home = tmp_path / "home"
    home.mkdir()
    world = World(46, (), rates={}, live=True)
    vars(module)["WORLD"] = world
    return House(world, home, module)


@pytest.mark.slow
def test_a_dry_run_decides_and_sends_nothing(house: House) -> None:
    """Decisions are written and filled by the simulator; the broker of the settings is logged out of, and no more."""
    outcome = house.run()
    decisions = [one.payload for one in events(outcome, records.DECISION)]
    assert [one for one in decisions if one["reason"] == "ALLOWED"]
    assert outcome.summary.trades
    assert house.called == ["connect", "close"]
    assert outcome.summary.document()["mode"] == "dry-run"


@pytest.mark.slow
def test_bars_are_all_that_a_dry_run_has_of_a_broker(house: House) -> None:
    """What serves its bars has no method that takes an order, and says the index where the broker has it."""
    house.settle()
    acme = assemble(house.home, "dry-run", house.world.clock).broker("acme")
    bars = BarsOnlyBroker(acme, "acme")
    assert bars.feed(FeedRequest(kind="live")).label is house.module.Acme.label
    assert {name for name in dir(bars) if not name.startswith("_")} == {"capabilities", "close", "feed", "vix_close"}
    assert asyncio.run(bars.vix_close(house.world.session.date)) == 21.5
    without = BarsOnlyBroker(assemble(house.home, "dry-run", house.world.clock).broker(), "paper")
    assert not isinstance(without, SupportsDailyVix)


@pytest.mark.slow
def test_the_instances_own_day_is_not_touched(house: House) -> None:
    """Journal, gauges, recording, reserve, alerts and requests are those of the trading bot; a dry run has its own."""
    control.write_request(house.home / "control", ControlVerb.KILL, actor="ann", now=house.world.clock.now())
    control.write_request(house.home / "control", ControlVerb.STOP_FLATTEN, actor="ann", now=house.world.clock.now())
    outcome = house.run()
    assert len(control.read_folder(house.home / "control").requests) == 2
    assert events(outcome, records.REQUEST) == []
    assert outcome.summary.trades
    name = outcome.journal.stem
    assert outcome.journal == house.home / "data" / "runs" / f"{name}.sqlite"
    assert name.startswith("dry-")
    assert {path.name for path in (house.home / "data").iterdir()} == {"install.id", "plugins.json", "runs"}
    kept = received_files.recorded_file(outcome.journal.with_name(f"{name}-received"), house.world.session.date)
    assert kept is not None
    assert len(received_bars.read_recording(kept).records) == house.world.session.minutes


@pytest.mark.slow
def test_status_shows_nothing_of_a_dry_run(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that goes on nor one that was interrupted says how the instance stands, or asks for attention."""
    house.stops_at = 730.0
    outcome = house.run()
    assert outcome.stopped
    capsys.readouterr()
    cli.invoke(["status", "--home", str(house.home), "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert (shown["run"], shown["mode"], shown["positions"]) == (None, None, [])
    assert not [words for words in shown["attention"] if "interrupted" in words]
    (file,) = runs.run_files(Instance.at(house.home))
    assert (file.dry, file.path) == (True, outcome.journal)
    real = house.home / "data" / "tbot.sqlite"
    filesystem.write_atomic(real, filesystem.read_bytes(outcome.journal))
    assert runs.run_file(Instance.at(house.home)).name == runs.PAPER
    assert runs.run_file(Instance.at(house.home), "dry-").path == outcome.journal


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_dry_run_goes_on_in_its_own_file(house: House) -> None:
    """After an interruption the minutes that were kept are repeated; other settings begin another file."""
    house.stops_at = 730.0
    first = house.run()
    said = [one.payload for one in events(first, records.DECISION)]
    assert said
    house.again(860.0)
    outcome = house.run()
    assert outcome.journal == first.journal
    assert [one.payload for one in events(outcome, records.DECISION)][: len(said)] == said
    assert len(events(outcome, records.SESSION_CLOSED)) == 1
    house.again(0.0)
    other = house.run(MAX_TRADES="1")
    assert other.journal != first.journal
    assert len(events(other, records.SESSION_CLOSED)) == 1


@pytest.mark.slow
def test_every_view_and_every_end_says_that_it_is_a_dry_run(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    """The banner, each line, the last line and the notes; that no confirmation is awaited is said as well."""
    house.lines = PlainDisplay(RunOptions(mode="dry-run", home=house.home), silent=False)
    outcome = house.run()
    with house.lines:
        house.lines.end(outcome)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "tbot DRY RUN, no order is sent. Market prices: acme."
    assert [line for line in said if " BUY " in line or " EXIT " in line]
    assert all(line.startswith("DRY RUN  ") for line in said if " UTC)  " in line or line.endswith("New York)."))
    assert any(line.startswith("DRY RUN, no order is sent: 1 session, ") for line in said)
    assert (
        said[-1]
        == f"Next:   tbot why {outcome.summary.trades[0].symbol} --run {outcome.journal.stem} --home {house.home}"
    )
    words = "A dry run: no order is sent to acme; entries and exits are filled by the simulator, with its own cash."
    assert words in outcome.summary.notes
    assert "Entries that need a confirmation (`tbot confirm`) count as confirmed at once." in outcome.summary.notes
    report = Path(outcome.summary.report).read_text()
    assert "<title>Dry run, 2026-03-03</title>" in report
    assert "no order left this machine" in report
    (start,) = events(outcome, records.RUN_STARTED)
    assert start.payload["mode"] == "dry-run"


@pytest.mark.slow
def test_any_minute_of_a_dry_run_is_worked_out_from_its_own_recording(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tbot why --run dry-` needs nothing that the instance's own day has kept."""
    outcome = house.run()
    symbol = events(outcome, records.DECISION)[0].payload["signal"]["symbol"]
    capsys.readouterr()
    assert cli.invoke(["why", symbol, "--run", "dry-", "--json", "--home", str(house.home)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mode"], found["note"]) == ("dry-run", "")
    assert found["minutes"]
    assert found["decisions"]


@pytest.mark.slow
def test_a_dry_run_sends_no_alert(house: House) -> None:
    """Neither channels nor a watchdog stand beside it, and no channel is loaded for it."""
    house.settle(CRITICAL_ALERT_CHANNEL="console")
    assembly = assemble(house.home, "dry-run", house.world.clock)
    assert {(one.entry.kind, one.entry.name) for one in assembly.loaded} >= {("broker", "acme"), ("broker", "paper")}
    assert not [one for one in assembly.loaded if one.entry.kind == "alert"]

    async def work() -> int:
        return 7

    before = sorted(house.home.rglob("*"))
    with alerts_beside(assembly, house.world.clock) as attended:
        assert sorted(house.home.rglob("*")) == before
        assert asyncio.run(attended(work())) == 7


@pytest.mark.slow
def test_the_vix_of_the_day_before_is_asked_of_the_source(house: House) -> None:
    """Of its broker: strategies see what they would see live."""
    outcome = house.run()
    assert len(vars(house.module)["ASKED"]) == 1
    kept = received_files.recorded_file(received_files.received_folder(outcome.journal), house.world.session.date)
    assert kept is not None
    assert set(received_bars.read_recording(kept).day.vix.ravel().tolist()) == {21.5}
