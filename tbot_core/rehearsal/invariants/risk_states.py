"""The risk states of a session by the causes in its journal, recomputed without the bot's own code."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tbot_core.journal import records
from tbot_core.model.types import RiskState

if TYPE_CHECKING:
    from tbot_core.journal.store import Event

# The states and their causes, and what ends them: the contract, section 8, "States".
_HALTS: Final = frozenset({"KILL_FILE", "KILL_COMMAND", "KILL_SIGNAL"})
_DEFENDS: Final = frozenset(
    {"PRIMARY_DOWN", "UNIVERSE_STALE", "HALF_LOSS", "DEVIATIONS", "DEFENSE_COMMAND", "DEFENSE_SETTING"}
)
_ENDS_AT_ONCE: Final = _HALTS | {
    "STOP_FILE",
    "STOP_COMMAND",
    "STOP_SIGNAL",
    "DEFENSE_COMMAND",
    "DEFENSE_SETTING",
    "CONTROL_LOST",
    "LEFT_BEHIND",
    "NOT_ARMED",
    "UNRECONCILED",
}
"""The causes that end when they are withdrawn; all others last until the journal reports them as over."""

_OF_ONE_ACCOUNT: Final = frozenset(
    {
        "BROKER_PLUGIN",
        "EVENTS_MISSED",
        "LOGIN",
        "MAINTENANCE",
        "MISMATCH",
        "REJECTS",
        "RESTRICTED",
        "SURPLUS",
        "UNKNOWN",
        "UNREACHABLE",
        "UNRECONCILED",
    }
)
"""The causes of the primary that do not concern entries elsewhere while these go to another broker."""

_OVER: Final = "over"
_ENTRIES_ELSEWHERE: Final = "entries go on"


class RiskStates:
    """The risk state at each broker after the events that were applied; "" is the primary."""

    def __init__(self) -> None:
        self._causes: defaultdict[str, set[str]] = defaultdict(set)
        self._elsewhere = False

    def apply(self, event: Event) -> None:
        """Apply the next event."""
        payload = event.payload
        if event.kind == records.STATE:
            cause, active = payload["cause"], self._causes[payload.get("broker", "")]
            if payload["there"]:
                active.add(cause)
            elif cause in _ENDS_AT_ONCE or payload["words"] == _OVER:
                active.discard(cause)
        elif event.kind == records.FAILOVER:
            self._elsewhere = payload["phase"] == _ENTRIES_ELSEWHERE
        elif event.kind == records.SESSION_CLOSED:
            self._elsewhere = False

    def state(self, broker: str) -> RiskState:
        """The most severe state of the causes that concern an entry there."""
        shared = self._causes[""]
        if broker and self._elsewhere:
            shared = shared - _OF_ONE_ACCOUNT
        return max(map(_state_of, shared | self._causes[broker]), default=RiskState.NORMAL)


def _state_of(cause: str) -> RiskState:
    if cause in _HALTS:
        return RiskState.HALTED
    return RiskState.DEFENSE if cause in _DEFENDS else RiskState.EXIT_ONLY
