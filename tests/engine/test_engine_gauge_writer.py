"""What a running session writes down for whoever looks on: what it knows, when it changes, and never as a condition."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest, Host
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.engine.session.gauge_writer import GaugeWriter
from tbot_core.journal import gauges
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.model.types import dollars_of, price_of
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.rehearsal.lifecycle import simulated_instance
from tbot_core.system import filesystem, log
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


def held(home: Path) -> TradingSession:
    """The session of a demo that was stopped while it held something."""
    create_demo_instance(home)
    kept: list[TradingSession] = []
    plan = RunPlan(
        assembly=assemble(home, "demo", SystemClock()), request=FeedRequest(kind="demo"), wall=SystemClock(), once=True
    )

    def minute(session: TradingSession, _index: int) -> None:
        if session.decision_engine.portfolio.positions:
            kept.append(session)
            plan.stop.set()

    asyncio.run(run(plan, RunWatcher(on_minute=minute)))
    return kept[-1]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> TradingSession:
    """A session that holds something; tests only look at it."""
    return held(tmp_path_factory.mktemp("demo"))


def meter(home: Path, clock: ManualClock) -> GaugeWriter:
    """A meter of the run whose journal is called so."""
    return GaugeWriter(home, home / "tbot.sqlite", clock)


def test_the_gauges_of_a_run_are_those_of_its_desk(tmp_path: Path) -> None:
    """Marks, limits and the VIX as the bot has them when it stops, with the name of the journal they belong to."""
    session = held(tmp_path)
    found = gauges.read_gauges(tmp_path / "data")
    assert found is not None
    (file,) = (tmp_path / "data" / "runs").glob("*.sqlite")
    assert (found.journal, found.session) == (file.name, session.session.date.isoformat())
    desk = session.decision_engine
    assert found.marks == {one.symbol: price_of(one.mark) for one in desk.portfolio.positions.values()}
    assert found.daily_loss_limit == dollars_of(desk.limits.daily_loss)
    assert (found.most_trades, found.most_positions) == (desk.limits.max_trades, desk.limits.max_positions)
    assert found.gross == dollars_of(desk.portfolio.cost_atoms)
    assert found.vix is not None
    assert found.brokers == (gauges.BrokerGauge(name="paper"),)


def test_the_gauges_are_written_when_they_have_changed(
    session: TradingSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most once a second, and without a change only every half minute; `at_once` looks before the second is over."""
    written: list[gauges.Gauges] = []
    monkeypatch.setattr(gauges, "write_gauges", lambda _folder, taken: written.append(taken))
    clock = ManualClock(NOW)
    look = meter(tmp_path, clock).write_if_due
    look(session, 0.25)
    look(session, 0.5)
    assert [one.clock_ahead_s for one in written] == [0.25]
    look(session, 0.5, at_once=True)
    clock.advance_to(NOW + dt.timedelta(seconds=2))
    look(session, 0.5)
    assert [one.clock_ahead_s for one in written] == [0.25, 0.5]
    clock.advance_to(NOW + dt.timedelta(seconds=31))
    look(session, 0.5)
    assert len(written) == 3


@pytest.mark.parametrize(("age_s", "marked_at"), [(90.0, NOW - dt.timedelta(seconds=90)), (None, None)])
def test_the_time_of_the_marks_is_that_of_their_prices(
    session: TradingSession, tmp_path: Path, age_s: float | None, marked_at: dt.datetime | None
) -> None:
    """Not that of the file, which is written on while a feed is dead; unknown is None."""
    meter(tmp_path, ManualClock(NOW)).write_if_due(session, marks_age_s=age_s)
    found = gauges.read_gauges(tmp_path)
    assert found is not None
    assert (found.at, found.marked_at) == (NOW, marked_at)


