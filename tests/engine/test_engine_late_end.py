"""A session that was not ended is ended as soon as the bot runs again."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.alerts.rules import AlertRules, RoutineEvents
from tbot_core.engine import control
from tbot_core.engine.live.session_tasks import settle_orders
from tbot_core.engine.session.config import ProcessSignals
from tbot_core.errors import Unavailable
from tbot_core.execution.reconciler import LEAST_WINDOW_S
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent
from tbot_core.marketdata import received_bars, received_files
from tbot_core.model.bars import MinuteSlice
from tbot_core.model.day_facts import DayFacts
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.contracts import AccountSnapshot, BrokerEvent, OrderStatusReport
    from tbot_core.engine.session.session import TradingSession


class Dead(Exception):
    """The process is no more."""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The process dies as soon as something is held."""
    with simulated_instance(tmp_path, World(5, (), rates={})) as made:
        made.watch = dies
        yield made


@pytest.fixture
def brief(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """A session of ten minutes, for what happens at its close."""
    with simulated_instance(tmp_path, World(5, (), rates={}, minutes=10)) as made:
        yield made


def dies(run: TradingSession, _minute: int) -> None:
    """The end of a process that holds something."""
    if run.books.positions:
        raise Dead


async def lives_again(scene: SimulatedInstance, after: dt.timedelta, hours: float) -> None:
    """The bot dies in the session, is started again so long after its close, and is looked at for some hours."""
    with pytest.raises(Dead):
        await scene.life(once=False).run()
    scene.watch = lambda _run, _minute: None
    clock = scene.world.clock
    await clock.sleep_until(scene.world.session.close + after)
    life = asyncio.ensure_future(scene.life(once=False).run())
    await clock.sleep(hours * 3600.0)
    assert not life.done()
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


def test_a_start_after_the_close_says_at_once_what_is_held_over_the_night(scene: SimulatedInstance) -> None:
    """The account is read, the session is ended under its own date, and what it holds is STUCK within minutes."""
    world = scene.world
    world.run(lambda: lives_again(scene, dt.timedelta(minutes=5), 1.0))
    (held,) = world.way(world.names[0]).exchange.matching.books.holdings()
    (closed,) = scene.events(records.SESSION_CLOSED)
    assert (closed.payload["date"], closed.payload["open"]) == (str(world.session.date), [held.symbol])
    assert closed.applied < world.session.close + dt.timedelta(minutes=10)
    watch = AlertRules(RoutineEvents())
    for event in scene.journal.events():
        watch.apply(event)
    standing = [one.what for one in watch.open_incidents(world.clock.now()).values()]
    assert any(what.startswith(f"STUCK: long {held.quantity} {held.symbol}") for what in standing)


def test_a_broker_that_is_away_when_a_session_is_to_be_ended_is_asked_until_it_is_there(
    scene: SimulatedInstance,
) -> None:
    """That the bot is not ready is said with the reason, and the session is ended once the line is there."""

    async def lives() -> None:
        with pytest.raises(Dead):
            await scene.life().run()
        scene.broker = LifecycleBroker(scene.world, deaf=4)
        scene.watch = dies
        await scene.world.clock.sleep_until(scene.world.session.close)
        life = asyncio.ensure_future(scene.life(once=False).run())
        await scene.world.clock.sleep(600.0)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    scene.world.run(lives)
    (told,) = scene.events(records.NOT_READY)
    assert "the line is dead" in told.payload["reasons"][0]
    assert told.payload["session"] == str(scene.world.calendar.next(scene.world.session.date).date)
    assert len(scene.events(records.SESSION_CLOSED)) == 1


def test_a_session_that_is_over_by_the_brokers_hours_is_ended_before_the_exchange_closes(
    scene: SimulatedInstance,
) -> None:
    """The bot died in a session that the broker cut short: the account is read at once, the day not opened again."""
    ours = scene.world.session
    early = attrs.evolve(ours, close=ours.moment(45))
    scene.broker = LifecycleBroker(scene.world, hours={ours.date: early})
    scene.world.run(lambda: lives_again(scene, early.close - ours.close + dt.timedelta(minutes=1), 1.0))
    read = [event.applied for event in scene.events(records.STATE)][-1]
    assert early.close < read < ours.close
    assert [event.payload["open"] for event in scene.events(records.SESSION_CLOSED)] == [["AMD"]]
    assert len(scene.events(records.SESSION_OPENED)) == 1


def test_a_stop_that_waits_ends_the_run_once_the_session_is_ended(scene: SimulatedInstance) -> None:
    """What the account holds is found out and said first."""

    async def lives() -> bool:
        with pytest.raises(Dead):
            await scene.life().run()
        await scene.world.clock.sleep_until(scene.world.session.close + dt.timedelta(minutes=5))
        control.write_request(scene.folder, control.ControlVerb.STOP, actor="me", now=scene.world.clock.now())
        return await scene.life(once=False).run()

    assert scene.world.run(lives) is True
    assert len(scene.events(records.STUCK)) == 1
    assert len(scene.events(records.SESSION_CLOSED)) == 1


class Leaving(LifecycleBroker):
    """A client whose account cannot be read from just before the close, for so many seconds."""

    def __init__(self, world: World, away_s: float) -> None:
        super().__init__(world)
        self._world, self._away_s = world, away_s

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """Read the account."""
        away = (self._world.clock.now() - self._world.session.close).total_seconds()
        if -1.0 <= away < self._away_s:
            raise Unavailable("the line is dead")
        found: AccountSnapshot = await self._client.snapshot(since)
        return found


@pytest.mark.parametrize(("away_s", "after_s"), [(60.0, 60.0), (math.inf, LEAST_WINDOW_S)])
def test_a_broker_that_is_away_at_the_close_is_asked_again_for_ten_minutes(
    brief: SimulatedInstance, away_s: float, after_s: float
) -> None:
    """As long as an order may turn up; a minute's silence leaves no day without its statement."""
    brief.broker = Leaving(brief.world, away_s)
    assert brief.world.run(brief.life().run) is False
    (closed,) = brief.events(records.SESSION_CLOSED)
    assert 0 <= (closed.applied - brief.world.session.close).total_seconds() - after_s < 30
    assert len(brief.events(records.STATEMENT)) == (1 if away_s == math.inf else 2)


@pytest.mark.parametrize("verb", [None, control.ControlVerb.STOP])
def test_a_stop_ends_the_wait_for_a_broker_that_died_at_the_close(
    brief: SimulatedInstance, verb: control.ControlVerb | None
) -> None:
    """A signal too: nothing is stated, and the next start reads the account and ends the session."""
    brief.broker = Leaving(brief.world, 300.0)
    clock, close = brief.world.clock, brief.world.session.close

    async def lives() -> float:
        life = asyncio.ensure_future(brief.life(once=False).run())
        await clock.sleep_until(close + dt.timedelta(seconds=90))
        if verb is None:
            brief.signals.stop.set()
        else:
            control.write_request(brief.folder, verb, actor="me", now=clock.now())
        assert await life
        after_s = (clock.now() - close).total_seconds() - 90
        assert not brief.events(records.SESSION_CLOSED)
        brief.signals = ProcessSignals()
        life = asyncio.ensure_future(brief.life(once=False).run())
        await clock.sleep(600.0)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        return after_s

    assert brief.world.run(lives) < 5
    assert len(brief.events(records.SESSION_CLOSED)) == 1
    assert len(brief.events(records.STATEMENT)) == 2


@pytest.mark.parametrize(("asked_s", "ends_s"), [(100.0, 130.0), (math.inf, 720.0)])
def test_a_stop_leaves_orders_in_flight_at_the_close_some_seconds(
    scene: SimulatedInstance, asked_s: float, ends_s: float
) -> None:
    """Without a stop they are awaited as long as a lookup may find them."""
    clock = scene.world.clock
    waiting: Any = [SimpleNamespace(broker_session=SimpleNamespace(in_flight=True))]

    async def waits() -> float:
        began = clock.monotonic()
        ended = await settle_orders(waiting, clock, 720.0, lambda: clock.monotonic() - began >= asked_s, 30.0)
        assert ended is (asked_s == math.inf)
        return clock.monotonic() - began

    assert scene.world.run(waits) == pytest.approx(ends_s, abs=2.0)


@pytest.mark.slow
def test_the_bars_of_a_session_that_is_ended_late_are_found(scene: SimulatedInstance, tmp_path: Path) -> None:
    """Its recording stays the latest of its day: `tbot why` reads the minutes that were received."""
    old, folder = scene.world.calendar.previous(scene.world.session.date), tmp_path / "received"
    day = DayFacts.unknown(2)
    header = received_bars.RecordingHeader(
        session=old, symbols=("AAA", "BBB"), day=day, source="f", coverage="consolidated", cut=()
    )
    values = np.array([100.0, 50.0])
    minute = MinuteSlice(index=0, **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), values))
    kept = received_bars.RecordedMinute(minute=minute, late=(), revised=(), filled=False, at=old.moment(1), counts={})
    received_bars.SessionRecorder.open(folder, header).append(kept)
    equity = str(scene.world.way(scene.world.names[0]).exchange.account().equity)
    opened = {"date": str(old.date), "primary": "w", "account": "a", "open": old.open.isoformat(), "symbols": 2,
              "close": old.close.isoformat(), "minutes": old.minutes, "equity": equity}  # fmt: skip
    scene.journal.append([NewEvent(kind=records.SESSION_OPENED, payload=opened, time=old.open)])
    scene.watch = lambda _run, _minute: None
    life = scene.life()
    life.config = attrs.evolve(life.config, received=folder)
    scene.world.run(life.run)
    assert len(scene.events(records.SESSION_CLOSED)) == 2
    path = received_files.recorded_file(folder, old.date)
    assert path is not None
    assert len(received_bars.read_recording(path).records) == 1


