"""The login store: failed attempts, sessions, used codes and the one-time link, in `data/web.sqlite`.

Time is measured so that a changed clock neither ends nor lengthens a lock: within one boot of the machine by its
monotonic clock. After a reboot the wall clock tells how much has passed, from nothing to everything; sessions and
links end with the boot. Names, tokens and links are stored as hashes.
"""

from __future__ import annotations

import hmac
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, random

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.clock import Clock

FILE_NAME: Final = "web.sqlite"

MOST_SUBJECTS: Final = 10_000
"""The largest number of names and sources with failed attempts; beyond it those with the fewest go."""

WAIT_S: Final = 0.25
"""How long another program that writes the file is waited for; the whole page waits meanwhile."""

_APPLICATION: Final = 0x7462_7765

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_SCHEMA: Final = """
CREATE TABLE store (boot TEXT NOT NULL, key BLOB NOT NULL) STRICT;
CREATE TABLE attempts (
  subject TEXT PRIMARY KEY,
  failures INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  wall REAL NOT NULL,
  monotonic REAL NOT NULL
) STRICT;
CREATE TABLE sessions (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash TEXT NOT NULL UNIQUE,
  user TEXT NOT NULL,
  stamp TEXT NOT NULL,
  source TEXT NOT NULL,
  agent TEXT NOT NULL,
  wall REAL NOT NULL,
  created REAL NOT NULL,
  seen REAL NOT NULL,
  stepped_up REAL,
  failures INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE codes (user TEXT PRIMARY KEY, step INTEGER NOT NULL) STRICT;
CREATE TABLE links (hash TEXT PRIMARY KEY, created REAL NOT NULL) STRICT;
"""

_ADDED: Final = "CREATE TABLE IF NOT EXISTS last_logins (user TEXT PRIMARY KEY, wall REAL NOT NULL) STRICT"

_FAILED: Final = """
INSERT INTO attempts VALUES (?1, 1, 0, ?2, ?3) ON CONFLICT (subject) DO UPDATE SET
failures = failures + 1, wall = ?2, monotonic = ?3
"""

_REFUSED: Final = """
INSERT INTO attempts VALUES (?1, 0, 1, ?2, ?3) ON CONFLICT (subject) DO UPDATE SET refused = refused + 1
"""

_SPENT: Final = """
INSERT INTO codes VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET step = excluded.step WHERE excluded.step > step
"""

_SURPLUS: Final = """
DELETE FROM attempts WHERE subject IN
(SELECT subject FROM attempts ORDER BY failures DESC, monotonic DESC LIMIT -1 OFFSET ?)
"""

MOST_SESSIONS: Final = 20
"""The largest number of sessions of a user; beyond it the one that was idle longest ends."""

_AGENT: Final = 120

