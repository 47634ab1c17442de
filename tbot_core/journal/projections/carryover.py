"""Carryover between sessions: positions that could not be closed, and sessions that were not ended."""

from __future__ import annotations

import itertools
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.model.calendar import Session
from tbot_core.model.types import Fill, Leg, Side, SignalId, price_of, quantity_of
from tbot_core.trading.portfolio import CarriedPosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from tbot_core.journal.store import Event, Journal
    from tbot_core.trading.portfolio import Position


_BETWEEN: Final = (
    records.SESSION_OPENED,
    records.SESSION_CLOSED,
    records.STATE,
    records.REQUEST,
    records.REQUEST_REFUSED,
)
LASTING: Final = (
    *_BETWEEN,
    records.STUCK,
    records.RELEASED,
    records.RISK,
    records.LIVE_TERMS,
    records.ARMED,
    records.ARMING_KEPT,
    records.DISARMED,
    records.DRILL,
)
"""Kinds that remain relevant after a session's end."""


def carried_entry(position: Position) -> Fill:
    """The open position as an entry into the next session at its last mark; earlier gains are booked already."""
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


def carried_positions(events: Iterable[Event]) -> list[CarriedPosition]:
    """Positions that the last session at each account could not close, as entries into the next one.

    They remain until a session trades that account again, or a person confirms that they are gone.
    """
    found: dict[str, list[CarriedPosition]] = {}
    opened: Mapping[str, Any] = {}
    stuck: dict[int, Mapping[str, Any]] = {}
    for event in events:
        payload = event.payload
        match event.kind:
            case records.SESSION_OPENED:
                opened = payload
            case records.STUCK:
                stuck[event.seq] = payload
            case records.RELEASED:
                found.pop(payload["account"], None)
            case records.SESSION_CLOSED:
                accounts = records.accounts_of(opened) | {"": payload.get("account", "")}
                for account in accounts.values():
                    found.pop(account, None)
                for one in _stuck_at_end(stuck, event.seq):
                    carried = _carried(one, opened, accounts)
                    found.setdefault(carried.account, []).append(carried)
                opened = {}
    return [one for account in found.values() for one in account]


def _stuck_at_end(stuck: Mapping[int, Mapping[str, Any]], end: int) -> list[Mapping[str, Any]]:
    # The STUCK events directly before a session's end; of repeated ones the last.
    found: dict[tuple[str, SignalId], Mapping[str, Any]] = {}
    for seq in itertools.takewhile(stuck.__contains__, itertools.count(end - 1, -1)):
        found.setdefault((stuck[seq].get("broker", ""), records.signal_of(stuck[seq]["signal"])), stuck[seq])
    return [*found.values()][::-1]


def _carried(payload: Mapping[str, Any], opened: Mapping[str, Any], accounts: Mapping[str, str]) -> CarriedPosition:
    key = payload.get("broker", "")
    return CarriedPosition(
        fill=records.adjustment_of(payload),
        signal=records.signal_of(payload["signal"]),
        attempts={Leg(leg): count for leg, count in payload["attempts"].items()},
        account=accounts.get(key, ""),
        broker=key or opened.get("primary", ""),
    )


def events_for_session(journal: Journal) -> list[Event]:
    """The events that a session needs: all since the last end, and the lasting kinds before it."""
    closed = journal.last_event(records.SESSION_CLOSED)
    ended = 0 if closed is None else closed.seq
    lasting = (event for kind in LASTING for event in journal.events(kind=kind) if event.seq <= ended)
    return [*sorted(lasting, key=lambda event: event.seq), *journal.events(ended)]


def events_between_sessions(journal: Journal) -> list[Event]:
    """The events that matter while no session runs."""
    return sorted((event for kind in _BETWEEN for event in journal.events(kind=kind)), key=lambda event: event.seq)


def events_since_close(events: Sequence[Event]) -> Sequence[Event]:
    """The events after the last session's end."""
    ends = [place for place, event in enumerate(events) if event.kind == records.SESSION_CLOSED]
    return events[ends[-1] + 1 :] if ends else events


def session_hours(opened: Mapping[str, Any]) -> Session:
    """The hours recorded when a session was opened."""
    begins, ends = (datetime.fromisoformat(opened[name]) for name in ("open", "close"))
    return Session(date=date.fromisoformat(opened["date"]), open=begins, close=ends)


def unfinished_session(since: Sequence[Event], session: Session, now: datetime) -> Event | None:
    """The opening of a session that was never ended, if its date differs or its close has passed.

    `since` are the events after the last end.
    """
    opened = next((event for event in since if event.kind == records.SESSION_OPENED), None)
    if opened is None:
        return None
    found = session_hours(opened.payload)
    return opened if found.date != session.date or found.close <= now else None


def session_under_way(since: Sequence[Event], now: datetime) -> bool:
    """Whether a session is open and before its close; `since` are the events after the last end."""
    opened = next((event.payload for event in since if event.kind == records.SESSION_OPENED), None)
    return opened is not None and now < datetime.fromisoformat(opened["close"])


def signalled_symbols(since: Sequence[Event]) -> tuple[str, ...]:
    """Every symbol with a decision in these events, sorted."""
    return tuple(sorted({one.payload["signal"]["symbol"] for one in since if one.kind == records.DECISION}))
