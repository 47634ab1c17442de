"""Encrypted files: read and written privately, with the faults that they can have, and recognised by their prefix."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.system import log, secure_files
from tbot_core.system.secure_files import FileFlaw
from tbot_core.vault import fernet, token
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.token import LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.errors import VaultError
    from tbot_core.system.secure_files import FileSystemCalls, PrivateFileContent
    from tbot_core.system.secure_memory import SecureBuffer
    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import CategoryKeys, RootKey

_KEY_LIMIT_BYTES: Final = 64
FILE_LIMIT_BYTES: Final = LIMIT_BYTES + 1

_KEY_CODES: Final = {
    FileFlaw.FOLDER_MISSING: VaultErrorCode.KEY_FOLDER_MISSING,
    FileFlaw.MISSING: VaultErrorCode.KEY_MISSING,
    FileFlaw.DENIED: VaultErrorCode.KEY_DENIED,
    FileFlaw.FAULT: VaultErrorCode.KEY_FAULT,
    FileFlaw.FULL: VaultErrorCode.KEY_FULL,
    FileFlaw.READ_ONLY: VaultErrorCode.KEY_READ_ONLY,
    FileFlaw.SYMLINK: VaultErrorCode.KEY_SYMLINK,
    FileFlaw.NOT_REGULAR: VaultErrorCode.KEY_NOT_REGULAR,
    FileFlaw.OWNER: VaultErrorCode.KEY_OWNER,
    FileFlaw.LINKS: VaultErrorCode.KEY_LINKS,
    FileFlaw.TOO_LARGE: VaultErrorCode.KEY_TOO_LARGE,
    FileFlaw.MODE: VaultErrorCode.KEY_MODE,
    FileFlaw.FOLDER_MODE: VaultErrorCode.KEY_FOLDER_MODE,
    FileFlaw.FOLDER_OWNER: VaultErrorCode.KEY_FOLDER_OWNER,
    FileFlaw.UNPROVEN: VaultErrorCode.KEY_UNPROVEN,
}
_FILE_CODES: Final = {
    FileFlaw.FOLDER_MISSING: VaultErrorCode.FILE_FOLDER_MISSING,
    FileFlaw.MISSING: VaultErrorCode.FILE_MISSING,
    FileFlaw.DENIED: VaultErrorCode.FILE_DENIED,
    FileFlaw.FAULT: VaultErrorCode.FILE_FAULT,
    FileFlaw.FULL: VaultErrorCode.FILE_FULL,
    FileFlaw.READ_ONLY: VaultErrorCode.FILE_READ_ONLY,
    FileFlaw.SYMLINK: VaultErrorCode.FILE_SYMLINK,
    FileFlaw.NOT_REGULAR: VaultErrorCode.FILE_NOT_REGULAR,
    FileFlaw.OWNER: VaultErrorCode.FILE_OWNER,
    FileFlaw.LINKS: VaultErrorCode.FILE_LINKS,
    FileFlaw.TOO_LARGE: VaultErrorCode.TOKEN_TOO_LONG,
    FileFlaw.MODE: VaultErrorCode.FILE_MODE,
    FileFlaw.FOLDER_OPEN: VaultErrorCode.FILE_FOLDER_OPEN,
    FileFlaw.FOLDER_OWNER: VaultErrorCode.FILE_FOLDER_OWNER,
    FileFlaw.UNPROVEN: VaultErrorCode.FILE_UNPROVEN,
}
_log = log.logger(__name__)
FERNET: Final = "fernet"
"""The value of SECRETS_WRITE_FORMAT that writes Fernet tokens; any other writes tbot's."""


def read_key(place: CategoryPaths, path: Path, *, strict: bool, system: FileSystemCalls) -> PrivateFileContent:
    """Read a key file of the category, with its tolerated flaws. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        return secure_files.read(path, limit=_KEY_LIMIT_BYTES, strict=strict, folder_private=True, system=system)


def read_file(place: CategoryPaths, *, strict: bool, system: FileSystemCalls) -> PrivateFileContent:
    """Read the category's file, with its tolerated flaws. Raises VaultError."""
    with _coded(place, place.file, _FILE_CODES):
        return secure_files.read(place.file, limit=FILE_LIMIT_BYTES, strict=strict, system=system)


def write_key(place: CategoryPaths, path: Path, text: SecureBuffer, *, system: FileSystemCalls) -> None:
    """Replace a key file durably. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        secure_files.write(path, text.view, check=_accept, system=system)


def remove_key(place: CategoryPaths, path: Path, *, system: FileSystemCalls) -> None:
    """Remove a key file durably, if it exists. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        secure_files.remove(path, system=system)


def write_file(
    place: CategoryPaths, text: bytes, *, prove: Callable[[memoryview], None], system: FileSystemCalls
) -> None:
    """Replace the category's file durably, after `prove` has accepted what was written. Raises VaultError."""
    with _coded(place, place.file, _FILE_CODES):
        secure_files.write(place.file, text, check=prove, system=system)


def flaws_of(place: CategoryPaths, *, key: tuple[FileFlaw, ...], file: tuple[FileFlaw, ...]) -> tuple[VaultError, ...]:
    """The tolerated flaws as errors for display; the key's come first."""
    keys = tuple(_flaw(place, place.key, _KEY_CODES, flaw) for flaw in key)
    return keys + tuple(_flaw(place, place.file, _FILE_CODES, flaw) for flaw in file)


def warn(faults: tuple[VaultError, ...]) -> None:
    """Log the tolerated flaws."""
    for fault in faults:
        _log.warning("secrets.loose", code=fault.code, what=fault.message, remedy=fault.remedy)


def _accept(_: memoryview) -> None:
    # Reading back is proof enough for a key.
    pass


@contextmanager
def _coded(place: CategoryPaths, path: Path, codes: dict[FileFlaw, VaultErrorCode]) -> Iterator[None]:
    try:
        yield
    except secure_files.PrivateFileError as error:
        raise _flaw(place, path, codes, error.flaw) from None


def _flaw(place: CategoryPaths, path: Path, codes: dict[FileFlaw, VaultErrorCode], flaw: FileFlaw) -> VaultError:
    return vault_error(codes[flaw], place.category, place.shown(path))


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
