"""What is still open when a run ends, by its journal: known also where no session runs and no broker answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import session_book
from tbot_core.model.types import Leg, OrderState
from tbot_core.trading.orders import BROKER_EVENT_KINDS, OrderEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event, Journal

_RESTS: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})
_NOT_THERE: Final = frozenset({OrderState.INTENDED, OrderState.LOST})


@attrs.frozen(kw_only=True)
class OpenPositions:
    """The symbols of which something is `open`; of these, sorted as well, those without a stop, and those STUCK.

    What is held is open, also beyond every position, and so is an order that has left and is not known to have ended.
    """

    open: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


def open_at_end(journal: Journal, said: Iterable[str] = ()) -> OpenPositions:
    """What a journal says by now, and of which symbols something was `said` to be open besides."""
    opened = journal.last_event(records.SESSION_OPENED)
    last = [*journal.events(0 if opened is None else opened.seq - 1)]
    return remaining_positions(carryover.events_for_session(journal), last, said)


def remaining_positions(past: Sequence[Event], last: Sequence[Event], said: Iterable[str] = ()) -> OpenPositions:
    """What the last session has left at its brokers, and what those before it left at whichever account.

    `past` is what counts of the journal for a session, `last` all since the last one was opened. What a person has
    said to be gone from an account is left out, `said` is added.
    """
    opened = next((event.payload for event in last if event.kind == records.SESSION_OPENED), {})
    accounts = {"": ""} | records.accounts_of(opened)
    gone = {event.payload["account"] for event in last if event.kind == records.RELEASED}
    books = [session_book(last, broker) for broker, account in accounts.items() if account not in gone]
    in_session = bool(opened) and all(event.kind != records.SESSION_CLOSED for event in last)
    here = {"", *accounts.values()} if in_session else set()
    before = {one.signal.symbol for one in carryover.carried_positions(past) if one.account not in here}
    symbols = before.union(said, *map(_open, books))
    return OpenPositions(
        open=tuple(sorted(symbols)),
        unprotected=tuple(sorted(symbols.difference(*(protected_symbols(book, last) for book in books)))),
        stuck=tuple(sorted(before.union(*map(_stuck, books)))),
    )


def _open(book: SessionBook) -> set[str]:
    # What is held at a broker, and what may be bought or sold there still; an order that is lost is not there.
    works = (one for one in book.orders.values() if not (one.terminal or one.state in _NOT_THERE))
    return {*book.portfolio.positions, *book.portfolio.unassigned_units, *(one.order.symbol for one in works)}


def _stuck(book: SessionBook) -> set[str]:
    carried = {one["symbol"] for one in book.session.get("carried", ())} if book.in_session else set()
    return book.portfolio.positions.keys() & (carried | book.stuck.keys())


def protected_symbols(book: SessionBook, events: Sequence[Event]) -> set[str]:
    """The symbols for which a stop rests by the broker's own word, and nobody has asked to take it away."""
    leaving: set[str | None] = set()
    for event in events:
        if event.kind == records.CANCEL_REQUESTED:
            leaving.add(event.cid)
        elif BROKER_EVENT_KINDS.get(event.kind) is OrderEvent.CANCEL_REFUSED:
            leaving.discard(event.cid)
    stops = [(cid, one) for cid, one in book.orders.items() if one.order.leg is Leg.STOP]
    return {one.order.symbol for cid, one in stops if one.state in _RESTS and cid not in leaving}
