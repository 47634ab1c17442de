"""What a session hears: a live feed is gathered, whole minutes are left as they are, and a recording may fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tbot_core.contracts import FeedCoverage, FeedQuality
from tbot_core.engine.session.config import LiveConfig
from tbot_core.engine.session.feed_session import FeedReceiver, SessionFeed
from tbot_core.marketdata.received_bars import read_recording
from tbot_core.marketdata.received_files import recorded_file
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.marketdata.live_feed import FeedObserver


@pytest.fixture
def world() -> Iterator[World]:
    """A world with a feed of either kind."""
    made = World(6, (), rates={})
    yield made
    made.loop.finish()


def hearing(world: World, folder: Path | None, *, live: bool = True) -> FeedReceiver:
    """What a session of this world hears."""
    floor = LiveConfig(folder=Path(), poll_s=1.0, ttl_s=1.0, received=folder, feed="world")
    source = world.live_feed() if live else world.feed()
    feed = SessionFeed(session=world.session, universe=world.universe(), source=source)
    return FeedReceiver(feed, floor, world.clock, world.clock, cast("FeedObserver", None))


def test_a_live_feed_is_gathered_and_whole_minutes_are_left_as_they_are(world: World) -> None:
    """Both have the world's symbols and facts, and nothing is cut of them."""
    whole, live = hearing(world, None, live=False), hearing(world, None)
    assert whole.live_feed is None
    assert live.live_feed is not None
    assert live.live_feed.symbols == world.market.symbols
    assert live.live_feed.day.vix.shape == (1,)
    for one in (whole, live):
        assert (one.truncation, one.partial_volume) == (None, frozenset())


def test_a_session_that_is_over_has_no_minutes(world: World) -> None:
    """It has its symbols, and no feed that sends their bars."""
    feed = SessionFeed(session=world.session, universe=world.universe())
    config = LiveConfig(folder=Path(), poll_s=1.0, ttl_s=1.0)
    receiver = FeedReceiver(feed, config, world.clock, world.clock, cast("FeedObserver", None))

    async def minutes() -> list[object]:
        return [minute async for minute in receiver.minutes()]

    assert (asyncio.run(minutes()), receiver.live_feed, receiver.partial_volume) == ([], None, frozenset())


def test_whole_minutes_are_kept_too(world: World, tmp_path: Path) -> None:
    """As they came, without tags."""
    heard = hearing(world, tmp_path, live=False)
    heard.record_minute(world.market.minute(0), ())
    path = recorded_file(tmp_path, world.session.date)
    assert path is not None
    found = read_recording(path)
    assert (found.header.source, found.header.coverage) == ("world", "")
    assert [(one.minute.index, one.late, dict(one.counts)) for one in found.records] == [(0, (), {})]


def test_without_a_folder_nothing_is_kept(world: World) -> None:
    """And that has no effect."""
    hearing(world, None).record_minute(world.market.minute(0), ())


def test_a_recording_that_cannot_be_made_stops_nothing(world: World, tmp_path: Path) -> None:
    """A file where its folder should be: it is logged."""
    (tmp_path / "received").write_bytes(b"")
    hearing(world, tmp_path / "received").record_minute(world.market.minute(0), ())


def test_a_recording_that_cannot_be_gone_on_with_stops_nothing(world: World, tmp_path: Path) -> None:
    """Its file has become a folder: it is logged, once, and trading goes on."""
    heard = hearing(world, tmp_path)
    path = recorded_file(tmp_path, world.session.date)
    assert path is not None
    path.unlink()
    path.mkdir()
    heard.record_minute(world.market.minute(0), ())
    heard.record_minute(world.market.minute(1), ())


@pytest.mark.parametrize(
    ("quality", "notes"),
    [
        (FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True), []),
        (FeedQuality(coverage=FeedCoverage.DELAYED, quotes=True), ["DELAYED"]),
        (FeedQuality(coverage=FeedCoverage.SINGLE_VENUE, quotes=True), ["VOLUME_LIMIT is off"]),
        (FeedQuality(coverage=FeedCoverage.SINGLE_VENUE), ["VOLUME_LIMIT is off", "has no quotes"]),
        (
            FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, minute_history=False),
            ["facts of a day come from its daily bars"],
        ),
        (
            FeedQuality(coverage=FeedCoverage.CONSOLIDATED, quotes=True, halts=True, initial_halts=False),
            ["reports halts from its connection on"],
        ),
    ],
)
def test_a_person_is_told_what_a_feed_lacks(quality: FeedQuality, notes: list[str]) -> None:
    """Delay, partial volume and quotes; of a whole feed nothing is said."""
    said = list(quality.notes)
    assert len(said) == len(notes)
    assert all(words in note for words, note in zip(notes, said, strict=True))


def test_a_feed_is_described_in_a_few_words() -> None:
    """What it has no limit of, and what it does not tell, too."""
    whole = FeedQuality(coverage=FeedCoverage.CONSOLIDATED)
    assert whole.words == "consolidated, any number of symbols, history without delay, no quotes, no halts reported"
    poor = FeedQuality(coverage=FeedCoverage.DELAYED, minute_history=False, halts=True, initial_halts=False)
    assert poor.words == (
        "delayed, any number of symbols, history without delay and of the session only, no quotes, "
        "halts reported from the connection on"
    )
