"""The keyed hash chain: only who has the key can write a chain that verifies."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tbot_core.errors import JournalError
from tbot_core.journal.chain import GENESIS, ChainKey, is_keyed
from tbot_core.journal.store import NewEvent, open_journal, read_journal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
KEY = ChainKey(secret=b"k" * 32)
OTHER = ChainKey(secret=b"o" * 32)


def written(path: Path, *keys: ChainKey | None) -> Path:
    """A journal to which each key, or none, adds one event in a process of its own."""
    for key in keys:
        with closing(open_journal(path, key=key)) as journal:
            journal.append([NewEvent(kind="risk", payload={"place": journal.head[0]}, time=TIME)])
    return path


def verified(path: Path, key: ChainKey | None) -> int:
    """The number of events of the journal, read and verified."""
    with closing(read_journal(path)) as journal:
        return journal.verify(key)[0]


def forge(path: Path, first: int = 1) -> None:
    """Change an event and write all hashes from it on anew, as anyone can who may write the file."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE events SET payload = '{}' WHERE seq = ?", (first,))
        rows: Sequence[Sequence[object]] = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
        previous = GENESIS if first == 1 else str(rows[first - 2][-1])
        for row in rows[first - 1 :]:
            line = json.dumps([*row[:-2], previous], separators=(",", ":"))
            digest = sha256(line.encode()).hexdigest()
            connection.execute(
                "UPDATE events SET previous_hash = ?, hash = ? WHERE seq = ?", (previous, digest, row[0])
            )
            previous = digest
        connection.commit()


def test_a_chain_goes_over_to_its_key_and_stays(tmp_path: Path) -> None:
    """A journal that began without a key still reads, and its next event has a keyed hash."""
    path = written(tmp_path / "a.sqlite", None, None, KEY, KEY)
    with closing(read_journal(path)) as journal:
        assert [is_keyed(one.hash) for one in journal.events()] == [False, False, True, True]
    assert verified(path, KEY) == 4
    assert repr(KEY) == "ChainKey(since=None)"


def test_a_chain_without_a_key_can_be_forged_and_a_keyed_one_cannot(tmp_path: Path) -> None:
    """Neither its keyed events nor those before them."""
    plain = written(tmp_path / "plain.sqlite", None, None)
    forge(plain)
    assert verified(plain, None) == 2
    keyed = written(tmp_path / "keyed.sqlite", None, KEY, KEY)
    for first in (3, 2, 1):
        forge(keyed, first)
        with pytest.raises(JournalError, match="breaks the hash chain"):
            verified(keyed, demanded_since(2))


def demanded_since(seq: int) -> ChainKey:
    """The key with the event from which on the audit log demands it."""
    return ChainKey(secret=KEY.secret, since=seq)


def test_a_whole_new_chain_without_the_key_is_refused(tmp_path: Path) -> None:
    """The audit log says from which event on there is a key: such a journal is neither verified nor continued."""
    path = written(tmp_path / "a.sqlite", None, KEY)
    forge(path)
    assert verified(path, None) == 2
    assert verified(path, demanded_since(3)) == 2
    with pytest.raises(JournalError, match="event 2 breaks the hash chain after 1"):
        verified(path, demanded_since(2))
    with pytest.raises(JournalError, match="its last event has no keyed hash, which events since 2 have"):
        open_journal(path, key=demanded_since(2))


def test_a_keyed_chain_needs_its_key(tmp_path: Path) -> None:
    """Without it, or with another, the journal is neither verified nor continued; it can be read."""
    path = written(tmp_path / "a.sqlite", KEY)
    for deed in (lambda: verified(path, None), lambda: open_journal(path)):
        with pytest.raises(JournalError, match="needs the key of the audit log, which is missing"):
            deed()
    with pytest.raises(JournalError, match="event 1 breaks the hash chain"):
        verified(path, OTHER)
    with pytest.raises(JournalError, match="written with another key of the audit log"):
        open_journal(path, key=OTHER)
    with closing(read_journal(path)) as journal:
        assert len(list(journal.events())) == 1


def test_an_open_journal_verifies_with_the_key_that_it_writes_with(tmp_path: Path) -> None:
    """Its owner need not give the key again."""
    with closing(open_journal(tmp_path / "a.sqlite", key=KEY)) as journal:
        journal.append([NewEvent(kind="risk", payload={}, time=TIME)])
        assert journal.verify() == journal.head
