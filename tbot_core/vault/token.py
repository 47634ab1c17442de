"""Token v1: AES-256-GCM under a per-file key, bound to category and logical name.

magic 7 | version 1 | algorithm 1 | key id 8 | salt 32 | nonce 12 | ciphertext | tag 16, written as `tbot1.` and
unpadded base64url.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from tbot_core.system import random
from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import CategoryKeys, RootKey

PREFIX: Final = b"tbot1."
FORMAT_WORDS: Final = "AES-256-GCM (tbot v1)"
LIMIT_BYTES: Final = 1_048_576
"""Maximum length of a token, without its final newline."""

MAGIC: Final = b"TBOTENC"
VERSION: Final = 1
ALGORITHM: Final = 1
_HEADER_BYTES: Final = 61
TAG_BYTES: Final = 16
PLAINTEXT_BYTES: Final = (LIMIT_BYTES - len(PREFIX)) * 3 // 4 - _HEADER_BYTES - TAG_BYTES

_KEY_LABEL: Final = b"tbot file key v1"
_LETTERS: Final = re.compile(rb"[A-Za-z0-9_-]*\Z")


@attrs.frozen(kw_only=True)
class ParsedToken:
    """A parsed token; nothing is verified yet."""

    header: bytes
    key_id: bytes
    salt: bytes
    nonce: bytes
    sealed: bytes


def seal_token(
    key: RootKey,
    place: CategoryPaths,
    plaintext: bytes | bytearray | memoryview,
    *,
    entropy: Callable[[int], bytes] = random.entropy,
) -> bytes:
    """Encrypt as a token, without a newline. Raises VaultError for empty or too long content."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    file = place.shown(place.file)
    if not plaintext:
        raise vault_error(VaultErrorCode.PLAINTEXT_EMPTY, place.category, file)
    if len(plaintext) > PLAINTEXT_BYTES:
        raise vault_error(VaultErrorCode.PLAINTEXT_LONG, place.category, file)
    salt, nonce = entropy(32), entropy(12)
    header = MAGIC + bytes([VERSION, ALGORITHM]) + key.id + salt + nonce
    with _file_key(key, salt, place) as own:
        sealed = AESGCM(own.view).encrypt(nonce, plaintext, header + _token_context(place))
    return PREFIX + base64.urlsafe_b64encode(header + sealed).rstrip(b"=")


def open_token(ring: CategoryKeys, place: CategoryPaths, text: bytes | memoryview) -> tuple[SecureBuffer, RootKey]:
    """Decrypt a token; returns the plaintext, to be wiped by the caller, and its key. Raises VaultError."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    parsed = _parse_token(text, place)
    key = ring.find(parsed.key_id)
    if key is None:
        _refuse(VaultErrorCode.TOKEN_KEY_ID, place)
    plain = SecureBuffer(len(parsed.sealed) - TAG_BYTES)
    with _file_key(key, parsed.salt, place) as own:
        try:
            AESGCM(own.view).decrypt_into(
                parsed.nonce, parsed.sealed, parsed.header + _token_context(place), plain.view
            )
        except InvalidTag:
            plain.wipe()
            raise vault_error(VaultErrorCode.TOKEN_TAG, place.category, place.shown(place.file)) from None
    return plain, key


def _parse_token(text: bytes | memoryview, place: CategoryPaths) -> ParsedToken:
    # Parse the text of a token; only the canonical encoding is accepted. Raises VaultError.
    body = bytes(text).removeprefix(PREFIX).removesuffix(b"\n")
    if len(body) + len(PREFIX) > LIMIT_BYTES:
        _refuse(VaultErrorCode.TOKEN_TOO_LONG, place)
    if not _LETTERS.match(body):
        _refuse(VaultErrorCode.TOKEN_ALPHABET, place)
    try:
        data = base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    except binascii.Error:
        _refuse(VaultErrorCode.TOKEN_CANONICAL, place)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != body:
        _refuse(VaultErrorCode.TOKEN_CANONICAL, place)
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        _refuse(VaultErrorCode.TOKEN_MAGIC, place)
    if len(data) <= _HEADER_BYTES + TAG_BYTES:
        _refuse(VaultErrorCode.TOKEN_SHORT, place)
    if data[7] != VERSION:
        _refuse(VaultErrorCode.TOKEN_VERSION, place)
    if data[8] != ALGORITHM:
        _refuse(VaultErrorCode.TOKEN_ALGORITHM, place)
    return ParsedToken(
        header=data[:_HEADER_BYTES],
        key_id=data[9:17],
        salt=data[17:49],
        nonce=data[49:_HEADER_BYTES],
        sealed=data[_HEADER_BYTES:],
    )


def _token_context(place: CategoryPaths) -> bytes:
    # What a token is bound to: category and logical name, each prefixed by its length in two bytes.
    parts = (place.category.encode(), place.logical.encode())
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def _file_key(key: RootKey, salt: bytes, place: CategoryPaths) -> SecureBuffer:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    own = SecureBuffer(32)
    HKDF(hashes.SHA256(), 32, salt, _KEY_LABEL + _token_context(place)).derive_into(key.root.view, own.view)
    return own


def _refuse(code: VaultErrorCode, place: CategoryPaths) -> NoReturn:
    raise vault_error(code, place.category, place.shown(place.file))
