"""Key providers: one file per category, beside it those of a rotation; a passphrase, the system's keyring, a plugin.

There is no fallback between them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import attrs

from tbot_core.errors import VaultError
from tbot_core.model import json_document
from tbot_core.system import random, secure_files
from tbot_core.system.secret import Secret
from tbot_core.system.secure_files import FileFlaw, FileSystemCalls
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import files, keys
from tbot_core.vault.categories import CategoryPaths
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from tbot_core.contracts import KeyProvider
    from tbot_core.vault.categories import HasHome

VARIABLE: Final = "TBOT_KEY_PROVIDER"
"""Set in the environment, because the settings are encrypted too: file (default), passphrase, keyring, plugin."""

HEADER_PATH: Final = "storage/keys/passphrase.json"
MEMORY_KIB: Final = 65_536
ITERATIONS: Final = 3
_LANES: Final = 4
SALT_BYTES: Final = 16
_LABEL: Final = b"tbot passphrase key v1 "
_HEADER_LIMIT_BYTES: Final = 4096
_UNUSABLE: Final = frozenset({"keyring.backends.fail", "keyring.backends.null"})
_ABSENT: Final = frozenset({VaultErrorCode.KEY_MISSING.text, VaultErrorCode.KEY_FOLDER_MISSING.text})


@attrs.define(kw_only=True)
class PassphraseKeyProvider:
    """Keys derived from a passphrase by argon2id; only the salt is on disk, in a header file.

    The passphrase is read once, for the first key; after a wrong one every key is refused. Single keys cannot be
    changed.
    """

    path: Path
    prompt: Callable[[], Secret]
    system: FileSystemCalls = secure_files.SYSTEM
    _master: SecureBuffer | None = None
    _wrong: bool = False

    @property
    def capabilities(self) -> frozenset[str]:
        """Derived keys cannot be written."""
        return frozenset()

    def create(self, entropy: Callable[[int], bytes] = random.entropy) -> None:
        """Write the header of a new passphrase, which is prompted for. Raises VaultError, also when a header exists."""
        if self._header() is not None:
            self._refuse(VaultErrorCode.KEY_EXISTS)
        salt = entropy(SALT_BYTES)
        self._master = self._derive(salt)
        header = {
            "version": 1,
            "salt": base64.urlsafe_b64encode(salt).decode(),
            "check": keys.key_id(self._master.view).hex(),
        }
        text = json.dumps(header, sort_keys=True).encode() + b"\n"
        try:
            secure_files.write(self.path, text, check=_read_back, system=self.system)
        except secure_files.PrivateFileError:
            self._refuse(VaultErrorCode.PASSPHRASE_HEADER)

    def get_key(self, category: str, slot: str) -> bytearray | None:
        """The category's key; there is no next or previous one. Raises VaultError."""
        if slot != "cur":
            return None
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        key = bytearray(keys.KEY_BYTES)
        HKDFExpand(hashes.SHA256(), keys.KEY_BYTES, _LABEL + category.encode()).derive_into(self._opened().view, key)
        return key

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Raises VaultError: derived keys cannot be written."""
        raise vault_error(
            VaultErrorCode.PROVIDER_FIXED, category, f"{category} ({slot}, {'no key' if key is None else 'a key'})"
        )

    def wipe(self) -> None:
        """Forget the passphrase; it is prompted for again when needed."""
        if self._master is not None:
            self._master.wipe()
        self._master, self._wrong = None, False

    def _opened(self) -> SecureBuffer:
        if self._wrong:
            self._refuse(VaultErrorCode.PASSPHRASE_WRONG)
        if self._master is None:
            header = self._header()
            if header is None:
                self._refuse(VaultErrorCode.PASSPHRASE_HEADER)
            salt, check = header
            master = self._derive(salt)
            if keys.key_id(master.view) != check:
                master.wipe()
                self._wrong = True
                self._refuse(VaultErrorCode.PASSPHRASE_WRONG)
            self._master = master
        return self._master

    def _derive(self, salt: bytes) -> SecureBuffer:
        secret = self.prompt()
        try:
            return stretch_passphrase(secret, salt)
        finally:
            secret.wipe()

    def _header(self) -> tuple[bytes, bytes] | None:
        # Salt and check; None without a header.
        try:
            content = secure_files.read(self.path, limit=_HEADER_LIMIT_BYTES, strict=True, system=self.system)
        except secure_files.PrivateFileError as error:
            if error.flaw is secure_files.FileFlaw.MISSING:
                return None
            self._refuse(VaultErrorCode.PASSPHRASE_HEADER)
        try:
            match json_document.parse_json(bytes(content.data.view)):
                case {"version": 1, "salt": str(salt), "check": str(check), **rest} if not rest:
                    parts = base64.urlsafe_b64decode(salt), bytes.fromhex(check)
                case _:
                    self._refuse(VaultErrorCode.PASSPHRASE_HEADER)
        except ValueError:
            self._refuse(VaultErrorCode.PASSPHRASE_HEADER)
        if (len(parts[0]), len(parts[1])) != (SALT_BYTES, keys.ID_BYTES):
            self._refuse(VaultErrorCode.PASSPHRASE_HEADER)
        return parts

    def _refuse(self, code: VaultErrorCode) -> NoReturn:
        raise vault_error(code, "every category", HEADER_PATH)


@attrs.define(kw_only=True)
class KeyringKeyProvider:
    """Keys in the system's keyring, encoded as in a key file.

    A keyring that stores nothing, or stores plaintext, is refused. `open_backend` returns the keyring; the default is
    what the keyring package chooses.
    """

    service: str
    open_backend: Callable[[], Any] | None = None

    @property
    def capabilities(self) -> frozenset[str]:
        """A keyring can be written."""
        return frozenset({"put"})

    def get_key(self, category: str, slot: str) -> bytearray | None:
        """The key; None when the keyring has none. Raises VaultError."""
        text = self._call(category, lambda ring: ring.get_password(self.service, f"{category}.{slot}"))
        if text is None:
            return None
        with keys.parse_key(memoryview(str(text).encode()), category, f"the keyring ({slot})").root as root:
            return bytearray(root.view)

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Store the key, or remove it (None). Raises VaultError."""
        name = f"{category}.{slot}"
        if key is not None:
            text = base64.urlsafe_b64encode(key).decode()
            self._call(category, lambda ring: ring.set_password(self.service, name, text))
        elif self.get_key(category, slot) is not None:
            self._call(category, lambda ring: ring.delete_password(self.service, name))

    def _call(self, category: str, action: Callable[[Any], object]) -> object:
        where = f"{category} ({self.service})"
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            raise vault_error(VaultErrorCode.KEYRING_ABSENT, category, where) from None
        try:
            backend = _first((self.open_backend or keyring.get_keyring)())
            if _is_unsafe(backend):
                raise vault_error(VaultErrorCode.KEYRING_BACKEND, category, where)
            return action(backend)
        except KeyringError:
            raise vault_error(VaultErrorCode.KEYRING_LOCKED, category, where) from None


