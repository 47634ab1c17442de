"""How far each extension has followed a journal, and whether it fails: one small file each, beside the journal."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tbot_core.journal.store import Journal

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class Progress:
    """The confirmed event of the journal (0: none) with its hash, and the failure since the last success.

    `title` names the extension in a sentence. `failing_since` is None while it works.
    """

    title: str = ""
    seq: int = 0
    hash: str = ""
    failing_since: datetime | None = None
    error: str = ""

    def begins_after(self, journal: Journal) -> int:
        """The sequence number after which it continues; 0 for another journal than that which was followed."""
        event = next(journal.events(self.seq - 1), None) if self.seq else None
        if self.seq and (event is None or (event.seq, event.hash) != (self.seq, self.hash)):
            _log.warning("extension.begins_anew", extension=self.title, reason=f"{journal.path} is another journal")
            return 0
        return self.seq

    @property
    def sentence(self) -> str:
        """What fails and since when; "" while it works."""
        if self.failing_since is None:
            return ""
        return f"The {self.title} fails since {self.failing_since:%Y-%m-%d %H:%M} UTC: {self.error}"


class ProgressFile:
    """The file of one extension; `state` is its content."""

    def __init__(self, path: Path, title: str) -> None:
        self._path = path
        self.state = attrs.evolve(_read(path), title=title)

    def write(self, state: Progress) -> None:
        """Store the state durably. Raises AccessError, and keeps the state before."""
        filesystem.make_folder(self._path.parent)
        known = attrs.asdict(state)
        since = state.failing_since
        text = json.dumps({**known, "failing_since": None if since is None else since.isoformat()})
        filesystem.write_atomic(self._path, text.encode())
        self.state = state


def progress_folder(journal: Path) -> Path:
    """The folder of a journal's progress files."""
    return journal.with_suffix(".extensions")


def failing_extensions(journal: Path) -> list[str]:
    """A sentence for each extension that fails on this journal."""
    return [sentence for path in _files(journal) if (sentence := _read(path).sentence)]


def forget_failures(journal: Path, running: Collection[str]) -> None:
    """Clear the failures of extensions that are not among the running ones: they are not tried again."""
    for path in _files(journal):
        state = _read(path)
        if path.stem not in running and state.failing_since is not None:
            ProgressFile(path, state.title).write(attrs.evolve(state, failing_since=None, error=""))


def _files(journal: Path) -> list[Path]:
    folder = progress_folder(journal)
    paths = filesystem.entries(folder) if filesystem.is_folder(folder) else []
    return [path for path in paths if path.suffix == ".json"]


def _read(path: Path) -> Progress:
    # A file that cannot be read counts as absent: events are given again, and every trade has an id.
    try:
        if not filesystem.exists(path):
            return Progress()
        found = json_document.parse_json(filesystem.read_bytes(path))
        since = found.pop("failing_since")
        return Progress(**found, failing_since=None if since is None else datetime.fromisoformat(since))
    except (AccessError, ValueError, TypeError, LookupError, AttributeError) as fault:
        _log.warning("extension.progress_unreadable", path=str(path), reason=str(fault))
        return Progress()