def test_gauges_that_cannot_be_written_stop_nothing(
    session: TradingSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there is said once in the log, and again only after it had been there."""
    clock = ManualClock(NOW)
    folder = tmp_path / "data"
    one = meter(folder, clock)
    for second in (0, 31, 62):
        clock.advance_to(NOW + dt.timedelta(seconds=second))
        one.write_if_due(session)
    assert capsys.readouterr().err.count("gauges.not_written") <= 1
    filesystem.make_folder(folder)
    clock.advance_to(NOW + dt.timedelta(seconds=100))
    one.write_if_due(session)
    found = gauges.read_gauges(folder)
    assert found is not None
    assert found.at == NOW + dt.timedelta(seconds=100)


def test_the_request_budgets_of_plugins_are_gauges(tmp_path: Path, session: TradingSession) -> None:
    """Left is what the vendor said within a minute; a host without a limit is not shown; another address is named."""
    clock = ManualClock(NOW)
    budgets = RequestBudgets(clock)
    limited = Host("https://api.example.com", requests_per_minute=200)
    budgets.of(limited, {"key": Secret("one")}, limited.url)
    moved = Host("https://data.example.com", requests_per_minute=60)
    budgets.of(moved, {}, "http://127.0.0.1:8080")
    budget = budgets.of(limited, {"key": Secret("two")})
    budgets.of(Host("https://free.example.com"), {})
    clock.advance_to(NOW + dt.timedelta(seconds=5))
    budget.note_reported(150, clock.monotonic())
    budgets.of(moved, {}).back_off(12.0, clock.monotonic())
    GaugeWriter(tmp_path, tmp_path / "tbot.sqlite", clock, budgets).write_if_due(session)
    found = gauges.read_gauges(tmp_path)
    assert found is not None
    names = [one.name for one in found.hosts]
    assert names == ["api.example.com", "127.0.0.1:8080 instead of data.example.com"]
    assert found.hosts[0] == gauges.HostGauge(name="api.example.com", left=150, per_minute=200)
    assert (found.hosts[1].left, found.hosts[1].paused_s) == (None, 12.0)


def test_a_failure_while_gauges_are_computed_stops_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever fails is named in the log with its traceback, and the run goes on."""
    log.configure("info", "json", None)
    meter(tmp_path, ManualClock(NOW)).write_if_due(cast("TradingSession", None))
    log.close()
    logged = capsys.readouterr().err
    assert "observer.failed" in logged
    assert "gauges" in logged


TAKEN = gauges.Gauges(
    journal="tbot.sqlite",
    session="2026-11-24",
    at=NOW,
    marked_at=NOW - dt.timedelta(seconds=2),
    marks={"AAA": Decimal("10.0001")},
    daily_loss_limit=Decimal(100),
    budget=Decimal(1000),
    most_trades=4,
    most_positions=5,
    gross=Decimal("250.5"),
    vix=17.5,
    clock_ahead_s=-0.5,
    brokers=(
        gauges.BrokerGauge(name="acme", equity=Decimal("99.5"), latency_s=0.25, spare=12, per_minute=200),
        gauges.BrokerGauge(name="beta"),
    ),
    hosts=(gauges.HostGauge(name="api.example.com", left=3, per_minute=60),),
)


def test_gauges_come_back_as_they_were(tmp_path: Path) -> None:
    """Every figure, with what is unknown; what is no such file, or of another form, is as if it were not there."""
    assert gauges.read_gauges(tmp_path) is None
    gauges.write_gauges(tmp_path, TAKEN)
    found = gauges.read_gauges(tmp_path)
    assert found is not None
    assert attrs.asdict(found) == attrs.asdict(TAKEN)
    whole = (tmp_path / gauges.FILE).read_text()
    newer, damaged = whole.replace('"schema": 1', '"schema": 2'), whole.replace("99.5", "x")
    for text in ("", "[]", "{}", damaged, newer, "x" * 1_000_001):
        (tmp_path / gauges.FILE).write_text(text)
        assert gauges.read_gauges(tmp_path) is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("gross", "NaN"),
        ("gross", "Infinity"),
        ("gross", "1e999999999"),
        ("gross", "1" * 101),
        ("budget", None),
        ("budget", 5),
        ("marks", {"AAA": "-1e20"}),
        ("marks", []),
        ("vix", "17.5"),
        ("vix", float("nan")),
        ("vix", 10**400),
        ("clock_ahead_s", True),
        ("most_trades", 4.5),
        ("most_trades", None),
        ("at", "2026-11-24T15:00:00"),
        ("at", 5),
        ("journal", ["tbot.sqlite"]),
        ("session", "\ud800"),
        ("brokers", 5),
        ("brokers", [{"name": "acme"}]),
        ("brokers", [None]),
    ],
)
def test_gauges_with_a_value_of_another_kind_are_as_if_they_were_not_there(
    tmp_path: Path, place: str, value: object
) -> None:
    """Whoever shows them reckons with figures, and none of these is one."""
    gauges.write_gauges(tmp_path, TAKEN)
    document = json.loads((tmp_path / gauges.FILE).read_text())
    assert place in document
    (tmp_path / gauges.FILE).write_text(json.dumps(document | {place: value}))
    assert gauges.read_gauges(tmp_path) is None


@pytest.mark.slow
def test_a_session_at_a_market_is_measured_beside_it(tmp_path: Path) -> None:
    """From its login to its end; how long the broker took and what it says of the account stand there, too."""
    with simulated_instance(tmp_path) as scene:
        scene.meter = GaugeWriter(tmp_path, tmp_path / "tbot.sqlite", scene.world.clock)
        life = scene.life()
        scene.world.run(life.run)
        found = gauges.read_gauges(tmp_path)
        assert found is not None
        (one,) = found.brokers
        assert life.session is not None
        assert (one.name, one.equity) == ("w", scene.world.way(scene.world.names[0]).exchange.account().equity)
        assert one.latency_s is not None
        assert found.session == scene.world.session.date.isoformat()
