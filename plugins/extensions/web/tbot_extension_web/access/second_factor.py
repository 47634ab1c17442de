"""The second factor of a login: one-time passwords by time (TOTP, RFC 6238), and recovery codes in their place."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from tbot_core.system import random

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography.hazmat.primitives.twofactor.hotp import HOTP

STEP_S: Final = 30
RECOVERY_CODES: Final = 10

_DIGITS: Final = 6
_SECRET_BYTES: Final = 20
_DRIFT: Final = (0, -1, 1)
_CODE_LENGTH: Final = 24
_GROUP: Final = 4


def new_totp_secret() -> str:
    """A new secret in Base32, as authenticator apps accept it by hand."""
    return base64.b32encode(random.entropy(_SECRET_BYTES)).decode()


def is_totp_secret(text: str) -> bool:
    """Whether the text is a secret in Base32 of at least 128 bits."""
    try:
        return len(_key(text)) >= 16
    except ValueError:
        return False


def totp_uri(secret: str, user: str, issuer: str = "tbot") -> str:
    """The address `otpauth://totp/...` that an authenticator app reads from a QR code; it contains the secret."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.totp import TOTP

    totp = TOTP(_key(secret), _DIGITS, SHA1(), STEP_S)  # noqa: S303  # as authenticator apps compute it
    return totp.get_provisioning_uri(user, issuer)


def totp_code(secret: str, moment: datetime) -> str:
    """The code at a moment."""
    return _hotp(secret).generate(_step(moment)).decode()


def matching_step(secret: str, code: str, moment: datetime) -> int | None:
    """The number of the time step whose code was entered: the present one, or the one before or after it; else None."""
    from cryptography.hazmat.primitives.twofactor import InvalidToken

    digits = "".join(code.split())
    if len(digits) != _DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    found, hotp = None, _hotp(secret)
    for drift in _DRIFT:
        step = _step(moment) + drift
        try:
            hotp.verify(digits.encode(), step)
        except InvalidToken:
            continue
        found = step if found is None else found
    return found


def new_recovery_codes() -> tuple[str, ...]:
    """New recovery codes of 120 bits, in groups; shown once, and stored by their hashes."""
    codes = (random.token(_CODE_LENGTH) for _ in range(RECOVERY_CODES))
    return tuple("-".join(code[at : at + _GROUP] for at in range(0, _CODE_LENGTH, _GROUP)) for code in codes)


def recovery_hash(code: str) -> str:
    """The hash of a recovery code; blanks, hyphens and case do not matter.

    A fast hash is enough: 120 random bits cannot be guessed.
    """
    return sha256("".join(code.lower().replace("-", " ").split()).encode(errors="surrogatepass")).hexdigest()


def matching_recovery(code: str, hashes: Iterable[str]) -> str | None:
    """The hash of a recovery code that is among these; else None."""
    wanted, found = recovery_hash(code), None
    for one in hashes:
        if hmac.compare_digest(one.encode(), wanted.encode()):
            found = one
    return found


def _hotp(secret: str) -> HOTP:
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.twofactor.hotp import HOTP

    return HOTP(_key(secret), _DIGITS, SHA1())  # noqa: S303  # as authenticator apps compute it


def _key(secret: str) -> bytes:
    # Raises ValueError for a text that is not Base32; apps show it in groups and without padding.
    text = "".join(secret.split()).upper().rstrip("=")
    return base64.b32decode(text + "=" * (-len(text) % 8))


def _step(moment: datetime) -> int:
    return int(moment.timestamp()) // STEP_S
