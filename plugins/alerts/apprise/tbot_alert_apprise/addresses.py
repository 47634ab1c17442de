"""The addresses of the secrets, and an alert as the arguments of Apprise. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import Urgency
from tbot_core.model import json_document

if TYPE_CHECKING:
    from tbot_core.contracts import Alert

LONGEST_TEXT: Final = 3_000
"""What most services take in one message."""


def split_addresses(written: str) -> tuple[str, ...]:
    """The addresses of a text with blanks between them, or of a JSON list; raises ValueError for another list."""
    if not written.lstrip().startswith("["):
        return tuple(written.split())
    parts = json_document.parse_json(written)
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("no list of text")
    return tuple(parts)


def service_names(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """A name of each address that may be shown: its scheme, and its number where there are several addresses."""
    schemes = [address.partition("://")[0].lower() for address in addresses]
    if len(addresses) == 1:
        return tuple(schemes)
    return tuple(f"{scheme} (address {number})" for number, scheme in enumerate(schemes, 1))


def compose_notification(alert: Alert) -> dict[str, Any]:
    """The arguments of `notify`: title, text, and the type, which many services show as a colour."""
    kind = "success" if alert.resolved else "failure" if alert.urgency is Urgency.CRITICAL else "info"
    text = alert.text.removeprefix(alert.title).strip() or alert.title
    return {"title": _cut(alert.title, LONGEST_TEXT // 10), "body": _cut(text, LONGEST_TEXT), "notify_type": kind}


def _cut(words: str, most: int) -> str:
    whole = words.encode(errors="replace").decode()
    return whole if len(whole) <= most else f"{whole[: most - 3]}..."
