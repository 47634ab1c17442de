"""What a request has done, said on the page that its browser is led to: a reload of that page sends nothing again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_extension_web.access.logins import Session

MOST_WAITING: Final = 100
"""How many sessions have sentences that wait; beyond it the oldest are dropped."""


class Notices:
    """The sentences of each session that no page has shown yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, ...]] = {}

    def put(self, session: Session, sentences: Iterable[str]) -> None:
        """Keep them for the next page of the session."""
        waiting = self._waiting.pop(session.csrf, ())
        self._waiting[session.csrf] = (*waiting, *sentences)
        while len(self._waiting) > MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]

    def pop(self, session: Session | None) -> tuple[str, ...]:
        """Those of the session; they are shown once."""
        return () if session is None else self._waiting.pop(session.csrf, ())
