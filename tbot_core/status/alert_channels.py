"""The alert channels of an instance as `tbot status` shows them: what they delivered, why they failed, what waits."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from tbot_core.alerts.store import AlertStore
from tbot_core.contracts.alert import Urgency
from tbot_core.errors import AccessError
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.model.clock import exchange_time
from tbot_core.system import filesystem
from tbot_core.vault.categories import category_paths

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from tbot_core.instance import Settings
    from tbot_core.status import Document

NOT_SET_UP: Final = "not set up"
_NOT_TESTED: Final = "not tested"
OK: Final = "ok"
FAILED: Final = "failed"
"""The states of a channel: its secrets lack, nothing was sent yet, the last message was delivered, or was not."""


def channel_documents(settings: Settings, path: Path, silent: Collection[str] = ()) -> list[Document]:
    """A document for each channel of the settings; nothing is known of one before the first message or test.

    `state` is that of the last attempt; without one, whether its secrets are stored.
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
        one["state"] = _state(one, lacking := _lacking(settings, one["name"]))
        one["lacks"] = lacking
    return documents


def channel_words(one: Mapping[str, Any]) -> str:
    """How a channel is, from its document: in the same words wherever it is shown."""
    if one["silent"]:
        return "silent in this rehearsal: it has no server on this machine"
    if one["state"] == NOT_SET_UP:
        return f"not set up: no secrets {one['lacks']} are stored"
    if one["state"] == _NOT_TESTED:
        return "not tested: nothing was sent yet"
    delivered = f"delivered {_moment(one['delivered'])}" if one["delivered"] else "nothing delivered yet"
    if one["state"] == OK:
        return f"ok, {delivered}"
    return f"FAILED {_moment(one['failed'])}: {one['reason'].rstrip('.')}; {delivered}"


def _moment(written: str) -> str:
    return f"{exchange_time(dt.datetime.fromisoformat(written)):%Y-%m-%d %H:%M} New York"


def _state(one: Mapping[str, Any], lacking: str) -> str:
    if one["failing"]:
        return FAILED
    return NOT_SET_UP if lacking else OK if one["delivered"] else _NOT_TESTED


def _lacking(settings: Settings, name: str) -> str:
    # The category of secrets that the channel reads and that is not stored; which fields it has is not read.
    plugins = [plugin for plugin in known_plugins() if (plugin.kind, plugin.name) == ("alert", name)]
    for category in (category for plugin in plugins for category in plugin.secrets):
        if not filesystem.exists(category_paths(category, settings.instance, settings.deployment).file):
            return category
    return ""


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
        state.name: {
            "delivered": None if state.delivered is None else state.delivered.isoformat(),
            "failed": None if state.failed is None else state.failed.isoformat(),
            "reason": state.reason,
            "failing": state.failing,
            "waiting": state.waiting,
        }
        for state in states
    }
