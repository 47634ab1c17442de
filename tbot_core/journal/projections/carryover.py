"""Carryover between sessions: positions that could not be closed, and sessions that were not ended.

Holdings of the account that are not tbot's are known from the journal as well.
"""

from __future__ import annotations

import itertools
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.accounts import ForeignHolding, SplitBooked
from tbot_core.journal.events.orders import SignalDecided
from tbot_core.journal.events.risk import PositionsReleased, PositionStuck
from tbot_core.journal.events.sessions import SessionClosed, SessionOpened
from tbot_core.model.calendar import Session
from tbot_core.model.types import Fill, Leg, Side, SignalId, price_of, quantity_of
from tbot_core.trading.portfolio import CarriedPosition, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Event, Journal

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

_KINDS: Final = (records.FOREIGN_HOLDING, records.CORPORATE_ACTION, records.SESSION_OPENED, records.SESSION_CLOSED)


@attrs.frozen(kw_only=True)
class _Holding:
    quantity: Decimal
    price: str | None
    session: int


@attrs.define
class ExternalHoldings:
    """A projection of external holdings. Values of a session remain valid until the next one has read the account."""

    _held: dict[tuple[str, str], _Holding] = attrs.field(factory=dict)
    _sessions: int = 0

    def apply(self, event: JournalEvent) -> None:
        """Apply the next event."""
        match event.kind:
            case records.FOREIGN_HOLDING:
                if figures := records.holding_of(event.payload):
                    price = None if figures[1] is None else str(figures[1])
                    holding = _Holding(quantity=figures[0], price=price, session=self._sessions)
                    self._held[event.broker, event.facts(ForeignHolding).symbol] = holding
            case records.CORPORATE_ACTION:
                self._split(event.facts(SplitBooked))
            case records.SESSION_CLOSED:
                self._sessions += 1
            case records.SESSION_OPENED:  # its account is read before the open
                self._held = {key: one for key, one in self._held.items() if one.session == self._sessions}

    @property
    def value_usd(self) -> Decimal:
        """Total absolute value in USD; holdings without a price count as zero."""
        priced = (abs(one.quantity) * Decimal(one.price) for one in self._held.values() if one.price is not None)
        return sum(priced, Decimal(0))

    def document(self) -> list[dict[str, Any]]:
        """The holdings for JSON; short quantities are negative, `broker` is "" for the primary."""
        return [
            {"symbol": symbol, "quantity": str(one.quantity), "price": one.price, "broker": broker}
            for (broker, symbol), one in sorted(self._held.items())
            if one.quantity
        ]

    def at_broker(self, broker: str = "") -> dict[str, Decimal]:
        """Signed shares by symbol at one broker; "" is the primary."""
        return {symbol: one.quantity for (place, symbol), one in self._held.items() if place == broker}

    def _split(self, split: SplitBooked) -> None:
        # Scale quantity and price, since the price was per share before the split.
        held = self._held.get((split.broker, split.symbol))
        if held is not None:
            quantity = held.quantity * split.after / split.before
            price = None if held.price is None else str(Decimal(held.price) * split.before / split.after)
            self._held[split.broker, split.symbol] = attrs.evolve(held, quantity=quantity, price=price)


def carried_entry(position: Position) -> Fill:
    """The open position as an entry into the next session at its last mark; earlier gains are booked already."""
    return Fill(
        execution_id=f"carried-{position.signal.text}",
        client_order_id="",
        symbol=position.symbol,
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
    by_account: dict[str, list[CarriedPosition]] = {}
    opened: Event | None = None
    stuck: dict[int, PositionStuck] = {}
    for event in events:
        match event.kind:
            case records.SESSION_OPENED:
                opened = event
            case records.STUCK:
                stuck[event.seq] = event.facts(PositionStuck)
            case records.RELEASED:
                by_account.pop(event.facts(PositionsReleased).account, None)
            case records.SESSION_CLOSED:
                accounts = {} if opened is None else records.accounts_of(opened.payload)
                accounts[""] = event.facts(SessionClosed).account
                for account in accounts.values():
                    by_account.pop(account, None)
                primary = "" if opened is None else opened.facts(SessionOpened).primary
                for position in _stuck_at_end(stuck, event.seq):
                    carried = _carried(position, primary, accounts)
                    by_account.setdefault(carried.account, []).append(carried)
                opened = None
    return [carried for positions in by_account.values() for carried in positions]


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
    opened = next((event for event in since if event.kind == records.SESSION_OPENED), None)
    return opened is not None and now < opened.facts(SessionOpened).close


def signalled_symbols(since: Sequence[Event]) -> tuple[str, ...]:
    """Every symbol with a decision in these events, sorted."""
    decisions = (event.facts(SignalDecided) for event in since if event.kind == records.DECISION)
    return tuple(sorted({decision.signal.symbol for decision in decisions}))


def known_external_holdings(journal: Journal, account_id: str) -> dict[str, Decimal]:
    """Signed shares by symbol that an account holds and that are not tbot's.

    Empty for any account other than that of the last session's primary broker.
    """
    opened = journal.last_event(records.SESSION_OPENED)
    if opened is None or opened.facts(SessionOpened).account != account_id:
        return {}
    holdings = ExternalHoldings()
    for event in sorted((event for kind in _KINDS for event in journal.events(kind=kind)), key=lambda event: event.seq):
        holdings.apply(event)
    return holdings.at_broker()


def _stuck_at_end(stuck: Mapping[int, PositionStuck], end: int) -> list[PositionStuck]:
    # The STUCK events directly before a session's end; of repeated ones the last.
    latest: dict[tuple[str, SignalId], PositionStuck] = {}
    for seq in itertools.takewhile(stuck.__contains__, itertools.count(end - 1, -1)):
        latest.setdefault((stuck[seq].broker, stuck[seq].signal), stuck[seq])
    return [*latest.values()][::-1]


def _carried(position: PositionStuck, primary: str, accounts: Mapping[str, str]) -> CarriedPosition:
    return CarriedPosition(
        fill=position.fill,
        signal=position.signal,
        attempts={Leg(leg): count for leg, count in position.attempts.items()},
        account=accounts.get(position.broker, ""),
        broker=position.broker or primary,
        instrument=position.instrument,
    )
