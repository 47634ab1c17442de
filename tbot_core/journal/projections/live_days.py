"""Whether an account has traded with live money before, from the journal."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from tbot_core.journal import records
from tbot_core.model.types import BrokerEventKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from typing import Any

    from tbot_core.journal.store import Journal

_LIVE = "live"


def has_traded_live(journal: Journal, account: str, before: date) -> bool:
    """Whether an order of this account filled with live money in a session before a date."""
    sessions = _live_sessions(journal)
    starts = [seq for seq, _ in sessions]
    for fill in journal.events(kind=BrokerEventKind.FILL):
        place = bisect_right(starts, fill.seq) - 1
        opened = sessions[place][1] if place >= 0 else None
        if opened is None or opened["date"] >= before.isoformat():
            continue
        if records.accounts_of(opened).get(fill.payload.get("broker", "")) == account:
            return True
    return False


def _live_sessions(journal: Journal) -> list[tuple[int, Mapping[str, Any] | None]]:
    # The openings of all sessions with their numbers in the journal; None for one that was not live.
    runs = [(event.seq, event.payload["mode"]) for event in journal.events(kind=records.RUN_STARTED)]
    starts = [seq for seq, _ in runs]
    return [
        (event.seq, event.payload if place >= 0 and runs[place][1] == _LIVE else None)
        for event in journal.events(kind=records.SESSION_OPENED)
        for place in (bisect_right(starts, event.seq) - 1,)
    ]
