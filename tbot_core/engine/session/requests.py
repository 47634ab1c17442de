"""What is asked of a running session: written down with whoever asked, then obeyed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlFolderState, ControlRequest, ControlVerb
from tbot_core.errors import AccessError
from tbot_core.journal import records
from tbot_core.system import log
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.projection import JournalEvent
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.clock import Clock


CARRIED_OUT: Final = "carried out"
"""The words with which a stop ends that was carried out."""

RequestAction: TypeAlias = "Callable[[ControlRequest], str]"
"""Does what a request asks for, or says why not; "" when it is done."""

SESSION_VERBS: Final = frozenset(
    {ControlVerb.ARM, ControlVerb.DISARM, ControlVerb.CONFIRM, ControlVerb.REJECT, ControlVerb.FAILOVER_CONFIRM}
)
"""What only a session can obey."""

FUTURE_SESSION_VERBS: Final = frozenset({ControlVerb.ARM, ControlVerb.DISARM})
"""What is said of sessions to come: one that is over leaves it to the next."""

_NOTHING_TO_CONFIRM: Final = "Nothing to confirm: this session has no failover."
_NOT_ARMED: Final = "Only live trading can be armed and disarmed."
_UNFIT: Final = {
    ControlVerb.FAILOVER_CONFIRM: _NOTHING_TO_CONFIRM,
    ControlVerb.ARM: _NOT_ARMED,
    ControlVerb.DISARM: _NOT_ARMED,
}
"""Why a session that has nobody to obey a verb does not."""

_NAMED: Final = frozenset({records.REQUEST, records.REQUEST_REFUSED})
_log = log.logger(__name__)


def amount_of(request: ControlRequest) -> Decimal | None:
    """The USD that a request names; None where that is no amount."""
    try:
        amount = Decimal(request.arguments.get("amount", ""))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount >= 0 else None


class FlattenCallback(Protocol):
    """Begins to close what is held, or ends that."""

    def __call__(self, *, on: bool = True) -> None:
        """With `on`: close what is held, and enter nothing."""


class RequestHandler:
    """Obeys requests; `flatten` closes what is held. What the files kill and stop say holds while they are there.

    `past`: events before a restart; a request that they name is not obeyed a second time. `further`: what else can be
    asked of the session, and who obeys it. Verbs that are `later` wait in the folder for whoever comes next.
    """

    def __init__(  # noqa: PLR0913, PLR0917  who writes, who obeys, and what was obeyed before
        self,
        recorder: JournalRecorder,
        conditions: TradingStateController,
        flatten: FlattenCallback,
        past: Iterable[JournalEvent] = (),
        further: Mapping[ControlVerb, RequestAction] | None = None,
        later: frozenset[ControlVerb] = frozenset(),
    ) -> None:
        self._recorder = recorder
        self.trading_state = conditions
        self._flatten = flatten
        self._further = further or {}
        self.later = later
        named = [(event.kind, event.payload["name"]) for event in past if event.kind in _NAMED]
        self._obeyed = {name for kind, name in named if kind == records.REQUEST}
        self._refused = {name for kind, name in named if kind == records.REQUEST_REFUSED}
        self._wishes, self._closing = ClosePolicy(), False
        self.wall: Clock | None = None
        """Says when a request was received, where the recorder's clock tells the time of simulated minutes."""

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for and not taken back."""
        return bool(
            {StateCause.STOP_FILE, StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL} & {*self.trading_state.causes}
        )

    @property
    def keeps_positions(self) -> bool:
        """Whether a stop asks to keep what is held; one such source is enough to end the process."""
        return not self._wishes.keep_causes.isdisjoint(self.trading_state.causes)

    def poll(self, folder: Path) -> None:
        """Obey what lies in the folder; while it cannot be used, nothing is entered."""
        try:
            for request in self.apply(control.read_folder(folder)):
                control.remove_request(folder, request.name)
        except AccessError as fault:
            self.trading_state.raise_cause(StateCause.CONTROL_LOST, fault.message)
        else:
            self.trading_state.clear_cause(StateCause.CONTROL_LOST)

    def apply(self, seen: ControlFolderState) -> Sequence[ControlRequest]:
        """Obey what lies in the folder; returns the requests that are written down and may be removed."""
        self._hold(StateCause.KILL_FILE, there=seen.kill)
        self._hold(StateCause.STOP_FILE, there=seen.stop)
        for refused in seen.refused:
            if refused.name not in self._refused:
                self._refuse(refused.name, refused.words)
        requests = [request for request in seen.requests if request.verb not in self.later]
        for request in requests:
            if request.name not in self._obeyed and not self._settled(request):
                self.execute(request)
        return requests

    def _settled(self, request: ControlRequest) -> bool:
        # Whether it was refused for good: a permit is not given by what becomes of its file later, a kill is.
        return request.name in self._refused and request.verb not in control.RESTRICTING_VERBS

    def execute(self, request: ControlRequest) -> None:
        """Write a request down with what comes of it, as one: a crash in between would leave it asked and not done.

        Asked once more, as by a session that is repeated, a refusal is not said again.
        """
        again = request.name in self._obeyed
        self._obeyed.add(request.name)
        with self._recorder.transaction():
            self._note(records.REQUEST, _payload(request))
            refusal = self._obey(request)
            if refusal and not again:
                self._refuse(request.name, refusal)

    def restore(self, past: Iterable[JournalEvent], *, flattens: bool) -> None:
        """Go on with what was asked for and is not over: `past` are the events that count, of earlier sessions too.

        `flattens`: a stop by a signal closes what is held.
        """
        self._wishes = ClosePolicy()
        for event in past:
            self._wishes.restore(event, flattens=flattens)
        self._close()

    def on_signal(self, *, flattens: bool) -> None:
        """A signal has asked for a stop: close what is held first, or keep it."""
        self._wishes.apply_signal(flattens=flattens)
        self._close()

    def on_stop_done(self, *, kept: bool = False) -> None:
        """A stop has been carried out: only a file that is still there asks for another.

        `kept`: something is held or works still. Then only what asked for that is over; every other stop goes on at the
        next start.
        """
        with self._recorder.transaction():
            for cause in ENDED:
                if not kept or cause in self._wishes.keep_causes:
                    self.end_stop(cause)

    def end_stop(self, cause: StateCause) -> None:
        """The stop of a source has been carried out."""
        self.trading_state.clear_cause(cause, CARRIED_OUT)
        self._wishes.withdraw(cause)
        self._close()

    def _refuse(self, name: str, words: str) -> None:
        self._refused.add(name)
        self._note(records.REQUEST_REFUSED, {"name": name, "words": words})
        _log.error("request.refused", name=name, words=words)

    def _note(self, kind: str, payload: records.Payload) -> None:
        received = None if self.wall is None else self.wall.now()
        self._recorder.write(attrs.evolve(self._recorder.entry(kind, payload), received=received))

    def _hold(self, cause: StateCause, *, there: bool) -> None:
        if there:
            self.trading_state.raise_cause(cause)
        else:
            self.trading_state.clear_cause(cause)

    def _obey(self, request: ControlRequest) -> str:
        # Do what is asked; returns why not, or "".
        words, refusal = f"requested by {request.actor}", ""
        begin, withdraw = self.trading_state.raise_cause, self.trading_state.clear_cause
        match request.verb:
            case ControlVerb.KILL | ControlVerb.KILL_FLATTEN:
                begin(StateCause.KILL_COMMAND, words)
            case ControlVerb.KILL_CLEAR:
                withdraw(StateCause.KILL_COMMAND, words)
                withdraw(StateCause.KILL_SIGNAL, words)
            case ControlVerb.STOP | ControlVerb.STOP_FLATTEN | ControlVerb.STOP_KEEP:
                begin(StateCause.STOP_COMMAND, words)
            case ControlVerb.STOP_CANCEL:
                withdraw(StateCause.STOP_COMMAND, words)
                withdraw(StateCause.STOP_SIGNAL, words)
            case ControlVerb.DEFENSE_ON:
                begin(StateCause.DEFENSE_COMMAND, words)
            case ControlVerb.DEFENSE_OFF:
                withdraw(StateCause.DEFENSE_COMMAND, words)
            case verb if verb in self._further:
                refusal = self._further[verb](request)
            case verb:
                refusal = _UNFIT.get(verb, f"This session does not support {verb.value}.")
        self._wishes.apply_command(request.verb)
        self._close()
        return refusal

    def _close(self) -> None:
        # Closing what is held goes on as long as anybody asks for it, and nobody asks to keep that.
        before, self._closing = self._closing, bool(self._wishes.close_causes) and not self.keeps_positions
        if before is not self._closing:
            self._flatten(on=self._closing)


def _payload(request: ControlRequest) -> records.Payload:
    # What somebody asked of the running bot, and when; what is odd about the file, where something is.
    return {
        "name": request.name,
        "verb": request.verb.value,
        "actor": request.actor,
        "made": request.made.isoformat(),
        "arguments": dict(request.arguments),
        **({"flaw": request.flaw} if request.flaw else {}),
    }


def request_of(payload: Mapping[str, Any]) -> ControlRequest:
    """The request that a journal's event names."""
    return ControlRequest(
        name=payload["name"],
        verb=ControlVerb(payload["verb"]),
        actor=payload["actor"],
        made=datetime.fromisoformat(payload["made"]),
        arguments=payload["arguments"],
        flaw=payload.get("flaw", ""),
    )


