"""The chain of the instance's journal: its key, and its head in the audit log."""

from __future__ import annotations

import datetime as dt
import io
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, JournalError, VaultError
from tbot_core.instance import Instance
from tbot_core.instance.journal_chain import (
    accept_head,
    accept_journal,
    chain_key,
    note_head,
    older_journal,
    open_instance_journal,
)
from tbot_core.instance.journal_key_start import note_switch
from tbot_core.instance.secrets import forget_passphrases, open_instance_vault
from tbot_core.journal.store import START, NewEvent, is_keyed, open_journal, read_journal
from tbot_core.system import filesystem
from tbot_core.vault.audit_log import AuditLogEntry, log_entries, log_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = NewEvent(kind="risk", payload={}, time=dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC))
TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    # No provider of keys outlives its test.
    forget_passphrases()
    yield
    forget_passphrases()


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
    """When the key is made: an older journal goes on, and no start says anything new."""
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


def keyed(home: Path) -> Instance:
    """An instance with a key, and a journal of two events of before the key and one of after."""
    instance = Instance(home)
    instance.data.mkdir()
    with closing(open_journal(instance.journal)) as journal:
        journal.append([EVENT, EVENT])
    open_instance_vault(instance, DeploymentSettings())
    with closing(open_instance_journal(instance)) as journal:
        journal.append([EVENT])
    return instance


def refused(instance: Instance) -> set[str]:
    """The codes under which readers and a start refuse the journal."""
    codes = set()
    for use in (chain_key, open_instance_journal):
        with pytest.raises(VaultError) as fault:
            use(instance)
        assert "tbot audit accept" in fault.value.remedy
        codes.add(fault.value.code)
    return codes


def test_the_first_line_counts(tmp_path: Path) -> None:
    """A later one, even with the key, moves nothing."""
    instance = keyed(tmp_path)
    note_switch(open_instance_vault(instance, DeploymentSettings()), 1000)
    key = chain_key(instance)
    assert key is not None
    assert key.since == 3


def test_a_line_without_the_key_is_a_forgery(tmp_path: Path) -> None:
    """It would let a chain without a key pass up to any event."""
    instance = keyed(tmp_path)
    path = log_path(instance)
    path.write_bytes(path.read_bytes().replace(b'"keyed from 3"', b'"keyed from 9"'))
    assert refused(instance) == {"TB-SEC-115"}


def test_a_log_without_the_line_is_refused(tmp_path: Path) -> None:
    """It was cut off, or begun anew, and the journal may be another one."""
    instance = keyed(tmp_path)
    path = log_path(instance)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert refused(instance) == {"TB-SEC-114"}


def test_a_key_without_a_log_is_refused(tmp_path: Path) -> None:
    """A missing log is not a missing key."""
    instance = keyed(tmp_path)
    log_path(instance).unlink()
    assert refused(instance) == {"TB-SEC-113"}


def test_a_journal_is_accepted_as_it_is(tmp_path: Path) -> None:
    """From its first keyed event on, else from its next one, else from its first; a second time changes nothing."""
    instance = keyed(tmp_path)
    for _ in range(2):
        log_path(instance).unlink(missing_ok=True)
        assert [accept_journal(instance), accept_journal(instance)] == [(3, True), (3, False)]
        assert since(instance) == ["keyed from 3"]
    for path in instance.data.glob("tbot.sqlite*"):
        path.unlink()
    log_path(instance).unlink()
    assert accept_journal(instance) == (1, True)
    log_path(instance).unlink()
    with closing(open_journal(instance.journal)) as journal:
        journal.append([EVENT])
    assert accept_journal(instance) == (2, True)
    open_instance_journal(instance).close()


def test_a_broken_chain_is_not_accepted(tmp_path: Path) -> None:
    """Nor is anything while a bot uses the instance."""
    instance = keyed(tmp_path)
    log_path(instance).unlink()
    with filesystem.hold_lock(instance.lock), pytest.raises(AccessError):
        accept_journal(instance)
    with closing(sqlite3.connect(instance.journal)) as connection:
        connection.execute("UPDATE events SET kind = 'x' WHERE seq = 3")
        connection.commit()
    with pytest.raises(JournalError, match="breaks the hash chain"):
        accept_journal(instance)


def test_a_journal_of_before_its_key_names_the_command(tmp_path: Path) -> None:
    """A bot that ran when the key was made had the journal open without it; a damaged journal has no known end."""
    instance = Instance(tmp_path)
    with closing(open_instance_journal(instance)) as journal, filesystem.hold_lock(instance.lock):
        open_instance_vault(instance, DeploymentSettings())
        journal.append([EVENT])
    assert since(instance) == []
    assert refused(instance) == {"TB-SEC-114"}
    assert accept_journal(instance) == (2, True)

    damaged = Instance(tmp_path / "damaged")
    damaged.data.mkdir(parents=True)
    damaged.journal.write_bytes(b"no database" * 100)
    open_instance_vault(damaged, DeploymentSettings())
    assert since(damaged) == []


def test_a_new_journal_under_a_key_says_so(tmp_path: Path) -> None:
    """As after a restored backup, which holds keys and no journal."""
    instance = Instance(tmp_path)
    opened = open_instance_vault(instance, DeploymentSettings(), ready=False)
    opened.store.place("audit").key.parent.mkdir(parents=True, mode=0o700)
    opened.make_key("audit")
    open_instance_journal(instance).close()
    assert since(instance) == ["keyed from 1"]


def test_a_journal_that_was_begun_anew_is_keyed_from_its_first_event(tmp_path: Path) -> None:
    """The line of the former one stays, so that the former one can be restored."""
    instance = keyed(tmp_path)
    for path in instance.data.glob("tbot.sqlite*"):
        path.rename(tmp_path / path.name)
    with closing(open_instance_journal(instance)) as journal:
        journal.append([EVENT])
        assert is_keyed(journal.head[1])
    for path in tmp_path.glob("tbot.sqlite*"):
        path.rename(instance.data / path.name)
    open_instance_journal(instance).close()
    assert since(instance) == ["keyed from 3"]


def test_a_derived_key_is_not_asked_for_before_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that derives its keys always has one; without a log and a journal nothing needs it."""
    monkeypatch.setenv("TBOT_KEY_PROVIDER", "passphrase")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    open_instance_journal(Instance(tmp_path)).close()


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
    path = log_path(instance)
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    os.link(path, tmp_path / "another name")
    with pytest.raises(VaultError):
        open_instance_journal(instance)


def test_a_start_verifies_the_whole_chain(tmp_path: Path) -> None:
    """A change of any event is found before anything is traded on it, with a key or without."""
    plain = Instance(tmp_path / "plain")
    with closing(open_instance_journal(plain)) as journal:
        journal.append([EVENT] * 3)
    for instance in (plain, keyed(tmp_path)):
        open_instance_journal(instance).close()
        with closing(sqlite3.connect(instance.journal)) as connection:
            connection.execute("UPDATE events SET kind = 'x' WHERE seq = 1")
            connection.commit()
        with pytest.raises(JournalError, match="event 1 breaks the hash chain"):
            open_instance_journal(instance)


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
