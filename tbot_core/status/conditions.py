"""What restricts trading: each cause with its time, the words of who reported it, and what a person can do."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.rules import NEXT_COMMANDS
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.model.clock import exchange_time
from tbot_core.model.types import RiskState
from tbot_core.trading.risk.states import KINDS, LOCAL, CauseEnd, StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.journal.store import Event
    from tbot_core.status import Document

_MEANWHILE: Final[Mapping[RiskState, str]] = {
    RiskState.DEFENSE: "Positions are smaller meanwhile.",
    RiskState.EXIT_ONLY: "Meanwhile no position is opened; stops stay at the broker, and exits are tried.",
    RiskState.HALTED: "Meanwhile only stops and cancels are sent.",
}
_RETRIES: Final = (
    "tbot goes on trying. `tbot broker test` shows what the broker answers, its own page what is held there."
)
_REMEDIES: Final[Mapping[StateCause, str]] = {
    StateCause.LOGIN: "tbot tries the key with each reading, so allow it again at the broker. A new key is stored by"
    " `tbot secrets edit broker`, and used from the next start on.",
    StateCause.UNKNOWN: _RETRIES,
    StateCause.UNREACHABLE: _RETRIES,
    StateCause.FEEDS_STALE: "tbot goes on connecting, and requests the minutes that it missed.",
}


@attrs.frozen(kw_only=True)
class Condition:
    """A cause of the risk state; `words` quote who reported it, `remedy` is what a person can do.

    `over`: when it was cleared, None while it holds. `broker`: the account that it concerns, "" for all.
    """

    cause: StateCause
    broker: str
    words: str
    remedy: str
    since: dt.datetime
    over: dt.datetime | None = None

    @property
    def state(self) -> RiskState:
        """The state that it requires."""
        return KINDS[self.cause].state

    @property
    def document(self) -> Document:
        """The condition as `tbot status --json` shows it."""
        return {
            "cause": self.cause.value,
            "state": self.state.word,
            "broker": self.broker,
            "words": self.words,
            "since": self.since.isoformat(),
            "over": None if self.over is None else self.over.isoformat(),
            "remedy": self.remedy,
        }

    @property
    def sentence(self) -> str:
        """What holds and since when, what tbot does meanwhile, and what a person can do."""
        at = f" ({self.broker})" if self.broker else ""
        words = f": {self.words.rstrip('.')}" if self.words else ""
        what = f"{self.state.word} since {_time(self.since)}, {self.cause.value}{at}{words}."
        if self.over is not None:
            lasts = "until readings of the account have agreed for 60 s"
            ends = lasts if KINDS[self.cause].end is CauseEnd.RECONCILE else f"for {KINDS[self.cause].end.value}"
            return f"{what} Over since {_time(self.over)}; the state lasts {ends}."
        return " ".join(filter(None, (what, _MEANWHILE[self.state], self.remedy)))


def present_conditions(events: Sequence[Event], primary: str, control_dir: str) -> list[Condition]:
    """The conditions that a journal's events leave, the oldest first; `primary` is the name of the broker.

    `control_dir` is CONTROL_DIR.
    """
    states = recall_states(events)
    raised: dict[StateCause, Event] = {}
    for event in events:
        if event.kind == records.STATE and not event.payload.get("broker") and event.payload["there"]:
            raised[StateCause[event.payload["cause"]]] = event
    found = [
        Condition(
            cause=cause,
            broker=primary if cause in LOCAL else "",
            words=raised[cause].payload["words"],
            remedy=_remedy(cause, control_dir),
            since=raised[cause].applied,
            over=states.lingering.get(cause),
        )
        for cause in states.causes
    ]
    return sorted(found, key=lambda one: one.since)


def not_ready_sentence(events: Sequence[Event]) -> str:
    """Why the next or current session is not ready; "" for a session that is."""
    told = next((one for one in reversed(events) if one.kind in _READINESS), None)
    if told is None or told.kind != records.NOT_READY:
        return ""
    reasons = "; ".join(reason.rstrip(".") for reason in told.payload["reasons"])
    return f"NOT READY for the session of {told.payload['session']}, at {_time(told.applied)}: {reasons}."


_READINESS: Final = frozenset({records.READY, records.NOT_READY, records.SESSION_CLOSED, records.RUN_STARTED})


def _remedy(cause: StateCause, control_dir: str) -> str:
    command = NEXT_COMMANDS.get(cause)
    return _REMEDIES.get(cause) or (f"Next: `{command.format(control_dir=control_dir)}`." if command else "")


def _time(moment: dt.datetime) -> str:
    return f"{exchange_time(moment):%H:%M:%S} New York"
