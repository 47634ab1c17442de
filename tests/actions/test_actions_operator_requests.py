"""Arming as actions see it: whether the plugins that are approved now are those of the arming."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from tbot_core.actions.operator_requests import armed_with_other_plugins
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.plugins.lock import PluginLock, lock_fingerprint, write_lock

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, 0, tzinfo=dt.UTC)


def test_an_arming_is_for_the_plugins_that_were_approved_then(tmp_path: Path) -> None:
    """Others end it; without a journal, and where nothing is armed, there is none to end."""
    assert not armed_with_other_plugins(tmp_path)
    write_lock(tmp_path, PluginLock())
    terms = dict.fromkeys(("mode", "account", "settings"), "x") | {"plugins": lock_fingerprint(tmp_path)}
    Instance(tmp_path).data.mkdir()
    journal = open_journal(Instance(tmp_path).journal)
    armed = {"actor": "ada", "sessions": ["2026-11-24"], "terms": terms}
    journal.append([NewEvent(kind=records.ARMED, payload=armed, time=NOW)])
    assert not armed_with_other_plugins(tmp_path)
    (tmp_path / "plugins.lock").unlink()
    assert armed_with_other_plugins(tmp_path)
    journal.append([NewEvent(kind=records.DISARMED, payload={"why": "why"}, time=NOW)])
    assert not armed_with_other_plugins(tmp_path)
    journal.close()