class Mute(LifecycleBroker):
    """A broker that can be logged in to, and answers nothing else until that moment."""

    def __init__(self, world: World, until: dt.datetime) -> None:
        super().__init__(world)
        self._clock = world.clock
        self.until = until

    def _listen(self) -> None:
        if self._clock.now() < self.until:
            raise Unavailable("maintenance")

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """Only when it is over."""
        self._listen()
        return await self._client.snapshot(since)

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """Only when it is over."""
        self._listen()
        return await self._client.find(client_order_id)

    async def poll(self) -> Sequence[BrokerEvent]:
        """Only when it is over."""
        self._listen()
        return await self._client.poll()


async def falls_silent(scene: SimulatedInstance, minutes: float, looks: dt.timedelta) -> asyncio.Future[bool]:
    """The bot dies with an entry at work, and is started again beside a broker that is mute; it is left after a while.

    What it left at work fills meanwhile.
    """

    def watch(run: TradingSession, _minute: int) -> None:
        if run.decision_engine.exposure.working:
            raise Dead

    scene.watch = watch
    with pytest.raises(Dead):
        await scene.life(once=False).run()
    scene.watch = lambda _run, _minute: None
    clock = scene.world.clock
    await clock.sleep_until(scene.world.session.close + dt.timedelta(minutes=5))
    scene.broker = Mute(scene.world, clock.now() + dt.timedelta(minutes=minutes))
    life = asyncio.ensure_future(scene.life(once=False).run())
    await clock.sleep(looks.total_seconds())
    return life


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_session_is_not_ended_before_its_account_has_been_read(scene: SimulatedInstance) -> None:
    """However long that takes: what an order filled unheard is STUCK, and not forgotten with the session's end."""

    async def lives() -> None:
        life = await falls_silent(scene, 90.0, dt.timedelta(minutes=89))
        assert scene.events(records.SESSION_CLOSED) == []
        await scene.world.clock.sleep(600.0)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    scene.world.run(lives)
    (held,) = scene.world.way(scene.world.names[0]).exchange.matching.books.holdings()
    (closed,), (stuck,) = scene.events(records.SESSION_CLOSED), scene.events(records.STUCK)
    assert closed.payload["open"] == [held.symbol] == [stuck.payload["symbol"]]
    told = {event.payload["reasons"][0] for event in scene.events(records.NOT_READY)}
    assert told == {"the previous session has not ended: the account cannot be read"}


