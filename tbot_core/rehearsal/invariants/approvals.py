"""Invariants of approvals: nothing is entered without a confirmation in time, or while the bot is not armed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_core.rehearsal.history import RehearsalHistory

_TAKEN_S: Final = 30.0
"""The longest time until a busy bot reads a request."""

_CONFIRM: Final = "confirm"
_MINUTE: Final = dt.timedelta(minutes=1)
_LATCHES: Final = frozenset({"daily loss latch", "losing run latch"})


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
            if since + _TAKEN_S < request.at < until:
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


APPROVAL_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i8_confirmed, _i8_armed)
