"""Causes that a session before has left: they go with the one who judged them, and what a person asked for stays."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import codec, records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.store import Event, NewEvent, open_journal, read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.types import RiskState
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.system import filesystem
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession

MORNING = dt.datetime(2026, 11, 24, 13, 30, tzinfo=dt.UTC)
OWNED_ELSEWHERE = [
    StateCause.NOT_ARMED,
    StateCause.BROKERS_DOWN,
    StateCause.PRIMARY_DOWN,
    StateCause.FEEDS_STALE,
    StateCause.UNIVERSE_STALE,
]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """One broker, whole minutes, not live: no arming, no failover, no feed health."""
    with simulated_instance(tmp_path) as made:
        yield made


def entries(cause: StateCause, at: dt.datetime) -> list[NewEvent]:
    """A cause that stood when a session closed."""
    state = codec.write(StateChanged(cause=cause, there=True, state=RiskState.EXIT_ONLY.word, words="yesterday"))
    closed = {"date": "2026-01-02", "equity": "25000", "open": [], "account": "another"}
    return [
        NewEvent(kind=kind, payload=payload, time=at)
        for kind, payload in ((records.STATE, state), (records.SESSION_CLOSED, closed))
    ]


def leave(scene: SimulatedInstance, cause: StateCause) -> None:
    """It stood when the last session closed."""
    scene.journal.append(entries(cause, scene.world.start - dt.timedelta(days=3)))


@pytest.mark.slow
def test_causes_that_nobody_in_the_session_judges_are_over(scene: SimulatedInstance) -> None:
    """After live trading, without failover, or with another feed: the day is ready, and trades."""
    for cause in OWNED_ELSEWHERE:
        leave(scene, cause)
    scene.world.run(scene.life().run)
    assert scene.events(records.NOT_READY) == []
    assert len(scene.events(records.READY)) == 1
    assert scene.events(records.SENDING)
    assert not set(OWNED_ELSEWHERE) & set(recall_states(scene.journal.events()).causes)


@pytest.mark.slow
@pytest.mark.parametrize("cause", [StateCause.FEEDS_STALE, StateCause.UNIVERSE_STALE])
def test_a_feed_that_was_stale_at_the_last_close_says_nothing_of_today(
    scene: SimulatedInstance, cause: StateCause
) -> None:
    """The live feed that is heard today is judged by itself, from the bell on."""
    scene.live = True
    leave(scene, cause)
    scene.world.run(scene.life().run)
    assert scene.events(records.NOT_READY) == []
    told = [event for event in scene.events(records.STATE) if event.payload["cause"] == cause.name]
    assert told
    assert all(event.applied < scene.world.session.open for event in told)


@pytest.mark.slow
def test_what_a_feed_did_not_say_ends_with_the_session(scene: SimulatedInstance) -> None:
    """A feed that is stale at the close is no cause of the night."""
    scene.live = True

    def stale(run: TradingSession, minute: int) -> None:
        if minute == run.session.minutes - 1:
            assert life.session is not None
            life.session.trading_state.raise_cause(StateCause.FEEDS_STALE, "no message")

    scene.watch = stale
    life = scene.life()
    scene.world.run(life.run)
    assert recall_states(scene.journal.events()).causes == ()
    (closed,) = scene.events(records.SESSION_CLOSED)
    told = [event for event in scene.events(records.STATE) if event.payload["cause"] == "FEEDS_STALE"]
    assert [event.payload["there"] for event in told] == [True, False, False]
    assert told[1].applied >= closed.applied


@pytest.mark.slow
def test_a_cause_lingers_over_a_restart_in_the_session(scene: SimulatedInstance) -> None:
    """A restart without the judge takes the cause back, and it is over a minute of clean readings later."""

    def dies(_run: TradingSession, minute: int) -> None:
        if minute == 3:
            assert first.session is not None
            first.session.trading_state.raise_cause(StateCause.BROKERS_DOWN, "alpha, beta")
            raise MemoryError

    scene.watch = dies
    first = scene.life()

    async def lives() -> None:
        await asyncio.gather(first.run(), return_exceptions=True)
        scene.watch = lambda _run, _minute: None
        await scene.life().run()

    scene.world.run(lives)
    told = [event for event in scene.events(records.STATE) if event.payload["cause"] == "BROKERS_DOWN"]
    assert [(event.payload["there"], event.payload["words"]) for event in told] == [
        (True, "alpha, beta"), (False, "it does not apply in this session"), (False, "over"),
    ]  # fmt: skip
    assert (told[2].applied - told[1].applied).total_seconds() >= 60


@pytest.mark.first(1)
@pytest.mark.parametrize("cause", [StateCause.KILL_COMMAND, StateCause.DEFENSE_COMMAND])
def test_what_a_person_asked_for_stays(scene: SimulatedInstance, cause: StateCause) -> None:
    """It is withdrawn by whoever asked, in whichever session."""
    leave(scene, cause)
    scene.world.run(scene.life().run)
    assert recall_states(scene.journal.events()).causes == (cause,)


CALENDAR = ExchangeCalendar(overrides={MORNING.date(): EarlyClose(close=dt.time(11, 30))})
"""A session of two hours."""


def paper(home: Path, *causes: StateCause) -> list[Event]:
    """A paper session at the simulator after causes were left; what the journal holds then."""
    create_demo_instance(home)
    (home / "data").mkdir()
    filesystem.write_atomic(home / "data" / "install.id", b"one\n")
    path, loop = home / "data" / "tbot.sqlite", VirtualLoop()
    clock = LoopClock(loop, MORNING)
    journal = open_journal(path)
    for cause in causes:
        journal.append(entries(cause, MORNING - dt.timedelta(days=3))[:1])
    journal.close()
    assembly = attrs.evolve(assemble(home, "paper", clock), calendar=CALENDAR)
    request = FeedRequest(kind="live", calendar=CALENDAR)
    plan = RunPlan(assembly=assembly, request=request, wall=clock, once=True, watch_s=5.0)
    run_virtual(lambda: run(plan, RunWatcher()), loop)
    journal = read_journal(path)
    try:
        return list(journal.events())
    finally:
        journal.close()


@pytest.mark.slow
@pytest.mark.first(0)
def test_causes_of_a_brokers_market_do_not_bind_the_simulator(tmp_path: Path) -> None:
    """Paper trading at the simulator enters after a run that was live at a broker, and the journal says so."""
    events = paper(tmp_path, StateCause.NOT_ARMED, StateCause.UNRECONCILED, StateCause.FEEDS_STALE)
    assert "ALLOWED" in {event.payload["reason"] for event in events if event.kind == records.DECISION}
    assert recall_states(events).causes == ()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_kill_binds_the_simulator_too(tmp_path: Path) -> None:
    """Nothing is entered before it is cleared."""
    events = paper(tmp_path, StateCause.KILL_COMMAND)
    reasons = {event.payload["reason"] for event in events if event.kind == records.DECISION}
    assert reasons
    assert "ALLOWED" not in reasons
    assert recall_states(events).causes == (StateCause.KILL_COMMAND,)