def test_a_stop_does_not_wait_for_an_account_that_cannot_be_read(scene: SimulatedInstance) -> None:
    """The run ends at once, and leaves the session to the next start."""

    async def lives() -> bool:
        life = await falls_silent(scene, 90.0, dt.timedelta(minutes=2))
        control.write_request(scene.folder, control.ControlVerb.STOP, actor="me", now=scene.world.clock.now())
        await scene.world.clock.sleep(2.0)
        assert life.done()
        return await life

    assert scene.world.run(lives) is True
    assert scene.events(records.SESSION_CLOSED) == []
    assert [event.payload["there"] for event in scene.events(records.STATE)][-1] is False


@pytest.mark.slow
@pytest.mark.first(0)  # that nothing ends before the account is read is tested below
def test_disarming_waits_for_the_next_session_while_the_one_before_cannot_be_ended(scene: SimulatedInstance) -> None:
    """However long the account is not read, the request lies where it is until somebody can obey it."""

    async def lives() -> None:
        life = await falls_silent(scene, 90.0, dt.timedelta(minutes=2))
        control.write_request(scene.folder, control.ControlVerb.DISARM, actor="me", now=scene.world.clock.now())
        await scene.world.clock.sleep(6000.0)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    scene.world.run(lives)
    assert len(scene.events(records.SESSION_CLOSED)) == 1
    assert scene.events(records.REQUEST) == scene.events(records.REQUEST_REFUSED) == []
    assert [one.verb for one in control.read_folder(scene.folder).requests] == [control.ControlVerb.DISARM]
