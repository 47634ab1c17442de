"""The installed distribution of a plugin: its origin, publisher, installation date, entry points and file hashes.

Read from metadata and bytes only; nothing is imported. The date of a release and its attestation are known only to the
index.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import attrs

from tbot_core.errors import AccessError, PluginError
from tbot_core.model import json_document
from tbot_core.plugins.discovery import metadata_fields
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from importlib_metadata import Distribution

    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing

_SITES: Final = frozenset({"site-packages", "dist-packages"})
_HOOKS: Final = ("sitecustomize", "usercustomize")
_CACHE: Final = "__pycache__"
"""Folders that the interpreter writes; their files do not belong to a plugin."""

_METADATA: Final = ("METADATA", "entry_points.txt")
_COOL_DOWN: Final = timedelta(days=3)
"""How long a release must be available to others before it is trusted."""

_FINGERPRINTS: Final[ContextVar[dict[EntryPointInfo, str] | None]] = ContextVar("kept fingerprints", default=None)
_CONTENTS: Final[ContextVar[dict[str, Mapping[str, bytes]] | None]] = ContextVar("kept packages", default=None)
_CLAIMS: Final = ("maintainer", "maintainer-email", "author", "author-email")


@attrs.frozen(kw_only=True)
class DistributionOrigin:
    """Where a distribution was installed from, according to its metadata.

    `url` without user and password, `commit` of a repository, and the `installer`; each is empty if not recorded.
    """

    kind: Literal["index", "direct", "editable", "unknown"]
    url: str = ""
    commit: str = ""
    installer: str = ""

    @property
    def words(self) -> str:
        """The origin alone, as text.

        A distribution without a recorded direct origin may come from an index or from a folder of wheels.
        """
        if self.kind == "direct":
            return f"{self.url} at {self.commit}" if self.commit else self.url
        return f"{self.url} (editable)" if self.kind == "editable" else "unknown"

    @property
    def sentence(self) -> str:
        """The origin, and the installer if recorded."""
        return f"{self.words}, installed by {self.installer}" if self.installer else self.words


@attrs.frozen(kw_only=True)
class InstalledDistribution:
    """An installed distribution.

    `entry_points` are all of them, each "group: name = target"; `files` are name -> SHA-256 of every file that its
    RECORD lists or that is in its packages, except `__pycache__`.
    """

    origin: DistributionOrigin
    entry_points: tuple[str, ...]
    files: Mapping[str, str]


def distribution_origin(entry: EntryPointInfo) -> DistributionOrigin:
    """Where the entry's distribution was installed from; unknown when it is gone or its metadata are damaged."""
    dist = _find_distribution(entry)
    return DistributionOrigin(kind="unknown") if dist is None else _origin(dist)


def installed_distribution(entry: EntryPointInfo) -> InstalledDistribution:
    """Hash every file of the entry's distribution.

    Raises PluginError when it is no longer installed, AccessError when a file cannot be read.
    """
    dist = _find_distribution(entry)
    if dist is None:
        raise PluginError(
            f"{entry.dist} {entry.version} is no longer installed.", "`tbot plugins list` shows the installed plugins."
        )
    points = tuple(sorted(f"{point.group}: {point.name} = {point.value}" for point in dist.entry_points))
    return InstalledDistribution(origin=_origin(dist), entry_points=points, files=dict(sorted(_hashes(dist))))


def package_files(package: str) -> Iterator[tuple[str, Path]]:
    """The files of a top-level package or module as an import would find it; none if it does not exist.

    Each comes with its path relative to the folder that holds the package.
    """
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.has_location and spec.origin is not None:
            yield Path(spec.origin).name, Path(spec.origin)
        return
    for root in map(Path, spec.submodule_search_locations):
        yield from _below(root, package)


@contextmanager
def keep_fingerprints() -> Iterator[None]:
    """While the context lasts, the files of each package are read once, as those of one moment."""
    tokens = _FINGERPRINTS.set({}), _CONTENTS.set({})
    try:
        yield
    finally:
        _FINGERPRINTS.reset(tokens[0])
        _CONTENTS.reset(tokens[1])


def plugin_fingerprint(entry: EntryPointInfo) -> str:
    """The SHA-256 over the entry's metadata and the names and bytes of its package's files; imports nothing.

    Empty when a file cannot be read, which equals no recorded hash.
    """
    kept = _FINGERPRINTS.get()
    if kept is None:
        return _fingerprint(entry)
    if entry not in kept:
        kept[entry] = _fingerprint(entry)
    return kept[entry]


def _fingerprint(entry: EntryPointInfo) -> str:
    digest = hashlib.sha256(repr(entry).encode())
    try:
        for name, data in _contents(entry.target.partition(":")[0].partition(".")[0]).items():
            digest.update(f"{name}\0{len(data)}\0".encode())
            digest.update(data)
    except AccessError:
        return ""
    return digest.hexdigest()


