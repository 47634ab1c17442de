"""The state of failover: each broker's circuit, positions and orders, leases that have moved, and the last drill."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.journal import integrity, records
from tbot_core.journal.events.failover import CircuitChanged, FailoverChanged, FailoverConfirmed
from tbot_core.journal.projection import project
from tbot_core.journal.projections.book import SessionBook, broker_events
from tbot_core.journal.projections.carryover import ExternalHoldings
from tbot_core.journal.projections.failover import FailoverBlocker, Leases, drill_objection, latest_drill
from tbot_core.model.formatting import money_text
from tbot_core.model.types import Leg, dollars_of
from tbot_core.status.runs import PAPER, RunFile, open_run_file
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tbot_core.instance import Settings
    from tbot_core.journal.store import Event
    from tbot_core.status import Document


def failover_document(settings: Settings, events: Sequence[Event], now: datetime) -> Document:
    """The failover of the current or last session in these events, the primary broker first.

    `objection`: why entries may not go to another broker, or "". `broken`: a broker is not proven to respond.
    `next` is the command to run next.
    """
    names = settings.brokers
    last = latest_drill(events, names)
    since = _session(events)
    leases, phase, why = Leases(primary=names[0]), FailoverPhase.OVER, ""
    for event in since:
        leases.apply(event)
        if event.kind == records.FAILOVER:
            change = event.facts(FailoverChanged)
            phase, why = change.phase, change.why
    brokers = [_broker(name, "" if name == names[0] else name, since) for name in names]
    objection = drill_objection(last, now) if names[1:] else ""
    return {
        "places": brokers,
        "leases": {symbol: lease.broker for symbol, lease in leases.moved.items()},
        "phase": phase.value,
        "why": FailoverBlocker[why].value if why else "",
        "drill": "" if last is None else f"passed on {last.time:%Y-%m-%d}",
        "objection": objection,
        "broken": any(broker["circuit"] != "closed" for broker in brokers),
        "next": _command(phase, objection),
    }


def events_of(settings: Settings) -> list[Event]:
    """The events of an instance's journal; none before its first run."""
    if not integrity.journal_exists(settings.instance.journal):
        return []
    with open_run_file(RunFile(name=PAPER, path=settings.instance.journal, changed=0.0)) as journal:
        return list(journal.events())


def _command(phase: FailoverPhase, objection: str) -> str:
    if objection:
        return "tbot failover drill"
    return "tbot failover confirm --amount USD" if phase is FailoverPhase.REDUCE_ONLY else "tbot status"


def _broker(name: str, tag: str, since: Sequence[Event]) -> Document:
    # One broker: its circuit breaker, positions, working orders, and the exposure that a person has confirmed.
    circuit, confirmed = "closed", ""
    for event in since:
        match event.kind:
            case records.CIRCUIT if (change := event.facts(CircuitChanged)).of == name:
                circuit = change.state
            case records.FAILOVER_CONFIRMED if (confirmation := event.facts(FailoverConfirmed)).of == name:
                confirmed = str(confirmation.amount)
    book, external = SessionBook(), ExternalHoldings()
    project(broker_events(since, tag), book)
    project((event for event in since if event.broker == tag), external)
    working = [order for order in book.orders.values() if not order.terminal]
    entering = sum(
        (
            record.open_quantity * (record.order.limit_price or Decimal(0))
            for record in working
            if record.order.leg is Leg.ENTRY
        ),
        Decimal(0),
    )
    return {
        "name": name,
        "circuit": circuit,
        "held": sorted(book.portfolio.positions),
        "orders": len(working),
        "reserved": money_text(dollars_of(book.portfolio.cost_atoms) + entering + external.value_usd),
        "confirmed": confirmed if circuit != "closed" else "",
    }


def _session(events: Sequence[Event]) -> list[Event]:
    # The events of the current session, or of the last one.
    opened = [index for index, event in enumerate(events) if event.kind == records.SESSION_OPENED]
    return list(events[opened[-1] :] if opened else events)
