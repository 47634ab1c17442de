"""Where the keys and secrets of an instance are, as its settings say, and what may lie beside them.

Beside them may be plaintext, copies that an editor or a person made, and the new file of a writer that was killed.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.instance.folder import ENCRYPTED_SUFFIX, IGNORE_FILES, IGNORED, OLDER_FOLDER, Instance
from tbot_core.system import filesystem, secure_files
from tbot_core.vault import categories, key_providers, keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_KEYS: Final = "storage/keys"
_SECRETS: Final = "storage/secrets"
_COPY: Final = r"[.~].*"
_ANY_KEY: Final = rf".+\.key({_COPY})?"
_ANY_SECRETS: Final = rf".+\.json({_COPY})?"
_ANY_CREDENTIALS: Final = rf".*_credentials\.json({_COPY})?"
_SECRET_NAME: Final = re.compile(f"{_ANY_KEY}|{_ANY_CREDENTIALS}")
_SETTINGS: Final = frozenset({"env", "env_bot"})
_ENCRYPTED: Final = re.compile(r".*\.enc([.~].*)?")


@attrs.frozen
class SecretPaths:
    """The keys and files of each category, at the paths of the settings."""

    instance: Instance
    deployment: DeploymentSettings

    def keys(self) -> tuple[Path, ...]:
        """The key of each category, and those of a rotation beside it; the audit log's key too."""
        current = [it.key for it in (*self._places(), categories.audit_paths(self.instance))]
        return tuple(key_providers.slot_path(key, slot) for key in current for slot in keys.SLOTS)

    def files(self) -> tuple[Path, ...]:
        """The encrypted file of each category."""
        return tuple(place.file for place in self._places())

    def plaintext_of_secrets(self) -> Iterator[Path]:
        """Every file with secrets in plaintext where the encrypted ones are, or where older programs had them."""
        named = [_plain(place.file) for place in self._places() if place.category not in _SETTINGS]
        places = [(path.parent, rf"{re.escape(path.name)}({_COPY})?") for path in named]
        places += [(self.instance.path(_SECRETS), _ANY_SECRETS), (self.instance.home, _ANY_CREDENTIALS)]
        return (path for path in _found(places) if not _ENCRYPTED.fullmatch(path.name))

    def copies_of_keys(self) -> Iterator[Path]:
        """Every copy of a key file beside the keys."""
        own, leftovers = set(self.keys()), set(self.leftovers())
        places = [(path.parent, rf"{re.escape(path.name)}{_COPY}") for path in sorted(own)]
        places.append((self.instance.path(_KEYS), rf".+\.key{_COPY}"))
        return (path for path in _found(places) if path not in own | leftovers)

    def leftovers(self) -> tuple[Path, ...]:
        """The new files that killed writers left beside keys and secrets."""
        beside = [secure_files.new_file(path) for path in (*self.keys(), *self.files())]
        return tuple(path for path in beside if filesystem.is_present(path))

    def secrets_among(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Those that are a key, a file of secrets, its plaintext or that of settings, or a copy of one."""
        sealed = {place.file for place in self._places() if place.category not in _SETTINGS}
        named = {*self.keys(), *map(_plain, self.files())} | sealed
        folders = [self.instance.path(folder) for folder in (_KEYS, _SECRETS)]
        for path in paths:
            inside = any(path.is_relative_to(folder) for folder in folders)
            if path in named or inside or _SECRET_NAME.fullmatch(path.name):
                yield path

    def folders(self) -> tuple[Path, ...]:
        """The instance, and the folders outside of it that hold keys or files."""
        home = self.instance.home
        parents = {path.parent for path in (*self.keys(), *self.files())}
        return (home, *(path for path in sorted(parents) if not path.is_relative_to(home)))

    def ignored(self) -> tuple[str, ...]:
        """The lines for the ignore files of git and scp: the usual ones, and those of other paths in the instance."""
        paths = [path for place in self._places() for path in (place.key, _plain(place.file), place.file)]
        inside = [path.relative_to(self.instance.home) for path in paths if path.is_relative_to(self.instance.home)]
        more = [_pattern(path) for path in inside if not _covered(path)]
        older = [f"{OLDER_FOLDER}/"] if filesystem.is_present(self.instance.path(OLDER_FOLDER)) else []
        return (*IGNORED, *older, *dict.fromkeys(more))

    def write_ignore_files(self) -> None:
        """Exclude keys, secrets and settings from git and scp; existing lines stay."""
        for name in IGNORE_FILES:
            path = self.instance.path(name)
            lines = filesystem.read_text(path).splitlines() if filesystem.exists(path) else []
            lines += [line for line in self.ignored() if line not in lines]
            filesystem.write_atomic(path, "\n".join([*lines, ""]).encode())

    def _places(self) -> list[categories.CategoryPaths]:
        return [categories.category_paths(name, self.instance, self.deployment) for name in categories.CATEGORIES]


def _plain(file: Path) -> Path:
    return file.with_name(file.name.removesuffix(ENCRYPTED_SUFFIX))


def _found(places: Iterable[tuple[Path, str]]) -> list[Path]:
    # The entries of each folder whose whole name fits its pattern, each once.
    paths = {
        path
        for folder, pattern in places
        if filesystem.is_folder(folder)
        for path in filesystem.entries(folder)
        if re.fullmatch(pattern, path.name)
    }
    return sorted(paths)


def _covered(path: Path) -> bool:
    return any(str(path).startswith(line) if line.endswith("/") else fnmatch(path.name, line) for line in IGNORED)


def _pattern(path: Path) -> str:
    # With the keys of a rotation, plaintext and copies.
    stem = path.name.removesuffix(ENCRYPTED_SUFFIX)
    name = f"{stem.removesuffix('.key')}*.key*" if stem.endswith(".key") else f"{stem}*"
    return str(path.with_name(name))
