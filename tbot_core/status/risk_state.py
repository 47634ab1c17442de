"""The risk state of an instance, from its journal and its control folder, and what restricts trading.

Each cause has its time, the words of who reported it, and what a person can do.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.store import NEXT_COMMANDS
from tbot_core.engine import control
from tbot_core.engine.control import ControlFolderState, ControlRequest, ControlVerb, RefusedRequest
from tbot_core.engine.session.requests import ClosePolicy
from tbot_core.errors import AccessError
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.events.sessions import NotReady
from tbot_core.journal.projections.approvals import LATCHES
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import printable_name
from tbot_core.model.types import RiskState
from tbot_core.system import filesystem, secure_files
from tbot_core.trading.risk.states import KILLS_AND_STOPS, KINDS, LOCAL, QUIET, CauseEnd, StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.engine.control import ControlRequest
    from tbot_core.instance.journal_chain import OlderJournal
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event
    from tbot_core.status import Document

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

_MEANWHILE: Final[Mapping[RiskState, str]] = {
    RiskState.DEFENSE: "Positions are smaller meanwhile.",
    RiskState.EXIT_ONLY: "Meanwhile no position is opened; {stops}, and exits are tried.",
    RiskState.HALTED: "Meanwhile only {orders} are sent.",
}
_RETRIES: Final = "tbot goes on trying."
_ANSWERS: Final = "`tbot broker test` shows what the broker answers, its own page what is held there."
_REMEDIES: Final[Mapping[StateCause, tuple[str, str]]] = {
    StateCause.LOGIN: (
        "tbot tries the key with each reading, so allow it again at the broker.",
        "A new key is stored by `tbot secrets edit broker`, and used from the next start on.",
    ),
    StateCause.UNKNOWN: (_RETRIES, _ANSWERS),
    StateCause.UNREACHABLE: (_RETRIES, _ANSWERS),
    StateCause.OUTCOME_UNKNOWN: (
        "tbot settles the order at least every 4 s.",
        "Look at the broker's order list: if a stop or exit is there, do nothing, tbot finds it.",
    ),
    StateCause.FEEDS_STALE: ("tbot goes on connecting, and requests the minutes that it missed.", ""),
}
"""What a running tbot does about a cause, and what a person can do whether it runs or not."""

_READINESS: Final = frozenset({records.READY, records.NOT_READY, records.SESSION_CLOSED, records.RUN_STARTED})


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


@attrs.frozen(kw_only=True)
class Condition:
    """A cause of the risk state; `words` quote who reported it, `remedy` is what a person can do.

    `meanwhile`: what a running bot does while it holds; of a bot that has ended, what the next start does. `over`:
    when it was cleared, None while it holds. `broker`: the account that it concerns, "" for all.
    """

    cause: StateCause
    broker: str
    words: str
    remedy: str
    meanwhile: str = ""
    since: dt.datetime
    over: dt.datetime | None = None

    @property
    def state(self) -> RiskState:
        """The state that it requires."""
        return KINDS[self.cause].state

    @property
    def ends(self) -> dt.datetime | None:
        """When the state that it requires ends, if that is known: some time after the cause was cleared."""
        return None if self.over is None or KINDS[self.cause].end is not CauseEnd.QUIET else self.over + QUIET

    @property
    def lasting(self) -> str:
        """Until when its state goes on although the cause has ended; "" where no time is known."""
        if self.over is None or self.ends is None:
            return ""
        until, ended = _time(self.ends), _time(self.over)
        return f"{self.state.word} until {until}, as its cause ended at {ended}: {self.cause.value}"

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
            "ends": None if self.ends is None else self.ends.isoformat(),
            "lasting": self.lasting,
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
            ends = lasts if self.ends is None else f"until {_time(self.ends)}"
            return f"{what} Over since {_time(self.over)}; the state lasts {ends}."
        return " ".join(filter(None, (what, self.meanwhile, self.remedy)))


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


def folder_exposure(folder: Path) -> str:
    """Who else may write to the control folder, as a sentence; "" if no other user may, or there is no folder."""
    return secure_files.folder_looseness(folder) if filesystem.is_present(folder) else ""


def read_control_folder(folder: Path) -> ControlFolderState:
    """The requests in the control folder; an unreadable one is listed as refused."""
    try:
        return control.read_folder(folder)
    except AccessError as fault:
        return ControlFolderState(refused=(RefusedRequest(name="", words=fault.message),))


def present_conditions(
    events: Sequence[Event], book: SessionBook, control_dir: str, *, running: bool
) -> list[Condition]:
    """The conditions that a journal's events and their `book` leave, the oldest first.

    `control_dir` is CONTROL_DIR, `running`: whether a bot runs.
    """
    states, primary = recall_states(events), next(iter(records.brokers_of(book.session)), "")
    does = _meanwhile(events, book)
    raised: dict[StateCause, Event] = {}
    for event in events:
        if event.kind == records.STATE and not event.broker and (change := event.facts(StateChanged)).there:
            raised[change.cause] = event
    found = [
        Condition(
            cause=cause,
            broker=primary if cause in LOCAL else "",
            words=raised[cause].facts(StateChanged).words,
            remedy=_remedy(cause, control_dir, running=running),
            meanwhile=does[KINDS[cause].state] if running else _at_next_start(cause),
            since=raised[cause].applied,
            over=states.lingering.get(cause),
        )
        for cause in states.causes
    ]
    return sorted(found, key=lambda one: one.since)


def older_condition(older: OlderJournal, now: dt.datetime, control_dir: str) -> Condition:
    """The condition of an instance without a running bot whose journal is older than its head in the audit log."""
    cause = StateCause.JOURNAL_OLDER
    remedy, does = _remedy(cause, control_dir, running=False), _at_next_start(cause)
    return Condition(cause=cause, broker="", words=older.words, remedy=remedy, meanwhile=does, since=now)


def not_ready_sentence(events: Sequence[Event]) -> str:
    """Why the next or current session is not ready; "" for a session that is."""
    latest = next((event for event in reversed(events) if event.kind in _READINESS), None)
    if latest is None or latest.kind != records.NOT_READY:
        return ""
    not_ready = latest.facts(NotReady)
    reasons = "; ".join(reason.rstrip(".") for reason in not_ready.reasons)
    return f"NOT READY for the session of {not_ready.session}, at {_time(latest.applied)}: {reasons}."


def _of_run(book: SessionBook) -> list[tuple[RiskState, str]]:
    # The causes from a run's settings and from the losses of its open session, each with the state it requires.
    forced = [(RiskState.DEFENSE, StateCause.DEFENSE_SETTING.value)] if _forced(book) else []
    losses = book.risk if book.in_session else []
    return forced + [(_WORDS[loss["what"]], loss["cause"]) for loss in losses if loss["what"] in _WORDS]


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
    return {cause for request in requests for cause in _WITHDRAWN_CAUSES.get(request.verb, ())}


def _files(seen: ControlFolderState) -> list[str]:
    return [name for name, there in ((control.KILL, seen.kill), (control.STOP, seen.stop)) if there]


def _forced(book: SessionBook) -> bool:
    settings: Mapping[str, str] = book.run.get("settings", {})
    return settings.get(StateCause.DEFENSE_SETTING.value, "").strip().lower() == "true"


def _meanwhile(events: Sequence[Event], book: SessionBook) -> Mapping[RiskState, str]:
    # What a running bot does in each state; a stop is promised only where it rests and no cancel of it was requested.
    #
    # `tbot check` reads a control folder, and no journal.
    from tbot_core.engine.session.open_positions import is_protected

    held = book.portfolio.symbols if book.in_session else []
    bare = [symbol for symbol in held if not is_protected(book, symbol)]
    stops = f"UNPROTECTED: {', '.join(bare)}" if bare else "stops stay at the broker"
    policy = ClosePolicy()
    for event in events:
        policy.restore(event, flattens=False)
    orders = "cancels and exits" if policy.close_causes and not policy.keep_causes else "stops and cancels"
    return {state: text.format(stops=stops, orders=orders) for state, text in _MEANWHILE.items()}


def _at_next_start(cause: StateCause) -> str:
    return "It holds at the next start too." if cause in KILLS_AND_STOPS else "The next start checks it again."


def _remedy(cause: StateCause, control_dir: str, *, running: bool) -> str:
    if cause in _REMEDIES:
        does, remedy = _REMEDIES[cause]
        return " ".join(filter(None, (does if running else "", remedy)))
    command = NEXT_COMMANDS.get(cause)
    return f"Next: `{command.format(control_dir=control_dir)}`." if command else ""


def _time(moment: dt.datetime) -> str:
    return f"{exchange_time(moment):%H:%M:%S} New York"