_BEGUN: Final = """
INSERT INTO sessions (hash, user, stamp, source, agent, wall, created, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""

_IDLE_LONGEST: Final = """
DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user = ? ORDER BY seen DESC, id DESC LIMIT -1 OFFSET ?)
"""

_COLUMNS: Final = "id, user, stamp, source, agent, wall, created, seen, stepped_up"


@attrs.frozen(kw_only=True)
class LockRule:
    """After `limit` failures a subject is locked for `span_s` seconds; they are forgotten as long after the last."""

    limit: int
    span_s: float


@attrs.frozen(kw_only=True)
class Attempt:
    """A login attempt: the subjects that it counts for, and whether password and code were right.

    `source` is "" where it does not count. `step` is the (user, time step) of the one-time password.
    """

    name: str
    source: str = ""
    right: bool
    step: tuple[str, int] | None = None


@attrs.frozen(kw_only=True)
class AttemptResult:
    """What became of an attempt; `locked` are the subjects that it locked."""

    accepted: bool
    locked: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class StoredSession:
    """A stored session. `started` is by the wall clock; ages and idle time are in seconds.

    `step_up_age` is None without a step-up.
    """

    id: int
    user: str
    stamp: str
    source: str
    agent: str
    started: datetime
    age_s: float
    idle_s: float
    step_up_age_s: float | None


@attrs.frozen(kw_only=True)
class NewSession:
    """A session that begins; `stamp` is that of the account."""

    user: str
    stamp: str
    source: str
    agent: str


class LoginStore:
    """The open database; every failure of it is an AccessError. Used in one thread.

    `boot` identifies the boot of the machine.
    """

    def __init__(self, path: Path, clock: Clock, boot: str | None = None) -> None:
        self._path = path
        self.clock = clock
        filesystem.make_folder(path.parent)
        if not filesystem.is_present(path):
            filesystem.append(path, b"")  # SQLite would let others read it; its other files follow this one
        with self._faults():
            self._connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
        try:
            with self._faults():
                self._prepare()
            self._key = self._begin_boot(boot or boot_id())
        except BaseException:
            self._connection.close()
            raise
        self.attempts = Attempts(self)
        self.sessions = StoredSessions(self)

    @property
    def seconds(self) -> float:
        """The clock by which times are stored and compared."""
        return self.clock.monotonic()

    @property
    def wall(self) -> float:
        """The wall clock, in epoch seconds."""
        return self.clock.now().timestamp()

    @property
    def changes(self) -> int:
        """The number of rows that this process changed."""
        return self._connection.total_changes

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all changes inside are stored together, or none."""
        with self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._faults():
                self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def run(self, statement: str, *values: object) -> int:
        """Execute a statement, and return the number of changed rows."""
        with self._faults():
            return self._connection.execute(statement, values).rowcount

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with self._faults():
            return self._connection.execute(query, values).fetchall()

    def subject(self, kind: str, text: str) -> str:
        """A name or source as it is stored: a keyed hash, since people type passwords into the wrong field."""
        return hmac.new(self._key, f"{kind} {text}".encode(errors="surrogatepass"), sha256).hexdigest()

    def set_link(self, token: str) -> None:
        """Store the only valid one-time link."""
        with self.transaction():
            self.run("DELETE FROM links")
            self.run("INSERT INTO links VALUES (?, ?)", _token_hash(token), self.seconds)

    def link_age_s(self, token: str) -> float | None:
        """The age of a one-time link in seconds; None for one that is not valid."""
        found = self.rows("SELECT created FROM links WHERE hash = ?", _token_hash(token))
        return self.seconds - found[0][0] if found else None

    def remove_link(self) -> None:
        """Remove the one-time link."""
        self.run("DELETE FROM links")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application == 0:
            self._connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION}; {_SCHEMA} COMMIT;"
            )
        elif application != _APPLICATION:
            raise sqlite3.DatabaseError("it is another kind of database")
        self._connection.execute(_ADDED)
        # After a power cut sessions end in any case, and the last failures may be forgotten.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _begin_boot(self, boot: str) -> bytes:
        # Express the times of an earlier boot by this one's clock; returns the key of the hashes.
        with self.transaction():
            if not self.rows("SELECT boot FROM store"):
                self.run("INSERT INTO store VALUES (?, ?)", boot, random.entropy(32))
            ((before, key),) = self.rows("SELECT boot, key FROM store")
            ahead = self.rows("SELECT 1 FROM attempts WHERE monotonic > ?", self.seconds)
            if before != boot or ahead:
                self.run("UPDATE store SET boot = ?", boot)
                self.run("DELETE FROM sessions")
                self.run("DELETE FROM links")
                # What passed is at least nothing: a clock that was set back does not lengthen a lock.
                self.run(
                    "UPDATE attempts SET monotonic = ?1 - max(?2 - wall, 0), wall = min(wall, ?2)",
                    self.seconds,
                    self.wall,
                )
        return bytes(key)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise AccessError(
                f"The login store {self._path} cannot be used: {error}.",
                "Check the disk. A damaged file may be removed while `tbot web` is stopped: sessions then end, and "
                "locks are forgotten.",
            ) from error


class Attempts:
    """The failed attempts of names and sources, and the locks that follow from them."""

    def __init__(self, store: LoginStore) -> None:
        self._store = store

    def record(self, attempt: Attempt, rule: LockRule) -> AttemptResult:
        """Count an attempt, and return whether it is accepted. As many rows are written for any name that fails.

        A locked subject refuses also what is right, and its lock stays as long as it was. A locked source does not
        count for names: it cannot lock them.
        """
        subjects = [one for one in (attempt.source, attempt.name) if one]
        with self._store.transaction():
            self._prune(rule)
            failures = {subject: self._failures(subject) for subject in subjects}
            is_locked = {subject: failures[subject] >= rule.limit for subject in subjects}
            if not any(is_locked.values()) and attempt.right and self.spend(attempt.step):
                self._store.run("DELETE FROM attempts WHERE subject = ?", attempt.name)
                return AttemptResult(accepted=True)
            right = attempt.right and any(is_locked.values())
            for one in subjects:
                counts = (
                    not right and not is_locked[one] and not (one == attempt.name and is_locked.get(attempt.source))
                )
                self._fail(one, counts=counts)
                failures[one] += counts
        locked = tuple(subject for subject in subjects if failures[subject] >= rule.limit and not is_locked[subject])
        return AttemptResult(accepted=False, locked=locked)

    def lock_ends_s(self, subject: str, rule: LockRule) -> float | None:
        """The seconds until a subject's lock ends; None where it is not locked."""
        found = self._store.rows(
            "SELECT ? - ? + monotonic FROM attempts WHERE subject = ? AND failures >= ?",
            rule.span_s,
            self._store.seconds,
            subject,
            rule.limit,
        )
        return found[0][0] if found and found[0][0] > 0 else None

    def unlock(self, subject: str) -> bool:
        """Forget the failures of a subject; returns whether there were any."""
        return self._store.run("DELETE FROM attempts WHERE subject = ?", subject) > 0

    def spend(self, step: tuple[str, int] | None) -> bool:
        """Spend a one-time password by its user and time step; False where this step or a later one was spent."""
        return step is None or self._store.run(_SPENT, *step) > 0

    def _failures(self, subject: str) -> int:
        found = self._store.rows("SELECT failures FROM attempts WHERE subject = ?", subject)
        return found[0][0] if found else 0

    def _fail(self, subject: str, *, counts: bool) -> None:
        self._store.run(_FAILED if counts else _REFUSED, subject, self._store.wall, self._store.seconds)

    def _prune(self, rule: LockRule) -> None:
        self._store.run("DELETE FROM attempts WHERE monotonic <= ?", self._store.seconds - rule.span_s)
        self._store.run(_SURPLUS, MOST_SUBJECTS)


