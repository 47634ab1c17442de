"""Backups: everything is in them and opens, everything comes back from them, and nothing that stands is lost."""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.errors import AccessError, VaultError
from tbot_core.instance.folder import Instance
from tbot_core.system.secret import Secret
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import bundle, keys, rotation
from tbot_core.vault.bundle import BundleCipher, pack_parts
from tbot_core.vault.categories import AUDIT
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode
from tbot_core.vault.key_providers import HEADER_PATH, PassphraseKeyProvider

if TYPE_CHECKING:
    from pathlib import Path

TEXT = {"env": b"SEED=1\n", "smtp": b'{"user": "me"}'}


def quick(secret: Secret, salt: bytes) -> SecureBuffer:
    """In place of argon2id: what it takes its time for is tested with bundles."""
    return SecureBuffer.of([keys.key_id(secret.inspect_bytes() + salt) * 4])


SEAL = BundleCipher(kind="backup", passphrase=Secret("correct horse battery"), stretch=quick)


def code_of(deed: Any) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    assert re.match(r"TB-SEC-\d{3} (every category|audit|env|smtp): \S", refused.value.message)
    assert refused.value.remedy
    return CODE_BY_TEXT[refused.value.code]


@pytest.fixture
def filled(bench: Any) -> Any:
    """An instance with a rotated category, one whose key has no file yet, and a plaintext trading configuration."""
    vault = bench.vault()
    for category in (AUDIT, "env", "smtp", "login"):
        vault.make_key(category)
    for category, text in TEXT.items():
        vault.write(category, text)
    rotation.rotate_categories(vault, ("smtp",))
    bench.path(".env_bot").write_bytes(b"STRATEGY_SEQUENCE=open\n")
    bench.quiet()
    return bench


def made(bench: Any, **more: Any) -> Path:
    """A backup of the instance."""
    path: Path = bench.path("backup.tbot")
    bundle.write_backup(bench.vault(**more), path, SEAL)
    return path


def beside(bench: Any, name: str = "other") -> Any:
    """The bench of another instance."""
    home = bench.path(name)
    home.mkdir(exist_ok=True)
    made = type(bench)
    return made(instance=Instance.at(home), disk=type(bench.disk)(), notes=type(bench.notes)(), clock=bench.clock)


def restored(bench: Any, path: Path, name: str = "other", **more: Any) -> Any:
    """The bench of another instance, into which the backup was put."""
    other = beside(bench, name)
    with bundle.backup_of(SEAL.read(path), path.name) as found:
        bundle.restore_backup(other.vault(**more), found)
    return other


def content(home: Path) -> dict[str, bytes]:
    """Every file of keys, secrets and settings."""
    paths = [*home.glob("storage/*/*"), *home.glob(".env*")]
    return {str(path.relative_to(home)): path.read_bytes() for path in paths}


def test_everything_comes_back(filled: Any) -> None:
    """Keys of each slot, encrypted files to the byte and plaintext settings, for their owner alone, all named."""
    path = made(filled)
    assert path.stat().st_mode & 0o777 == 0o600
    assert filled.notes.words == [
        ("backup", "every category", "begun"),
        ("export", "audit", "ok"),
        ("export", "env", "ok"),
        ("export", "env_bot", "ok"),
        ("export", "login", "ok"),
        ("export", "smtp", "ok"),
        ("backup", "every category", "ok"),
    ]
    named = {it.category: it.key_id for it in filled.notes.said}
    assert named["smtp"] == filled.store().load("smtp").key_id
    assert named["env_bot"] == ""
    other = restored(filled, path)
    assert content(other.instance.home) == content(filled.instance.home)
    assert "storage/keys/smtp.prev.key" in content(other.instance.home)
    for file in content(other.instance.home):
        assert other.path(file).stat().st_mode & 0o777 == 0o600
    assert other.path("storage/keys").stat().st_mode & 0o777 == 0o700
    for category, text in TEXT.items():
        with other.vault().read(category) as opened:
            assert bytes(opened.view) == text
    assert other.notes.words[:4] == [
        ("restore", "every category", "begun"),
        ("write", "env", "ok"),
        ("write", "smtp", "ok"),
        ("restore", "every category", "ok"),
    ]


def test_nothing_of_a_backup_is_in_the_clear(filled: Any) -> None:
    """Neither keys nor tokens nor plaintext settings, in no spelling."""
    data = made(filled).read_bytes()
    held = content(filled.instance.home)
    assert held
    for one in held.values():
        assert one.strip() not in data


