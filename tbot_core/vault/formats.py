"""The formats that files may have: told apart by how they begin, and by nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.vault import fernet, token
from tbot_core.vault.error_codes import Code, fault

if TYPE_CHECKING:
    from tbot_core.system.secure_memory import Buffer
    from tbot_core.vault.categories import Place
    from tbot_core.vault.keys import Key, Ring

FERNET: Final = "fernet"
"""The value of SECRETS_WRITE_FORMAT that writes Fernet tokens; any other writes tbot's."""


def words(text: bytes | memoryview) -> str | None:
    """What people are told of a file that begins so; None for a format that is not ours."""
    if text[: len(token.PREFIX)] == token.PREFIX:
        return token.FORMAT_WORDS
    if text[: len(fernet.PREFIX)] == fernet.PREFIX:
        return fernet.FORMAT_WORDS
    return None


def open_text(ring: Ring, place: Place, text: bytes | memoryview) -> tuple[Buffer, Key]:
    """What a file of either format holds, on pages that the caller wipes, and the key that opened it.

    Raises VaultError.
    """
    match words(text):
        case token.FORMAT_WORDS:
            return token.open_token(ring, place, text)
        case fernet.FORMAT_WORDS:
            return fernet.open_fernet(ring, place, text)
        case _:
            code = Code.FORMAT_UNKNOWN if text else Code.FILE_EMPTY
            raise fault(code, place.category, place.shown(place.file))


def written(setting: str) -> str:
    """What people are told of a file that is written under this value of SECRETS_WRITE_FORMAT."""
    return fernet.FORMAT_WORDS if setting == FERNET else token.FORMAT_WORDS
