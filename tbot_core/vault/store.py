"""Files and keys together: what is opened with which, without a word to the audit log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

import attrs

from tbot_core.contracts import KeyProvider
from tbot_core.contracts.settings import Deployment
from tbot_core.errors import AccessError, VaultError
from tbot_core.model.clock import Clock
from tbot_core.system import filesystem, random, secure_files, secure_memory
from tbot_core.system.secure_files import System
from tbot_core.system.secure_memory import Buffer
from tbot_core.vault import fernet, files, formats, keys, token
from tbot_core.vault.categories import AUDIT, Home, audit_place, place
from tbot_core.vault.error_codes import Code, fault
from tbot_core.vault.key_files import KeyFiles
from tbot_core.vault.keys import Key, Ring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.system.secure_files import Flaw
    from tbot_core.vault.categories import Place
    from tbot_core.vault.keys import Slot

_TRIES = 3
_MOVED = frozenset({Code.TOKEN_KEY_ID.text, Code.FERNET_TAG.text})
"""What a reader sees when a rotation passed between its reading of the file and of the keys."""


class Opened:
    """What a category holds; used as a context it is wiped at the end.

    `format` and `key_id` say how the file was encrypted, `flaws` what was put up with.
    """

    __slots__ = ("_data", "flaws", "format", "key_id")

    def __init__(self, data: Buffer, *, format_words: str, key_id: str, flaws: Sequence[VaultError]) -> None:
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
class Store:
    """The keys and files of one instance. `strict` refuses loose modes, which otherwise are told."""

    instance: Home
    deployment: Deployment
    clock: Clock
    strict: bool
    provider: KeyProvider | None = None
    """Where keys come from; None for key files."""
    system: System = secure_files.SYSTEM
    entropy: Callable[[int], bytes] = random.entropy
    _files: KeyFiles = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._files = KeyFiles(locate=self.place, strict=self.strict, system=self.system)

    @property
    def keys(self) -> KeyProvider:
        """The provider of keys."""
        return self.provider or self._files

    def place(self, category: str) -> Place:
        """Where a category lies; KeyError for one that does not exist."""
        return audit_place(self.instance) if category == AUDIT else place(category, self.instance, self.deployment)

    def has_file(self, category: str) -> bool:
        """Whether something stands where the category's file belongs, whatever it is."""
        return filesystem.is_present(self.place(category).file)

    def key(self, category: str, slot: Slot = "cur") -> Key | None:
        """One key of a category, to be wiped by the caller; None where there is none. Raises VaultError."""
        here = self.place(category)
        try:
            root = self.keys.get_key(category, slot)
        except OSError:
            raise fault(Code.PROVIDER_FAILED, category, here.shown(here.key)) from None
        if root is None:
            return None
        buffer = Buffer.of([root])
        if isinstance(root, bytearray):
            secure_memory.wipe(root)
        if len(buffer) != keys.KEY_BYTES:
            buffer.wipe()
            raise fault(Code.PROVIDER_KEY, category, here.shown(here.key))
        return keys.checked(Key(buffer), category, here.shown(here.key))

    def ring(self, category: str) -> Ring:
        """The keys that may open the category's file, to be wiped by the caller. Raises VaultError."""
        found = {slot: self.key(category, slot) for slot in keys.SLOTS}
        return Ring(**found)

    def put_key(self, category: str, slot: Slot, key: Key | None) -> None:
        """Give a slot a key, or with None take it away. Raises VaultError."""
        here = self.place(category)
        if "put" not in self.keys.capabilities:
            raise fault(Code.PROVIDER_FIXED, category, here.shown(here.key))
        try:
            self.keys.put_key(category, slot, None if key is None else key.root.view)
        except OSError:
            raise fault(Code.PROVIDER_FAILED, category, here.shown(here.key)) from None

    def load(self, category: str) -> Opened:
        """Open a category's file with whichever of its keys fits. Raises VaultError."""
        return self._load(category, _TRIES)

    def _load(self, category: str, tries: int) -> Opened:
        here = self.place(category)
        content = files.read_file(here, strict=self.strict, system=self.system)
        with content.data as text, self.ring(category) as ring:
            if ring.cur is None:
                raise fault(Code.KEY_MISSING, category, here.shown(here.key))
            try:
                plain, key = formats.open_text(ring, here, text.view)
            except VaultError as error:
                if tries == 1 or error.code not in _MOVED:
                    raise
                return self._load(category, tries - 1)
            flaws = files.flaws_of(here, key=self.key_flaws(category), file=content.flaws)
            return Opened(plain, format_words=formats.words(text.view) or "", key_id=key.name, flaws=flaws)

    def load_with(self, category: str, key: Key) -> Opened:
        """Open a category's file with this key alone. Raises VaultError."""
        here = self.place(category)
        content = files.read_file(here, strict=False, system=self.system)
        with content.data as text:
            plain, _ = formats.open_text(Ring(cur=key), here, text.view)
            return Opened(plain, format_words=formats.words(text.view) or "", key_id=key.name, flaws=())

    def put(self, category: str, plaintext: bytes | bytearray | memoryview, key: Key) -> None:
        """Encrypt with this key and replace the category's file, once what was written has been opened again.

        Raises VaultError; the file is then the old one.
        """
        here = self.place(category)
        if self.deployment.secrets_write_format == formats.FERNET:
            text = fernet.seal(key, here, plaintext, seconds=int(self.clock.now().timestamp()))
        else:
            text = token.seal(key, here, plaintext, entropy=self.entropy)

        def prove(written: memoryview) -> None:
            try:
                opened, _ = formats.open_text(Ring(cur=key), here, written)
            except VaultError:
                raise fault(Code.FILE_UNPROVEN, category, here.shown(here.file)) from None
            with opened:
                if opened.view != memoryview(plaintext):
                    raise fault(Code.FILE_UNPROVEN, category, here.shown(here.file))

        files.write_file(here, text + b"\n", prove=prove, system=self.system)

    def key_flaws(self, category: str) -> tuple[Flaw, ...]:
        """The loose flaws of a category's key file as last read; none where keys come from elsewhere."""
        return self._files.told.get(category, ())

    @contextmanager
    def holding(self, category: str) -> Iterator[None]:
        """Be the only one who writes keys and files of this instance. Raises VaultError when somebody else does."""
        lock = self.instance.home / "data" / "vault.lock"
        filesystem.make_folder(lock.parent)
        with ExitStack() as stack:
            try:
                stack.enter_context(filesystem.hold(lock))
            except AccessError as error:
                if not isinstance(error.__cause__, TimeoutError):
                    raise
                here = self.place(category)
                raise fault(Code.VAULT_BUSY, category, here.shown(here.file)) from None
            yield
