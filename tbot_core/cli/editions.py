"""The settings files of a running instance: whether they were changed, what that changes, and whether it is fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.errors import AccessError, TbotError
from tbot_core.runner.renewal import Change
from tbot_core.seams import disk
from tbot_core.settings.instance import ENCRYPTED_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.cli.wish import Wish
    from tbot_core.settings import Settings, Sources


class Editions:
    """The settings that a run has, as `wish` and `found`, and those that lie in the files, once they are other ones.

    `read` reads the files as a start does, and refuses what a start refuses.
    """

    def __init__(self, wish: Wish, found: Sources, read: Callable[[Wish], tuple[Wish, Sources]]) -> None:
        self.wish = wish
        self.found = found
        self._read = read
        self._next: tuple[Wish, Sources] | None = None
        self._seen = self._marks()
        self._settings: Settings | None = None

    def begin(self, settings: Settings) -> None:
        """A run begins with these settings, which may be older than those in the files."""
        self._settings = settings
        try:
            stale = bool(self._differences(self.found))
        except TbotError:
            stale = True
        self._seen = () if stale else self._seen

    def look(self) -> Change | None:
        """What was changed since the last look; None for nothing. Nothing is opened before a file is another one."""
        marks = self._marks()
        if marks == self._seen:
            return None
        self._seen, self._next = marks, None
        try:
            wish, found = self._read(self.wish)
            differences = self._differences(found)
        except TbotError as fault:
            return Change(differences={}, fault=str(fault))
        self._next = wish, found
        return Change(differences=differences)

    def renew(self) -> None:
        """From now on the run's settings are those that were found."""
        if self._next is not None:
            (self.wish, self.found), self._next = self._next, None

    def _differences(self, found: Sources) -> dict[str, tuple[str | None, str | None]]:
        from tbot_core.settings import load

        ours = {} if self._settings is None else {name: one.text for name, one in self._settings.values.items()}
        fresh = load(self.wish.home, mode=self.wish.mode, sources=found)
        theirs = {name: one.text for name, one in fresh.values.items()}
        fixed = set() if self.wish.seed is None else {"SEED"}  # as the command line has it
        return {
            name: (ours.get(name), text)
            for name, text in sorted(theirs.items())
            if name not in fixed and ours.get(name) != text
        }

    def _marks(self) -> tuple[tuple[Path, float, int], ...]:
        plain = [source.path for source in self.found.both]
        paths = [*plain, *(path.with_name(path.name + ENCRYPTED_SUFFIX) for path in plain)]
        return tuple(mark for path in paths if (mark := _mark(path)) is not None)


def _mark(path: Path) -> tuple[Path, float, int] | None:
    try:
        return (path, disk.modified(path), disk.size(path)) if disk.exists(path) else None
    except AccessError:
        return path, -1.0, -1
