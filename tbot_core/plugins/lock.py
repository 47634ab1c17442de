"""plugins.lock: the approved state of each enabled plugin, with the hash of every file, and the differences to it.

Live trading reads compiled modules from a folder of the instance that no other user can write to.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import AccessError, PluginError, TbotError
from tbot_core.model import json_document
from tbot_core.plugins.distributions import DistributionOrigin, installed_distribution
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.plugins.discovery import PluginListing

FILE_NAME: Final = "plugins.lock"

_LIMIT_BYTES: Final = 20_000_000

_FORMAT: Final = 1

_LINES: Final = 20

_HASH_SHOWN: Final = 12

_REMEDY: Final = "Restore it from a backup, or approve the plugins again with `tbot plugins lock`."

What = Literal[
    "unlocked",
    "missing",
    "distribution",
    "version",
    "origin",
    "entry_points",
    "needs",
    "file_changed",
    "file_added",
    "file_removed",
]

_WORDS: Final[dict[What, str]] = {
    "unlocked": "is not locked",
    "missing": "is locked but not installed",
    "distribution": "comes from another distribution",
    "version": "has another version",
    "origin": "has another origin",
    "entry_points": "has other entry points",
    "needs": "has other permissions",
    "file_changed": "has a changed file",
    "file_added": "has a new file",
    "file_removed": "lacks a file",
}

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class LockedPlugin:
    """One plugin as approved; `files` are name -> SHA-256, `date` is ISO 8601 in UTC."""

    kind: str
    name: str
    distribution: str
    version: str
    origin: DistributionOrigin
    entry_points: tuple[str, ...]
    files: Mapping[str, str]
    needs: PluginNeeds
    approver: str
    date: str

    @property
    def key(self) -> tuple[str, str]:
        """Kind and name."""
        return self.kind, self.name

    @property
    def files_hash(self) -> str:
        """What tells its files, by names and content, from others: the first digits of a SHA-256 over them."""
        text = "".join(f"{name}\0{digest}\n" for name, digest in sorted(self.files.items()))
        return sha256(text.encode()).hexdigest()[:_HASH_SHOWN]


@attrs.frozen(kw_only=True)
class PluginLock:
    """The approved plugins, sorted by (kind, name)."""

    plugins: tuple[LockedPlugin, ...] = ()

    def of(self, kind: str, name: str) -> LockedPlugin | None:
        """The approved plugin of this kind and name."""
        return next((plugin for plugin in self.plugins if plugin.key == (kind, name)), None)


@attrs.frozen(kw_only=True)
class LockApproval:
    """Who approves, and when."""

    approver: str
    date: datetime


@attrs.frozen(kw_only=True, order=True)
class LockDifference:
    """One difference to the approved state; `detail` names the file, or the old and new value."""

    kind: str
    name: str
    what: What
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The plugin, and what is wrong with it."""
        return f"The {self.kind} {self.name} {_WORDS[self.what]}{f': {self.detail}' if self.detail else ''}."


def make_lock(
    listings: Iterable[PluginListing],
    needs: Mapping[tuple[str, str], PluginNeeds],
    approval: LockApproval,
    *,
    previous: PluginLock | None = None,
) -> PluginLock:
    """A lock of the enabled plugins whose permissions are known.

    Plugins that match `previous` exactly keep its approver and date. Raises AccessError if a file cannot be read.
    """
    date = approval.date.isoformat(timespec="seconds").replace("+00:00", "Z")
    before = {plugin.key: plugin for plugin in (previous or PluginLock()).plugins}
    fresh = []
    for listing in listings:
        key = listing.entry.kind, listing.entry.name
        if listing.enabled and key in needs:
            now = attrs.evolve(_current(listing, needs[key]), approver=approval.approver, date=date)
            old = before.get(key)
            same = old is not None and attrs.evolve(now, approver=old.approver, date=old.date) == old
            fresh.append(old if same and old is not None else now)
    return PluginLock(plugins=tuple(sorted(fresh, key=lambda it: it.key)))


def read_lock(home: Path) -> PluginLock | None:
    """The lock of an instance; None if there is none. Raises PluginError if it cannot be read."""
    path = home / FILE_NAME
    if not filesystem.exists(path):
        return None
    try:
        return _lock(json_document.parse_json(filesystem.read_bytes(path, limit=_LIMIT_BYTES)))
    except (AttributeError, KeyError, TypeError, ValueError) as fault:
        raise PluginError(f"{path} cannot be read: {type(fault).__name__}: {fault}.", _REMEDY) from fault


