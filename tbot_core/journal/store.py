"""The journal: one append-only, hash-chained table of events. All other state is a projection of it.

The hash of an event covers its content and the hash before it, with a key or without. Beside the file lies the last
verified event, so that a reader need not verify it from the first.

A recorder writes events to it, then notifies the listener.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError, JournalError
from tbot_core.journal import codec, integrity
from tbot_core.journal.projection import TypedEvent
from tbot_core.model import json_document
from tbot_core.model.clock import Clock
from tbot_core.system import filesystem, forks, log
from tbot_core.system.redaction import redact, redact_all

if TYPE_CHECKING:
    from tbot_core.journal.codec import EventFacts

SCHEMA_VERSION: Final = 1

NO_ROOM_BYTES: Final = 50_000_000
"""Below this, no run starts, and a running one is limited to exits."""

APPLICATION_ID: Final = 0x7462_6F74

Connect = Callable[[str], sqlite3.Connection]
"""Opens the file at a path or URI, in autocommit mode."""

_SCHEMA: Final = """
CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  cid TEXT,
  broker TEXT,
  account TEXT,
  broker_event_id TEXT,
  payload TEXT NOT NULL,
  received TEXT NOT NULL,
  applied TEXT NOT NULL,
  previous_hash TEXT NOT NULL,
  hash TEXT NOT NULL,
  UNIQUE (broker, account, broker_event_id)
) STRICT;
CREATE INDEX events_by_kind ON events (kind);
CREATE UNIQUE INDEX intents ON events (cid) WHERE kind = 'intended';
"""

_PAYLOAD: Final = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False)

_COLUMNS: Final = "seq, kind, cid, broker, account, broker_event_id, payload, received, applied, previous_hash, hash"

GENESIS: Final = "0" * 64

START: Final = (0, GENESIS)
"""Number and hash before the first event."""

_KEYED: Final = "hmac:"

_LINE: Final = json.JSONEncoder(separators=(",", ":"))

_RESTORE: Final = "Restore it from a backup; events after the last good one cannot be trusted."

_CHECKPOINT: Final = "verified"

_CHECKPOINT_BYTES: Final = 500

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class NewEvent(TypedEvent):
    """An event to be written: kind, payload, and when it was received and applied (UTC).

    `cid` is the client order id it belongs to; `source` is (broker, account, broker's event id) for a broker's event.
    """

    kind: str
    payload: Mapping[str, Any]
    time: datetime
    cid: str | None = None
    source: tuple[str, str, str] | None = None
    received: datetime | None = None

    @property
    def applied(self) -> datetime:
        """The same as `time`, by the name that it has in the journal."""
        return self.time


@attrs.frozen(kw_only=True)
class Event(TypedEvent):
    """An event as stored in the journal."""

    seq: int
    kind: str
    cid: str | None
    source: tuple[str, str, str] | None
    payload: Mapping[str, Any]
    received: datetime
    applied: datetime
    hash: str


@attrs.frozen(kw_only=True)
class ChainKey:
    """The key of a chain; `since` is the first event that has to have a keyed hash, None if that is not known."""

    secret: bytes = attrs.field(repr=False)
    since: int | None = None

    def demands(self, seq: int) -> bool:
        """Whether this event has to have a keyed hash."""
        return self.since is not None and seq >= self.since


@attrs.define(eq=False)
class _Batch:
    # Entries of the open transaction; None outside one.
    entries: list[NewEvent] | None = None


def _ignore(entries: Sequence[NewEvent]) -> None:
    # No listener.
    pass


@attrs.frozen(kw_only=True, eq=False)
class JournalRecorder:
    """A journal and the clock that stamps its events; `on_events` is called with everything that was written.

    `broker`: the broker that the events belong to, empty for the primary. `tag`: marks the orders sent to it.
    """

    journal: Journal
    clock: Clock
    on_events: Callable[[Sequence[NewEvent]], None] = _ignore
    broker: str = ""
    tag: str = ""
    batch: _Batch = attrs.field(factory=_Batch, repr=False)
    """Shared by all recorders derived from this one."""

    def write(self, *entries: NewEvent) -> None:
        """Write events, then call `on_events`. Inside `transaction` both happen at its end."""
        if self.batch.entries is not None:
            self.batch.entries += entries
            return
        self.journal.append(entries)
        self.on_events(entries)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write all events of the block in one transaction, and notify after it is durable."""
        entries: list[NewEvent] = []
        self.batch.entries = entries
        try:
            yield
        finally:
            self.batch.entries = None
        self.write(*entries)

    def entry(self, facts: EventFacts, cid: str | None = None) -> NewEvent:
        """Return a new event, stamped with the current time."""
        source = {"broker": self.broker} if self.broker else {}
        return NewEvent(kind=facts.kind, payload=codec.write(facts) | source, time=self.clock.now(), cid=cid)

    def record(self, facts: EventFacts) -> None:
        """Write one event."""
        self.write(self.entry(facts))


class Journal:
    """A journal file; use `open_journal` or `read_journal`.

    With `commit_on`, a set of event kinds, appends wait for one of these: its transaction holds all since the last one,
    and an end of the process before it leaves none of them. `free_space` may be set: it is called when the disk is
    full, and returns whether it freed space. With a `key` every new event has a keyed hash.
    """

    def __init__(
        self, path: Path, connection: sqlite3.Connection, *, anchored: bool = False, key: ChainKey | None = None
    ) -> None:
        self.path = path
        self._key = key
        self.free_space: Callable[[], bool] = lambda: False
        self._anchored = anchored
        self._connection = connection
        self.commit_on: frozenset[str] | None = None
        self._seq, self._hash = self._head()

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last event; (0, zeros) for an empty journal."""
        return self._seq, self._hash

    def append(self, entries: Sequence[NewEvent]) -> None:
        """Write events durably, in one transaction; with `commit_on` later. Raises JournalError on failure."""
        if not entries:
            return
        forks.end_if_forked()
        rows, seq, previous = [], self._seq, self._hash
        for entry, payload in zip(entries, _texts([entry.payload for entry in entries]), strict=True):
            seq += 1
            row = _row(seq, entry, payload, previous, self._key)
            previous = row[-1]
            rows.append(row)
        ends = self.commit_on is None or any(entry.kind in self.commit_on for entry in entries)
        try:
            self._insert(rows, ends=ends)
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal {self.path} could not be written: {error}.",
                "Check the disk, then start again: the run resumes from the journal.",
            ) from error
        self._seq, self._hash = seq, previous
        if self._anchored and ends:
            integrity.note_event_count(self.path, seq)

    def contains(self, source: tuple[str, str, str]) -> bool:
        """Whether this event of a broker is in the journal."""
        return self.find_event(source) is not None

    def find_event(self, source: tuple[str, str, str]) -> Event | None:
        """Find an event by its source; None if it is not there."""
        query = f"SELECT {_COLUMNS} FROM events WHERE broker = ? AND account = ? AND broker_event_id = ?"  # noqa: S608  # constants
        with self._reading():
            row = self._connection.execute(query, source).fetchone()
        return None if row is None else _event(row)

    def events(self, after: int = 0, *, kind: str | None = None) -> Iterator[Event]:
        """Iterate over the events after a sequence number, in order; `kind` None means all."""
        where, values = ("", ()) if kind is None else (" AND kind = ?", (kind,))
        query = f"SELECT {_COLUMNS} FROM events WHERE seq > ?{where} ORDER BY seq"  # noqa: S608  # constants
        with self._reading():
            for row in self._connection.execute(query, (after, *values)):
                yield _event(row)

    def last_event(self, kind: str) -> Event | None:
        """Return the newest event of a kind."""
        query = f"SELECT {_COLUMNS} FROM events WHERE kind = ? ORDER BY seq DESC LIMIT 1"  # noqa: S608  # constants
        with self._reading():
            row = self._connection.execute(query, (kind,)).fetchone()
            return None if row is None else _event(row)

    def verify(self, key: ChainKey | None = None, *, after: tuple[int, str] = START) -> tuple[int, str]:
        """Verify the chain after an event and return its head; raises JournalError for the first that does not fit.

        A keyed chain needs its key. Events removed from the end are detected only if they were present when the file
        was opened. Pages and indexes of the whole file are checked too.
        """
        head = self.verify_chain(key, after=after)
        self.check()
        return head

    def verify_chain(self, key: ChainKey | None = None, *, after: tuple[int, str] = START) -> tuple[int, str]:
        """Verify as `verify` does, but the chain alone: what it costs depends on the events after `after` only."""
        (seq, previous), whole = after, after == (self._seq, self._hash)
        query = f"SELECT {_COLUMNS} FROM events WHERE seq > ? ORDER BY seq"  # noqa: S608  # constants
        with self._reading():
            rows = self._connection.execute(query, (seq,))
            for seq, previous in _verified_events(self.path, rows, key or self._key, after):
                whole = whole or (seq, previous) == (self._seq, self._hash)
        if not whole:
            raise _ends_early(self.path, seq, self._seq)
        return seq, previous

    def check(self) -> None:
        """Check pages and indexes; raises JournalError when they are inconsistent.

        Duplicate detection of broker events and intents relies on these indexes.
        """
        with self._reading():
            (result,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if result != "ok":
            raise integrity.damaged_journal(self.path, " ".join(result.split()))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _insert(self, rows: Sequence[tuple[Any, ...]], *, ends: bool) -> None:
        # A full disk stores nothing of the transaction, so it may be retried; no other error is.
        query = f"INSERT INTO events ({_COLUMNS}) VALUES ({', '.join('?' * 11)})"  # noqa: S608  # constants
        while True:
            try:
                with _transaction(self._connection, ends=ends):
                    self._connection.executemany(query, rows)
            except sqlite3.Error as error:
                if not (integrity.is_full(error) and self.free_space()):
                    raise
            else:
                return

    def _head(self) -> tuple[int, str]:
        query = f"SELECT {_COLUMNS} FROM events ORDER BY seq DESC LIMIT 1"  # noqa: S608  # constants
        row = self._connection.execute(query).fetchone()
        if self._anchored:
            _assert_continuable(self.path, row, self._key)
        return (0, GENESIS) if row is None else (row[0], row[-1])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            raise integrity.unusable_journal(self.path, error) from error


def _sqlite_connection(address: str) -> sqlite3.Connection:
    # Open a SQLite connection in autocommit mode.
    return sqlite3.connect(address, uri=address.startswith("file:"), isolation_level=None)


def open_journal(path: Path, connect: Connect = _sqlite_connection, *, key: ChainKey | None = None) -> Journal:
    """Open a journal for writing, creating it if missing; the caller holds the instance's lock.

    `connect` opens the file, `key` is that of its hash chain, which may have none. Raises JournalError for a file that
    is damaged, is not a journal, was written by a newer version, or needs another key.
    """
    before = integrity.noted_event_count(path)
    with _opening(path, str(path), connect) as connection:
        if _blank(connection, before):
            connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; {_SCHEMA} COMMIT;"
            )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        anchored = filesystem.exists(path)  # False for one in memory
        return _checked(path, connection, before, anchored=anchored, key=key)


def read_journal(path: Path) -> Journal:
    """Open a journal read-only, without checkpoints. A file whose creation a crash interrupted reads as empty.

    Raises JournalError as `open_journal` does, or when there is no file.
    """
    before = integrity.noted_event_count(path)
    if not filesystem.exists(path):
        raise JournalError(f"There is no journal at {path}.", "Run `tbot run` first.")
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with _opening(path, address) as connection:
            if not _blank(connection, before):
                return _checked(path, connection, before)
            connection.close()
            return open_journal(Path(":memory:"))
    except JournalError as fault:
        if not integrity.closed_out_of_reach(path, fault.__cause__):
            raise
    # The folder is read-only, and the file was closed cleanly: read it without WAL and index.
    with _opening(path, f"{address}&immutable=1") as connection:
        return _checked(path, connection, before)


def is_keyed(digest: str) -> bool:
    """Whether an event's hash was made with a key."""
    return digest.startswith(_KEYED)


def _event_hash(body: Sequence[Any], key: ChainKey | None) -> str:
    # The hash of an event: of all its columns but the hash itself, the hash of the event before included.
    line = _LINE.encode(body).encode()
    if key is None:
        return sha256(line).hexdigest()
    return _KEYED + hmac.digest(key.secret, line, "sha256").hex()


def _verified_events(
    path: Path, rows: Iterable[Sequence[Any]], key: ChainKey | None, after: tuple[int, str] = START
) -> Iterator[tuple[int, str]]:
    # Verify the rows of a journal after an event, given by number and hash; yields number and hash of each. Raises
    # JournalError naming the first that does not fit.
    (seq, previous), keyed = after, is_keyed(after[1])
    for row in rows:
        keyed = keyed or is_keyed(row[-1]) or (key is not None and key.demands(row[0]))
        if keyed and key is None:
            raise _key_missing(path)
        if row[0] != seq + 1 or row[-2] != previous or row[-1] != _event_hash(row[:-1], key if keyed else None):
            raise JournalError(
                f"The journal {path} was changed: event {row[0]} breaks the hash chain after {seq}.", _RESTORE
            )
        seq, previous = row[0], row[-1]
        yield seq, previous


def _assert_continuable(path: Path, last: Sequence[Any] | None, key: ChainKey | None) -> None:
    # Raises JournalError if a journal that ends with this row cannot be continued with the key.
    if last is None:
        return
    keyed = is_keyed(last[-1])
    if keyed and key is None:
        raise _key_missing(path)
    if not keyed and key is not None and key.demands(last[0]):
        raise JournalError(
            f"The journal {path} was changed: its last event has no keyed hash, which events since {key.since} have.",
            _RESTORE,
        )
    if keyed and last[-1] != _event_hash(last[:-1], key):
        raise JournalError(
            f"The last event of the journal {path} was changed, or was written with another key of the audit log.",
            "Restore the journal, or storage/keys/audit.key, from a backup.",
        )


def _ends_early(path: Path, found: int, before: int) -> JournalError:
    # Return the error for a journal that lost events while it was open.
    return JournalError(
        f"The journal {path} was changed: it ends at event {found}, but had event {before} before.", _RESTORE
    )


def verify_new_events(journal: Journal, key: ChainKey | None) -> tuple[int, str]:
    """Verify the events since the last verified one and return the head; all where that one is not known.

    Nothing is written. Raises JournalError.
    """
    known = _read_checkpoint(journal.path, key)
    if known is not None:
        try:
            return journal.verify(key, after=known)
        except JournalError as fault:  # an older journal may have taken its place: judge the whole
            _log.info("journal.verified_anew", reason=fault.message)
    return journal.verify(key)


def verify_all_events(journal: Journal, key: ChainKey | None) -> tuple[int, str]:
    """Verify every event, keep the head as the last verified one and return it. Raises JournalError."""
    head = journal.verify(key)
    _keep_checkpoint(journal.path, head, key)
    return head


def verified_path(journal: Path) -> Path:
    """The file of the last verified event."""
    return journal.with_name(f"{journal.name}-verified")


@contextmanager
def _opening(path: Path, address: str, connect: Connect = _sqlite_connection) -> Iterator[sqlite3.Connection]:
    # Close the connection again when the file proves unusable.
    try:
        connection = connect(address)
    except sqlite3.DatabaseError as error:
        raise integrity.unusable_journal(path, error) from error
    try:
        yield connection
    except sqlite3.DatabaseError as error:
        connection.close()
        raise integrity.unusable_journal(path, error) from error
    except JournalError:
        connection.close()
        raise


def _checked(
    path: Path,
    connection: sqlite3.Connection,
    before: int,
    *,
    anchored: bool = False,
    key: ChainKey | None = None,
) -> Journal:
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        if before and not application:
            raise integrity.truncated_error(path, 0, before)
        raise JournalError(f"{path} is not a journal of tbot.", "Choose another file, or move this one away.")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"The journal {path} has schema {version}; this version supports {SCHEMA_VERSION}.",
            "Install the newer tbot.",
        )
    journal = Journal(path, connection, anchored=anchored, key=key)
    if journal.head[0] < before:
        raise integrity.truncated_error(path, journal.head[0], before)
    return journal


