"""The alert channels of an instance as `tbot status` shows them: what they delivered, why they failed, what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.alerts.store import AlertStore
from tbot_core.contracts import Urgency
from tbot_core.errors import AccessError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.status import Document


def channel_documents(settings: Settings, path: Path, silent: Collection[str] = ()) -> list[Document]:
    """A document for each channel of the settings; nothing is known of one before the first message.

    `path` is the file of the alerts; the `silent` channels have no server in the rehearsal that is shown.
    """
    named = settings.notifications
    own = {Urgency.CRITICAL: named.critical_alert_channel, Urgency.ROUTINE: named.routine_alert_channel}
    names = tuple(dict.fromkeys((*named.critical_alert_channel, *named.routine_alert_channel)))
    try:
        store = AlertStore(path, reading=True) if filesystem.exists(path) else None
    except AccessError:
        store = None  # the damage is reported with the incidents
    documents: list[Document] = [
        {"name": name, "urgencies": [urgency.value for urgency, all_of in own.items() if name in all_of]}
        for name in names
    ]
    states = _states(store, own, names)
    for one in documents:
        found = states.get(one["name"], {})
        one["silent"] = one["name"] in silent
        one |= {"delivered": None, "failed": None, "reason": "", "failing": False, "waiting": 0, **found}
    return documents


def _states(
    store: AlertStore | None, own: dict[Urgency, tuple[str, ...]], names: tuple[str, ...]
) -> dict[str, Document]:
    if store is None:
        return {}
    try:
        unsent = [*store.unsent(None), *(row for urgency in Urgency for row in store.unsent(urgency))]
        counted = {name: sum(name in own[row.urgency] for row in unsent) for name in names}
        states = store.pending.states(counted)
    except AccessError:
        return {}  # a file of an older version, until the next run
    finally:
        store.close()
    return {
        one.name: {
            "delivered": None if one.delivered is None else one.delivered.isoformat(),
            "failed": None if one.failed is None else one.failed.isoformat(),
            "reason": one.reason,
            "failing": one.failing,
            "waiting": one.waiting,
        }
        for one in states
    }
