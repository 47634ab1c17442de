"""Refused requests in the security log: a line for each, and a number where they come too fast to write them all."""

from __future__ import annotations

import asyncio
from collections import Counter
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from tbot_core.errors import TbotError
from tbot_core.system import log
from tbot_core.vault.categories import PAGE
from tbot_extension_web.access.login_rules import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.clock import Clock
    from tbot_extension_web.access.security_log import SecurityLog

AT_ONCE: Final = 20
"""How many lines of a kind are written at once."""

EVERY_S: Final = 60.0
"""Beyond these, one line of a kind is written in so many seconds: less than 1 MB in a day."""

_LONGEST: Final = 100
_log = log.logger(__name__)


class Denied(StrEnum):
    """Why a request is refused; each kind is counted for itself, so that strangers cannot hide what a user tries."""

    ROLE = "role"
    FORM = "form"
    HOST = "host"
    ORIGIN = "other page"


class FewLines:
    """Lets lines of a kind pass while they are few; one that passes says how many were left out before it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, TokenBucket] = {}
        self._left_out: Counter[str] = Counter()

    def passing(self, kind: str, words: str) -> str | None:
        """The words of a line; None for one that is left out."""
        if kind not in self._buckets:
            self._buckets[kind] = TokenBucket(1 / EVERY_S, AT_ONCE, self._clock)
        if not self._buckets[kind].draw():
            self._left_out[kind] += 1
            return None
        left_out = self._left_out.pop(kind, 0)
        return words + (f", {left_out} more before it" if left_out else "")


class Denials:
    """Writes refused requests. `security` gives the security log, which a finished set-up replaces."""

    def __init__(self, security: Callable[[], SecurityLog], clock: Clock) -> None:
        self._security = security
        self._lines = FewLines(clock)

    async def record(self, kind: Denied, what: str, source: str, user: str = "") -> None:
        """Write that a request was refused; `what` is cut. It is refused also where that fails."""
        words = self._lines.passing(kind, f"{kind.value}: {_printable(what)}")
        if words is None:
            return
        record = self._security().record
        try:
            write = partial(record, "deny", user, words, source=source, category=PAGE)
            await asyncio.to_thread(write)  # seam: it waits for the disk
        except TbotError as fault:
            _log.warning("web.denial_not_recorded", reason=fault.message)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:_LONGEST])
