"""The displays of a run, what they show at its end, and how signals reach it."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TextIO, cast

import attrs
import pytest
from rich.console import Console

from tbot_core import cli
from tbot_core.cli import run_display
from tbot_core.cli.commands.run import create_demo_instance, trade
from tbot_core.cli.live_view import LiveView
from tbot_core.cli.run_options import RunOptions
from tbot_core.cli.run_text import banner, finished_lines, plain_line, stopped_lines
from tbot_core.contracts import BrokerEvent, FeedLabel, FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.errors import AccessError
from tbot_core.execution.trading_state import OVER
from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended, OrderReported
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.projections.book import SessionBook, fold_events
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.marketdata.history import DownloadProgress
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.model.types import ExitReason, Leg, RiskState
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.reports.summary import RunSummary
from tbot_core.status.event_lines import LOUD, EventNarrator
from tbot_core.system import log, signals
from tbot_core.system.terminal import GuardedStream
from tbot_core.testing.trades import fill, order
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.contracts import Feed
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.types import Order

MORNING = dt.datetime(2026, 11, 24, 13, 0, tzinfo=dt.UTC)
SUMMARY = RunSummary(
    mode="replay",
    sessions=0,
    symbols=0,
    equity_start=Decimal(0),
    equity_end=Decimal(0),
    trades=(),
    denials={},
    settings_hash="",
    data_hash="",
)


@pytest.fixture(autouse=True)
def _gate() -> Iterator[None]:
    # The caller that opened the log closes it.
    yield
    log.close()


def test_a_banner_says_whose_prices_these_are() -> None:
    """Simulated prices are said aloud, notes follow, and a run that goes on says from where."""
    label = FeedLabel(name="stored bars", simulated=False, quotes=False, notes=("a note",))
    assert banner("replay", label) == ["tbot replay. Market prices: stored bars.", "  a note"]
    assert banner("replay", label, closed=2)[-1] == "Resumed after 2 closed sessions."
    words = "Resuming the session of 2026-03-03 (run b1), after 1 closed session."
    assert banner("replay", label, 1, "the session of 2026-03-03 (run b1)")[-1] == words


def test_a_stopped_run_says_what_is_open_and_how_to_go_on() -> None:
    """Open positions are named; the same command resumes the run."""
    outcome = RunOutcome(summary=SUMMARY, journal=Path("x"), stopped=True, open=("AAA", "BBB"))
    assert "Stopped and left open: AAA, BBB." in list(stopped_lines(outcome, RunOptions(mode="paper", home=Path())))
    bare = attrs.evolve(outcome, unprotected=("BBB",))
    assert "Without a stop order: BBB." in list(stopped_lines(bare, RunOptions(mode="paper", home=Path())))
    flat = attrs.evolve(outcome, open=())
    assert "Stopped; nothing is open." in list(stopped_lines(flat, RunOptions(mode="paper", home=Path())))
    blind = list(stopped_lines(attrs.evolve(flat, unconfirmed="no line"), RunOptions(mode="paper", home=Path()), 200))
    assert "Stopped; the books show nothing open, but the account could not be read: no line." in blind
    assert list(stopped_lines(flat, RunOptions(mode="demo", home=Path())))[-1].endswith(
        "the same command resumes the run."
    )


def test_the_end_of_a_run_without_trades_is_short(tmp_path: Path) -> None:
    """Where nothing was traded, denied or noted, only what there is is said."""
    path = tmp_path / "x.sqlite"
    open_journal(path).close()
    lines = list(finished_lines(RunOutcome(summary=SUMMARY, journal=path), RunOptions(mode="replay", home=Path())))
    assert [line for line in lines if "none" in line] == ["  none"]
    assert lines[-1] == "Next:   tbot why SYMBOL"


@pytest.mark.parametrize("silent", [False, True])
def test_a_download_before_a_session_is_said_once(capsys: pytest.CaptureFixture[str], *, silent: bool) -> None:
    """A start that takes longer says why, before it begins; with --json nothing is printed."""
    options = RunOptions(mode="paper", home=Path())
    watcher = run_display.PlainDisplay(options, silent=silent).watcher
    for done in (0, 60, 630):
        watcher.on_download(DownloadProgress(done=done, total=630))
    said = capsys.readouterr().out.splitlines()
    words = "Downloading one-minute bars: 630 downloads, one for each symbol and past session."
    assert said == ([] if silent else [words])


def test_changes_of_risk_are_shown() -> None:
    """A latch is a line with its cause and the figures compared."""
    payload = {"what": "daily loss latch", "cause": "DAILY_LOSS_LIMIT reached", "value": "-5001", "limit": "-5000"}
    (line,) = EventNarrator().lines_for([NewEvent(kind="risk", payload=payload, time=MORNING)])
    assert line.weight == "risk"
    figures = "(\N{MINUS SIGN}5001 against \N{MINUS SIGN}5000)"
    assert plain_line(line).endswith(f"Risk: daily loss latch, DAILY_LOSS_LIMIT reached {figures}")


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        (records.REQUEST, {"verb": "stop keep", "actor": "ann"}, "stop keep requested by ann"),
        (
            records.REQUEST,
            {"verb": "kill", "actor": "ann", "withdrawn": "kill-clear-1.json"},
            "kill requested by ann, withdrawn before it took effect",
        ),
        (
            records.REQUEST_REFUSED,
            {"name": "stop", "words": "it belongs to another user"},
            "control/stop was refused: it belongs to another user",
        ),
        (
            records.REQUEST_REFUSED,
            {"name": "a\nb\x1b[31m", "words": "it is a pipe"},
            r"control/a\nb\x1b[31m was refused: it is a pipe",
        ),
        (
            records.STATE,
            codec.write(StateChanged(cause=StateCause.KILL_COMMAND, there=True, state=RiskState.HALTED.word, words="")),
            f"State halted: {StateCause.KILL_COMMAND.value}",
        ),
        (
            records.STATE,
            codec.write(
                StateChanged(cause=StateCause.KILL_COMMAND, there=False, state=RiskState.NORMAL.word, words="")
            ),
            f"{StateCause.KILL_COMMAND.value} cleared; state normal",
        ),
    ],
)
def test_what_a_person_requests_and_what_it_changes_are_shown(kind: str, payload: dict[str, Any], words: str) -> None:
    """Who asked for what, what is not obeyed and why, and what begins or ceases to hold trading back."""
    (line,) = EventNarrator().lines_for([NewEvent(kind=kind, payload=payload, time=MORNING)])
    assert (line.weight, line.text) == ("risk", words)


def test_the_first_reading_of_the_account_is_shown_as_one() -> None:
    """Its cause says what is not so, and would read as the opposite if it were said to be cleared."""
    payload = codec.write(
        StateChanged(cause=StateCause.UNRECONCILED, there=False, state=RiskState.NORMAL.word, words="")
    )
    (line,) = EventNarrator().lines_for([NewEvent(kind=records.STATE, payload=payload, time=MORNING)])
    assert line.text == "The account has been read; state normal"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (
            {"changes": {"MAX_TRADES": ["3", "4"], "STOP_ATR": [None, "2"]}, "fault": ""},
            "The settings have changed, effective from the next session: MAX_TRADES 3 -> 4, STOP_ATR unset -> 2",
        ),
        ({"changes": {}, "fault": ""}, "The settings files have changed, but no value differs."),
        (
            {"changes": {}, "fault": "MAX_TRADES: many."},
            "The changed settings are invalid, so the run keeps its previous ones: MAX_TRADES: many.",
        ),
    ],
)
def test_changed_settings_are_a_line(payload: dict[str, Any], text: str) -> None:
    """What was changed, by name, or why it is not taken over."""
    (line,) = EventNarrator().lines_for([NewEvent(kind="settings", payload=payload, time=MORNING)])
    assert line.text == text


@pytest.mark.parametrize(("value", "words"), [(18.254, "VIX 18.25"), (None, "VIX unknown")])
def test_the_vix_of_a_window_is_a_line(value: float | None, words: str) -> None:
    """What it stood at as entries began, and who may be entered by it."""
    payload = {"session": "2026-11-24", "strategy": "close", "value": value, "time": None, "candidates": 3}
    (line,) = EventNarrator().lines_for([NewEvent(kind=records.VIX, payload=payload, time=MORNING)])
    assert (line.weight, line.text) == ("window", f"[CLOSE] window: {words}, 3 candidates")


def test_what_a_ready_session_will_not_trade_is_a_line_each() -> None:
    """READY itself is an alert; its remarks are shown on every screen, once in a session: a restart is READY too."""
    payload = {"session": "2026-11-24", "not_shortable": {"NOT_SHORTABLE": ["KO"], "CASH_LONG_ONLY": ["F"]}}
    narrator = EventNarrator()

    def said(**more: object) -> list[tuple[str, str]]:
        ready = NewEvent(kind=records.READY, payload=payload | more, time=MORNING)
        return [(line.weight, line.text) for line in narrator.lines_for([ready])]

    both = [
        ("session", "CASH_LONG_ONLY: no short sales of 1 symbol: F"),
        ("session", "NOT_SHORTABLE: no short sales of 1 symbol: KO"),
    ]
    assert said() == both
    assert said() == []
    assert said(not_shortable={"NOT_SHORTABLE": ["F"]}) == [("session", "NOT_SHORTABLE: no short sales of 1 symbol: F")]
    assert said(session="2026-11-25") == both


def test_an_entry_that_is_not_filled_is_a_line() -> None:
    """What was confirmed and sent may buy nothing; a part that was filled has its own line."""
    narrator, cid = EventNarrator(), "entry-1"

    def said(kind: str, payload: dict[str, Any]) -> list[tuple[str, str]]:
        event = NewEvent(kind=kind, payload=payload, time=MORNING, cid=cid)
        return [(line.weight, line.text) for line in narrator.lines_for([event])]

    payload = codec.write(OrderIntended.of(order(name=cid, symbol="PELTO", quantity="15", limit="25.84")))
    assert said(records.INTENDED, payload) + said(records.SENDING, {}) + said("acknowledged", {"words": ""}) == []
    assert said("cancelled", {"words": ""}) == [("denial", "[OPEN] BUY 15 PELTO not filled: cancelled")]


def test_a_restart_has_lines_of_its_own() -> None:
    """That it happened, and what was found and missed; the account that is not read yet is no warning beside them."""

    def state(*, there: bool) -> NewEvent:
        payload = {"cause": "UNRECONCILED", "there": there, "state": "exit-only" if there else "normal", "words": ""}
        return NewEvent(kind=records.STATE, payload=payload, time=MORNING + dt.timedelta(seconds=5))

    opening = {"date": "2026-11-24", "symbols": 3, "equity": "1000"}
    opened = NewEvent(kind=records.SESSION_OPENED, payload=opening, time=MORNING)
    narrator = EventNarrator()
    first = narrator.lines_for([state(there=True), opened, state(there=False)])
    assert [line.weight for line in first] == ["window", "session", "window"]
    found = narrator.lines_for([state(there=True), state(there=False)])
    assert [(line.weight, line.text) for line in found] == [
        ("session", "Restarted in the open session; the last event before it was at 08:00:05"),
        ("session", "After the restart found: nothing new; missed: 0 minutes, 0 signals"),
    ]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (records.HALT, {"symbol": "AAA", "level": 0, "words": ""}),
        (records.FEEDS_APART, {"symbol": "AAA", "feed": "1", "theirs": "1"}),
    ],
)
def test_what_is_as_usual_again_is_no_warning(kind: str, payload: dict[str, object]) -> None:
    """It is a plain line all the same."""
    flag = "halted" if kind == records.HALT else "there"
    events = [NewEvent(kind=kind, payload=payload | {flag: there}, time=MORNING) for there in (True, False)]
    assert [line.weight for line in EventNarrator().lines_for(events)] == ["risk", "session"]


def test_the_drift_of_a_day_is_a_line_and_one_for_each_trade() -> None:
    """The result first, then what was expected and made."""
    made = {"quantity": "24", "entry_price": "20.08", "exit_price": "20.10", "exit_reason": "TIME", "pnl": "0.48"}
    trade = {"strategy": "open", "symbol": "AAA", "side": "long", "minute": 3, "expected": made, "real": None}
    empty = {"entry_bps": None, "exit_bps": None}
    counts = {"both": 0, "missing": 1, "extra": 0, **empty, "pnl": "0.00", "expected_pnl": "0.48", "note": ""}
    document = {"date": "2026-11-24", "trades": [trade | empty | {"words": "NOT_ARMED"}], **counts}
    lines = EventNarrator().lines_for([NewEvent(kind=records.DRIFT, payload=document, time=MORNING)])
    assert [line.text for line in lines] == [
        "Drift: Session 2026-11-24: 0 of 1 expected trades made, 1 missing, 0 not expected; P&L 0.00, expected +0.48.",
        "Drift: [OPEN] long AAA: expected 24 at 20.08 to 20.10 time; real none; NOT_ARMED",
    ]


def test_an_entry_is_shown_with_its_stop() -> None:
    """The level is that of its stop order, else the one that the strategy planned."""
    stop, entry = order(Leg.STOP, quantity="10", stop="9.5", reason=ExitReason.STOP), order(quantity="10")
    sent, fill_of_it = placed(entry), filled(entry, "10", "10", "1")
    (line,) = EventNarrator().lines_for([*sent, *placed(stop), fill_of_it])
    assert line.text == "[OPEN] BUY 10 AAA @ 10.00 stop 9.50"
    for side, shown in (("long", "9.76"), ("short", "9.75")):  # towards the price, as the order will be
        signal = codec.write(OrderIntended.of(entry))["signal"]
        decision = {"reason": "ALLOWED", "side": side, "stop": 9.7533, "signal": signal}
        allowed = NewEvent(kind=records.DECISION, payload=decision, time=MORNING)
        (line,) = EventNarrator().lines_for([allowed, *sent, fill_of_it])
        assert line.text == f"[OPEN] BUY 10 AAA @ 10.00 stop {shown}"


def test_the_account_that_has_not_been_read_is_no_plain_line() -> None:
    """It comes and goes with every start; the live view shows it, and NOT READY where it lasts."""
    payload = {"cause": "UNRECONCILED", "there": True, "state": "exit-only", "words": ""}
    (line,) = EventNarrator().lines_for([NewEvent(kind=records.STATE, payload=payload, time=MORNING)])
    assert line.weight not in LOUD
    other = payload | {"cause": "UNKNOWN"}
    (line,) = EventNarrator().lines_for([NewEvent(kind=records.STATE, payload=other, time=MORNING)])
    assert line.weight in LOUD


def test_a_session_is_awaited_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The pre-open, READY and each further attempt are of one session; the next day is another line."""
    watcher = run_display.PlainDisplay(RunOptions(mode="paper", home=Path()), silent=False).watcher
    for minutes in (0, 60, 61, 24 * 60):
        watcher.on_idle(MORNING + dt.timedelta(minutes=minutes))
    assert capsys.readouterr().out.splitlines() == [
        "Waiting for the session of 2026-11-24, 13:00 UTC (08:00 New York).",
        "Waiting for the session of 2026-11-25, 13:00 UTC (08:00 New York).",
    ]


