"""An alert as a mail. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from tbot_core.contracts.network import Mail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Alert

LONGEST_SUBJECT: Final = 200
LONGEST_TEXT: Final = 100_000


def compose_mail(alert: Alert, sender: str, recipients: Sequence[str]) -> Mail:
    """The mail of an alert. Raises ValueError for an invalid address.

    The same alert has the same Message-ID however often it is sent; the end of an incident answers its first mail.
    """
    first = _message_id(alert.key, sender)
    return Mail(
        sender=sender,
        recipients=tuple(dict.fromkeys(recipients)),
        subject=_subject(alert.title),
        text=_cut(alert.text, LONGEST_TEXT).encode(errors="replace").decode(),
        message_id=_message_id(f"{alert.key} resolved", sender) if alert.resolved else first,
        answers=first if alert.resolved else "",
    )


def _subject(title: str) -> str:
    # One line: a line break in it, from a symbol or a broker's words, would begin another header.
    line = " ".join("".join(char if char.isprintable() else " " for char in title).split())
    return _cut(line, LONGEST_SUBJECT) or "tbot"


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most - 3]}..."


def _message_id(name: str, sender: str) -> str:
    digest = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:40]
    return f"<{digest}@{sender.partition('@')[2]}>"
