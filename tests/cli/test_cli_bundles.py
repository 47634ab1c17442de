"""`tbot secrets export`, `import`, `backup` and `restore`: what leaves comes back whole, nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tbot_core import cli
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance import Instance, secrets
from tbot_core.model.clock import ManualClock
from tbot_core.system import editor
from tbot_core.system.secret import Secret
from tbot_core.vault.audit_log import open_vault
from tbot_core.vault.bundle import BundleCipher
from tbot_core.vault.categories import EVERY
from tbot_core.vault.store import SecretStore

if TYPE_CHECKING:
    from tbot_core.vault.vault import Vault

CANARY = "canary-0c5f81aa"
PHRASE = "correct horse battery"
SMTP = {"host": "mail.example.com", "port": 465, "username": "me@example.com", "password": CANARY}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two paper instances, the first with a secret, which tests copy."""
    homes = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    for it in homes:
        assert cli.invoke(["init", "--paper", "--home", str(it)]) == 0
    given(homes[0], "smtp", SMTP)
    return homes


@pytest.fixture
def home(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A paper instance with a secret."""
    return Path(shutil.copytree(pair[0], tmp_path / "x"))


@pytest.fixture
def other(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """Another paper instance."""
    return Path(shutil.copytree(pair[1], tmp_path / "y"))


def run(home: Path, *args: str, code: int = 0, typed: str = f"{PHRASE}\n") -> str:
    """What `tbot secrets` says, on both streams; no word of it may be secret."""
    with CliRunner().isolation(typed) as streams:
        got = cli.invoke(["secrets", *args, "--home", str(home)])
        said = streams[0].getvalue().decode() + streams[1].getvalue().decode()
    assert got == code, said
    assert CANARY not in said
    assert PHRASE not in said
    return said


def given(home: Path, category: str, values: object) -> None:
    """Set values."""
    run(home, "set", category, "--from-json", "-", typed=json.dumps(values))


def vault(home: Path) -> Vault:
    """The instance's vault."""
    return secrets.open_instance_vault(Instance(home), DeploymentSettings())


def text_of(home: Path, category: str) -> bytes:
    """What a category holds."""
    with vault(home).read(category) as opened:
        return bytes(opened.view)


def backed_up(home: Path) -> Path:
    """A backup of the instance, in its own folder."""
    run(home, "backup")
    return max((home / "backups").glob("secrets-*.tbot"))


def files(home: Path) -> dict[str, bytes]:
    """Everything in a folder but its logs."""
    paths = (path for path in home.rglob("*") if path.is_file() and path.parent.name not in {"logs", "data"})
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_f104_an_instance_that_was_lost_comes_back_from_its_backup(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Backed up elsewhere, deleted, restored: the check has no failing row, the demo trades, and it is all audited."""
    said = run(home, "backup", "--to", str(tmp_path / "usb"))
    (file,) = (tmp_path / "usb").iterdir()
    assert str(file) in said
    assert file.stat().st_mode & 0o777 == 0o600
    before = {name: data for name, data in files(home).items() if name.startswith((".env", "storage"))}
    shutil.rmtree(home)
    said = run(home, "restore", str(file))
    assert "It holds env, env_bot, smtp, bot_identity." in said
    assert "`tbot check` passed: " in said
    assert {name: data for name, data in files(home).items() if name.startswith((".env", "storage"))} == before
    assert "storage/keys/" in (home / ".gitignore").read_text()
    assert cli.invoke(["check", "--home", str(home)]) == 0
    assert cli.invoke(["run", "--demo", "--sessions", "1", "--home", str(home), "--json"]) == 0
    capsys.readouterr()
    assert json.loads(text_of(home, "smtp")) == SMTP
    done = json.loads(run(home, "audit", "--verify", "--json"))["accesses"]
    assert [(it["action"], it["outcome"]) for it in done if it["category"] == EVERY] == [
        ("restore", "begun"),
        ("restore", "ok"),
    ]
    held = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert CANARY.encode() not in held
    assert PHRASE.encode() not in held


@pytest.mark.slow
def test_a_drill_restores_in_memory_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    """--verify checks what would come back; the instance is only named, and a damaged one is no obstacle."""
    file = backed_up(home)
    before = files(home)
    said = run(home, "restore", str(file), "--verify")
    assert "The backup opens." in said
    assert "It holds no journal" in said
    assert "`tbot check` passed: " in said
    assert "ignore" not in said
    assert "plugins" not in said
    assert files(home) == before
    assert '"action":"open","actor"' in (home / "data/audit.log").read_text()
    assert not list(editor.MEMORY.glob(f"tbot-{os.getpid()}-*"))
    listed = json.loads(run(home, "backup", "--list", "--json"))
    (one,) = listed["files"]
    assert (one["name"], one["passed"], one["size"]) == (file.name, True, file.stat().st_size)
    assert (listed["last_file"], listed["last"] >= one["made"]) == (file.name, True)
    assert f"{file.name}  tried {one['drilled'][:10]}" in run(home, "backup", "--list")
    found = json.loads(run(tmp_path / "nowhere", "restore", str(file), "--verify", "--json"))
    assert found["passed"]
    assert found["categories"] == ["env", "env_bot", "smtp", "bot_identity"]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.slow
def test_keys_that_were_lost_come_back_beside_what_is_left(home: Path) -> None:
    """Where logs and journals outlived the keys, a drill still passes, and the restored log goes on where it ended."""
    file = backed_up(home)
    kept = home.parent / file.name
    file.rename(kept)
    before = (home / "data/audit.log").read_bytes()
    shutil.rmtree(home / "storage")
    run(home, "restore", str(kept), "--verify")
    assert (home / "data/audit.log").read_bytes() == before
    run(home, "restore", str(kept))
    assert json.loads(text_of(home, "smtp")) == SMTP
    assert (home / "data/audit.log").read_bytes().startswith(before)
    assert "The chain of" in run(home, "audit", "--verify")


@pytest.mark.slow
def test_a_drill_says_what_would_be_wrong(home: Path) -> None:
    """A backup of content that its category refuses opens, and the check on it fails, with exit 3."""
    vault(home).write("smtp", b'{"password": ""}')
    said = run(home, "restore", str(backed_up(home)), "--verify", code=3)
    assert "`tbot check` failed: " in said
    assert ", failed" in run(home, "backup", "--list")
    assert "smtp" in said


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [True, False])
def test_a_drill_touches_nothing_outside(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """Keys and files that lie outside of the instance, and the key that the environment names, stay as they are."""
    outside = tmp_path / "keys"
    outside.mkdir(mode=0o700)
    for name in ("env_enc", "smtp"):
        (home / f"storage/keys/{name}.key").rename(outside / f"{name}.key")
    named = str(outside / "env_enc.key")
    monkeypatch.setenv("TBOT_ENV_ENC_KEY_PATH", named)
    paths = {"SMTP_KEY_PATH": str(outside / "smtp.key"), "ENV_ENC_KEY_PATH": named}
    given(home, "env", paths)
    if not sealed:
        (home / ".env").write_bytes(text_of(home, "env"))
        (home / ".env.enc").unlink()
    file = backed_up(home)
    before = files(outside)
    for name in before:
        (outside / name).write_bytes(b"x")
    run(tmp_path / "nowhere", "restore", str(file), "--verify")
    assert files(outside) == dict.fromkeys(before, b"x")
    shutil.rmtree(outside)
    run(tmp_path / "nowhere", "restore", str(file), "--verify")
    assert not outside.exists()
    run(tmp_path / "y", "restore", str(file))
    assert files(outside) == before


@pytest.mark.slow
def test_nothing_that_stands_is_overwritten_by_a_restore(home: Path, other: Path) -> None:
    """Another instance is refused with every file named and is left as it was; the same one may be restored again."""
    file = backed_up(home)
    before = files(other)
    said = run(other, "restore", str(file), code=3)
    assert "TB-SEC-111" in said
    assert "storage/keys/env.key" in said
    assert ".env_bot.enc" in said
    assert files(other) == before
    (home / "storage/keys/smtp.key").unlink()
    run(home, "restore", str(file))
    assert json.loads(text_of(home, "smtp")) == SMTP


@pytest.mark.slow
def test_the_age_of_the_last_backup_is_a_row_of_the_check(home: Path) -> None:
    """None and an old one are warned of with the command that fixes it; the log of accesses shows it."""

    def row() -> dict[str, Any]:
        with CliRunner().isolation() as streams:
            cli.invoke(["check", "--json", "--home", str(home)])
            (found,) = (it for it in json.loads(streams[0].getvalue())["rows"] if it["subject"] == "backup")
        assert isinstance(found, dict)
        return found

    def noted(outcome: str) -> None:
        clock = ManualClock(datetime(2026, 1, 5, 12, tzinfo=UTC))
        store = SecretStore(instance=Instance(home), deployment=DeploymentSettings(), clock=clock, strict=False)
        open_vault(store, "somebody").note("backup", EVERY, outcome)

    assert run(home, "backup", "--list") == "No backup was written yet.\n"
    noted("begun")
    assert (row()["level"], row()["message"]) == ("warn", "The secrets have no backup.")
    assert "tbot secrets backup" in row()["remedy"]
    noted("ok")
    found = row()
    assert found["level"] == "warn"
    assert "days old" in found["message"]
    assert f"not in {home / 'backups'}" in run(home, "backup", "--list")
    assert "tbot secrets backup" in found["remedy"]
    backed_up(home)
    assert (row()["level"], row()["message"]) == ("ok", "The last backup of the secrets is 0 days old.")


@pytest.mark.slow
def test_a_backup_lets_old_keys_go(home: Path) -> None:
    """What was rotated before a backup loses its previous key when KEEP_PREV_DAYS are over, and not before both."""
    prev = {name: home / f"storage/keys/{name}.prev.key" for name in ("smtp", "login")}
    run(home, "rotate", "login")
    assert "dropped" not in run(home, "backup")
    assert prev["login"].exists()
    given(home, "env", {"KEEP_PREV_DAYS": 0})
    said = run(home, "rotate", "smtp")
    assert "login: the key from before the rotation is deleted." in said
    assert "smtp: the key from before the rotation is deleted" not in said
    assert (prev["login"].exists(), prev["smtp"].exists()) == (False, True)
    for file in (home / "backups").iterdir():
        file.unlink()
    assert "smtp: the key from before the rotation is deleted" in run(home, "backup")
    assert not prev["smtp"].exists()
    assert json.loads(text_of(home, "smtp")) == SMTP
    done = json.loads(run(home, "audit", "--verify", "--json"))["accesses"]
    assert [it["category"] for it in done if (it["action"], it["outcome"]) == ("retire", "ok")] == ["login", "smtp"]


@pytest.mark.slow
def test_an_export_is_taken_over_under_the_keys_of_another_instance(home: Path, other: Path, tmp_path: Path) -> None:
    """Chosen categories or all; names and key ids are shown, values never; and both sides are audited."""
    said = run(home, "export", "smtp", "--out", str(tmp_path / "one.tbot"))
    assert "holds smtp." in said
    before = files(other)
    said = run(other, "import", str(tmp_path / "one.tbot"), "--dry-run")
    key = vault(other).store.key("smtp")
    assert key is not None
    assert key.name in said
    assert "host, password, port, username" in said
    assert files(other) == before
    (change,) = json.loads(run(other, "import", str(tmp_path / "one.tbot"), "--json"))["changes"]
    assert (change["category"], change["state"], change["key_id"]) == ("smtp", "new", key.name)
    assert json.loads(text_of(other, "smtp")) == SMTP
    with vault(other).store.load("smtp") as opened:
        assert opened.key_id == key.name
    assert "smtp          same" in run(other, "import", str(tmp_path / "one.tbot"))
    done = json.loads(run(home, "audit", "--verify", "--json"))["accesses"]
    assert ("export", "smtp", "ok") in {(it["action"], it["category"], it["outcome"]) for it in done}
    assert "env, env_bot, smtp, bot_identity" in run(home, "export", "--out", str(tmp_path / "all.tbot"))
    run(tmp_path / "z", "import", str(tmp_path / "all.tbot"))
    assert text_of(tmp_path / "z", "env_bot") == text_of(home, "env_bot")


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_an_import_overwrites_only_with_the_option(home: Path, tmp_path: Path) -> None:
    """What differs is refused whole, with its name; --replace overwrites it, also where it is damaged."""
    file = tmp_path / "one.tbot"
    run(home, "export", "--out", str(file))
    given(home, "smtp", {"host": "other.example.com", "user": "me@example.com"})
    before = files(home)
    said = run(home, "import", str(file), code=2)
    assert "The import would overwrite smtp." in said
    assert "smtp          differs" in run(home, "import", str(file), "--dry-run")
    assert "  host" in run(home, "import", str(file), "--dry-run")
    assert files(home) == before
    run(home, "import", str(file), "--replace")
    assert json.loads(text_of(home, "smtp")) == SMTP
    sealed = home / "storage/secrets/smtp_credentials.json.enc"
    sealed.write_bytes(sealed.read_bytes()[:-9] + b"AAAAAAAA\n")
    run(home, "import", str(file), code=2)
    run(home, "import", str(file), "--replace")
    assert json.loads(text_of(home, "smtp")) == SMTP


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_an_import_is_judged_before_anything_is_written(home: Path, other: Path, tmp_path: Path) -> None:
    """Content that its category refuses, settings that do not hold together, and settings left in the clear."""
    before = files(other)
    for category, text, sentence in (
        ("smtp", b'{"password": ""}', "smtp"),
        ("env_bot", b"SEED=none\n", "SEED"),
        ("bot_identity", b'{"BOT_IDENTITY_STRING": "acme"}', "bot_identity"),
    ):
        held = text_of(home, category)
        vault(home).write(category, text)
        file = tmp_path / f"{category}.tbot"
        run(home, "export", category, "--out", str(file))
        vault(home).write(category, held)
        assert sentence in run(other, "import", str(file), "--replace", code=3)
        assert files(other) == before
    (other / ".env_bot.enc").rename(tmp_path / "kept")
    (other / ".env_bot").write_bytes(text_of(home, "env_bot"))
    run(home, "export", "--out", str(tmp_path / "all.tbot"))
    said = run(other, "import", str(tmp_path / "all.tbot"), "--replace", code=2)
    assert ".env_bot in plaintext would lie beside" in said
    assert not (other / ".env_bot.enc").exists()


@pytest.mark.slow
def test_a_bundle_opens_with_its_passphrase_and_for_its_purpose(home: Path, tmp_path: Path) -> None:
    """Another passphrase, the other kind, a changed and a foreign file: refused with a code, and nothing is made."""
    file, out = backed_up(home), tmp_path / "one.tbot"
    run(home, "export", "--out", str(out))
    empty = tmp_path / "empty"
    assert "TB-SEC-107" in run(empty, "restore", str(file), typed="another horse\n", code=3)
    assert "TB-SEC-106" in run(empty, "restore", str(out), code=3)
    assert "TB-SEC-106" in run(empty, "import", str(file), code=3)
    assert "TB-SEC-100" in run(empty, "import", str(home / ".env.enc"), code=3)
    for bundle, deed in ((out, "import"), (file, "restore")):
        bundle.write_bytes(bundle.read_bytes()[:-9] + b"AAAAAAAA\n")
        assert "TB-SEC-10" in run(empty, deed, str(bundle), code=3)
    assert not empty.exists()


@pytest.mark.slow
def test_an_export_of_a_later_tbot_is_refused_whole(home: Path, tmp_path: Path) -> None:
    """A category that is not known is named; those beside it are not taken over either."""
    file, before = tmp_path / "later.tbot", files(home)
    BundleCipher(kind="export", passphrase=Secret(PHRASE)).write(file, {"smtp": b"{}", "telex": b"{}"})
    said = run(home, "import", str(file), "--replace", code=3)
    assert "TB-SEC-109" in said
    assert "contains telex" in said
    assert files(home) == before


def test_no_backup_takes_the_name_of_another(home: Path, tmp_path: Path) -> None:
    """Where one of the same second stands already, as of another instance, it stays."""
    moment = datetime.now(UTC)
    for seconds in range(60):
        name = f"secrets-{moment + timedelta(seconds=seconds):%Y%m%dT%H%M%SZ}.tbot"
        (tmp_path / name).write_bytes(b"kept")
    assert "exists already" in run(home, "backup", "--to", str(tmp_path), code=2)
    assert all(path.read_bytes() == b"kept" for path in tmp_path.glob("*.tbot"))


def test_a_bundle_is_never_closed_carelessly(home: Path, tmp_path: Path) -> None:
    """A short passphrase, a file that is there, a folder that is not, nothing to take along: all refused."""
    out = tmp_path / "one.tbot"
    assert "TB-SEC-110" in run(home, "export", "--out", str(out), typed="too short\n", code=3)
    assert "TB-SEC-110" in run(home, "backup", typed="too short\n", code=3)
    assert "the input was empty" in run(home, "export", "--out", str(out), typed="", code=1)
    assert not out.exists()
    assert not list((home / "backups").iterdir())
    out.write_bytes(b"kept")
    assert "exists already" in run(home, "export", "--out", str(out), code=2)
    assert out.read_bytes() == b"kept"
    run(home, "export", "--out", str(tmp_path / "none" / "one.tbot"), code=1)
    assert "TB-SEC-051 broker" in run(home, "export", "broker", "--out", str(tmp_path / "b.tbot"), code=3)
    bare = tmp_path / "bare"
    bare.mkdir()
    assert "Nothing to export" in run(bare, "export", "--out", str(tmp_path / "b.tbot"), code=2)
    for words in ((), ("--list",), ("--list", "--json")):
        assert "is not an instance" in run(bare, "backup", *words, code=3)
    assert not list(bare.iterdir())
    assert not (tmp_path / "b.tbot").exists()


def test_a_bundle_that_cannot_be_read_is_named(home: Path, tmp_path: Path) -> None:
    """Not there, a folder, a pipe, far too long: one sentence each, at once."""
    pipe, long = tmp_path / "pipe", tmp_path / "long"
    os.mkfifo(pipe)
    with long.open("wb") as file:
        file.truncate(100_000_000)
    for path, sentence, code in (
        (tmp_path / "none", "No such file", 1),
        (tmp_path, "a folder", 1),
        (pipe, "it is a pipe", 1),
        (long, "TB-SEC-101", 3),
    ):
        assert sentence.lower() in run(home, "import", str(path), code=code).lower()
        assert sentence.lower() in run(home, "restore", str(path), "--verify", code=code).lower()
    assert "no such file" in run(home, "restore", str(tmp_path / "none"), code=1, typed="").lower()


@pytest.mark.slow
def test_the_passphrase_comes_from_a_file_as_well(home: Path, tmp_path: Path) -> None:
    """Its first line, with the line end of any system."""
    (tmp_path / "phrase").write_bytes(f"{PHRASE}\r\nnot this\n".encode())
    run(home, "backup", "--passphrase-file", str(tmp_path / "phrase"), typed="")
    (file,) = (home / "backups").iterdir()
    run(tmp_path / "y", "restore", str(file), "--passphrase-file", "-")
    assert json.loads(text_of(tmp_path / "y", "smtp")) == SMTP


def test_a_passphrase_or_document_that_is_none_is_refused_at_once(home: Path, tmp_path: Path) -> None:
    """Empty, no text, or without an end: one sentence, exit 2, and nothing is written."""
    before = files(home)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    for path in ("/dev/zero", "/dev/null", str(tmp_path / "bytes")):
        said = run(home, "backup", "--passphrase-file", path, code=2)
        assert "must be text of 1 to 1024 characters" in said
    (tmp_path / "deep").write_text("[" * 100_000)
    for path, sentence in (
        ("/dev/zero", "more than 16,777,216 characters"),
        (str(tmp_path / "bytes"), "not UTF-8 text"),
        (str(tmp_path / "deep"), "it is nested deeper than 100"),
    ):
        assert sentence in run(home, "set", "smtp", "--from-json", path, code=2)
        with CliRunner().isolation() as streams:
            assert cli.invoke(["init", "--from-json", path, "--home", str(tmp_path / "z")]) == 2
            assert sentence in streams[1].getvalue().decode()
    assert files(home) == before
    assert not (tmp_path / "z").exists()
