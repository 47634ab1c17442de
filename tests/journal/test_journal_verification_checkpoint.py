"""The last verified event is kept beside the journal: a reader verifies what came since."""

from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import JournalError
from tbot_core.journal.chain import ChainKey
from tbot_core.journal.store import NewEvent, open_journal, read_journal
from tbot_core.journal.verification_checkpoint import verified_path, verify_all_events, verify_new_events

if TYPE_CHECKING:
    from pathlib import Path

EVENT = NewEvent(kind="risk", payload={"a": 1}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))
KEY = ChainKey(secret=b"k" * 32)


def written(folder: Path, events: int, key: ChainKey | None = KEY) -> Path:
    """A journal to which so many events are added."""
    path = folder / "a.sqlite"
    with closing(open_journal(path, key=key)) as journal:
        journal.append([EVENT] * events)
    return path


def changed(path: Path, seq: int) -> None:
    """Change an event, as a process that may write the file can."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET payload = '{}' WHERE seq = ?", (seq,))
        connection.commit()


def kept(path: Path, key: ChainKey | None = KEY) -> int:
    """The number of events, as a start verifies them."""
    with closing(read_journal(path)) as journal:
        return verify_all_events(journal, key)[0]


def verified(path: Path, key: ChainKey | None = KEY) -> int:
    """The number of events, as a reader verifies them."""
    with closing(read_journal(path)) as journal:
        return verify_new_events(journal, key)[0]


@pytest.mark.parametrize("key", [KEY, None])
def test_a_reader_verifies_from_the_last_verified_event_on(tmp_path: Path, key: ChainKey | None) -> None:
    """A change before it is not seen by it; one after it is, and verifying all events finds both."""
    path = written(tmp_path, 3, key)
    assert [verified(path, key), kept(path, key), verified(path, key)] == [3, 3, 3]
    changed(path, 2)
    written(tmp_path, 2, key)
    assert verified(path, key) == 5
    with pytest.raises(JournalError, match="event 2 breaks"):
        kept(path, key)
    written(tmp_path, 2, key)
    changed(path, 6)
    with pytest.raises(JournalError, match="breaks the hash chain"):
        verified(path, key)


@pytest.mark.parametrize("text", ["2 {hash} " + "0" * 64, "2 {hash}", "x y z", "", "9" * 600])
def test_a_head_that_was_not_written_with_the_key_does_not_count(tmp_path: Path, text: str) -> None:
    """All events are verified then."""
    path = written(tmp_path, 3)
    with closing(read_journal(path)) as journal:
        digest = list(journal.events())[1].hash
    changed(path, 2)
    verified_path(path).write_text(text.format(hash=digest))
    with pytest.raises(JournalError, match="event 2 breaks"):
        verified(path)


def test_a_head_of_another_key_does_not_count(tmp_path: Path) -> None:
    """Nor one without a key, where the journal has one."""
    path = written(tmp_path, 3, None)
    assert kept(path, None) == 3
    written(tmp_path, 1)
    changed(path, 2)
    with pytest.raises(JournalError, match="event 2 breaks"):
        verified(path)


def test_an_older_journal_is_verified_as_a_whole(tmp_path: Path) -> None:
    """As after a restore: the head of the newer one is not in it."""
    path = written(tmp_path, 2)
    old = path.read_bytes()
    written(tmp_path, 2)
    assert kept(path) == 4
    for file in tmp_path.glob("a.sqlite*"):
        if file != verified_path(path):
            file.unlink()
    path.write_bytes(old)
    assert verified(path) == 2


def test_a_head_that_cannot_be_kept_costs_time_only(tmp_path: Path) -> None:
    """The start still gets its result, and so does the reader."""
    path = written(tmp_path, 2)
    verified_path(path).mkdir()
    assert [kept(path), verified(path)] == [2, 2]
