"""The login store: failed attempts, sessions, used codes and the one-time link, in `data/web.sqlite`.

Time is measured so that a changed clock neither ends nor lengthens a lock: within one boot of the machine by its
monotonic clock. After a reboot the wall clock tells how much has passed, from nothing to everything; sessions and
links end with the boot. Names, tokens and links are stored as hashes.
"""

from __future__ import annotations

import hmac
import sqlite3
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, random
from tbot_extension_web.access.stored_sessions import StoredSessions, token_hash

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
            self.run("INSERT INTO links VALUES (?, ?)", token_hash(token), self.seconds)

    def link_age_s(self, token: str) -> float | None:
        """The age of a one-time link in seconds; None for one that is not valid."""
        found = self.rows("SELECT created FROM links WHERE hash = ?", token_hash(token))
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
            failures = {one: self._failures(one) for one in subjects}
            is_locked = {one: failures[one] >= rule.limit for one in subjects}
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
        locked = tuple(one for one in subjects if failures[one] >= rule.limit and not is_locked[one])
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
