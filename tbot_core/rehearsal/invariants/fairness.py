"""Invariant of the rate limit: protective requests wait only for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.plugins.network.request_limits import RequestPriority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

_SHARE: Final = 0.7
_TOLERANCE_S: Final = 0.1


def i18_starved(history: RehearsalHistory) -> Iterator[str]:
    """No cancel, exit or stop waits longer than those before it need at the venue's rate."""
    urgent = [turn for turn in history.turns if turn.urgency is RequestPriority.PROTECTION]
    for turn in urgent:
        ahead = sum(other.paced is turn.paced and turn.began < other.ended <= turn.ended for other in urgent) or 1
        most = ahead * 60 / (turn.per_minute * _SHARE) if turn.per_minute else 0.0
        if turn.ended - turn.began > most + _TOLERANCE_S:
            waited = turn.ended - turn.began
            yield f"a cancel or an exit waited {waited:.1f} s from {turn.began:.0f} s on, at most it is {most:.1f} s"
