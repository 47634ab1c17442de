"""Invariants of time: cancels of old entries and after a kill, latches, bookings, lost orders, late signals.

The venue's facts, the requests on the network path and the events of the journal are the evidence, in seconds of the
world, so that a clock that was set changes nothing. What a process that crashed meanwhile, or an order that the bot
reports as lost, could not do is not judged, nor the events of a process outside of the simulation.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.model.types import ExitReason, Leg, atoms_of, dollars_of, ticks_of, units_of
from tbot_core.rehearsal.bot import TTL_S
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.venue_matching import OPEN
from tbot_core.rehearsal.world import LEAD_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

CANCEL_S: Final = 10.0
"""How long after its ENTRY_TTL, or after a kill, the cancel of an entry may take to leave, without faults."""

BOOKED_S: Final = 10.0
"""How long a process may take to book an execution that was delivered to it."""

_DECIDED_S: Final = 30.0
_AGAIN_S: Final = 180.0
"""How long before the close an exit that works is sent again: the contract, section 6, "Session end"."""

_LONG_S: Final = 300.0
_REFUSED_AS_BOOKED: Final = ("400 client_order_id", "422 client_order_id", "403 insufficient qty")
_NO_EXITS: Final = frozenset({ExitReason.REBALANCE.value, ExitReason.EXCESS.value})
_MINUTE_S: Final = 60.0
_REUSED: Final = "F30"
_ENDINGS: Final = frozenset({BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED})
_UNFOLDED: Final = frozenset(
    {records.ADJUSTMENT, records.CORPORATE_ACTION, BrokerEventKind.BUSTED, BrokerEventKind.CORRECTED}
)
_UNREACHED: Final = frozenset({"F60", "F63", "F64", "F65", "F66", "F67"})
_OVERFILLS: Final = frozenset({"F28", "F38"})
_WRONG_CLOCKS: Final = frozenset({"F68", "F69", "F70"})


@attrs.frozen(kw_only=True)
class _OpenEntry:
    # An entry at the venue: the seconds in which it was open there.
    cid: str
    opened: float
    ended: float


def _entries(history: RehearsalHistory) -> Iterator[_OpenEntry]:
    # The entries of ours that the venue accepted, without those that the bot reports as lost.
    intents = history.intents()
    left = {event.cid for event in history.events if event.kind == records.LOST}
    opened: dict[str, float] = {}
    ended: dict[str, float] = {}
    filled: defaultdict[str, int] = defaultdict(int)
    accepted: dict[str, int] = {}
    for fact in history.facts:
        cid, at = fact.client_order_id, (fact.at - history.world.start).total_seconds()
        if cid not in intents or intents[cid][1] is not Leg.ENTRY:
            continue
        if fact.kind == "accepted":
            opened.setdefault(cid, at)
            accepted[cid] = fact.quantity or intents[cid][2]  # a venue may take an order for less
        elif fact.kind == "execution":
            filled[cid] += abs(fact.units)
            if filled[cid] >= accepted[cid]:
                ended.setdefault(cid, at)
        elif fact.kind in _ENDINGS:
            ended.setdefault(cid, at)
    for cid, at in opened.items():
        if cid not in left:
            yield _OpenEntry(cid=cid, opened=at, ended=ended.get(cid, float("inf")))


def _is_judged(history: RehearsalHistory, since: float, until: float) -> bool:
    # Whether one process lived from its first reading of the account to the end of the span, before faults stop.
    alive = [born for born in history.births if born < since]
    ends = [*history.deaths, history.world.quiet_from]
    return bool(alive) and not any(since < end <= until or alive[-1] < end <= since for end in ends)


def _cancelled(history: RehearsalHistory, cid: str, until: float) -> bool:
    # Whether a cancel of the order was requested by then.
    return any(
        request.kind == "cancel" and request.client_order_id == cid and request.at <= until
        for request in history.way.requests
    )


def _sent(history: RehearsalHistory) -> dict[str, float]:
    # When each order left.
    return {
        request.client_order_id: request.at
        for request in reversed(history.way.requests)
        if request.kind == "submit" and request.left
    }


def _ttl(history: RehearsalHistory) -> Iterator[str]:
    # An entry that is open beyond its ENTRY_TTL is cancelled, also one that is partly filled or in doubt.
    if history.struck & (_UNREACHED | _WRONG_CLOCKS):
        return
    sent = _sent(history)
    for entry in _entries(history):
        due = max(sent.get(entry.cid, entry.opened), entry.opened) + TTL_S + CANCEL_S
        if due < entry.ended and _is_judged(history, entry.opened, due) and not _cancelled(history, entry.cid, due):
            yield f"{entry.cid} was open for {due - entry.opened:.0f} s, and no cancel has left"


def _killed(history: RehearsalHistory) -> Iterator[str]:
    # Within seconds of a kill each entry that is open, or has left, is cancelled.
    if history.struck & (_UNREACHED | _WRONG_CLOCKS):
        return
    sent = _sent(history)
    for since, until in history.people.killed:
        due = since + CANCEL_S
        for entry in _entries(history) if until > due else ():
            open_then = min(sent.get(entry.cid, entry.opened), entry.opened) < since and due < entry.ended
            if open_then and _is_judged(history, since, due) and not _cancelled(history, entry.cid, due):
                yield f"{entry.cid} was open when killed, and no cancel has left within {CANCEL_S:.0f} s"


def _latched(history: RehearsalHistory) -> Iterator[str]:
    # A loss that is realised while nothing is held sets the daily latch, fees included.
    #
    # With a position at hand its mark counts too, which no journal holds.
    events, latched = history.events, _latches(history)
    if history.held is None or _is_unclear(history) or "daily loss latch" in latched:
        return
    limit = int(atoms_of(_equity(history)) * history.rules.risk.daily_loss_limit)
    net: defaultdict[str, int] = defaultdict(int)
    profit, ours = 0, history.intents()
    for event in events:
        if event.kind != BrokerEventKind.FILL or event.cid not in ours:
            continue
        units = units_of(Decimal(event.payload["quantity"])) * (1 if event.payload["buy"] else -1)
        net[event.payload["symbol"]] += units
        price, fees = ticks_of(float(event.payload["price"])), atoms_of(Decimal(event.payload["fees"]))
        profit -= units * price + fees
        if not any(net.values()) and profit <= -limit and _before_the_end(history, event.applied):
            yield f"{dollars_of(-profit)} USD are lost at {event.applied:%H:%M:%S}, {dollars_of(limit)} are allowed"
            return


def _losing(history: RehearsalHistory) -> Iterator[str]:
    # Losing trades in a row, and the loss of a window that holds nothing, set their latches.
    if history.held is None or _is_unclear(history):
        return
    risk, latched = history.rules.risk, _latches(history)
    trips = _round_trips(history)
    trades = [trip for trip in trips if not trip.units and _before_the_end(history, trip.ended)]
    run = most = 0
    for trade in sorted(trades, key=lambda one: one.ended):
        run = run + 1 if trade.gained < 0 else 0
        most = max(most, run)
    if 0 < risk.max_consecutive_losses <= most and "losing run latch" not in latched:
        yield f"{most} losing trades in a row, {risk.max_consecutive_losses} are allowed"
    budget = _equity(history) * risk.total_allocation * risk.window_loss_limit
    held = {trip.strategy for trip in trips if trip.units}
    for strategy in sorted({trade.strategy for trade in trades} - held):
        lost = -dollars_of(sum(trade.gained for trade in trades if trade.strategy == strategy))
        if lost >= budget and f"window loss latch of {strategy}" not in latched:
            yield f"the window of {strategy} lost {lost} USD, {budget} are allowed"


@attrs.define(kw_only=True)
class _RoundTrip:
    # The fills of a signal: open units, what was gained after fees in atoms, and the time of the last one.
    strategy: str
    ended: dt.datetime
    units: int = 0
    gained: int = 0


def _round_trips(history: RehearsalHistory) -> list[_RoundTrip]:
    ours, trips = history.intents(), dict[str, _RoundTrip]()
    for event in history.events:
        if event.kind != BrokerEventKind.FILL or event.cid not in ours:
            continue
        signal, payload = ours[event.cid][0], event.payload
        ended = dt.datetime.fromisoformat(payload["time"])
        trip = trips.setdefault(signal.text, _RoundTrip(strategy=signal.strategy, ended=ended))
        units = units_of(Decimal(payload["quantity"])) * (1 if payload["buy"] else -1)
        trip.units += units
        trip.gained -= units * ticks_of(float(payload["price"])) + atoms_of(Decimal(payload["fees"]))
        trip.ended = max(trip.ended, ended)
    return list(trips.values())


def _equity(history: RehearsalHistory) -> Decimal:
    opened = next((event for event in history.events if event.kind == records.SESSION_OPENED), None)
    return Decimal(0) if opened is None else Decimal(opened.payload["equity"])


def _latches(history: RehearsalHistory) -> set[str]:
    return {event.payload["what"] for event in history.events if event.kind == records.RISK}


def _is_unclear(history: RehearsalHistory) -> bool:
    # Whether profit is not the sum of our fills at one account, or a day ended by a wrong clock.
    several = bool(history.elsewhere) or len(history.world.names) > 1
    changed = any(event.kind in _UNFOLDED for event in history.events)
    return several or changed or bool(history.struck & (_OVERFILLS | _WRONG_CLOCKS))


def _before_the_end(history: RehearsalHistory, moment: dt.datetime) -> bool:
    # Whether a minute of the session is left, in which the bot reviews its losses.
    closed = next((event.applied for event in history.events if event.kind == records.SESSION_CLOSED), None)
    return (
        min(closed or history.world.session.close, history.world.session.close) - moment
    ).total_seconds() > _MINUTE_S


def _lost(history: RehearsalHistory) -> Iterator[str]:
    # An entry is given up as lost only after the venue's lookup window, a stop or exit after what its lists may lag.
    intents, rules = history.intents(), history.way.exchange.matching.character.rules
    sent: dict[str | None, float] = {}
    for at, event in history.written:
        if event.cid not in intents:
            continue
        window_s = rules.lookup_window_s if intents[event.cid][1] is Leg.ENTRY else rules.list_lag_s
        if event.kind == records.SENDING:
            sent[event.cid] = at
        elif event.kind == records.LOST and (waited := at - sent.get(event.cid, float("-inf"))) < window_s:
            yield f"{event.cid} was given up as lost after {waited:.0f} s, its lookup window is {window_s:.0f} s"


def _lost_listed(history: RehearsalHistory) -> Iterator[str]:
    # A stop or exit is given up after two lists that were asked for since it was sent, what lists may lag apart.
    #
    # One whose id or shares were refused as used needs one list; one that waited out the lookup window needs none.
    intents, rules, sent = history.intents(), history.way.exchange.matching.character.rules, _sent(history)
    refused = {
        request.client_order_id for request in history.way.requests if request.outcome.startswith(_REFUSED_AS_BOOKED)
    }
    for at, event in history.written:
        cid = event.cid or ""
        if event.kind != records.LOST or cid not in intents or cid in refused or intents[cid][1] is Leg.ENTRY:
            continue
        since = sent.get(cid, float("-inf"))
        asked = [reading.asked_at for reading in history.way.readings if since <= reading.asked_at and reading.at <= at]
        apart = asked[-1] - asked[0] if asked else 0.0
        if apart < rules.list_lag_s and at - since < max(rules.lookup_window_s, _LONG_S):
            yield f"{cid} was given up as lost after lists {apart:.1f} s apart, which may lag {rules.list_lag_s:.0f} s"


def _resent(history: RehearsalHistory) -> Iterator[str]:
    # An exit that works three minutes before the close is cancelled then, to be sent again.
    matching, people = history.way.exchange.matching, history.people
    begins, due = matching.closes - _AGAIN_S, matching.closes - _AGAIN_S + CANCEL_S
    if history.struck & _WRONG_CLOCKS or not _lives(history, begins - _MINUTE_S, due):
        return
    if any(since < due and begins < until for since, until in people.killed):
        return
    known = _plain_exits(history)
    for order in matching.orders:
        path = history.world.market.paths[order.order.symbol]
        step = int((begins - matching.opens) // STEP_S)
        trades = path.listed(step) and not path.halted(step)
        works = [(report := order.report_at(at)) is not None and report.kind is OPEN for at in (begins, due)]
        early = order.cid in known and order.accepted_at < begins - CANCEL_S
        if trades and early and all(works) and not _cancelled(history, order.cid, due):
            yield f"{order.cid} worked {_AGAIN_S:.0f} s before the close, and no cancel has left"


def _plain_exits(history: RehearsalHistory) -> set[str]:
    # The exits of positions whose submit was answered as accepted.
    accepted = {
        request.client_order_id
        for request in history.way.requests
        if request.kind == "submit" and request.outcome == "ok"
    }
    return {
        event.cid
        for event in history.events
        if event.kind == records.INTENDED
        and event.cid in accepted
        and event.payload["leg"] == Leg.EXIT.value
        and event.payload["reason"] not in _NO_EXITS
    }


def _lives(history: RehearsalHistory, since: float, until: float) -> bool:
    # Whether one process traded for the whole span.
    born = max((at for at in history.births if at < until), default=float("inf"))
    return born < since and not any(born <= death < until for death in history.deaths) and history.finished > until


def _delivered(history: RehearsalHistory) -> Iterator[str]:
    # An execution that a process received is booked within seconds.
    if not history.written or _REUSED in history.struck or history.failures or history.stopped:
        return
    intents, booked = history.intents(), dict[tuple[str | None, str], float]()
    for at, event in history.written:
        if event.kind == BrokerEventKind.FILL:
            booked.setdefault((event.cid, event.payload["execution_id"]), at)
    ends = [*history.deaths, history.way.exchange.matching.closes]
    for at, report in history.way.delivered:
        if report.fill is None or report.kind != BrokerEventKind.FILL or report.client_order_id not in intents:
            continue
        end = ends[bisect_left(ends, at)] if at < ends[-1] else at
        by = booked.get((report.client_order_id, report.fill.execution_id), float("inf"))
        if at + BOOKED_S < min(by, end):
            name = f"{report.fill.execution_id} of {report.client_order_id}"
            yield f"execution {name} was received at {at:.0f} s, and not booked within {BOOKED_S:.0f} s"


def _late(history: RehearsalHistory) -> Iterator[str]:
    # No signal is entered long after its minute has ended, unless a person confirmed it.
    if history.people.manner.timeout_s is not None:
        return
    intents, added = history.intents(), history.top_ups
    for at, event in history.written:
        if event.kind != records.INTENDED or event.cid not in intents or event.cid in added:
            continue
        signal, leg, _ = intents[event.cid]
        behind = at - (LEAD_S + _MINUTE_S * (signal.minute + 1))
        if leg is Leg.ENTRY and behind > TTL_S + _DECIDED_S:
            yield f"{event.cid} was entered {behind:.0f} s after the minute of its signal"


DEADLINE_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (
    _ttl,
    _killed,
    _latched,
    _losing,
    _lost,
    _lost_listed,
    _resent,
    _delivered,
    _late,
)
