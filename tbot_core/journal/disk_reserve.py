"""A file that holds room on the disk for the journal's last words: a full disk must keep nobody from a cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, log

FILE_NAME: Final = "ballast"
BYTES: Final = 16_000_000
"""Room for thousands of events, the log of them that SQLite keeps, and the alerts beside."""

NO_ROOM_BYTES: Final = 50_000_000
"""With less room than this nothing is begun, and a run that is under way leaves exits only."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class DiskReserve:
    """The file at `path`, of so many bytes."""

    path: Path
    size: int = BYTES

    def fill(self) -> bool:
        """Hold the room, where that is not done; whether it is held. A disk that cannot give it goes without."""
        try:
            if not (filesystem.exists(self.path) and filesystem.size(self.path) == self.size):
                filesystem.preallocate(self.path, self.size)
        except AccessError as fault:
            _log.warning("ballast.not_held", reason=fault.message)
            return False
        return True

    def drop(self) -> bool:
        """Give the room back; whether there was any."""
        try:
            held = filesystem.exists(self.path)
            filesystem.remove(self.path)
        except AccessError as fault:
            _log.error("ballast.not_dropped", reason=fault.message)
            return False
        return held
