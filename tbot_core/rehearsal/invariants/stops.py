"""Invariants of a stop: nothing is entered after it, and it is over only when nothing is held and nothing is worked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.journal.projections.book import fold_events
from tbot_core.model.types import Leg, OrderState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_TAKEN_S: Final = 2.0
"""A bot looks at what it was asked so much later at most, whatever it is waiting for."""


def _i7_asked(story: RehearsalHistory) -> Iterator[str]:
    # While a stop or a kill that somebody asked for stands, no entry leaves.
    intents = story.intents()
    for request in (request for way in story.world.ways for request in way.requests):
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in story.people.stopped if entry and request.left else ():
            if since + _TAKEN_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.0f} s after a stop was asked for"


def _stopped(story: RehearsalHistory) -> Iterator[str]:
    # A session that a stop has ended holds nothing and works nothing, as far as it was told; and in truth, if no
    # fault kept anything from it.
    if not story.stopped:
        return
    book = fold_events(story.events)
    for symbol in sorted(book.portfolio.positions):
        yield f"{symbol} is held though the stop is over"
    for cid, record in book.orders.items():
        if not record.terminal and record.state not in {OrderState.INTENDED, OrderState.LOST}:
            yield f"{cid} is {record.state.value} though the stop is over"
    if story.struck:
        return
    for way in story.world.ways:
        for one in way.exchange.floor.open:
            if one.ours:
                yield f"{one.cid} rests at a venue though the stop is over"


STOP_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i7_asked, _stopped)
