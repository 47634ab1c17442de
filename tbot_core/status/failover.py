"""The state of failover: each broker's circuit, positions and orders, leases that have moved, and the last drill."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.journal.store import Event


@attrs.frozen(kw_only=True)
class BrokerStatus:
    """One broker: its circuit breaker, its positions and working orders, and the confirmed exposure."""

    name: str
    circuit: str
    held: tuple[str, ...]
    orders: int
    reserved: Decimal
    confirmed: str = ""

    @property
    def line(self) -> str:
        """The broker as one line of text."""
        from tbot_core.model.formatting import format_money, plural

        held = ", ".join(self.held) or "nothing"
        said = f", confirmed {format_money(Decimal(self.confirmed))}" if self.confirmed else ""
        worst = f"worst case {format_money(self.reserved)}{said}"
        return f"{self.name:<10} {self.circuit:<10} holds {held}, {plural(self.orders, 'open order')}, {worst}"


@attrs.frozen(kw_only=True)
class FailoverStatus:
    """The failover status: `phase` and `why` of the session, each broker, and the moved leases."""

    places: tuple[BrokerStatus, ...]
    leases: dict[str, str]
    phase: str
    why: str
    drill: str
    objection: str

    @property
    def broken(self) -> bool:
        """Whether some broker is not proven to respond."""
        return any(place.circuit != "closed" for place in self.places)

    @property
    def command(self) -> str:
        """The one command to run next."""
        from tbot_core.journal.projections.leases import FailoverPhase

        if self.objection:
            return "tbot failover drill"
        return "tbot failover confirm --amount USD" if self.phase == FailoverPhase.REDUCE_ONLY.value else "tbot status"

    def document(self) -> dict[str, Any]:
        """The status as a JSON document; money as strings."""
        return attrs.asdict(self) | {"broken": self.broken, "next": self.command}

    def lines(self) -> Iterator[str]:
        """The status as text."""
        if len(self.places) == 1:
            yield "Failover is off: FAILOVER_ENABLED and FAILOVER_BROKERS switch it on."
        yield from (place.line for place in self.places)
        yield from (f"entries in {symbol} go to {owner}" for symbol, owner in self.leases.items())
        if self.broken:
            yield f"The primary broker does not respond: {self.phase}{(f' ({self.why})' if self.why else '')}."
        yield f"Drill: {self.objection or self.drill or 'none yet'}."
        yield f"Next: {self.command}"


def failover_status(home: Path | None, now: datetime) -> FailoverStatus:
    """The failover status, from the settings and the journal."""
    from tbot_core.instance import load_settings
    from tbot_core.journal import records
    from tbot_core.journal.projections import failover_drills
    from tbot_core.journal.projections.leases import FailoverBlocker, FailoverPhase, Leases
    from tbot_core.status.runs import find_instance

    find_instance(home)
    settings = load_settings(home, mode="replay")
    names = instance_brokers(settings)
    events = events_of(settings)
    last = failover_drills.latest_drill(events, names)
    since = _session(events)
    leases, told = Leases(primary=names[0]), {"phase": FailoverPhase.OVER.value, "why": ""}
    for event in since:
        leases.apply(event)
        told = dict(event.payload) if event.kind == records.FAILOVER else told
    return FailoverStatus(
        places=tuple(_place(name, "" if name == names[0] else name, since) for name in names),
        leases={symbol: lease.broker for symbol, lease in leases.moved.items()},
        phase=told["phase"],
        why=FailoverBlocker[told["why"]].value if told["why"] else "",
        drill="" if last is None else f"passed on {last.time:%Y-%m-%d}",
        objection=failover_drills.drill_objection(last, now) if names[1:] else "",
    )


def instance_brokers(settings: Settings) -> tuple[str, ...]:
    """The brokers of an instance, the primary first."""
    from tbot_core.engine.live.run import failover_brokers

    return settings.trading.broker_name, *failover_brokers(settings)


def _place(name: str, key: str, since: Sequence[Event]) -> BrokerStatus:
    from tbot_core.journal import records
    from tbot_core.journal.projections.book import broker_events, fold_events
    from tbot_core.journal.projections.external_holdings import ExternalHoldings
    from tbot_core.model.types import Leg, dollars_of

    circuit, confirmed = "closed", ""
    for event in since:
        if event.payload.get("of") == name:
            circuit = event.payload["state"] if event.kind == records.CIRCUIT else circuit
            confirmed = event.payload["amount"] if event.kind == records.FAILOVER_CONFIRMED else confirmed
    book, foreign = fold_events(broker_events(since, key)), ExternalHoldings()
    for event in (one for one in since if one.payload.get("broker", "") == key):
        foreign.apply(event)
    working = [one for one in book.orders.values() if not one.terminal]
    entering = sum(
        (one.open_quantity * (one.order.limit_price or Decimal(0)) for one in working if one.order.leg is Leg.ENTRY),
        Decimal(0),
    )
    return BrokerStatus(
        name=name,
        circuit=circuit,
        held=tuple(sorted(book.portfolio.positions)),
        orders=len(working),
        reserved=dollars_of(book.portfolio.cost_atoms) + entering + foreign.value_usd,
        confirmed=confirmed if circuit != "closed" else "",
    )


def events_of(settings: Settings) -> list[Event]:
    """The events of an instance's journal."""
    from tbot_core.journal import tail_mark
    from tbot_core.status.runs import PAPER, RunFile, open_run_file

    if not tail_mark.journal_exists(settings.instance.journal):
        return []
    with open_run_file(RunFile(name=PAPER, path=settings.instance.journal, changed=0.0)) as journal:
        return list(journal.events())


def _session(events: Sequence[Event]) -> list[Event]:
    # The events of the session at hand, or of the last one.
    from tbot_core.journal import records

    opened = [place for place, event in enumerate(events) if event.kind == records.SESSION_OPENED]
    return list(events[opened[-1] :] if opened else events)
