"""The hours in which a session is traded: where calendar, broker and feed differ, the shorter session."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

import attrs
import numpy as np
import pytest

from tbot_core.contracts import LiveSession
from tbot_core.engine import control
from tbot_core.engine.live.feed_connection import common_hours, limit_to_hours, shortened_hours_text
from tbot_core.errors import Unavailable
from tbot_core.journal import records
from tbot_core.model.calendar import Session
from tbot_core.rehearsal.lifecycle import LifecycleBroker, SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import LEAD_S, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tbot_core.contracts import FeedSession
    from tbot_core.engine.session.session import TradingSession

OPEN = dt.datetime(2026, 3, 3, 14, 30, tzinfo=dt.UTC)


def session(first: int, last: int) -> Session:
    """A session between two minutes after the usual bell."""
    opens, closes = (OPEN + dt.timedelta(minutes=minute) for minute in (first, last))
    return Session(date=OPEN.date(), open=opens, close=closes)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """The bell rings five minutes after the start, and the day lasts 52 minutes."""
    with simulated_instance(tmp_path, World(5, (), rates={})) as made:
        yield made


def ask_to_stop(scene: SimulatedInstance, moment: dt.datetime) -> None:
    """Somebody gives `tbot stop` then."""
    world = scene.world
    after_s = LEAD_S + (moment - world.session.open).total_seconds()
    world.loop.call_at(
        after_s,
        lambda: (
            control.write_request(scene.folder, control.ControlVerb.STOP, actor="me", now=world.clock.now()) and None
        ),
    )


@pytest.mark.parametrize(
    ("theirs", "found", "said"),
    [
        (session(0, 390), session(0, 390), ""),
        (session(-60, 500), session(0, 390), ""),
        (session(0, 210), session(0, 210), "closes at 18:00 UTC (13:00 New York)"),
        (session(30, 390), session(30, 390), "opens at 15:00 UTC (10:00 New York)"),
        (
            session(30, 210),
            session(30, 210),
            "opens at 15:00 UTC (10:00 New York), closes at 18:00 UTC (13:00 New York)",
        ),
        (session(400, 500), None, "closed"),
        (None, None, "closed"),
    ],
)
def test_the_later_open_and_the_earlier_close_count(theirs: Session | None, found: Session | None, said: str) -> None:
    """Neither calendar adds a minute to the other, and what is taken away is said in words."""
    ours = session(0, 390)
    assert common_hours(ours, theirs) == found
    assert shortened_hours_text(ours, found) == said


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("live", [False, True])
def test_a_brokers_early_close_ends_the_session(scene: SimulatedInstance, *, live: bool) -> None:
    """Every position is closed before it and nothing is sent after it, on whole minutes and on a live feed."""
    ours, scene.live = scene.world.session, live
    early = attrs.evolve(ours, close=ours.moment(45))
    scene.broker = LifecycleBroker(scene.world, hours={ours.date: early})
    life = scene.life()
    scene.world.run(life.run)
    assert [one.payload["words"] for one in scene.events(records.CALENDAR)] == ["closes at 15:15 UTC (10:15 New York)"]
    (opened,), (closed,) = scene.events(records.SESSION_OPENED), scene.events(records.SESSION_CLOSED)
    assert (opened.payload["close"], opened.payload["minutes"]) == (early.close.isoformat(), 45)
    assert early.close <= closed.applied < early.close + dt.timedelta(minutes=1)
    assert closed.payload["trades"] > 0
    assert closed.payload["open"] == []
    assert all(one.applied < early.close for one in scene.events(records.SENDING))
    assert life.session is not None
    assert life.session.run.tape.closed == 45


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("live", [False, True])
def test_a_brokers_late_open_begins_the_session(scene: SimulatedInstance, *, live: bool) -> None:
    """The windows keep their distance to it, and its first bar is that of the minute in which it opens."""
    ours, scene.live = scene.world.session, live
    late = attrs.evolve(ours, open=ours.moment(3))
    scene.broker = LifecycleBroker(scene.world, hours={ours.date: late})
    life = scene.life()
    scene.world.run(life.run)
    (opened,) = scene.events(records.SESSION_OPENED)
    assert opened.payload["open"] == late.open.isoformat()
    assert all(one.applied >= late.open for one in scene.events(records.SENDING))
    assert scene.events(records.SENDING)
    assert life.session is not None
    bars = life.session.run.tape.bars
    assert bars.field("close").shape[0] == late.minutes
    true = scene.world.market.minute(3).close
    came = ~np.isnan(bars.field("close")[0])
    assert came.any()
    assert np.array_equal(bars.field("close")[0][came], true[came])


def test_a_broker_that_has_closed_already_keeps_the_day_from_being_opened(scene: SimulatedInstance) -> None:
    """The bot is started after the broker's early close: the next session is waited for."""
    world, ours = scene.world, scene.world.session
    scene.broker = LifecycleBroker(world, hours={ours.date: attrs.evolve(ours, close=ours.moment(20))})
    ask_to_stop(scene, ours.close + dt.timedelta(seconds=30))

    async def late() -> bool:
        await world.clock.sleep_until(ours.moment(25))
        return await scene.life().run()

    assert world.run(late) is True
    assert len(scene.events(records.CALENDAR)) == 1
    assert scene.events(records.SESSION_OPENED) == []


