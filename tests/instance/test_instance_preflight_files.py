"""What lies open beside keys and secrets, or is known to git, wherever the settings put them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, read_settings_files
from tbot_core.instance.preflight import PreflightSubject, ignore_file_findings, plaintext_findings, tracked_findings
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from pathlib import Path

ENV = """
BROKER_KEY_PATH=vault/broker.key
BROKER_CREDENTIALS_PATH=vault/broker.json.enc
SMTP_KEY_PATH={outside}/smtp.key
SMTP_CREDENTIALS_PATH={outside}/smtp.json.enc
ENV_BOT_PATH=conf/settings
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose settings put keys and secrets elsewhere, some of them outside of it."""
    home, outside = tmp_path / "home", tmp_path / "outside"
    for folder in (home / "vault", home / "storage/keys", home / "storage/secrets", home / "conf", outside):
        folder.mkdir(parents=True)
    (home / ".env").write_text(ENV.format(outside=outside))
    (home / "conf/settings").write_text("BROKER_NAME=PAPER\n")
    return home


def subject(home: Path) -> PreflightSubject:
    """The instance as it is now."""
    instance = Instance(home)
    return PreflightSubject(instance=instance, sources=read_settings_files(instance), now=SystemClock().now())


def plaintext(home: Path) -> list[tuple[str, str]]:
    """Level and message of what lies open."""
    return [(it.level, it.message) for it in plaintext_findings(subject(home)) if "conf/settings" not in it.message]


def tracked(home: Path) -> list[tuple[str, str]]:
    """Level and message of what git says."""
    return [(it.level, it.message) for it in tracked_findings(subject(home))]


def git(folder: Path, *args: str) -> None:
    """Run git in a folder."""
    subprocess.run(["git", "-C", str(folder), *args], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vault/broker.json", "{} is a plaintext file of secrets."),
        ("vault/broker.json.bak", "{} is a plaintext file of secrets."),
        ("storage/secrets/old.json~", "{} is a plaintext file of secrets."),
        ("storage/secrets/alert_channels.json.bak", "{} is a plaintext file of secrets."),
        ("smtp_credentials.json.old", "{} is a plaintext file of secrets."),
        ("../outside/smtp.json", "{} is a plaintext file of secrets."),
        ("vault/broker.key.bak", "{} is a copy of a key."),
        ("storage/keys/env.key~", "{} is a copy of a key."),
        ("../outside/smtp.key.old", "{} is a copy of a key."),
    ],
)
def test_what_lies_open_beside_keys_and_secrets_fails(home: Path, name: str, message: str) -> None:
    """Plaintext, and copies that an editor or a person made, at the paths of the settings too."""
    path = home / name
    path.write_text("{}")
    shown = path.resolve() if name.startswith("..") else name
    assert plaintext(home) == [("fail", message.format(shown))]


@pytest.mark.parametrize(
    "name",
    [
        "vault/broker.json.enc",
        "vault/broker.json.enc.bak",
        "vault/broker.prev.key",
        "vault/notes.json",
        "storage/secrets/network_config.json.enc",
        "../outside/other.json",
        "../outside/other.key.bak",
        "settings.json",
    ],
)
def test_what_is_encrypted_or_no_business_of_tbot_is_left_alone(home: Path, name: str) -> None:
    """In folders of the operator only the names of the settings count."""
    (home / name).write_text("{}")
    assert plaintext(home) == []


def test_what_a_killed_writer_left_is_warned_of(home: Path) -> None:
    """It is no copy that somebody made."""
    for name in ("storage/keys/.audit.key.new", "vault/.broker.prev.key.new"):
        (home / name).write_text("")
    assert sorted(plaintext(home)) == [
        ("warn", "storage/keys/.audit.key.new is left from a write that was interrupted."),
        ("warn", "vault/.broker.prev.key.new is left from a write that was interrupted."),
    ]


@pytest.mark.parametrize(
    "name",
    ["vault/broker.key", "vault/broker.prev.key", "vault/broker.json", "vault/broker.json.enc", "conf/settings",
     ".env", "deep/some.key.bak", "storage/secrets/x", "smtp_credentials.json.bak"],
)  # fmt: skip
def test_git_is_asked_about_the_paths_of_the_settings(home: Path, name: str) -> None:
    """Keys, secrets and plaintext settings are named; other files may be tracked."""
    for one in (name, "README.md", "vault/notes.txt"):
        (home / one).parent.mkdir(exist_ok=True)
        (home / one).touch()
    git(home, "init", "-q")
    git(home, "add", "-f", name, "README.md", "vault/notes.txt")
    assert tracked(home) == [("fail", f"git tracks {name}.")]


def test_a_folder_outside_of_the_instance_has_a_repository_of_its_own(home: Path) -> None:
    """A key there is found by its whole path."""
    outside = home.parent / "outside"
    (outside / "smtp.key").touch()
    git(outside, "init", "-q")
    git(outside, "add", "smtp.key")
    assert tracked(home) == [("fail", f"git tracks {outside / 'smtp.key'}.")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_repository_of_another_user_is_read(home: Path) -> None:
    """Git itself would refuse it as dubious."""
    (home / "vault/broker.key").touch()
    git(home, "init", "-q")
    git(home, "add", "-f", "vault/broker.key")
    os.chown(home, 12345, 12345)
    os.chown(home / ".git", 12345, 12345)
    assert tracked(home) == [("fail", "git tracks vault/broker.key.")]


def test_a_repository_that_git_cannot_read_is_warned_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence counts as no answer: neither of a broken repository, nor where there is no git."""
    (home / ".git").write_text("no repository\n")
    ((level, words),) = tracked(home)
    assert level == "warn"
    assert words.startswith(f"git does not say what it tracks in {home}: fatal: ")
    monkeypatch.setenv("PATH", str(home))
    ((level, words),) = tracked(home)
    assert (level, "Cannot start git" in words) == ("warn", True)


def test_the_ignore_files_follow_the_settings(home: Path) -> None:
    """They exclude the keys of a rotation, plaintext and copies too; git agrees."""
    paths = SecretPaths(Instance(home), DeploymentSettings())
    paths.write_ignore_files()
    (missing, _) = (it.message for it in ignore_file_findings(subject(home)))
    assert missing == ".gitignore does not exclude conf/settings*, vault/broker*.key*, vault/broker.json*."
    SecretPaths(Instance(home), subject_deployment(home)).write_ignore_files()
    assert list(ignore_file_findings(subject(home))) == []
    git(home, "init", "-q")
    for name in ("vault/broker.key", "vault/broker.next.key", "vault/broker.json", "conf/settings.enc"):
        git(home, "check-ignore", "-q", name)


def subject_deployment(home: Path) -> DeploymentSettings:
    """The paths of the settings."""
    from tbot_core.instance.sources import deployment_of

    return deployment_of(read_settings_files(Instance(home)).env.parsed)
