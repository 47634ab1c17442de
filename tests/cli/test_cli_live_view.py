"""The live view: every picture fits, says what matters, and gives the terminal back."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import attrs
import pytest
from rich.console import Console

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.live_view import LiveFrame, LiveView, PositionRow, render_frame
from tbot_core.cli.run_options import RunOptions
from tbot_core.contracts import FeedLabel, FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.journal.store import NewEvent
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import ManualClock
from tbot_core.model.formatting import MINUS
from tbot_core.model.window import Window
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.status.event_lines import EventLine

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text

    from tbot_core.contracts import Feed
    from tbot_core.engine.session.session import TradingSession

DAY = dt.date(2026, 11, 24)
NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


def holding(number: int) -> PositionRow:
    """A position that loses."""
    return PositionRow(
        strategy="open",
        symbol=f"SYM{number}",
        side="short",
        shares=Decimal("11.834567"),
        entry=Decimal("33.79"),
        last=Decimal("34.1234"),
        stop=Decimal("34.47") if number % 2 else None,
        pnl=Decimal("-3.95"),
    )


def board(positions: int = 3) -> LiveFrame:
    """A session at half past ten with positions, events and denials."""
    found = LiveFrame(mode="demo", simulated=True, source="simulated market", moment=NOW, minute=30)
    found.session = ExchangeCalendar().session(DAY)
    found.windows = (("open", Window(start=0, analysis=20, breakout=10, monitoring=30)),)
    found.equity, found.pnl, found.loss_limit = Decimal("99996.05"), Decimal("-3.95"), Decimal(5000)
    found.most_trades, found.most_positions, found.sent = 4, 5, {"open": 3}
    found.holdings = tuple(holding(number) for number in range(positions))
    found.events = [
        EventLine(time=NOW, text="[OPEN] BUY 11.834 TARNO @ 33.79", weight="entry"),
        EventLine(
            time=NOW, text=f"[OPEN] EXIT TARNO time {MINUS}5.97 (11.834 @ 33.29)", weight="exit", gain=Decimal("-5.97")
        ),
        EventLine(time=NOW, text="a line that is far longer than any terminal of eighty columns " * 3, weight="window"),
    ] * 9
    found.denials.update({"MAX_TRADES": 4})
    return found


def plain(lines: list[Text]) -> str:
    """The picture without its colours."""
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize("size", [(80, 24), (40, 10), (200, 60), (79, 23), (132, 43)])
@pytest.mark.parametrize("positions", [0, 3, 12])
def test_a_picture_fits_the_terminal(size: tuple[int, int], positions: int) -> None:
    """At any size there are no more lines than rows, and no line is wider than the columns."""
    width, height = size
    lines = render_frame(board(positions), width, height)
    assert len(lines) == height
    assert all(line.cell_len <= width for line in lines)


def test_a_picture_says_what_matters() -> None:
    """Whose prices, the time twice, equity, the limit, positions with stops, events and denials are on 80 by 24."""
    text = plain(render_frame(board(), 80, 24))
    for words in (
        "SIMULATED PRICES",
        "10:00 New York",
        "15:00 UTC",
        "99,996.05",
        f"{MINUS}3.95",
        "5,000.00",
        "open 3/4",
    ):
        assert words in text
    for words in (
        "SYM1",
        "34.47",
        "on close",
        "[OPEN] BUY 11.834 TARNO",
        "Denied (symbols x strategies) MAX_TRADES 4",
        "Ctrl-C",
    ):
        assert words in text


def test_a_stop_whose_cancel_was_requested_has_no_level() -> None:
    """It may be gone, so no level is promised."""
    frame = board(1)
    frame.holdings = (attrs.evolve(holding(0), stop=Decimal("33.21"), cancelling=True),)
    text = plain(render_frame(frame, 80, 24))
    assert "cancelling" in text
    assert "33.21" not in text


def test_the_profit_of_an_exit_is_what_is_coloured() -> None:
    """Of a line about an exit only the amount has the colour of a loss or a gain, not the price after it."""
    (line,) = [one for one in render_frame(board(0), 200, 30) if "EXIT TARNO" in one.plain][:1]
    coloured = {line.plain[span.start : span.end] for span in line.spans if "yellow" in str(span.style)}
    assert coloured == {f"{MINUS}5.97"}


def test_every_picture_of_a_dry_run_says_that_nothing_is_sent(tmp_path: Path) -> None:
    """The first line has it with both times on 80 columns, the last one what it means; no other run promises that."""
    found, shown = (
        board(),
        LiveView(RunOptions(mode="dry-run", home=tmp_path), ManualClock(NOW), Console(file=io.StringIO())),
    )
    found.mode, found.notice = shown.frame.mode, shown.frame.notice
    lines = plain(render_frame(found, 80, 24)).splitlines()
    assert lines[0].startswith(" tbot DRY RUN  SIMULATED PRICES ")
    assert lines[0].rstrip().endswith("15:00 UTC")
    assert lines[-1].startswith("No order is sent. Ctrl-C")
    assert "No order is sent" not in plain(render_frame(board(), 80, 24))


def test_a_picture_of_several_brokers_says_where_each_position_is() -> None:
    """The broker stands behind the window and fits on 80 columns; where there is only one its name is left out."""
    found = board()
    assert "broker" not in plain(render_frame(found, 80, 24))
    found.holdings = tuple(
        attrs.evolve(one, broker=name)
        for one, name in zip(found.holdings or (), ("alpaca", "tradier", "alpaca"), strict=True)
    )
    lines = plain(render_frame(found, 80, 24)).splitlines()
    (heads,) = [line for line in lines if line.startswith("Symbol")]
    rows = [line for line in lines if line.startswith("SYM")]
    at = heads.index("broker")
    assert [row[at:].strip() for row in rows] == ["alpaca", "tradier", "alpaca"]


def test_a_picture_says_how_the_feed_is() -> None:
    """Its age, late bars and what is halted stand beside the exposure; of a feed of whole minutes nothing is said."""
    found = board()
    assert "feed" not in plain(render_frame(found, 160, 24))
    found.feed = "3 s old, 2 late, halted ACME"
    assert "feed 3 s old, 2 late, halted ACME" in plain(render_frame(found, 160, 24))


def test_a_picture_without_a_session_says_what_is_waited_for() -> None:
    """Before the bell the view counts down, and before that it says that it prepares."""
    empty = LiveFrame(mode="paper")
    assert "Preparing" in plain(render_frame(empty, 80, 24))
    empty.moment, empty.waiting = NOW, NOW + dt.timedelta(hours=3, minutes=5)
    assert "2026-11-24 13:05 New York (18:05 UTC), in 3 h 05 min" in plain(render_frame(empty, 80, 24))


def test_a_session_that_cannot_be_prepared_says_why(tmp_path: Path) -> None:
    """NOT READY stands there with its reasons while the login is repeated."""
    live = LiveView(RunOptions(mode="paper", home=tmp_path), ManualClock(NOW), Console(file=io.StringIO()))
    payload = {"session": "2026-11-24", "reasons": ["the login to the broker failed: no connection."]}
    live.watcher.on_events([NewEvent(kind=records.NOT_READY, payload=payload, time=NOW)])
    text = plain(render_frame(live.frame, 120, 24))
    assert "NOT READY for the session of 2026-11-24: the login to the broker failed: no connection\n" in text


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Where the terminal cannot show them, no other characters are used."""
    found = board()
    found.events = found.events[:2]
    assert plain(render_frame(found, 80, 24, plain=True)).isascii()


