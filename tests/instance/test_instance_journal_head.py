"""The audit log keeps the journal's head, which an older copy of the journal does not have."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import JournalError, VaultError
from tbot_core.instance import Instance
from tbot_core.instance.journal_head import accept_head, note_head, older_journal
from tbot_core.instance.journal_key import open_instance_journal
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.store import START, NewEvent
from tbot_core.vault.audit_log import AuditLogEntry, log_entries, log_path

if TYPE_CHECKING:
    from pathlib import Path

TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


def write(instance: Instance, *words: str) -> tuple[int, str]:
    """Write an event for each word; returns the head after them."""
    with closing(open_instance_journal(instance)) as journal:
        journal.append([NewEvent(kind="risk", payload={"words": one}, time=TIME) for one in words])
        return journal.head


def note(instance: Instance) -> None:
    """Record the head as a run does that writes this journal."""
    with closing(open_instance_journal(instance)) as journal:
        if older_journal(instance, journal) is None:
            note_head(instance, journal.head)


def heads(instance: Instance) -> list[tuple[str, str]]:
    """The actions of the lines about a head, each with the number of the event."""
    found = [one for one in log_entries(log_path(instance)) if one.action in {"anchor", "accept"}]
    return [(one.action, one.outcome.split()[1].partition(":")[0]) for one in found]


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    """An instance with an audit log, and with a journal of two events whose head is recorded."""
    found = Instance(tmp_path / "x")
    open_instance_vault(found, DeploymentSettings())
    write(found, "a", "b")
    note(found)
    return found


def copied(instance: Instance) -> Path:
    """A copy of the journal with the files beside it."""
    kept = instance.home.parent / "kept"
    kept.mkdir()
    for path in instance.data.glob("tbot.sqlite*"):
        shutil.copy2(path, kept)
    return kept


def put_back(instance: Instance, kept: Path | None) -> None:
    """Put the copy in the place of the journal; None removes the journal."""
    for path in instance.data.glob("tbot.sqlite*"):
        path.unlink()
    for path in () if kept is None else kept.iterdir():
        shutil.copy2(path, instance.data)


def test_a_head_is_recorded_once_and_the_journal_may_go_on(instance: Instance) -> None:
    """What a crash wrote after the last head is nothing odd: the journal is written first."""
    note(instance)
    assert heads(instance) == [("anchor", "2")]
    write(instance, "c")
    assert older_journal(instance) is None
    note(instance)
    assert heads(instance) == [("anchor", "2"), ("anchor", "3")]


@pytest.mark.parametrize("goes_on", [0, 1, 5])
def test_an_older_copy_is_found_and_stays_found(instance: Instance, goes_on: int) -> None:
    """Whether it is shorter, as long or longer by now: its hashes are others."""
    kept = copied(instance)
    write(instance, "kill")
    note(instance)
    put_back(instance, kept)
    write(instance, *("other",) * goes_on)
    older = older_journal(instance)
    assert older is not None
    assert (older.head[0], older.events, older.missing) == (3, 2 + goes_on, 0 if goes_on else 1)
    assert ("1 event or more" in older.words) is not goes_on
    assert "perhaps a kill" in older.sentence


def test_a_missing_journal_is_an_older_one(instance: Instance) -> None:
    """And so is the empty one that a start makes in its place."""
    put_back(instance, None)
    older = older_journal(instance)
    assert older is not None
    assert (older.head[0], older.events) == (2, 0)
    with closing(open_instance_journal(instance)) as journal:
        assert older_journal(instance, journal) == older


def test_an_accepted_journal_counts_from_then_on(instance: Instance) -> None:
    """With who accepted it; the newer journal is then the other one, until it is accepted."""
    kept = copied(instance)
    newer = write(instance, "kill")
    note(instance)
    (instance.home / "newer").mkdir()
    for path in instance.data.glob("tbot.sqlite*"):
        shutil.copy2(path, instance.home / "newer")
    put_back(instance, kept)
    assert accept_head(instance, "ann")[0] == 2
    assert older_journal(instance) is None
    write(instance, "other")
    note(instance)
    put_back(instance, instance.home / "newer")
    assert older_journal(instance) is not None
    assert accept_head(instance) == newer
    assert older_journal(instance) is None
    assert heads(instance) == [("anchor", "2"), ("anchor", "3"), ("accept", "2"), ("anchor", "3"), ("accept", "3")]
    assert next(one.actor for one in log_entries(log_path(instance)) if one.action == "accept") == "ann"


def test_that_there_is_no_journal_can_be_accepted(instance: Instance) -> None:
    """A new one then begins; it has no head before its first event."""
    put_back(instance, None)
    assert accept_head(instance) == START
    assert older_journal(instance) is None
    note(instance)
    assert heads(instance)[1:] == [("accept", "0")]
    write(instance, "a")
    note(instance)
    assert heads(instance)[2:] == [("anchor", "1")]


def test_a_broken_chain_is_not_accepted_as_head(instance: Instance) -> None:
    """What is accepted is a journal that tbot wrote."""
    with closing(sqlite3.connect(instance.journal)) as connection:
        connection.execute("UPDATE events SET kind = 'x' WHERE seq = 2")
        connection.commit()
    with pytest.raises(JournalError, match="breaks the hash chain"):
        accept_head(instance)
    assert heads(instance) == [("anchor", "2")]


def test_a_head_that_was_written_without_the_key_is_a_forgery(instance: Instance) -> None:
    """It would make an older journal the right one."""
    path = log_path(instance)
    path.write_bytes(path.read_bytes().replace(b'"head 2:', b'"head 1:'))
    with pytest.raises(VaultError, match="TB-SEC-115"):
        older_journal(instance)
    with pytest.raises(VaultError, match="TB-SEC-115"):
        note_head(instance, (3, "a" * 64))


def test_without_an_audit_log_or_its_key_nothing_is_judged(instance: Instance, tmp_path: Path) -> None:
    """Paper trading with plaintext settings has neither; a log whose key is gone proves nothing."""
    plain = Instance(tmp_path / "plain")
    write(plain, "a")
    note(plain)
    assert older_journal(plain) is None
    assert not log_path(plain).exists()
    (instance.home / "storage/keys/audit.key").unlink()
    put_back(instance, None)
    note_head(instance, (3, "a" * 64))
    assert older_journal(instance) is None
    assert heads(instance) == [("anchor", "2")]


def test_other_lines_about_the_journal_are_no_heads(tmp_path: Path) -> None:
    """The line that says from which event on it is keyed stays what it is."""
    instance = Instance(tmp_path)
    open_instance_vault(instance, DeploymentSettings())
    assert [one.action for one in _of_journal(instance)] == ["write"]
    assert older_journal(instance) is None


def _of_journal(instance: Instance) -> list[AuditLogEntry]:
    return [one for one in log_entries(log_path(instance)) if one.category == "journal"]
