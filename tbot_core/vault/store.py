"""Reads and writes secrets with their keys, without the audit log.

Opens encrypted files of another installation as well, wherever they and their keys are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

import attrs

from tbot_core.contracts.credentials import KeyProvider
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import AccessError, VaultError
from tbot_core.model.clock import Clock
from tbot_core.system import filesystem, random, secure_files, secure_memory
from tbot_core.system.secure_files import FileSystemCalls
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import fernet, files, keys, token
from tbot_core.vault.categories import AUDIT, CATEGORIES, HasHome, audit_paths, category_paths
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.key_providers import FileKeyProvider, slot_path
from tbot_core.vault.keys import CategoryKeys, RootKey, parse_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.system.secure_files import FileFlaw
    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import Slot

_TRIES = 3
_ROTATED = frozenset({VaultErrorCode.TOKEN_KEY_ID.text, VaultErrorCode.FERNET_TAG.text})
"""Codes that a reader may get when a rotation happened between reading the file and the keys."""

_OTHER_KEY: Final = frozenset({VaultErrorCode.TOKEN_KEY_ID.text, VaultErrorCode.FERNET_TAG.text})


class OpenedSecrets:
    """The content of a category; as a context manager it is wiped at the end.

    `format` and `key_id` describe the encryption, `flaws` are the tolerated ones.
    """

    __slots__ = ("_data", "flaws", "format", "key_id")

    def __init__(self, data: SecureBuffer, *, format_words: str, key_id: str, flaws: Sequence[VaultError]) -> None:
        self._data = data
        self.format = format_words
        self.key_id = key_id
        self.flaws = tuple(flaws)

    @property
    def view(self) -> memoryview:
        """The plaintext; ValueError once wiped."""
        return self._data.view

    def wipe(self) -> None:
        """Overwrite the plaintext; a second call does nothing."""
        self._data.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"Opened({self.format})"


@attrs.define(kw_only=True)
class SecretStore:
    """The keys and files of one instance. `strict` refuses loose modes, which otherwise are reported.

    `wait_s` is how long a write waits for another one.
    """

    instance: HasHome
    deployment: DeploymentSettings
    clock: Clock
    strict: bool
    provider: KeyProvider | None = None
    """The key provider; None for key files."""
    system: FileSystemCalls = secure_files.SYSTEM
    entropy: Callable[[int], bytes] = random.entropy
    wait_s: float = 0.0
    _files: FileKeyProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._files = FileKeyProvider(locate=self.place, strict=self.strict, system=self.system)

    @property
    def keys(self) -> KeyProvider:
        """The key provider."""
        return self.provider or self._files

    def place(self, category: str) -> CategoryPaths:
        """The paths of a category; KeyError for an unknown one."""
        return (
            audit_paths(self.instance)
            if category == AUDIT
            else category_paths(category, self.instance, self.deployment)
        )

    def has_file(self, category: str) -> bool:
        """Whether anything exists at the path of the category's file."""
        return filesystem.is_present(self.place(category).file)

    def edition(self, category: str) -> str:
        """What tells the category's file from that of any other write; "" without a file. Raises VaultError."""
        if not self.has_file(category):
            return ""
        with files.read_file(self.place(category), strict=False, system=self.system).data as text:
            return hashlib.sha256(text.view).hexdigest()

    def key(self, category: str, slot: Slot = "cur") -> RootKey | None:
        """A key of a category, to be wiped by the caller; None if missing. Raises VaultError."""
        here = self.place(category)
        try:
            root = self.keys.get_key(category, slot)
        except OSError:
            raise vault_error(VaultErrorCode.PROVIDER_FAILED, category, here.shown(here.key)) from None
        if root is None:
            return None
        buffer = SecureBuffer.of([root])
        if isinstance(root, bytearray):
            secure_memory.wipe(root)
        if len(buffer) != keys.KEY_BYTES:
            buffer.wipe()
            raise vault_error(VaultErrorCode.PROVIDER_KEY, category, here.shown(here.key))
        return keys.check_key(RootKey(buffer), category, here.shown(here.key))

    def ring(self, category: str) -> CategoryKeys:
        """The keys that may open the category's file, to be wiped by the caller. Raises VaultError."""
        found = {slot: self.key(category, slot) for slot in keys.SLOTS}
        return CategoryKeys(**found)

    def put_key(self, category: str, slot: Slot, key: RootKey | None) -> None:
        """Write a key to a slot, or remove it (None). Raises VaultError."""
        here = self.place(category)
        if "put" not in self.keys.capabilities:
            raise vault_error(VaultErrorCode.PROVIDER_FIXED, category, here.shown(here.key))
        try:
            self.keys.put_key(category, slot, None if key is None else key.root.view)
        except OSError:
            raise vault_error(VaultErrorCode.PROVIDER_FAILED, category, here.shown(here.key)) from None

    def load(self, category: str) -> OpenedSecrets:
        """Decrypt a category's file with the matching key. Raises VaultError."""
        return self._load(category, _TRIES)

    def _load(self, category: str, tries: int) -> OpenedSecrets:
        here = self.place(category)
        content = files.read_file(here, strict=self.strict, system=self.system)
        with content.data as text, self.ring(category) as ring:
            if ring.cur is None:
                raise vault_error(VaultErrorCode.KEY_MISSING, category, here.shown(here.key))
            try:
                plain, key = files.open_text(ring, here, text.view)
            except VaultError as error:
                if tries == 1 or error.code not in _ROTATED:
                    raise
                return self._load(category, tries - 1)
            flaws = files.flaws_of(here, key=self.key_flaws(category), file=content.flaws)
            return OpenedSecrets(plain, format_words=files.format_text(text.view) or "", key_id=key.name, flaws=flaws)

    def load_with(self, category: str, key: RootKey) -> OpenedSecrets:
        """Decrypt a category's file with this key only. Raises VaultError."""
        here = self.place(category)
        content = files.read_file(here, strict=False, system=self.system)
        with content.data as text:
            plain, _ = files.open_text(CategoryKeys(cur=key), here, text.view)
            return OpenedSecrets(plain, format_words=files.format_text(text.view) or "", key_id=key.name, flaws=())

    def put(self, category: str, plaintext: bytes | bytearray | memoryview, key: RootKey) -> None:
        """Encrypt with this key and replace the category's file, after decrypting what was written.

        Raises VaultError; the old file stays then.
        """
        here = self.place(category)
        if self.deployment.secrets_write_format == files.FERNET:
            text = fernet.seal_fernet(key, here, plaintext, seconds=int(self.clock.now().timestamp()))
        else:
            text = token.seal_token(key, here, plaintext, entropy=self.entropy)

        def prove(written: memoryview) -> None:
            try:
                opened, _ = files.open_text(CategoryKeys(cur=key), here, written)
            except VaultError:
                raise vault_error(VaultErrorCode.FILE_UNPROVEN, category, here.shown(here.file)) from None
            with opened:
                if opened.view != memoryview(plaintext):
                    raise vault_error(VaultErrorCode.FILE_UNPROVEN, category, here.shown(here.file))

        files.write_file(here, text + b"\n", prove=prove, system=self.system)

    def key_flaws(self, category: str) -> tuple[FileFlaw, ...]:
        """The tolerated flaws of a category's key file as last read; none with other providers."""
        return self._files.reported.get(category, ())

    @contextmanager
    def holding(self, category: str) -> Iterator[None]:
        """Hold the lock for writing keys and files of this instance, and remove what killed writers left.

        Raises VaultError when another process holds it for longer than `wait_s`.
        """
        lock = self.instance.home / "data" / "vault.lock"
        filesystem.make_folder(lock.parent)
        with ExitStack() as stack:
            try:
                stack.enter_context(filesystem.hold_lock(lock, wait_s=self.wait_s))
            except AccessError as error:
                if not isinstance(error.__cause__, TimeoutError):
                    raise
                here = self.place(category)
                raise vault_error(VaultErrorCode.VAULT_BUSY, category, here.shown(here.file)) from None
            self._remove_leftovers()
            yield

    def _remove_leftovers(self) -> None:
        # The new files of killed writers; no other process writes while the lock is held.
        for category in (AUDIT, *CATEGORIES):
            here = self.place(category)
            written = (here.file, *(slot_path(here.key, slot) for slot in keys.SLOTS))
            for beside in map(secure_files.new_file, written):
                with suppress(AccessError):  # the write goes on without, and `tbot check` names what is left
                    if filesystem.is_present(beside):
                        secure_files.remove(beside, system=self.system)


