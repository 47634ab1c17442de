"""Invariants of what a bot must heed: orders of others, a clock that was set, fills that it did not expect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.projections.book import SessionBook
from tbot_core.model.types import ExitReason, Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_core.rehearsal.history import RehearsalHistory

_NOTICED_S: Final = 2.5
_KEPT_S: Final = 60.0
_BEFORE_S: Final = 10.0
_EXECUTED: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})
_DEEDS: Final = frozenset({Leg.ENTRY, Leg.EXIT})
_ASKING: Final = frozenset({"cancel", "replace"})


def _i2_touched(story: RehearsalHistory) -> Iterator[str]:
    # What is not the bot's own is left alone: it asks for no change of an order that it never wrote down.
    ours = story.intents()
    for request in story.way.requests:
        if request.kind in _ASKING and request.client_order_id not in ours:
            yield f"{request.kind} of {request.client_order_id or 'an order without an id'}, which is not ours"


def _i8_clock(story: RehearsalHistory) -> Iterator[str]:
    # A bot whose clock was set under its hands enters nothing in the minute after it.
    intents = story.intents()
    entries = [
        request
        for way in story.world.ways
        for request in way.requests
        if request.left and request.kind == "submit" and intents.get(request.client_order_id, ("", ""))[1] is Leg.ENTRY
    ]
    for jump in story.world.jumps:
        since = max((born for born in story.births if born <= jump), default=jump)
        next_life = min((born for born in story.births if born > jump), default=float("inf"))
        until = min(jump + _KEPT_S, next_life) if since + _BEFORE_S < jump else jump
        for request in entries:
            if jump + _NOTICED_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - jump:.1f} s after the clock was set"


def _i8_surplus(story: RehearsalHistory) -> Iterator[str]:
    # After a fill that no position accounts for, or a word about one, nothing is entered before that was said.
    book, intents, unsaid = SessionBook(), story.intents(), False
    for event in story.events:
        before, fills = book.portfolio.unassigned_units, len(book.portfolio.surplus)
        entry = event.kind == records.SENDING and intents[event.cid or ""][1] is Leg.ENTRY
        if entry and unsaid:
            yield f"{event.cid} was sent after a surplus that nobody had spoken of"
        book.apply(event)
        if event.kind in _EXECUTED:
            unsaid |= _more(before, book.portfolio.unassigned_units)
            # What was sent to take it back is expected, as long as it leaves less of it.
            back = event.cid in book.orders and book.orders[event.cid].order.reason is ExitReason.EXCESS
            unsaid |= event.kind == BrokerEventKind.FILL and not back and len(book.portfolio.surplus) > fills
        elif event.kind == records.STATE and event.payload["cause"] == "SURPLUS":
            unsaid = False


def _more(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    # Whether more of a symbol is held beyond every position than before, or it is on the other side.
    was = {symbol: before.get(symbol, 0) for symbol in after}
    return any(abs(units) > abs(was[symbol]) or units * was[symbol] < 0 for symbol, units in after.items())


def _i8_frozen(story: RehearsalHistory) -> Iterator[str]:
    # In a frozen instrument nothing is entered and nothing closed: only protection leaves.
    intents, frozen = story.intents(), dict[str, str]()
    for event in story.events:
        if event.kind == records.FROZEN:
            frozen.pop(event.payload["symbol"], None)
            frozen |= {event.payload["symbol"]: event.payload["words"]} if event.payload["there"] else {}
        elif event.kind == records.SENDING:
            signal, leg, _ = intents[event.cid or ""]
            if leg in _DEEDS and signal.symbol in frozen:
                yield f"{event.cid}, the {leg.value} of {signal.symbol}, was sent while frozen: {frozen[signal.symbol]}"


EXTERNAL_EVENT_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i2_touched,
    _i8_clock,
    _i8_surplus,
    _i8_frozen,
)
EXTERNAL_EVENT_INVARIANTS_OF_ALL: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i8_clock,)
