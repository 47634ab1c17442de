"""The settings files and tables of a running instance: detects changes, lists them, and validates them.

A table of the operator that a plugin uses counts as a setting: a change takes effect from the next session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.engine.settings_reload import SettingsDiff
from tbot_core.errors import AccessError, TbotError
from tbot_core.instance.folder import ENCRYPTED_SUFFIX
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tbot_core.cli.run_options import RunOptions
    from tbot_core.instance import Settings, SettingsFiles


def _accept() -> None:
    # No plugin uses a table.
    pass


_HASH_SHOWN: Final = 12
_Marks = tuple[tuple["Path", float, int], ...]


class SettingsWatcher:
    """The settings of a run (`options` and `sources`), and those in the files after they were changed.

    `read` reads and checks the files as a start does.
    """

    def __init__(
        self,
        options: RunOptions,
        sources: SettingsFiles,
        read: Callable[[RunOptions], tuple[RunOptions, SettingsFiles]],
    ) -> None:
        self.options = options
        self.sources = sources
        self._read = read
        self._next: tuple[RunOptions, SettingsFiles] | None = None
        self._settings: Settings | None = None
        self._trial: Callable[[], None] = _accept
        self._seen: tuple[_Marks, _Marks] = self._marks(), ()

    def begin(self, settings: Settings, trial: Callable[[], None] = _accept) -> None:
        """Start a run with these settings, which may be older than those in the files.

        `trial` raises TbotError for a table that the plugin that uses it rejects.
        """
        self._settings, self._trial = settings, trial
        tables = self._marks_of_tables()
        try:
            stale = bool(self._differences(self.sources))
        except TbotError:
            stale = True
        self._seen = ((), ()) if stale else (self._seen[0], tables)

    def poll(self) -> SettingsDiff | None:
        """The changes since the last call; None if there are none. No file is opened unless it has changed."""
        marks = self._marks(), self._marks_of_tables()
        if marks == self._seen:
            return None
        self._seen, self._next = marks, None
        try:
            options, files = self._read(self.options)
            differences = self._differences(files)
            self._trial()
        except TbotError as fault:
            return SettingsDiff(differences={}, fault=str(fault))
        self._next = options, files
        return SettingsDiff(differences=differences)

    def renew(self) -> None:
        """Use the changed settings from now on."""
        if self._next is not None:
            (self.options, self.sources), self._next = self._next, None

    def _differences(self, found: SettingsFiles) -> dict[str, tuple[str | None, str | None]]:
        from tbot_core.instance import load_settings

        current = {} if self._settings is None else {name: one.text for name, one in self._settings.values.items()}
        loaded = load_settings(self.options.home, mode=self.options.mode, sources=found)
        new = {name: one.text for name, one in loaded.values.items()}
        fixed = set() if self.options.seed is None else {"SEED"}  # set by the command line
        changed: dict[str, tuple[str | None, str | None]] = {
            name: (current.get(name), text)
            for name, text in sorted(new.items())
            if name not in fixed and current.get(name) != text
        }
        return changed | self._other_tables()

    def _other_tables(self) -> dict[str, tuple[str | None, str | None]]:
        # The tables that differ from those of the run, by the first characters of their hashes; None for no table.
        from tbot_core.instance import table_hashes

        if self._settings is None:
            return {}
        current = self._settings.tables
        now = table_hashes(self._settings.instance, current)
        return {
            name: (current[name][:_HASH_SHOWN] or None, found[:_HASH_SHOWN] or None)
            for name, found in sorted(now.items())
            if current[name] != found
        }

    def _marks(self) -> _Marks:
        plain = [source.path for source in self.sources.both]
        return _marks([*plain, *(path.with_name(path.name + ENCRYPTED_SUFFIX) for path in plain)])

    def _marks_of_tables(self) -> _Marks:
        settings = self._settings
        return () if settings is None else _marks(settings.instance.table(name) for name in settings.tables)


def _marks(paths: Iterable[Path]) -> _Marks:
    return tuple(mark for path in paths if (mark := _mark(path)) is not None)


def _mark(path: Path) -> tuple[Path, float, int] | None:
    try:
        found = filesystem.revision(path)
    except AccessError:
        return path, -1.0, -1
    return None if found is None else (path, *found)
