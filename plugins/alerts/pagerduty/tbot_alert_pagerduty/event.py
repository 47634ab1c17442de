"""An alert as an event of the Events API v2. Pure: https://developer.pagerduty.com/docs/send-alert-event."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import Urgency

if TYPE_CHECKING:
    from tbot_core.contracts import Alert

LONGEST_KEY: Final = 255
LONGEST_SUMMARY: Final = 1024
LONGEST_TEXT: Final = 20_000
_SEVERITY: Final = {Urgency.CRITICAL: "critical", Urgency.ROUTINE: "info"}


class EventAction(StrEnum):
    """What an event does with the incident of its dedup key."""

    TRIGGER = "trigger"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


def compose_event(alert: Alert, action: EventAction, routing_key: str) -> dict[str, Any]:
    """The body of the request. Only a trigger needs the payload; the other actions need the dedup key alone."""
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": action.value,
        "dedup_key": dedup_key(alert.key),
    }
    if action is not EventAction.TRIGGER:
        return event
    details = {
        "mode": alert.mode,
        "identity": alert.identity,
        "incident": alert.key,
        "text": _cut(alert.text, LONGEST_TEXT),
        "next": alert.command,
    }
    payload = {
        "summary": _cut(" ".join(alert.title.split()), LONGEST_SUMMARY) or "tbot",
        "timestamp": alert.time.isoformat(timespec="milliseconds"),
        "severity": _SEVERITY[alert.urgency],
        "source": alert.identity or "tbot",
        "component": "tbot",
        "class": alert.urgency.value,
        "custom_details": {name: words for name, words in details.items() if words},
    }
    if alert.mode:
        payload["group"] = alert.mode
    return {**event, "client": "tbot", "payload": payload}


def dedup_key(key: str) -> str:
    """The key that trigger, acknowledge and resolve of an incident share, in every run: at most 255 characters."""
    return key if len(key) <= LONGEST_KEY else hashlib.sha256(key.encode(errors="replace")).hexdigest()


def _cut(words: str, most: int) -> str:
    whole = words.encode(errors="replace").decode()
    return whole if len(whole) <= most else f"{whole[: most - 3]}..."
