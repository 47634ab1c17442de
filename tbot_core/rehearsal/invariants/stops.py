"""Invariants of a stop: nothing is entered after it, and it ends only without positions and working orders."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import Leg, quantity_of
from tbot_core.rehearsal.invariants.limits import ExposureReckoner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_SENT: Final = frozenset({records.SENDING, BrokerEventKind.ACKNOWLEDGED})
_OVER: Final = frozenset(
    {
        records.DROPPED,
        records.LOST,
        BrokerEventKind.REJECTED,
        BrokerEventKind.CANCELLED,
        BrokerEventKind.EXPIRED,
    }
)
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
    ledger = ExposureReckoner(history.rules.risk.price_band_pct)
    for event in history.events:
        ledger.apply(event)
    for symbol in sorted({one.symbol for one in ledger.entries.values() if one.bought > one.sold}):
        yield f"{symbol} is held after the stop has ended"
    for cid in _working(history):
        yield f"{cid} works in the journal after the stop has ended"
    if history.struck:
        return
    for way in history.world.ways:
        for one in way.exchange.matching.open:
            if one.ours:
                yield f"{one.cid} rests at a venue after the stop has ended"


def _working(history: RehearsalHistory) -> Iterator[str]:
    # The orders that were sent, and neither filled nor ended, by the journal.
    left = {cid: quantity_of(units) for cid, (_, _, units) in history.intents().items()}
    sent = dict.fromkeys(event.cid or "" for event in history.events if event.kind in _SENT)
    for event in history.events:
        cid = event.cid or ""
        if event.kind in _OVER:
            sent.pop(cid, None)
        elif event.kind == BrokerEventKind.FILL and cid in left:
            left[cid] -= Decimal(event.payload["quantity"])
    yield from (cid for cid in sent if left.get(cid, 0) > 0)


STOP_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i7_asked, _stopped)
