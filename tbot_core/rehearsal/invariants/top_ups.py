"""Invariants of top-ups, recomputed from the journal's events."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.store import Event
from tbot_core.model.types import ExitReason, Leg, RiskState, Side, ticks_of, units_of
from tbot_core.rehearsal.invariants.limits import ExposureReckoner
from tbot_core.rehearsal.invariants.risk_states import RiskStates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_ENDED: Final = frozenset(
    {records.DROPPED, BrokerEventKind.REJECTED, BrokerEventKind.CANCELLED, BrokerEventKind.EXPIRED}
)


def i3_top_ups(history: RehearsalHistory) -> Iterator[str]:
    """No top-up raises a position above the cost of its entry, or adds to a losing one."""
    ledger, decisions = ExposureReckoner(history.rules.risk.price_band_pct), dict[str, Event]()
    for event in history.events:
        if event.kind == records.TOP_UP and event.cid is not None:
            decisions[event.cid] = event
        entry = ledger.apply(event)
        if entry is None or event.cid not in decisions:
            continue
        decided = decisions[event.cid].payload
        price, side = ticks_of(decided["price"]), Side[decided["side"].upper()]
        units, part = entry.bought - entry.sold, entry.parts[-1]
        worth = units * price + part.units * max(part.worst if side is Side.LONG else price, price)
        if worth > entry.target:
            yield f"{event.cid} takes {entry.symbol} to {worth} atoms, {entry.target} were entered"
        if side * (price * entry.bought - entry.paid) < 0:
            yield f"{event.cid} adds to {entry.symbol} at {price}, which cost {entry.paid} for {entry.bought}"


def i8_top_ups(history: RehearsalHistory) -> Iterator[str]:
    """No top-up is sent in defense, or while an exit of the position is working."""
    closing: dict[str, set[str]] = defaultdict(set)
    signals: dict[str, str] = {}
    adds, left, states = set[str](), dict[str, int](), RiskStates()
    for event in history.events:
        cid = event.cid or ""
        states.apply(event)
        state = states.state(event.payload.get("broker", ""))
        if event.kind == records.INTENDED:
            signals[cid] = records.signal_of(event.payload["signal"]).text
            left[cid] = units_of(Decimal(event.payload["quantity"]))
            trims = event.payload["reason"] == ExitReason.REBALANCE.value
            if event.payload["leg"] == Leg.EXIT.value and not trims:
                closing[signals[cid]].add(cid)
            elif event.payload["leg"] == Leg.ENTRY.value and trims:
                adds.add(cid)
        elif event.kind == records.SENDING and cid in adds:
            if state >= RiskState.DEFENSE:
                yield f"{cid} adds to a position while {state.word}"
            yield from (f"{cid} was sent while {one} closes its position" for one in sorted(closing[signals[cid]]))
        elif cid in signals:
            left[cid] -= units_of(Decimal(event.payload["quantity"])) if event.kind == BrokerEventKind.FILL else 0
            if event.kind in _ENDED or left[cid] <= 0:
                closing[signals[cid]].discard(cid)
