"""Runs in one process: money that adds up, projections that equal the desk, paper trading on a clock of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.model.types import dollars_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.trading.orders import OrderRecord

DAY = dt.date(2026, 11, 24)
MORNING = dt.datetime(2026, 11, 24, 13, 0, tzinfo=dt.UTC)
BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings."""
    create_demo_instance(tmp_path)
    return tmp_path


def events(path: Path) -> list[Event]:
    """What a journal holds."""
    journal = read_journal(path)
    found = list(journal.events())
    journal.close()
    return found


def demo(home: Path, watcher: RunWatcher | None = None, **plan: Any) -> RunOutcome:
    """One simulated session."""
    assembly = assemble(home, "demo", SystemClock())
    whole = RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=SystemClock(), **plan)
    return asyncio.run(run(whole, watcher or RunWatcher()))


@pytest.mark.slow
def test_no_garbage_is_collected_from_the_closed_minute_to_its_last_order(home: Path) -> None:
    """The collector is off whenever an order is written down, and on again after each minute."""
    ordering, between = set[bool](), set[bool]()

    def wrote(entries: Sequence[NewEvent]) -> None:
        if any(one.kind in {records.INTENDED, records.SENDING} for one in entries):
            ordering.add(gc.isenabled())

    demo(home, RunWatcher(on_events=wrote, on_minute=lambda _session, _minute: between.add(gc.isenabled())))
    assert (ordering, between) == ({False}, {True})


def test_cash_and_positions_are_equity_at_every_event(home: Path) -> None:
    """Walking the journal, cash and positions, counted by what was paid, equal what was gained, to the last atom."""
    book, fills = SessionBook(), 0
    for event in events(demo(home).journal):
        book.apply(event)
        portfolio = book.portfolio
        assert portfolio.opening_atoms + portfolio.pnl_atoms == portfolio.equity_atoms
        fills += event.kind == "fill"
        if event.kind == records.SESSION_CLOSED:
            assert not portfolio.positions
            assert Decimal(event.payload["equity"]) == dollars_of(portfolio.cash_atoms) == book.equity
    assert fills > 10


def test_the_projection_equals_the_desk_after_each_minute(home: Path) -> None:
    """Orders, positions, cash and trades of the journal are those of the desk, minute by minute."""
    book = SessionBook()

    def stood(orders: Mapping[str, OrderRecord]) -> dict[str, OrderRecord]:
        # Protection is written down as orders of its own.
        return {cid: attrs.evolve(one, order=attrs.evolve(one.order, protection=())) for cid, one in orders.items()}

    def wrote(entries: Sequence[NewEvent]) -> None:
        for entry in entries:
            book.apply(entry)

    def minute(session: TradingSession, _index: int) -> None:
        desk, portfolio = session.decision_engine.portfolio, book.portfolio
        assert portfolio.cash_atoms == desk.cash_atoms
        assert portfolio.positions.keys() == desk.positions.keys()
        for signal, position in desk.positions.items():
            assert portfolio.positions[signal].units == position.units
        assert [one.signal for one in portfolio.closed] == [one.signal for one in desk.closed]
        assert stood(book.orders) == stood(session.decision_engine.book.records())

    demo(home, RunWatcher(on_events=wrote, on_minute=minute))
    assert book.trades


@pytest.mark.slow
def test_the_journal_says_exchange_time(home: Path) -> None:
    """Every event of a simulated session is stamped between its bells, whatever the machine's clock says."""
    found = events(demo(home).journal)
    opened = next(event for event in found if event.kind == records.SESSION_OPENED)
    first, last = (dt.datetime.fromisoformat(opened.payload[name]) for name in ("open", "close"))
    assert all(first <= event.applied <= last for event in found)


