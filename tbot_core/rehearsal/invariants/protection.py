"""Invariants of protection, from the venue's side: how long a position is bare, and what the bot claims meanwhile.

The facts are those of the venue, the network path and the feed; only the claims are the bot's own.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from decimal import Decimal
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final, Literal

import attrs

from tbot_core.contracts import AccountActivityKind, BrokerEventKind, OrderStatusReport
from tbot_core.journal import records
from tbot_core.model.types import ExitReason, Fill, Leg, OrderType, SignalId, quantity_of, units_of
from tbot_core.rehearsal.network import TIMEOUT_S, NetworkRequest
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.protection import (
    FALSE_CLAIM_S,
    LONGEST_BARE_S,
    RETRY_S,
    UNANSWERED_S,
    PositionProtection,
    measure_protection,
)
from tbot_core.rehearsal.venue_matching import OPEN, SimulatedVenueOrder, VenueFact
from tbot_core.testing.venue import (
    Claim,
    Cover,
    ForeignCancel,
    Halted,
    Held,
    OrderRequest,
    Process,
    ProtectionFact,
    Quoted,
    Reading,
    ShownCover,
    ShownHeld,
    TwoListsNeeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_core.rehearsal.history import RehearsalHistory

_GUARDS: Final = frozenset({Leg.STOP, Leg.EXIT})
_REQUESTS: Final = frozenset({"submit", "cancel", "replace"})
_READINGS: Final = frozenset({"snapshot", "find"})
_FAILURES: Final = ("no answer", "3", "401", "429", "5", "200", "connection")
"""How the outcome of a failed order request begins: no answer, 3xx, 401, 429, 5xx, or an answer that is not whole."""

_DUPLICATE: Final = "must be unique"
_INSUFFICIENT: Final = "insufficient qty"
_SUBJECTS: Final[tuple[Literal["positions", "orders"], ...]] = ("positions", "orders")
_ENDS: Final = frozenset({BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED, BrokerEventKind.EXPIRED})
_ENDED_BY_VENUE: Final = frozenset({BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED})
_ROUNDED_S: Final = 1e-6
_FEED_FAULTS: Final = ("F52", "F53")


def _bare(history: RehearsalHistory) -> Iterator[str]:
    # No position is bare for longer than the contract allows, counted as it counts.
    for position in protection_of(history):
        if position.longest_bare_s > LONGEST_BARE_S:
            bare = f"was bare for {position.longest_bare_s:.1f} s at {history.name}"
            yield f"{position.symbol} of {position.opened_at:.0f} s {bare}"


def _claimed(history: RehearsalHistory) -> Iterator[str]:
    # The bot claims no resting stop once an answer or event has shown that there is none.
    for position in protection_of(history):
        if position.false_claim_s > FALSE_CLAIM_S:
            yield f"{position.symbol} was claimed to have a resting stop for {position.false_claim_s:.1f} s without one"


def protection_of(history: RehearsalHistory) -> list[PositionProtection]:
    """The protection of each position of ours at the venue."""
    matching = history.way.exchange.matching
    return measure_protection(_facts(history), matching.closes, matching.character.rules.list_lag_s)


def _facts(history: RehearsalHistory) -> Iterator[ProtectionFact]:
    yield from _processes(history)
    yield from _positions(history)
    yield from _shown(history)
    yield from _readings(history)
    yield from _requests(history)
    yield from _settling(history)
    yield from _feed(history)
    yield from _claims(history)


def _processes(history: RehearsalHistory) -> Iterator[Process]:
    # A process runs from the first answer to what it asked, to its end.
    ends = [*history.deaths, history.finished]
    answered = [
        (request.at, request.answered_at) for request in history.way.requests if request.answered_at is not None
    ]
    for begins, ends_at in zip([0.0, *ends], ends, strict=False):
        first = min((at for asked_at, at in answered if begins < asked_at and at < ends_at), default=None)
        if first is not None:
            yield Process(at=first, runs=True)
        yield Process(at=ends_at, runs=False)


def _positions(history: RehearsalHistory) -> Iterator[Held | Cover | ForeignCancel]:
    # What is held of ours, and what would close it; a fraction of a share counts where a stop for it can rest.
    matching = history.way.exchange.matching
    whole = OrderType.STOP not in matching.character.rules.fractional_types
    units: dict[str, list[tuple[float, int]]] = {}
    for at, symbol, held in _held(history, partial(_second, history)):
        units.setdefault(symbol, []).append((at, held))
    guards = _guards(history)
    for symbol, steps in units.items():
        mine = [guard for guard in guards if guard.order.symbol == symbol]
        changes = sorted({at for order in mine for at, _ in order.past} | {at for at, _ in steps})
        known, held = iter([*steps, (float("inf"), 0)]), 0
        upcoming = next(known)
        for at in changes:
            while upcoming[0] <= at:
                held, upcoming = upcoming[1], next(known)
            quantity = quantity_of(abs(held)) // 1 if whole else quantity_of(abs(held))
            yield Held(at=at, symbol=symbol, quantity=quantity if held >= 0 else -quantity)
            yield Cover(at=at, symbol=symbol, quantity=sum((_closable(order, at, held) for order in mine), Decimal(0)))
    yield from _foreign_cancels(history)


def _guards(history: RehearsalHistory) -> list[SimulatedVenueOrder]:
    # The stops and exits of ours.
    return [order for order in history.way.exchange.matching.orders if order.ours and order.order.leg in _GUARDS]


def _held(history: RehearsalHistory, second_of: Callable[[VenueFact], float]) -> Iterator[tuple[float, str, int]]:
    # The units of a symbol in positions of ours, at most those that the account holds, from a second on.
    #
    # What was filled beyond a position is surplus.
    sides, account = _sides(history), Counter[str]()
    nets: defaultdict[str, Counter[SignalId]] = defaultdict(Counter)
    changes = ((second_of(fact), fact, change) for fact, change in _changes(history, sides))
    for at, fact, change in sorted(changes, key=itemgetter(0)):
        account[fact.symbol] += fact.units
        nets[fact.symbol].update(change)
        if fact.units:
            positions = [units for one, units in nets[fact.symbol].items() if units * sides.get(one, 0) > 0]
            yield at, fact.symbol, _within(sum(positions), account[fact.symbol])


def _sides(history: RehearsalHistory) -> dict[SignalId, int]:
    # The side of each signal's position; a plan whose stop is on closed bars has none at a broker.
    intents = history.intents()
    sides: dict[SignalId, int] = {}
    for fact in history.facts:
        signal, leg, _ = intents.get(fact.client_order_id, (None, None, 0))
        if fact.fill is not None and signal is not None and leg is Leg.ENTRY:
            sides.setdefault(signal, 0 if signal.strategy in history.on_close else 1 if fact.fill.buy else -1)
    return sides


def _changes(history: RehearsalHistory, sides: Mapping[SignalId, int]) -> Iterator[tuple[VenueFact, Counter[SignalId]]]:
    # By how many units each fact changes what the signals hold. Others who close more than they hold close a position
    # of ours; what they open afterwards is theirs. What an order that reverses a surplus fills beyond it is a surplus.
    intents, account = history.intents(), Counter[str]()
    reversals = {event.cid for event in history.events if event.payload.get("reason") == ExitReason.EXCESS.value}
    nets: defaultdict[str, Counter[SignalId]] = defaultdict(Counter)
    for fact in history.facts:
        net, change = nets[fact.symbol], Counter[SignalId]()
        account[fact.symbol] += fact.units
        if fact.kind == AccountActivityKind.SPLIT:
            change.update(net)
        elif fact.client_order_id in intents:
            signal = intents[fact.client_order_id][0]
            reverses = fact.client_order_id in reversals
            change[signal] = -_within(-fact.units, net[signal]) if reverses else fact.units
        else:
            others = account[fact.symbol] - net.total()
            for signal, units in net.items():
                if units * sides.get(signal, 0) > 0 > units * others:
                    change[signal] = max(others, -units) if units > 0 else min(others, -units)
                    others -= change[signal]
        net.update(change)
        yield fact, change


def _within(units: int, bound: int) -> int:
    # Units, at most those of a bound on the same side.
    return min(units, max(bound, 0)) if units > 0 else max(units, min(bound, 0))


def _closable(one: SimulatedVenueOrder, at: float, held: int) -> Decimal:
    # What an order would close of a position.
    report = one.report_at(at)
    closes = report is not None and report.kind is OPEN and report.buy is (held < 0)
    return report.quantity - report.filled if report is not None and closes else Decimal(0)


def _foreign_cancels(history: RehearsalHistory) -> Iterator[ForeignCancel]:
    # Ends of stops and exits that the venue or others brought about; the rejection of an accepted order is one.
    requested = {
        request.client_order_id for request in history.way.requests if request.kind == "cancel" and request.reached
    }
    guards = {guard.cid for guard in _guards(history)} - requested
    for fact in history.facts:
        if fact.kind in _ENDED_BY_VENUE and fact.client_order_id in guards:
            yield ForeignCancel(at=_second(history, fact), symbol=fact.symbol)


def _shown(history: RehearsalHistory) -> Iterator[ShownHeld | ShownCover]:
    # What events and lists had shown of the positions, and of the stops and exits on the side that closes them.
    deliveries = _Deliveries(history)
    steps: list[tuple[float, str, _Step | int]] = [*_held(history, deliveries.shown_at)]
    steps += (step for guard in _guards(history) for step in deliveries.steps(guard))
    held, covers = Counter[str](), Counter[tuple[str, bool]]()
    for at, symbol, step in sorted(steps, key=itemgetter(0)):
        if isinstance(step, _Step):
            covers[symbol, step.buys] += step.units
        else:
            held[symbol] = step
            yield ShownHeld(at=at, symbol=symbol, quantity=quantity_of(step))
        yield ShownCover(at=at, symbol=symbol, quantity=quantity_of(covers[symbol, held[symbol] < 0]))


@attrs.frozen
class _Step:
    # A change of what orders of a side would close.
    buys: bool
    units: int


@attrs.frozen
class _DeliveredEvent:
    # An execution or an order's end: when it was first delivered, and when it happened.
    at: float
    then: float
    fill: Fill | None

    def left(self, units: int) -> int:
        """What is left of an order's units."""
        return 0 if self.fill is None else max(units - units_of(self.fill.quantity), 0)