def test_the_settings_of_a_backup_are_read_before_it_is_put_anywhere(filled: Any) -> None:
    """They say where the rest belongs; encrypted, in the clear, or not there at all."""
    here = filled.store().place("env")
    for expected in (TEXT["env"], b"SEED=2\n", b""):
        if expected != TEXT["env"]:
            filled.path(".env.enc").unlink(missing_ok=True)
            filled.path(".env").write_bytes(expected) if expected else filled.path(".env").unlink()
        path = made(filled)
        with bundle.backup_of(SEAL.read(path), "x") as found:
            assert bundle.backup_settings(found, here) == expected


def test_a_backup_that_would_not_open_is_not_written(filled: Any) -> None:
    """A damaged file, or one whose key is lost, is named, and the earlier backup stays."""
    path = made(filled)
    before = path.read_bytes()
    file = filled.path("storage/secrets/smtp_credentials.json.enc")
    kept = file.read_bytes()
    file.write_bytes(kept[:-9] + b"AAAAAAAA\n")
    assert code_of(lambda: made(filled)) is VaultErrorCode.TOKEN_TAG
    assert filled.notes.words[-1] == ("deny", "every category", "TB-SEC-011")
    file.write_bytes(kept)
    for slot in (".", ".prev."):
        filled.path(f"storage/keys/smtp{slot}key").unlink()
    assert code_of(lambda: made(filled)) is VaultErrorCode.TOKEN_KEY_ID
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_leaves_the_earlier_backup(filled: Any, number: int) -> None:
    """At whichever call it fails: a typed error, in the log, no leftover, and what was there before."""
    before = made(filled).read_bytes()
    count = len(filled.disk.calls)
    assert count > 15
    for position in range(count):
        filled.quiet()
        filled.disk.fails_at, filled.disk.fault = position, OSError(number, os.strerror(number))
        with pytest.raises((VaultError, AccessError)) as refused:
            made(filled)
        outcome = refused.value.code if isinstance(refused.value, VaultError) else "failed"
        assert filled.notes.words[-1] == ("deny", "every category", outcome)
        filled.quiet()
        found = filled.path("backup.tbot").read_bytes()
        assert found == before or position == count - 1
        assert not list(filled.instance.home.glob(".backup*"))


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_cp21_a_backup_that_is_killed_leaves_the_earlier_one(filled: Any, died: type[BaseException]) -> None:
    """At whichever call: under its name stands the old backup or the whole new one, and the next is made as ever."""
    made(filled)
    for position in range(len(filled.disk.calls)):
        filled.quiet()
        filled.disk.fails_at, filled.disk.fault = position, died()
        with pytest.raises(died):
            made(filled)
        filled.quiet()
        restored(filled, filled.path("backup.tbot"))
        shutil.rmtree(filled.path("other"))
    restored(filled, made(filled))
    assert content(filled.path("other")) == content(filled.instance.home)
    assert not list(filled.instance.home.glob(".backup*"))


def test_what_a_killed_backup_left_is_taken_away_by_the_next(filled: Any, died: type[BaseException]) -> None:
    """Under whatever date it was begun; in a folder outside, where others may be writing theirs, it stays."""
    made(filled)
    filled.disk.fails_at, filled.disk.fault = len(filled.disk.calls) - 2, died()
    filled.disk.calls.clear()
    with pytest.raises(died):
        bundle.write_backup(filled.vault(), filled.path("backup-of-yesterday.tbot"), SEAL)
    filled.quiet()
    left = filled.path(".backup-of-yesterday.tbot.new")
    outside = filled.path("other")
    outside.mkdir()
    shutil.copy(left, outside)
    bundle.write_backup(beside(filled).vault(), filled.path("theirs.tbot"), SEAL)
    assert left.exists()
    made(filled)
    assert not left.exists()
    assert (outside / left.name).exists()


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_restore_that_was_killed_may_be_begun_anew(filled: Any, died: type[BaseException]) -> None:
    """At whichever call it is killed: the same restore again ends with everything in its place."""
    path = made(filled)
    calls = len(restored(filled, path, "whole").disk.calls)
    assert calls > 50
    for position in range(calls):
        killed = beside(filled)
        killed.disk.fails_at, killed.disk.fault = position, died()
        with (
            bundle.backup_of(SEAL.read(path), path.name) as found,
            pytest.raises(died),
        ):
            bundle.restore_backup(killed.vault(), found)
        restored(filled, path)
        assert content(killed.instance.home) == content(filled.instance.home)
        shutil.rmtree(killed.instance.home)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("storage/keys/smtp.key", "storage/keys/smtp.key"),
        ("storage/keys/broker.key", "storage/keys/broker.key"),
        ("storage/keys/login.next.key", "storage/keys/login.key"),
        (".env.enc", ".env.enc"),
        (".env_bot", ".env_bot"),
        (".env", ".env"),
        ("storage/secrets/alert_channels.json.enc", "storage/secrets/alert_channels.json.enc"),
    ],
)
def test_what_stands_there_and_differs_is_not_overwritten(filled: Any, name: str, shown: str) -> None:
    """Keys, files and settings that the backup does not hold are named, and nothing at all is written."""
    path, home = made(filled), filled.path("other")
    (home / "storage/keys").mkdir(parents=True, mode=0o700)
    (home / "storage/secrets").mkdir()
    (home / name).write_bytes(base64.urlsafe_b64encode(bytes(range(32))))
    (home / name).chmod(0o600)
    before = content(home)
    with pytest.raises(VaultError, match=rf"TB-SEC-111 every category: the backup would overwrite {re.escape(shown)}"):
        restored(filled, path)
    assert content(home) == before


