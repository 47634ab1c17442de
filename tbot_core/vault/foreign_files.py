"""Opens encrypted files of another installation, wherever they and their keys are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import VaultError
from tbot_core.system import filesystem, secure_files
from tbot_core.vault import files
from tbot_core.vault.error_codes import VaultErrorCode, vault_error
from tbot_core.vault.keys import CategoryKeys, parse_key
from tbot_core.vault.store import OpenedSecrets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.vault.categories import CategoryPaths
    from tbot_core.vault.keys import RootKey

_OTHER_KEY: Final = frozenset({VaultErrorCode.TOKEN_KEY_ID.text, VaultErrorCode.FERNET_TAG.text})


def open_foreign_file(place: CategoryPaths, keys: Sequence[Path]) -> OpenedSecrets:
    """Decrypt `place.file` with the first of the existing `keys` that opens it, to be used as a context manager.

    Loose modes are tolerated. Raises VaultError where no key exists, none fits, or a key or the file is unusable.
    """
    present = [key for key in keys if filesystem.is_present(key)]
    if not present:
        raise vault_error(VaultErrorCode.KEY_MISSING, place.category, place.shown(place.key))
    content = files.read_file(place, strict=False, system=secure_files.SYSTEM)
    with content.data as text:
        for path in present[:-1]:
            try:
                return _opened(place, path, text.view)
            except VaultError as error:
                if error.code not in _OTHER_KEY:
                    raise
        return _opened(place, present[-1], text.view)


def _opened(place: CategoryPaths, key_file: Path, text: memoryview) -> OpenedSecrets:
    with _key(attrs.evolve(place, key=key_file)) as ring:
        plain, key = files.open_text(ring, place, text)
        return OpenedSecrets(plain, format_words=files.format_text(text) or "", key_id=key.name, flaws=())


def _key(place: CategoryPaths) -> CategoryKeys:
    content = files.read_key(place, place.key, strict=False, system=secure_files.SYSTEM)
    with content.data as text:
        key: RootKey = parse_key(text.view, place.category, place.shown(place.key))
    return CategoryKeys(cur=key)