class _Deliveries:
    # The events and lists that were delivered, and what of a symbol's orders they showed.
    def __init__(self, history: RehearsalHistory) -> None:
        matching, way = history.way.exchange.matching, history.way
        rules = matching.character.rules
        self._history, self._intents = history, history.intents()
        self._orders = {order.cid: order for order in matching.orders if order.ours}
        self._lists_ended = rules.lists_closed or rules.lists_fills
        self._lists = [(reading.at, reading.read_at - reading.lags.orders_s, reading.wrong) for reading in way.readings]
        happened = {event.event_id: (at, event) for at, event in matching.timed_events}
        self._events: dict[tuple[str, str, Fill | None], _DeliveredEvent] = {}
        for at, event in way.delivered:
            if event.fill is not None or event.kind in _ENDS:
                then, original = happened[event.event_id.removesuffix("-p")]
                # By all terms of its execution, since a venue may reuse an execution's id.
                key = original.client_order_id, str(original.kind), original.fill
                self._events.setdefault(key, _DeliveredEvent(at, then, original.fill))

    def shown_at(self, fact: VenueFact) -> float:
        """The second at which a fact was first shown; infinite where it never was."""
        then = _second(self._history, fact)
        lists = (
            at
            for at, true_at, wrong in self._lists
            if true_at >= then and ("orders", fact.symbol) not in wrong and self._lists_fill(fact, true_at)
        )
        kind = str(BrokerEventKind.FILL) if fact.kind == "execution" else fact.kind
        report = self._events.get((fact.client_order_id, kind, fact.fill))
        return min((*lists, *([] if report is None else [report.at])), default=math.inf)

    def _lists_fill(self, fact: VenueFact, true_at: float) -> bool:
        # Whether a list has the fills of the order by then: one that has ended is not listed everywhere.
        order = self._orders.get(fact.client_order_id)
        report = None if order is None else order.report_at(true_at)
        return self._lists_ended or report is None or report.kind is OPEN

    def steps(self, one: SimulatedVenueOrder) -> Iterator[tuple[float, str, _Step]]:
        """The changes of what a stop or exit would close by what was shown; at first all that was ordered.

        An execution shows its own quantity, and neither the others nor for how much the order was taken.
        """
        symbol, buys, listed_to = one.order.symbol, one.order.buy, -math.inf
        units = self._ordered(one)
        yield one.accepted_at, symbol, _Step(buys, units)
        lists = [
            (at, true_at, one.report_at(true_at))
            for at, true_at, wrong in self._lists
            if ("orders", symbol) not in wrong and true_at >= one.accepted_at
        ]
        events = [
            (report.at, report.then, report)
            for (cid, kind, _), report in self._events.items()
            if cid == one.cid and (kind == BrokerEventKind.FILL or kind in _ENDS)
        ]
        shown: _DeliveredEvent | OrderStatusReport | None
        for at, then, shown in sorted((*lists, *events), key=itemgetter(0)):
            if shown is None or then <= listed_to:
                continue
            before = units
            if isinstance(shown, _DeliveredEvent):
                units = shown.left(units)
            else:
                listed_to = then
                units = units_of(shown.quantity - shown.filled) if shown.kind is OPEN else 0
            yield at, symbol, _Step(buys, units - before)

    def _ordered(self, one: SimulatedVenueOrder) -> int:
        _, _, units = self._intents.get(one.cid, (None, None, 0))
        return max(units, units_of(one.order.quantity))