def open_foreign_file(place: CategoryPaths, keys: Sequence[Path]) -> OpenedSecrets:
    """Decrypt `place.file` with the first of the existing `keys` that opens it, to be used as a context manager.

    Loose modes are tolerated. Raises VaultError where no key exists, none fits, or a key or the file is unusable.
    """
    present = [key for key in keys if filesystem.is_present(key)]
    if not present:
        raise vault_error(VaultErrorCode.KEY_MISSING, place.category, place.shown(place.key))
    content = files.read_file(place, strict=False, system=secure_files.SYSTEM)
    with content.data as text:
        for path in present[:-1]:
            try:
                return _opened(place, path, text.view)
            except VaultError as error:
                if error.code not in _OTHER_KEY:
                    raise
        return _opened(place, present[-1], text.view)


def _opened(place: CategoryPaths, key_file: Path, text: memoryview) -> OpenedSecrets:
    with _key(attrs.evolve(place, key=key_file)) as ring:
        plain, key = files.open_text(ring, place, text)
        return OpenedSecrets(plain, format_words=files.format_text(text) or "", key_id=key.name, flaws=())


def _key(place: CategoryPaths) -> CategoryKeys:
    content = files.read_key(place, place.key, strict=False, system=secure_files.SYSTEM)
    with content.data as text:
        key: RootKey = parse_key(text.view, place.category, place.shown(place.key))
    return CategoryKeys(cur=key)
