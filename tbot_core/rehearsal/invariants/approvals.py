"""Invariants of what a person allows: no entry without a confirmation in time, while disarmed, or after a stop.

A stop ends only without positions and working orders.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.model.types import Leg, quantity_of
from tbot_core.rehearsal.invariants.limits import ExposureReckoner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_core.rehearsal.history import RehearsalHistory

_BUSY_READ_S: Final = 30.0
"""The longest time until a busy bot reads a request."""

_CONFIRM: Final = "confirm"

_MINUTE: Final = dt.timedelta(minutes=1)

_LATCHES: Final = frozenset({"daily loss latch", "losing run latch"})

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

_STOP_READ_S: Final = 2.0
"""The longest time until a bot reads a request, whatever it waits for."""


def _i8_confirmed(history: RehearsalHistory) -> Iterator[str]:
    # With confirmations on, each entry was confirmed by the first answer, in time, is sent before it expires or at the
    # next minute's end, and is no larger.
    timeout_s, questions = history.people.manner.timeout_s, dict[str, Event]()
    for event in history.events:
        if event.kind == records.CONFIRMATION_ASKED:
            questions[records.signal_of(event.payload["signal"]).text] = event
        elif timeout_s is not None and event.kind == records.INTENDED and event.payload["leg"] == Leg.ENTRY.value:
            asked = questions.get(records.signal_of(event.payload["signal"]).text)
            if asked is None or not _agreed(history, asked) or event.applied >= _expiry(asked) + _MINUTE:
                yield f"{event.cid} was entered and not confirmed in time"
            elif Decimal(event.payload["quantity"]) > Decimal(asked.payload["quantity"]):
                yield f"{event.cid} enters {event.payload['quantity']}, confirmed were {asked.payload['quantity']}"


def _agreed(history: RehearsalHistory, asked: Event) -> bool:
    # Whether the first answer in time confirms.
    name, latest = asked.payload["id"], _expiry(asked)
    answers = (answer.verb for answer in history.people.answers if answer.identity == name and answer.made < latest)
    return next(answers, None) == _CONFIRM


def _expiry(asked: Event) -> dt.datetime:
    return dt.datetime.fromisoformat(asked.payload["expires"])


def _i8_armed(history: RehearsalHistory) -> Iterator[str]:
    # Nothing is entered in a live session that is not armed, or after a restart before the arming is restored.
    if not history.people.manner.live:
        return
    ends, intents, arming = [life.last for life in history.lives], history.intents(), _Arming()
    for event in history.events:
        while ends and event.seq > ends[0]:
            ends.pop(0)
            arming.proven &= not arming.opened
        entry = event.kind == records.SENDING and intents[event.cid or ""][1] is Leg.ENTRY
        if entry and not (arming.armed and arming.proven):
            yield f"{event.cid} was sent while the bot was not armed"
        arming.apply(event.kind, event.payload)
    for request in (request for way in history.world.ways for request in way.requests):
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in history.people.disarmed if entry and request.left else ():
            if since + _BUSY_READ_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.0f} s after the bot was disarmed"


class _Arming:
    # The arming by the events, without the bot's own code.
    def __init__(self) -> None:
        self.opened, self.proven = False, True
        self._armed: object = None
        self._terms: object = None

    @property
    def armed(self) -> bool:
        """Whether the current terms are the armed ones."""
        return self._armed is not None and self._armed == self._terms

    def apply(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Apply the next event."""
        if kind == records.ARMED:
            self._armed, self.proven = payload["terms"], True
        elif kind == records.DISARMED or (kind == records.RISK and payload["what"] in _LATCHES):
            self._armed = None
        elif kind == records.ARMING_KEPT:
            self.proven = True
        elif kind == records.LIVE_TERMS:
            self._terms = payload
        elif kind == records.SESSION_OPENED:
            self.opened = True


def _i7_asked(history: RehearsalHistory) -> Iterator[str]:
    # While a requested stop or kill is in effect, no entry is sent.
    intents = history.intents()
    for request in (request for way in history.world.ways for request in way.requests):
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in history.people.stopped if entry and request.left else ():
            if since + _STOP_READ_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.0f} s after a stop was requested"


def _stopped(history: RehearsalHistory) -> Iterator[str]:
    # A session ended by a stop has no positions and working orders by its journal, and without faults at the venues.
    if not history.stopped:
        return
    ledger = ExposureReckoner(history.rules.risk.price_band_pct)
    for event in history.events:
        ledger.apply(event)
    for symbol in sorted({entry.symbol for entry in ledger.entries.values() if entry.bought > entry.sold}):
        yield f"{symbol} is held after the stop has ended"
    for cid in _working(history):
        yield f"{cid} works in the journal after the stop has ended"
    if history.struck:
        return
    for way in history.world.ways:
        for order in way.exchange.matching.open:
            if order.ours:
                yield f"{order.cid} rests at a venue after the stop has ended"


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


APPROVAL_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i8_confirmed, _i8_armed)

STOP_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i7_asked, _stopped)
