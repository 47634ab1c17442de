"""The formats of encrypted files, recognised by their prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.vault import fernet, token
from tbot_core.vault.error_codes import VaultErrorCode, vault_error

if TYPE_CHECKING:
    from tbot_core.system.secure_memory import SecureBuffer
    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import CategoryKeys, RootKey

FERNET: Final = "fernet"
"""The value of SECRETS_WRITE_FORMAT that writes Fernet tokens; any other writes tbot's."""


def format_text(text: bytes | memoryview) -> str | None:
    """Describe the format of a file; None for an unknown one."""
    if text[: len(token.PREFIX)] == token.PREFIX:
        return token.FORMAT_WORDS
    if text[: len(fernet.PREFIX)] == fernet.PREFIX:
        return fernet.FORMAT_WORDS
    return None


def open_text(ring: CategoryKeys, place: CategoryPaths, text: bytes | memoryview) -> tuple[SecureBuffer, RootKey]:
    """Decrypt a file of either format; returns the plaintext, to be wiped by the caller, and its key.

    Raises VaultError.
    """
    match format_text(text):
        case token.FORMAT_WORDS:
            return token.open_token(ring, place, text)
        case fernet.FORMAT_WORDS:
            return fernet.open_fernet(ring, place, text)
        case _:
            code = VaultErrorCode.FORMAT_UNKNOWN if text else VaultErrorCode.FILE_EMPTY
            raise vault_error(code, place.category, place.shown(place.file))


def write_format_text(setting: str) -> str:
    """Describe the format that this value of SECRETS_WRITE_FORMAT writes."""
    return fernet.FORMAT_WORDS if setting == FERNET else token.FORMAT_WORDS
