"""The alerts of an instance in a database beside the journal, with the position up to which the journal was read.

The bot, its watchdog and `tbot alerts ack` write here; the journal has only one writer. Alerts and the position change
in one transaction, so that alerts lost in a power cut are derived again. Other tables have what each channel has yet to
get, how its last deliveries went, and what it did not deliver.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.alerts.rate_limit import LIMITS, SentMessage, limit_ends
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError
from tbot_core.system import filesystem, forks
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tbot_core.instance import Instance

FILE_NAME: Final = "alerts.sqlite"
STATUS_COMMAND: Final = "tbot status"
MOST_WAITING: Final = 1_000
"""The largest number of waiting alerts; beyond it the oldest routine ones are only stored."""

MOST_KEPT: Final = 20_000
SETTLED: Final = timedelta(seconds=60)
"""An incident is closed when its cause has been gone this long; one that returns sooner is the same."""

PROCESS: Final = "process"
"""The incident of a hung or dead process; the running process clears it."""

ENDED: Final = "process ended"
"""The incident of a run that ended for a known reason; the next run clears it at its start."""

QUESTION: Final = "question "
"""The beginning of the key of a request that a person must answer within seconds: nothing may hold it back."""

_QUESTIONS: Final = f"{QUESTION}%"
_WAIT_S: Final = 0.1
_APPLICATION: Final = 0x7462_616C
_DELIVERIES: Final = """
CREATE TABLE IF NOT EXISTS deliveries (
  message TEXT NOT NULL,
  part TEXT NOT NULL,
  channel TEXT NOT NULL,
  begun INTEGER NOT NULL,
  since TEXT NOT NULL,
  PRIMARY KEY (message, part, channel)
) STRICT
"""

_CHANNELS: Final = """
CREATE TABLE IF NOT EXISTS channels (name TEXT PRIMARY KEY, delivered TEXT, failed TEXT, reason TEXT) STRICT
"""

_FAILURES: Final = """
CREATE TABLE IF NOT EXISTS failures (
  message TEXT NOT NULL,
  channel TEXT NOT NULL,
  reason TEXT NOT NULL,
  since TEXT NOT NULL,
  PRIMARY KEY (message, channel)
) STRICT
"""

_TABLES: Final = (_DELIVERIES, _CHANNELS, _FAILURES)
_ADDED: Final = (
    *_TABLES,
    "CREATE TABLE IF NOT EXISTS reported (message TEXT PRIMARY KEY, sent TEXT NOT NULL) STRICT",
    "CREATE INDEX IF NOT EXISTS alerts_acknowledged ON alerts (acked) WHERE acked IS NOT NULL",
)
"""What a file of an older version lacks. `reported`: the messages whose acknowledgement was passed on."""

_SCHEMA: Final = """
CREATE TABLE place (seq INTEGER NOT NULL);
CREATE TABLE alerts (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  urgency TEXT NOT NULL,
  what TEXT NOT NULL,
  command TEXT NOT NULL,
  opened TEXT NOT NULL,
  stands INTEGER NOT NULL,
  times INTEGER NOT NULL DEFAULT 1,
  cleared TEXT,
  sent TEXT,
  via TEXT,
  message TEXT,
  told TEXT,
  acked TEXT,
  actor TEXT
) STRICT;
CREATE INDEX alerts_waiting ON alerts (urgency, id) WHERE sent IS NULL;
CREATE INDEX alerts_standing ON alerts (key) WHERE stands AND told IS NULL;
"""

_AGAIN: Final = """
UPDATE alerts SET cleared = NULL, times = times + (cleared IS NOT NULL)
WHERE key = ? AND stands AND told IS NULL AND (cleared IS NULL OR cleared > ?) AND (? = 0 OR what = ?)
"""

_SURPLUS: Final = """
UPDATE alerts SET sent = ?, via = 'kept' WHERE id IN
(SELECT id FROM alerts WHERE sent IS NULL ORDER BY urgency = 'routine', id DESC LIMIT -1 OFFSET ?)
"""

_MOMENTS: Final = ("opened", "cleared", "sent", "told", "acked")
BETWEEN: Final = ", "
"""What separates the names of the channels that a message reached."""

KEPT: Final = timedelta(days=1)
"""How long a channel that fails is tried with a message that another channel delivered."""

FOLLOWED_UP: Final = timedelta(hours=1)
"""How long the channel of a message alone is tried with the end of its incident, or an acknowledgement."""

_BEGIN: Final = """
INSERT INTO deliveries (message, part, channel, begun, since) VALUES (?, ?, ?, 1, ?)
ON CONFLICT DO UPDATE SET begun = 1 WHERE begun = 0
"""

_ADD: Final = """
INSERT INTO deliveries (message, part, channel, begun, since) VALUES (?, ?, ?, 0, ?)
ON CONFLICT DO UPDATE SET begun = 0
"""

_DELIVERED: Final = """
INSERT INTO channels (name, delivered) VALUES (?, ?) ON CONFLICT DO UPDATE SET delivered = excluded.delivered
"""

_FAILED: Final = """
INSERT INTO channels (name, failed, reason) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET failed = excluded.failed, reason = excluded.reason
"""

_KEEP_REASON: Final = """
INSERT OR REPLACE INTO failures SELECT ?, name, reason, ? FROM channels WHERE name = ? AND reason IS NOT NULL
"""

_KEPT: Final = "SELECT count(*) FROM alerts WHERE via = 'kept' AND told IS NULL AND NOT stands AND urgency = ?"
_COUNT_KEPT: Final = "UPDATE alerts SET told = ? WHERE via = 'kept' AND told IS NULL AND NOT stands AND urgency = ?"
_WITHDRAW: Final = "UPDATE deliveries SET begun = 0 WHERE message = ? AND part = ? AND channel = ?"
_SETTLE: Final = "DELETE FROM deliveries WHERE message = ? AND part = ? AND channel = ?"
_SETTLE_ALL: Final = "DELETE FROM deliveries WHERE message = ? AND part = ?"
FAILOVER_STATUS_COMMAND: Final = "tbot failover status"
FAILOVER_CONFIRM_COMMAND: Final = "tbot failover confirm --amount USD"
FAILOVER_DRILL_COMMAND: Final = "tbot failover drill"
NEXT_COMMANDS: Final = {
    StateCause.KILL_FILE: "rm {control_dir}/kill",
    StateCause.STOP_FILE: "rm {control_dir}/stop",
    StateCause.KILL_COMMAND: "tbot kill --clear",
    StateCause.KILL_SIGNAL: "tbot kill --clear",
    StateCause.NOT_ARMED: "tbot arm",
    StateCause.LOGIN: "tbot check",
    StateCause.DISK_LOW: "tbot check",
    StateCause.PRIMARY_DOWN: FAILOVER_STATUS_COMMAND,
    StateCause.BROKERS_DOWN: FAILOVER_STATUS_COMMAND,
    StateCause.JOURNAL: "tbot audit verify",
    StateCause.JOURNAL_OLDER: "tbot audit accept",
    StateCause.REJECTS: "tbot alerts log",
    StateCause.PLUGIN_LOST: "tbot plugins list",
    StateCause.BROKER_PLUGIN: "tbot plugins list",
}
"""What a person does about a cause."""


@attrs.frozen(kw_only=True)
class Notice:
    """A notice: `what` happened, with its numbers, and the one command to run next.

    `key` is the name of the incident; for a single event it is the event's name.
    """

    key: str
    urgency: Urgency
    what: str
    command: str = STATUS_COMMAND


@attrs.frozen(kw_only=True)
class StoredAlert:
    """A stored alert.

    `stands`: it is an incident, closed once `cleared`; `times` counts its occurrences. `message` is the key of the
    message that contained it, `via` the channels that it reached, or `kept` if it was never sent; `told` is when its
    end was passed on to these.
    """

    id: int
    key: str
    urgency: Urgency
    what: str
    command: str
    opened: datetime
    stands: bool
    times: int
    cleared: datetime | None
    sent: datetime | None
    via: str | None
    message: str | None
    told: datetime | None
    acked: datetime | None
    actor: str | None

    @property
    def open(self) -> bool:
        """Whether it is an open incident."""
        return self.stands and self.cleared is None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it reached."""
        return tuple(self.via.split(BETWEEN)) if self.via else ()


