"""What a bot does now by the calendar, the windows and its journal, and what comes next."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.journal import records
from tbot_core.journal.events.risk import StateChanged
from tbot_core.journal.events.sessions import Ready, RunStopped
from tbot_core.model.window import anchor_named, named_window, place_window
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_core.instance import Settings
    from tbot_core.journal.projections.book import SessionBook
    from tbot_core.journal.store import Event
    from tbot_core.model.calendar import Session
    from tbot_core.status import Document

PREPARING: Final = "preparing"
"""The phase of a bot that does not trade the current session yet."""

STOPPED: Final = "stopped"
"""The phase of a bot that has carried out a stop in an open session, and whose process has not ended yet."""

_FINISHED: Final = "finished"
_INTERRUPTED: Final = "interrupted"
END_WORDS: Final = {_FINISHED: "it has finished", STOPPED: "it was stopped", _INTERRUPTED: "it was interrupted"}
"""How a run can have ended, as a clause."""

_NO_ENTRIES: Final = frozenset({"exit-only", "halted"})


@attrs.frozen(kw_only=True)
class NextEvent:
    """The next event by the calendar and the windows, and the current phase."""

    phase: str
    event: str
    time: dt.datetime


def next_event(settings: Settings, now: dt.datetime) -> NextEvent:
    """The next open, close, window or flattening after `now`, and the current phase."""
    session = calendar_of(settings.trading).current(now)
    moments = _moments(session, settings)
    upcoming = min((moment for moment in moments if moment[0] > now), key=lambda one: one[0])
    if now < session.open:
        return NextEvent(phase="market closed", event=upcoming[1], time=upcoming[0])
    past = sorted((moment for moment in moments if moment[0] <= now), key=lambda one: one[0])
    return NextEvent(phase=past[-1][1], event=upcoming[1], time=upcoming[0])


def _moments(session: Session, settings: Settings) -> list[tuple[dt.datetime, str]]:
    anchor = anchor_named(settings.trading.time_anchor)
    flatten = settings.exits.flatten_before_close
    found = [
        (session.open, "opening bell"),
        (session.moment(session.minutes - flatten), "flattening"),
        (session.close, "closing bell"),
    ]
    for name in settings.strategies:
        window = place_window(named_window(name, settings.frames[name]), session, anchor)
        if not window.outside(session.minutes, flatten):
            found += [
                (session.moment(window.start), f"{name}: analysis"),
                (session.moment(window.entry), f"{name}: entries"),
                (session.moment(window.entry_end), f"{name}: positions are managed"),
                (session.moment(min(window.leave, session.minutes - flatten)), f"{name}: over"),
            ]
    return found


def preparation(
    settings: Settings, events: Sequence[Event], book: SessionBook, now: dt.datetime, *, rehearsed: bool
) -> Document | None:
    """What a running bot has done for the session that it does not trade yet; None where it prepares none.

    It prepares from the opening bell to the first event of the session, in a rehearsal from its start until it is
    ready. `companies`: how many its filters have asked their vendors about.
    """
    session = calendar_of(settings.trading).current(now)
    today = session.date.isoformat()
    is_ready = any(event.kind == records.READY and event.facts(Ready).session == session.date for event in events)
    begins = now >= session.open or (rehearsed and not book.session and not is_ready)
    if not begins or book.session.get("date") == today:
        return None
    facts = (event.payload for event in events if event.kind == records.FACTS)
    asked = {symbol for fact in facts if fact["session"] == today for symbol in fact["facts"]}
    return {"session": today, "companies": len(asked)}


def is_stopped(events: Sequence[Event], book: SessionBook) -> bool:
    """Whether the last event of an open session is that of a stop."""
    return book.in_session and bool(events) and events[-1].kind == records.STOPPED


def run_end(events: Sequence[Event], book: SessionBook, *, simulated: bool) -> Document:
    """How a run that does not run any more has ended, and what its stop left open.

    `finished`: a simulation has traded all its sessions, a run in real time has closed its last one. `stopped`: by a
    person or a signal. `interrupted`: anything else. `events` are those of its journal.
    """
    stop = last_stop(events)
    if book.finished:
        how = _FINISHED
    elif stop is not None:
        how = STOPPED
    else:
        how = _INTERRUPTED if simulated or book.in_session else _FINISHED
    return {"how": how, "open": [] if stop is None else list(stop.facts(RunStopped).open)}


def last_stop(events: Sequence[Event]) -> Event | None:
    """The last stop, if no session was opened or resumed since; None for a run that was interrupted."""
    for event in reversed(events):
        if event.kind == records.STOPPED:
            return event
        if _begins_trading(event):
            return None
    return None


def _begins_trading(event: Event) -> bool:
    # A session that is resumed has not read its account yet.
    if event.kind == records.STATE:
        change = event.facts(StateChanged)
        return change.there and change.cause is StateCause.UNRECONCILED
    return event.kind == records.SESSION_OPENED


def phase_words(status: Mapping[str, Any]) -> str:
    """The phase of a status document; one of entries says why nothing is entered."""
    phase, state = str(status["phase"]), status["state"]
    if not phase.endswith(": entries"):
        return phase
    why = f"the state is {state}" if state in _NO_ENTRIES else "" if status["running"] else "no bot is running"
    return f"{phase}, but none are sent: {why}" if why else phase
