"""Entries that wait for a person, as the journal's events tell of them.

Pure: events come in, moments are passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from tbot_core.journal.projections.book import JournalEvent
    from tbot_core.model.types import SignalId
    from tbot_core.trading.commands import Decision

SHORTEST: Final = 4


def short_id(signal: SignalId, taken: Container[str]) -> str:
    """A short name that a person can type: the beginning of a hash, as long as it takes to be another one."""
    digest = sha256(signal.text.encode()).hexdigest()
    return next(digest[:size] for size in range(SHORTEST, len(digest)) if digest[:size] not in taken)


def asked_payload(identity: str, decision: Decision, expires: datetime) -> records.Payload:
    """What a person is asked: the entry as it would be sent now, and until when an answer counts."""
    quantity = None if decision.order is None else str(decision.order.quantity)
    asked = {"id": identity, "quantity": quantity, "expires": expires.isoformat()}
    return asked | records.decision_payload(decision)


@attrs.define(kw_only=True)
class PendingConfirmations:
    """The entries that have been asked for and not decided; `known` are all of the session, by their ids."""

    entries: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)
    decided: dict[str, Mapping[str, Any]] = attrs.field(factory=dict)

    def apply(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Take the next event in."""
        match kind:
            case records.CONFIRMATION_ASKED:
                self.entries[payload["id"]] = payload
            case records.DECISION:
                found = (name for name, asked in self.entries.items() if asked["signal"] == payload["signal"])
                self.decided.update(dict.fromkeys(found, payload))
            case records.SESSION_OPENED:
                self.entries.clear()
                self.decided.clear()

    def open_entries(self, now: datetime) -> list[Mapping[str, Any]]:
        """What may still be confirmed, the oldest first."""
        return [
            asked
            for name, asked in self.entries.items()
            if name not in self.decided and datetime.fromisoformat(asked["expires"]) > now
        ]


def recall_confirmations(events: Iterable[JournalEvent]) -> PendingConfirmations:
    """What a journal's events come to."""
    waiting = PendingConfirmations()
    for event in events:
        waiting.apply(event.kind, event.payload)
    return waiting
