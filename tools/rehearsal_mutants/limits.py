"""Mutants of limits and of what must be done in time; each function says what to plant, and where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.model.types import OrderState
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading.orders import WORKING
from tbot_core.trading.risk.limits import LimitFractions, Limits

if TYPE_CHECKING:
    from tbot_core.trading.account_book import Ticket

_WIDE: Final = 10**30
_IN_DOUBT: Final = frozenset({OrderState.PARTIALLY_FILLED, OrderState.UNKNOWN})


def old_entries_in_doubt_kept() -> Swaps:
    """An entry that is partly filled or in doubt is not cancelled after ENTRY_TTL."""
    age = current_attribute(ExecutionEngine, "age")

    def young(self: Any, ticket: Ticket) -> float:
        seconds: float = age(self, ticket)
        return 0.0 if ticket.state in _IN_DOUBT else seconds

    return ((ExecutionEngine, "age", young),)


def unacknowledged_entries_kept() -> Swaps:
    """An entry that is not acknowledged is not cancelled after ENTRY_TTL."""
    may_cancel = current_attribute(BrokerSupervisor, "_may_cancel")

    def acknowledged(self: Any, cid: str, **repeated: bool) -> bool:
        works = self.broker_session.execution.tickets[cid].state in WORKING
        return works and bool(may_cancel(self, cid, **repeated))

    return ((BrokerSupervisor, "_may_cancel", acknowledged),)


def old_entries_kept() -> Swaps:
    """No entry is cancelled after ENTRY_TTL."""
    return _entry_ttl(math.inf)


def entry_ttl_doubled() -> Swaps:
    """An entry is cancelled after twice its ENTRY_TTL."""
    return _entry_ttl(2)


def daily_loss_never_latched() -> Swaps:
    """No loss of the day sets its latch."""
    return _limits(daily_loss=_WIDE)


def window_loss_never_latched() -> Swaps:
    """No loss of a window sets its latch."""
    return _limits(window_loss=_WIDE)


def losses_in_a_row_not_counted() -> Swaps:
    """Losing trades in a row set no latch."""
    return _limits(max_consecutive_losses=0)


def exposure_in_a_symbol_ignored() -> Swaps:
    """MAX_SYMBOL_EXPOSURE and MAX_RISK_PER_TRADE limit no entry."""
    return _limits(per_symbol=_WIDE, per_trade=_WIDE)


def exposure_in_an_index_ignored() -> Swaps:
    """MAX_INDEX_EXPOSURE limits no entry."""
    return _limits(per_index=_WIDE)


def leverage_ignored() -> Swaps:
    """MAX_LEVERAGE limits no entry."""
    return _limits(leverage=_WIDE)


def entries_left_after_a_kill() -> Swaps:
    """A kill or a stop lets working entries work, until they are old."""
    return ((BrokerSupervisor, "should_cancel_entries", lambda _self: False),)


def _entry_ttl(factor: float) -> Swaps:
    # Look-ups ask for the age of an order too, so it stays as it is.
    init = current_attribute(BrokerSupervisor, "__init__")

    def other(self: Any, broker_session: Any, past_state: Any, ttl_s: float, splits: Any = None) -> None:
        init(self, broker_session, past_state, factor * ttl_s, splits)

    return ((BrokerSupervisor, "__init__", other),)


def _limits(**wide: Any) -> Swaps:
    made = current_attribute(LimitFractions, "limits")

    def limits(self: LimitFractions, equity_atoms: int) -> Limits:
        found: Limits = made(self, equity_atoms)
        return attrs.evolve(found, **wide)

    return ((LimitFractions, "limits", limits),)