def lock_exposure(home: Path) -> str:
    """Why somebody else could have written the lock, with the remedy, as a sentence; "" if nobody could, or without it.

    Its link counts too: it approves whatever the linked file does. Raises AccessError if it cannot be looked at.
    """
    path = home / FILE_NAME
    if filesystem.is_link(path):
        return f"{path} is a symbolic link: put the file itself in its place."
    match filesystem.write_exposure(path) if filesystem.exists(path) else None:
        case "owner":
            return f"{path} belongs to another user: review it, then `chown` it to the user who runs tbot."
        case "mode":
            return f"Other users may write to {path}: review it, then `chmod go-w {path}`."
        case _:
            return ""


def lock_fingerprint(home: Path) -> str:
    """The SHA-256 of the lock of an instance; "" if there is none."""
    path = home / FILE_NAME
    return sha256(filesystem.read_bytes(path, limit=_LIMIT_BYTES)).hexdigest() if filesystem.exists(path) else ""


def write_lock(home: Path, lock: PluginLock) -> None:
    """Replace the lock of an instance, keys sorted; raises AccessError if the folder cannot be written."""
    plugins = [attrs.asdict(plugin) | {"needs": plugin.needs.document} for plugin in lock.plugins]
    text = json.dumps({"format": _FORMAT, "plugins": plugins}, sort_keys=True, indent=1, ensure_ascii=False)
    filesystem.write_atomic(home / FILE_NAME, f"{text}\n".encode())


def verify_lock(lock: PluginLock, listings: Iterable[PluginListing]) -> tuple[LockDifference, ...]:
    """The differences between the installed plugins and the lock, sorted, for enabled or locked ones.

    Raises AccessError if a file cannot be read.
    """
    offers: dict[tuple[str, str], list[PluginListing]] = defaultdict(list)
    for listing in listings:
        offers[listing.entry.kind, listing.entry.name].append(listing)
    found: list[LockDifference] = []
    for plugin in lock.plugins:
        found += _checked(plugin, offers.get(plugin.key, []))
    for (kind, name), rivals in offers.items():
        if rivals[0].enabled and lock.of(kind, name) is None:
            detail = " and ".join(_dist_text(rival) for rival in rivals)
            found.append(LockDifference(kind=kind, name=name, what="unlocked", detail=detail))
    return tuple(sorted(found))


def lock_changes(before: PluginLock, after: PluginLock) -> tuple[LockDifference, ...]:
    """What the second lock approves and the first does not, sorted; `missing` is what it no longer names."""
    found: list[LockDifference] = []
    for plugin in after.plugins:
        old = before.of(*plugin.key)
        detail = f"{plugin.distribution} {plugin.version}"
        found += (
            [LockDifference(kind=plugin.kind, name=plugin.name, what="unlocked", detail=detail)]
            if old is None
            else _compared(old, plugin)
        )
    found += [
        LockDifference(
            kind=plugin.kind, name=plugin.name, what="missing", detail=f"{plugin.distribution} {plugin.version}"
        )
        for plugin in before.plugins
        if after.of(*plugin.key) is None
    ]
    return tuple(sorted(found))


def lock_objections(home: Path, listings: Iterable[PluginListing]) -> tuple[str, ...]:
    """Why live trading refuses the enabled plugins, one sentence each; empty if each is exactly as approved.

    Plugins that are only locked are ignored. Only metadata and hashes are compared: nothing is imported.
    """
    given = tuple(listings)
    try:
        lock = read_lock(home)
        if lock is None:
            return (f"There is no {home / FILE_NAME}, so no plugin is approved.",)
        used = {(listing.entry.kind, listing.entry.name) for listing in given if listing.enabled}
        exposed = filter(None, (lock_exposure(home),))
        return (*exposed, *(it.sentence for it in verify_lock(lock, given) if (it.kind, it.name) in used))
    except TbotError as fault:
        return (fault.message,)


def require_locked(home: Path, listings: Iterable[PluginListing]) -> None:
    """Raise PluginError, before any import, unless live trading may import the enabled plugins.

    Bytecode is not pinned, so from then on only bytecode that this instance compiled for itself is read.
    """
    if sentences := lock_objections(home, listings):
        raise unlocked_error(sentences)
    read_private_bytecode(home)


def refusal_sentence(sentences: Sequence[str]) -> str:
    """What `lock_objections` mean for a run that live trading would refuse, in one sentence; "" without any."""
    more = f" {len(sentences) - 1} more: `tbot plugins verify` shows all." if len(sentences) > 1 else ""
    return f"Live trading would refuse the plugins: {sentences[0]}{more}" if sentences else ""


