"""A third party's keys: in a box that opens and shuts."""

from __future__ import annotations

from pathlib import Path

import attrs

from tbot_core.contracts import Context, Plugin
from tbot_core.contracts.hooks import hookimpl


@attrs.frozen(kw_only=True)
class Config:
    """Nothing can be set."""


@attrs.frozen
class Lockbox:
    """Keys in a folder; while a file called `shut` lies there, none is given or taken."""

    folder: Path
    capabilities: frozenset[str] = frozenset({"put"})

    def get_key(self, category: str, slot: str) -> bytes | None:
        """The key, if the box has it."""
        file = self._file(category, slot)
        return file.read_bytes() if file.exists() else None

    def put_key(self, category: str, slot: str, key: memoryview | None) -> None:
        """Lay it into the box, or take it out."""
        file = self._file(category, slot)
        if key is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(key)

    def _file(self, category: str, slot: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "shut").exists():
            raise OSError("the box is shut")
        return self.folder / f"{category}.{slot}"


@hookimpl
def tbot_extension() -> Plugin:
    """The extension, which does nothing in a run."""
    return Plugin(name="lockbox", summary="Keys in a box", config=Config, create=lambda config, _: config)


@hookimpl
def tbot_key_provider(context: Context) -> Lockbox:
    """The box, in the folder that is the plugin's own."""
    return Lockbox(context.data_dir)
