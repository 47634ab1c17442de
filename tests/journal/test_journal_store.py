"""The journal keeps its events and their chain: what is appended is read again, and what was changed is noticed."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.events.risk import ArmingKept, Disarmed
from tbot_core.journal.store import (
    GENESIS,
    SCHEMA_VERSION,
    ChainKey,
    Journal,
    JournalRecorder,
    NewEvent,
    is_keyed,
    open_journal,
    read_journal,
    verified_path,
    verify_all_events,
    verify_new_events,
)
from tbot_core.model.clock import ManualClock
from tbot_core.system.secret import Secret
from tbot_core.testing.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


def entry(kind: str = "risk", cid: str | None = None, event_id: str | None = None, **payload: Any) -> NewEvent:
    """An event of the test's moment."""
    source = None if event_id is None else ("paper", "PAPER", event_id)
    return NewEvent(kind=kind, payload=payload, time=TIME, cid=cid, source=source)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal with five events, open for writing."""
    with closing(open_journal(tmp_path / "run.sqlite")) as found:
        found.append([entry("run_started", equity="100"), entry("intended", "a"), entry("intended", "b")])
        found.append([entry("fill", "a", "1", price="10.00"), entry("risk", what="defense")])
        yield found


def change(path: Path, statement: str) -> None:
    """Tamper with a closed journal."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_what_was_appended_is_read_back(journal: Journal) -> None:
    """Kinds, ids, sources, payloads and times, in order, counted from 1."""
    found = list(journal.events())
    assert [(one.seq, one.kind, one.cid) for one in found] == [
        (1, "run_started", None),
        (2, "intended", "a"),
        (3, "intended", "b"),
        (4, "fill", "a"),
        (5, "risk", None),
    ]
    assert (found[3].source, found[3].payload) == (("paper", "PAPER", "1"), {"price": "10.00"})
    assert (found[0].received, found[0].applied) == (TIME, TIME)
    assert [one.seq for one in journal.events(3)] == [4, 5]
    assert [one.seq for one in journal.events(kind="intended")] == [2, 3]
    last = journal.last_event("intended")
    assert last is not None
    assert last.seq == 3
    assert journal.last_event("stopped") is None
    assert journal.head == (5, found[-1].hash)


@pytest.mark.parametrize(
    "words", ["401: the key {} is not known", ["at ?api_key={}&page=2", {"quoted": "{}"}, 7, None]]
)
def test_i17_f106_a_secret_that_a_broker_quotes_is_not_written(journal: Journal, words: Any) -> None:
    """Whatever says it, and wherever in the payload: the rest of the words is kept, and so are the other events."""
    key = Secret(canary("broker"))
    said = json.loads(json.dumps(words).replace("{}", canary("broker")))
    journal.append([entry("silence", words=said, times=3)])
    journal.append([entry("silence", words="no answer in 10 s", times=4)])
    quoted, plain = list(journal.events(kind="silence"))
    assert quoted.payload == {"times": 3, "words": json.loads(json.dumps(words).replace("{}", "[redacted]"))}
    assert plain.payload == {"times": 4, "words": "no answer in 10 s"}
    journal.verify()
    key.wipe()


def test_received_and_applied_may_differ(journal: Journal) -> None:
    """An event that came before it was applied keeps both moments."""
    before = TIME - dt.timedelta(seconds=3)
    journal.append([NewEvent(kind="risk", payload={}, time=TIME, received=before)])
    last = journal.last_event("risk")
    assert last is not None
    assert (last.received, last.applied) == (before, TIME)


def test_events_survive_the_process(journal: Journal) -> None:
    """Opened again the file has the same head and goes on from it."""
    head = journal.head
    journal.close()
    with closing(open_journal(journal.path)) as again:
        assert again.head == head == again.verify()
        again.append([entry()])
        assert again.head[0] == 6
        assert again.verify() == again.head


def test_nothing_appended_changes_nothing(journal: Journal) -> None:
    """An empty append writes no event."""
    head = journal.head
    journal.append([])
    assert journal.head == head


