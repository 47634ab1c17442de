"""Text of failover events: outages, moved entries, and reasons against moving."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, assert_never

from tbot_core.journal import records
from tbot_core.journal.projections.leases import FailoverBlocker
from tbot_core.model.formatting import format_money
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def failover_event_text(kind: str, payload: Mapping[str, Any]) -> str:
    """An event as a sentence without a full stop."""
    match kind:
        case records.CIRCUIT:
            return f"The circuit breaker of {payload['of']} is {_CIRCUITS[payload['state']]}"
        case records.LEASE:
            return f"Entries in {payload['symbol']} go to {payload['to']} from now on, no longer to {payload['from']}"
        case records.FAILOVER_CONFIRMED | records.RELEASED:
            return f"{payload['actor']} confirms that {_confirmation_text(kind, payload)}"
        case records.STANDBY_ABSENT:
            return f"Login to {payload['of']} failed, so it cannot take over today: {payload['words']}"
        case records.DRILL:
            return f"A drill of {', '.join(payload['brokers'])} was {'' if payload['passed'] else 'not '}passed"
        case _:
            return _phase_text(payload)


_CIRCUITS: Final = {
    "open": "open: three requests in a row failed",
    "half-open": "half-open: the broker responds again, and is not proven yet",
    "closed": "closed: the broker is proven to respond",
}


def _confirmation_text(kind: str, payload: Mapping[str, Any]) -> str:
    if kind == records.RELEASED:
        return f"no position is open at {payload['of']}, account {payload['account']}"
    amount, reserved = (format_money(Decimal(payload[name])) for name in ("amount", "reserved"))
    return (
        f"at most {amount} are open at {payload['of']}, where {reserved} are reserved; entries may go to another broker"
    )


def _phase_text(payload: Mapping[str, Any]) -> str:
    of, to, why = payload["of"], payload["to"], payload["why"]
    reason = FailoverBlocker[why].value if why else ""
    phase = FailoverPhase(payload["phase"])
    match phase:
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
            assert_never(phase)
