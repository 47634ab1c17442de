"""Requests to a running session: recorded with their author, then executed."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlFolderState, ControlRequest, ControlVerb
from tbot_core.errors import AccessError
from tbot_core.journal import records
from tbot_core.journal.events.risk import RequestExecuted, RequestRefused, StateChanged
from tbot_core.plugins import number_bounds
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.store import JournalRecorder


CARRIED_OUT: Final = "carried out"
"""The text that is recorded when a stop has been carried out."""

RequestAction: TypeAlias = "Callable[[ControlRequest], str]"
"""Executes a request; returns "", or the reason of a refusal."""

SESSION_VERBS: Final = frozenset(
    {ControlVerb.ARM, ControlVerb.DISARM, ControlVerb.CONFIRM, ControlVerb.REJECT, ControlVerb.FAILOVER_CONFIRM}
)
"""The requests that only a session can execute."""

FUTURE_SESSION_VERBS: Final = frozenset({ControlVerb.ARM, ControlVerb.DISARM})
"""The requests for future sessions: one that is over leaves them to the next."""

_NOTHING_TO_CONFIRM: Final = "Nothing to confirm: this session has no failover."
_NOT_ARMED: Final = "Only live trading can be armed and disarmed."
_UNFIT: Final = {
    ControlVerb.FAILOVER_CONFIRM: _NOTHING_TO_CONFIRM,
    ControlVerb.ARM: _NOT_ARMED,
    ControlVerb.DISARM: _NOT_ARMED,
}
"""Why a session without a handler for a verb refuses it."""

_UNDOES: Final[Mapping[ControlVerb, frozenset[ControlVerb]]] = {
    **control.WITHDRAWALS,
    ControlVerb.ARM: frozenset({ControlVerb.DISARM}),
}
"""What each permitting verb undoes. One that was made before does not: it may be a copy of an old request."""

_REQUEST_KINDS: Final = frozenset({records.REQUEST, records.REQUEST_REFUSED})
_log = log.logger(__name__)


def amount_of(request: ControlRequest) -> Decimal | None:
    """The amount of a request in USD; None if it is not a valid amount."""
    try:
        amount = Decimal(request.arguments.get("amount", ""))
    except InvalidOperation:
        return None
    return amount if number_bounds.is_within(amount, number_bounds.MONEY) and amount >= 0 else None


class RequestHandler:
    """Executes requests. The files kill and stop apply while they exist.

    `past`: events before a restart; a request among them is not executed again. `handlers`: the further verbs that the
    session supports. Verbs in `deferred` stay in the folder for the next session.
    """

    def __init__(
        self,
        recorder: JournalRecorder,
        trading_state: TradingStateController,
        past: Iterable[JournalEvent] = (),
        handlers: Mapping[ControlVerb, RequestAction] | None = None,
        deferred: frozenset[ControlVerb] = frozenset(),
    ) -> None:
        self._recorder = recorder
        self.trading_state = trading_state
        self._handlers = handlers or {}
        self._deferred = deferred
        known = [event for event in past if event.kind in _REQUEST_KINDS]
        self._orders: dict[ControlVerb, int] = {}
        self._note_orders(known)
        self._executed = {event.facts(RequestExecuted).name for event in known if event.kind == records.REQUEST}
        self._refused = {event.facts(RequestRefused).name for event in known if event.kind == records.REQUEST_REFUSED}
        self._close_policy = ClosePolicy()

    def leave_to_next_session(self, verbs: frozenset[ControlVerb]) -> None:
        """Leave these verbs in the folder from now on."""
        self._deferred = verbs

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested and not cancelled."""
        return bool(
            {StateCause.STOP_FILE, StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL} & {*self.trading_state.causes}
        )

    @property
    def keeps_positions(self) -> bool:
        """Whether an active stop keeps positions open; one such stop is enough to end the process."""
        return not self._close_policy.keep_causes.isdisjoint(self.trading_state.causes)

    @property
    def flattening(self) -> bool:
        """Whether all positions are to be closed: any cause requests it, and none keeps positions."""
        return bool(self._close_policy.close_causes) and not self.keeps_positions

    def poll(self, folder: Path) -> None:
        """Execute the requests in the folder; while it cannot be read, entries are blocked."""
        try:
            for request in self.apply(control.read_folder(folder)):
                control.remove_request(folder, request.name)
        except AccessError as fault:
            self.trading_state.raise_cause(StateCause.CONTROL_LOST, fault.message)
        else:
            self.trading_state.clear_cause(StateCause.CONTROL_LOST)

    def apply(self, seen: ControlFolderState) -> Sequence[ControlRequest]:
        """Execute the requests in the folder; returns those that are recorded and may be removed.

        One that a later one there withdraws is recorded with that one's name, and has no effect: a kill that was
        cleared before a start blocks nothing and raises no alert.
        """
        self._set_file_cause(StateCause.KILL_FILE, exists=seen.kill)
        self._set_file_cause(StateCause.STOP_FILE, exists=seen.stop)
        for refused in seen.refused:
            if refused.name not in self._refused:
                self._refuse(refused.name, refused.words)
        requests = [request for request in seen.requests if request.verb not in self._deferred]
        for request in requests:
            if request.name in self._executed or self._is_final_refusal(request):
                continue
            if later := self._made_later(request):
                self._refuse(request.name, f"it was made before the {later.value} that it would undo.")
            else:
                self.execute(request, withdrawn=self._withdrawn(request, requests))
        return requests

    def _withdrawn(self, request: ControlRequest, requests: Sequence[ControlRequest]) -> str:
        # The name of a later request of the folder that withdraws this one and will be executed; "" without one.
        return next(
            (
                later.name
                for later in requests[requests.index(request) + 1 :]
                if request.verb in control.WITHDRAWALS.get(later.verb, frozenset())
                and not (later.name in self._executed or self._is_final_refusal(later) or self._made_later(later))
            ),
            "",
        )

    def _made_later(self, request: ControlRequest) -> ControlVerb | None:
        # A recorded request that this one would undo although it was made later.
        undone = _UNDOES.get(request.verb, frozenset())
        return next((verb for verb in sorted(undone) if request.order < self._orders.get(verb, 0)), None)

    def _note_orders(self, past: Iterable[JournalEvent]) -> None:
        # The order of the last request of each verb.
        for event in past:
            if event.kind == records.REQUEST:
                request = event.facts(RequestExecuted)
                self._note_order(ControlVerb(request.verb), request.order)

    def _note_order(self, verb: ControlVerb, order: int) -> None:
        self._orders[verb] = max(order, self._orders.get(verb, 0))

    def _is_final_refusal(self, request: ControlRequest) -> bool:
        # A refused request stays refused, even if its file changes; only a restricting one, such as a kill, may follow.
        return request.name in self._refused and request.verb not in control.RESTRICTING_VERBS

    def execute(self, request: ControlRequest, *, withdrawn: str = "") -> None:
        """Record a request and its effects in one transaction, so that a crash cannot separate them.

        A repeated request, as in a repeated session, does not record its refusal again. `withdrawn`: the request that
        withdraws it; then it has no effect.
        """
        repeated = request.name in self._executed
        self._executed.add(request.name)
        self._note_order(request.verb, request.order)
        with self._recorder.transaction():
            self._recorder.record(_executed(request, withdrawn))
            refusal = "" if withdrawn else self._execute_verb(request)
            if refusal and not repeated:
                self._refuse(request.name, refusal)

    def restore(self, past: Iterable[JournalEvent], *, flattens: bool) -> None:
        """Restore the stops and closes still in effect from `past`, which includes earlier sessions.

        `flattens`: a stop by a signal closes all positions.
        """
        self._close_policy = ClosePolicy()
        for event in past:
            self._note_orders((event,))
            self._close_policy.restore(event, flattens=flattens)

    def on_signal(self, *, flattens: bool) -> None:
        """Apply a stop by a signal: it closes all positions first, or keeps them."""
        self._close_policy.apply_signal(flattens=flattens)

    def on_stop_done(self, *, kept: bool = False) -> None:
        """End the stops that have been carried out; a stop file stays in effect while it exists.

        `kept`: positions or working orders remain. Then only stops that keep positions end; others continue at the next
        start.
        """
        with self._recorder.transaction():
            for cause in ENDED:
                if not kept or cause in self._close_policy.keep_causes:
                    self.end_stop(cause)

    def end_stop(self, cause: StateCause) -> None:
        """End the stop of one cause."""
        self.trading_state.clear_cause(cause, CARRIED_OUT)
        self._close_policy.withdraw(cause)

    def _refuse(self, name: str, words: str) -> None:
        self._refused.add(name)
        self._recorder.record(RequestRefused(name=name, words=words))
        _log.error("request.refused", name=name, words=words)

    def _set_file_cause(self, cause: StateCause, *, exists: bool) -> None:
        if exists:
            self.trading_state.raise_cause(cause)
        else:
            self.trading_state.clear_cause(cause)

    def _execute_verb(self, request: ControlRequest) -> str:
        # Execute a verb; returns "", or the reason of a refusal.
        words, refusal = f"requested by {request.actor}", ""
        raise_cause, withdraw = self.trading_state.raise_cause, self.trading_state.clear_cause
        match request.verb:
            case ControlVerb.KILL | ControlVerb.KILL_FLATTEN:
                raise_cause(StateCause.KILL_COMMAND, words)
            case ControlVerb.KILL_CLEAR:
                withdraw(StateCause.KILL_COMMAND, words)
                withdraw(StateCause.KILL_SIGNAL, words)
            case ControlVerb.STOP | ControlVerb.STOP_FLATTEN | ControlVerb.STOP_KEEP:
                raise_cause(StateCause.STOP_COMMAND, words)
            case ControlVerb.STOP_CANCEL:
                withdraw(StateCause.STOP_COMMAND, words)
                withdraw(StateCause.STOP_SIGNAL, words)
            case ControlVerb.DEFENSE_ON:
                raise_cause(StateCause.DEFENSE_COMMAND, words)
            case ControlVerb.DEFENSE_OFF:
                withdraw(StateCause.DEFENSE_COMMAND, words)
            case verb if verb in self._handlers:
                refusal = self._handlers[verb](request)
            case verb:
                refusal = _UNFIT.get(verb, f"This session does not support {verb.value}.")
        self._close_policy.apply_command(request.verb)
        return refusal


