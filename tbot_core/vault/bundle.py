"""Bundles: a file under a passphrase, for use outside the instance. AES-256-GCM, key by argon2id.

magic 7 | version 1 | algorithm 1 | kind 1 | check 8 | salt 16 | nonce 12 | ciphertext | tag 16, written as
`tbotbundle1.` and unpadded base64url. The plaintext is a list of named parts, each with the lengths of name and
content.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Self

import attrs

from tbot_core.system import filesystem, random, secure_files
from tbot_core.system.secret import Secret
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault import key_providers, keys
from tbot_core.vault.categories import EVERY
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tbot_core.system.secure_files import FileSystemCalls

Kind = Literal["export", "backup"]
"""An export holds the content of categories for import into another instance; a backup holds files and keys."""

PREFIX: Final = b"tbotbundle1."
LIMIT_BYTES: Final = 16 * 1_048_576
"""Maximum length of a bundle without its final newline: enough for every category at its maximum."""

PASSPHRASE_CHARACTERS: Final = 12

MAGIC: Final = b"TBOTBDL"
VERSION: Final = 1
ALGORITHM: Final = 1
HEADER_BYTES: Final = 46
TAG_BYTES: Final = 16
KINDS: Final[dict[Kind, int]] = {"export": 1, "backup": 2}

_KEY_LABEL: Final = b"tbot bundle key v1 "
_NAME_BYTES: Final = 2
_SIZE_BYTES: Final = 4


@attrs.frozen(kw_only=True)
class ParsedBundle:
    """A parsed bundle; its content is not verified yet."""

    header: bytes
    kind: int
    check: bytes
    salt: bytes
    nonce: bytes
    sealed: bytes

    @property
    def id(self) -> str:
        """What tells the bundle from every other: the id of its key, in hexadecimal."""
        return self.check.hex()


class SecretBundle:
    """The parts of a bundle by name; as a context manager they are wiped at the end."""

    __slots__ = ("_data", "parts")

    def __init__(self, data: SecureBuffer) -> None:
        """Unpack the parts. Raises ValueError for data that `pack_parts` does not write."""
        self._data = data
        self.parts: Mapping[str, memoryview] = dict(_unpacked(data.view))

    def wipe(self) -> None:
        """Overwrite every part."""
        self._data.wipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "Bundle([redacted])"


@attrs.frozen(kw_only=True)
class BundleCipher:
    """Encrypts and decrypts bundles of one kind; `stretch` derives 32 bytes from a passphrase and a salt."""

    kind: Kind
    passphrase: Secret
    stretch: Callable[[Secret, bytes], SecureBuffer] = key_providers.stretch_passphrase
    entropy: Callable[[int], bytes] = random.entropy

    def close(self, parts: Mapping[str, bytes | memoryview], file: str) -> bytes:
        """The text of a new bundle, without a newline. Raises VaultError for a short passphrase or too much content."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(self.passphrase.inspect()) < PASSPHRASE_CHARACTERS:
            _refuse(VaultErrorCode.BUNDLE_PASSPHRASE_SHORT, file)
        salt, nonce = self.entropy(key_providers.SALT_BYTES), self.entropy(12)
        with self.stretch(self.passphrase, salt) as master, self._own_key(master) as own, pack_parts(parts) as plain:
            head = MAGIC + bytes([VERSION, ALGORITHM, KINDS[self.kind]])
            header = head + keys.key_id(master.view) + salt + nonce
            sealed = AESGCM(own.view).encrypt(nonce, plain.view, header)
        text = PREFIX + base64.urlsafe_b64encode(header + sealed).rstrip(b"=")
        if len(text) > LIMIT_BYTES:
            _refuse(VaultErrorCode.BUNDLE_LONG, file)
        return text

    def open(self, text: bytes | memoryview, file: str) -> SecretBundle:
        """Decrypt a bundle; the caller wipes the result. Raises VaultError."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        parsed = parse_bundle(text, file)
        if parsed.kind != KINDS[self.kind]:
            _refuse(VaultErrorCode.BUNDLE_KIND, file, self.kind)
        plain = SecureBuffer(len(parsed.sealed) - TAG_BYTES)
        with self.stretch(self.passphrase, parsed.salt) as master, self._own_key(master) as own:
            if keys.key_id(master.view) != parsed.check:
                _refuse(VaultErrorCode.BUNDLE_PASSPHRASE, file)
            try:
                AESGCM(own.view).decrypt_into(parsed.nonce, parsed.sealed, parsed.header, plain.view)
                return SecretBundle(plain)
            except InvalidTag:
                _refuse(VaultErrorCode.BUNDLE_TAG, file)
            except ValueError:
                plain.wipe()
                _refuse(VaultErrorCode.BUNDLE_CONTENT, file, "parts")

    def write(
        self,
        path: Path,
        parts: Mapping[str, bytes | memoryview],
        *,
        prove: Callable[[SecretBundle], None] | None = None,
        system: FileSystemCalls = secure_files.SYSTEM,
    ) -> str:
        """Write a bundle durably, mode 0600, after decrypting it again, and return its id; `prove` may refuse it.

        Raises VaultError, and AccessError when the file cannot be written; an existing file is kept then.
        """

        def check(written: memoryview) -> None:
            with self.open(written, path.name) as bundle:
                if prove is not None:
                    prove(bundle)

        text = self.close(parts, path.name)
        secure_files.write(path, text + b"\n", check=check, system=system)
        return parse_bundle(text, path.name).id

    def read(self, path: Path) -> SecretBundle:
        """Read a bundle file; the caller wipes the result. Raises VaultError and AccessError."""
        return self.open(read_text(path), path.name)

    def _own_key(self, master: SecureBuffer) -> SecureBuffer:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        own = SecureBuffer(keys.KEY_BYTES)
        HKDFExpand(hashes.SHA256(), keys.KEY_BYTES, _KEY_LABEL + self.kind.encode()).derive_into(master.view, own.view)
        return own


def read_text(path: Path) -> bytes:
    """The text of a bundle file, not parsed. Raises VaultError for one that is too long, and AccessError."""
    if filesystem.size(path) > LIMIT_BYTES + 1:
        _refuse(VaultErrorCode.BUNDLE_LONG, path.name)
    return filesystem.read_bytes(path)


def pack_parts(parts: Mapping[str, bytes | memoryview]) -> SecureBuffer:
    """Concatenate the parts in order of name; the caller wipes the result."""
    pieces: list[bytes | memoryview] = []
    for name, content in sorted(parts.items()):
        encoded = name.encode()
        lengths = len(encoded).to_bytes(_NAME_BYTES, "big") + len(content).to_bytes(_SIZE_BYTES, "big")
        pieces += [lengths + encoded, content]
    return SecureBuffer.of(pieces)


def parse_bundle(text: bytes | memoryview, file: str) -> ParsedBundle:
    """Parse the text of a bundle; only the canonical encoding is accepted. Raises VaultError."""
    body = bytes(text).removesuffix(b"\n")
    if len(body) > LIMIT_BYTES:
        _refuse(VaultErrorCode.BUNDLE_LONG, file)
    if not body.startswith(PREFIX):
        _refuse(VaultErrorCode.BUNDLE_FORMAT, file)
    body = body.removeprefix(PREFIX)
    try:
        data = base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    except binascii.Error:
        _refuse(VaultErrorCode.BUNDLE_CANONICAL, file)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != body:
        _refuse(VaultErrorCode.BUNDLE_CANONICAL, file)
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        _refuse(VaultErrorCode.BUNDLE_FORMAT, file)
    if len(data) < HEADER_BYTES + TAG_BYTES:
        _refuse(VaultErrorCode.BUNDLE_SHORT, file)
    if data[7] != VERSION:
        _refuse(VaultErrorCode.BUNDLE_VERSION, file)
    if data[8] != ALGORITHM:
        _refuse(VaultErrorCode.BUNDLE_ALGORITHM, file)
    return ParsedBundle(
        header=data[:HEADER_BYTES],
        kind=data[9],
        check=data[10:18],
        salt=data[18:34],
        nonce=data[34:HEADER_BYTES],
        sealed=data[HEADER_BYTES:],
    )


def _unpacked(rest: memoryview) -> Iterator[tuple[str, memoryview]]:
    before = ""
    while rest:
        begin = _NAME_BYTES + _SIZE_BYTES
        end = begin + int.from_bytes(rest[:_NAME_BYTES], "big")
        whole = end + int.from_bytes(rest[_NAME_BYTES:begin], "big")
        name = str(rest[begin:end], "utf-8")
        if whole > len(rest) or name <= before:
            raise ValueError("a part is truncated or out of order")
        yield name, rest[end:whole]
        before, rest = name, rest[whole:]


def _refuse(code: VaultErrorCode, file: str, section: str = "") -> NoReturn:
    raise vault_error(code, EVERY, file, section=section) from None
