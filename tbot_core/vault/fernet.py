"""Fernet files under the same keys: read strictly, and written for older installations."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NoReturn

from tbot_core.system.secure_memory import SecureBuffer
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.token import LIMIT_BYTES

if TYPE_CHECKING:
    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import CategoryKeys, RootKey

PREFIX: Final = b"gAAAA"
FORMAT_WORDS: Final = "Fernet: AES-128-CBC + HMAC-SHA256, 256-bit composite key"

_HEAD_BYTES: Final = 25
_BLOCK_BYTES: Final = 16
_MAC_BYTES: Final = 32
_LETTERS: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}\Z")
PLAINTEXT_BYTES: Final = LIMIT_BYTES // 4 * 3 - _HEAD_BYTES - _MAC_BYTES - _BLOCK_BYTES


def seal_fernet(
    key: RootKey, place: CategoryPaths, plaintext: bytes | bytearray | memoryview, *, seconds: int
) -> bytes:
    """Encrypt as a Fernet token with a time in epoch seconds. Raises VaultError."""
    if not plaintext:
        _refuse(VaultErrorCode.PLAINTEXT_EMPTY, place)
    if len(plaintext) > PLAINTEXT_BYTES:
        _refuse(VaultErrorCode.PLAINTEXT_LONG, place)
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(key.root.view)).encrypt_at_time(bytes(plaintext), seconds)


def open_fernet(ring: CategoryKeys, place: CategoryPaths, text: bytes | memoryview) -> tuple[SecureBuffer, RootKey]:
    """Decrypt a token; returns the plaintext, to be wiped by the caller, and its key. Raises VaultError.

    A Fernet token does not name its key, so each key is tried; its age is ignored.
    """
    from cryptography.fernet import Fernet, InvalidToken

    token = bytes(text).removesuffix(b"\n")
    _check_fernet(token, place)
    for key in ring.members():
        try:
            plain = Fernet(base64.urlsafe_b64encode(key.root.view)).decrypt(token)
        except InvalidToken:
            continue
        return SecureBuffer.of([plain]), key
    raise vault_error(VaultErrorCode.FERNET_TAG, place.category, place.shown(place.file))


def _check_fernet(token: bytes, place: CategoryPaths) -> None:
    # Refuse tokens that the reference library would accept or report without detail. Raises VaultError.
    if len(token) > LIMIT_BYTES:
        _refuse(VaultErrorCode.TOKEN_TOO_LONG, place)
    if not _LETTERS.match(token):
        _refuse(VaultErrorCode.FERNET_ALPHABET, place)
    try:
        data = base64.urlsafe_b64decode(token)
    except binascii.Error:
        _refuse(VaultErrorCode.FERNET_CANONICAL, place)
    if base64.urlsafe_b64encode(data) != token:
        _refuse(VaultErrorCode.FERNET_CANONICAL, place)
    if len(data) < _HEAD_BYTES + _BLOCK_BYTES + _MAC_BYTES:
        _refuse(VaultErrorCode.FERNET_SHORT, place)
    if (len(data) - _HEAD_BYTES - _MAC_BYTES) % _BLOCK_BYTES:
        _refuse(VaultErrorCode.FERNET_BLOCKS, place)


def _refuse(code: VaultErrorCode, place: CategoryPaths) -> NoReturn:
    raise vault_error(code, place.category, place.shown(place.file))
