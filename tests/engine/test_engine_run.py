"""Runs in one process: money that adds up, projections that equal the desk, paper trading on a clock of its own."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core import cli
from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook, fold_events
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


class Paper:
    """Paper trading with a clock that is moved by whoever waits on it."""

    def __init__(self, home: Path, now: dt.datetime) -> None:
        self.home = home
        self.clock = ManualClock(now)
        self.waited: list[dt.datetime] = []
        self.told: list[NewEvent] = []

    def trade(self, until: dt.datetime | None = None) -> RunOutcome:
        """Trade one session, or stop once this moment has been dealt with."""
        plan = self.plan()

        def minute(session: TradingSession, index: int) -> None:
            if until == session.session.moment(index + 1):
                plan.stop.set()

        watcher = RunWatcher(on_minute=minute, on_events=self.told.extend, on_idle=self.waited.append)
        return asyncio.run(run(plan, watcher))

    def plan(self) -> RunPlan:
        """A plan of one session on paper."""
        assembly = assemble(self.home, "paper", self.clock)
        return RunPlan(assembly=assembly, request=FeedRequest(kind="live"), wall=self.clock, once=True, watch_s=30.0)

    @property
    def events(self) -> list[Event]:
        """What the journal of paper trading holds."""
        return events(self.home / "data" / "tbot.sqlite")


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
        for symbol, position in desk.positions.items():
            assert portfolio.positions[symbol].units == position.units
        assert [one.signal for one in portfolio.closed] == [one.signal for one in desk.closed]
        assert stood(book.orders) == stood(session.execution.orders)

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
def test_a_run_that_is_stopped_while_it_repeats_resumes_too(home: Path, tmp_path: Path) -> None:
    """Stopped, and stopped again before it caught up: nothing is written, and the same command ends as ever."""
    other = tmp_path / "other"
    create_demo_instance(other)
    whole = demo(other)

    def halt(minute: int) -> RunOutcome:
        stop = asyncio.Event()
        return demo(home, RunWatcher(on_minute=lambda _, index: stop.set() if index >= minute else None), stop=stop)

    first = halt(100)
    written = events(first.journal)
    assert halt(24).stopped
    assert events(first.journal) == written
    assert attrs.evolve(demo(home).summary, report="") == attrs.evolve(whole.summary, report="")


@pytest.mark.slow
def test_a_demo_can_be_paced(home: Path) -> None:
    """With a pace, exchange seconds pass at that rate on the wall clock."""
    wall = ManualClock(MORNING)
    assembly = assemble(home, "demo", wall)
    plan = RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=wall, pace=60.0)
    asyncio.run(run(plan, RunWatcher()))
    assert wall.monotonic() == pytest.approx(390)


@pytest.mark.slow
def test_paper_waits_for_the_bell_and_trades_as_the_clock_goes(home: Path) -> None:
    """It waits for the bell, trades minutes when they have closed, and with `once` ends with the session."""
    paper = Paper(home, MORNING)
    outcome = paper.trade()
    assert paper.waited[0] == BELL
    assert paper.clock.now() == dt.datetime(2026, 11, 24, 21, 0, tzinfo=dt.UTC)
    assert (outcome.stopped, outcome.summary.mode, outcome.summary.sessions) == (False, "paper", 1)
    assert outcome.summary.trades
    assert all(event.applied.second == 0 for event in paper.events)


@pytest.mark.slow
def test_paper_goes_on_with_the_equity_of_the_last_session(home: Path) -> None:
    """The next day's session opens with what the last one closed with, in the same journal."""
    first = Paper(home, MORNING).trade()
    second = Paper(home, MORNING + dt.timedelta(days=1))
    outcome = second.trade()
    assert outcome.summary.equity_start == first.summary.equity_end
    assert [event.payload["date"] for event in second.events if event.kind == records.SESSION_OPENED] == [
        "2026-11-24",
        "2026-11-25",
    ]


