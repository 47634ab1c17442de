"""The heading of a run, and one event as a plain line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from tbot_core.contracts import FeedLabel
    from tbot_core.status.event_text import EventLine


def banner(mode: str, label: FeedLabel, closed: int = 0, interrupted: str = "") -> list[str]:
    """The source of the prices, and the notes about them.

    For a resumed run the number of `closed` sessions, and where it was `interrupted`: which run, in which session.
    """
    loud = "SIMULATED PRICES: " if label.simulated else "Market prices: "
    lines = [f"tbot {mode}. {loud}{label.name}."]
    lines += [f"  {note}" for note in label.notes]
    if interrupted:
        after = f"after {plural(closed, 'closed session')}" if closed else "its first session"
        lines.append(f"Resuming {interrupted}, {after}.")
    elif closed:
        lines.append(f"Resumed after {plural(closed, 'closed session')}.")
    return lines


def plain_line(line: EventLine) -> str:
    """A line with exchange time and UTC."""
    if line.time is None:
        return line.text
    return f"{exchange_time(line.time):%H:%M} ({line.time:%H:%M} UTC)  {line.text}"
