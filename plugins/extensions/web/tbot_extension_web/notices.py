"""What a request has done, shown on the page that its browser is led to: a reload of that page sends nothing again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs
from starlette.responses import Response

from tbot_core.system import random

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from tbot_core.model.clock import Clock
    from tbot_extension_web.access.logins import Session

ANSWER: Final = "/answer/{number}"
"""Where an answer that is a page is shown."""

MOST_WAITING: Final = 100
"""How many sessions have sentences that wait; beyond it the oldest are dropped."""

MOST_ANSWERS: Final = 200
"""How many answers are kept; beyond it the oldest are dropped."""

MOST_FORMS: Final = 10_000
"""How many forms that were sent are remembered; beyond it the oldest are dropped."""

MOST_ASKED: Final = 50
"""How many requests wait for a password; beyond it the oldest are dropped."""

ASKED_S: Final = 60.0
"""How long a request waits for the password."""

KEPT_S: Final = 600.0
"""How long an answer is kept."""


class Notices:
    """The sentences of each session that no page has shown yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], tuple[str, ...]] = {}

    def put(self, session: Session, sentences: Iterable[str]) -> None:
        """Keep them for the next page of the session."""
        key = _key(session)
        self._waiting[key] = (*self._waiting.pop(key, ()), *sentences)
        _drop_oldest(self._waiting, MOST_WAITING)

    def pop(self, session: Session | None) -> tuple[str, ...]:
        """Those of the session; they are shown once."""
        return () if session is None else self._waiting.pop(_key(session), ())


@attrs.frozen(kw_only=True)
class KeptAnswer:
    """A page as the answer to a form sent to `path`: what it shows was found when the form was sent."""

    path: str
    template: str
    code: int
    values: Mapping[str, Any] = attrs.field(repr=False)


class Answers:
    """The answers to forms that are pages, in memory alone: each has a number that opens it for its session."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[tuple[str, int], float, KeptAnswer]] = {}

    def keep(self, session: Session, answer: KeptAnswer) -> str:
        """Keep it for some minutes; returns its number."""
        now, number = self._clock.monotonic(), random.entropy(16).hex()
        self._kept = {name: one for name, one in self._kept.items() if now - one[1] < KEPT_S}
        self._kept[number] = (_key(session), now, answer)
        _drop_oldest(self._kept, MOST_ANSWERS)
        return number

    def read(self, session: Session, number: str) -> KeptAnswer | None:
        """The answer of that number; None where it is not kept any longer, or is another session's."""
        owner, at, answer = self._kept.get(number, (None, 0.0, None))
        return answer if owner == _key(session) and self._clock.monotonic() - at < KEPT_S else None

    def forget(self, session: Session) -> None:
        """Keep none of the session."""
        self._kept = {name: one for name, one in self._kept.items() if one[0] != _key(session)}


@attrs.frozen(kw_only=True)
class AskedRequest:
    """A request that needs the password: what it `does`, in a few words; `make` gets the call that has it."""

    does: str
    make: Callable[..., Awaitable[Response]] = attrs.field(repr=False)


class AskedRequests:
    """The requests that wait for the password of their session, in memory alone: each is made once, within a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[tuple[str, int], float, AskedRequest]] = {}

    def keep(self, session: Session, request: AskedRequest) -> str:
        """Keep it; returns its number."""
        now, number = self._clock.monotonic(), random.entropy(16).hex()
        self._kept = {name: one for name, one in self._kept.items() if now - one[1] < ASKED_S}
        self._kept[number] = (_key(session), now, request)
        _drop_oldest(self._kept, MOST_ASKED)
        return number

    def find(self, session: Session, number: str) -> AskedRequest | None:
        """The request of that number; None where it was made, waited too long, or is another session's."""
        owner, at, request = self._kept.get(number, (None, 0.0, None))
        return request if owner == _key(session) and self._clock.monotonic() - at < ASKED_S else None

    def take(self, session: Session, number: str) -> AskedRequest | None:
        """The same, to be made now: it waits no longer."""
        found = self.find(session, number)
        if found is not None:
            del self._kept[number]
        return found


class SentForms:
    """The numbers of forms that count once: each page that shows such a form gives it a new one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent: dict[tuple[str, int, str], datetime] = {}

    def sent_before(self, session: Session, number: str) -> datetime | None:
        """When the form was sent before; None the first time, which is remembered."""
        key = (*_key(session), number[:64])
        if (before := self._sent.get(key)) is None:
            self._sent[key] = self._clock.now()
            _drop_oldest(self._sent, MOST_FORMS)
        return before


def answer_path(number: str, path: str) -> str:
    """The address of an answer to a form that was sent to the path."""
    return f"{ANSWER.format(number=number)}?of={quote(path)}"


def _key(session: Session) -> tuple[str, int]:
    # The session goes on under a new token when the password is entered again.
    return session.user, session.id


def _drop_oldest(kept: dict[Any, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]