@pytest.mark.slow
def test_paper_that_starts_late_acts_on_no_signal_that_it_missed(home: Path) -> None:
    """Signals of minutes that had closed before the start are denied as too late; later ones are traded."""
    paper = Paper(home, BELL + dt.timedelta(minutes=40, seconds=20))
    trades = paper.trade().summary.trades
    assert trades
    assert all(trade.strategy != "open" for trade in trades)
    early = [event.payload["reason"] for event in paper.events if event.kind == records.DECISION][:1]
    assert early == ["SIGNAL_TOO_LATE"]


@pytest.mark.slow
def test_paper_that_was_stopped_repeats_the_session_and_goes_on(home: Path, tmp_path: Path) -> None:
    """Stopped and started again within the minute, paper trades as if nothing had happened."""
    other = tmp_path / "other"
    create_demo_instance(other)
    whole = Paper(other, MORNING).trade()
    paper = Paper(home, MORNING)
    halted = paper.trade(until=BELL + dt.timedelta(minutes=27))
    assert halted.stopped
    assert halted.open
    resumed = Paper(home, paper.clock.now() + dt.timedelta(seconds=5))
    outcome = resumed.trade()
    assert [str(trade) for trade in outcome.summary.trades] == [str(trade) for trade in whole.summary.trades]
    assert records.STOPPED in [event.kind for event in resumed.events]


@pytest.mark.slow
def test_paper_that_was_away_for_an_hour_manages_what_it_held_and_enters_nothing_late(home: Path) -> None:
    """Positions are closed by their rules as of the minutes that went by; signals of those minutes are too late."""
    paper = Paper(home, MORNING)
    held = paper.trade(until=BELL + dt.timedelta(minutes=27)).open
    outcome = Paper(home, BELL + dt.timedelta(minutes=100)).trade()
    trades = outcome.summary.trades
    assert set(held) <= {trade.symbol for trade in trades}
    assert all(trade.strategy != "mid" for trade in trades)
    assert any(trade.strategy == "close" for trade in trades)
    gaps = [event.payload for event in paper.events if event.kind == records.GAP]
    assert gaps[-1]["to"] == 99


@pytest.mark.slow
def test_paper_stopped_twice_still_adds_up(home: Path) -> None:
    """Two interruptions with gaps leave one session, whose journal adds up to what was traded."""
    paper = Paper(home, MORNING)
    paper.trade(until=BELL + dt.timedelta(minutes=26))
    Paper(home, BELL + dt.timedelta(minutes=50)).trade(until=BELL + dt.timedelta(minutes=80))
    outcome = Paper(home, BELL + dt.timedelta(minutes=90)).trade()
    found = paper.events
    assert [event.kind for event in found].count(records.SESSION_OPENED) == 1
    assert fold_events(found).equity == outcome.summary.equity_end
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 0


@pytest.mark.slow
def test_paper_stopped_while_it_repeats_says_what_is_held(home: Path) -> None:
    """A stop before the session has been repeated changes nothing, and what the journal holds open is named."""
    paper = Paper(home, MORNING)
    held = paper.trade(until=BELL + dt.timedelta(minutes=27)).open
    assert held
    again = Paper(home, paper.clock.now() + dt.timedelta(seconds=5))
    outcome = again.trade(until=BELL + dt.timedelta(minutes=3))
    assert (outcome.stopped, outcome.open) == (True, held)
    assert [event.kind for event in again.events].count(records.STOPPED) == 1
    assert Paper(home, again.clock.now()).trade().summary.trades


@pytest.mark.slow
def test_a_session_that_was_interrupted_days_ago_is_closed_first(home: Path) -> None:
    """What was held is settled by the bars of its own day; the days between are passed over."""
    paper = Paper(home, MORNING)
    held = paper.trade(until=BELL + dt.timedelta(minutes=27)).open
    assert held
    later = Paper(home, MORNING + dt.timedelta(days=6))
    outcome = later.trade()
    dates = [event.payload["date"] for event in later.events if event.kind == records.SESSION_CLOSED]
    assert dates == ["2026-11-24", "2026-11-30"]
    assert set(held) <= {trade.symbol for trade in outcome.summary.trades}


