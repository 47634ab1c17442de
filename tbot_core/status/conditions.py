"""What restricts trading: each cause with its time, the words of who reported it, and what a person can do."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.alerts.next_commands import NEXT_COMMANDS
from tbot_core.engine.session.open_positions import is_protected
from tbot_core.engine.session.requests import ClosePolicy
from tbot_core.execution.trading_state import recall_states
from tbot_core.journal import records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.events.sessions import NotReady
from tbot_core.model.clock import exchange_time
from tbot_core.model.types import RiskState
from tbot_core.trading.risk.states import KILLS_AND_STOPS, KINDS, LOCAL, QUIET, CauseEnd, StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.instance.journal_head import OlderJournal
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event
    from tbot_core.status import Document

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
    told = next((one for one in reversed(events) if one.kind in _READINESS), None)
    if told is None or told.kind != records.NOT_READY:
        return ""
    not_ready = told.facts(NotReady)
    reasons = "; ".join(reason.rstrip(".") for reason in not_ready.reasons)
    return f"NOT READY for the session of {not_ready.session}, at {_time(told.applied)}: {reasons}."


_READINESS: Final = frozenset({records.READY, records.NOT_READY, records.SESSION_CLOSED, records.RUN_STARTED})


def _meanwhile(events: Sequence[Event], book: SessionBook) -> Mapping[RiskState, str]:
    # What a running bot does in each state; a stop is promised only where it rests and no cancel of it was requested.
    held = sorted(book.portfolio.positions) if book.in_session else []
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
