"""A session that goes on after a restart while its feed is silent: what is held and what works is looked after."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, FeedSession, LiveSession, PositionReport
from tbot_core.engine import control
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.session.arming import LiveContext
from tbot_core.errors import DataError, Unavailable
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import ArmingTerms
from tbot_core.journal.projections.book import fold_events
from tbot_core.model.calendar import Session
from tbot_core.model.types import Leg
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import World
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession


class Dead(Exception):
    """The process is no more."""


@attrs.define(eq=False)
class Feed:
    """A feed that may not answer: for as long as it has a `fault`, which it says after `hangs_s` seconds."""

    bars: Callable[[Session], Coroutine[Any, Any, FeedSession | LiveSession]]
    fault: Exception | None = None
    hangs_s: float = 0.0

    async def __call__(self, session: Session) -> FeedSession | LiveSession:
        """The world's bars."""
        if self.hangs_s:
            await asyncio.sleep(self.hangs_s)
        if self.fault is not None:
            raise self.fault
        return await self.bars(session)


@pytest.fixture(params=[True, False], ids=["live", "minutes"])
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SimulatedInstance]:
    """A feed of either kind."""
    with simulated_instance(tmp_path, World(5, (), rates={})) as made:
        made.live = request.param
        yield made


@pytest.fixture
def feed(scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch) -> Feed:
    """The feed of every life in the scene."""
    found = Feed(scene.bars)
    monkeypatch.setattr(SimulatedInstance, "bars", lambda _self, session: found(session))
    return found


async def dies(scene: SimulatedInstance, when: Callable[[TradingSession], bool]) -> None:
    """A life that ends with the first minute of which that is true."""

    def watch(run: TradingSession, _minute: int) -> None:
        if when(run):
            raise Dead

    scene.watch = watch
    with pytest.raises(Dead):
        await scene.life(once=False).run()
    scene.watch = lambda _run, _minute: None


def holds(run: TradingSession) -> bool:
    """Whether something is held."""
    return bool(run.books.positions)


def works(run: TradingSession) -> bool:
    """Whether an entry waits at the broker."""
    return bool(run.decision_engine.exposure.working)


def held(scene: SimulatedInstance) -> list[str]:
    """The symbols that the broker holds."""
    books = scene.world.way(scene.world.names[0]).exchange.matching.books
    return [one.symbol for one in books.holdings()]


@pytest.mark.slow
@pytest.mark.parametrize("hangs_s", [0.0, 120.0])
def test_a_kill_is_obeyed_and_entries_are_taken_back_while_the_feed_is_silent(
    scene: SimulatedInstance, feed: Feed, hangs_s: float
) -> None:
    """No entry is left at the broker, and what it has filled is protected: neither waits for bars, nor for a no."""

    async def lives() -> None:
        await dies(scene, works)
        feed.fault, feed.hangs_s = Unavailable("no feed"), hangs_s
        life = asyncio.ensure_future(scene.life(once=False).run())
        clock = scene.world.clock
        await clock.sleep(1)
        control.write_request(scene.folder, ControlVerb.KILL, actor="me", now=clock.now())
        await clock.sleep(30)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    scene.world.run(lives)
    assert len(scene.events(records.REQUEST)) == 1
    living = [one.order.leg for one in fold_events(scene.journal.events()).orders.values() if not one.terminal]
    assert living == [Leg.STOP] * len(held(scene))


@pytest.mark.slow
def test_what_is_held_is_closed_when_that_is_asked_for_and_the_feed_is_silent(
    scene: SimulatedInstance, feed: Feed
) -> None:
    """The run ends once it is closed, long before the session does."""

    async def lives() -> bool:
        await dies(scene, holds)
        feed.fault = Unavailable("no feed")
        control.write_request(scene.folder, ControlVerb.STOP_FLATTEN, actor="me", now=scene.world.clock.now())
        return await scene.life(once=False).run()

    assert scene.world.run(lives) is True
    assert not held(scene)
    assert scene.world.clock.now() < scene.world.session.close - dt.timedelta(minutes=10)


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_session_whose_feed_stays_silent_is_closed_at_its_end(scene: SimulatedInstance, feed: Feed) -> None:
    """Nothing is entered, the feed's silence is a cause, and nothing is held over the night."""

    async def lives() -> bool:
        await dies(scene, holds)
        feed.fault = Unavailable("no feed")
        return await scene.life().run()

    assert scene.world.run(lives) is False
    assert not held(scene)
    (closed,) = scene.events(records.SESSION_CLOSED)
    assert closed.payload["open"] == []
    told = scene.events(records.NOT_READY)
    assert told[0].payload["reasons"] == ["the feed does not respond: no feed"]
    stale = [event for event in scene.events(records.STATE) if event.payload["cause"] == StateCause.FEEDS_STALE.name]
    assert [event.payload["there"] for event in stale][:1] == [True]
    entries = [event for event in scene.events(records.INTENDED) if event.payload["leg"] == "entry"]
    assert entries
    assert all(event.seq < told[0].seq for event in entries)
    assert scene.events(records.STUCK) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [Unavailable("no feed"), DataError("no bars of that day", "Wait."), ValueError("no JSON")]
)
def test_the_session_goes_on_as_it_was_once_the_feed_answers(
    scene: SimulatedInstance, feed: Feed, fault: Exception
) -> None:
    """Its minutes are traded again, whatever was said while it was asked for; it is opened and closed once."""
    traded: list[int] = []

    async def lives() -> bool:
        await dies(scene, holds)
        feed.fault = Unavailable("no feed")
        scene.watch = lambda run, minute: traded.append(minute) if run.entrants else None
        life = asyncio.ensure_future(scene.life().run())
        await scene.world.clock.sleep(1)
        feed.fault = fault
        await scene.world.clock.sleep(200)
        assert held(scene)
        assert not traded
        feed.fault = None
        return await life

    assert scene.world.run(lives) is False
    minutes = scene.world.session.minutes
    assert traded[-1] == minutes - 1
    assert traded == [*range(traded[0], minutes)]
    assert len(scene.events(records.SESSION_OPENED)) == len(scene.events(records.SESSION_CLOSED)) == 1
    assert not held(scene)
    stale = [event for event in scene.events(records.STATE) if event.payload["cause"] == StateCause.FEEDS_STALE.name]
    assert not stale[-1].payload["there"]