@pytest.mark.slow
def test_other_settings_in_the_middle_of_a_session_are_refused(home: Path) -> None:
    """An interrupted session goes on under the settings that it was begun with, or not at all."""
    paper = Paper(home, MORNING)
    paper.trade(until=BELL + dt.timedelta(minutes=27))
    settings = home / ".env_bot"
    settings.write_text(settings.read_text() + "MAX_TRADES=2\nWEIGHTS=0.5,0.5\n")
    with pytest.raises(JournalError, match="under other settings"):
        Paper(home, paper.clock.now()).trade()


@pytest.mark.slow
def test_another_table_in_the_middle_of_a_session_is_refused_by_its_name(home: Path) -> None:
    """What decides is not all of the journal: the table that was there must be back before the session goes on."""
    paper = Paper(home, MORNING)
    paper.trade(until=BELL + dt.timedelta(minutes=27))
    table = home / "data" / "plugins" / "filter-price_volume" / "funds.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("symbol,name\nAMD,A fund\n")
    with pytest.raises(JournalError, match=r"other tables \(.*filter-price_volume/funds\.csv\) than those of now"):
        Paper(home, paper.clock.now()).trade()
    table.unlink()
    assert Paper(home, paper.clock.now()).trade().summary.sessions == 1


def flattening(home: Path) -> tuple[Paper, RunOutcome]:
    """Paper with STOP_POLICY=flatten, stopped while it holds something."""
    settings = home / ".env_bot"
    settings.write_text(settings.read_text() + "STOP_POLICY=flatten\n")
    paper = Paper(home, MORNING)
    return paper, paper.trade(until=BELL + dt.timedelta(minutes=27))


@pytest.mark.slow
def test_a_stop_that_flattens_closes_what_is_held_first(home: Path) -> None:
    """With STOP_POLICY=flatten positions are closed at the market within the next bars, then the run ends."""
    paper, outcome = flattening(home)
    assert (outcome.stopped, outcome.open) == (True, ())
    reasons = {trade.exit_reason.value for trade in outcome.summary.trades}
    assert reasons == {"STOPPED"}
    assert paper.clock.now() < BELL + dt.timedelta(minutes=35)


@pytest.mark.slow
def test_a_session_that_was_flattened_can_be_taken_up_again(home: Path) -> None:
    """Started again the same day, the flattened session is repeated as it was, and later windows are traded."""
    paper, first = flattening(home)
    outcome = Paper(home, paper.clock.now() + dt.timedelta(seconds=5)).trade()
    trades = outcome.summary.trades
    assert trades[: len(first.summary.trades)] == first.summary.trades
    assert {trade.strategy for trade in trades} >= {"mid", "close"}
    assert fold_events(paper.events).equity == outcome.summary.equity_end


@pytest.mark.slow
def test_a_stop_that_flattens_comes_after_what_is_repeated(home: Path) -> None:
    """Stopped before it caught up, paper first finds out what is held, then closes it."""
    paper = Paper(home, MORNING)
    left = paper.trade(until=BELL + dt.timedelta(minutes=27)).open
    held = fold_events(paper.events).portfolio.positions.keys()
    assert held < set(left)  # an entry works besides
    settings = home / ".env_bot"
    settings.write_text(settings.read_text() + "STOP_POLICY=flatten\n")
    again = Paper(home, paper.clock.now() + dt.timedelta(seconds=5))
    outcome = again.trade(until=BELL + dt.timedelta(minutes=3))
    assert (outcome.stopped, outcome.open) == (True, ())
    assert held <= {trade.symbol for trade in outcome.summary.trades}
    assert cli.invoke(["audit", "verify", "--home", str(home)]) == 0
