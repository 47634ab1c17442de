"""The risk state of an instance, from its journal and its control folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import ControlFolderState, ControlVerb, RefusedRequest
from tbot_core.errors import AccessError
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal.projections.arming import LATCHES
from tbot_core.model.formatting import printable_name
from tbot_core.model.types import RiskState
from tbot_core.system import filesystem, secure_files
from tbot_core.trading.risk.states import KINDS, StateCause

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.control import ControlRequest
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event

_WORDS: Final = {state.word: state for state in RiskState} | dict.fromkeys(LATCHES, RiskState.EXIT_ONLY)
"""The states that a session's risk events require; a latch requires exit-only."""


_WITHDRAWN_CAUSES: Final[Mapping[ControlVerb, frozenset[StateCause]]] = {
    ControlVerb.KILL_CLEAR: frozenset({StateCause.KILL_COMMAND, StateCause.KILL_SIGNAL}),
    ControlVerb.STOP_CANCEL: frozenset({StateCause.STOP_COMMAND, StateCause.STOP_SIGNAL}),
    ControlVerb.DEFENSE_OFF: frozenset({StateCause.DEFENSE_COMMAND}),
}
"""The causes that each withdrawal ends, raised by a request or by a signal."""

_REQUESTED: Final[Mapping[ControlVerb, StateCause]] = {
    ControlVerb.KILL_CLEAR: StateCause.KILL_COMMAND,
    ControlVerb.STOP_CANCEL: StateCause.STOP_COMMAND,
    ControlVerb.DEFENSE_OFF: StateCause.DEFENSE_COMMAND,
}
"""The cause that each withdrawal ends and that a request raises."""

_LAST_COUNTS: Final = (
    frozenset({ControlVerb.ARM, ControlVerb.DISARM}),
    frozenset({ControlVerb.STOP, ControlVerb.STOP_FLATTEN, ControlVerb.STOP_KEEP}),
)
"""Of these requests the last one is in effect."""


@attrs.frozen(kw_only=True)
class RiskStatus:
    """The state, its causes as text, the most severe first, and the requests in the control folder.

    `latched`: a loss has ended the session's entries. `exposed`: who else may write to the folder, or "".
    """

    state: str
    causes: tuple[str, ...]
    seen: ControlFolderState
    latched: bool = False
    exposed: str = ""


def withdraws_something(verb: ControlVerb, events: Sequence[Event], seen: ControlFolderState) -> bool:
    """Whether a request that withdraws others finds any: in effect by the journal, or waiting in the control folder."""
    waiting = any(one in control.WITHDRAWALS[verb] for one in _without_withdrawn(seen.requests))
    return waiting or not _WITHDRAWN_CAUSES[verb].isdisjoint(recall_states(events).causes)


def risk_status(
    folder: Path, events: Sequence[Event], book: SessionBook, *, running: bool, older: dt.datetime | None = None
) -> RiskStatus:
    """The state that `events` and their `book` add up to, with the control folder; `running`: whether a bot runs.

    `older`: while none runs, since when the journal is known to be older than its head in the audit log.
    """
    states, seen = recall_states(events), read_control_folder(folder)
    if not running:  # the next start begins with these requests, and compares the journal with its head
        for cause in (*_withdrawn_causes(seen.requests), StateCause.JOURNAL_OLDER):
            states.active.pop(cause, None)
        if older is not None:
            states.raise_cause(StateCause.JOURNAL_OLDER, older)
    session = _of_run(book) if book.in_session or running else []
    found = [*((KINDS[cause].state, cause.value) for cause in states.causes), *session]
    found.sort(key=lambda one: -one[0])
    present = max((states.state, *(state for state, _ in session)))
    return RiskStatus(
        state=present.word,
        causes=tuple(dict.fromkeys(cause for _, cause in found)),
        seen=seen,
        latched=book.in_session and any(change["what"] in LATCHES for change in book.risk),
        exposed=folder_exposure(folder),
    )


def _of_run(book: SessionBook) -> list[tuple[RiskState, str]]:
    # The causes from a run's settings and from the losses of its open session, each with the state it requires.
    forced = [(RiskState.DEFENSE, StateCause.DEFENSE_SETTING.value)] if _forced(book) else []
    losses = book.risk if book.in_session else []
    return forced + [(_WORDS[it["what"]], it["cause"]) for it in losses if it["what"] in _WORDS]


def folder_warnings(seen: ControlFolderState, *, running: bool, folder: str = "control") -> list[str]:
    """Sentences about the requests in the control folder, which messages call `folder`."""
    found = [f"{folder}/{name} exists: remove it to trade." for name in _files(seen)]
    found += [f"{folder}/{printable_name(one.name)} was refused: {one.words}" for one in seen.refused]
    waiting = () if running else dict.fromkeys(_without_withdrawn(seen.requests))
    if waiting:
        found.append(f"Requested, takes effect at the next start: {', '.join(verb.value for verb in waiting)}.")
    return found


def next_start(risk: RiskStatus) -> RiskStatus:
    """The status with which the next start begins: with what waits in the control folder."""
    waiting = _without_withdrawn(risk.seen.requests)
    causes = [cause for verb, cause in _REQUESTED.items() if not control.WITHDRAWALS[verb].isdisjoint(waiting)]
    causes += [StateCause.KILL_FILE] if risk.seen.kill else []
    causes += [StateCause.STOP_FILE] if risk.seen.stop else []
    causes.sort(key=lambda cause: -KINDS[cause].state)
    state = max(_WORDS[risk.state], *(KINDS[cause].state for cause in causes), RiskState.NORMAL)
    return attrs.evolve(
        risk, state=state.word, causes=tuple(dict.fromkeys((*(it.value for it in causes), *risk.causes)))
    )


def _without_withdrawn(requests: Sequence[ControlRequest]) -> list[ControlVerb]:
    # The verbs of the requests, without those that a later request withdraws or replaces, and without the withdrawals.
    left: list[ControlVerb] = []
    for request in requests:
        withdrawn = control.WITHDRAWALS.get(request.verb)
        over = _replaced(request.verb) if withdrawn is None else withdrawn
        left = [verb for verb in left if verb not in over] + ([request.verb] if withdrawn is None else [])
    return left


def _replaced(verb: ControlVerb) -> frozenset[ControlVerb]:
    for verbs in _LAST_COUNTS:
        if verb in verbs:
            return verbs
    return frozenset()


def _withdrawn_causes(requests: Sequence[ControlRequest]) -> set[StateCause]:
    # The causes of the journal that waiting requests withdraw.
    return {cause for one in requests for cause in _WITHDRAWN_CAUSES.get(one.verb, ())}


def _files(seen: ControlFolderState) -> list[str]:
    return [name for name, there in ((control.KILL, seen.kill), (control.STOP, seen.stop)) if there]


def _forced(book: SessionBook) -> bool:
    settings: Mapping[str, str] = book.run.get("settings", {})
    return settings.get(StateCause.DEFENSE_SETTING.value, "").strip().lower() == "true"


def folder_exposure(folder: Path) -> str:
    """Who else may write to the control folder, as a sentence; "" if nobody may, or there is no folder."""
    return secure_files.folder_looseness(folder) if filesystem.is_present(folder) else ""


def read_control_folder(folder: Path) -> ControlFolderState:
    """The requests in the control folder; an unreadable one is listed as refused."""
    try:
        return control.read_folder(folder)
    except AccessError as fault:
        return ControlFolderState(refused=(RefusedRequest(name="", words=fault.message),))