@pytest.mark.slow
def test_a_stop_under_way_is_carried_out_before_another_goes_on(scene: SimulatedInstance, feed: Feed) -> None:
    """The feed answers while what is held is being closed: the run ends closed, not handed over half."""

    async def lives() -> bool:
        await dies(scene, holds)
        feed.fault = Unavailable("no feed")
        life = asyncio.ensure_future(scene.life(once=False).run())
        clock = scene.world.clock
        await clock.sleep(90)
        control.write_request(scene.folder, ControlVerb.STOP_FLATTEN, actor="me", now=clock.now())
        await clock.sleep(1)
        feed.fault = None
        return await life

    assert scene.world.run(lives) is True
    assert not held(scene)
    assert scene.world.clock.now() < scene.world.session.close - dt.timedelta(minutes=10)


@pytest.mark.first(1)
def test_an_arming_outlives_three_restarts_beside_a_feed_that_answers_late(
    scene: SimulatedInstance, feed: Feed
) -> None:
    """Only a process that comes again is a restart, not the feed that it hears in the end."""
    clock = scene.world.clock
    terms = ArmingTerms(mode="live", account="a", settings="s", plugins="p")
    scene.arming = LiveContext(terms=terms, calendar=scene.calendar)

    async def lives(seconds: float) -> None:
        life = scene.life(once=False)
        alive = asyncio.ensure_future(life.run())
        await clock.sleep(seconds / 2)
        feed.fault = None
        await clock.sleep(seconds / 2)
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)

    async def restarts() -> None:
        control.write_request(
            scene.folder, ControlVerb.ARM, actor="me", now=clock.now(), arguments={"sessions": "1", "settings": "s"}
        )
        await lives((scene.world.session.open - clock.now()).total_seconds() + 300)
        for _ in range(3):
            feed.fault = Unavailable("no feed")
            await lives(60)

    scene.world.run(restarts)
    assert [event.payload["restarts"] for event in scene.events(records.ARMING_KEPT)] == [1, 2, 3]
    assert scene.events(records.DISARMED) == []


class Changed(LifecycleBroker):
    """A broker whose readings fail for a while, and that holds more afterwards than anybody has written down."""

    def __init__(self, world: World, fails_until: float) -> None:
        super().__init__(world)
        self._clock, self._fails_until = world.clock, fails_until

    async def snapshot(self, since: dt.datetime) -> AccountSnapshot:
        """A reading."""
        if self._clock.monotonic() < self._fails_until:
            raise Unavailable("time-out")
        found: AccountSnapshot = await self._client.snapshot(since)
        more = PositionReport(symbol="ZZZ", quantity=Decimal(50), average_price=Decimal(10))
        return attrs.evolve(found, holdings=(*found.holdings, more))


@pytest.mark.slow
@pytest.mark.parametrize("hangs_s", [0.0, 3.0])
def test_an_arming_that_was_never_found_matched_does_not_survive_a_hand_over(
    scene: SimulatedInstance, feed: Feed, hangs_s: float
) -> None:
    """The feed answers before the account can be read, and the account holds something else: nothing is entered."""
    clock = scene.world.clock
    terms = ArmingTerms(mode="live", account="a", settings="s", plugins="p")
    scene.arming = LiveContext(terms=terms, calendar=scene.calendar)

    async def lives(seconds: float) -> None:
        alive = asyncio.ensure_future(scene.life(once=False).run())
        await clock.sleep(seconds)
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)

    async def restarts() -> int:
        control.write_request(
            scene.folder, ControlVerb.ARM, actor="me", now=clock.now(), arguments={"sessions": "1", "settings": "s"}
        )
        await lives((scene.world.session.open - clock.now()).total_seconds() + 120)
        scene.broker, feed.hangs_s = Changed(scene.world, clock.monotonic() + 20), hangs_s
        last, _ = scene.journal.head
        await lives(3600)
        return last

    last = scene.world.run(restarts)
    assert len(scene.events(records.DISARMED)) == 1
    entered = {one.cid for one in scene.events(records.INTENDED) if one.payload["leg"] == "entry"}
    assert [one.cid for one in scene.events(records.SENDING) if one.seq > last and one.cid in entered] == []
