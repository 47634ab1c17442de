"""Mutants of failover: who enters what, and what counts where; each function says what to plant, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.engine.live.failover import BrokerRoute, FailoverRouter
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.journal.projections.failover import FailoverBlocker, Leases, RouteFailure
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading import decision_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import Event


def lease_not_looked_at() -> Swaps:
    """An entry goes to the first broker that answers, whoever owns the instrument."""

    def first(self: Any, _symbol: str) -> tuple[BrokerRoute, FailoverBlocker | None]:
        return next((route for route in self._routes if route.circuit.closed), self._primary), None

    return ((FailoverRouter, "route", first),)


def lease_not_written_down() -> Swaps:
    """A lease that moves is known to the process alone."""
    decide = current_attribute(FailoverRouter, "decide")

    def quiet(self: Any, proposal: Any) -> Any:
        recorder, self._recorder = self._recorder, _Silent()
        decision = decide(self, proposal)
        self._recorder = recorder
        return decision

    return ((FailoverRouter, "decide", quiet),)


class _Silent:
    def record(self, _facts: object) -> None:
        """Write nothing."""


def lease_moved_back_on_return() -> Swaps:
    """A primary that answers again owns everything again."""
    clear = current_attribute(FailoverRouter, "_clear_confirmation")

    def back(self: Any, route: BrokerRoute) -> None:
        clear(self, route)
        self.leases = Leases(primary=self._primary.name)

    return ((FailoverRouter, "_clear_confirmation", back),)


def leases_not_recalled() -> Swaps:
    """A restart begins with every instrument at the primary."""

    def recall(_self: Any, _past: Sequence[JournalEvent]) -> None:
        """Take in nothing."""

    return ((FailoverRouter, "restore", recall),)


def entries_move_though_orders_are_out() -> Swaps:
    """What is open at the broker that broke, or was not read, keeps no entry from going elsewhere."""
    return ((RouteFailure, "objection", None),)


def brokers_counted_apart() -> Swaps:
    """Limits count what stands at one broker alone."""
    return ((decision_engine, "share_exposure", lambda _standing, _other: None),)


def other_brokers_not_recalled() -> Swaps:
    """A restart takes in what happened at the primary alone."""
    take = current_attribute(SessionRecovery, "apply")

    def primary_only(self: Any, event: Event) -> None:
        if not self._broker:
            take(self, event)

    return ((SessionRecovery, "apply", primary_only),)