def boot_id() -> str:
    """The id of the machine's boot; where the system has none, one of this process."""
    try:
        return filesystem.read_text(_BOOT_ID).strip()
    except AccessError:
        return random.token(20)


class StoredSessions:
    """The sessions of a store."""

    def __init__(self, store: LoginStore) -> None:
        self._store = store

    def add(self, token: str, new: NewSession) -> None:
        """Begin a session."""
        now = self._store.seconds
        values = (_token_hash(token), new.user, new.stamp, new.source, new.agent[:_AGENT], self._store.wall, now, now)
        with self._store.transaction():
            self._store.run(_BEGUN, *values)
            self._store.run(_IDLE_LONGEST, new.user, MOST_SESSIONS)

    def find(self, token: str) -> StoredSession | None:
        """The session of a token."""
        sessions = self._select("hash = ?", _token_hash(token))
        return sessions[0] if sessions else None

    def of_user(self, user: str | None = None) -> list[StoredSession]:
        """The sessions of a user, or of all."""
        return self._select("?1 IS NULL OR user = ?1", user)

    def mark_login(self, user: str) -> None:
        """Record that a user logged in now."""
        self._store.run("INSERT OR REPLACE INTO last_logins VALUES (?, ?)", user, self._store.wall)

    def last_logins(self) -> dict[str, datetime]:
        """When each user logged in last, by the wall clock."""
        found = self._store.rows("SELECT user, wall FROM last_logins")
        return {user: datetime.fromtimestamp(wall, UTC) for user, wall in found}

    def mark_seen(self, session: StoredSession) -> None:
        """Record that a session is in use."""
        self._store.run("UPDATE sessions SET seen = ? WHERE id = ?", self._store.seconds, session.id)

    def step_up(self, session: StoredSession, token: str) -> None:
        """Record a step-up, and give the session a new token."""
        renewed = "UPDATE sessions SET hash = ?, stepped_up = ?, seen = ? WHERE id = ?"
        now = self._store.seconds
        self._store.run(renewed, _token_hash(token), now, now, session.id)

    def rebind(self, session: StoredSession, token: str, stamp: str) -> None:
        """Bind a session to the account as it is now, and give it a new token."""
        self._store.run("UPDATE sessions SET hash = ?, stamp = ? WHERE id = ?", _token_hash(token), stamp, session.id)

    def count_failure(self, session: StoredSession, limit: int) -> bool:
        """Count a failed step-up; at the limit the session ends. Returns whether it goes on."""
        with self._store.transaction():
            self._store.run("UPDATE sessions SET failures = failures + 1 WHERE id = ?", session.id)
            self._store.run("DELETE FROM sessions WHERE id = ? AND failures >= ?", session.id, limit)
            return bool(self._store.rows("SELECT 1 FROM sessions WHERE id = ?", session.id))

    def forget_failures(self, session: StoredSession) -> None:
        """Forget the failures of a session whose user entered the right password."""
        self._store.run("UPDATE sessions SET failures = 0 WHERE id = ?", session.id)

    def end(self, number: int) -> None:
        """End a session."""
        self._store.run("DELETE FROM sessions WHERE id = ?", number)

    def end_all(self, user: str) -> int:
        """End all sessions of a user; returns their number."""
        return self._store.run("DELETE FROM sessions WHERE user = ?", user)

    def end_expired(self, idle_s: float, absolute_s: float) -> None:
        """End the sessions that were idle this long, or began this long ago."""
        now = self._store.seconds
        self._store.run("DELETE FROM sessions WHERE seen <= ? OR created <= ?", now - idle_s, now - absolute_s)

    def _select(self, where: str, *values: object) -> list[StoredSession]:
        query = f"SELECT {_COLUMNS} FROM sessions WHERE {where} ORDER BY id"  # noqa: S608  # constants
        return [self._session(row) for row in self._store.rows(query, *values)]

    def _session(self, row: tuple[Any, ...]) -> StoredSession:
        number, user, stamp, source, agent, wall, created, seen, stepped_up = row
        now = self._store.seconds
        return StoredSession(
            id=number,
            user=user,
            stamp=stamp,
            source=source,
            agent=agent,
            started=datetime.fromtimestamp(wall, UTC),
            age_s=now - created,
            idle_s=now - seen,
            step_up_age_s=None if stepped_up is None else now - stepped_up,
        )


def _token_hash(token: str) -> str:
    # The hash under which a token is stored.
    return sha256(token.encode(errors="surrogatepass")).hexdigest()
