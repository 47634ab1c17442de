"""Invariants of external events: external orders, clock jumps, unexpected fills."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import Leg
from tbot_core.rehearsal.invariants.limits import ExposureReckoner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.model.types import SignalId
    from tbot_core.rehearsal.history import RehearsalHistory

_NOTICED_S: Final = 2.5
_REPORTED_S: Final = 1.0
_KEPT_S: Final = 60.0
_BEFORE_S: Final = 10.0
_EXECUTED: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})
_TRADING_LEGS: Final = frozenset({Leg.ENTRY, Leg.EXIT})
_AMENDED: Final = frozenset({BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED})
_TAKEN_FOR_EXTERNAL: Final = frozenset({records.ADJUSTMENT, records.FOREIGN_HOLDING})
_OVERFILLS: Final = frozenset({"F28", "F38"})
_CHANGES: Final = frozenset({"cancel", "replace"})
_BEYOND_DECLARED: Final = frozenset({"F49", "F113", "F114", "F116"})
"""Readings that are further behind than the venue declares, or wrong: then only what contradicts is judged."""

_READ_S: Final = 15.0
"""How often an account is read at least: the contract, section 8, "Readings that contradict each other"."""


def _i2_touched(history: RehearsalHistory) -> Iterator[str]:
    # The bot requests no change of an order without an intent of its own.
    ours = history.intents()
    for request in history.way.requests:
        if request.kind in _CHANGES and request.client_order_id not in ours:
            yield f"{request.kind} of {request.client_order_id or 'an order without an id'}, which is not ours"


def _i8_clock(history: RehearsalHistory) -> Iterator[str]:
    # A bot enters nothing in the minute after its clock jumped.
    intents = history.intents()
    entries = [
        request
        for way in history.world.ways
        for request in way.requests
        if request.left and request.kind == "submit" and intents.get(request.client_order_id, ("", ""))[1] is Leg.ENTRY
    ]
    for jump in history.world.jumps:
        since = max((born for born in history.births if born <= jump), default=jump)
        next_life = min((born for born in history.births if born > jump), default=float("inf"))
        until = min(jump + _KEPT_S, next_life) if since + _BEFORE_S < jump else jump
        for request in entries:
            if jump + _NOTICED_S < request.at < until:
                yield f"{request.client_order_id} left {request.at - jump:.1f} s after the clock was set"


def _i8_surplus(history: RehearsalHistory) -> Iterator[str]:
    # After a surplus, nothing is entered before it was reported; by the end each one was.
    ledger, intents, unreported = ExposureReckoner(history.rules.risk.price_band_pct), history.intents(), False
    symbols = sorted({signal.symbol for signal, _, _ in intents.values()})
    surplus = dict.fromkeys(symbols, 0)
    for event in history.events:
        entry = event.kind == records.SENDING and intents[event.cid or ""][1] is Leg.ENTRY
        if entry and unreported:
            yield f"{event.cid} was sent after an unreported surplus"
        ledger.apply(event)
        if event.kind in _EXECUTED:
            before, surplus = surplus, {symbol: ledger.surplus(symbol) for symbol in symbols}
            # A reversal is expected, as long as it reduces the surplus.
            unreported |= any(_grew(before[symbol], surplus[symbol]) for symbol in symbols)
        elif event.kind == records.STATE and event.payload["cause"] == "SURPLUS":
            unreported = False
    if unreported and history.held is not None:
        yield f"a surplus was not reported by the end: {surplus}"


def _grew(before: int, after: int) -> bool:
    # Whether a surplus has grown, or changed its side.
    return abs(after) > abs(before) or after * before < 0


def _i8_frozen(history: RehearsalHistory) -> Iterator[str]:
    # In a frozen instrument nothing is entered or closed: only protection is sent.
    intents, frozen = history.intents(), dict[str, str]()
    for event in history.events:
        if event.kind == records.FROZEN:
            frozen.pop(event.payload["symbol"], None)
            frozen |= {event.payload["symbol"]: event.payload["words"]} if event.payload["there"] else {}
        elif event.kind == records.SENDING:
            signal, leg, _ = intents[event.cid or ""]
            if leg in _TRADING_LEGS and signal.symbol in frozen:
                yield f"{event.cid}, the {leg.value} of {signal.symbol}, was sent while frozen: {frozen[signal.symbol]}"


def _external(history: RehearsalHistory) -> Iterator[str]:
    # What the books take for external has a cause at the venue: others traded, or an execution was void or too large.
    if history.struck & _OVERFILLS:
        return
    whose = "" if history.name == history.world.names[0] else history.name
    caused: dict[str, float] = {}
    for fact in history.facts:
        if fact.units and (not fact.ours or fact.kind in _AMENDED):
            caused.setdefault(fact.symbol, (fact.at - history.world.start).total_seconds())
    for at, event in history.written:
        if event.kind not in _TAKEN_FOR_EXTERNAL or event.payload.get("broker", "") != whose:
            continue
        symbol, quantity = event.payload["symbol"], Decimal(event.payload["quantity"])
        if quantity and at < caused.get(symbol, float("inf")):
            yield f"{event.kind} of {quantity} {symbol} at {at:.0f} s, and no other order had traded it"


def _i12_taken(history: RehearsalHistory) -> Iterator[str]:
    # A stop that the venue or a person cancelled, and the bot did not ask to, is placed again only after a list that
    # was asked for at least what lists may lag after the cancel.
    intents, lag_s = history.intents(), history.way.exchange.matching.character.rules.list_lag_s
    asked = {request.client_order_id for request in history.way.requests if request.kind == "cancel"}
    taken: defaultdict[SignalId, list[float]] = defaultdict(list)
    for fact in history.facts:
        signal, leg, _ = intents.get(fact.client_order_id, (None, None, 0))
        if signal and leg is Leg.STOP and fact.kind == BrokerEventKind.CANCELLED and fact.client_order_id not in asked:
            taken[signal].append((fact.at - history.world.start).total_seconds())
    sent = {
        request.client_order_id: request.at
        for request in reversed(history.way.requests)
        if request.kind == "submit" and request.left
    }
    for cid, at in sent.items():
        signal, leg, _ = intents.get(cid, (None, None, 0))
        last = max((one for one in taken.get(signal, ()) if one < at), default=None) if signal else None
        if leg is not Leg.STOP or last is None:
            continue
        if not any(last + lag_s <= reading.asked_at and reading.at <= at for reading in history.way.readings):
            yield f"{cid} was placed {at - last:.1f} s after others cancelled a stop, and no list had shown a holding"


def _i12_opposite(history: RehearsalHistory) -> Iterator[str]:
    # No closing order of ours opens the opposite position in the account, also where somebody else closed the position.
    #
    # Judged are those that left once the lists must have shown that the account held less, or an event had
    # reported what others traded; bracket legs leave with their entry, and what rests stays (the contract, section 8).
    # What others held on the opposite side before our entry is theirs.
    if history.struck & (_OVERFILLS | _BEYOND_DECLARED):
        return
    seen_s = history.way.exchange.matching.character.rules.list_lag_s + _READ_S
    intents = history.intents()
    sent = {
        request.client_order_id: request.at
        for request in reversed(history.way.requests)
        if request.kind == "submit" and request.reached and request.client_order_id in intents
    }
    held: defaultdict[str, list[tuple[float, int]]] = defaultdict(lambda: [(float("-inf"), 0)])
    others, filled = Counter[str](), Counter[str]()
    theirs: dict[SignalId, int] = {}
    for fact in history.facts:
        at, cid, steps = (fact.at - history.world.start).total_seconds(), fact.client_order_id, held[fact.symbol]
        after = steps[-1][1] + fact.units
        if cid not in intents:
            others[fact.symbol] += fact.units
        elif fact.kind == "execution" and cid in sent:
            signal, leg, _ = intents[cid]
            side = (1 if fact.units > 0 else -1) * (1 if leg is Leg.ENTRY else -1)
            least = theirs.setdefault(signal, min(side * others[fact.symbol], 0))
            if leg is not Leg.ENTRY:
                filled[cid] += fact.units
                known_s = max(sent[cid] - seen_s, _reported_before(history, fact.symbol, sent[cid]))
                most = max(side * units for units in _held_between(steps, known_s, sent[cid]))
                if side * after < least and abs(filled[cid]) > max(most - least, 0):
                    words = f"{cid} left the account with {after} units of {fact.symbol}"
                    yield f"{words}, which held at most {most} for it"
        steps.append((at, after))


def _reported_before(history: RehearsalHistory, symbol: str, at: float) -> float:
    # The second of the last trade of others that an event had reported to the same process some time before.
    ours, begun = history.intents(), max((death for death in history.deaths if death < at), default=0.0)
    reported_at = (
        (event.fill.time - history.world.start).total_seconds()
        for delivered, event in history.way.delivered
        if event.fill is not None and event.fill.symbol == symbol and event.client_order_id not in ours
        if begun < delivered < at - _REPORTED_S
    )
    return max(reported_at, default=float("-inf"))


def _held_between(steps: list[tuple[float, int]], begins: float, ends: float) -> list[int]:
    # What was held at some time of a span, by the holdings with the seconds from which they were right.
    before = [units for second, units in steps if second <= begins]
    return [before[-1], *(units for second, units in steps if begins < second <= ends)]


EXTERNAL_EVENT_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _i2_touched,
    _i8_clock,
    _i8_surplus,
    _i8_frozen,
    _external,
    _i12_taken,
    _i12_opposite,
)
EXTERNAL_EVENT_INVARIANTS_OF_ALL: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i8_clock,)