ENDED: Final = (StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL)
"""The stops that are over when they have been carried out; that of the file goes on while it is there."""


@attrs.define(kw_only=True)
class ClosePolicy:
    """The sources that wish what is held to be `closing`, and those that wish to be `keeping` it."""

    close_causes: set[StateCause] = attrs.field(factory=set)
    keep_causes: set[StateCause] = attrs.field(factory=set)

    def apply_command(self, verb: ControlVerb) -> None:
        """A command was given: the last `tbot stop` says all; `kill --flatten` closes until the kill is cleared."""
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
        """A signal has asked for a stop: close what is held first, or keep it."""
        self._stop(StateCause.STOP_SIGNAL, flattens=flattens)

    def withdraw(self, *causes: StateCause) -> None:
        """What these sources asked for is taken back, or has been carried out."""
        self.close_causes.difference_update(causes)
        self.keep_causes.difference_update(causes)

    def restore(self, event: JournalEvent, *, flattens: bool) -> None:
        """Take in what a journal says that was asked for, and what came of it; a signal `flattens` or keeps."""
        match event.kind, event.payload:
            case records.REQUEST, {"verb": verb}:
                self.apply_command(ControlVerb(verb))
            case records.STATE, {"cause": StateCause.STOP_SIGNAL.name, "there": True}:
                self.apply_signal(flattens=flattens)
            case records.STATE, {"cause": cause, "there": False} if StateCause[cause] in ENDED:
                self.withdraw(StateCause[cause])

    def _stop(self, cause: StateCause, *, flattens: bool) -> None:
        self.withdraw(cause)
        (self.close_causes if flattens else self.keep_causes).add(cause)
