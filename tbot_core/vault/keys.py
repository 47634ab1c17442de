"""Keys: 32 bytes written as 44 characters, their ids, and the keys that may open a file."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Self

import attrs

from tbot_core.system import random
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Slot = Literal["cur", "next", "prev"]
"""The current key; the next one during a rotation; the previous one after it."""

SLOTS: Final[tuple[Slot, ...]] = ("next", "cur", "prev")
"""In reading order. A rotation moves keys in the opposite direction, so a reader misses none."""

KEY_BYTES: Final = 32
_KEY_CHARACTERS: Final = 44
ID_BYTES: Final = 8

_ID_LABEL: Final = b"tbot key id v1"
_BOM: Final = b"\xef\xbb\xbf"
_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_RETURN: Final = ord("\r")
_PADDING: Final = ord("=")
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}


class RootKey:
    """A root key in secure memory, and its id, which reveals nothing about it.

    Status, the audit log and token headers refer to the key by its id.
    """

    __slots__ = ("id", "root")

    def __init__(self, root: SecureBuffer) -> None:
        self.root = root
        self.id = key_id(root.view)

    @property
    def name(self) -> str:
        """The id as 16 hexadecimal digits."""
        return self.id.hex()

    def wipe(self) -> None:
        """Overwrite the key."""
        self.root.wipe()

    def __repr__(self) -> str:
        return f"Key({self.name})"


@attrs.frozen(kw_only=True)
class CategoryKeys:
    """The keys that may open a category's file; as a context manager they are wiped at the end."""

    cur: RootKey | None = None
    next: RootKey | None = None
    prev: RootKey | None = None

    def members(self) -> Iterator[RootKey]:
        """The existing keys, the current one first."""
        return (key for key in (self.cur, self.next, self.prev) if key is not None)

    def find(self, identity: bytes) -> RootKey | None:
        """The key with this id."""
        return next((key for key in self.members() if key.id == identity), None)

    def wipe(self) -> None:
        """Overwrite every key."""
        for key in self.members():
            key.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()


def key_id(root: bytes | bytearray | memoryview) -> bytes:
    """The first 8 bytes of HMAC-SHA256 over a fixed label."""
    from cryptography.hazmat.primitives import hashes, hmac

    mac = hmac.HMAC(root, hashes.SHA256())
    mac.update(_ID_LABEL)
    return mac.finalize()[:ID_BYTES]


def derived_key(key: RootKey, label: bytes) -> bytes:
    """A key of 32 bytes for another purpose, named by the label: HMAC-SHA256 over it."""
    from cryptography.hazmat.primitives import hashes, hmac

    mac = hmac.HMAC(key.root.view, hashes.SHA256())
    mac.update(label)
    return mac.finalize()


def generate_key(entropy: Callable[[int], bytes] = random.entropy) -> RootKey:
    """Generate a key."""
    return RootKey(SecureBuffer.of([entropy(KEY_BYTES)]))


def render_key(root: bytes | bytearray | memoryview) -> SecureBuffer:
    """Encode a key as the 44 characters of a key file."""
    return SecureBuffer.of([base64.urlsafe_b64encode(root)])


def parse_key(text: memoryview, category: str, file: str) -> RootKey:
    """Parse a key file: 44 characters and at most one final newline. Raises VaultError."""
    data = text[:-1] if text[-1:].tobytes() == b"\n" else text
    if data[:3].tobytes() == _BOM:
        _refuse(VaultErrorCode.KEY_BOM, category, file)
    if _RETURN in data:
        _refuse(VaultErrorCode.KEY_CRLF, category, file)
    if len(data) != _KEY_CHARACTERS:
        _refuse(VaultErrorCode.KEY_LENGTH, category, file)
    if data[-1] != _PADDING or any(letter not in _VALUES for letter in data[:-1]):
        _refuse(VaultErrorCode.KEY_ALPHABET, category, file)
    if _VALUES[data[-2]] & 3:
        _refuse(VaultErrorCode.KEY_CANONICAL, category, file)
    return check_key(RootKey(_decode(data)), category, file)


def check_key(key: RootKey, category: str, file: str) -> RootKey:
    """Return the key; raises VaultError for one that repeats a single byte."""
    if len(set(key.root.view)) == 1:
        key.wipe()
        _refuse(VaultErrorCode.KEY_CONSTANT, category, file)
    return key


def _decode(data: memoryview) -> SecureBuffer:
    # In place, so that no unwiped copy of the key is left in memory.
    root, bits, held, position = SecureBuffer(KEY_BYTES), 0, 0, 0
    for letter in data[:-1]:
        bits, held = (bits << 6 | _VALUES[letter]) & 0x3FFF, held + 6
        if held >= 8:
            held -= 8
            root.view[position] = bits >> held & 0xFF
            position += 1
    return root


def _refuse(code: VaultErrorCode, category: str, file: str) -> NoReturn:
    raise vault_error(code, category, file)
