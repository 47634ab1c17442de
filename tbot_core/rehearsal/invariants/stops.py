"""Invariants of a stop: nothing is entered after it, and it ends only without positions and working orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.journal.projections.book import fold_events
from tbot_core.model.types import Leg, OrderState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_TAKEN_S: Final = 2.0
"""The longest time until a bot reads a request, whatever it waits for."""


def _i7_asked(history: RehearsalHistory) -> Iterator[str]:
    # While a requested stop or kill is in effect, no entry is sent.
    intents = history.intents()
    for request in (request for way in history.world.ways for request in way.requests):
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in history.people.stopped if entry and request.left else ():
            if since + _TAKEN_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.0f} s after a stop was requested"


def _stopped(history: RehearsalHistory) -> Iterator[str]:
    # A session ended by a stop has no positions and working orders by its journal, and without faults at the venues.
    if not history.stopped:
        return
    book = fold_events(history.events)
    for symbol in sorted(book.portfolio.positions):
        yield f"{symbol} is held after the stop has ended"
    for cid, record in book.orders.items():
        if not record.terminal and record.state not in {OrderState.INTENDED, OrderState.LOST}:
            yield f"{cid} is {record.state.value} after the stop has ended"
    if history.struck:
        return
    for way in history.world.ways:
        for one in way.exchange.matching.open:
            if one.ours:
                yield f"{one.cid} rests at a venue after the stop has ended"


STOP_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i7_asked, _stopped)