def unlocked_error(sentences: Sequence[str]) -> PluginError:
    """The error of live trading for `lock_objections`."""
    more = [f"and {len(sentences) - _LINES} more differences."] if len(sentences) > _LINES else []
    message = "\n".join(["Live trading imports only approved plugins:", *sentences[:_LINES], *more])
    return PluginError(message, "Review each of them, then approve them with `tbot plugins lock`.")


def read_private_bytecode(home: Path, *, user: int | None = None) -> None:
    """From now on read bytecode from `data/bytecode` only, which is created; from nowhere if that is not private.

    It is private if it, its content and the folders above it in the instance belong to `user` (None: this one) or root,
    and no other user may write to them. Without it every module is compiled anew at each start.
    """
    data = home / "data"
    folder = data / "bytecode"
    try:
        filesystem.make_private_folder(folder, user=user)
        exposed = [path for path in (home, data) if filesystem.write_exposure(path, user=user)]
        is_private = not exposed and filesystem.belongs_to(folder, user=user)
    except AccessError as fault:
        is_private, reason = False, fault.message
    else:
        reason = "another user could have written to it"
    if is_private:
        sys.pycache_prefix = str(folder)
        return
    _log.warning("bytecode.not_private", folder=str(folder), reason=reason, remedy=f"rm -r {folder}")
    sys.pycache_prefix, sys.dont_write_bytecode = filesystem.NOWHERE, True


def _current(listing: PluginListing, needs: PluginNeeds) -> LockedPlugin:
    entry, now = listing.entry, installed_distribution(listing.entry)
    return LockedPlugin(
        kind=entry.kind,
        name=entry.name,
        distribution=entry.dist,
        version=entry.version,
        origin=now.origin,
        entry_points=now.entry_points,
        files=now.files,
        needs=needs,
        approver="",
        date="",
    )


def _checked(one: LockedPlugin, rivals: list[PluginListing]) -> Iterator[LockDifference]:
    # A plugin that two distributions provide is not the approved one, even if one of them is.
    others = [rival for rival in rivals if rival.entry.dist != one.distribution]
    if others:
        detail = (
            f"{one.distribution} was approved, but {' and '.join(_dist_text(rival) for rival in rivals)} provides it"
        )
        yield LockDifference(kind=one.kind, name=one.name, what="distribution", detail=detail)
    elif not rivals:
        detail = f"{one.distribution} {one.version}"
        yield LockDifference(kind=one.kind, name=one.name, what="missing", detail=detail)
    else:
        yield from _compared(one, _current(rivals[0], one.needs))


def _compared(old: LockedPlugin, new: LockedPlugin) -> Iterator[LockDifference]:
    def difference(what: What, detail: str) -> LockDifference:
        return LockDifference(kind=old.kind, name=old.name, what=what, detail=detail)

    pairs: tuple[tuple[What, str, str], ...] = (
        ("distribution", old.distribution, new.distribution),
        ("version", old.version, new.version),
        ("origin", old.origin.sentence, new.origin.sentence),
        ("entry_points", ", ".join(old.entry_points), ", ".join(new.entry_points)),
        ("needs", old.needs.sentence(old.name), new.needs.sentence(old.name)),
    )
    for what, was, now in pairs:
        if was != now:
            yield difference(what, f"{was} was approved, now it is {now}")
    for name in sorted(old.files.keys() | new.files.keys()):
        if name not in new.files:
            yield difference("file_removed", name)
        elif name not in old.files:
            yield difference("file_added", name)
        elif old.files[name] != new.files[name]:
            yield difference("file_changed", name)


def _dist_text(listing: PluginListing) -> str:
    return f"{listing.entry.dist} {listing.entry.version}"


def _lock(document: Mapping[str, Any]) -> PluginLock:
    if document["format"] != _FORMAT:
        raise ValueError(f"its format is {document['format']}, not {_FORMAT}")
    return PluginLock(plugins=tuple(_locked(plugin) for plugin in document["plugins"]))


def _locked(document: Mapping[str, Any]) -> LockedPlugin:
    plugin = LockedPlugin(
        **{
            **document,
            "origin": DistributionOrigin(**document["origin"]),
            "needs": PluginNeeds.of(document["needs"]),
            "entry_points": tuple(document["entry_points"]),
            "files": dict(document["files"]),
        }
    )
    texts = [*attrs.astuple(plugin.origin), *plugin.entry_points, *plugin.files, *plugin.files.values()]
    texts += [plugin.kind, plugin.name, plugin.distribution, plugin.version, plugin.approver, plugin.date]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("a plugin has values of a wrong type")
    return plugin