def test_many_positions_leave_room_for_events() -> None:
    """More positions than fit are counted, and the last event stays in sight."""
    text = plain(render_frame(board(12), 80, 24))
    assert "and 6 more" in text
    assert "a line that is far longer" in text


def watched(home: Path, moment: dt.datetime | None = None) -> tuple[str, LiveView, RunOutcome]:
    """A whole demo, or three minutes of paper from a moment on, seen on a terminal that is a string."""
    create_demo_instance(home)
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24, color_system="truecolor")
    clock = ManualClock(moment or NOW)
    options = RunOptions(mode="demo" if moment is None else "paper", home=home)
    live = LiveView(options, clock, console)
    request = FeedRequest(kind="demo" if moment is None else "live")
    plan = RunPlan(
        assembly=assemble(home, options.mode, clock), request=request, wall=clock, pace=5200.0, once=True, watch_s=5.0
    )
    inner = live.watcher

    def minute(session: TradingSession, index: int) -> None:
        inner.on_minute(session, index)
        if moment is not None and index == 2:
            plan.stop.set()

    with live:
        outcome = asyncio.run(run(plan, attrs.evolve(inner, on_minute=minute)))
    return stream.getvalue(), live, outcome


@pytest.mark.slow
def test_a_run_is_drawn_and_the_terminal_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The alternate screen is entered and left, drawn at most ten times a second, and the tables follow."""
    drawn, live, outcome = watched(tmp_path)
    assert "\x1b[?1049h" in drawn
    assert drawn.index("\x1b[?1049h") < drawn.rindex("\x1b[?1049l")
    assert 10 < drawn.count("SIMULATED PRICES") <= 48
    assert "window: 40 candidates" in drawn
    live.end(outcome)
    said = capsys.readouterr().out
    assert said.startswith("tbot demo. SIMULATED PRICES")
    assert "P&L by strategy" in said


@pytest.mark.slow
def test_a_wait_for_the_bell_is_drawn(tmp_path: Path) -> None:
    """Paper before the bell shows the countdown, and the session when it has rung."""
    drawn, live, outcome = watched(tmp_path, dt.datetime(2026, 11, 24, 14, 29, 30, tzinfo=dt.UTC))
    assert "Waiting for the bell" in drawn
    assert live.frame.waiting is None
    assert "Session 2026-11-24: 40 symbols" in drawn
    assert outcome.stopped


@pytest.mark.slow
def test_the_panel_follows_between_two_minutes(tmp_path: Path) -> None:
    """A kill that comes while a minute is waited for shows at once."""
    create_demo_instance(tmp_path)
    loop = VirtualLoop()
    clock = LoopClock(loop, dt.datetime(2026, 11, 24, 14, 29, 30, tzinfo=dt.UTC))
    live = LiveView(
        RunOptions(mode="paper", home=tmp_path), clock, Console(file=io.StringIO(), force_terminal=True, width=100)
    )
    plan = RunPlan(
        assembly=assemble(tmp_path, "paper", clock),
        request=FeedRequest(kind="live"),
        wall=clock,
        once=True,
        watch_s=1.0,
    )
    inner, seen = live.watcher, dict[str, object]()

    def minute(session: TradingSession, index: int) -> None:
        inner.on_minute(session, index)
        if index == 0:
            control.write_request(tmp_path / "control", control.ControlVerb.KILL, actor="ann", now=clock.now())
        if index == 2:
            plan.stop.set()

    def look(session: TradingSession) -> None:
        inner.on_round(session)
        if session.tape.closed == 1:
            seen[f"after {(clock.now() - session.session.moment(1)).total_seconds():.0f} s"] = live.frame.state

    with live:
        run_virtual(lambda: run(plan, attrs.evolve(inner, on_minute=minute, on_round=look)), loop)
    assert seen["after 5 s"] == "halted"


def test_a_restart_in_a_session_shows_what_rests_already(tmp_path: Path) -> None:
    """What was written before is not said again, so the book that the run begins with is the view's own."""
    live = LiveView(RunOptions(mode="paper", home=tmp_path), ManualClock(NOW), Console(file=io.StringIO()))
    label = FeedLabel(name="a market", simulated=False, quotes=True)
    book = SessionBook(in_session=True)
    live.watcher.on_started(cast("Feed", SimpleNamespace(label=label)), book)
    live.watcher.on_idle(NOW + dt.timedelta(minutes=1))
    assert live.frame.waiting is None


