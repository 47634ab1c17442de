"""Alerts: what is said to the operator where he is not looking, and the channels that carry it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import attrs


class Urgency(StrEnum):
    """Whether somebody has to be woken."""

    CRITICAL = "critical"
    ROUTINE = "routine"


@attrs.frozen(kw_only=True)
class Alert:
    """What one message says.

    `key` names the incident: a message that is sent again, and the one that says that it is over (`resolved`), bear
    the same. `title` is one line: mode, identity and what happened. `text` is the whole: the title, when it was, and
    the command to run next. `time` is UTC.
    """

    key: str
    urgency: Urgency
    title: str
    text: str
    time: datetime
    resolved: bool = False


@runtime_checkable
class AlertChannel(Protocol):
    """A way to the operator.

    It shares the loop with trading: whatever takes time is awaited, never waited for. The core bounds each call in
    time and tries again later, so a channel keeps no queue and retries nothing.
    """

    async def send(self, alert: Alert) -> None:
        """Hand it over; returns when the service has taken it. Raises `Undelivered`, or anything else, when not."""
