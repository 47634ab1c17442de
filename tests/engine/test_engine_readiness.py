"""READY and NOT READY: what is heard before either is said, what READY says, and when it is taken back."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.contracts import FeedMessage, Heartbeat, InstrumentRules, LiveSession
from tbot_core.engine import control
from tbot_core.engine.live.feed_connection import OPEN_TIMEOUT_S, FeedConnection
from tbot_core.engine.live.readiness import AGAIN, LASTS
from tbot_core.errors import Unavailable
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent
from tbot_core.rehearsal.broker_client import SimulatedBroker
from tbot_core.rehearsal.feed import SimulatedLiveFeed
from tbot_core.rehearsal.lifecycle import SimulatedInstance, simulated_instance
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from tbot_core.trading.universe import Universe


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[SimulatedInstance]:
    """A live feed; the bell rings five minutes after the start."""
    with simulated_instance(tmp_path) as made:
        made.live = True
        yield made


class Heard:
    """The world's live feed, which refuses or is mute until some seconds after the start, or from then on."""

    def __init__(self, world: World, *, refuses: tuple[float, float] = (0, 0), mute_until: float = 0.0) -> None:
        self._world = world
        self._feed = world.live_feed()
        self._refuses = refuses
        self._mute_until = mute_until
        self.session, self.symbols, self.quality = self._feed.session, self._feed.symbols, self._feed.quality
        self.daily, self.history = self._feed.daily, self._feed.history

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """As the feed says it."""
        await asyncio.sleep(max(self._mute_until - self._now, 0.0))
        self._must_be_there()
        async for one in self._feed.messages(symbols):
            self._must_be_there()
            yield one

    @property
    def _now(self) -> float:
        return self._world.loop.time()

    def _must_be_there(self) -> None:
        begins, ends = self._refuses
        if begins <= self._now < ends:
            raise Unavailable("the vendor refuses the connection", "Wait.")


