"""The watchdog: what stands still or dies is written down by a process that does neither."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tbot_core.alerting import watchdog
from tbot_core.alerting.store import FILE_NAME, Row, Store, open_store
from tbot_core.clock import ManualClock
from tbot_core.seams import environ, log, spawn
from tbot_core.settings import Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import TypeAlias

    Spoken: TypeAlias = Callable[[bytes | None], None]

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """The alerts of an instance."""
    made = open_store(tmp_path / FILE_NAME)
    yield made
    made.close()


def hear(store: Store, *said: bytes | None) -> list[Row]:
    """What is written down by whoever hears this; None is ten seconds of silence."""
    clock, words = ManualClock(NOW), iter(said)

    def listen(seconds: float) -> bytes | None:
        word = next(words)
        clock.advance(seconds if word is None else 1.0)
        return word

    watchdog.watch(listen, store, clock)
    return store.rows(10)


def test_f89_a_loop_that_stands_still_for_ten_seconds_is_an_incident(store: Store) -> None:
    """F89: once, critical, with the place where the stacks lie; it is over when the heart beats again."""
    (row,) = hear(store, b".", b"..", None, None, b".", b"!", b"")
    assert row.what == "The run has stood still for 10 s; where: logs/stalled.txt."
    assert (row.urgency.value, row.times, row.open) == ("critical", 1, False)


def test_f89_a_loop_that_never_moves_again_stays_an_incident(store: Store) -> None:
    """F89: as long as nothing is heard it stands, and when the process then dies too there is still one."""
    (row,) = hear(store, b".", None, None, b"")
    assert row.open


def test_a_process_that_dies_without_a_word_is_an_incident(store: Store) -> None:
    """A killed run is told of by the process that outlived it, with the command that takes over."""
    (row,) = hear(store, b".", b"")
    assert (row.what, row.command) == ("The run died without a word; nobody manages what is held.", "tbot run")


def test_a_run_that_ends_in_order_is_none(store: Store) -> None:
    """The last word is that of an end."""
    assert hear(store, b"...", b".!", b"") == []


def test_what_cannot_be_written_down_ends_no_watch(tmp_path: Path) -> None:
    """A watchdog whose file is locked goes on listening, and writes the next incident."""
    store, blocker = open_store(tmp_path / FILE_NAME), open_store(tmp_path / FILE_NAME)
    words = iter([None, b".", None, b"!", b""])
    with blocker.writing():
        watchdog.watch(lambda _: b"", store, ManualClock(NOW))
    watchdog.watch(lambda _: next(words), store, ManualClock(NOW))
    assert [row.what for row in store.rows(10)] == ["The run has stood still for 10 s; where: logs/stalled.txt."]
    store.close()
    blocker.close()


def test_the_process_hears_a_run_and_its_end(tmp_path: Path) -> None:
    """In processes of their own: a run that ends in order leaves nothing, one that breaks off is written down."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    with watchdog.guarded(instance) as beat:
        beat()
    store = open_store(instance.data / FILE_NAME)
    assert store.rows(10) == []
    command = (sys.executable, "-m", "tbot_core.alerting.watchdog", str(tmp_path))
    with spawn.listening(command, environment=environ.minimal()) as tell:
        assert tell(watchdog.BEAT)
    assert [row.command for row in store.rows(10)] == ["tbot run"]
    store.close()


def test_a_run_that_breaks_off_is_written_down_where_its_instance_is(tmp_path: Path, spoken: Spoken) -> None:
    """The watchdog of an instance hears its standard input, and writes into that instance's alerts."""
    instance = Instance.at(tmp_path)
    instance.data.mkdir()
    spoken(watchdog.BEAT)
    spoken(None)
    watchdog.main([str(tmp_path)])
    store = open_store(instance.data / FILE_NAME)
    assert [(row.what, row.open) for row in store.rows(10)] == [
        ("The run died without a word; nobody manages what is held.", True)
    ]
    store.close()


def test_a_watchdog_that_is_gone_is_missed_once(tmp_path: Path) -> None:
    """One that cannot begin, as its folder is missing, is told of in the log, and the run goes on."""
    instance = Instance.at(tmp_path)
    log.configure("info", "json", instance.logs)
    try:
        with watchdog.guarded(instance) as beat:
            while "watchdog.lost" not in (instance.logs / "tbot.log").read_text():
                beat()
            beat()
        assert (instance.logs / "tbot.log").read_text().count("watchdog.lost") == 1
    finally:
        log.close()