def test_the_settings_of_the_file_are_durable(journal: Journal) -> None:
    """WAL and synchronous=FULL, so that an append which has returned survives a power cut."""
    with closing(sqlite3.connect(journal.path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_hash_is_that_of_the_words(journal: Journal) -> None:
    """SHA-256 over the row as JSON, the previous hash included: anyone can recompute it."""
    with closing(sqlite3.connect(journal.path)) as connection:
        rows = connection.execute("SELECT * FROM events ORDER BY seq").fetchall()
    assert rows
    previous = GENESIS
    for row in rows:
        assert row[-2] == previous
        assert row[-1] == sha256(json.dumps(list(row[:-1]), separators=(",", ":")).encode()).hexdigest()
        previous = row[-1]


TAMPERING = [
    ("an edit", """UPDATE events SET payload = '{"price":"99.00"}' WHERE seq = 4""", 4),
    ("an edit of a time", "UPDATE events SET applied = '2026-01-05T14:31:00+00:00' WHERE seq = 2", 2),
    ("a removal", "DELETE FROM events WHERE seq = 3", 4),
    ("the first", "DELETE FROM events WHERE seq = 1", 2),
    ("a renumbering", "UPDATE events SET seq = 9 WHERE seq = 3", 4),
    ("another hash", "UPDATE events SET hash = previous_hash WHERE seq = 5", 5),
    ("a forged link", "UPDATE events SET previous_hash = hash WHERE seq = 2", 2),
]


@pytest.mark.parametrize(("statement", "seq"), [row[1:] for row in TAMPERING], ids=[row[0] for row in TAMPERING])
def test_tampering_is_named(journal: Journal, statement: str, seq: int) -> None:
    """An edit, a removal or another order breaks the chain at the first event that does not fit."""
    journal.close()
    change(journal.path, statement)
    with (
        closing(read_journal(journal.path)) as found,
        pytest.raises(JournalError, match=f"event {seq} breaks the hash"),
    ):
        found.verify()


def test_two_events_cannot_change_places(journal: Journal) -> None:
    """Reordered rows break the chain."""
    journal.close()
    for statement in ("seq = 90 WHERE seq = 2", "seq = 2 WHERE seq = 3", "seq = 3 WHERE seq = 90"):
        change(journal.path, f"UPDATE events SET {statement}")
    with closing(read_journal(journal.path)) as found, pytest.raises(JournalError, match="event 2 breaks the hash"):
        found.verify()


def test_an_event_forged_with_its_hash_breaks_the_next(journal: Journal) -> None:
    """To rewrite an event and its hash, one has to rewrite all that follow."""
    journal.close()
    with closing(sqlite3.connect(journal.path)) as connection:
        row = list(connection.execute("SELECT * FROM events WHERE seq = 3").fetchone())
        row[2] = "c"
        forged = sha256(json.dumps(row[:-1], separators=(",", ":")).encode()).hexdigest()
        connection.execute("UPDATE events SET cid = 'c', hash = ? WHERE seq = 3", (forged,))
        connection.commit()
    with closing(read_journal(journal.path)) as found, pytest.raises(JournalError, match="event 4 breaks the hash"):
        found.verify()


def test_an_end_that_was_there_and_is_gone_is_missed(journal: Journal) -> None:
    """A process with the journal open notices what another removed from its end."""
    reader = read_journal(journal.path)
    journal.append([entry()])
    assert reader.verify() == journal.head  # what came since is fine
    change(journal.path, "DELETE FROM events WHERE seq >= 5")
    for found in (journal, reader):
        with closing(found), pytest.raises(JournalError, match="it ends at event 4, but had event"):
            found.verify()


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_that_was_cut_is_damaged_or_missed(journal: Journal, size: int) -> None:
    """What is left of a file is never taken for a whole journal."""
    journal.append([entry(what="x" * 2000) for _ in range(20)])
    journal.close()
    with journal.path.open("r+b") as file:
        file.truncate(size)
    words = "is damaged" if size else "ends at event 0 but had 25 before"
    with pytest.raises(JournalError, match=words), closing(open_journal(journal.path)) as found:
        found.verify()
    assert journal.path.stat().st_size == size


@pytest.mark.parametrize("opener", [open_journal, read_journal])
def test_what_is_no_journal_is_refused(tmp_path: Path, opener: Any) -> None:
    """Text, another program's database, a folder: each with a sentence, none is touched."""
    text = tmp_path / "text"
    text.write_text("not a database, and long enough to be read as one" * 30)
    with pytest.raises(JournalError, match="is damaged: file is not a database"):
        opener(text)
    other = tmp_path / "other.sqlite"
    change(other, "CREATE TABLE something (x)")
    with pytest.raises(JournalError, match="is not a journal of tbot"):
        opener(other)
    with pytest.raises(JournalError, match=r"cannot be used: (unable to open|disk I/O error)"):
        opener(tmp_path)


@pytest.mark.parametrize("opener", [open_journal, read_journal])
def test_a_newer_schema_is_refused(journal: Journal, opener: Any) -> None:
    """An older tbot does not touch what a newer one wrote."""
    journal.close()
    change(journal.path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(JournalError, match=f"has schema {SCHEMA_VERSION + 1}; this version supports {SCHEMA_VERSION}"):
        opener(journal.path)


def test_damage_is_reported_without_what_cannot_be_read(journal: Journal) -> None:
    """A payload that is no text is named by its column; its bytes are not shown."""
    journal.close()
    change(journal.path, "UPDATE events SET payload = CAST(x'7b22ff' || 'secret' AS TEXT) WHERE seq = 1")
    with closing(read_journal(journal.path)) as reader, pytest.raises(JournalError) as raised:
        list(reader.events())
    assert "Could not decode to UTF-8 column 'payload'" in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("index", ["sqlite_autoindex_events_1", "events_by_kind", "intents"])
def test_a_damaged_index_is_no_whole_journal(journal: Journal, index: str) -> None:
    """An index that lost what it lists, or is no index any more, is named, although every event fits the chain."""
    query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    (page,) = journal._connection.execute(query, (index,)).fetchone()
    (size,) = journal._connection.execute("PRAGMA page_size").fetchone()
    journal.close()
    with journal.path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x5a" * size)
    with closing(read_journal(journal.path)) as reader, pytest.raises(JournalError, match="is damaged"):
        reader.verify()
    with closing(open_journal(journal.path)) as writer, pytest.raises(JournalError, match="Restore it from a backup"):
        writer.check()


def out_of_reach(path: Path) -> None:
    """SQLite can make no files beside it, as in a read-only folder."""
    for suffix in ("wal", "shm"):
        path.with_name(f"{path.name}-{suffix}").symlink_to(path.parent / "nowhere" / suffix)


def test_a_closed_journal_is_read_in_a_folder_without_write_access(journal: Journal) -> None:
    """A folder that is only read, such as a backup's, is enough for what was closed in order."""
    journal.close()
    out_of_reach(journal.path)
    with closing(read_journal(journal.path)) as reader:
        assert reader.verify()[0] == 5


def test_a_journal_whose_log_is_out_of_reach_is_not_called_damaged(journal: Journal) -> None:
    """What lies in the log beside it is not passed over: the sentence speaks of rights."""
    journal.close()
    journal.path.with_name(f"{journal.path.name}-wal").mkdir()
    for opener in (read_journal, open_journal):
        with pytest.raises(JournalError, match=r"cannot be used: unable to open database file.*the permissions of"):
            opener(journal.path)


def test_no_journal_is_said(tmp_path: Path) -> None:
    """Reading makes no file."""
    with pytest.raises(JournalError, match="There is no journal"):
        read_journal(tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_only_begun_is_made_whole(tmp_path: Path) -> None:
    """A crash while the file is made leaves nothing that a reader or the next start trips over."""
    path = tmp_path / "run.sqlite"
    change(path, "PRAGMA journal_mode = WAL")
    with closing(read_journal(path)) as reader:
        assert (list(reader.events()), reader.head[0]) == ([], 0)
    with closing(open_journal(path)) as found:
        found.append([entry()])
        assert found.verify()[0] == 1


def test_a_reader_sees_what_was_appended_and_cannot_write(journal: Journal) -> None:
    """Read-only, while the writer goes on."""
    with closing(read_journal(journal.path)) as reader:
        assert len(list(reader.events())) == 5
        journal.append([entry()])
        assert [one.seq for one in reader.events(5)] == [6]
        with pytest.raises(JournalError, match="could not be written"):
            reader.append([entry()])
        assert reader.head[0] == 5


def test_a_closed_journal_reads_without_its_writer(journal: Journal) -> None:
    """The file alone is enough."""
    journal.close()
    with closing(read_journal(journal.path)) as reader:
        assert reader.verify()[0] == 5


def test_an_event_of_a_broker_is_known_once_it_is_written(journal: Journal) -> None:
    """By broker, account and event id."""
    assert journal.contains(("paper", "PAPER", "1"))
    assert not journal.contains(("paper", "PAPER", "2"))
    assert not journal.contains(("paper", "OTHER", "1"))


@pytest.mark.parametrize(
    "twice", [[entry("fill", "a", "1")], [entry("fill", "b", "7"), entry("fill", "b", "7")], [entry("intended", "a")]]
)
def test_nothing_is_written_twice(journal: Journal, twice: list[NewEvent]) -> None:
    """The same event of a broker, or the same intent, is refused whole: nothing of the append stays."""
    head = journal.head
    with pytest.raises(JournalError, match=r"could not be written: UNIQUE.*\. Check the disk"):
        journal.append([entry(what="before"), *twice])
    assert journal.head == head == journal.verify()
    journal.append([entry()])
    assert journal.verify() == journal.head


def test_an_append_that_is_locked_out_sends_nothing_and_can_be_tried_again(journal: Journal) -> None:
    """A writer elsewhere: JournalError, and the chain goes on when it has gone."""
    journal._connection.execute("PRAGMA busy_timeout = 10")
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="database is locked"):
            journal.append([entry()])
        other.execute("ROLLBACK")
    journal.append([entry()])
    assert journal.verify()[0] == 6


def test_a_commit_that_fails_is_rolled_back(journal: Journal) -> None:
    """The next append finds no half transaction in its way."""
    journal._connection.execute("PRAGMA max_page_count = 12")
    with pytest.raises(JournalError, match="database or disk is full"):
        journal.append([entry(what="x" * 100_000)])
    assert journal.verify() == journal.head
    journal.append([entry()])


def test_what_json_cannot_say_is_no_event(journal: Journal) -> None:
    """NaN has no place in a payload: refused before anything is written."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        journal.append([entry(value=float("nan"))])
    assert journal.head[0] == 5


def test_a_payload_that_is_no_json_is_damage(journal: Journal) -> None:
    """A reader of a tampered file gets a sentence, not a traceback."""
    journal.close()
    change(journal.path, "UPDATE events SET payload = 'x' WHERE seq = 4")
    with closing(read_journal(journal.path)) as reader:
        with pytest.raises(JournalError, match="is damaged"):
            list(reader.events())
        with pytest.raises(JournalError, match="is damaged"):
            reader.last_event("fill")


def test_a_journal_without_its_table_is_damage(journal: Journal) -> None:
    """Questions to a broken file are answered with a sentence."""
    change(journal.path, "DROP TABLE events")
    with pytest.raises(JournalError, match="is damaged"):
        journal.contains(("paper", "PAPER", "1"))
    with pytest.raises(JournalError, match="is damaged"):
        journal.verify()


def test_a_journal_that_commits_on_a_kind_holds_all_or_nothing_before_it(journal: Journal) -> None:
    """What was appended since the last such event is read, and is gone where the process ends before the next."""
    journal.commit_on = frozenset({"session_closed"})
    journal.append([entry("intended", "c")])
    journal.append([entry("risk", what="defense"), entry("session_closed")])
    journal.append([entry("intended", "d")])
    assert [journal.head[0], journal.last_event("intended").cid] == [9, "d"]  # type: ignore[union-attr]  # it is there
    journal.close()
    with closing(open_journal(journal.path)) as again:
        assert [again.head[0], again.last_event("intended").cid] == [8, "c"]  # type: ignore[union-attr]  # it is there
        assert again.verify() == again.head


texts = st.text(max_size=12)

payloads = st.dictionaries(texts, texts | st.integers() | st.none(), max_size=3)


@pytest.mark.slow
@settings(max_examples=25)  # each makes a file and waits for the disk
@given(st.lists(st.lists(payloads, max_size=3), max_size=5))
def test_any_appends_make_one_whole_chain(tmp_path_factory: pytest.TempPathFactory, batches: list[Any]) -> None:
    """Whatever the words and however they are grouped, the chain verifies and the words come back."""
    path = tmp_path_factory.mktemp("journal") / "run.sqlite"
    with closing(open_journal(path)) as journal:
        for batch in batches:
            journal.append([NewEvent(kind="said", payload=payload, time=TIME) for payload in batch])
        assert journal.verify() == journal.head
        assert [one.payload for one in journal.events()] == [payload for batch in batches for payload in batch]


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


EVENT = NewEvent(kind="risk", payload={"a": 1}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))


def written_checkpoint(folder: Path, events: int, key: ChainKey | None = KEY) -> Path:
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


def verified_by_checkpoint(path: Path, key: ChainKey | None = KEY) -> int:
    """The number of events, as a reader verifies them."""
    with closing(read_journal(path)) as journal:
        return verify_new_events(journal, key)[0]


@pytest.mark.parametrize("key", [KEY, None])
def test_a_reader_verifies_from_the_last_verified_event_on(tmp_path: Path, key: ChainKey | None) -> None:
    """A change before it is not seen by it; one after it is, and verifying all events finds both."""
    path = written_checkpoint(tmp_path, 3, key)
    assert [
        verified_by_checkpoint(path, key),
        kept(path, key),
        verified_by_checkpoint(path, key),
    ] == [3, 3, 3]
    changed(path, 2)
    written_checkpoint(tmp_path, 2, key)
    assert verified_by_checkpoint(path, key) == 5
    with pytest.raises(JournalError, match="event 2 breaks"):
        kept(path, key)
    written_checkpoint(tmp_path, 2, key)
    changed(path, 6)
    with pytest.raises(JournalError, match="breaks the hash chain"):
        verified_by_checkpoint(path, key)


@pytest.mark.parametrize("text", ["2 {hash} " + "0" * 64, "2 {hash}", "x y z", "", "9" * 600])
def test_a_head_that_was_not_written_with_the_key_does_not_count(tmp_path: Path, text: str) -> None:
    """All events are verified_by_checkpoint then."""
    path = written_checkpoint(tmp_path, 3)
    with closing(read_journal(path)) as journal:
        digest = list(journal.events())[1].hash
    changed(path, 2)
    verified_path(path).write_text(text.format(hash=digest))
    with pytest.raises(JournalError, match="event 2 breaks"):
        verified_by_checkpoint(path)


def test_a_head_of_another_key_does_not_count(tmp_path: Path) -> None:
    """Nor one without a key, where the journal has one."""
    path = written_checkpoint(tmp_path, 3, None)
    assert kept(path, None) == 3
    written_checkpoint(tmp_path, 1)
    changed(path, 2)
    with pytest.raises(JournalError, match="event 2 breaks"):
        verified_by_checkpoint(path)


def test_an_older_journal_is_verified_as_a_whole(tmp_path: Path) -> None:
    """As after a restore: the head of the newer one is not in it."""
    path = written_checkpoint(tmp_path, 2)
    old = path.read_bytes()
    written_checkpoint(tmp_path, 2)
    assert kept(path) == 4
    for file in tmp_path.glob("a.sqlite*"):
        if file != verified_path(path):
            file.unlink()
    path.write_bytes(old)
    assert verified_by_checkpoint(path) == 2


def test_a_head_that_cannot_be_kept_costs_time_only(tmp_path: Path) -> None:
    """The start still gets its result, and so does the reader."""
    path = written_checkpoint(tmp_path, 2)
    verified_path(path).mkdir()
    assert [kept(path), verified_by_checkpoint(path)] == [2, 2]


NOW = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


@attrs.define(eq=False)
class Bench:
    """A recorder, its journal, and what was announced."""

    journal: Journal
    announced: list[list[str]] = attrs.field(factory=list)
    recorder: JournalRecorder = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Listen to the recorder."""
        self.recorder = JournalRecorder(journal=self.journal, clock=ManualClock(NOW), on_events=self._record)

    @property
    def written(self) -> list[str]:
        """The kinds of the journal's events."""
        return [event.kind for event in self.journal.events()]

    def _record(self, entries: Sequence[NewEvent]) -> None:
        assert self.written[-len(entries) :] == [one.kind for one in entries]
        self.announced.append([one.kind for one in entries])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "run.sqlite")) as journal:
        yield Bench(journal)


def test_an_event_is_announced_once_it_is_written(bench: Bench) -> None:
    """With the moment of the recorder's clock."""
    bench.recorder.record(Disarmed(why="a person"))
    (event,) = bench.journal.events()
    assert (event.kind, event.payload, event.applied) == (records.DISARMED, {"why": "a person"}, NOW)
    assert bench.announced == [[records.DISARMED]]


def test_a_recorder_needs_no_listener(bench: Bench) -> None:
    """A recorder without a listener writes all the same."""
    JournalRecorder(journal=bench.journal, clock=ManualClock(NOW)).record(Disarmed(why=""))
    assert bench.written == [records.DISARMED]


def test_a_transaction_is_written_as_a_whole(bench: Bench) -> None:
    """Also what another recorder of the same journal writes meanwhile, which was made of this one."""
    other = attrs.evolve(bench.recorder, broker="beta")
    with bench.recorder.transaction():
        bench.recorder.record(Disarmed(why=""))
        other.record(ArmingKept(restarts=1))
        assert (bench.written, bench.announced) == ([], [])
    assert bench.announced == [[records.DISARMED, records.ARMING_KEPT]]
    assert [event.payload for event in bench.journal.events()] == [{"why": ""}, {"restarts": 1, "broker": "beta"}]


def test_a_transaction_that_fails_writes_nothing(bench: Bench) -> None:
    """What comes after it is written as ever."""

    def fail() -> None:
        with bench.recorder.transaction():
            bench.recorder.record(Disarmed(why=""))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (bench.written, bench.announced) == ([], [])
    bench.recorder.record(ArmingKept(restarts=1))
    assert bench.announced == [[records.ARMING_KEPT]]
