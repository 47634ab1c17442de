"""Alerts: what is open, what was reported and how it was delivered; test the channels, acknowledge."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.alerts import (
    acknowledge_alerts,
    alert_documents,
    channel_test,
    channels_without,
    delivery_words,
)
from tbot_core.errors import UsageError
from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from starlette.responses import Response

    from tbot_extension_web.call import Call

MOST_SHOWN: Final = 300
"""How many of the latest alerts are listed."""

_FILTERS: Final[Mapping[str, Callable[[Mapping[str, Any]], bool]]] = {
    "all": lambda _row: True,
    "unacknowledged": lambda row: row["acked"] is None,
    "critical": lambda row: row["urgency"] == "critical",
    "unsent": lambda row: row["sent"] is None or bool(row["without"]),
}
_FIELD: Final = re.compile(r"alert-(\d{1,12})")


async def show(call: Call) -> Response:
    """The log, with what is open at the top."""
    return await _page(call)


async def acknowledge(call: Call) -> Response:
    """Acknowledge the chosen alerts, or all of them."""
    ids = [int(match[1]) for name in call.form if (match := _FIELD.fullmatch(name))]
    if not ids and "all" not in call.form:
        raise UsageError("No alert is chosen.", "Choose those that you have seen, or acknowledge all.")
    wanted = [] if "all" in call.form else ids
    seen = await call.work(acknowledge_alerts, call.site.home, wanted, call.actor)
    return call.to("/alerts", f"Acknowledged: {plural(len(seen), 'alert')}.")


async def test(call: Call) -> Response:
    """Send a test alert for each urgency by all channels, or by one, and show their answers."""
    rows = await call.compute(_tested, call.site.home, call.form.get("channel", ""))
    return await _page(call, rows)


def _tested(home: Path, channel: str) -> list[dict[str, Any]]:
    return channel_test(home, channel).send()


async def _page(call: Call, tests: Sequence[Mapping[str, Any]] = ()) -> Response:
    snapshot = await call.site.live.snapshot()
    channels = snapshot.status.get("alert_channels", ())
    rows = [
        {**row, "delivery": delivery_words(row), "without": channels_without(row, channels)}
        for row in await call.work(alert_documents, call.site.home, MOST_SHOWN)
    ]
    chosen = call.request.query_params.get("show", "all")
    chosen = chosen if chosen in _FILTERS else "all"
    return call.page(
        "alerts.html",
        open=[row for row in reversed(rows) if row["open"]],
        rows=[row for row in reversed(rows) if _FILTERS[chosen](row)],
        chosen=chosen,
        filters=list(_FILTERS),
        channels=channels,
        tests=tests,
    )
