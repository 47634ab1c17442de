"""What is open at the end of a run, from its journal alone: no session and no broker is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.events.risk import PositionsReleased
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import session_book
from tbot_core.model.types import OrderState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event, Journal
    from tbot_core.model.types import SignalId

_NOT_THERE: Final = frozenset({OrderState.INTENDED, OrderState.LOST})


@attrs.frozen(kw_only=True)
class OpenPositions:
    """The symbols with something `open`, and of these the ones without a stop and the STUCK ones; each sorted.

    Open are positions, surplus fills, and sent orders that are not known to have ended. `unprotected` are also those
    whose stop may be gone: `cancelling`, its cancel was requested and not confirmed.
    """

    open: tuple[str, ...] = ()
    unprotected: tuple[str, ...] = ()
    cancelling: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


def open_at_end(journal: Journal, reported: Iterable[str] = ()) -> OpenPositions:
    """What is open by a journal now, plus the symbols `reported` as open."""
    opened = journal.last_event(records.SESSION_OPENED)
    last = [*journal.events(0 if opened is None else opened.seq - 1)]
    return remaining_positions(carryover.events_for_session(journal), last, reported)


def remaining_positions(past: Sequence[Event], last: Sequence[Event], reported: Iterable[str] = ()) -> OpenPositions:
    """What the last session left open at its brokers, and earlier ones at any account.

    `past` are the journal's events that apply to a session, `last` all since the last one opened. Released accounts
    are left out, the symbols `reported` as open are added.
    """
    opened = next((event.payload for event in last if event.kind == records.SESSION_OPENED), {})
    accounts = {"": ""} | records.accounts_of(opened)
    released = {event.facts(PositionsReleased).account for event in last if event.kind == records.RELEASED}
    books = [session_book(last, broker) for broker, account in accounts.items() if account not in released]
    in_session = bool(opened) and all(event.kind != records.SESSION_CLOSED for event in last)
    here = {"", *accounts.values()} if in_session else set()
    before = {one.fill.symbol for one in carryover.carried_positions(past) if one.account not in here}
    symbols = before.union(reported, *map(_open, books))
    resting = {symbol for symbol in sorted(symbols) if any(book.resting(symbol) is not None for book in books)}
    protected = {symbol for symbol in sorted(resting) if any(is_protected(book, symbol) for book in books)}
    return OpenPositions(
        open=tuple(sorted(symbols)),
        unprotected=tuple(sorted(symbols - protected)),
        cancelling=tuple(sorted(resting - protected)),
        stuck=tuple(sorted(before.union(*map(_stuck, books)))),
    )


def _open(book: SessionBook) -> set[str]:
    # Symbols held at a broker, or with an order that may still fill; a lost order counts as not there.
    working = (one for one in book.orders.values() if not (one.terminal or one.state in _NOT_THERE))
    return {*book.portfolio.symbols, *book.portfolio.unassigned_units, *(one.order.symbol for one in working)}


def _stuck(book: SessionBook) -> set[str]:
    carried = {one["symbol"] for one in book.session.get("carried", ())} if book.in_session else set()
    stuck = {payload["symbol"] for payload in book.stuck}
    return {symbol for symbol in book.portfolio.symbols if symbol in carried | stuck}


def is_protected(book: SessionBook, symbol: str) -> bool:
    """Whether a stop of each of the symbol's positions rests at the broker, and no cancel of it was requested."""
    lots: list[tuple[str, SignalId | None]] = [(symbol, one.signal) for one in book.portfolio.in_symbol(symbol)]
    lots = lots or [(symbol, None)]
    return all(book.resting(*lot) is not None and not book.is_stop_cancelling(*lot) for lot in lots)
