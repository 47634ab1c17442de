"""The instance's journal has a keyed chain where the instance has a key of the audit log."""

from __future__ import annotations

import datetime as dt
import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import VaultError
from tbot_core.instance import Instance
from tbot_core.instance.journal_key import chain_key, open_instance_journal
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.chain import is_keyed
from tbot_core.journal.store import NewEvent, open_journal, read_journal
from tbot_core.vault.audit_log import log_entries, log_path

if TYPE_CHECKING:
    from pathlib import Path

EVENT = NewEvent(kind="risk", payload={}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))


def since(instance: Instance) -> list[str]:
    """What the audit log says of the journal."""
    return [it.outcome for it in log_entries(log_path(instance)) if it.category == "journal"]


def test_an_instance_without_secrets_has_a_chain_without_a_key(tmp_path: Path) -> None:
    """Nothing is created for it."""
    instance = Instance(tmp_path)
    with closing(open_instance_journal(instance)) as journal:
        journal.append([EVENT])
        assert not is_keyed(journal.head[1])
    assert chain_key(instance) is None
    assert not log_path(instance).exists()


def test_the_audit_log_says_once_from_which_event_the_chain_is_keyed(tmp_path: Path) -> None:
    """An older journal goes on; a start before the first keyed event says nothing new."""
    instance = Instance(tmp_path)
    instance.data.mkdir()
    with closing(open_journal(instance.journal)) as journal:
        journal.append([EVENT, EVENT])
    open_instance_vault(instance, DeploymentSettings())
    for _ in range(2):
        open_instance_journal(instance).close()
    for _ in range(2):
        with closing(open_instance_journal(instance)) as journal:
            journal.append([EVENT])
    assert since(instance) == ["keyed from 3"]
    key = chain_key(instance)
    assert key is not None
    assert key.since == 3
    with closing(read_journal(instance.journal)) as journal:
        assert [is_keyed(one.hash) for one in journal.events()] == [False, False, True, True]
        assert journal.verify(key)[0] == 4


def test_a_journal_that_was_begun_anew_is_keyed_from_its_first_event(tmp_path: Path) -> None:
    """What the audit log said of the former one no longer counts."""
    instance = Instance(tmp_path)
    instance.data.mkdir()
    with closing(open_journal(instance.journal)) as journal:
        journal.append([EVENT])
    open_instance_vault(instance, DeploymentSettings())
    with closing(open_instance_journal(instance)) as journal:
        journal.append([EVENT])
    for path in instance.data.glob("tbot.sqlite*"):
        path.unlink()
    open_instance_journal(instance).close()
    assert since(instance) == ["keyed from 2", "keyed from 1"]


def test_a_key_that_is_gone_is_no_key(tmp_path: Path) -> None:
    """A journal that never had a keyed event goes on without one."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings())
    (tmp_path / "storage/keys/audit.key").unlink()
    assert chain_key(instance) is None


def test_a_switch_that_cannot_be_logged_is_refused(tmp_path: Path) -> None:
    """The journal is closed again, without an event."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings())
    os.link(log_path(instance), tmp_path / "another name")
    with pytest.raises(VaultError):
        open_instance_journal(instance)
