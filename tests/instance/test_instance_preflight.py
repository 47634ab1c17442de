"""What is checked of an instance before anything is connected: one finding for each thing that is right or wrong."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, read_settings_files, secrets
from tbot_core.instance.journal_chain import open_instance_journal
from tbot_core.instance.preflight import BACKUP_DAYS, PreflightFinding, PreflightSubject, preflight_findings
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.lock import PluginLock, write_lock
from tbot_core.vault.categories import EVERY

if TYPE_CHECKING:
    from pathlib import Path

TIME = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
BOT = "STRATEGY_SEQUENCE=open\nBROKER_NAME=PAPER\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose settings are encrypted."""
    sealed(tmp_path, "env", "EXTENSIONS=none\n")
    sealed(tmp_path, "env_bot", BOT)
    return tmp_path


def sealed(home: Path, category: str, text: str) -> None:
    """Encrypt a category's file."""
    vault = secrets.open_instance_vault(Instance(home), DeploymentSettings())
    secrets.encrypt_category(vault, category, text.encode())


def subject(home: Path) -> PreflightSubject:
    """The instance as it is now."""
    return PreflightSubject(
        instance=Instance(home), sources=read_settings_files(Instance(home)), now=SystemClock().now()
    )


def found(checked: PreflightSubject, about: str) -> list[tuple[str, str]]:
    """Level and message of each finding about something."""
    return [(one.level, one.message) for one in preflight_findings(checked) if one.subject == about]


def test_a_sealed_instance_has_nothing_that_fails(home: Path) -> None:
    """Each encrypted file is named with its format and its key, and the machine does."""
    checked = subject(home)
    findings = preflight_findings(checked)
    assert [one for one in findings if one.level == "fail"] == []
    assert [level for level, _ in found(checked, "secrets")] == ["ok", "ok"]
    assert found(checked, "machine")[0][1].startswith("SQLite is ")
    assert found(checked, "journal") == [("ok", "Nothing has been traded here yet.")]


def test_a_finding_is_a_sentence_with_its_remedy() -> None:
    """For machines it is an object; the exit code is no part of it."""
    one = PreflightFinding(level="warn", subject="files", message="It is open.", remedy="Close it.")
    assert str(one) == "It is open. Close it."
    assert str(attrs.evolve(one, remedy="")) == "It is open."
    assert one.document == {"level": "warn", "subject": "files", "message": "It is open.", "remedy": "Close it."}


def test_a_new_folder_is_warned_of(tmp_path: Path) -> None:
    """Plaintext settings, no ignore files, no identity, no approved plugin: none of it fails."""
    (tmp_path / ".env_bot").write_text(BOT)
    checked = subject(tmp_path)
    words = " ".join(one.message for one in preflight_findings(checked) if one.level == "warn")
    for part in (
        ".env_bot is plaintext",
        ".gitignore does not exclude",
        "has no identity",
        "no plugin is",
    ):
        assert part in words
    assert found(checked, "audit") == [("ok", "No secret has been opened here yet.")]
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("name", ["", "data", "logs", "reports", "control", "data/tbot.sqlite", "data/audit.log"])
def test_what_others_may_write_to_is_refused_live_and_warned_of_otherwise(home: Path, name: str) -> None:
    """The instance, its control folder, those of its records, its journal and audit log, with what closes it."""
    SecretPaths(Instance(home), DeploymentSettings()).write_ignore_files()
    (home / "logs").mkdir()
    (home / "reports").mkdir()
    (home / "control").mkdir(exist_ok=True)
    written(Instance(home).journal)
    (home / "data" / "audit.log").touch()
    assert found(subject(home), "files") == []
    path = home / name
    path.chmod(path.stat().st_mode | 0o020)
    assert found(subject(home), "files")[0] == ("warn", f"Other users may write to {path}.")
    strict = attrs.evolve(subject(home), strict=True)
    row = next(one for one in preflight_findings(strict) if one.subject == "files")
    assert (row.level, row.remedy) == ("fail", f"chmod go-w {path}")


