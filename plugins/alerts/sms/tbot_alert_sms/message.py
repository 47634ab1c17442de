"""An alert as a text message. Pure: https://www.twilio.com/docs/messaging/api/message-resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tbot_core.contracts import Alert

LONGEST_TEXT: Final = 320


def compose_text(alert: Alert) -> str:
    """At most 320 characters: the severity, what happened, and the command to run next, which is not cut off."""
    severity = "RESOLVED" if alert.resolved else alert.urgency.value.upper()
    command = _printable(alert.command)
    if not command or len(command) > LONGEST_TEXT // 2:
        return _cut(f"{severity} {_printable(alert.text)}", LONGEST_TEXT)
    following = f"\nNext: {command}"
    words = _printable(alert.text).removesuffix(following) or _printable(alert.title)
    return _cut(f"{severity} {words}", LONGEST_TEXT - len(following)) + following


def message_form(text: str, sender: str, recipient: str) -> dict[str, str]:
    """The form of the request; a messaging service chooses its number itself."""
    origin = "MessagingServiceSid" if sender.startswith("MG") else "From"
    return {"To": recipient, origin: sender, "Body": text}


def _printable(words: str) -> str:
    lines = ("".join(char if char.isprintable() else " " for char in line).split() for line in words.splitlines())
    whole = "\n".join(" ".join(line) for line in lines if line)
    return whole.encode(errors="replace").decode()


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 3]}..."