@pytest.mark.slow
def test_a_backup_of_a_passphrase_carries_its_header(filled: Any) -> None:
    """Where keys are derived, the restored header derives the same; another header is not overwritten."""

    def derived(home: Path, words: str = "twelve words") -> PassphraseKeyProvider:
        return PassphraseKeyProvider(path=home / HEADER_PATH, prompt=lambda: Secret(words))

    shutil.rmtree(filled.path("storage/keys"))
    filled.path("storage/keys").mkdir(mode=0o700)
    filled.path("storage/secrets/smtp_credentials.json.enc").unlink()
    filled.path(".env.enc").unlink()
    first = derived(filled.instance.home)
    first.create()
    filled.vault(provider=first).write("smtp", TEXT["smtp"])
    path = made(filled, provider=first)
    home = filled.path("other")
    assert (
        code_of(lambda: restored(filled, path, provider=derived(home, "another one")))
        is VaultErrorCode.PASSPHRASE_WRONG
    )
    other = restored(filled, path, provider=derived(home))
    with other.vault(provider=derived(home)).read("smtp") as opened:
        assert bytes(opened.view) == TEXT["smtp"]
    assert not list((home / "storage/keys").glob("*.key"))
    foreign = filled.path("third")
    (foreign / "storage/keys").mkdir(parents=True, mode=0o700)
    derived(foreign).create()
    assert code_of(lambda: restored(filled, path, "third", provider=derived(foreign))) is VaultErrorCode.RESTORE_STANDS
    plain = restored(filled, path, "fourth")
    with plain.vault().read("smtp") as opened:
        assert bytes(opened.view) == TEXT["smtp"]


def test_keys_that_a_provider_would_not_give_are_refused(filled: Any) -> None:
    """A provider that cannot take keys must give those of the backup; else nothing could be opened afterwards."""

    class Fixed:
        """Gives one key, or none, for everything."""

        capabilities: frozenset[str] = frozenset()

        def __init__(self, given: bytes | None) -> None:
            self.given = given

        def get_key(self, _category: str, slot: str) -> bytes | None:
            """The same for each category."""
            return self.given if slot == "cur" else None

        def put_key(self, *_: object) -> None:
            """Nothing is kept."""

    path = made(filled)
    for given in (None, bytes(range(32))):
        assert (
            code_of(lambda given=given: restored(filled, path, provider=Fixed(given)))
            is VaultErrorCode.RESTORE_PROVIDER
        )


@pytest.mark.parametrize("name", ["key/smtp/old", "key/stranger/cur", "file/audit", "plain", "note"])
def test_a_part_that_no_backup_has_is_refused(name: str) -> None:
    """As a later tbot might write it: refused whole, by its name, and wiped."""
    parts = {name: bytes(range(32)), "key/smtp/cur": bytes(range(32))}
    found = SEAL.open(SEAL.close(parts, "x"), "x")
    assert code_of(lambda: bundle.backup_of(found, "x")) is VaultErrorCode.BUNDLE_CONTENT
    assert bytes(found.parts[name]) == bytes(32)
    short = SEAL.open(SEAL.close({"key/smtp/cur": bytes(31)}, "x"), "x")
    assert code_of(lambda: bundle.backup_of(short, "x")) is VaultErrorCode.BUNDLE_CONTENT


def test_one_process_writes_at_a_time(filled: Any) -> None:
    """Neither a backup nor a restore begins while keys and files are being written."""
    path = made(filled)
    with filled.store().holding("smtp"):
        assert code_of(lambda: made(filled)) is VaultErrorCode.VAULT_BUSY
    with beside(filled).store().holding("env"):
        assert code_of(lambda: restored(filled, path)) is VaultErrorCode.VAULT_BUSY


def test_parts_are_wiped(filled: Any) -> None:
    """What was opened of a backup, keys above all, is zeros afterwards."""
    path = made(filled)
    with bundle.backup_of(SEAL.read(path), "x") as found:
        part = found.bundle.parts["key/smtp/cur"]
        root = found.rings["smtp"].cur
        assert root is not None
        assert any(part)
    assert not any(part)
    assert not root.root.is_held
    assert bytes(pack_parts({}).view) == b""