@pytest.mark.parametrize("name", [".env", ".env_bot"])
def test_plaintext_that_others_may_write_to_is_warned_of(tmp_path: Path, name: str) -> None:
    """Who may write it decides what is traded."""
    (tmp_path / ".env_bot").write_text(BOT)
    (tmp_path / ".env").write_text("")
    (tmp_path / name).chmod(0o664)
    assert ("warn", f"Other users may write to {tmp_path / name}.") in found(subject(tmp_path), "files")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".env_bot", "The plaintext .env_bot is stored beside .env_bot.enc."),
        ("storage/secrets/smtp.json", "storage/secrets/smtp.json is a plaintext file of secrets."),
        ("broker_credentials.json", "broker_credentials.json is a plaintext file of secrets."),
    ],
)
def test_plaintext_beside_encrypted_files_fails(home: Path, name: str, message: str) -> None:
    """It is named by its path in the instance."""
    (home / "storage/secrets").mkdir(exist_ok=True)
    (home / name).write_text("{}")
    assert ("fail", message) in found(subject(home), "files")


def test_what_keeps_secrets_out_of_copies_is_looked_for(home: Path) -> None:
    """An ignore file that excludes everything is as good as one that names each path."""
    SecretPaths(Instance(home), DeploymentSettings()).write_ignore_files()
    assert found(subject(home), "files") == []
    (home / ".gitignore").write_text("*\n")
    assert found(subject(home), "files") == []
    (home / ".gitignore").write_text("storage/keys/\n")
    assert "storage/keys/" not in found(subject(home), "files")[0][1]


def test_a_key_in_a_repository_fails(home: Path) -> None:
    """One in the index is named; in a repository that tracks none nothing is said."""
    SecretPaths(Instance(home), DeploymentSettings()).write_ignore_files()
    subprocess.run(["git", "-C", str(home), "init", "-q"], check=True)
    assert found(subject(home), "files") == []
    subprocess.run(["git", "-C", str(home), "add", "-f", "storage/keys/env.key"], check=True)
    assert found(subject(home), "files") == [("fail", "git tracks storage/keys/env.key.")]


def test_open_files_are_refused_live_and_warned_of_otherwise(home: Path) -> None:
    """So is a key that two categories share, where the operator allows that."""
    (home / "storage/keys/env.key").chmod(0o644)
    assert [level for level, words in found(subject(home), "secrets") if "TB-SEC-029" in words] == ["warn"]
    strict = attrs.evolve(subject(home), strict=True)
    assert [level for level, words in found(strict, "secrets") if "TB-SEC-029" in words] == ["fail"]


def test_open_files_of_several_categories_are_one_finding(home: Path) -> None:
    """With every category and path, so that one command closes them."""
    for path in sorted((home / "storage/keys").iterdir()):
        path.chmod(0o644)
    (one,) = [one for one in preflight_findings(subject(home)) if "TB-SEC-029" in one.message]
    assert one.message.endswith(": other users may read or write their key files.")
    assert one.message.startswith("TB-SEC-029 ")
    assert one.remedy.startswith("chmod 600 storage/keys/")
    assert "storage/keys/env.key" in one.remedy.split()


def test_a_shared_key_is_for_the_operator_to_allow(home: Path) -> None:
    """Two categories with one key fail, or are warned of where that was asked for."""
    sealed(home, "smtp", "{}")
    (home / "storage/keys/smtp.key").write_bytes((home / "storage/keys/env.key").read_bytes())
    levels = [
        [level for level, words in found(attrs.evolve(subject(home), allow_shared_key=allowed), "secrets")
         if "TB-SEC-038" in words]
        for allowed in (False, True)
    ]  # fmt: skip
    assert levels == [["fail"], ["warn"]]


def test_a_check_that_cannot_be_made_is_a_finding(home: Path) -> None:
    """What is wrong with one file keeps no other from being checked."""
    sealed(home, "bot_identity", '{"BOT_IDENTITY_STRING": "nobody"}')
    ((level, words),) = found(subject(home), "identity")
    assert (level, "BOT_IDENTITY_STRING" in words) == ("fail", True)
    sealed(home, "bot_identity", '{"BOT_IDENTITY_STRING": "ACME_US_PAPER_B01"}')
    assert found(subject(home), "identity") == [("ok", "The bot is ACME_US_PAPER_B01.")]


