"""The risk state of an instance: what its journal and its folder of requests say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import control
from tbot_core.engine.control import Refused, Seen
from tbot_core.errors import AccessError
from tbot_core.execution.trading_state import recall
from tbot_core.journal.projections.arming import LATCHES
from tbot_core.model.formatting import legible
from tbot_core.model.types import RiskState
from tbot_core.system import filesystem, secure_files
from tbot_core.trading.risk.states import KINDS, Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.journal.projections.book import Book
    from tbot_core.journal.store import Event

_WORDS: Final = {state.word: state for state in RiskState} | dict.fromkeys(LATCHES, RiskState.EXIT_ONLY)
"""What a session's events of risk do to the state: after a latch nothing is entered, and exits go on."""


@attrs.frozen(kw_only=True)
class Condition:
    """The state, its causes in words, the gravest first, and what lies in the folder of requests.

    `latched`: a loss has ended the session's entries. `exposed` says who else may use the folder; "" when nobody may.
    """

    state: str
    causes: tuple[str, ...]
    seen: Seen
    latched: bool = False
    exposed: str = ""


def condition(folder: Path, events: Sequence[Event], book: Book, *, running: bool) -> Condition:
    """What `events` and their `book` come to, and what lies in the folder; `running` tells whether a bot is there."""
    states = recall(events)
    session = _of_run(book) if book.in_session or running else []
    found = [*((KINDS[cause].state, cause.value) for cause in states.causes), *session]
    found.sort(key=lambda one: -one[0])
    present = max((states.state, *(state for state, _ in session)))
    return Condition(
        state=present.word,
        causes=tuple(dict.fromkeys(cause for _, cause in found)),
        seen=look(folder),
        latched=book.in_session and any(change["what"] in LATCHES for change in book.risk),
        exposed=exposed(folder),
    )


def _of_run(book: Book) -> list[tuple[RiskState, str]]:
    # The causes in a run's settings, and in the losses of its session under way, each with the state that it asks for.
    forced = [(RiskState.DEFENSE, Cause.DEFENSE_SETTING.value)] if _forced(book) else []
    losses = book.risk if book.in_session else []
    return forced + [(_WORDS[it["what"]], it["cause"]) for it in losses if it["what"] in _WORDS]


def sentences(seen: Seen, *, running: bool) -> list[str]:
    """What lies in the folder that a person should know of."""
    found = [f"control/{name} is there: remove it to trade on." for name in _files(seen)]
    found += [f"control/{legible(one.name)} was not obeyed: {one.words}" for one in seen.refused]
    if not running and seen.requests:
        verbs = ", ".join(request.verb.value for request in seen.requests)
        found.append(f"Asked for, and counts at the next start: {verbs}.")
    return found


def _files(seen: Seen) -> list[str]:
    return [name for name, there in ((control.KILL, seen.kill), (control.STOP, seen.stop)) if there]


def _forced(book: Book) -> bool:
    settings: Mapping[str, str] = book.run.get("settings", {})
    return settings.get(Cause.DEFENSE_SETTING.value, "").strip().lower() == "true"


def exposed(folder: Path) -> str:
    """Who else may use the folder of requests, in a sentence; "" when nobody may, or there is none."""
    return secure_files.exposed(folder) if filesystem.is_present(folder) else ""


def look(folder: Path) -> Seen:
    """What lies in the folder; one that cannot be read is told like a file that is not obeyed."""
    try:
        return control.look(folder)
    except AccessError as fault:
        return Seen(refused=(Refused(name="", words=fault.message),))
