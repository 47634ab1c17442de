"""Mutants of what people, clocks and venues say; each function says what to plant, and where."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.engine.control import ControlRequest, ControlVerb
from tbot_core.engine.live.data_guard import ClockGuard
from tbot_core.engine.session.arming import ArmingGuard
from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.errors import BrokerError
from tbot_core.execution import broker_port, reconciler
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.journal.events.risk import Disarmed
from tbot_core.model.types import Account, Leg
from tbot_core.plugins.network import request_limits
from tbot_core.plugins.network.request_limits import RequestBudget, RequestPriority
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading.risk.exposure import ExposureBook
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.trading.account_book import ManagedPosition
    from tbot_core.trading.commands import Decision
    from tbot_core.trading.proposals import Proposal

_HALF: Final = 0.5


def confirmation_skipped() -> Swaps:
    """What a person should be asked about is entered at once."""

    def hold(_self: Any, proposals: Sequence[Proposal]) -> tuple[list[Decision], list[Proposal]]:
        return [], list(proposals)

    return ((ConfirmationQueue, "hold_for_confirmation", hold),)


def confirmation_expiry_ignored() -> Swaps:
    """What nobody confirmed in time waits on, and may be confirmed later."""
    decided = current_attribute(ConfirmationQueue, "_decided")
    obey = current_attribute(ConfirmationQueue, "record_answer")

    def waits(self: Any, one: Any, now: Any, renew: Callable[[Proposal], Proposal | None]) -> list[Decision]:
        return list(decided(self, attrs.evolve(one, expires=now + timedelta(days=1)), now, renew))

    def obeys(self: Any, request: ControlRequest, _read: datetime | None = None) -> str:
        return str(obey(self, request, datetime.min.replace(tzinfo=UTC)))

    return (ConfirmationQueue, "_decided", waits), (ConfirmationQueue, "record_answer", obeys)


def rejection_read_as_confirmation() -> Swaps:
    """Whatever a person answers is taken for yes."""
    obey = current_attribute(ConfirmationQueue, "record_answer")
    return (
        (
            ConfirmationQueue,
            "record_answer",
            lambda self, request, *read: obey(self, attrs.evolve(request, verb=ControlVerb.CONFIRM), *read),
        ),
    )


def confirmed_quantity_ignored() -> Swaps:
    """More is entered than a person was asked about, once more is possible."""
    decided = current_attribute(ConfirmationQueue, "_decided")

    def without_most(self: Any, one: Any, now: Any, renew: Callable[[Proposal], Proposal | None]) -> list[Decision]:
        return list(decided(self, attrs.evolve(one, quantity=Decimal(10**6)), now, renew))

    return ((ConfirmationQueue, "_decided", without_most),)


def arming_not_asked_for() -> Swaps:
    """A live session enters though nobody has armed it."""

    def impose(self: Any) -> None:
        self._exposure.armed = True
        self._trading_state.clear_cause(StateCause.NOT_ARMED)

    return ((ArmingGuard, "_impose", impose),)


def arming_survives_every_restart() -> Swaps:
    """What was armed goes on after a restart, however the account is found."""
    opened = current_attribute(ArmingGuard, "restore")

    def whatever(self: Any, *, restarted: bool) -> None:  # noqa: ARG001  that is the mutant
        opened(self, restarted=False)

    return ((ArmingGuard, "restore", whatever),)


def disarming_forgotten() -> Swaps:
    """A request to disarm is written down, and the session goes on as armed."""

    def disarm(self: Any, request: ControlRequest) -> str:
        self._recorder.record(Disarmed(why=f"asked by {request.actor}"))
        return ""

    return ((ArmingGuard, "disarm", disarm),)


def surplus_ignored() -> Swaps:
    """A fill that no position accounts for is booked, and not reported."""
    return ((ExposureBook, "record_surplus", lambda _self, _symbol, _quantity: None),)


def clock_jump_ignored() -> Swaps:
    """Nobody looks whether the machine's clock was set."""

    def look(self: Any) -> None:
        self._clock.check()

    return ((ClockGuard, "run_once", look),)


def statement_not_compared() -> Swaps:
    """The day ends without holding the account's cash against the ledger's."""

    async def close(self: Any) -> None:
        self._stated = True
        await self.read()

    return ((reconciler.Reconciler, "close", close),)


def absent_order_not_asked_for() -> Swaps:
    """An order that works and is listed no more is left to the stream."""
    settle = current_attribute(reconciler.Reconciler, "_apply_findings")

    def leave(self: Any, findings: Any, listed: frozenset[str]) -> bool:
        clean: bool = settle(self, attrs.evolve(findings, not_found=()), listed)
        return clean

    return ((reconciler.Reconciler, "_apply_findings", leave),)


def foreign_orders_cancelled() -> Swaps:
    """Orders of others at the account are taken away."""
    read = current_attribute(reconciler.Reconciler, "read")

    async def tidy(self: Any) -> Any:
        verdict = await read(self)
        for name in sorted({mark[0] for mark in self._orphans.external}):
            with suppress(BrokerError):
                await self._broker.cancel(name)
        self._orphans.external.clear()
        return verdict

    return ((reconciler.Reconciler, "read", tidy),)


def cancels_wait_with_the_readings() -> Swaps:
    """No part of what may be asked of the venue is kept for what protects and takes back."""
    return ((request_limits, "_RESERVED_SHARE", dict.fromkeys(RequestPriority, _HALF)),)


def limit_of_requests_ignored() -> Swaps:
    """The venue is asked as often as the bot likes."""
    return ((RequestBudget, "reserve", lambda *_arguments: 0.0),)


def account_in_another_currency_believed() -> Swaps:
    """Money is counted whatever it is money of."""

    def as_it_is(account: Account) -> Account:
        return account

    return ((broker_port, "_checked_account", as_it_is),)


def unknown_exit_sent_again() -> Swaps:
    """An exit without an answer is sent again, as if it had not been sent."""
    doubt = current_attribute(ExecutionEngine, "mark_unknown")

    def anew(self: Any, words: str, *cids: str) -> None:
        doubt(self, words, *cids)
        for cid in cids:
            order = self.tickets[cid].order
            held: ManagedPosition | None = vars(self._decision_engine.position_manager)["_held"].get(order.signal)
            if order.leg is Leg.EXIT and held is not None and held.exit is self.tickets[cid]:
                held.exit.works = False

    return ((ExecutionEngine, "mark_unknown", anew),)