class AlertStore:
    """The open database; every failure of it is an AccessError."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        self._path = path
        self._grown: datetime | None = None
        self.pending = PendingDeliveries(self._execute)
        address = f"{path.resolve().as_uri()}?mode=ro" if reading else str(path)
        with self._faults():
            self._connection = sqlite3.connect(address, timeout=_WAIT_S, uri=reading, isolation_level=None)
        try:
            with self._faults():
                self._prepare(reading=reading)
        except AccessError:
            self._connection.close()
            raise

    @property
    def journal_position(self) -> int | None:
        """The last event of the journal that was read; None before the first time."""
        with self._faults():
            found = self._connection.execute("SELECT seq FROM place").fetchone()
        return None if found is None else found[0]

    @contextmanager
    def transaction(self, place: int | None = None) -> Iterator[None]:
        """A transaction: all changes inside are saved together with the journal position, or none."""
        with self._faults():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            if self._grown is not None:
                self._bound(self._grown)
            with self._faults():
                if place is not None:
                    self._connection.execute("DELETE FROM place")
                    self._connection.execute("INSERT INTO place VALUES (?)", (place,))
                self._connection.execute("COMMIT")
            self._grown = None
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def add_notices(self, notices: Iterable[Notice], now: datetime) -> None:
        """Store notices to be sent."""
        for notice in notices:
            self._insert(notice, now, stands=False)

    def open_incident(self, one: Notice, now: datetime, *, worded: bool = False) -> None:
        """Open an incident; one closed for less than a minute continues, if `worded` only with the same text."""
        if not self._run(_AGAIN, one.key, now - SETTLED, int(worded), one.what):
            self._insert(one, now, stands=True)

    def clear_incident(self, key: str, now: datetime) -> None:
        """Record that the cause of an incident is gone."""
        self._run("UPDATE alerts SET cleared = ? WHERE key = ? AND stands AND cleared IS NULL", now, key)

    def open_incidents(self) -> set[str]:
        """The keys of the open incidents."""
        return {row.key for row in self._select("stands AND told IS NULL AND cleared IS NULL")}

    def unsent(self, urgency: Urgency | None) -> list[StoredAlert]:
        """The unsent alerts without questions, oldest first; for None the questions."""
        if urgency is None:
            return self._select("sent IS NULL AND key LIKE ?", _QUESTIONS)
        return self._select("urgency = ? AND sent IS NULL AND key NOT LIKE ?", urgency, _QUESTIONS)

    def messages(self, urgency: Urgency, since: datetime) -> list[SentMessage]:
        """The messages sent since a moment, without questions."""
        query = "SELECT max(sent), count(*) FROM alerts WHERE urgency = ? AND sent > ? AND message IS NOT NULL"
        values = (urgency, since.isoformat(), _QUESTIONS)
        with self._faults():
            rows = self._connection.execute(f"{query} AND key NOT LIKE ? GROUP BY message", values).fetchall()
        return [SentMessage(datetime.fromisoformat(sent), alerts) for sent, alerts in rows]

    def mark_sent(self, rows: Sequence[StoredAlert], message: str, delivery: Delivery, now: datetime) -> None:
        """Record that these alerts were sent together, and which channels have yet to get them."""
        via = BETWEEN.join(delivery.reached)
        with self.transaction():
            for row in rows:
                self._run("UPDATE alerts SET sent = ?, message = ?, via = ? WHERE id = ?", now, message, via, row.id)
            self.pending.settle(message, MessagePart.ALERT)
            self.pending.add(message, MessagePart.ALERT, delivery.missing, now)
            self.pending.keep_reasons(message, delivery.missing, now)
            self.pending.prune(now)

    def followups(self, part: MessagePart, urgency: Urgency, now: datetime) -> list[list[StoredAlert]]:
        """The sent messages of which it is not passed on yet that their alerts are all closed, or all acknowledged."""
        if part is MessagePart.ACKNOWLEDGED:
            return self._acknowledged(urgency, now)
        rows = self._select("urgency = ? AND stands AND told IS NULL AND message IS NOT NULL", urgency)
        found: dict[str, list[StoredAlert]] = {}
        for row in rows:
            found.setdefault(row.message or "", []).append(row)
        return [part for part in found.values() if all(row.cleared and row.cleared <= now - SETTLED for row in part)]

    def queue_followup(
        self, part: MessagePart, rows: Sequence[StoredAlert], channels: Sequence[str], now: datetime
    ) -> None:
        """Record that these channels have yet to get what follows a message; an alert that is over is not sent late."""
        message = rows[0].message or ""
        with self.transaction():
            self.pending.add(message, part, channels, now)
            if part is MessagePart.ACKNOWLEDGED:
                self._run("INSERT OR REPLACE INTO reported VALUES (?, ?)", message, now)
                self._run("DELETE FROM reported WHERE sent < ?", now - 2 * FOLLOWED_UP)
                return
            self.pending.settle(message, MessagePart.ALERT)
            for row in rows:
                self._run("UPDATE alerts SET told = ? WHERE id = ?", now, row.id)

    def acknowledge(self, ids: Sequence[int], actor: str, now: datetime) -> list[int]:
        """Acknowledge alerts and return those newly acknowledged. Without ids: all."""
        chosen = [row.id for row in self._select("acked IS NULL") if not ids or row.id in ids]
        with self.transaction():
            for one in chosen:
                self._run("UPDATE alerts SET acked = ?, actor = ? WHERE id = ?", now, actor, one)
        return chosen

    def rows(self, most: int, message: str | None = None) -> list[StoredAlert]:
        """The newest alerts, or those of a message, oldest first."""
        if message is not None:
            return self._select("message = ?", message)
        return self._select("id > (SELECT coalesce(max(id), 0) FROM alerts) - ?", most)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _prepare(self, *, reading: bool) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application == 0:
            self._connection.executescript(
                f"PRAGMA journal_mode = WAL; BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION}; {_SCHEMA} COMMIT;"
            )
        elif application != _APPLICATION:
            raise sqlite3.DatabaseError("it is another kind of database")
        if not reading:
            for statement in _ADDED:
                self._connection.execute(statement)
        # Alerts lost in a power cut are derived from the journal again, so writes need not wait for the disk.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _acknowledged(self, urgency: Urgency, now: datetime) -> list[list[StoredAlert]]:
        query = (
            "SELECT DISTINCT message FROM alerts WHERE urgency = ? AND acked > ? AND message IS NOT NULL"
            " AND message NOT IN (SELECT message FROM reported)"
        )
        values = (urgency, (now - FOLLOWED_UP).isoformat())
        with self._faults():
            found = self._connection.execute(query, values)
            names = [name for (name,) in found]
        messages = [self._select("message = ?", name) for name in names]
        return [rows for rows in messages if all(row.acked and not row.told for row in rows)]

    def _insert(self, one: Notice, now: datetime, *, stands: bool) -> None:
        columns = "INSERT INTO alerts (key, urgency, what, command, opened, stands) VALUES (?, ?, ?, ?, ?, ?)"
        self._run(columns, one.key, one.urgency, one.what, one.command, now, int(stands))
        if self._connection.in_transaction:
            self._grown = now  # bounded once, at its end: hundreds of events may be stored in one
        else:
            self._bound(now)

    def _bound(self, now: datetime) -> None:
        # Limit the number of waiting and of stored alerts.
        self._run(_SURPLUS, now, MOST_WAITING)
        self._run("DELETE FROM alerts WHERE id <= (SELECT max(id) FROM alerts) - ? AND sent IS NOT NULL", MOST_KEPT)

    def _run(self, statement: str, *values: object) -> int:
        return self._execute(statement, *values)[1]

    def _execute(self, statement: str, *values: object) -> tuple[list[tuple[Any, ...]], int]:
        # The rows, and how many were changed.
        forks.end_if_forked()
        with self._faults():
            done = self._connection.execute(statement, [_plain(value) for value in values])
            return done.fetchall(), done.rowcount

    def _select(self, where: str, *values: str | int) -> list[StoredAlert]:
        with self._faults():
            # `+id`: by the index of the condition, not through all alerts in the order of their numbers.
            query = f"SELECT {_COLUMNS} FROM alerts WHERE {where} ORDER BY +id"  # noqa: S608  # constants
            found = self._connection.execute(query, values)
            return [_row(dict(zip(_COLUMNS.split(", "), one, strict=True))) for one in found]

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"The alert database {self._path} cannot be used: {error}."
            raise AccessError(
                message, "Check the disk; a damaged file may be removed: the journal has all events."
            ) from error


class MessagePart(StrEnum):
    """The parts of a message: the alert, later its end, and that somebody acknowledged it."""

    ALERT = "alert"
    RESOLVED = "resolved"
    ACKNOWLEDGED = "acknowledged"


@attrs.frozen(kw_only=True)
class Delivery:
    """Where a message went: `reached` channels accepted it, or may have; `missing` ones have yet to get it."""

    reached: tuple[str, ...]
    missing: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PendingDelivery:
    """A part of a message that a channel has yet to get; `begun`: it was given to it, and no answer is known."""

    message: str
    part: MessagePart
    channel: str
    begun: bool
    since: datetime


@attrs.frozen(kw_only=True)
class ChannelState:
    """When a channel last delivered a message, when and why it last failed, and how many messages it has yet to get."""

    name: str
    delivered: datetime | None = None
    failed: datetime | None = None
    reason: str = ""
    waiting: int = 0

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed is not None and (self.delivered is None or self.failed > self.delivered)


@attrs.frozen
class PendingDeliveries:
    """The tables; `run` executes a statement and returns its rows and how many it changed."""

    run: Callable[..., tuple[list[tuple[Any, ...]], int]]

    def add(self, message: str, part: MessagePart, channels: Sequence[str], now: datetime) -> None:
        """Record that channels have yet to get a part of a message."""
        for name in channels:
            self.run(_ADD, message, part, name, now)

    def keep_reasons(self, message: str, channels: Sequence[str], now: datetime) -> None:
        """Record why channels did not deliver a message that others delivered: what they answered last."""
        for name in channels:
            self.run(_KEEP_REASON, message, now, name)

    def failures(self) -> dict[str, dict[str, str]]:
        """Why channels did not deliver a message with the others, by message and channel."""
        found: dict[str, dict[str, str]] = {}
        if self.run("SELECT 1 FROM sqlite_master WHERE name = 'failures'")[0]:  # a file of an older version has none
            for message, channel, reason in self.run("SELECT message, channel, reason FROM failures")[0]:
                found.setdefault(message, {})[channel] = reason
        return found

    def begin(self, message: str, part: MessagePart, channel: str, now: datetime) -> bool:
        """Record that a part is given to a channel; false if it was before, and no answer is known."""
        return bool(self.run(_BEGIN, message, part, channel, now)[1])

    def withdraw(self, message: str, part: MessagePart, channel: str) -> None:
        """Record that the channel did not accept it."""
        self.run(_WITHDRAW, message, part, channel)

    def settle(self, message: str, part: MessagePart, channels: Sequence[str] | None = None) -> None:
        """Record that these channels, or all, are no longer to get a part."""
        if channels is None:
            self.run(_SETTLE_ALL, message, part)
        for name in channels or ():
            self.run(_SETTLE, message, part, name)

    def add_reached(self, message: str, channel: str) -> None:
        """Record a further channel that a message reached."""
        self.run("UPDATE alerts SET via = via || ? WHERE message = ?", f"{BETWEEN}{channel}", message)

    def kept(self, urgency: Urgency) -> int:
        """The number of alerts that were too many to wait, and that no digest has counted yet."""
        ((count,),), _ = self.run(_KEPT, urgency)
        return int(count)

    def count_kept(self, urgency: Urgency, now: datetime) -> None:
        """Record that a digest has counted them."""
        self.run(_COUNT_KEPT, now, urgency)

    def of(self, channel: str) -> list[PendingDelivery]:
        """What a channel has yet to get, oldest first; also what was given to it of a message that is not sent yet."""
        query = "SELECT message, part, begun, since FROM deliveries WHERE channel = ? ORDER BY since, rowid"
        rows, _ = self.run(query, channel)
        return [
            PendingDelivery(
                message=message,
                part=MessagePart(part),
                channel=channel,
                begun=bool(begun),
                since=datetime.fromisoformat(since),
            )
            for message, part, begun, since in rows
        ]

    def note(self, channel: str, reason: str, now: datetime) -> None:
        """Record how an attempt ended: `reason` says why it failed, "" if it did not."""
        if reason:
            self.run(_FAILED, channel, now, reason)
        else:
            self.run(_DELIVERED, channel, now)

    def prune(self, now: datetime) -> None:
        """Forget what is too old to be of use."""
        self.run("DELETE FROM deliveries WHERE since < ? AND NOT begun", now - 2 * KEPT)
        for table in ("deliveries", "failures"):
            self.run(f"DELETE FROM {table} WHERE since < ?", now - 30 * KEPT)  # noqa: S608  # constants

    def states(self, unsent: Mapping[str, int]) -> list[ChannelState]:
        """The state of channels; `unsent`: their names, and the number of alerts that no channel has delivered yet."""
        counted = dict(self.run("SELECT channel, count(*) FROM deliveries WHERE NOT begun GROUP BY channel")[0])
        found = {name: rest for name, *rest in self.run("SELECT name, delivered, failed, reason FROM channels")[0]}
        states = []
        for name, alerts in unsent.items():
            delivered, failed, reason = found.get(name, (None, None, None))
            states.append(
                ChannelState(
                    name=name,
                    delivered=None if delivered is None else datetime.fromisoformat(delivered),
                    failed=None if failed is None else datetime.fromisoformat(failed),
                    reason=reason or "",
                    waiting=alerts + counted.get(name, 0),
                )
            )
        return states


_COLUMNS: Final = ", ".join(field.name for field in attrs.fields(StoredAlert))


def open_store(path: Path) -> AlertStore:
    """Open the store, created if missing; a damaged one is replaced, since trading must not wait for it."""
    try:
        return AlertStore(path)
    except AccessError:
        for suffix in ("", "-wal", "-shm"):
            filesystem.remove(path.with_name(f"{path.name}{suffix}"))
        return AlertStore(path)


def alerts_file(instance: Instance) -> Path:
    """The file of an instance's alerts; a rehearsal has its own."""
    return instance.runs / f"{instance.rehearsal}.alerts" if instance.rehearsal else instance.data / FILE_NAME


