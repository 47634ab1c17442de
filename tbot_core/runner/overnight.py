"""What goes over from one session into the next: positions that could not be closed, and sessions that nobody ended."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.bars import Day
from tbot_core.calendar import Session
from tbot_core.custody.held import Carried
from tbot_core.journal import records
from tbot_core.model import Fill, Leg, Side, SignalId, price_of, quantity_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from typing import Any

    from tbot_core.bars import Minute
    from tbot_core.journal.journal import Event
    from tbot_core.portfolio import Position


@attrs.frozen(kw_only=True, eq=False)
class Bygone:
    """The feed of a session that is over: it has the symbols of the next one and says nothing any more."""

    session: Session
    symbols: tuple[str, ...]
    day: Day

    async def minutes(self) -> AsyncIterator[Minute]:
        """No minute comes."""
        nothing: tuple[Minute, ...] = ()
        for minute in nothing:
            yield minute


def entry(position: Position) -> Fill:
    """What is left of a position as an entry into the next session, at its last mark: its gains before are booked."""
    return Fill(
        execution_id=f"carried-{position.signal.text}",
        client_order_id="",
        symbol=position.signal.symbol,
        buy=position.side is Side.LONG,
        quantity=quantity_of(position.units),
        price=price_of(position.mark),
        fees=Decimal(0),
        time=position.entry_time,
    )


def stuck(events: Sequence[Event], account_id: str) -> list[Carried]:
    """What could not be closed in the last session that ended at this account, as entries into the next one."""
    ends = [place for place, event in enumerate(events) if event.kind == records.SESSION_CLOSED]
    if not ends or events[ends[-1]].payload.get("account") != account_id:
        return []
    found: dict[tuple[str, SignalId], Carried] = {}  # a position may be STUCK once more at the bell
    for event in reversed(events[: ends[-1]]):  # they stand right before the end, written with it
        if event.kind != records.STUCK:
            break
        payload = event.payload
        attempts = {Leg(leg): count for leg, count in payload["attempts"].items()}
        signal = records.signal_of(payload["signal"])
        fill, broker = records.adjustment_of(payload), payload.get("broker", "")
        found.setdefault((broker, signal), Carried(fill=fill, signal=signal, attempts=attempts, broker=broker))
    return [*found.values()][::-1]


def unfinished(since: Sequence[Event], session: Session) -> Mapping[str, Any] | None:
    """How another session than this was opened that nobody ended; `since` are the events since the last end."""
    opened = next((event.payload for event in since if event.kind == records.SESSION_OPENED), None)
    return None if opened is None or opened["date"] == session.date.isoformat() else opened


def under_way(since: Sequence[Event], now: datetime) -> bool:
    """Whether a session was opened that has not closed; `since` are the events since the last end."""
    opened = next((event.payload for event in since if event.kind == records.SESSION_OPENED), None)
    return opened is not None and now < datetime.fromisoformat(opened["close"])


def symbols(since: Sequence[Event]) -> tuple[str, ...]:
    """Every symbol that these events had a signal on, sorted."""
    return tuple(sorted({one.payload["signal"]["symbol"] for one in since if one.kind == records.DECISION}))
