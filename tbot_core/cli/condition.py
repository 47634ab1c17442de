"""The risk state of an instance: what its journal and its folder of requests say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core import control
from tbot_core.conditions import recall
from tbot_core.control import Refused, Seen
from tbot_core.errors import AccessError
from tbot_core.model import RiskState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tbot_core.journal.journal import Event
    from tbot_core.journal.projection import Book

_WORDS: Final = {state.word: state for state in RiskState}
_FORCED: Final = "DEFENSE_MODE_ACTIVE"
LATCHED: Final = "daily loss"
"""The state of a session whose loss has ended its entries."""


@attrs.frozen(kw_only=True)
class Condition:
    """The state, its causes in words, the gravest first, and what lies in the folder of requests."""

    state: str
    causes: tuple[str, ...]
    seen: Seen


def condition(folder: Path, events: Sequence[Event], book: Book) -> Condition:
    """What `events` and their `book` come to, and what lies in the folder."""
    states = recall(events)
    causes = [cause.value for cause in states.causes]
    present, latched = states.state, False
    if book.in_session:
        present = max(present, _WORDS.get(book.session["state"], RiskState.NORMAL)) if _forced(book) else present
        causes += [_FORCED] if _forced(book) else []
        for change in book.risk:
            latched = latched or change["what"] == f"{LATCHED} latch"
            present = max(present, _WORDS.get(change["what"], RiskState.NORMAL))
            causes += [change["cause"]] if change["what"] in _WORDS else []
    daily = latched and present < RiskState.EXIT_ONLY
    return Condition(state=LATCHED if daily else present.word, causes=tuple(causes), seen=look(folder))


def sentences(seen: Seen, *, running: bool) -> list[str]:
    """What lies in the folder that a person should know of."""
    found = [f"control/{name} is there: remove it to trade on." for name in _files(seen)]
    found += [f"control/{one.name} was not obeyed: {one.words}" for one in seen.refused]
    if not running and seen.requests:
        verbs = ", ".join(request.verb.value for request in seen.requests)
        found.append(f"Asked for, and counts at the next start: {verbs}.")
    return found


def _files(seen: Seen) -> list[str]:
    return [name for name, there in ((control.KILL, seen.kill), (control.STOP, seen.stop)) if there]


def _forced(book: Book) -> bool:
    settings: Mapping[str, str] = book.run.get("settings", {})
    return settings.get(_FORCED, "").strip().lower() == "true"


def look(folder: Path) -> Seen:
    """What lies in the folder; one that cannot be read is told like a file that is not obeyed."""
    try:
        return control.look(folder)
    except AccessError as fault:
        return Seen(refused=(Refused(name="", words=fault.message),))
