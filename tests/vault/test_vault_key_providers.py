"""Where keys come from: passphrase, keyring, plugin; each fails closed, and none stands in for another."""

from __future__ import annotations

import errno
import json
import re
import sys
from typing import Any

import keyring.backend
import keyring.backends.chainer
import keyring.backends.fail
import keyring.backends.null
import keyring.errors
import pytest

from tbot_core.errors import VaultError
from tbot_core.system.secret import Secret
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.testing.keyrings import MemoryKeyring
from tbot_core.vault import key_providers, keys, rotation
from tbot_core.vault.error_codes import CODE_BY_TEXT, VaultErrorCode, vault_error
from tbot_core.vault.key_providers import KeyringKeyProvider, PassphraseKeyProvider


def code_of(deed: Any) -> VaultErrorCode:
    """Under which code a deed is refused."""
    with pytest.raises(VaultError) as refused:
        deed()
    assert re.match(r"TB-SEC-\d{3} (every category|audit|env|login|broker|smtp): \S", refused.value.message)
    assert not re.search(r"None|XX", str(refused.value))
    assert refused.value.remedy
    return CODE_BY_TEXT[refused.value.code]


class Chain:
    """A keyring in memory, as libraries chain them: it has the backends that it is given."""

    def __init__(self, *backends: Any) -> None:
        self.backends = backends


class PlaintextKeyring(MemoryKeyring):
    """One that keeps everything in the clear."""


class Locked(MemoryKeyring):
    """One that does not answer."""

    def get_password(self, service: str, name: str) -> str | None:
        """Refuse."""
        raise keyring.errors.KeyringLocked(f"{service} {name}")


class Alternative(MemoryKeyring):
    """One of the distribution of keyrings that are not safe."""


Alternative.__module__ = "keyrings.alt.file"


@pytest.fixture
def passphrase(bench: Any) -> PassphraseKeyProvider:
    """A passphrase that was set up, forgotten, and will be asked for."""
    made = PassphraseKeyProvider(path=bench.path(key_providers.HEADER_PATH), prompt=lambda: Secret("correct horse"))
    made.create()
    made.wipe()
    return made


def test_the_choice_is_named_and_nothing_else_is_taken(bench: Any) -> None:
    """File by default; passphrase, keyring and plugin by name; an unknown name and an absent plugin are refused."""

    def chosen(name: str | None, offered: Any = None) -> Any:
        return key_providers.choose_provider(name, bench.instance, ask=lambda: Secret("x"), offered=lambda: offered)

    assert [chosen(name) for name in (None, "", "file")] == [None] * 3
    assert chosen("passphrase").path == bench.path("storage/keys/passphrase.json")
    assert chosen("keyring").service == f"tbot {bench.instance.home}"
    own = KeyringKeyProvider(service="x")
    assert chosen("plugin", own) is own
    assert code_of(lambda: chosen("plugin")) is VaultErrorCode.PROVIDER_ABSENT
    with pytest.raises(VaultError, match=r"TB-SEC-088 .*TBOT_KEY_PROVIDER=Files is not a known key provider"):
        chosen("Files")


def test_a_passphrase_opens_what_it_closed(bench: Any, passphrase: PassphraseKeyProvider) -> None:
    """Each category has a key of its own; no key file is written, and the same passphrase gives the same keys."""
    vault = bench.vault(provider=passphrase)
    vault.write("smtp", b"secret")
    names = {category: vault.store.key(category).name for category in ("smtp", "login", "audit")}
    assert len(set(names.values())) == 3
    passphrase.wipe()
    passphrase.wipe()
    with vault.read("smtp") as opened:
        assert bytes(opened.view) == b"secret"
        assert opened.key_id == names["smtp"]
    assert [path.name for path in bench.path("storage/keys").iterdir()] == ["passphrase.json"]
    assert [passphrase.get_key("smtp", slot) for slot in ("next", "prev")] == [None, None]
    assert vault.shared_keys() == ()


def test_the_derivation_is_the_documented_one(bench: Any, passphrase: PassphraseKeyProvider) -> None:
    """argon2id, 64 MiB, three passes, four lanes, then HKDF by category: keys must come out the same for ever."""
    import base64

    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    header = json.loads(bench.path(key_providers.HEADER_PATH).read_bytes())
    salt = base64.urlsafe_b64decode(header["salt"])
    master = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65536).derive(b"correct horse")
    assert (len(salt), header["version"], header["check"]) == (16, 1, keys.key_id(master).hex())
    expected = HKDFExpand(SHA256(), 32, b"tbot passphrase key v1 smtp").derive(master)
    assert bytes(passphrase.get_key("smtp", "cur") or b"") == expected
    assert bench.path(key_providers.HEADER_PATH).stat().st_mode & 0o777 == 0o600