def test_a_position_that_is_left_in_part_is_reduced() -> None:
    """A fill that leaves shares is no exit yet; the one that leaves none is, with the profit of them all."""
    entry, leave = order(quantity="10"), order(Leg.EXIT, quantity="10", reason=ExitReason.TIME)
    narrated = EventNarrator().lines_for(
        [
            NewEvent(kind=records.RUN_STARTED, payload={"equity": "1000"}, time=MORNING),
            *placed(entry),
            filled(entry, "10", "10", "1"),
            *placed(leave),
            filled(leave, "4", "11", "2"),
            filled(leave, "6", "12", "3"),
        ]
    )
    assert [line.weight for line in narrated] == ["entry", "entry", "exit"]
    words = ["[OPEN] BUY 10 AAA", "[OPEN] REDUCE 4 AAA", "[OPEN] EXIT AAA time +16.00 (10"]
    assert [line.text.split(" @ ")[0] for line in narrated] == words
    assert narrated[-1].gain == Decimal(16)


@pytest.mark.parametrize("kind", ["lines", "live view"])
def test_a_stop_that_was_placed_before_a_restart_is_shown_when_it_fills(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The display knows orders and positions from the journal, so the exit has its strategy and its profit."""
    entry, stop = order(quantity="10"), order(Leg.STOP, quantity="10", stop="9", reason=ExitReason.STOP)
    opened = {"equity": "1000", "symbols": 1, "primary": "acme", "date": "2026-11-24"}
    book = fold_events(
        [
            NewEvent(kind=records.SESSION_OPENED, payload=opened, time=MORNING),
            *placed(entry),
            filled(entry, "10", "10", "1"),
            *placed(stop),
        ]
    )
    requested, label = RunOptions(mode="paper", home=tmp_path), FeedLabel(name="a market", simulated=False, quotes=True)
    live = LiveView(requested, ManualClock(MORNING), Console(file=io.StringIO()))
    shown = live if kind == "live view" else run_display.PlainDisplay(requested, silent=False)
    shown.watcher.on_started(cast("Feed", SimpleNamespace(label=label)), book)
    shown.watcher.on_events([filled(stop, "10", "9", "2")])
    lines = [line.text for line in live.frame.events] if kind == "live view" else [capsys.readouterr().out]
    assert "[OPEN] EXIT AAA stop" in lines[-1]
    assert len(book.trades) == 0, "the book of the run is not changed"


def test_a_fill_of_an_unknown_order_is_shown_with_what_it_says() -> None:
    """An order of an earlier session may still fill: symbol, quantity and price are in the event."""
    (line,) = EventNarrator().lines_for([filled(order(quantity="10"), "10", "9.5", "1")])
    assert line.text == "FILL of an earlier session's order: BUY 10 AAA @ 9.50"


@pytest.mark.slow
def test_a_display_that_fails_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each callback fails; the session is traded, and the display says once that it is off."""
    create_demo_instance(tmp_path)
    clock, said = ManualClock(MORNING), list[str]()
    plan = RunPlan(
        assembly=assemble(tmp_path, "demo", clock), request=FeedRequest(kind="demo", sessions=1, seed=0), wall=clock
    )

    def fail(*_arguments: object) -> None:
        raise KeyError("an order")

    names = [field.name for field in attrs.fields(RunWatcher) if field.name != "on_disabled"]
    outcome = asyncio.run(run(plan, RunWatcher(**dict.fromkeys(names, fail), on_disabled=said.append)))
    assert outcome.summary.trades
    (words,) = said
    assert words.startswith("The display of the run failed and is off: KeyError: 'an order'.")
    run_display.PlainDisplay(RunOptions(mode="demo", home=tmp_path), silent=False).watcher.on_disabled(words)
    assert f"tbot: {words}" in capsys.readouterr().err


def test_a_live_view_that_fails_gives_the_terminal_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A view that cannot be drawn starts no failure of the run; one that is off says so in the ordinary screen."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True)
    live = LiveView(RunOptions(mode="demo", home=tmp_path), ManualClock(MORNING), console)
    live.frame.minute = cast("int", None)
    live.frame.session = cast("Any", object())
    with live:
        live.watcher.on_disabled("The display failed.")
        assert "tbot: The display failed." in capsys.readouterr().err
        assert stream.getvalue().endswith("\x1b[?25h\x1b[?1049l")


def placed(one: Order) -> list[NewEvent]:
    """An order that is written down and leaves."""
    intent, cid = codec.write(OrderIntended.of(one)), one.client_order_id
    return [
        NewEvent(kind=records.INTENDED, cid=cid, payload=intent, time=MORNING),
        NewEvent(kind=records.SENDING, cid=cid, payload={}, time=MORNING),
    ]


def filled(one: Order, quantity: str, price: str, execution: str) -> NewEvent:
    """A broker's fill of it."""
    done, cid = fill(one, price, quantity, execution=execution), one.client_order_id
    event = BrokerEvent(kind="fill", event_id=execution, client_order_id=cid, fill=done)
    return NewEvent(kind="fill", cid=cid, payload=codec.write(OrderReported.of(event)), time=MORNING)


@pytest.mark.slow
def test_plain_lines_say_once_what_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the bell one line says what is waited for; within the session no wait is mentioned."""
    create_demo_instance(tmp_path)
    loop, options = VirtualLoop(), RunOptions(mode="paper", home=tmp_path)
    clock = LoopClock(loop, MORNING)
    lines = run_display.PlainDisplay(options, silent=False)
    plan = RunPlan(
        assembly=assemble(tmp_path, "paper", clock),
        request=FeedRequest(kind="live"),
        wall=clock,
        once=True,
        watch_s=30.0,
    )
    inner = lines.watcher

    def minute(_session: TradingSession, index: int) -> None:
        if index == 3:
            plan.stop.set()

    with lines:
        outcome = run_virtual(lambda: run(plan, attrs.evolve(inner, on_minute=minute)), loop)
    lines.end(outcome)
    said = capsys.readouterr().out
    assert said.count("Waiting for") == 1
    assert "Waiting for the session of 2026-11-24, 14:00 UTC (09:00 New York)." in said
    assert "Stopped; nothing is open." in said


@pytest.mark.slow
def test_a_terminal_gets_the_live_view_and_warnings_go_to_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the view is live, unless a document is asked for; settings that warn say so first."""
    create_demo_instance(tmp_path)
    settings = tmp_path / ".env_bot"
    settings.write_text(settings.read_text() + "SEEED=1\n")
    assembly, requested = assemble(tmp_path, "demo", SystemClock()), RunOptions(mode="demo", home=tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(run_display.make_display(requested, assembly, SystemClock(), as_json=False), LiveView)
    assert isinstance(
        run_display.make_display(requested, assembly, SystemClock(), as_json=True), run_display.PlainDisplay
    )
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(
        run_display.make_display(requested, assembly, SystemClock(), as_json=False), run_display.PlainDisplay
    )
    assert "Unknown setting SEEED" in capsys.readouterr().err


@pytest.mark.usefixtures("signals_enabled")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_early_signal_is_an_interrupt(number: signal.Signals) -> None:
    """Before the run has begun SIGTERM and SIGHUP interrupt as Ctrl-C does, and afterwards all is as it was."""
    before = signal.getsignal(number)

    def terminated() -> None:
        with signals.interruptible():
            os.kill(os.getpid(), number)
            signal.pause()

    with pytest.raises(KeyboardInterrupt):
        terminated()
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("ignored", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_is_ignored_from_the_start_stays_so(ignored: signal.Signals) -> None:
    """A process under nohup outlives its terminal, one after a shell's & a Ctrl-C; what has no meaning ends nothing."""
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        assert ignored is signal.SIGINT or ignored not in signals.stop_signals()
        with signals.interruptible():
            for number in (ignored, signal.SIGUSR1, signal.SIGUSR2):
                os.kill(os.getpid(), number)
    finally:
        signal.signal(ignored, before)


def test_a_thread_without_signals_runs_all_the_same() -> None:
    """Only the main thread may say what signals do; a command line that is called in another one leaves them alone."""
    before = [signal.getsignal(number) for number in signals.stop_signals()]

    def inside() -> list[Any]:
        with signals.interruptible():
            return [signal.getsignal(number) for number in signals.stop_signals()]

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() == before


@pytest.mark.usefixtures("signals_enabled")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_second_breaks_off(number: signal.Signals) -> None:
    """One signal requests a stop and the work may end in its own time; a second one ends it at once."""

    async def orderly() -> str:
        stop = asyncio.Event()

        async def work() -> str:
            os.kill(os.getpid(), number)
            await stop.wait()
            return "in order"

        return await run_display.run_until_stopped(work(), stop, asyncio.Event())

    async def stubborn() -> str:
        async def work() -> str:
            os.kill(os.getpid(), number)
            await asyncio.get_running_loop().run_in_executor(None, int)
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
            return "never"

        return await run_display.run_until_stopped(work(), asyncio.Event(), asyncio.Event())

    before = signal.getsignal(signal.SIGTERM)
    assert asyncio.run(orderly()) == "in order"
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(stubborn())


@pytest.mark.usefixtures("signals_enabled")
def test_the_second_signal_breaks_off_a_session_that_has_seen_the_first() -> None:
    """A session at a market applies a signal within a second; a signal after a withdrawn stop is a first one again."""
    causes: list[StateCause] = []
    state: Any = SimpleNamespace(causes=causes, raise_cause=causes.append)

    async def signalled(*, withdrawn: bool) -> str:
        process_signals = ProcessSignals()

        async def work() -> str:
            for applied in (True, False):
                os.kill(os.getpid(), signal.SIGINT)
                for _round in range(100):  # the next rounds of the loop receive a signal
                    await asyncio.sleep(0)
                assert process_signals.raise_causes(state) is (applied or withdrawn)
                if withdrawn:
                    causes.clear()
                    assert not process_signals.raise_causes(state)
            return "in order"

        return await run_display.run_until_stopped(work(), process_signals.stop, process_signals.kill)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(signalled(withdrawn=False))
    causes.clear()
    assert asyncio.run(signalled(withdrawn=True)) == "in order"


def test_a_replay_is_traded_by_the_same_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The function behind the command takes the options and returns the outcome."""
    create_demo_instance(tmp_path)
    outcome = trade(RunOptions(mode="demo", home=tmp_path, symbols=("TARNO",), seed=3, rate=0.0), as_json=True)
    assert (outcome.summary.mode, outcome.summary.sessions, outcome.stopped) == ("demo", 1, False)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_terminal_that_has_hung_up_stops_no_run(tmp_path: Path) -> None:
    """The run whose output is closed ends as it would have."""
    create_demo_instance(tmp_path)
    requested, clock = RunOptions(mode="demo", home=tmp_path), SystemClock()
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        console = Console(file=cast("TextIO", GuardedStream(stream, "standard output")), force_terminal=True)
        os.close(ours)
        live = LiveView(requested, clock, console)
        plan = RunPlan(assembly=assemble(tmp_path, "demo", clock), request=FeedRequest(kind="demo"), wall=clock)
        with live:
            outcome = asyncio.run(run(plan, live.watcher))
    assert (outcome.stopped, outcome.summary.sessions) == (False, 1)


def test_f91_a_plugin_that_failed_is_shown_on_the_screen() -> None:
    """Its name, its words, and whether it is off."""
    payload = {"plugin": "strategy/open", "error": "scan: it hangs.", "off": True}
    (line,) = EventNarrator().lines_for([NewEvent(kind="plugin_failed", payload=payload, time=MORNING)])
    assert (line.weight, line.text) == (
        "risk",
        "Plugin strategy/open failed and is disabled for the rest of the session: scan: it hangs.",
    )


def test_a_cleared_cause_says_why_the_state_goes_on() -> None:
    """Because of other causes, or until when; and that the effect has ended."""

    def state(cause: StateCause, state: RiskState, *, there: bool, words: str = "") -> NewEvent:
        payload = codec.write(StateChanged(cause=cause, there=there, state=state.word, words=words))
        return NewEvent(kind=records.STATE, payload=payload, time=MORNING)

    narrated = EventNarrator().lines_for(
        [
            state(StateCause.DEFENSE_COMMAND, RiskState.DEFENSE, there=True),
            state(StateCause.KILL_COMMAND, RiskState.HALTED, there=True),
            state(StateCause.DEFENSE_COMMAND, RiskState.HALTED, there=False),
            state(StateCause.KILL_COMMAND, RiskState.NORMAL, there=False),
            state(StateCause.FEEDS_STALE, RiskState.EXIT_ONLY, there=True),
            state(StateCause.FEEDS_STALE, RiskState.EXIT_ONLY, there=False),
            state(StateCause.FEEDS_STALE, RiskState.NORMAL, there=False, words=OVER),
        ]
    )
    assert [line.text for line in narrated[2:4]] == [
        "tbot defense on cleared; state halted (tbot kill)",
        "tbot kill cleared; state normal",
    ]
    assert [line.text for line in narrated[5:]] == [
        "Over: every feed is stale; state exit-only until the account has agreed with the journal for 60 s",
        "No longer in effect: every feed is stale; state normal",
    ]


def test_a_cause_that_requires_less_than_the_state_is_not_named_as_its_cause() -> None:
    """The line names the cause of the state that it says, and what the new cause requires."""

    def state(cause: StateCause, state: RiskState) -> NewEvent:
        payload = codec.write(StateChanged(cause=cause, there=True, state=state.word, words=""))
        return NewEvent(kind=records.STATE, payload=payload, time=MORNING)

    narrated = EventNarrator().lines_for(
        [
            state(StateCause.FEEDS_STALE, RiskState.EXIT_ONLY),
            state(StateCause.UNIVERSE_STALE, RiskState.EXIT_ONLY),
        ]
    )
    assert [line.text for line in narrated] == [
        "State exit-only: every feed is stale",
        "State exit-only (every feed is stale); defense: over 20 % of the universe is stale",
    ]


@pytest.mark.slow
def test_lines_that_cannot_be_written_end_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the session is traded to its end, and the log names the display; the summary fails."""
    create_demo_instance(tmp_path)
    clock, requested = ManualClock(MORNING), RunOptions(mode="demo", home=tmp_path)
    plan = RunPlan(
        assembly=assemble(tmp_path, "demo", clock), request=FeedRequest(kind="demo", sessions=1, seed=0), wall=clock
    )
    log.configure("info", "json", tmp_path / "before", screen=False)  # takes the lines that earlier tests left
    log.configure("info", "json", tmp_path / "logs", screen=False)
    with (
        Path("/dev/full").open("w", encoding="utf-8") as stream,
        run_display.PlainDisplay(requested, silent=False) as lines,
    ):
        monkeypatch.setattr(sys, "stdout", GuardedStream(stream, "standard output"))
        outcome = asyncio.run(run(plan, lines.watcher))
        assert outcome.summary.trades
        with pytest.raises(AccessError, match="Cannot write to standard output"):
            lines.end(outcome)
    assert (tmp_path / "logs" / "tbot.log").read_text().count("observer.failed") == 3


def interrupt(home: Path) -> None:
    """Stop the demo in its second session."""
    create_demo_instance(home)
    clock = ManualClock(MORNING)
    plan = RunPlan(assembly=assemble(home, "demo", clock), request=FeedRequest(kind="demo", sessions=2), wall=clock)

    def minute(session: TradingSession, index: int) -> None:
        if index == 3 and session.session.date > dt.date(2026, 3, 2):
            plan.stop.set()

    asyncio.run(run(plan, RunWatcher(on_minute=minute)))


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_a_run_that_goes_on_says_which_and_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    """The closed sessions are counted before anything is traded, with --json on standard error."""
    interrupt(tmp_path)
    capsys.readouterr()
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(tmp_path), *["--json"][: int(as_json)]]) == 0
    said = capsys.readouterr()
    words = "Resumed after 1 closed session."
    assert words in (said.err if as_json else said.out).splitlines()
    assert cli.invoke(["run", "--demo", "--sessions", "2", "--home", str(tmp_path)]) == 0
    assert "Resum" not in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "moment"), [("demo", None), ("paper", MORNING)])
def test_the_live_view_says_that_a_run_goes_on(tmp_path: Path, mode: Any, moment: dt.datetime | None) -> None:
    """Which run, and in which session, stands among what happened from the first picture on.

    The hour of the day is no moment of a simulated run.
    """
    live = LiveView(RunOptions(mode=mode, home=tmp_path), ManualClock(MORNING), Console(file=io.StringIO()))
    label = FeedLabel(name="simulated market", simulated=True, quotes=False)
    live.watcher.on_resumed("b1", "2026-03-02")
    live.watcher.on_started(cast("Feed", SimpleNamespace(label=label)), SessionBook())
    assert [(line.time, line.text) for line in live.frame.events] == [
        (moment, "Resuming the session of 2026-03-02 (run b1).")
    ]
    assert plain_line(live.frame.events[0]).startswith("Resuming") is (moment is None)