def _readings(history: RehearsalHistory) -> Iterator[Reading]:
    # The lists that contradict what was confirmed, or agree with it.
    matching = history.way.exchange.matching
    symbols = {order.order.symbol for order in matching.orders if order.ours}
    cancels, lag_s = [*_foreign_cancels(history)], matching.character.rules.list_lag_s
    for reading in history.way.readings:
        for symbol in sorted(symbols):
            if any(cancel.symbol == symbol and 0 <= reading.asked_at - cancel.at < lag_s for cancel in cancels):
                continue  # what is asked for so soon after a foreign cancel shows nothing of it
            for subject in _SUBJECTS:
                agrees = (subject, symbol) not in reading.wrong
                yield Reading(at=reading.at, symbol=symbol, subject=subject, asked_at=reading.asked_at, agrees=agrees)


def _requests(history: RehearsalHistory) -> Iterator[OrderRequest]:
    # The order requests, and the seconds in which each one would have failed.
    for request in history.way.requests:
        if request.kind in _REQUESTS:
            yield OrderRequest(at=request.at, failed=_has_failed(request))
    for begins, ends in history.way.outages:
        at = begins
        while at < ends:
            yield OrderRequest(at=at, failed=True)
            at += RETRY_S


def _has_failed(one: NetworkRequest) -> bool:
    return not one.left or one.outcome.startswith(_FAILURES)