def _blank(connection: sqlite3.Connection, before: int) -> bool:
    # Whether the file is new, or its creation was interrupted.
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return not (before or application or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])


@contextmanager
def _transaction(connection: sqlite3.Connection, *, ends: bool) -> Iterator[None]:
    # One that does not end continues in the next one.
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        if ends:
            connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors roll back themselves
            connection.execute("ROLLBACK")
        raise


def _row(seq: int, entry: NewEvent, payload: str, previous: str, key: ChainKey | None) -> tuple[Any, ...]:
    applied = entry.time.isoformat()
    received = applied if entry.received is None else entry.received.isoformat()
    source = entry.source or (None, None, None)
    body = (seq, entry.kind, entry.cid, *source, payload, received, applied, previous)
    return (*body, _event_hash(body, key))


def _texts(payloads: Sequence[Mapping[str, Any]]) -> list[str]:
    # Payloads as stored, with secrets redacted: a broker's message may quote a key. Check the whole transaction first,
    # since redaction is rarely needed.
    texts = [_json(payload) for payload in payloads]
    whole = "\n".join(texts)
    if redact(whole) == whole:
        return texts
    return [
        text if redact(text) == text else _json(redact_all(payload))
        for payload, text in zip(payloads, texts, strict=True)
    ]


