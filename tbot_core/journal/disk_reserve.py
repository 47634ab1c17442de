"""A file that reserves disk space, so that the journal can still record cancels when the disk is full."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import filesystem, log

FILE_NAME: Final = "ballast"
BYTES: Final = 16_000_000
"""Enough for thousands of events, their WAL, and the alerts."""

NO_ROOM_BYTES: Final = 50_000_000
"""Below this, no run starts, and a running one is limited to exits."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class DiskReserve:
    """The reserve file at `path`; `size` is in bytes."""

    path: Path
    size: int = BYTES

    def fill(self) -> bool:
        """Allocate the file unless it exists with the right size; return whether the space is reserved."""
        try:
            if not (filesystem.exists(self.path) and filesystem.size(self.path) == self.size):
                filesystem.preallocate(self.path, self.size)
        except AccessError as fault:
            _log.warning("ballast.not_held", reason=fault.message)
            return False
        return True

    def drop(self) -> bool:
        """Remove the file; return whether it existed."""
        try:
            held = filesystem.exists(self.path)
            filesystem.remove(self.path)
        except AccessError as fault:
            _log.error("ballast.not_dropped", reason=fault.message)
            return False
        return held
