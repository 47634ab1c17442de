"""Judges the day of a scenario by what its venue has seen and what the journal has; it knows nothing of the engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.rehearsal.protection import measure_protection
from tbot_core.testing.venue import Held, ProtectionFact, SeenOrder, SeenRequest, VenueScenario

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO: Final = Decimal(0)
_CLOSING: Final = frozenset({"stop", "exit"})
_INFERRED: Final = "supposed-"
_LIST_LAG_S: Final = 5.0
"""How far the lists of a broker may be behind each other that declares nothing else."""
_FOLLOWS_S: Final = 15.0
"""So soon after a stop was cancelled an exit or another stop follows."""


@attrs.frozen(kw_only=True)
class ObservedDay:
    """What is left of a day: the venue's facts, requests, orders, holdings and cash, the journal, critical alerts.

    `faults_met`: what the scenario planned has happened. `ended` is what ended the run before the close, or "".
    Times are seconds of the venue's clock.
    """

    scenario: VenueScenario
    closes_at: float
    facts: Sequence[ProtectionFact]
    requests: Sequence[SeenRequest]
    orders: Sequence[SeenOrder]
    holdings: Mapping[str, Decimal]
    cash: Decimal
    events: Sequence[Event]
    alerts: Sequence[str]
    faults_met: bool = True
    ended: str = ""


@attrs.frozen(kw_only=True)
class ScenarioReport:
    """The figures of a scenario's day and how it broke the contract; seconds are the largest of its positions.

    `opposite` counts turns to the other side, `phantoms` what the journal has and the venue never made, `lost` the
    reverse, `cancels` stops that the bot cancelled without an exit, `second_ids` orders for a purpose that another
    order had then. What is `held` overnight is `stuck` where the journal says so, and `paged` where an alert says so.
    Without `faults_met` the day proves nothing.
    """

    name: str
    longest_bare_s: float = 0.0
    uncounted_s: float = 0.0
    emulated_s: float = 0.0
    opposite: int = 0
    phantoms: int = 0
    lost: int = 0
    cancels: int = 0
    second_ids: int = 0
    held: bool = False
    stuck: bool = False
    paged: bool = False
    cash_equal: bool = True
    faults_met: bool = True
    took_s: float = 0.0
    violations: tuple[str, ...] = ()


def judge(day: ObservedDay) -> ScenarioReport:
    """The report of a day."""
    positions = measure_protection(day.facts, day.closes_at, _LIST_LAG_S)
    phantoms, lost = _differing_fills(day)
    stuck = any(event.kind == records.STUCK for event in day.events)
    closed = [event.payload for event in day.events if event.kind == records.SESSION_CLOSED]
    report = ScenarioReport(
        name=day.scenario.name,
        longest_bare_s=max((position.longest_bare_s for position in positions), default=0.0),
        uncounted_s=max((position.uncounted_s for position in positions), default=0.0),
        emulated_s=max((position.emulated_s for position in positions), default=0.0),
        opposite=sum(_is_opposite(fact, short=day.scenario.short) for fact in day.facts),
        phantoms=phantoms,
        lost=lost,
        cancels=sum(_is_bare_cancel(order, day) for order in day.orders),
        second_ids=_second_ids(day),
        held=any(day.holdings.values()),
        stuck=stuck,
        paged=any("stuck" in words.lower() for words in day.alerts),
        faults_met=day.faults_met,
        cash_equal=bool(closed) and abs(Decimal(closed[-1]["cash"]) - day.cash) < Decimal("0.01"),
    )
    protection = (words for position in positions for words in position.violations)
    return attrs.evolve(report, violations=(*_violations(day, report, closed=bool(closed)), *protection))


def _violations(day: ObservedDay, report: ScenarioReport, *, closed: bool) -> Iterator[str]:
    # How the figures break the contract.
    opened = any(isinstance(fact, Held) and fact.quantity for fact in day.facts)
    checks = (
        (bool(day.ended), f"the run ended: {day.ended}"),
        (not closed, "the session was not closed"),
        (day.scenario.trades and not opened, "nothing was opened"),
        (report.opposite > 0, "a position turned to the other side"),
        (report.phantoms > 0, "the journal has trades that the venue never made"),
        (report.lost > 0, "the venue has fills that the journal lacks"),
        (report.cancels > 0, "a stop was cancelled without an exit"),
        (report.second_ids > 0, "two orders had one purpose at the same time"),
        (report.held and not report.stuck, "held overnight, and not STUCK"),
        (report.held and not report.paged, "held overnight, and no critical alert"),
        (closed and not report.cash_equal, "cash differs"),
    )
    return (words for broken, words in checks if broken)


def _is_opposite(fact: ProtectionFact, *, short: bool) -> bool:
    return isinstance(fact, Held) and (fact.quantity > 0 if short else fact.quantity < 0)


def _differing_fills(day: ObservedDay) -> tuple[int, int]:
    # The orders with more filled in the journal than at the venue, and those with less; changes by others are phantoms.
    #
    # A fill that the bot inferred from a cumulative quantity is no other than those that are reported afterwards.
    sums: defaultdict[str, list[Decimal]] = defaultdict(lambda: [_NO, _NO])
    for event in day.events:
        if event.kind == BrokerEventKind.FILL:
            is_inferred = event.payload.get("execution_id", "").startswith(_INFERRED)
            sums[event.cid or ""][is_inferred] += Decimal(event.payload["quantity"])
    booked = {cid: max(quantities) for cid, quantities in sums.items()}
    made = {order.client_order_id: order.filled for order in day.orders}
    adjusted = sum(event.kind == records.ADJUSTMENT for event in day.events)
    phantoms = sum(quantity > made.get(cid, _NO) for cid, quantity in booked.items())
    lost = sum(order.own and order.filled > booked.get(order.client_order_id, _NO) for order in day.orders)
    return phantoms + (0 if day.scenario.foreign else adjusted), lost


def _is_bare_cancel(order: SeenOrder, day: ObservedDay) -> bool:
    # Whether the bot cancelled a stop of a position, and neither an exit nor another stop was sent.
    if not (order.own and order.act == "stop" and order.cancelled and order.cancelled_by_client):
        return False
    ended_at = day.closes_at if order.ended_at is None else order.ended_at
    until = min(ended_at + _FOLLOWS_S, day.closes_at)
    holdings = [
        fact for fact in day.facts if isinstance(fact, Held) and fact.symbol == order.symbol and fact.at <= until
    ]
    if not holdings or not holdings[-1].quantity:
        return False
    followed = (request for request in day.requests if request.symbol == order.symbol and request.act in _CLOSING)
    return not any(ended_at <= request.at <= until for request in followed)


def _second_ids(day: ObservedDay) -> int:
    # Orders of the bot that close what another working one closes, or that were sent while another one was unknown.
    own = [order for order in day.orders if order.own and order.act in _CLOSING]
    together = sum(
        other.symbol == one.symbol
        and other.client_order_id != one.replaces
        and other.arrived_at < one.arrived_at
        and (other.ended_at is None or one.arrived_at < other.ended_at)
        for one in own
        for other in own
    )
    return together + sum(_is_unsettled(day, *pair) for pair in _pairs(day))


def _pairs(day: ObservedDay) -> Iterator[tuple[SeenRequest, SeenRequest]]:
    # The first request for each closing order, and the last one before it for another order of the symbol.
    sent = [request for request in day.requests if request.act in _CLOSING and request.client_order_id]
    seen: set[str] = set()
    for number, one in enumerate(sent):
        others = [
            request
            for request in sent[:number]
            if request.symbol == one.symbol and request.client_order_id != one.client_order_id
        ]
        if one.client_order_id not in seen and others:
            yield others[-1], one
        seen.add(one.client_order_id)


def _is_unsettled(day: ObservedDay, before: SeenRequest, after: SeenRequest) -> bool:
    # Whether the outcome of a request was unknown, and not to be known by its end, when the next one was sent.
    ended = any(
        order.client_order_id == before.client_order_id and order.ended_at is not None and order.ended_at <= after.at
        for order in day.orders
    )
    return before.failed and not ended and after.at > before.at