def test_a_wrong_passphrase_opens_nothing(bench: Any, passphrase: PassphraseKeyProvider) -> None:
    """It is distinguished from a damaged file, and asked for once, until it is forgotten."""
    answers = iter(("wrong horse", "correct horse"))
    wrong = PassphraseKeyProvider(path=passphrase.path, prompt=lambda: Secret(next(answers)))
    assert code_of(lambda: bench.vault(provider=wrong).read_section("smtp") or wrong.get_key("smtp", "cur")) is (
        VaultErrorCode.FILE_MISSING
    )
    for category in ("smtp", "login"):
        assert code_of(lambda category=category: wrong.get_key(category, "cur")) is VaultErrorCode.PASSPHRASE_WRONG
    wrong.wipe()
    assert wrong.get_key("smtp", "cur") == passphrase.get_key("smtp", "cur")


def test_keys_of_a_passphrase_cannot_be_changed_one_by_one(bench: Any, passphrase: PassphraseKeyProvider) -> None:
    """Neither made, nor put, nor rotated; a passphrase is set up once."""
    vault = bench.vault(provider=passphrase)
    vault.write("smtp", b"secret")
    assert code_of(lambda: rotation.rotate_categories(vault, ("smtp",))) is VaultErrorCode.PROVIDER_FIXED
    assert code_of(lambda: vault.make_key("smtp")) is VaultErrorCode.KEY_EXISTS
    for key in (None, memoryview(bytes(32))):
        assert code_of(lambda key=key: passphrase.put_key("smtp", "cur", key)) is VaultErrorCode.PROVIDER_FIXED
    assert code_of(passphrase.create) is VaultErrorCode.KEY_EXISTS


@pytest.mark.first(1)
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"version": 2, "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "check": "0011223344556677"}',
        b'{"version": 1, "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "check": "0011223344556677", "more": 1}',
        b'{"version": 1, "salt": "AAAA", "check": "0011223344556677"}',
        b'{"version": 1, "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "check": "00"}',
        b'{"version": 1, "salt": "A", "check": "0011223344556677"}',
        b'{"version": 1, "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "check": "no"}',
        b" " * 4097,
    ],
)
def test_a_damaged_header_is_refused(passphrase: PassphraseKeyProvider, text: bytes) -> None:
    """Whatever it says, it cannot weaken the derivation."""
    passphrase.path.write_bytes(text)
    assert code_of(lambda: passphrase.get_key("smtp", "cur")) is VaultErrorCode.PASSPHRASE_HEADER


def test_a_missing_or_loose_header_is_refused(passphrase: PassphraseKeyProvider) -> None:
    """Missing, readable by others, or not writable in the first place."""
    passphrase.path.chmod(0o644)
    assert code_of(lambda: passphrase.get_key("smtp", "cur")) is VaultErrorCode.PASSPHRASE_HEADER
    passphrase.path.unlink()
    assert code_of(lambda: passphrase.get_key("smtp", "cur")) is VaultErrorCode.PASSPHRASE_HEADER

    class Full(FileSystemCalls):
        """A disk without room."""

        def write(self, handle: int, data: bytes | memoryview) -> int:
            """Refuse."""
            raise OSError(errno.ENOSPC, f"{handle} {len(data)}")

    passphrase.system = Full()
    assert code_of(passphrase.create) is VaultErrorCode.PASSPHRASE_HEADER


@pytest.mark.parametrize("chained", [False, True])
def test_a_keyring_holds_keys_and_rotates_them(bench: Any, *, chained: bool) -> None:
    """All that key files can, a keyring can; of several chained the first alone is used."""
    memory, second = MemoryKeyring(), MemoryKeyring()
    ring = KeyringKeyProvider(service="tbot", open_backend=lambda: Chain(memory, second) if chained else memory)
    vault = bench.vault(provider=ring)
    name = vault.make_key("smtp")
    vault.write("smtp", b"secret")
    assert {key for _, key in memory.held} == {"smtp.cur"}
    assert all(len(text) == 44 for text in memory.held.values())
    (done,) = rotation.rotate_categories(vault, ("smtp",))
    assert done.before == name
    with vault.read("smtp") as opened:
        assert (bytes(opened.view), opened.key_id) == (b"secret", done.after)
    assert {key for _, key in memory.held} == {"smtp.cur", "smtp.prev"}
    assert second.held == {}
    vault.store.put_key("smtp", "prev", None)
    vault.store.put_key("smtp", "prev", None)
    assert {key for _, key in memory.held} == {"smtp.cur"}
    assert list(bench.path("storage/keys").iterdir()) == []


