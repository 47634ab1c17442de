"""The sessions in the login store, found by the hash of their token."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from tbot_extension_web.access.login_store import LoginStore

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


class StoredSessions:
    """The sessions of a store."""

    def __init__(self, store: LoginStore) -> None:
        self._store = store

    def add(self, token: str, new: NewSession) -> None:
        """Begin a session."""
        now = self._store.seconds
        values = (token_hash(token), new.user, new.stamp, new.source, new.agent[:_AGENT], self._store.wall, now, now)
        with self._store.transaction():
            self._store.run(_BEGUN, *values)
            self._store.run(_IDLE_LONGEST, new.user, MOST_SESSIONS)

    def find(self, token: str) -> StoredSession | None:
        """The session of a token."""
        found = self._select("hash = ?", token_hash(token))
        return found[0] if found else None

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
        self._store.run(renewed, token_hash(token), now, now, session.id)

    def rebind(self, session: StoredSession, token: str, stamp: str) -> None:
        """Bind a session to the account as it is now, and give it a new token."""
        self._store.run("UPDATE sessions SET hash = ?, stamp = ? WHERE id = ?", token_hash(token), stamp, session.id)

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


def token_hash(token: str) -> str:
    """The hash under which a token is stored."""
    return sha256(token.encode(errors="surrogatepass")).hexdigest()
