"""Fernet files under the same keys: read strictly, and written where older installations must read them too."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NoReturn

from tbot_core.system.secure_memory import Buffer
from tbot_core.vault.error_codes import Code, fault
from tbot_core.vault.token import LIMIT_BYTES

if TYPE_CHECKING:
    from tbot_core.vault.categories import Place
    from tbot_core.vault.keys import Key, Ring

PREFIX: Final = b"gAAAA"
FORMAT_WORDS: Final = "Fernet: AES-128-CBC + HMAC-SHA256, 256-bit composite key"

_HEAD_BYTES: Final = 25
_BLOCK_BYTES: Final = 16
_MAC_BYTES: Final = 32
_LETTERS: Final = re.compile(rb"[A-Za-z0-9_-]*={0,2}\Z")
PLAINTEXT_BYTES: Final = LIMIT_BYTES // 4 * 3 - _HEAD_BYTES - _MAC_BYTES - _BLOCK_BYTES


def seal(key: Key, place: Place, plaintext: bytes | bytearray | memoryview, *, seconds: int) -> bytes:
    """The text of a new Fernet token, made at so many seconds after 1970. Raises VaultError."""
    if not plaintext:
        _refuse(Code.PLAINTEXT_EMPTY, place)
    if len(plaintext) > PLAINTEXT_BYTES:
        _refuse(Code.PLAINTEXT_LONG, place)
    from cryptography.fernet import Fernet

    return Fernet(base64.urlsafe_b64encode(key.root.view)).encrypt_at_time(bytes(plaintext), seconds)


def open_fernet(ring: Ring, place: Place, text: bytes | memoryview) -> tuple[Buffer, Key]:
    """What the token holds, on pages that the caller wipes, and the key that opened it. Raises VaultError.

    A Fernet token names no key, so each of the ring is tried; its age does not matter.
    """
    from cryptography.fernet import Fernet, InvalidToken

    token = bytes(text).removesuffix(b"\n")
    check(token, place)
    for key in ring.members():
        try:
            plain = Fernet(base64.urlsafe_b64encode(key.root.view)).decrypt(token)
        except InvalidToken:
            continue
        return Buffer.of([plain]), key
    raise fault(Code.FERNET_TAG, place.category, place.shown(place.file))


def check(token: bytes, place: Place) -> None:
    """Refuse what the reference library would let pass or report in one word. Raises VaultError."""
    if len(token) > LIMIT_BYTES:
        _refuse(Code.TOKEN_TOO_LONG, place)
    if not _LETTERS.match(token):
        _refuse(Code.FERNET_ALPHABET, place)
    try:
        data = base64.urlsafe_b64decode(token)
    except binascii.Error:
        _refuse(Code.FERNET_CANONICAL, place)
    if base64.urlsafe_b64encode(data) != token:
        _refuse(Code.FERNET_CANONICAL, place)
    if len(data) < _HEAD_BYTES + _BLOCK_BYTES + _MAC_BYTES:
        _refuse(Code.FERNET_SHORT, place)
    if (len(data) - _HEAD_BYTES - _MAC_BYTES) % _BLOCK_BYTES:
        _refuse(Code.FERNET_BLOCKS, place)


def _refuse(code: Code, place: Place) -> NoReturn:
    raise fault(code, place.category, place.shown(place.file))
