"""The vault's files: opened with every check of the disk seam, each refusal under its code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.system import log, secure_files
from tbot_core.system.secure_files import Flaw
from tbot_core.vault.error_codes import Code, fault
from tbot_core.vault.token import LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.errors import VaultError
    from tbot_core.system.secure_files import Content, System
    from tbot_core.system.secure_memory import Buffer
    from tbot_core.vault.categories import Place

KEY_LIMIT_BYTES: Final = 64
FILE_LIMIT_BYTES: Final = LIMIT_BYTES + 1

_KEY_CODES: Final = {
    Flaw.FOLDER_MISSING: Code.KEY_FOLDER_MISSING,
    Flaw.MISSING: Code.KEY_MISSING,
    Flaw.DENIED: Code.KEY_DENIED,
    Flaw.FAULT: Code.KEY_FAULT,
    Flaw.FULL: Code.KEY_FULL,
    Flaw.READ_ONLY: Code.KEY_READ_ONLY,
    Flaw.SYMLINK: Code.KEY_SYMLINK,
    Flaw.NOT_REGULAR: Code.KEY_NOT_REGULAR,
    Flaw.OWNER: Code.KEY_OWNER,
    Flaw.LINKS: Code.KEY_LINKS,
    Flaw.TOO_LARGE: Code.KEY_TOO_LARGE,
    Flaw.MODE: Code.KEY_MODE,
    Flaw.FOLDER_MODE: Code.KEY_FOLDER_MODE,
    Flaw.FOLDER_OWNER: Code.KEY_FOLDER_OWNER,
    Flaw.UNPROVEN: Code.KEY_UNPROVEN,
}
_FILE_CODES: Final = {
    Flaw.FOLDER_MISSING: Code.FILE_FOLDER_MISSING,
    Flaw.MISSING: Code.FILE_MISSING,
    Flaw.DENIED: Code.FILE_DENIED,
    Flaw.FAULT: Code.FILE_FAULT,
    Flaw.FULL: Code.FILE_FULL,
    Flaw.READ_ONLY: Code.FILE_READ_ONLY,
    Flaw.SYMLINK: Code.FILE_SYMLINK,
    Flaw.NOT_REGULAR: Code.FILE_NOT_REGULAR,
    Flaw.OWNER: Code.FILE_OWNER,
    Flaw.LINKS: Code.FILE_LINKS,
    Flaw.TOO_LARGE: Code.TOKEN_TOO_LONG,
    Flaw.MODE: Code.FILE_MODE,
    Flaw.FOLDER_OPEN: Code.FILE_FOLDER_OPEN,
    Flaw.FOLDER_OWNER: Code.FILE_FOLDER_OWNER,
    Flaw.UNPROVEN: Code.FILE_UNPROVEN,
}
_log = log.logger(__name__)


def read_key(place: Place, path: Path, *, strict: bool, system: System) -> Content:
    """The text of a key file of the category, and the loose flaws put up with. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        return secure_files.read(path, limit=KEY_LIMIT_BYTES, strict=strict, folder_private=True, system=system)


def read_file(place: Place, *, strict: bool, system: System) -> Content:
    """The text of the category's file, and the loose flaws put up with. Raises VaultError."""
    with _coded(place, place.file, _FILE_CODES):
        return secure_files.read(place.file, limit=FILE_LIMIT_BYTES, strict=strict, system=system)


def write_key(place: Place, path: Path, text: Buffer, *, system: System) -> None:
    """Replace a key file, durably. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        secure_files.write(path, text.view, check=_taken, system=system)


def remove_key(place: Place, path: Path, *, system: System) -> None:
    """Take a key file away, durably; nothing happens when it is not there. Raises VaultError."""
    with _coded(place, path, _KEY_CODES):
        secure_files.remove(path, system=system)


def write_file(place: Place, text: bytes, *, prove: Callable[[memoryview], None], system: System) -> None:
    """Replace the category's file, durably, once `prove` has opened what was written beside it. Raises VaultError."""
    with _coded(place, place.file, _FILE_CODES):
        secure_files.write(place.file, text, check=prove, system=system)


def flaws_of(place: Place, *, key: tuple[Flaw, ...], file: tuple[Flaw, ...]) -> tuple[VaultError, ...]:
    """The loose flaws as errors, to be shown; the key's come first."""
    keys = tuple(_flaw(place, place.key, _KEY_CODES, flaw) for flaw in key)
    return keys + tuple(_flaw(place, place.file, _FILE_CODES, flaw) for flaw in file)


def warn(faults: tuple[VaultError, ...]) -> None:
    """Say in the log what was put up with."""
    for it in faults:
        _log.warning("secrets.loose", code=it.code, what=it.message, remedy=it.remedy)


def _taken(_: memoryview) -> None:
    # A key that reads back is proven.
    pass


@contextmanager
def _coded(place: Place, path: Path, codes: dict[Flaw, Code]) -> Iterator[None]:
    try:
        yield
    except secure_files.PrivateError as error:
        raise _flaw(place, path, codes, error.flaw) from None


def _flaw(place: Place, path: Path, codes: dict[Flaw, Code], flaw: Flaw) -> VaultError:
    return fault(codes[flaw], place.category, place.shown(path))
