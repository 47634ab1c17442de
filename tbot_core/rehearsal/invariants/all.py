"""The invariants of every world, by the numbers of the security rules; each violation is one sentence.

The venue's facts are the truth. The journal is compared with them, and the bot's state with the journal.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.ledger import ledger_of
from tbot_core.model.types import Leg, OrderState, RiskState, quantity_of, units_of
from tbot_core.rehearsal.invariants.approvals import APPROVAL_INVARIANTS, STOP_INVARIANTS
from tbot_core.rehearsal.invariants.deadlines import DEADLINE_INVARIANTS
from tbot_core.rehearsal.invariants.external_events import EXTERNAL_EVENT_INVARIANTS, EXTERNAL_EVENT_INVARIANTS_OF_ALL
from tbot_core.rehearsal.invariants.failover import i13
from tbot_core.rehearsal.invariants.limits import (
    LIMIT_INVARIANTS,
    LIMIT_INVARIANTS_OF_ALL,
    RiskStates,
    i3_top_ups,
    i8_top_ups,
    i18_starved,
)
from tbot_core.rehearsal.invariants.outcomes import OUTCOME_INVARIANTS
from tbot_core.rehearsal.invariants.protection import PROTECTION_INVARIANTS
from tbot_core.rehearsal.invariants.restarts import RESTART_INVARIANTS, RESTART_INVARIANTS_OF_ALL
from tbot_core.testing.canaries import shows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_LATCHES: Final = frozenset({"daily loss latch", "losing run latch", "exit-only"})
_ENDED: Final = frozenset(
    {records.DROPPED, BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED}
)
_EXECUTED: Final = frozenset({"execution", BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})
_OVERFILLS: Final = frozenset({"F28", "F38"})
_REPLAYED: Final = frozenset({"F29", "F43", "F44"})
_GROWTH: Final = 60


def violations(history: RehearsalHistory) -> Iterator[str]:
    """Every violation of every invariant."""
    parts = tuple(history.parts)
    money = (*LIMIT_INVARIANTS, i3_top_ups, i8_top_ups, i13)
    for check in (
        *_CHECKS,
        *money,
        *APPROVAL_INVARIANTS,
        *RESTART_INVARIANTS,
        *OUTCOME_INVARIANTS,
        *EXTERNAL_EVENT_INVARIANTS,
        *STOP_INVARIANTS,
        *DEADLINE_INVARIANTS,
        *PROTECTION_INVARIANTS,
        i18_starved,
        _alive,
    ):
        for subject in (history,) if check in _WHOLE else parts:
            yield from (f"{_name(check)}: {words}" for words in _judged(check, subject))


def _judged(check: Callable[[RehearsalHistory], Iterator[str]], history: RehearsalHistory) -> Iterator[str]:
    # The findings of a check; a journal that it cannot read is a finding too.
    try:
        yield from check(history)
    except Exception as failure:  # noqa: BLE001  the bot's code may raise anything on its journal
        yield f"the journal cannot be read: {type(failure).__name__} {failure}"


def _name(check: Callable[[RehearsalHistory], Iterator[str]]) -> str:
    return check.__name__.lstrip("_").partition("_")[0].upper()


def _i1(history: RehearsalHistory) -> Iterator[str]:
    # No signal's leg is filled beyond its intent at any time, unless by a fault of the venue.
    #
    # A busted fill of a working entry is filled again: it counts once.
    if history.struck & _OVERFILLS:
        return
    intents = history.intents()
    filled: Counter[tuple[str, Leg]] = Counter()
    most: Counter[tuple[str, Leg]] = Counter()
    for fact in history.facts:
        if fact.kind in _EXECUTED and fact.client_order_id in intents:
            signal, leg, _ = intents[fact.client_order_id]
            key = signal.text, leg
            filled[key] += fact.units
            most[key] = max(most[key], abs(filled[key]))
    wanted: Counter[tuple[str, Leg]] = Counter()
    added = history.top_ups
    for cid, (signal, leg, units) in intents.items():
        key = signal.text, leg
        wanted[key] = wanted[key] + units if cid in added else max(units, wanted[key])
    for (text, leg), units in most.items():
        if leg is Leg.ENTRY and units > wanted[text, leg]:
            yield f"{leg.value} of {text} bought {units} of {wanted[text, leg]} intended units"


def _i2(history: RehearsalHistory) -> Iterator[str]:
    # Every order of ours at the venue has an intent, and was marked as being sent by the same process.
    intended, sent = _writers(history, records.INTENDED), _writers(history, records.SENDING)
    for fact in history.facts:
        if fact.kind != "accepted" or not fact.ours:
            continue
        cid = fact.client_order_id
        if cid not in intended:
            yield f"{cid} is at the venue and not in the journal"
        elif sent.get(cid) != intended[cid]:
            yield f"{cid} is at the venue, and the process that wrote it down never marked it as sent"


def _writers(history: RehearsalHistory, kind: str) -> dict[str | None, int]:
    # The process that wrote the first event of that kind of each order; another one may send a stop or exit again.
    ends, found = [life.last for life in history.lives], dict[str | None, int]()
    for event in history.events:
        if event.kind == kind:
            found.setdefault(event.cid, bisect_left(ends, event.seq))
    return found


def _i4(history: RehearsalHistory) -> Iterator[str]:
    # At the end portfolio and ledger, with the known external holdings, equal the account's holdings.
    if history.held is None:
        return
    there = history.way.exchange.matching.books.units
    for whose, ours in (("the portfolio", history.held), ("the ledger", _lots(history))):
        for symbol in sorted({*there, *ours, *history.external}):
            known = ours.get(symbol, 0) + _signed_units(history.external.get(symbol, Decimal(0)))
            if known != there.get(symbol, 0):
                yield f"{symbol}: {whose} holds {known}, the account {there.get(symbol, 0)}"


def _lots(history: RehearsalHistory) -> dict[str, int]:
    # The holdings by the lots of the journal's executions and adjustments.
    return {symbol: _signed_units(quantity) for symbol, quantity in ledger_of(history.events).holdings.items()}


def _signed_units(quantity: Decimal) -> int:
    return units_of(quantity) if quantity >= 0 else -units_of(-quantity)


def _i6(history: RehearsalHistory) -> Iterator[str]:
    # Closing orders are for at most what is held, stops follow their plan, and entries stay reserved.
    yield from history.unguarded


def _i7(history: RehearsalHistory) -> Iterator[str]:
    # While a kill is in effect no entry is sent.
    intents = history.intents()
    for request in history.way.requests:
        entry = request.kind == "submit" and intents.get(request.client_order_id, (None, None))[1] is Leg.ENTRY
        for since, until in history.people.killed if entry and request.left else ():
            if since < request.at < until:
                yield f"{request.client_order_id} left {request.at - since:.3f} s after the kill"


def _i8(history: RehearsalHistory) -> Iterator[str]:
    # Nothing is entered in exit-only, or once a latch is set.
    states, latched, intents = RiskStates(), set[str](), history.intents()
    for event in history.events:
        states.apply(event)
        state = states.state(event.payload.get("broker", ""))
        if event.kind == records.RISK:
            latched.add(event.payload["what"])
        elif event.kind == records.SENDING and intents[event.cid or ""][1] is Leg.ENTRY:
            strategy = intents[event.cid or ""][0].strategy
            if state >= RiskState.EXIT_ONLY:
                yield f"{event.cid} was sent while {state.word}"
            for latch in sorted(latched & {*_LATCHES, f"window loss latch of {strategy}"}):
                yield f"{event.cid} was sent after: {latch}"


def _i9(history: RehearsalHistory) -> Iterator[str]:
    # No order is journaled as ended that still works at the venue.
    alive = {fact.client_order_id for fact in history.facts if fact.kind == "accepted"}
    alive -= {
        fact.client_order_id
        for fact in history.facts
        if fact.kind in {BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED, BrokerEventKind.EXPIRED}
    }
    filled: Counter[str] = Counter()
    for fact in history.facts:
        if fact.kind == "execution":
            filled[fact.client_order_id] += abs(fact.units)
    for event in history.events:
        cid = event.cid or ""
        if event.kind in _ENDED and cid in alive and not filled[cid]:
            yield f"{cid} is {event.kind} in the journal, and accepted at the venue"


def _i9_again(history: RehearsalHistory) -> Iterator[str]:
    # No entry is sent while another one of its symbol may still fill at any venue.
    intents = history.intents()
    out: dict[str, set[str]] = defaultdict(set)
    left: dict[str, Decimal] = {cid: quantity_of(units) for cid, (_, _, units) in intents.items()}
    for event in history.events:
        cid = event.cid or ""
        if cid not in intents or intents[cid][1] is not Leg.ENTRY:
            continue
        symbol = intents[cid][0].symbol
        if event.kind == records.SENDING:
            yield from (f"{cid} was sent while {other} of {symbol} was out" for other in sorted(out[symbol] - {cid}))
            out[symbol].add(cid)
        elif event.kind == BrokerEventKind.FILL:
            left[cid] -= Decimal(event.payload["quantity"])
        if event.kind in _ENDED or left[cid] <= 0:
            out[symbol].discard(cid)


def _booked(history: RehearsalHistory) -> Iterator[str]:
    # At the end the filled quantity of each order of ours is the same in the books and at the venue.
    if history.held is None:
        return
    filled: Counter[str] = Counter()
    for fact in history.facts:
        if fact.fill is not None:
            filled[fact.client_order_id] += fact.units if fact.fill.buy else -fact.units
    untold = history.untold
    for cid, record in history.orders.items():
        if cid not in untold and units_of(record.filled) != filled[cid]:
            yield f"{cid} has {units_of(record.filled)} units in the books, and {filled[cid]} at the venue"


def _i10(history: RehearsalHistory) -> Iterator[str]:
    # No execution is in the journal twice.
    seen: set[tuple[object, ...]] = set()
    for event in history.events:
        if event.kind == BrokerEventKind.FILL and event.cid is not None:
            whose = event.source and event.source[:2]  # others place orders under one id at two venues
            key = event.cid, event.payload["execution_id"], whose
            if key in seen:
                yield f"execution {key[1]} of {key[0]} is in the journal twice"
            seen.add(key)


def _i12(history: RehearsalHistory) -> Iterator[str]:
    # Closing a position never opens the opposite one.
    if history.struck & (_OVERFILLS | _REPLAYED | {"F27"}):
        return
    intents = history.intents()
    net: defaultdict[str, int] = defaultdict(int)
    side: dict[str, int] = {}
    for fact in history.facts:
        if fact.kind != "execution" or fact.client_order_id not in intents:
            continue
        signal, leg, _ = intents[fact.client_order_id]
        if leg is Leg.ENTRY:
            side[signal.text] = 1 if fact.units > 0 else -1
        net[signal.text] += fact.units
        if net[signal.text] * side.get(signal.text, 0) < 0:
            yield f"{signal.text} crossed zero to {net[signal.text]} units"


def _i14(history: RehearsalHistory) -> Iterator[str]:
    # An event whose append returned is in the journal after any crash.
    hashes = {event.seq: event.hash for event in history.events}
    for number, life in enumerate(history.lives, 1):
        for seq, key in life.acknowledged:
            if hashes.get(seq) != key:
                yield f"event {seq} of life {number} is gone"
                break


def _i17(history: RehearsalHistory) -> Iterator[str]:
    # No secret is in the journal.
    for event in history.events:
        if shows(json.dumps(event.payload)):
            yield f"event {event.seq}, {event.kind}, shows the key"


def _i19(history: RehearsalHistory) -> Iterator[str]:
    # The journal's chain is whole.
    if history.torn:
        yield history.torn


def _alive(history: RehearsalHistory) -> Iterator[str]:
    # No process ends by an error of the bot.
    yield from history.failures


def _i20(history: RehearsalHistory) -> Iterator[str]:
    # The journal grows with the number of orders, and slowly with time and crashes.
    orders, hours = len(history.intents()), max(1.0, history.world.session.minutes / 60)
    most = (200 * hours + 40 * len(history.lives)) * (1 + len(history.elsewhere)) + _GROWTH * (orders + 1)
    if len(history.events) > most:
        yield f"{len(history.events)} events of {orders} orders"


def _settled(history: RehearsalHistory) -> Iterator[str]:
    # Once faults have stopped, no order stays unknown.
    if history.held is None:
        return
    for cid, record in history.orders.items():
        if not record.terminal and record.state is not OrderState.LOST:
            yield f"{cid} is still {record.state.value}"


_CHECKS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i1, _i2, _i4, _i6, _i7, _i8, _i9, _i9_again, _booked, _i10, _i12, _i14, _i17, _i19, _i20, _settled,
)  # fmt: skip
_WHOLE: Final = frozenset(
    {
        _i6,
        _i8,
        i3_top_ups,
        i8_top_ups,
        _i9_again,
        _i14,
        _i17,
        _i19,
        i18_starved,
        _i20,
        _alive,
        i13,
        *EXTERNAL_EVENT_INVARIANTS_OF_ALL,
        *APPROVAL_INVARIANTS,
        *STOP_INVARIANTS,
        *LIMIT_INVARIANTS_OF_ALL,
        *RESTART_INVARIANTS_OF_ALL,
    }
)
"""The invariants checked on all venues together; all others are checked per venue."""
