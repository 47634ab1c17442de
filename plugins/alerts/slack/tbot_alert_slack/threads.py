"""Which message of Slack began the thread of an incident, kept over restarts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

MOST: Final = 500
_NAME: Final = "threads.json"


class Threads:
    """The times (`ts`) of the last messages by the key of their incident, in a file of the plugin's data folder.

    A file that cannot be used costs the thread, never the message.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, str] | None = None

    def of(self, key: str) -> str | None:
        """The message that began an incident, None for an unknown one."""
        return self._all.get(key)

    def remember(self, key: str, posted: str) -> None:
        """Record the message that began an incident, if none is known."""
        known = self._all
        known.setdefault(key, posted)
        for oldest in list(known)[:-MOST]:
            del known[oldest]
        try:
            filesystem.make_folder(self._folder)
            filesystem.write_atomic(self._folder / _NAME, json.dumps(known).encode())
        except AccessError:
            return

    @property
    def _all(self) -> dict[str, str]:
        if self._known is None:
            self._known = _read(self._folder / _NAME)
        return self._known


def _read(path: Path) -> dict[str, str]:
    try:
        found: Any = json_document.parse_json(filesystem.read_bytes(path)) if filesystem.exists(path) else {}
    except (AccessError, json_document.InvalidJson):
        return {}
    return {str(key): str(posted) for key, posted in found.items()} if isinstance(found, dict) else {}
