"""The journal: durable, chained, read while it is written, repeated word by word."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from contextlib import closing
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot_core.errors import JournalError
from tbot_core.journal.chain import GENESIS
from tbot_core.journal.store import SCHEMA_VERSION, Journal, NewEvent, open_journal, read_journal
from tbot_core.system.secret import Secret
from tbot_core.testing.canaries import canary

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    """Whoever rewrites an event and its hash would have to rewrite all that follow."""
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
    """Whoever has the journal open notices what another took off its end."""
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


def test_damage_is_told_without_what_cannot_be_read(journal: Journal) -> None:
    """A payload that is no text is named by its column; its bytes are not shown."""
    journal.close()
    change(journal.path, "UPDATE events SET payload = CAST(x'7b22ff' || 'secret' AS TEXT) WHERE seq = 1")
    with closing(read_journal(journal.path)) as reader, pytest.raises(JournalError) as told:
        list(reader.events())
    assert "Could not decode to UTF-8 column 'payload'" in str(told.value)
    assert "secret" not in str(told.value)


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


def test_a_closed_journal_is_read_where_nobody_can_write(journal: Journal) -> None:
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