@pytest.mark.parametrize(
    "backend",
    [
        keyring.backends.fail.Keyring(),  # type: ignore[no-untyped-call]  # the library's
        keyring.backends.null.Keyring(),  # type: ignore[no-untyped-call]  # the library's
        PlaintextKeyring(),
        Alternative(),
        Chain(PlaintextKeyring(), MemoryKeyring()),
    ],
    ids=lambda it: type(it).__name__,
)
def test_a_keyring_that_keeps_nothing_or_keeps_it_in_the_clear_is_refused(backend: Any) -> None:
    """In reading and in writing, and also where a safe one stands behind it."""
    ring = KeyringKeyProvider(service="tbot", open_backend=lambda: backend)
    assert code_of(lambda: ring.get_key("smtp", "cur")) is VaultErrorCode.KEYRING_BACKEND
    assert code_of(lambda: ring.put_key("smtp", "cur", memoryview(bytes(32)))) is VaultErrorCode.KEYRING_BACKEND


def test_a_keyring_that_does_not_answer_is_reported(bench: Any) -> None:
    """A locked keyring, one with something else in it, and the one that this machine lacks."""
    assert (
        code_of(lambda: KeyringKeyProvider(service="t", open_backend=Locked).get_key("smtp", "cur"))
        is VaultErrorCode.KEYRING_LOCKED
    )
    memory = MemoryKeyring()
    memory.set_password("t", "smtp.cur", "hello")
    assert (
        code_of(lambda: KeyringKeyProvider(service="t", open_backend=lambda: memory).get_key("smtp", "cur"))
        is VaultErrorCode.KEY_LENGTH
    )
    assert bench.notes.said == []


def test_the_systems_own_keyring_is_asked_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the distribution keyring chose; without the distribution the extra is named."""
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.null.Keyring)
    assert code_of(lambda: KeyringKeyProvider(service="t").get_key("smtp", "cur")) is VaultErrorCode.KEYRING_BACKEND
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(VaultError, match=r"TB-SEC-085 .*tbot-core\[keyring\]"):
        KeyringKeyProvider(service="t").get_key("smtp", "cur")


class Foreign:
    """A plugin's provider with a scripted answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.capabilities = frozenset({"put"})

    def get_key(self, category: str, slot: str) -> Any:
        """Answer for the current slot."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if (slot, category) == ("cur", "smtp") else None

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Fail."""
        raise OSError(f"{category} {slot} {key}")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_plugins_key_is_taken_in_any_form(bench: Any, kind: Any) -> None:
    """Bytes of any kind; what can be overwritten is."""
    given = kind(bytes(range(32)))
    key = bench.store(provider=Foreign(given)).key("smtp")
    assert bytes(key.root.view) == bytes(range(32))
    assert bytes(given) == (bytes(32) if kind is bytearray else bytes(range(32)))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (bytes(range(31)), VaultErrorCode.PROVIDER_KEY),
        (b"", VaultErrorCode.PROVIDER_KEY),
        (bytes(32), VaultErrorCode.KEY_CONSTANT),
        (OSError("no"), VaultErrorCode.PROVIDER_FAILED),
        (vault_error(VaultErrorCode.KEY_DENIED, "smtp", "token"), VaultErrorCode.KEY_DENIED),
    ],
)
def test_a_plugin_that_gives_no_key_fails_the_access(bench: Any, answer: Any, code: VaultErrorCode) -> None:
    """And no other provider takes its place, though key files are there."""
    bench.vault().make_key("smtp")
    bench.vault().write("smtp", b"secret")
    vault = bench.vault(provider=Foreign(answer))
    assert code_of(lambda: vault.read("smtp")) is code
    assert code_of(lambda: vault.store.put_key("smtp", "cur", None)) is VaultErrorCode.PROVIDER_FAILED
