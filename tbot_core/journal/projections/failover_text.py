"""What happens between several brokers, in words: ways that break, entries that go elsewhere, and why they do not."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, assert_never

from tbot_core.journal import records
from tbot_core.journal.projections.leases import FailoverBlocker, FailoverPhase
from tbot_core.model.formatting import format_money

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
"""The events that `words` tells of."""


def failover_event_text(kind: str, payload: Mapping[str, Any]) -> str:
    """An event in a sentence without its full stop."""
    match kind:
        case records.CIRCUIT:
            return f"The way to {payload['of']} is {_WAYS[payload['state']]}"
        case records.LEASE:
            return f"{payload['symbol']} is entered at {payload['to']} from now on, no longer at {payload['from']}"
        case records.FAILOVER_CONFIRMED | records.RELEASED:
            return f"{payload['actor']} says that {_by_a_person(kind, payload)}"
        case records.STANDBY_ABSENT:
            return f"{payload['of']} cannot be logged in to and takes over from nobody today: {payload['words']}"
        case records.DRILL:
            return f"A drill of {', '.join(payload['brokers'])} was {'' if payload['passed'] else 'not '}passed"
        case _:
            return _stands(payload)


_WAYS: Final = {
    "open": "broken: three requests in a row failed",
    "half-open": "answering again, and not proven yet",
    "closed": "proven again",
}


def _by_a_person(kind: str, payload: Mapping[str, Any]) -> str:
    if kind == records.RELEASED:
        return f"nothing is held at {payload['of']}, account {payload['account']}"
    amount, reserved = (format_money(Decimal(payload[name])) for name in ("amount", "reserved"))
    return f"{amount} may be open at {payload['of']}, where {reserved} are reserved; entries may go elsewhere"


def _stands(payload: Mapping[str, Any]) -> str:
    of, to, why = payload["of"], payload["to"], payload["why"]
    reason = FailoverBlocker[why].value if why else ""
    phase = FailoverPhase(payload["phase"])
    match phase:
        case FailoverPhase.ENTRIES:
            guard = f"; nothing more moves, since {reason}" if why else ""
            return f"{of} does not answer: entries go to {to}, and what {of} holds is left to it{guard}"
        case FailoverPhase.REDUCE_ONLY:
            return f"{of} does not answer, and {to} only reduces: {reason}"
        case FailoverPhase.DOWN:
            return f"{of} does not answer, and {reason}: nothing is entered"
        case FailoverPhase.OVER:
            return f"{of} is proven again: entries go there once more, but for what has moved, which stays where it is"
        case _:
            assert_never(phase)