def _executed(request: ControlRequest, withdrawn: str) -> RequestExecuted:
    # A request with its author, time and order, and the flaw of its file if it has one.
    return RequestExecuted(
        name=request.name,
        verb=request.verb.value,
        actor=request.actor,
        made=request.made,
        arguments=dict(request.arguments),
        order=request.order,
        flaw=request.flaw,
        withdrawn=withdrawn,
    )


def request_of(executed: RequestExecuted) -> ControlRequest:
    """The request that was executed."""
    return ControlRequest(
        name=executed.name,
        verb=ControlVerb(executed.verb),
        actor=executed.actor,
        made=executed.made,
        order=executed.order,
        arguments=executed.arguments,
        flaw=executed.flaw,
    )


ENDED: Final = (StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL)
"""The stops that end when carried out; a stop file stays in effect while it exists."""


@attrs.define(kw_only=True)
class ClosePolicy:
    """The causes that close all positions, and those that keep them."""

    close_causes: set[StateCause] = attrs.field(factory=set)
    keep_causes: set[StateCause] = attrs.field(factory=set)

    def apply_command(self, verb: ControlVerb) -> None:
        """Apply a command: the last `tbot stop` counts; `kill --flatten` closes until the kill is cleared."""
        match verb:
            case ControlVerb.KILL_FLATTEN:
                self.close_causes.add(StateCause.KILL_COMMAND)
            case ControlVerb.KILL_CLEAR:
                self.withdraw(StateCause.KILL_COMMAND)
            case ControlVerb.STOP:
                self.withdraw(StateCause.STOP_COMMAND)
            case ControlVerb.STOP_FLATTEN | ControlVerb.STOP_KEEP:
                self._stop(StateCause.STOP_COMMAND, flattens=verb is ControlVerb.STOP_FLATTEN)
            case ControlVerb.STOP_CANCEL:
                self.withdraw(*ENDED)
            case _:
                pass

    def apply_signal(self, *, flattens: bool) -> None:
        """Apply a stop by a signal: it closes all positions first, or keeps them."""
        self._stop(StateCause.STOP_SIGNAL, flattens=flattens)

    def withdraw(self, *causes: StateCause) -> None:
        """Drop the requests of these causes: cancelled, or carried out."""
        self.close_causes.difference_update(causes)
        self.keep_causes.difference_update(causes)

    def restore(self, event: JournalEvent, *, flattens: bool) -> None:
        """Apply a journal event to the policy; a stop by a signal `flattens` or keeps positions."""
        if event.kind == records.REQUEST:
            request = event.facts(RequestExecuted)
            if not request.withdrawn:
                self.apply_command(ControlVerb(request.verb))
        elif event.kind == records.STATE:
            change = event.facts(StateChanged)
            if not change.there and change.cause in ENDED:
                self.withdraw(change.cause)
            elif change.there and change.cause is StateCause.STOP_SIGNAL:
                self.apply_signal(flattens=flattens)

    def _stop(self, cause: StateCause, *, flattens: bool) -> None:
        self.withdraw(cause)
        (self.close_causes if flattens else self.keep_causes).add(cause)
