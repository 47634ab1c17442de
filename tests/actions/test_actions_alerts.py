"""Alerts are acknowledged by a person with a name."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tbot_core.actions.alerts import acknowledge_alerts, alert_documents
from tbot_core.alerts.store import FILE_NAME, AlertStore, Notice
from tbot_core.contracts import Urgency
from tbot_core.system import environ

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime(2026, 11, 24, 15, tzinfo=dt.UTC)


@pytest.mark.parametrize("actor", ["ann", ""])
def test_an_acknowledgement_names_its_actor(actor: str, tmp_path: Path) -> None:
    """The one that the caller gives; without one the user of the account."""
    (tmp_path / "data").mkdir()
    store = AlertStore(tmp_path / "data" / FILE_NAME)
    store.add_notices([Notice(key="c", urgency=Urgency.ROUTINE, what="Bought 10 ACME at 20.06, open.")], NOW)
    store.close()
    assert acknowledge_alerts(tmp_path, (), actor) == [1]
    (shown,) = alert_documents(tmp_path, 10)
    assert shown["acked_by"] == (actor or environ.user_name())