def test_an_identity_of_another_broker_is_warned_of(home: Path) -> None:
    """Its part for the broker is compared with the letters of BROKER_NAME in capitals; both are named."""
    sealed(home, "bot_identity", '{"BOT_IDENTITY_STRING": "ACME_US_ALPACA_B01"}')
    ((level, words),) = found(subject(home), "identity")
    assert level == "warn"
    assert words == "The bot is ACME_US_ALPACA_B01: its part for the broker is ALPACA, BROKER_NAME is PAPER."


def test_the_network_configuration_is_judged(home: Path) -> None:
    """Where there is none, or a page for this machine alone, nothing is said."""
    assert found(subject(home), "network") == []
    sealed(home, "network", '{"host": "127.0.0.1"}')
    assert found(subject(home), "network") == []
    sealed(home, "network", '{"host": "0.0.0.0"}')
    ((level, _),) = found(subject(home), "network")
    assert level == "fail"


def test_plugins_match_the_lock(tmp_path: Path) -> None:
    """Without a lock none is approved; where nothing is enabled an empty one is enough."""
    assert found(subject(tmp_path), "plugins")[0][0] == "warn"
    write_lock(tmp_path, PluginLock())
    assert found(subject(tmp_path), "plugins") == [("ok", "Every enabled plugin matches plugins.lock.")]


def test_a_clock_that_is_behind_the_audit_log_fails(home: Path) -> None:
    """By more than a minute: a certificate and an arming would be judged by a wrong time."""
    assert found(subject(home), "audit")[0][1].startswith("The audit log is intact: ")
    checked = subject(home)
    behind = attrs.evolve(checked, now=checked.now - dt.timedelta(hours=1))
    (words,) = [words for level, words in found(behind, "machine") if level == "fail"]
    assert "but the audit log has a line of" in words


def test_an_audit_log_that_is_younger_than_the_files_is_warned_of(home: Path) -> None:
    """By more than a day: a log that was removed begins anew with the next access."""
    key = home / "storage/keys/env.key"
    hours = dt.timedelta(hours=1).total_seconds()
    os.utime(key, (key.stat().st_mtime - 23 * hours,) * 2)
    assert [level for level, _ in found(subject(home), "audit")] == ["ok"]
    for name in ("storage/keys/audit.key", "data/audit.log", "data/audit.anchors"):
        (home / name).unlink()
    os.utime(key, (key.stat().st_mtime - 2 * hours,) * 2)
    (young, intact) = found(subject(home), "audit")
    assert (young[0], intact[0]) == ("warn", "ok")
    assert young[1].startswith("The audit log begins only on ")


def test_an_audit_log_that_is_missing_is_warned_of(tmp_path: Path) -> None:
    """Where there are keys; without any there is nothing to log."""
    (tmp_path / ".env_bot").write_text(BOT)
    assert found(subject(tmp_path), "audit") == [("ok", "No secret has been opened here yet.")]
    (tmp_path / "storage/keys").mkdir(parents=True)
    (tmp_path / "storage/keys/smtp.key").write_text("")
    (missing, _) = found(subject(tmp_path), "audit")
    assert missing[0] == "warn"
    assert missing[1].startswith("The audit log is missing, but there are keys and secrets since ")


