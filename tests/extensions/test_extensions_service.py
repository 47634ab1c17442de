"""Extensions of a run: in paper trading and in a rehearsal, beside the session, and never in a simulation."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.alerts.service import alerts_beside
from tbot_core.alerts.store import FILE_NAME, open_store
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest, Plugin
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.extensions.progress import failing_extensions, progress_folder
from tbot_core.extensions.service import with_extensions
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import open_journal, read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.loader import LoadedPlugin
from tbot_core.status.instance import status_document

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import JournalCursor

BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
CALENDAR = ExchangeCalendar(overrides={BELL.date(): EarlyClose(close=dt.time(11, 30))})
RUN = "rehearsal-20261124T142800"


@attrs.frozen
class Config:
    """No settings."""


@attrs.define
class Metrics:
    """Counts the events that it is given, or fails."""

    seen: list[str] = attrs.field(factory=list)
    fault: Exception | None = None

    async def start(self, journal: JournalCursor) -> None:
        """Count."""
        if self.fault is not None:
            raise self.fault
        async for entry in journal:
            self.seen.append(entry.kind)
            if entry.trades:
                await journal.confirm(entry)

    async def stop(self) -> None:
        """Nothing is open."""


def plan(home: Path, mode: Any, create: Any = lambda _config, _context: object(), rehearsal: str = "") -> RunPlan:
    """A run of the demo's settings with the extension `metrics` and the ledger export."""
    create_demo_instance(home)
    settings = home / ".env_bot"
    settings.write_text(settings.read_text().replace("LEDGER_EXPORT_MODE=off\n", "") + "LEDGER_EXPORT_MODE=auto\n")
    clock = ManualClock(BELL - dt.timedelta(hours=1))
    entry = EntryPointInfo(
        kind="extension", name="metrics", target="acme", dist="acme", version="1", requires=("tbot-core>=1,<2",)
    )
    offered = Plugin(name="metrics", summary="Counts", config=Config, create=create)
    loaded = LoadedPlugin(entry=entry, plugin=offered, subject=object())
    made = assemble(home, mode, clock)
    made = attrs.evolve(made, loaded=(*made.loaded, loaded), calendar=CALENDAR)
    request = FeedRequest(kind="live", calendar=CALENDAR)
    return RunPlan(assembly=made, request=request, wall=clock, once=True, watch_s=1.0, rehearsal=rehearsal)


async def nothing() -> str:
    """A run that ends at once."""
    return "done"


async def a_moment() -> None:
    """A run that lasts a moment."""
    await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.first(0)
def test_a_paper_session_is_exported_while_extensions_follow_it(tmp_path: Path) -> None:
    """Each trade of the journal is in the file of its session, and each event was given, when the run has ended.

    The extension was built once, though it is also asked for the VIX.
    """
    metrics, built = Metrics(), list[str]()

    def create(_config: Config, _context: object) -> Metrics:
        built.append("metrics")
        return metrics

    one = plan(tmp_path, "paper", create)
    outcome = asyncio.run(with_extensions(run(one, RunWatcher()), one))
    with closing(read_journal(tmp_path / "data" / "tbot.sqlite")) as journal:
        events = list(journal.events())
    trades = fold_events(events).trades
    assert trades
    assert built == ["metrics"]
    assert len(outcome.summary.trades) == len(trades)
    assert metrics.seen == [event.kind for event in events]
    (path,) = (tmp_path / "reports" / "ledger").iterdir()
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert path.name == "paper-2026-11-24.csv"
    assert sorted((row["symbol"], row["pnl"]) for row in rows) == sorted(
        (trade.symbol, f"{trade.pnl:f}") for trade in trades
    )
    assert len({row["trade_id"] for row in rows}) == len(rows)


@pytest.mark.slow
@pytest.mark.first(0)
def test_a_rehearsal_is_followed_in_its_own_journal(tmp_path: Path) -> None:
    """Its files bear its name: neither those of paper trading nor their positions are touched."""
    metrics = Metrics()
    one = plan(tmp_path, "paper", lambda _config, _context: metrics, RUN)
    asyncio.run(with_extensions(run(one, RunWatcher()), one))
    assert metrics.seen
    (path,) = (tmp_path / "reports" / "ledger").iterdir()
    assert path.name == f"{RUN}-2026-11-24.csv"
    assert progress_folder(tmp_path / "data" / "runs" / f"{RUN}.sqlite").is_dir()
    assert not progress_folder(tmp_path / "data" / "tbot.sqlite").exists()


@pytest.mark.parametrize("mode", ["demo", "replay", "backtest", "dry-run"])
def test_a_simulation_has_none(tmp_path: Path, mode: Any) -> None:
    """Nothing is created, so that a replay is the same each time and leaves nothing outside."""
    made: list[str] = []
    assert asyncio.run(with_extensions(nothing(), plan(tmp_path, mode, lambda *_: made.append("made")))) == "done"
    assert (made, list((tmp_path / "reports").glob("ledger"))) == ([], [])


def test_an_extension_of_hooks_alone_is_left_alone(tmp_path: Path) -> None:
    """And a run with LEDGER_EXPORT_MODE=off exports nothing."""
    one = plan(tmp_path, "paper")
    (tmp_path / ".env_bot").write_text((tmp_path / ".env_bot").read_text().replace("MODE=auto", "MODE=off"))
    off = attrs.evolve(one, assembly=attrs.evolve(assemble(tmp_path, "paper", one.wall), loaded=one.assembly.loaded))
    assert asyncio.run(with_extensions(nothing(), off)) == "done"
    assert not progress_folder(tmp_path / "data" / "tbot.sqlite").exists()


def test_a_failing_extension_is_reported_once_and_named_by_the_status(tmp_path: Path) -> None:
    """By a routine alert, by `tbot status` and in the plugin's record; the next run without it clears the status."""
    one, recorded = plan(tmp_path, "paper", lambda *_: Metrics(fault=OSError("the port is in use"))), list[Any]()
    guard = CallGuard(strict=False, record=lambda _entry, failure: recorded.append(failure))
    one = attrs.evolve(one, assembly=attrs.evolve(one.assembly, call_guard=guard))
    with closing(open_store_of(tmp_path)) as store, alerts_beside(one.assembly, one.wall):
        asyncio.run(with_extensions(a_moment(), one))
        alerts = [row.what for row in store.rows(10)]
    sentence = "The extension metrics fails since 2026-11-24 13:30 UTC: OSError: the port is in use"
    assert alerts == [sentence]
    assert failing_extensions(tmp_path / "data" / "tbot.sqlite") == [sentence]
    assert [failure.error for failure in recorded] == ["OSError: the port is in use"]
    open_journal(tmp_path / "data" / "tbot.sqlite").close()
    assert status_document(tmp_path, BELL)["attention"][-1] == sentence
    asyncio.run(with_extensions(nothing(), plan(tmp_path, "paper")))
    assert failing_extensions(tmp_path / "data" / "tbot.sqlite") == []


def open_store_of(home: Path) -> Any:
    """The alerts of an instance."""
    create_demo_instance(home)
    (home / "data").mkdir(exist_ok=True)
    return open_store(home / "data" / FILE_NAME)


def test_an_extension_that_cannot_be_created_is_set_aside(tmp_path: Path) -> None:
    """The run goes on without it, and its record has the reason."""

    def create(_config: object, _context: object) -> object:
        raise ValueError("no such folder")

    one, notices = plan(tmp_path, "paper", create), list[str]()
    one.assembly.call_guard.on_extension_failing = notices.append
    assert asyncio.run(with_extensions(nothing(), one)) == "done"
    assert "no such folder" in notices[0]
