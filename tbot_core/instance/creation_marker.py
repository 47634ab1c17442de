"""The marker of an instance that is being made: the files and folders that were not there before.

It is written before every other file and removed after all is made. An interrupted creation is undone from it, so that
nothing else is removed; until then no command reads the settings of the instance.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tbot_core.errors import AccessError
from tbot_core.instance.folder import CREATION_MARKER, FOLDERS, IGNORE_FILES, Instance
from tbot_core.instance.secret_paths import SecretPaths
from tbot_core.model import json_document
from tbot_core.system import filesystem
from tbot_core.vault.key_providers import HEADER_PATH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from tbot_core.contracts.settings import DeploymentSettings

_LIMIT_BYTES: Final = 1_000_000
_RECORDS: Final = (
    ("audit.log", "audit.anchors"),
    ("vault.lock", "vault.lock.pid"),
    ("tbot.sqlite", *(f"tbot.sqlite-{end}" for end in ("wal", "shm", "journal", "verified"))),
)


@contextmanager
def creation(instance: Instance, deployment: DeploymentSettings, instead_of: Collection[Path] = ()) -> Iterator[None]:
    """Create the folders of the instance; what is made inside the context is undone if an exception leaves it.

    After a kill `undo_creation` does the same, also at the next creation. `instead_of`: files that are there and are
    removed too then. Folders that exist already are closed to
    others. Raises AccessError, for a folder of another user too, and while another process makes the instance.
    """
    undo_creation(instance)
    made = _absent_paths(instance, deployment, instead_of)
    filesystem.make_private_folder(instance.home, mode=0o755)
    marker = instance.path(CREATION_MARKER)
    _remove_file(marker)
    try:
        filesystem.write_atomic(marker, json.dumps(made).encode())
        with filesystem.try_lock(marker):
            for folder in FOLDERS:
                filesystem.make_private_folder(instance.path(folder))
            yield
    except BaseException:
        _remove(instance, made)
        raise
    filesystem.remove(marker)


def undo_creation(instance: Instance) -> bool:
    """Remove what an interrupted creation made; returns whether there was one.

    Raises AccessError for a marker that others can change, or that does not hold paths, and while the creation goes on.
    """
    marker = instance.path(CREATION_MARKER)
    if not filesystem.is_present(marker):
        return False
    if filesystem.write_exposure(marker):
        raise _unusable(marker, "others can change it")
    try:
        made = json_document.parse_json(filesystem.read_bytes(marker, limit=_LIMIT_BYTES))
        paths = {kind: [str(path) for path in made[kind]] for kind in ("files", "replaced", "folders")}
    except (json_document.InvalidJson, KeyError, TypeError):
        raise _unusable(marker, "it does not hold the paths of what was made") from None
    with filesystem.try_lock(marker) as ended:
        if not ended:
            raise AccessError(f"Another process is making the instance {instance.home}.", "Wait until it has ended.")
        _remove(instance, paths)
    return True


def _unusable(marker: Path, reason: str) -> AccessError:
    return AccessError(f"Cannot use {marker}: {reason}.", "Remove it, or choose another --home.")


def _absent_paths(
    instance: Instance, deployment: DeploymentSettings, instead_of: Collection[Path]
) -> dict[str, list[str]]:
    # What a creation may make: the files and folders that are not there or go with it, and those that it may replace.
    # Files of one group belong together.
    secrets = SecretPaths(instance, deployment)
    single = [*secrets.keys(), *secrets.files(), *map(instance.path, (HEADER_PATH, *IGNORE_FILES))]
    groups = [*((path,) for path in single), *(tuple(instance.data / name for name in names) for names in _RECORDS)]
    files: list[Path] = [*instead_of]
    replaced: list[Path] = []
    for group in groups:
        stays = any(filesystem.is_present(path) for path in group if path not in instead_of)
        (replaced if stays else files).extend(path for path in group if path not in instead_of)
    folders = {instance.path(folder) for folder in FOLDERS} | {path.parent for path in files}
    missing = {one for folder in sorted(folders) for one in (folder, *folder.parents) if not filesystem.is_present(one)}
    deepest = sorted(missing, key=lambda path: len(path.parts), reverse=True)
    made = {"files": files, "replaced": replaced, "folders": deepest}
    return {kind: _texts(instance, paths) for kind, paths in made.items()}


def _texts(instance: Instance, paths: Iterable[Path]) -> list[str]:
    # Relative to the instance, so that its folder may be moved.
    home = instance.home
    return [str(path.relative_to(home)) if path.is_relative_to(home) else str(path) for path in paths]


def _remove(instance: Instance, made: dict[str, list[str]]) -> None:
    # The files, what their writers left beside them, then the folders that are empty; the marker goes last.
    files, replaced = map(instance.path, made["files"]), map(instance.path, made["replaced"])
    for path in (*files, *(left for one in replaced for left in leftovers(one))):
        _remove_file(path)
    folders, last = list(map(instance.path, made["folders"])), {instance.home, *instance.home.parents}
    for folder in (one for one in folders if one not in last):
        filesystem.remove_empty_folder(folder)
    _remove_file(instance.path(CREATION_MARKER))
    for folder in (one for one in folders if one in last):
        filesystem.remove_empty_folder(folder)


def _remove_file(path: Path) -> None:
    for one in (path, *leftovers(path)):
        if filesystem.is_present(one):  # a file in place of a folder has nothing below it
            filesystem.remove(one)


def leftovers(path: Path) -> list[Path]:
    """What a killed writer of the file left beside it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(new|[a-z0-9_]{{8}}\.tmp)")
    beside = filesystem.entries(path.parent) if filesystem.is_folder(path.parent) else []
    return [one for one in beside if name.fullmatch(one.name)]
