"""Text of failover events: outages, moved entries, and reasons against moving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from tbot_core.journal import records
from tbot_core.journal.events.failover import (
    CircuitChanged,
    FailoverChanged,
    FailoverConfirmed,
    FailoverDrilled,
    LeaseMoved,
    StandbyAbsent,
)
from tbot_core.journal.events.risk import PositionsReleased
from tbot_core.journal.projections.leases import FailoverBlocker
from tbot_core.model.formatting import format_money
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from tbot_core.journal.projection import JournalEvent

KINDS: Final = frozenset(
    {
        records.CIRCUIT,
        records.FAILOVER,
        records.LEASE,
        records.FAILOVER_CONFIRMED,
        records.RELEASED,
        records.STANDBY_ABSENT,
        records.DRILL,
    }
)
"""The events that `failover_event_text` describes."""


def failover_event_text(event: JournalEvent) -> str:
    """An event as a sentence without a full stop."""
    match event.kind:
        case records.CIRCUIT:
            circuit = event.facts(CircuitChanged)
            return f"The circuit breaker of {circuit.of} is {_CIRCUITS[circuit.state]}"
        case records.LEASE:
            lease = event.facts(LeaseMoved)
            return f"Entries in {lease.symbol} go to {lease.to} from now on, no longer to {lease.origin}"
        case records.FAILOVER_CONFIRMED | records.RELEASED:
            return _confirmed_text(event)
        case records.STANDBY_ABSENT:
            absent = event.facts(StandbyAbsent)
            return f"Login to {absent.of} failed, so it cannot take over today: {absent.words}"
        case records.DRILL:
            drill = event.facts(FailoverDrilled)
            return f"A drill of {', '.join(drill.brokers)} was {'' if drill.passed else 'not '}passed"
    return _phase_text(event.facts(FailoverChanged))


_CIRCUITS: Final = {
    "open": "open: three requests in a row failed",
    "half-open": "half-open: the broker responds again, and is not proven yet",
    "closed": "closed: the broker is proven to respond",
}


def _confirmed_text(event: JournalEvent) -> str:
    if event.kind == records.RELEASED:
        released = event.facts(PositionsReleased)
        return f"{released.actor} confirms that no position is open at {released.of}, account {released.account}"
    confirmed = event.facts(FailoverConfirmed)
    amount, reserved = format_money(confirmed.amount), format_money(confirmed.reserved)
    what = f"at most {amount} are open at {confirmed.of}, where {reserved} are reserved"
    return f"{confirmed.actor} confirms that {what}; entries may go to another broker"


def _phase_text(change: FailoverChanged) -> str:
    of, to, why = change.of, change.to, change.why
    reason = FailoverBlocker[why].value if why else ""
    match change.phase:
        case FailoverPhase.ENTRIES:
            guard = f"; no further leases move, because {reason}" if why else ""
            return f"{of} does not respond: entries go to {to}, and {of} keeps its positions{guard}"
        case FailoverPhase.REDUCE_ONLY:
            return f"{of} does not respond, and {to} only reduces: {reason}"
        case FailoverPhase.DOWN:
            return f"{of} does not respond, and {reason}: entries are blocked"
        case FailoverPhase.OVER:
            return f"{of} is proven to respond: entries go there again, except for instruments that have moved"
        case _:
            assert_never(change.phase)
