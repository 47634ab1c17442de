"""What is asked of a running session: written down with whoever asked, then obeyed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core import records
from tbot_core.control import Request, Seen, Verb
from tbot_core.seams import log
from tbot_core.states import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.conditions import Conditions
    from tbot_core.execution import Execution

_log = log.logger(__name__)


class Requests:
    """Obeys requests; `flatten` closes what is held. What the files kill and stop say holds while they are there."""

    def __init__(self, execution: Execution, conditions: Conditions, flatten: Callable[[], None]) -> None:
        self._execution = execution
        self._conditions = conditions
        self._flatten = flatten
        self._refused: set[str] = set()
        self.keep = False

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for and not taken back."""
        return bool({Cause.STOP_FILE, Cause.STOP_COMMAND, Cause.STOP_SIGNAL} & {*self._conditions.causes})

    def take(self, seen: Seen) -> Sequence[Request]:
        """Obey what lies in the folder; returns the requests that are written down and may be removed."""
        self._hold(Cause.KILL_FILE, there=seen.kill)
        self._hold(Cause.STOP_FILE, there=seen.stop)
        for refused in seen.refused:
            if refused.name not in self._refused:
                self._refused.add(refused.name)
                payload = {"name": refused.name, "words": refused.words}
                self._execution.write(self._execution.entry(records.REQUEST_REFUSED, payload))
                _log.error("request.refused", name=refused.name, words=refused.words)
        for request in seen.requests:
            self._execution.write(self._execution.entry(records.REQUEST, _payload(request)))
            self._obey(request)
        return seen.requests

    def _hold(self, cause: Cause, *, there: bool) -> None:
        if there:
            self._conditions.begin(cause)
        else:
            self._conditions.withdraw(cause)

    def _obey(self, request: Request) -> None:
        words = f"asked by {request.actor}"
        begin, withdraw = self._conditions.begin, self._conditions.withdraw
        match request.verb:
            case Verb.KILL | Verb.KILL_FLATTEN:
                begin(Cause.KILL_COMMAND, words)
            case Verb.KILL_CLEAR:
                withdraw(Cause.KILL_COMMAND, words)
            case Verb.STOP | Verb.STOP_FLATTEN | Verb.STOP_KEEP:
                begin(Cause.STOP_COMMAND, words)
                self.keep = request.verb is Verb.STOP_KEEP
            case Verb.STOP_CANCEL:
                withdraw(Cause.STOP_COMMAND, words)
                withdraw(Cause.KILL_COMMAND, words)
            case Verb.DEFENSE_ON:
                begin(Cause.DEFENSE_COMMAND, words)
            case Verb.DEFENSE_OFF:
                withdraw(Cause.DEFENSE_COMMAND, words)
            case _:
                _log.warning("request.not_for_a_session", verb=request.verb.value)
        if request.verb in {Verb.KILL_FLATTEN, Verb.STOP_FLATTEN}:
            self._flatten()


def _payload(request: Request) -> records.Payload:
    """What somebody asked of the running bot, and when."""
    return {
        "name": request.name,
        "verb": request.verb.value,
        "actor": request.actor,
        "made": request.made.isoformat(),
        "arguments": dict(request.arguments),
    }
