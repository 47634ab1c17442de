"""Invariants of protection, from the venue's side: how long a position is bare, and what the bot claims meanwhile.

The facts are those of the venue, the network path and the feed; only the claims are the bot's own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal

from tbot_core.contracts import AccountActivityKind, BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import Leg, OrderType, quantity_of
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.protection import FALSE_CLAIM_S, LONGEST_BARE_S, RETRY_S, measure_protection
from tbot_core.rehearsal.venue_orders import OPEN
from tbot_core.testing.protection_facts import (
    Claim,
    Cover,
    ForeignCancel,
    Halted,
    Held,
    OrderRequest,
    Process,
    Quoted,
    Reading,
    Shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.model.types import SignalId
    from tbot_core.rehearsal.history import RehearsalHistory
    from tbot_core.rehearsal.protection import PositionProtection
    from tbot_core.rehearsal.venue_facts import VenueFact
    from tbot_core.rehearsal.venue_orders import SimulatedVenueOrder
    from tbot_core.testing.protection_facts import ProtectionFact

_GUARDS: Final = frozenset({Leg.STOP, Leg.EXIT})
_REQUESTS: Final = frozenset({"submit", "cancel", "replace"})
_FAILURES: Final = ("no answer", "3", "401", "429", "5", "200", "connection")
"""How the outcome of a failed order request begins: no answer, 3xx, 401, 429, 5xx, or an answer that is not whole."""

_SUBJECTS: Final[tuple[Literal["positions", "orders"], ...]] = ("positions", "orders")
_ENDS: Final = frozenset({BrokerEventKind.CANCELLED, BrokerEventKind.REJECTED, BrokerEventKind.EXPIRED})
_ROUNDED_S: Final = 1e-6
_FEED_FAULTS: Final = ("F52", "F53")


def _bare(history: RehearsalHistory) -> Iterator[str]:
    # No position is bare for longer than the contract allows, counted as it counts.
    for one in protection_of(history):
        if one.longest_bare_s > LONGEST_BARE_S:
            yield f"{one.symbol} of {one.opened_at:.0f} s was bare for {one.longest_bare_s:.1f} s at {history.name}"


def _claimed(history: RehearsalHistory) -> Iterator[str]:
    # The bot claims no resting stop once an answer or event has shown that there is none.
    for one in protection_of(history):
        if one.false_claim_s > FALSE_CLAIM_S:
            yield f"{one.symbol} was claimed to have a resting stop for {one.false_claim_s:.1f} s without one"


def protection_of(history: RehearsalHistory) -> list[PositionProtection]:
    """The protection of each position of ours at the venue."""
    return measure_protection(_facts(history), history.way.exchange.matching.closes)


def _facts(history: RehearsalHistory) -> Iterator[ProtectionFact]:
    yield from _processes(history)
    yield from _positions(history)
    yield from _shown(history)
    yield from _requests(history)
    yield from _feed(history)
    yield from _claims(history)


def _processes(history: RehearsalHistory) -> Iterator[Process]:
    # A process runs from its first answer to its end.
    ends = [*history.deaths, history.finished]
    answers = sorted(one.answered_at for one in history.way.requests if one.answered_at is not None)
    for begins, ends_at in zip([0.0, *ends], ends, strict=False):
        first = next((at for at in answers if begins <= at < ends_at), None)
        if first is not None:
            yield Process(at=first, runs=True)
        yield Process(at=ends_at, runs=False)


def _positions(history: RehearsalHistory) -> Iterator[Held | Cover | ForeignCancel]:
    # What is held of ours, and what would close it; a fraction of a share counts where a stop for it can rest.
    matching = history.way.exchange.matching
    whole = OrderType.STOP not in matching.character.rules.fractional_types
    units: dict[str, list[tuple[float, int]]] = {}
    for at, symbol, held in _held(history):
        units.setdefault(symbol, []).append((at, held))
    guards = _guards(history)
    for symbol, steps in units.items():
        mine = [one for one in guards if one.order.symbol == symbol]
        changes = sorted({at for one in mine for at, _ in one.past} | {at for at, _ in steps})
        known, held = iter([*steps, (float("inf"), 0)]), 0
        upcoming = next(known)
        for at in changes:
            while upcoming[0] <= at:
                held, upcoming = upcoming[1], next(known)
            quantity = quantity_of(abs(held)) // 1 if whole else quantity_of(abs(held))
            yield Held(at=at, symbol=symbol, quantity=quantity if held >= 0 else -quantity)
            yield Cover(at=at, symbol=symbol, quantity=sum((_closable(one, at, held) for one in mine), Decimal(0)))
    yield from _foreign_cancels(history)


def _guards(history: RehearsalHistory) -> list[SimulatedVenueOrder]:
    # The stops and exits of ours.
    return [one for one in history.way.exchange.matching.orders if one.ours and one.order.leg in _GUARDS]


def _held(history: RehearsalHistory) -> Iterator[tuple[float, str, int]]:
    # The units of a symbol in positions of ours, at most those that the account holds, from a second on.
    #
    # A plan whose stop is on closed bars has none at a broker. What was filled beyond a position is surplus.
    intents, account = history.intents(), Counter[str]()
    sides: dict[SignalId, int] = {}
    nets: defaultdict[str, Counter[SignalId]] = defaultdict(Counter)
    for fact in history.facts:
        account[fact.symbol] += fact.units
        signal, leg, _ = intents.get(fact.client_order_id, (None, None, 0))
        if fact.fill is not None and signal is not None and signal.strategy not in history.on_close:
            nets[fact.symbol][signal] += fact.units
            if leg is Leg.ENTRY:
                sides.setdefault(signal, 1 if fact.fill.buy else -1)
        elif fact.kind == AccountActivityKind.SPLIT:
            nets[fact.symbol] = Counter({one: 2 * units for one, units in nets[fact.symbol].items()})
        if fact.units:
            positions = [units for one, units in nets[fact.symbol].items() if units * sides.get(one, 0) > 0]
            yield _second(history, fact), fact.symbol, _within(sum(positions), account[fact.symbol])


def _within(ours: int, account: int) -> int:
    # Our units, at most those that the account holds on the same side.
    return min(ours, max(account, 0)) if ours > 0 else max(ours, min(account, 0))


def _closable(one: SimulatedVenueOrder, at: float, held: int) -> Decimal:
    # What an order would close of a position.
    report = one.report_at(at)
    closes = report is not None and report.kind is OPEN and report.buy is (held < 0)
    return report.quantity - report.filled if report is not None and closes else Decimal(0)


def _foreign_cancels(history: RehearsalHistory) -> Iterator[ForeignCancel]:
    # Cancels of stops and exits that the bot had not requested.
    requested = {one.client_order_id for one in history.way.requests if one.kind == "cancel" and one.reached}
    guards = {one.cid for one in _guards(history)} - requested
    for fact in history.facts:
        if fact.kind == BrokerEventKind.CANCELLED and fact.client_order_id in guards:
            yield ForeignCancel(at=_second(history, fact), symbol=fact.symbol)


def _shown(history: RehearsalHistory) -> Iterator[Shown | Reading]:
    # What events and readings showed, and which readings contradict what was confirmed.
    matching, way = history.way.exchange.matching, history.way
    happened = {event.event_id: at for at, event in matching.timed_events}
    symbols = {one.cid: one.order.symbol for one in matching.orders if one.ours}
    for at, event in way.delivered:
        if event.client_order_id in symbols and (event.fill is not None or event.kind in _ENDS):
            then = happened[event.event_id.removesuffix("-p")]
            yield Shown(at=at, symbol=symbols[event.client_order_id], happened_at=then)
    cancels, lag_s = [*_foreign_cancels(history)], matching.character.rules.list_lag_s
    for reading in way.readings:
        for symbol in sorted(set(symbols.values())):
            if ("orders", symbol) not in reading.wrong:
                yield Shown(at=reading.at, symbol=symbol, happened_at=reading.read_at - reading.lags.orders_s)
            if any(one.symbol == symbol and 0 <= reading.asked_at - one.at < lag_s for one in cancels):
                continue  # what is asked for so soon after a foreign cancel shows nothing of it
            for subject in _SUBJECTS:
                agrees = (subject, symbol) not in reading.wrong
                yield Reading(at=reading.at, symbol=symbol, subject=subject, asked_at=reading.asked_at, agrees=agrees)


def _requests(history: RehearsalHistory) -> Iterator[OrderRequest]:
    # The order requests, and the seconds in which each one would have failed.
    for one in history.way.requests:
        if one.kind in _REQUESTS:
            failed = not one.left or one.outcome.startswith(_FAILURES)
            yield OrderRequest(at=one.at, failed=failed)
    for begins, ends in history.way.outages:
        at = begins
        while at < ends:
            yield OrderRequest(at=at, failed=True)
            at += RETRY_S


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