def _settling(history: RehearsalHistory) -> Iterator[TwoListsNeeded]:
    # A stop or exit that may have been booked is sent anew only after lists without it, their lag apart: where ids
    # may repeat, one that failed or whose shares an order holds, perhaps its own, and one that a process had on its way
    # when it ended; everywhere one whose id was refused as used. Another process begins anew.
    rules = history.way.exchange.matching.character.rules
    guards = {cid: signal.symbol for cid, (signal, leg, _) in history.intents().items() if leg in _GUARDS}
    submits = [request for request in history.way.requests if request.kind == "submit" and request.left]
    unclear = [
        (request.at, request.client_order_id)
        for request in submits
        if _DUPLICATE in request.outcome
        or (not rules.unique_client_order_id and (_has_failed(request) or _INSUFFICIENT in request.outcome))
    ]
    begun = sorted(process.at for process in _processes(history) if process.runs)
    # The event whose write a crash cut off is in the journal alone.
    start = history.world.start
    stored = [((event.applied - start).total_seconds(), event) for event in history.events]
    sendings = {event.cid or "": at for at, event in stored + history.written if event.kind == records.SENDING}
    for ended in history.deaths:
        sent = {cid for cid, at in sendings.items() if at <= ended + _ROUNDED_S}
        answered = {
            request.client_order_id
            for request in submits
            if request.answered_at is not None and request.answered_at <= ended
        }
        left = {cid for at, cid in unclear if at <= ended < _settled_by(history, at)}
        if not rules.unique_client_order_id:
            left |= sent - answered
        again = next((at for at in begun if at > ended), None)
        unclear += [(again, cid) for cid in sorted(left) if again is not None]
    for at, cid in unclear:
        if cid in guards:
            yield TwoListsNeeded(at=at, symbol=guards[cid], until=_settled_by(history, at))


def _settled_by(history: RehearsalHistory, sent_at: float) -> float:
    # When an order that was sent then may be sent anew: after two lists, their lag apart, each of which is read
    # RETRY_S late at most. A reading that fails is made again.
    lag_s, first = history.way.exchange.matching.character.rules.list_lag_s, False
    by = sent_at + UNANSWERED_S + RETRY_S
    for request in history.way.requests:
        if request.kind not in _READINGS or not sent_at <= request.at <= by:
            continue
        if request.answered_at is None:
            by = max(by, request.at + TIMEOUT_S + RETRY_S)
        elif request.kind == "snapshot" and not first:
            first, by = True, max(by, request.at + lag_s + RETRY_S)
    return by if first else by + lag_s + RETRY_S


def _feed(history: RehearsalHistory) -> Iterator[Quoted | Halted]:
    # A quote at every step of each symbol that trades, unless the feed was frozen or lost; a delisted symbol is halted.
    world, opens = history.world, history.way.exchange.matching.opens
    lost = [span for fault in _FEED_FAULTS for span in world.timetable.struck.get(fault, ())]
    for symbol, path in world.market.paths.items():
        halted = False
        for step in range(len(path.prices)):
            at, before = opens + step * STEP_S, halted
            halted = path.halted(step) or not path.listed(step)
            if halted is not before:
                yield Halted(at=at, symbol=symbol, halted=halted)
            if not halted and not any(begins <= at < ends for begins, ends in lost):
                yield Quoted(at=at, symbol=symbol)


def _claims(history: RehearsalHistory) -> Iterator[Claim]:
    # What the bot wrote of its protection at this venue.
    broker = "" if history.name == history.world.names[0] else history.name
    for at, event in history.written:
        if event.kind == records.PROTECTION and event.payload.get("broker", "") == broker:
            yield Claim(at=at, symbol=event.payload["symbol"], state=event.payload["state"])


def _second(history: RehearsalHistory, fact: VenueFact) -> float:
    # Not after the second that the venue itself counts: a moment is rounded to a microsecond.
    return (fact.at - history.world.start).total_seconds() - _ROUNDED_S


PROTECTION_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_bare, _claimed)
