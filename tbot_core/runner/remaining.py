"""What is still open when a run ends, by its journal: known also where no session runs and no broker answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.projection import fold
from tbot_core.model import Leg, OrderState
from tbot_core.orders import BROKER_WORDS, OrderEvent
from tbot_core.runner import overnight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.journal.journal import Event, Journal
    from tbot_core.journal.projection import Book

_RESTS: Final = frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED})


@attrs.frozen(kw_only=True)
class Remaining:
    """The symbols of which something is `open`; of these, sorted as well, those without a stop, and those STUCK."""

    open: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


def at_the_end(journal: Journal) -> Remaining:
    """What a journal says by now."""
    opened = journal.last(records.SESSION_OPENED)
    return remaining(overnight.counting(journal), [*journal.events(0 if opened is None else opened.seq - 1)])


def remaining(past: Sequence[Event], last: Sequence[Event]) -> Remaining:
    """What the session under way holds at its brokers, and what those before it left at whichever account.

    `past` is what counts of the journal for a session, `last` all since the last one was opened.
    """
    left = overnight.left(past)
    book = fold(event for event in last if event.kind != records.RUN_STARTED)  # which begins with nothing
    here = {"", *records.accounts_of(book.session).values()}
    gone = {event.payload["account"] for event in last if event.kind == records.RELEASED}
    held = set() if here & gone else {*book.portfolio.positions}
    before = {one.signal.symbol for one in left if not (book.in_session and one.account in here)}
    carried = {one["symbol"] for one in book.session.get("carried", ())} if book.in_session else set()
    return Remaining(
        open=tuple(sorted(held | before)),
        bare=tuple(sorted((held | before) - covered(book, last))),
        stuck=tuple(sorted(before | (held & (carried | book.stuck.keys())))),
    )


def covered(book: Book, events: Sequence[Event]) -> set[str]:
    """The symbols for which a stop rests by the broker's own word, and nobody has asked to take it away."""
    leaving: set[str | None] = set()
    for event in events:
        if event.kind == records.CANCEL_REQUESTED:
            leaving.add(event.cid)
        elif BROKER_WORDS.get(event.kind) is OrderEvent.CANCEL_REFUSED:
            leaving.discard(event.cid)
    stops = [(cid, one) for cid, one in book.orders.items() if one.order.leg is Leg.STOP]
    return {one.order.symbol for cid, one in stops if one.state in _RESTS and cid not in leaving}