def test_before_the_first_session_no_figure_is_made_up(tmp_path: Path) -> None:
    """What is not known yet is a dash, never nought; which session of how many it is stands there from the start."""
    live = LiveView(RunOptions(mode="demo", home=tmp_path, sessions=3), ManualClock(NOW), Console(file=io.StringIO()))
    label = FeedLabel(name="simulated market", simulated=True, quotes=False)
    live.watcher.on_started(cast("Feed", SimpleNamespace(label=label)), SessionBook())
    text = plain(render_frame(live.frame, 80, 24))
    assert "0.00" not in text
    assert "Equity \N{EN DASH}   P&L \N{EN DASH}   loss limit \N{EN DASH}   state \N{EN DASH}" in text
    assert "positions are not known yet" in text
    assert "no open position" not in text
    assert "Trades \N{EN DASH}   positions \N{EN DASH}" in text
    assert "Session 1 of 3   gross \N{EN DASH}" in text
    assert plain(render_frame(live.frame, 80, 24, plain=True)).isascii()


@pytest.mark.slow
def test_the_budget_is_called_by_its_name(tmp_path: Path) -> None:
    """What is held is said of the budget, and the sessions are counted on to the last one."""
    _, live, _ = watched(tmp_path)
    assert live.frame.number == 1
    found = board()
    found.gross, found.budget = Decimal(1950), Decimal(2000)
    found.number = 2
    text = plain(render_frame(found, 80, 24))
    assert "Session 2   gross 1,950.00 of budget 2,000.00" in text


def test_the_screen_is_never_empty(tmp_path: Path) -> None:
    """From the moment the terminal is taken it says what is done, and how to stop it."""
    stream = io.StringIO()
    with LiveView(
        RunOptions(mode="demo", home=tmp_path), ManualClock(NOW), Console(file=stream, force_terminal=True, width=200)
    ):
        assert "Preparing the session." in stream.getvalue()
        assert "Ctrl-C shuts down cleanly" in stream.getvalue()
