"""Alerts: messages to the operator, and the channels that deliver them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

import attrs


class Urgency(StrEnum):
    """Whether the alert must wake somebody."""

    CRITICAL = "critical"
    ROUTINE = "routine"


@attrs.frozen(kw_only=True)
class Alert:
    """One message.

    `key` names the incident: a repeated message and the message that closes the incident (`resolved`) have the same
    key. `title` is one line: mode, identity and what happened. `text` is the whole message: the title, the time, and
    the command to run next. `time` is UTC. `mode`, `identity` and `command` are parts of the text, for a service that
    shows them by themselves.
    """

    key: str
    urgency: Urgency
    title: str
    text: str
    time: datetime
    resolved: bool = False
    mode: str = ""
    identity: str = ""
    command: str = ""


@runtime_checkable
class AlertChannel(Protocol):
    """A way to deliver alerts to the operator.

    It runs in the event loop of trading: slow operations must be awaited and never block. The core limits the time of
    each call and retries later, so a channel needs no queue and no retries.
    """

    async def send(self, alert: Alert) -> str | None:
        """Deliver the alert; returns when the service has accepted it, with the service's words where it has some.

        Raises `PartlyDelivered` if only some recipients were accepted, `Undelivered` or another error if none was.
        """


@runtime_checkable
class SupportsConnectionCheck(Protocol):
    """A channel that can try its connection and its login without sending a message."""

    async def check_connection(self) -> str:
        """Connect as `send` does, and send nothing; returns what the service answered. Raises as `send`."""


@runtime_checkable
class SupportsAcknowledgement(Protocol):
    """A channel whose service knows that somebody has acknowledged an incident."""

    async def acknowledge(self, alert: Alert) -> str | None:
        """Acknowledge the incident of the alert's key; also of one that the service does not know. Raises as `send`."""


@runtime_checkable
class SendsOnce(Protocol):
    """A channel whose service cannot recognise a repeated message, such as text messages.

    The core gives it a message once, over restarts too. It gives it again only after an error that proves that the
    service did not accept it: `Undelivered` that is not `unclear`. Any other error, the time limit and the end of the
    process leave that open.
    """

    @property
    def sends_once(self) -> bool:
        """Whether a message may be sent once only."""
