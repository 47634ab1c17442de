"""What each channel has yet to get, how its last deliveries went, and what it did not deliver: tables of the alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from tbot_core.contracts import Urgency

BETWEEN: Final = ", "
"""What separates the names of the channels that a message reached."""

KEPT: Final = timedelta(days=1)
"""How long a channel that fails is tried with a message that another channel delivered."""

FOLLOWED_UP: Final = timedelta(hours=1)
"""How long the channel of a message alone is tried with the end of its incident, or an acknowledgement."""

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
TABLES: Final = (_DELIVERIES, _CHANNELS, _FAILURES)
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