def test_a_feed_that_knows_of_an_earlier_close_ends_the_session_too(scene: SimulatedInstance) -> None:
    """Hours of a source that are shorter than those agreed upon stay as they are."""
    source, ours = scene.world.feed(), scene.world.session
    assert limit_to_hours(source, ours) is source
    assert limit_to_hours(source, attrs.evolve(ours, close=ours.close + dt.timedelta(hours=1))) is source


def heard(source: FeedSession) -> list[int]:
    """The indices of a feed's minutes, heard to its end."""

    async def listen() -> list[int]:
        return [minute.index async for minute in source.minutes()]

    return asyncio.run(listen())


class Spoiled:
    """A feed whose next minute after the cut would never come."""

    def __init__(self, world: World, last: int) -> None:
        self._world, self._last = world, last
        self.session, self.symbols = world.session, world.market.symbols
        typical = np.zeros((len(self.symbols), self.session.minutes))
        self.day = attrs.evolve(world.feed().day, typical_volume=typical)

    async def minutes(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """The minutes to the last one."""
        for index in range(self.session.minutes):
            assert index <= self._last
            yield self._world.market.minute(index)


def test_what_is_cut_off_is_not_waited_for() -> None:
    """The minutes are counted from the later open, the last ends at the earlier close, and so does what is usual."""
    world = World(5, (), rates={})
    cut = limit_to_hours(Spoiled(world, 19), session(5, 20))
    assert not isinstance(cut, LiveSession)
    assert heard(cut) == list(range(15))
    assert cut.day.typical_volume is not None
    assert cut.day.typical_volume.shape[-1] == 15


class Silent(LifecycleBroker):
    """A broker that does not say when it trades."""

    asked = 0

    async def hours(self, day: dt.date) -> Session | None:
        """No answer."""
        self.asked += 1
        raise Unavailable(f"nothing is known of {day}")


@pytest.mark.parametrize("by_signal", [False, True])
def test_a_stop_is_obeyed_while_the_broker_does_not_say_when_it_trades(
    scene: SimulatedInstance, *, by_signal: bool
) -> None:
    """Within a second, and the broker is asked no more often than one that cannot be logged in to."""
    scene.broker = silent = Silent(scene.world)

    async def lives() -> float:
        life = asyncio.ensure_future(scene.life(once=False).run())
        clock = scene.world.clock
        await clock.sleep(30)
        if by_signal:
            scene.signals.stop.set()
        else:
            control.write_request(scene.folder, control.ControlVerb.STOP, actor="me", now=clock.now())
        asked = clock.monotonic()
        assert await life is True
        return clock.monotonic() - asked

    assert scene.world.run(lives) <= 1.0
    assert silent.asked == 5  # after 0, 1, 3, 7 and 15 s
    (told,) = scene.events(records.NOT_READY)
    assert told.payload["reasons"][0].startswith("the broker does not report its trading hours: nothing is known of")


def test_a_session_under_way_goes_on_in_its_hours_while_the_broker_does_not_say_them(scene: SimulatedInstance) -> None:
    """After a restart what is held is looked after at once, and closed by the end that was agreed upon."""

    def watch(run: TradingSession, _minute: int) -> None:
        if run.books.positions:
            raise InterruptedError

    async def lives() -> bool:
        ours = scene.world.session
        scene.broker = LifecycleBroker(scene.world, hours={ours.date: attrs.evolve(ours, close=ours.moment(45))})
        scene.watch = watch
        with pytest.raises(InterruptedError):
            await scene.life().run()
        scene.watch = lambda _run, _minute: None
        scene.broker = Silent(scene.world)
        return await scene.life().run()

    assert scene.world.run(lives) is False
    (closed,) = scene.events(records.SESSION_CLOSED)
    assert closed.payload["open"] == []
    assert closed.applied < scene.world.session.moment(46)
