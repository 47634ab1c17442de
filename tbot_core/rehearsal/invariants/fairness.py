"""Invariant of the rate limit: protective requests wait only for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.execution.throttling import RateLimitedBroker
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.rehearsal.history import RequestWait
from tbot_core.rehearsal.patching import Swaps, current_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.rehearsal.history import RehearsalHistory
    from tbot_core.rehearsal.virtual_loop import VirtualLoop

_SHARE: Final = 0.7
_TOLERANCE_S: Final = 0.1


def record_waits(loop: VirtualLoop, turns: list[RequestWait]) -> Swaps:
    """Replacements that record each wait for the rate limit, in seconds of the loop."""
    turn = current_attribute(RateLimitedBroker, "_wait_turn")

    async def wait(self: Any, urgency: RequestPriority, what: str) -> None:
        began = loop.time()
        await turn(self, urgency, what)
        limit = self.capabilities.requests_per_minute
        turns.append(RequestWait(paced=self, urgency=urgency, began=began, ended=loop.time(), per_minute=limit))

    return ((RateLimitedBroker, "_wait_turn", wait),)


def i18_starved(history: RehearsalHistory) -> Iterator[str]:
    """No cancel, exit or stop waits longer than those before it need at the venue's rate."""
    urgent = [turn for turn in history.turns if turn.urgency is RequestPriority.PROTECTION]
    for turn in urgent:
        ahead = sum(other.paced is turn.paced and turn.began < other.ended <= turn.ended for other in urgent) or 1
        most = ahead * 60 / (turn.per_minute * _SHARE) if turn.per_minute else 0.0
        if turn.ended - turn.began > most + _TOLERANCE_S:
            waited = turn.ended - turn.began
            yield f"a cancel or an exit waited {waited:.1f} s from {turn.began:.0f} s on, at most it is {most:.1f} s"
