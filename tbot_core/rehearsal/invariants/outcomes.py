"""Invariants of outcomes: no sent order is journaled as never sent, and no working one as ended."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import Leg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tbot_core.rehearsal.history import RehearsalHistory
    from tbot_core.rehearsal.network import NetworkRequest

_ENDINGS: Final = frozenset({BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED})
_OVER: Final = _ENDINGS | {records.DROPPED, records.LOST}
_OBJECTIONS: Final = ("4221", "4031")
"""How the codes of the venue's own objections begin."""

_WRONG_CLOCKS: Final = frozenset({"F68", "F69", "F70"})


def _i1_sent(history: RehearsalHistory) -> Iterator[str]:
    # An entry leaves once: one that may have arrived is looked up. A stop or exit is sent again under its id where the
    # venue refuses it a second time, else once it must have been listed (the contract, section 8).
    intents, rules, sent = history.intents(), history.way.exchange.matching.character.rules, dict[str, float]()
    for request in history.way.requests:
        if request.kind != "submit" or not request.left:
            continue
        cid = request.client_order_id
        again_s = request.at - sent.get(cid, float("-inf"))
        closes = cid in intents and intents[cid][1] is not Leg.ENTRY
        allowed = closes and (rules.unique_client_order_id or again_s >= rules.list_lag_s)
        if cid in sent and not allowed:
            yield f"{cid} was sent again after {again_s:.1f} s"
        sent[cid] = request.at


def _i12_beside(history: RehearsalHistory) -> Iterator[str]:
    # No exit is ordered while another one of the same position may still fill.
    open_exits: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for event in history.events:
        cid = event.cid or ""
        if event.kind == records.INTENDED and event.payload["leg"] == Leg.EXIT.value:
            signal = records.signal_of(event.payload["signal"]).text
            yield from (f"{cid} was ordered beside {other}" for other in sorted(open_exits[signal]))
            open_exits[signal][cid] = Decimal(event.payload["quantity"])
            continue
        for orders in open_exits.values():
            if cid in orders:
                orders[cid] -= Decimal(event.payload["quantity"]) if event.kind == BrokerEventKind.FILL else 0
                if event.kind in _OVER or orders[cid] <= 0:
                    del orders[cid]


def _i9_dropped(history: RehearsalHistory) -> Iterator[str]:
    # An order journaled as dropped was never sent, and is not at the venue.
    left = {request.client_order_id for request in history.way.requests if request.kind == "submit" and request.left}
    left |= {fact.client_order_id for fact in history.facts if fact.kind == "accepted"}
    for event in history.events:
        if event.kind == records.DROPPED and event.cid in left:
            yield f"{event.cid} is dropped in the journal, but was sent"


def _i9_ended(history: RehearsalHistory) -> Iterator[str]:
    # An order journaled as ended had ended at the venue by then, or was rejected there.
    if history.struck & _WRONG_CLOCKS:
        return
    ended, entries = _ended_at(history), _entry_of(history)
    refused = _refused(history)
    for event in history.events:
        cid = event.cid or ""
        if event.kind not in _ENDINGS or cid not in entries:
            continue
        over = ended.get(cid)
        if not (over is not None and over <= event.applied) and not {cid, entries[cid]} & refused:
            yield f"{cid} is {event.kind} in the journal at {event.applied:%H:%M:%S}, but works at the venue"


def _ended_at(history: RehearsalHistory) -> dict[str, datetime]:
    # When each order ended at the venue.
    filled = {working.cid for working in history.way.exchange.matching.orders if working.kind == BrokerEventKind.FILL}
    ended: dict[str, datetime] = {}
    for fact in history.facts:
        if fact.kind in _ENDINGS:
            ended.setdefault(fact.client_order_id, fact.at)
        elif fact.kind == "execution" and fact.client_order_id in filled:
            ended[fact.client_order_id] = fact.at
    return ended


def _entry_of(history: RehearsalHistory) -> dict[str, str]:
    # The entry that each order was sent with, or itself.
    found: dict[str, str] = {}
    for event in history.events:
        if event.kind == records.INTENDED and event.cid is not None:
            found.setdefault(event.cid, event.cid)
            found.update(dict.fromkeys(event.payload["protection"], event.cid))
    return found


def _refused(history: RehearsalHistory) -> set[str]:
    # The orders whose submit was answered with a rejection.
    return {
        request.client_order_id for request in history.way.requests if request.kind == "submit" and _is_refusal(request)
    }


def _is_refusal(request: NetworkRequest) -> bool:
    # Whether the answer was a refusal, and the order is not there: some refusals come after it was booked.
    refused = request.outcome[:1] == "4" and not request.outcome.startswith("429")
    return refused and (not request.reached or request.outcome.startswith(_OBJECTIONS))


OUTCOME_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i1_sent,
    _i12_beside,
    _i9_dropped,
    _i9_ended,
)
