"""Alerts that a person has not acknowledged yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.alerts.store import StoredAlert


MOST_ALERTS = 20_000


def stored_alerts(home: Path | None, last: int) -> Sequence[StoredAlert]:
    """The newest alerts of an instance, oldest first; none without a run."""
    from tbot_core.alerts.store import FILE_NAME, AlertStore
    from tbot_core.instance import Instance
    from tbot_core.system import filesystem

    path = Instance.at(home).data / FILE_NAME
    if not filesystem.exists(path):
        return []
    store = AlertStore(path, reading=True)
    try:
        return store.rows(last)
    finally:
        store.close()


def unseen_incidents(home: Path) -> list[str]:
    """Open critical incidents that nobody has acknowledged, as text."""
    from tbot_core.contracts import Urgency
    from tbot_core.errors import AccessError

    try:
        rows = stored_alerts(home, MOST_ALERTS)
    except AccessError as fault:
        return [fault.message]
    critical = [row for row in rows if row.open and row.urgency is Urgency.CRITICAL and not row.acked]
    return [f"Alert {row.id}: {row.what} `{row.command}`; acknowledge: `tbot alerts ack {row.id}`." for row in critical]