@pytest.mark.slow
def test_a_session_opens_with_what_the_broker_grants(home: Path) -> None:
    """The buying power that the broker reports at the bell stands beside the equity, and bounds the entries."""
    granted: list[int | None] = []
    found = events(
        demo(
            home,
            RunWatcher(on_minute=lambda run, _: granted.append(run.decision_engine.exposure.funds.power_limit_atoms)),
        ).journal
    )
    opened = next(event.payload for event in found if event.kind == records.SESSION_OPENED)
    assert Decimal(opened["buying_power"]) == 2 * Decimal(opened["equity"])
    assert {None if one is None else dollars_of(one) for one in granted} == {Decimal(opened["buying_power"])}


def test_a_share_of_cash_that_leaves_its_target_is_told_once(home: Path) -> None:
    """With ENABLE_REBALANCE_NOTIFIER, at the end of a check interval, and again only after it has come back."""
    path = home / ".env_bot"
    asked = "ENABLE_REBALANCE_NOTIFIER=true\nREBALANCE_TRIGGER_PCT=0\nREBALANCE_CHECK_INTERVAL=600\n"
    path.write_text(f"{path.read_text()}\n{asked}")
    found = events(demo(home).journal)
    opened = next(dt.datetime.fromisoformat(event.payload["open"]) for event in found if event.kind == "session_opened")
    told = [event for event in found if event.kind == records.CASH_SHARE]
    assert told
    assert told[0].applied == opened + dt.timedelta(minutes=10)
    assert all(event.payload["share"] != event.payload["target"] for event in told)


def test_a_minute_that_can_bring_nothing_is_not_decided(home: Path) -> None:
    """A session begins with minutes of analysis: nothing is decided there, and the journal is that of every minute."""
    began: list[tuple[int, bool]] = []

    def traded(session: TradingSession, minute: int) -> None:
        began.append((minute, session.has_traded_minute))

    few = events(demo(home, RunWatcher(on_minute=traded)).journal)
    first = min(minute for minute, decided in began if decided)
    assert 0 < first < 60
    path = home / ".env_bot"
    path.write_text(f"{path.read_text()}\nENABLE_REBALANCE_NOTIFIER=true\nREBALANCE_TRIGGER_PCT=100\n")
    began.clear()
    every = events(demo(home, RunWatcher(on_minute=traded)).journal)
    assert began[0] == (0, True)
    assert [(one.kind, one.cid, one.payload) for one in few[1:]] == [
        (one.kind, one.cid, one.payload) for one in every[1:]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("minute", [0, 24, 25, 100, 388])
def test_a_run_stopped_after_any_minute_resumes_to_the_same_end(home: Path, tmp_path: Path, minute: int) -> None:
    """Stopped at the bell, around a fill or at the close: the same command ends with the same summary."""
    other = tmp_path / "other"
    create_demo_instance(other)
    whole = demo(other)
    stop = asyncio.Event()

    def count(_session: TradingSession, index: int) -> None:
        if index == minute:
            stop.set()

    halted = demo(home, RunWatcher(on_minute=count), stop=stop)
    assert halted.stopped
    resumed = demo(home)
    assert not resumed.stopped
    assert attrs.evolve(resumed.summary, report="") == attrs.evolve(whole.summary, report="")


@pytest.mark.slow
def test_a_stopped_run_reports_its_session_and_keeps_the_closed_ones(home: Path) -> None:
    """Trades of the interrupted session are in the outcome; the journal has none of its events, so it is run anew."""
    stop = asyncio.Event()
    halted = demo(home, RunWatcher(on_minute=lambda _, index: stop.set() if index == 100 else None), stop=stop)
    assert halted.stopped
    assert halted.summary.trades
    assert events(halted.journal) == []


@pytest.mark.slow
def test_a_demo_can_be_paced(home: Path) -> None:
    """With a pace, exchange seconds pass at that rate on the wall clock."""
    wall = ManualClock(MORNING)
    assembly = assemble(home, "demo", wall)
    plan = RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=wall, pace=60.0)
    asyncio.run(run(plan, RunWatcher()))
    assert wall.monotonic() == pytest.approx(390)
