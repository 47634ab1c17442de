"""What a session on a live feed may not do, and when a loss counts: the rules by themselves."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.contracts import Broker, BrokerCapabilities
from tbot_core.engine.live.data_guard import DataGuard, out_of_hours
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.journal import records
from tbot_core.journal.events.feeds import FeedFilled, FeedGap
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, RiskState, SignalId, atoms_of
from tbot_core.testing.trades import fill, identity, order, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.exposure import RiskChange

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.engine.session.broker_session import SessionBooks
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.marketdata.live_feed import LiveFeedAggregator
    from tbot_core.model.steady_clock import SteadyClock


def guard(clock: ManualClock, desk: Any = None) -> DataGuard:
    """A guard of a session on data that are well."""
    well = SimpleNamespace(denial_reason=lambda *_asked: None, stale_marks=lambda *_asked: ())
    posts = [SimpleNamespace(decision_engine=desk)]
    run = SimpleNamespace(
        fills_on_bars=False,
        session=session(),
        decision_engine=desk,
        broker_sessions=posts,
        positions=[],
        tape=SimpleNamespace(closed=30),
    )
    return DataGuard(
        cast("LiveFeedAggregator", SimpleNamespace(health=well)),
        cast("SessionBooks", run),
        None,
        cast("TradingStateController", None),
        cast("SteadyClock", clock),
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-0.1, "the exchange is closed"),
        (0.0, "no order is sent in the first 30 s of a session"),
        (29.9, "no order is sent in the first 30 s of a session"),
        (30.0, ""),
        (23_399.9, ""),
        (23_400.0, "the exchange is closed"),
    ],
)
def test_nothing_is_sent_in_the_first_half_minute(seconds: float, words: str) -> None:
    """Entry or exit, before 09:30:30 and after the close it stays; between them both may leave."""
    assert out_of_hours(session(), session().open + timedelta(seconds=seconds)) == words


def test_a_breach_counts_when_two_marks_two_seconds_apart_agree() -> None:
    """One mark alone latches nothing, nor does one that was mended between."""
    clock = ManualClock(session().open + timedelta(minutes=30))
    latch = RiskChange(what="daily loss latch", cause="", value=Decimal(-2), limit=Decimal(-1))
    desk = SimpleNamespace(
        loss_limit_breached=True,
        check_losses=lambda *, priced=True: [latch] if priced else [],
        portfolio=SimpleNamespace(symbols=[]),
        position_manager=None,
    )
    guarding = guard(clock, desk)
    assert guarding._mark() == []
    clock.advance(1.9)
    assert guarding._mark() == []
    desk.loss_limit_breached = False
    assert guarding._mark() == []
    desk.loss_limit_breached = True
    clock.advance(1.0)
    assert guarding._mark() == []
    clock.advance(2.0)
    assert guarding._mark() == [latch]


def post_on(journal: Journal, clock: ManualClock, **limits: Any) -> SimpleNamespace:
    """A desk and its execution on a journal; its broker is not asked for anything."""
    desk = DecisionEngine(rules(**limits), session(), atoms_of(Decimal(100_000)), name)
    broker = cast("Broker", SimpleNamespace(capabilities=BrokerCapabilities(simulated=True)))
    venue = BrokerAccount(broker=broker, name="quiet", account_id="A1")
    return SimpleNamespace(
        decision_engine=desk, execution=ExecutionEngine(JournalRecorder(journal=journal, clock=clock), venue, desk)
    )


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


def at_half_the_price() -> SimpleNamespace:
    """Data that are well, with a fresh quote of 50.00 for every symbol."""
    seen = SimpleNamespace(silence="", stale=(), crowd=False, halted=frozenset())
    return SimpleNamespace(
        start=lambda _now: None,
        assess=lambda _now: seen,
        mid=lambda _symbol, _now, **_most: 50.0,
        stale_marks=lambda *_asked: (),
        symbols=("AAA",),
    )


def watching(post: SimpleNamespace, clock: ManualClock, asked: list[set[int]] | None = None) -> DataGuard:
    """A guard of a session at that desk, on data that are well; `asked` takes in the minutes that it wants again."""
    held = post.decision_engine.portfolio.symbols
    run = SimpleNamespace(
        fills_on_bars=False,
        session=session(),
        decision_engine=post.decision_engine,
        execution=post.execution,
        broker_sessions=[post],
        positions=held,
    )
    wanted = [] if asked is None else asked
    heard = SimpleNamespace(health=at_half_the_price(), restore_lost_minutes=lambda minutes: wanted.append({*minutes}))
    return DataGuard(
        cast("LiveFeedAggregator", heard),
        cast("SessionBooks", run),
        None,
        cast("TradingStateController", SimpleNamespace(set_cause=lambda *_said: None)),
        cast("SteadyClock", clock),
    )


def test_a_latch_before_the_first_minute_has_closed_is_written_down_at_once(tmp_path: Path) -> None:
    """What is carried over may gap beyond its limit: with no bar closed the latch is on disk, and restarts know it."""
    clock = ManualClock(session().open + timedelta(seconds=5))
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        post = post_on(journal, clock)
        post.decision_engine.portfolio.apply(fill(order(quantity="100"), "100"), identity(), Leg.ENTRY)
        guarding = watching(post, clock)
        for _ in range(6):
            asyncio.run(guarding.run_once(lambda _broker: ()))
            clock.advance(0.5)
        told = [event.payload["what"] for event in journal.events(kind=records.RISK)]
        assert told == ["daily loss latch", "defense"]
        after = post_on(journal, clock)
        recall = SessionRecovery(after.decision_engine, after.execution, {"AAA": 0})
        for event in journal.events():
            recall.apply(event)
        assert (after.decision_engine.exposure.daily_loss, after.decision_engine.exposure.own_state) == (
            True,
            RiskState.EXIT_ONLY,
        )


def test_a_losing_run_is_latched_at_once(tmp_path: Path) -> None:
    """Three trades closed at a loss, however small: it is written down and leaves exits only, as at the next start."""
    clock = ManualClock(session().open + timedelta(minutes=60))
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        post = post_on(journal, clock, max_consecutive_losses=3)
        guarding = watching(post, clock)
        told = []
        for minute in range(4):
            asyncio.run(guarding.run_once(lambda _broker: ()))
            told.append([event.payload["what"] for event in journal.events(kind=records.RISK)])
            last = attrs.evolve(fill(order(Leg.EXIT), "99"), time=session().moment(minute))
            post.decision_engine.exposure.count_closed(last, -1)
        assert told == [[], [], [], ["losing run latch"]]
        assert post.decision_engine.exposure.own_state is RiskState.EXIT_ONLY
        after = post_on(journal, clock)
        recall = SessionRecovery(after.decision_engine, after.execution, {})
        for event in journal.events():
            recall.apply(event)
        assert (after.decision_engine.exposure.losing_run, after.decision_engine.exposure.own_state) == (
            True,
            RiskState.EXIT_ONLY,
        )


def test_a_losing_run_makes_no_mark_count_sooner(tmp_path: Path) -> None:
    """The daily loss that one mark shows beside it still has to hold on two of them."""
    clock = ManualClock(session().open + timedelta(minutes=60))
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        post = post_on(journal, clock, max_consecutive_losses=1)
        post.decision_engine.portfolio.apply(fill(order(quantity="100"), "100"), identity(), Leg.ENTRY)
        post.decision_engine.exposure.count_closed(fill(order(Leg.EXIT), "99"), -1)
        asyncio.run(watching(post, clock).run_once(lambda _broker: ()))
        assert [event.payload["what"] for event in journal.events(kind=records.RISK)] == ["losing run latch"]
        assert not post.decision_engine.exposure.daily_loss


def test_what_of_a_gap_was_open_before_a_restart_is_asked_for_again(tmp_path: Path) -> None:
    """Minutes that were filled by then are not."""
    clock, asked = ManualClock(session().open + timedelta(minutes=30)), list[set[int]]()
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        post = post_on(journal, clock)
        guarding = watching(post, clock, asked)
        recorder = post.execution.recorder
        recorder.record(FeedGap(first=3, last=5, words="no prices for 130 s"))
        recorder.record(FeedFilled(minutes=(3,), open=2))
        guarding.restore(list(journal.events()))
        assert asked == [{4, 5}]