def written(path: Path, *, damaged: bool = False) -> None:
    """A journal of one event."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_journal(path)) as journal:
        journal.append([NewEvent(kind=records.RISK, payload={}, time=TIME)])
    if damaged:
        for suffix in ("-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
        path.write_bytes(b"no database" * 100)


def test_the_journal_has_to_be_whole(home: Path) -> None:
    """A damaged one fails with exit code 1, since nothing is traded on it."""
    with closing(open_instance_journal(Instance(home))) as journal:
        journal.append([NewEvent(kind=records.RISK, payload={}, time=TIME)])
    assert found(subject(home), "journal") == [("ok", "The journal is intact: 1 events.")]
    for path in Instance(home).data.glob("tbot.sqlite-*"):
        path.unlink()
    Instance(home).journal.write_bytes(b"no database" * 100)
    (broken,) = [one for one in preflight_findings(subject(home)) if one.subject == "journal"]
    assert (broken.level, broken.exit_code) == ("fail", 1)


def test_a_damaged_journal_of_a_simulation_is_warned_of(home: Path) -> None:
    """It does not block trading; those that are whole are counted, and other files are none."""
    runs = Instance(home).runs
    written(runs / "a.sqlite")
    (runs / "a.html").write_text("")
    assert found(subject(home), "journal") == [("ok", "1 journal of simulated runs verified.")]
    written(runs / "b.sqlite", damaged=True)
    assert [level for level, _ in found(subject(home), "journal")] == ["warn", "ok"]
    (runs / "a.sqlite").unlink()
    assert [level for level, _ in found(subject(home), "journal")] == ["warn"]


def test_the_operators_splits_are_read(home: Path) -> None:
    """Their number and the last one; a list that cannot be read fails, and none at all is as well."""
    assert found(subject(home), "splits") == []
    path = Instance(home).data / "splits.csv"
    path.write_text("date,symbol,before,after\n2026-03-02,ACME,1,2\n")
    path.chmod(0o600)
    ((level, words),) = found(subject(home), "splits")
    assert (level, words.endswith("the last of ACME on 2026-03-02.")) == ("ok", True)
    path.write_text("nonsense\n")
    assert [level for level, _ in found(subject(home), "splits")] == ["fail"]


def test_the_operators_index_funds_are_read(home: Path) -> None:
    """Their number; a table that cannot be read fails, and none at all is as well."""
    assert found(subject(home), "index funds") == []
    path = Instance(home).table("index_funds.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("index,symbol,leverage\nS&P 500,SH,-1\n")
    path.chmod(0o600)
    assert found(subject(home), "index funds") == [("ok", f"1 fund of 1 index in {path}.")]
    path.write_text("nonsense\n")
    assert [level for level, _ in found(subject(home), "index funds")] == ["fail"]


def test_an_old_backup_is_warned_of(home: Path) -> None:
    """One of today is not."""
    sealed(home, "smtp", '{"host": "mail.example.com", "port": 465}')
    assert found(subject(home), "backup") == [("warn", "The secrets have no backup.")]
    secrets.open_instance_vault(Instance(home), DeploymentSettings()).note("backup", EVERY, "ok")
    checked = subject(home)
    assert found(checked, "backup") == [("ok", "The last backup of the secrets is 0 days old.")]
    later = attrs.evolve(checked, now=checked.now + dt.timedelta(days=BACKUP_DAYS + 2))
    assert found(later, "backup")[0][0] == "warn"


@pytest.mark.parametrize(("events", "damaged", "level"), [(0, False, "ok"), (1, False, "warn"), (1, True, "warn")])
def test_a_backup_is_missed_once_there_is_something_to_lose(home: Path, events: int, damaged: bool, level: str) -> None:
    """Without credentials and events no backup is no warning; with a journal it is, also if that cannot be read."""
    assert found(subject(home), "backup")[0][0] == "ok"
    if events:
        written(Instance(home).journal, damaged=damaged)
    else:
        open_instance_journal(Instance(home)).close()
    assert [one for one, _ in found(subject(home), "backup")] == [level]


def test_a_folder_that_cannot_be_written_to_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in its place and a folder of another user are named, with exit code 1; a missing one is made later."""
    assert ("ok", "Every folder that a run needs can be written to.") in found(subject(home), "folders")
    (home / "logs").write_text("")
    (home / "reports").mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != home / "reports" and access(path, mode))
    failed = [one for one in preflight_findings(subject(home)) if one.message.endswith("cannot be written to.")]
    assert [(one.level, one.message, one.exit_code) for one in failed] == [
        ("fail", f"{home / 'logs'} cannot be written to.", 1),
        ("fail", f"{home / 'reports'} cannot be written to.", 1),
    ]