@attrs.define(kw_only=True)
class FileKeyProvider:
    """Keys in files: `smtp.key`, and `smtp.next.key` and `smtp.prev.key` around a rotation."""

    locate: Callable[[str], CategoryPaths]
    strict: bool
    system: FileSystemCalls
    reported: dict[str, tuple[FileFlaw, ...]] = attrs.field(factory=dict)
    """The flaws of each category's key as last read."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Files can be written."""
        return frozenset({"put", "files"})

    def get_key(self, category: str, slot: str) -> bytearray | None:
        """The 32 bytes of a key; None when its file is missing. Raises VaultError."""
        place = self.locate(category)
        path = slot_path(place.key, slot)
        try:
            content = files.read_key(place, path, strict=self.strict, system=self.system)
        except VaultError as error:
            if error.code in _ABSENT:
                return None
            raise
        self.reported[category] = content.flaws
        with content.data as text, keys.parse_key(text.view, category, place.shown(path)).root as root:
            return bytearray(root.view)

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Write a key durably, or remove it (None). Raises VaultError."""
        place = self.locate(category)
        path = slot_path(place.key, slot)
        if key is None:
            files.remove_key(place, path, system=self.system)
            return
        with keys.render_key(key) as text:
            files.write_key(place, path, text, system=self.system)


def choose_provider(
    name: str | None,
    instance: HasHome,
    *,
    ask: Callable[[], Secret],
    offered: Callable[[], KeyProvider | None],
    system: FileSystemCalls = secure_files.SYSTEM,
) -> KeyProvider | None:
    """The provider with that name; None for key files.

    `ask` reads the passphrase, `offered` returns a plugin's provider. Raises VaultError for an unknown name, and when
    no plugin offers a provider.
    """
    match name:
        case None | "" | "file":
            return None
        case "passphrase":
            return PassphraseKeyProvider(path=instance.home / HEADER_PATH, prompt=ask, system=system)
        case "keyring":
            return KeyringKeyProvider(service=f"tbot {instance.home}")
        case "plugin":
            provider = offered()
            if provider is None:
                raise vault_error(VaultErrorCode.PROVIDER_ABSENT, "every category", VARIABLE)
            return provider
        case _:
            raise vault_error(VaultErrorCode.PROVIDER_UNKNOWN, "every category", "all files", section=name)


def stretch_passphrase(secret: Secret, salt: bytes) -> SecureBuffer:
    """Derive 32 bytes from a passphrase by argon2id; the caller wipes them."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    master = SecureBuffer(keys.KEY_BYTES)
    kdf = Argon2id(salt=salt, length=keys.KEY_BYTES, iterations=ITERATIONS, lanes=_LANES, memory_cost=MEMORY_KIB)
    kdf.derive_into(secret.inspect_bytes(), master.view)
    return master


def slot_path(key: Path, slot: str) -> Path:
    """The file of a slot: `smtp.key` for the current key, `smtp.next.key` for the next."""
    return key if slot == "cur" else key.with_name(f"{key.stem}.{slot}{key.suffix}")


def _first(backend: Any) -> Any:
    # The first of chained keyrings, without a fallback to the others.
    chained = list(getattr(backend, "backends", ()))
    return chained[0] if chained else backend


def _is_unsafe(backend: Any) -> bool:
    kind = type(backend)
    return (
        kind.__module__ in _UNUSABLE
        or kind.__module__.startswith("keyrings.alt")
        or "plaintext" in kind.__name__.lower()
    )


def _read_back(_: memoryview) -> None:
    # Reading back is proof enough for a header.
    pass
