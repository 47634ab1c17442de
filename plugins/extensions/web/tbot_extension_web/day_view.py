"""The day as the dashboard draws it: the place of now on the time line, and the equity curve with the loss limit."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Mapping


def day_view(status: Mapping[str, Any], day: Mapping[str, Any]) -> dict[str, Any]:
    """The day's document with `minute`, the times of its windows, and its `curve`; {} before the first session."""
    if not day or day.get("open") is None:
        return dict(day)
    opened = dt.datetime.fromisoformat(day["open"])
    return {
        **day,
        "minute": _minute(status, opened, day["minutes"]),
        "windows": [{**window, "times": _times(window, opened)} for window in day["windows"]],
        "curve": _curve(status, day),
    }


def _minute(status: Mapping[str, Any], opened: dt.datetime, minutes: int) -> int | None:
    # The minute of the session, while it runs.
    moment = status.get("marks_at") or status.get("now" if status.get("running") else "last_event")
    if not status.get("in_session") or moment is None:
        return None
    return min(max(int((dt.datetime.fromisoformat(moment) - opened).total_seconds() // 60), 0), minutes)


def _times(window: Mapping[str, Any], opened: dt.datetime) -> dict[str, str]:
    return {
        name: exchange_time(opened + dt.timedelta(minutes=window[name])).strftime("%H:%M")
        for name in ("start", "entry", "entry_end", "leave")
    }


def _curve(status: Mapping[str, Any], day: Mapping[str, Any]) -> dict[str, list[float]]:
    # What the journal proves, and the samples at the bot's marks; by seconds of the epoch.
    points = sorted({dt.datetime.fromisoformat(at): Decimal(equity) for at, equity in _points(day)}.items())
    if not points:
        return {"times": [], "equity": [], "limit": []}
    limit = status.get("daily_loss_limit")
    floor = float(points[0][1] - Decimal(limit)) if limit else None
    return {
        "times": [at.timestamp() for at, _ in points],
        "equity": [float(equity) for _, equity in points],
        "limit": [floor] * len(points) if floor is not None else [],
    }


def _points(day: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [*(tuple(one) for one in day["equity"]), *day.get("samples", ())]