def _json(payload: object) -> str:
    return _PAYLOAD.encode(payload)


def _event(row: Sequence[Any]) -> Event:
    return Event(
        seq=row[0],
        kind=row[1],
        cid=row[2],
        source=None if row[3] is None else (row[3], row[4], row[5]),
        payload=json_document.parse_json(row[6]),
        received=datetime.fromisoformat(row[7]),
        applied=datetime.fromisoformat(row[8]),
        hash=row[10],
    )


def _key_missing(path: Path) -> JournalError:
    return JournalError(
        f"The hash chain of the journal {path} needs the key of the audit log, which is missing.",
        "Restore storage/keys/audit.key from a backup.",
    )


def _read_checkpoint(journal: Path, key: ChainKey | None) -> tuple[int, str] | None:
    # The last verified event; None without one that counts.
    try:
        count, digest, mac = filesystem.read_bytes(verified_path(journal), limit=_CHECKPOINT_BYTES).decode().split()
        head = int(count), digest
    except (AccessError, ValueError):
        return None
    return head if mac == _checkpoint_mac(head, key) else None


def _keep_checkpoint(journal: Path, head: tuple[int, str], key: ChainKey | None) -> None:
    # Without the head only time is lost; a reader may not be allowed to write.
    try:
        filesystem.write_atomic(verified_path(journal), f"{head[0]} {head[1]} {_checkpoint_mac(head, key)}\n".encode())
    except AccessError as fault:
        _log.info("journal.head_not_kept", reason=fault.message)


def _checkpoint_mac(head: tuple[int, str], key: ChainKey | None) -> str:
    return _event_hash((_CHECKPOINT, *head), key)
