"""The default key provider: one file per category, and beside it those of a rotation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.errors import VaultError
from tbot_core.system.secure_files import FileFlaw, FileSystemCalls
from tbot_core.vault import files, keys
from tbot_core.vault.categories import CategoryPaths
from tbot_core.vault.error_codes import VaultErrorCode

if TYPE_CHECKING:
    from pathlib import Path


_ABSENT: Final = frozenset({VaultErrorCode.KEY_MISSING.text, VaultErrorCode.KEY_FOLDER_MISSING.text})


@attrs.define(kw_only=True)
class FileKeyProvider:
    """Keys in files: `smtp.key`, and `smtp.next.key` and `smtp.prev.key` around a rotation."""

    locate: Callable[[str], CategoryPaths]
    strict: bool
    system: FileSystemCalls
    reported: dict[str, tuple[FileFlaw, ...]] = attrs.field(factory=dict)
    """The flaws of each category's key as last read."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Files can be written."""
        return frozenset({"put", "files"})

    def get_key(self, category: str, slot: str) -> bytearray | None:
        """The 32 bytes of a key; None when its file is missing. Raises VaultError."""
        place = self.locate(category)
        path = slot_path(place.key, slot)
        try:
            content = files.read_key(place, path, strict=self.strict, system=self.system)
        except VaultError as error:
            if error.code in _ABSENT:
                return None
            raise
        self.reported[category] = content.flaws
        with content.data as text, keys.parse_key(text.view, category, place.shown(path)).root as root:
            return bytearray(root.view)

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Write a key durably, or remove it (None). Raises VaultError."""
        place = self.locate(category)
        path = slot_path(place.key, slot)
        if key is None:
            files.remove_key(place, path, system=self.system)
            return
        with keys.render_key(key) as text:
            files.write_key(place, path, text, system=self.system)


def slot_path(key: Path, slot: str) -> Path:
    """The file of a slot: `smtp.key` for the current key, `smtp.next.key` for the next."""
    return key if slot == "cur" else key.with_name(f"{key.stem}.{slot}{key.suffix}")