def stored_alerts(instance: Instance, last: int) -> Sequence[StoredAlert]:
    """The newest alerts of an instance, oldest first; none without a run."""
    path = alerts_file(instance)
    if not filesystem.exists(path):
        return []
    store = AlertStore(path, reading=True)
    try:
        return store.rows(last)
    finally:
        store.close()


def channel_failures(instance: Instance) -> dict[str, dict[str, str]]:
    """Why channels did not deliver a message with the others, by message and channel."""
    path = alerts_file(instance)
    if not filesystem.exists(path):
        return {}
    store = AlertStore(path, reading=True)
    try:
        return store.pending.failures()
    finally:
        store.close()


def limits_end(instance: Instance, now: datetime) -> dict[Urgency, datetime]:
    """Until when the limit of an urgency lets no message go; an urgency whose messages may be sent is absent."""
    path = alerts_file(instance)
    if not filesystem.exists(path):
        return {}
    store = AlertStore(path, reading=True)
    try:
        ends = {
            urgency: limit_ends(store.messages(urgency, now - limit.span), limit, now)
            for urgency, limit in LIMITS.items()
        }
    finally:
        store.close()
    return {urgency: end for urgency, end in ends.items() if end is not None}


def unseen_incidents(instance: Instance) -> list[str]:
    """Open critical incidents that are not acknowledged, as text."""
    try:
        rows = stored_alerts(instance, MOST_KEPT)
    except AccessError as fault:
        return [fault.message]
    critical = [row for row in rows if row.open and row.urgency is Urgency.CRITICAL and not row.acked]
    return [f"Alert {row.id}: {row.what} `{row.command}`; acknowledge: `tbot alerts ack {row.id}`." for row in critical]


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _row(values: Mapping[str, Any]) -> StoredAlert:
    moments = {name: datetime.fromisoformat(values[name]) for name in _MOMENTS if values[name] is not None}
    rest = {"urgency": Urgency(values["urgency"]), "stands": bool(values["stands"])}
    return StoredAlert(**{**values, **moments, **rest})
