"""Limits messages: single ones up to a limit, then one with all waiting alerts, then a pause. Pure."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from tbot_core.contracts import Urgency
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

One = TypeVar("One")


@attrs.frozen
class MessageLimit:
    """The largest number of messages in a time span, plus one that holds the rest."""

    messages: int
    span: timedelta


LIMITS: Final[Mapping[Urgency, MessageLimit]] = {
    Urgency.CRITICAL: MessageLimit(5, timedelta(hours=1)),
    Urgency.ROUTINE: MessageLimit(20, timedelta(minutes=10)),
}


@attrs.frozen
class SentMessage:
    """A message that was sent, and how many alerts it held."""

    time: datetime
    alerts: int


def due_messages(
    waiting: Sequence[One], sent: Sequence[SentMessage], limit: MessageLimit, now: datetime
) -> list[Sequence[One]]:
    """The messages that may be sent now, each with its alerts, oldest first."""
    recent = [message for message in sent if now - message.time < limit.span]
    if any(message.alerts > 1 for message in recent) or len(recent) > limit.messages:
        return []
    available = limit.messages - len(recent)
    rest = waiting[available:]
    return [*([one] for one in waiting[:available]), *([rest] if rest else [])]


def limit_ends(sent: Sequence[SentMessage], limit: MessageLimit, now: datetime) -> datetime | None:
    """Until when the limit lets no message go; None if one may be sent now."""
    recent = sorted((message for message in sent if now - message.time < limit.span), key=lambda one: one.time)
    blocking = [message for message in recent if message.alerts > 1]
    if len(recent) > limit.messages:
        blocking.append(recent[-limit.messages - 1])
    return max(message.time for message in blocking) + limit.span if blocking else None


def in_quiet_hours(hours: str, now: datetime) -> bool:
    """Whether the time is in a span HH:MM-HH:MM of New York time, which may pass midnight; false for ""."""
    if not hours:
        return False
    first, last = (time.fromisoformat(part) for part in hours.split("-"))
    clock = exchange_time(now).time()
    return first <= clock < last if first <= last else clock >= first or clock < last