def hear(feed: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the session hear that feed."""

    async def bars(_self: SimulatedInstance, _session: object) -> LiveSession:
        return cast("LiveSession", feed)

    monkeypatch.setattr(SimulatedInstance, "bars", bars)


def seconds(scene: SimulatedInstance, kind: str) -> list[float]:
    """When something was said, in seconds from the start."""
    return [(event.applied - scene.world.start).total_seconds() for event in scene.events(kind)]


@pytest.mark.slow
def test_ready_is_said_once_the_account_has_been_read(scene: SimulatedInstance) -> None:
    """The reading at the start comes first."""
    scene.world.run(scene.life().run)
    (ready,) = scene.events(records.READY)
    read = [event.seq for event in scene.events(records.STATE) if event.payload["cause"] == "UNRECONCILED"]
    assert len(read) == 2
    assert ready.seq > max(read)


@pytest.mark.slow
def test_ready_says_what_the_day_begins_with(scene: SimulatedInstance) -> None:
    """Mode, arming, equity, feed, positions, windows and the planned worst day."""
    scene.world.run(scene.life().run)
    (ready,) = scene.events(records.READY)
    assert {name: ready.payload[name] for name in ("mode", "armed", "equity", "positions", "windows")} == {
        "mode": "paper", "armed": None, "equity": "25000.00", "positions": [], "windows": ["drawn0"],
    }  # fmt: skip
    assert {"feed", "feed_quality", "worst_day"} <= ready.payload.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("short_type", "found"),
    [
        (
            "InverseETF",
            {
                "shorts_denied": {
                    "sessions": 1,
                    "strategies": [{"strategy": "drawn0", "short_type": "InverseETF", "denied": 1}],
                }
            },
        ),
        ("ShortSell", {"not_shortable": {"NOT_SHORTABLE": ["AAPL"]}}),
    ],
)
def test_ready_says_which_signals_will_not_be_traded(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch, short_type: str, found: dict[str, Any]
) -> None:
    """Strategies without the VIX, other unknown facts, unavailable short types, and what cannot be sold short."""

    async def universe(_self: SimulatedInstance, *_given: object) -> Universe:
        return attrs.evolve(scene.world.universe(), without_vix=("drawn0",), lacking=("P/E (mine): unknown",))

    reported = SimulatedBroker._instrument

    def instrument(broker: SimulatedBroker, symbol: str) -> InstrumentRules:
        return attrs.evolve(reported(broker, symbol), easy_to_borrow=symbol != "AAPL")

    monkeypatch.setattr(SimulatedInstance, "universe", universe)
    monkeypatch.setattr(SimulatedBroker, "_instrument", instrument)
    signal = {"session": "2026-03-02", "strategy": "drawn0", "symbol": "KO", "minute": 5, "rule": "break"}
    past: list[tuple[str, dict[str, Any]]] = [
        (records.SESSION_OPENED, {"date": "2026-03-02", "equity": "25000", "account": "a"}),
        (records.DECISION, {"signal": signal, "reason": "SHORT_BY_FUND_UNAVAILABLE"}),
        (records.SESSION_CLOSED, {"date": "2026-03-02", "equity": "25000", "open": [], "account": "a"}),
    ]
    scene.journal.append([NewEvent(kind=kind, payload=payload, time=scene.world.start) for kind, payload in past])
    life = scene.life()
    (entrant,) = scene.entrants(scene.world.session)
    entrant = attrs.evolve(entrant, frame=attrs.evolve(entrant.frame, short_type=short_type))
    monkeypatch.setattr(SimulatedInstance, "entrants", lambda _self, _session: (entrant,))
    scene.world.run(life.run)
    (ready,) = scene.events(records.READY)
    names = {"vix_unknown", "facts", "shorts_denied", "not_shortable"}
    said = {name: value for name, value in ready.payload.items() if name in names}
    unknown = {"vix_unknown": {"day": "2026-03-02", "strategies": ["drawn0"]}, "facts": ["P/E (mine): unknown"]}
    assert said == unknown | found


@pytest.mark.slow
def test_a_feed_that_refuses_the_connection_is_not_ready(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is said at once, in the feed's own words; READY follows when the feed lets us in."""
    hear(Heard(scene.world, refuses=(0.0, 100.0)), monkeypatch)
    scene.world.run(scene.life().run)
    (told,) = scene.events(records.NOT_READY)
    assert told.payload["reasons"] == ["no connection to the feed: the vendor refuses the connection Wait."]
    assert seconds(scene, records.NOT_READY)[0] < 5.0
    (ready,) = seconds(scene, records.READY)
    assert 100.0 <= ready < LEAD_S


@pytest.mark.slow
def test_a_feed_that_is_lost_before_the_bell_takes_ready_back(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute without it is NOT READY, and when it is there again READY is said again."""
    hear(Heard(scene.world, refuses=(50.0, 150.0)), monkeypatch)
    scene.world.run(scene.life().run)
    first, second = seconds(scene, records.READY)
    (told,) = seconds(scene, records.NOT_READY)
    assert first < 50.0 + 30.0 <= told < 100.0
    assert 150.0 <= second < LEAD_S


@pytest.mark.slow
def test_a_connection_that_is_made_again_at_once_takes_nothing_back(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feed that is away for some seconds is no news before the bell."""
    hear(Heard(scene.world, refuses=(50.0, 60.0)), monkeypatch)
    scene.world.run(scene.life().run)
    assert len(scene.events(records.READY)) == 1
    assert scene.events(records.NOT_READY) == []


class Flaps(Heard):
    """The world's live feed, which is there for some seconds and away for some, again and again."""

    def __init__(self, world: World, there_s: float, away_s: float) -> None:
        super().__init__(world)
        self._there_s = there_s
        self._cycle_s = there_s + away_s

    def _must_be_there(self) -> None:
        if self._now % self._cycle_s >= self._there_s:
            raise Unavailable("the vendor refuses the connection", "Wait.")


def to_the_bell(scene: SimulatedInstance) -> None:
    """Live until the bell rings."""

    async def lives() -> None:
        life = asyncio.ensure_future(scene.life().run())
        await scene.world.clock.sleep_until(scene.world.session.open)
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)

    scene.world.run(lives)


def test_a_line_that_never_holds_is_called_ready_no_more(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY was said of its first word; once taken back, some seconds of a connection do not bring it back."""
    hear(Flaps(scene.world, 4.0, 33.0), monkeypatch)
    to_the_bell(scene)
    (ready,), (told,) = seconds(scene, records.READY), seconds(scene, records.NOT_READY)
    assert ready < 5.0 < told < 60.0


def test_what_comes_and_goes_wakes_nobody_more_than_twice_in_ten_minutes(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second READY waits for half a minute, each one after that for ten; whichever was said last is true."""
    hear(Flaps(scene.world, 60.0, 60.0), monkeypatch)
    to_the_bell(scene)
    said = seconds(scene, records.READY), seconds(scene, records.NOT_READY)
    (first, second), (lost, lost_again) = said
    assert first < 60.0 + LASTS.total_seconds() <= lost < 120.0
    assert 120.0 + LASTS.total_seconds() <= second < 180.0
    assert 180.0 + LASTS.total_seconds() <= lost_again < 240.0


@pytest.mark.slow
def test_ready_is_said_a_third_time_of_what_has_held_for_ten_minutes(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was mended stays NOT READY for good."""

    class Calms(Flaps):
        def _must_be_there(self) -> None:
            if self._now < 240.0:
                super()._must_be_there()

    hear(Calms(scene.world, 60.0, 60.0), monkeypatch)
    scene.world.run(scene.life().run)
    *_, third = seconds(scene, records.READY)
    assert len(scene.events(records.READY)) == 3
    assert len(scene.events(records.NOT_READY)) == 2
    assert 240.0 + AGAIN.total_seconds() <= third < 240.0 + AGAIN.total_seconds() + 60.0


@pytest.mark.slow
def test_a_feed_that_is_merely_silent_before_the_bell_is_no_fault(
    scene: SimulatedInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts the login and sends nothing yet: the day is ready, and no alert is sent."""
    hear(Heard(scene.world, mute_until=LEAD_S), monkeypatch)
    scene.world.run(scene.life().run)
    assert scene.events(records.NOT_READY) == []
    (ready,) = seconds(scene, records.READY)
    assert OPEN_TIMEOUT_S <= ready < OPEN_TIMEOUT_S + 5.0


@pytest.mark.slow
def test_a_kill_before_the_bell_takes_ready_back(scene: SimulatedInstance) -> None:
    """What keeps the bot from entering counts until the bell, whatever was said before."""
    control.prepare_folder(scene.folder)
    scene.world.loop.call_at(60.0, filesystem.write_atomic, scene.folder / control.KILL, b"")
    scene.world.run(scene.life().run)
    assert len(scene.events(records.READY)) == 1
    told = scene.events(records.NOT_READY)[0]
    assert told.payload["reasons"] == ["the file control/kill exists"]
    assert told.applied < scene.world.session.open


def test_a_connection_tells_how_it_is() -> None:
    """Nothing is known before it is asked for; what was said of a failure is over once something is heard."""
    world = World(5, (), rates={}, live=True)
    line = FeedConnection(world.session, world.clock, cast("LiveSession", Heard(world, refuses=(0.0, 10.0))))
    assert isinstance(line, LiveSession)
    assert (line.is_connected, line.disconnect_reason) == (False, "")
    assert line.symbols == world.market.symbols
    assert line.quality == SimulatedLiveFeed.quality

    async def listen() -> None:
        with pytest.raises(Unavailable):
            await anext(aiter(line.messages(line.symbols)))
        assert line.disconnect_reason == "no connection to the feed: the vendor refuses the connection Wait."
        await asyncio.sleep(10.0)
        news = aiter(line.messages(line.symbols))
        assert await anext(news) == Heartbeat()
        assert (line.is_connected, line.disconnect_reason) == (True, "")
        assert len(await line.history(line.symbols, world.session.open, world.session.open + dt.timedelta(hours=1)))

    world.run(listen)
