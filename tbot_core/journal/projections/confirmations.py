"""Entries that wait for an operator's confirmation.

Pure: events and times are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.projection import fold

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.model.types import SignalId

SHORTEST: Final = 4


def short_id(signal: SignalId, used: Container[str]) -> str:
    """The shortest unused prefix of the signal's hash, for a person to type."""
    digest = sha256(signal.text.encode()).hexdigest()
    return next(digest[:size] for size in range(SHORTEST, len(digest)) if digest[:size] not in used)


@attrs.define(kw_only=True)
class PendingConfirmations:
    """The session's confirmation requests by id: `entries` are all of them, `decided` those with a decision."""

    entries: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    decided: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        payload = event.payload
        match event.kind:
            case records.CONFIRMATION_ASKED:
                self.entries[payload["id"]] = payload
            case records.DECISION:
                found = (name for name, asked in self.entries.items() if asked["signal"] == payload["signal"])
                self.decided.update(dict.fromkeys(found, payload))
            case records.SESSION_OPENED:
                self.entries.clear()
                self.decided.clear()

    def open_entries(self, now: datetime) -> list[Mapping[str, Any]]:
        """The requests that can still be confirmed, oldest first."""
        return [
            asked
            for name, asked in self.entries.items()
            if name not in self.decided and datetime.fromisoformat(asked["expires"]) > now
        ]


def recall_confirmations(events: Iterable[JournalEvent]) -> PendingConfirmations:
    """Build the requests from a journal's events."""
    return fold(events, PendingConfirmations())