def _contents(package: str) -> Mapping[str, bytes]:
    # The names and bytes of a package's files, kept where fingerprints are.
    kept = _CONTENTS.get()
    found = None if kept is None else kept.get(package)
    if found is None:
        found = {name: filesystem.read_bytes(path) for name, path in package_files(package)}
        if kept is not None:
            kept[package] = found
    return found


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in filesystem.entries(folder):
        inside = f"{name}/{path.name}"
        if filesystem.is_folder(path):
            if path.name != _CACHE:
                yield from _below(path, inside)
        else:
            yield inside, path


def _find_distribution(entry: EntryPointInfo) -> Distribution | None:
    # The installed distribution with the entry's name; None when it is gone.
    from importlib_metadata import Distribution

    return next(iter(Distribution.discover(name=entry.dist)), None)


def _origin(dist: Distribution) -> DistributionOrigin:
    installer = (dist.read_text("INSTALLER") or "").strip()
    try:
        text = dist.read_text("direct_url.json")
        if text is None:
            return DistributionOrigin(kind="index", installer=installer)
        note: dict[str, Any] = json_document.parse_json(text)
        parts = urlsplit(str(note["url"]))
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        editable = note.get("dir_info", {}).get("editable") is True
        commit = str(note.get("vcs_info", {}).get("commit_id", ""))
    except (AttributeError, KeyError, TypeError, ValueError):
        return DistributionOrigin(kind="unknown", installer=installer)
    return DistributionOrigin(kind="editable" if editable else "direct", url=url, commit=commit, installer=installer)


def _hashes(dist: Distribution) -> Iterator[tuple[str, str]]:
    recorded = [str(it) for it in dist.files or () if _CACHE not in it.parts]
    if not recorded:
        texts = ((name, dist.read_text(name)) for name in _METADATA)
        yield from ((name, hashlib.sha256(text.encode()).hexdigest()) for name, text in texts if text is not None)
    # Hash what an import would find: a package of the same name earlier on the path shows as changed files.
    found: dict[str, bytes] = {}
    for package in sorted(_packages(dist, recorded)):
        found |= _contents(package)
    for name in recorded:
        if name not in found:
            found[name] = filesystem.read_bytes(Path(str(dist.locate_file(name))))
    yield from ((name, hashlib.sha256(data).hexdigest()) for name, data in found.items())


def _packages(dist: Distribution, recorded: list[str]) -> set[str]:
    # The distribution's own top-level packages and modules: those of its entry points, and those that RECORD lists.
    found = {point.value.partition(":")[0].partition(".")[0].strip() for point in dist.entry_points}
    for path in map(PurePosixPath, recorded):
        if len(path.parts) == 2 and path.name == "__init__.py":
            found.add(path.parts[0])
        elif len(path.parts) == 1 and path.suffix == ".py":
            found.add(path.stem)
    return found - {""}


def publisher(entry: EntryPointInfo) -> str:
    """The publisher that the distribution claims, unproven; empty without one."""
    dist = _find_distribution(entry)
    known = {} if dist is None else metadata_fields(dist)
    return next((claim for name in _CLAIMS for claim in known.get(name, ()) if claim), "")


def installed_since(entry: EntryPointInfo) -> datetime | None:
    """When the entry's distribution was installed, an upper bound of its release date; None if unknown."""
    dist = _find_distribution(entry)
    for file in (dist and dist.files) or ():
        if file.name == "RECORD":
            return datetime.fromtimestamp(filesystem.modified(Path(str(file.locate()))), UTC)
    return None


def cool_down_warnings(listings: Iterable[PluginListing], now: datetime) -> Iterator[str]:
    """A warning for each distribution of an index that may still be in its cool-down."""
    entries = {listing.entry.dist: listing.entry for listing in listings}
    for entry in entries.values():
        moment = installed_since(entry) if distribution_origin(entry).kind == "index" else None
        if moment is not None and now - moment < _COOL_DOWN:
            yield (
                f"{entry.dist} {entry.version} was installed less than {_COOL_DOWN.days} days ago: unless its "
                "release is older, there was little time to find faults in it."
            )


def startup_files() -> tuple[str, ...]:
    """The files that Python reads at each start, whatever is imported: they can run code that belongs to no plugin.

    These are the `.pth` files where distributions are installed, and the modules `sitecustomize` and `usercustomize`.
    """
    sites = [Path(place) for place in dict.fromkeys(sys.path) if Path(place).name in _SITES]
    found = [str(path) for site in sites if filesystem.is_folder(site) for path in filesystem.entries(site)]
    hooks = [spec.origin for name in _HOOKS if (spec := find_spec(name)) is not None]
    return (*(name for name in found if name.endswith(".pth")), *filter(None, hooks))
