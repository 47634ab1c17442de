"""The installed plugins, from metadata and the environment only: no plugin is imported to be listed."""

from __future__ import annotations

import operator
import re
import sys
from collections import defaultdict
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs

from tbot_core.errors import AccessError
from tbot_core.system import environ, filesystem

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from importlib_metadata import Distribution

_CORE: Final = "tbot-core"
ISOLATE_VARIABLE: Final = "TBOT_PLUGINS_ISOLATE"
_FILES: Final = ("METADATA", "PKG-INFO")

GROUPS: Final[dict[str, str]] = {
    "alert": "tbot.alerts",
    "broker": "tbot.brokers",
    "extension": "tbot.extensions",
    "filter": "tbot.filters",
    "strategy": "tbot.strategies",
}
"""The kinds of plugins, each with its group of entry points."""

COMMANDS: Final = {"command": "tbot.commands"}

State = Literal["active", "available", "duplicate", "incompatible", "broken"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_TARGET = re.compile(r"[A-Za-z_][\w.]*(:[A-Za-z_][\w.]*)?")
_NAMES_CORE = re.compile(r"tbot[-_.]core\b(?![-_.])", re.IGNORECASE)
_RELEASE = re.compile(r"[0-9]+(\.[0-9]+)*")
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([0-9]+(?:\.[0-9]+)*)")


_COMPARISONS: Final = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@attrs.frozen(kw_only=True, order=True)
class EntryPointInfo:
    """One entry point of a distribution; `kind` is command for those of group tbot.commands.

    `target` is "module:object". `requires` holds its requirements of the core, as written.
    """

    kind: str
    name: str
    dist: str
    version: str
    target: str
    requires: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class PluginListing:
    """An entry with its state, and the reason if it cannot be used.

    `enabled`: the settings name it. `seen`: when a recorded fault was last seen, ISO 8601 in UTC, else empty.
    """

    entry: EntryPointInfo
    state: State = "available"
    reason: str = ""
    enabled: bool = False
    seen: str = ""


def installed_plugins(*, path: list[str] | None = None) -> tuple[PluginListing, ...]:
    """Every installed plugin, sorted by (kind, name): available, duplicate, incompatible, or broken.

    `path` is searched instead of sys.path if given. Of a distribution found twice the first counts, as for imports.
    Those of sys.path are read again once a folder of it has changed, as each installation does; metadata that are
    edited in place are the lock's to find.
    """
    return _listed(GROUPS, _NAME, path)


def installed_commands(*, reserved: Container[str], path: list[str] | None = None) -> tuple[PluginListing, ...]:
    """Every command that plugins offer, sorted by name; one whose name is reserved is a duplicate."""
    return tuple(
        attrs.evolve(
            listing, state="duplicate", reason=f"{_dist_text(listing.entry)} uses the name of a command of tbot."
        )
        if listing.entry.name in reserved
        else listing
        for listing in _listed(COMMANDS, _COMMAND_NAME, path)
    )


def mark_enabled(listings: Iterable[PluginListing], enabled: Container[tuple[str, str]]) -> tuple[PluginListing, ...]:
    """The listings with `enabled` set, and available ones that are enabled made active.

    `("extension", "*")` enables every extension.
    """
    marked = []
    for listing in listings:
        kind, name = listing.entry.kind, listing.entry.name
        wanted = (kind, name) in enabled or (kind == "extension" and (kind, "*") in enabled)
        state: State = "active" if wanted and listing.state == "available" else listing.state
        marked.append(attrs.evolve(listing, enabled=wanted, state=state))
    return tuple(marked)


def version_fits(requirement: str, version: str) -> bool:
    """Whether a version of the core satisfies a requirement ("tbot-core>=1,<2"); ValueError if it is malformed."""
    wanted = requirement[len(_CORE) :].strip()
    clauses = [_CLAUSE.fullmatch(part.strip()) for part in wanted.split(",")] if wanted else []
    if _RELEASE.fullmatch(version) and all(clauses):
        return all(_holds(clause[1], version, clause[2]) for clause in clauses if clause)
    # Rare forms (~=, ==1.*, markers, pre-releases) are worth the 30 ms that this import costs.
    from packaging.requirements import Requirement

    parsed = Requirement(requirement)
    applies = parsed.marker is None or parsed.marker.evaluate({"extra": ""})
    return not applies or parsed.specifier.contains(version, prereleases=True)


def _holds(comparison: str, version: str, other: str) -> bool:
    pairs = list(zip_longest(map(int, version.split(".")), map(int, other.split(".")), fillvalue=0))
    return bool(_COMPARISONS[comparison]([left for left, _ in pairs], [right for _, right in pairs]))


def _listed(groups: Mapping[str, str], names: re.Pattern[str], path: list[str] | None) -> tuple[PluginListing, ...]:
    if path is not None:
        return _listings(_entries(groups, path), names)
    return _installed(tuple(groups.items()), names, tuple((one, _revision(Path(one))) for one in sys.path))


@lru_cache(maxsize=8)
def _installed(
    groups: tuple[tuple[str, str], ...],
    names: re.Pattern[str],
    _state: tuple[tuple[str, tuple[float, int] | None], ...],
) -> tuple[PluginListing, ...]:
    # Kept while the search path is in the same state: reading the metadata takes fifty times as long as asking that.
    return _listings(_entries(dict(groups), None), names)


def _revision(folder: Path) -> tuple[float, int] | None:
    try:
        return filesystem.revision(folder)
    except AccessError:
        return None  # imports pass it over too


def _entries(groups: Mapping[str, str], path: list[str] | None) -> Iterator[EntryPointInfo | PluginListing]:
    kinds = {group: kind for kind, group in groups.items()}
    for dist in _distributions(kinds, path):
        known = metadata_fields(dist)
        name, version = known["name"][0], known["version"][0]
        needed = known["requires-dist"] or dist.requires or ()
        requires = tuple(line for line in needed if _NAMES_CORE.match(line))
        entry = EntryPointInfo(kind="distribution", name=name, dist=name, version=version, target="", requires=requires)
        try:
            points = [point for point in dist.entry_points if point.group in kinds]
        except TypeError:
            # Raised by importlib.metadata for a line without an equals sign.
            reason = "Its entry_points.txt cannot be read: a line is not name = module:object."
            yield PluginListing(entry=entry, state="broken", reason=reason)
        else:
            for point in points:
                yield attrs.evolve(entry, kind=kinds[point.group], name=point.name, target=point.value)


def _distributions(groups: Iterable[str], path: list[str] | None) -> Iterator[Distribution]:
    # The distributions with entry points in these groups, each from the first path that has it.
    from importlib_metadata import Distribution

    where = {} if path is None else {"path": path}
    names = {_named(dist) for dist in Distribution.discover(**where) if _has_group(dist, groups)}
    for name in sorted(names - {""}):
        yield next(iter(Distribution.discover(name=name, **where)))


def _has_group(dist: Distribution, groups: Iterable[str]) -> bool:
    try:
        text = dist.read_text("entry_points.txt") or ""
    except (FileNotFoundError, ValueError):
        return False
    return any(f"[{group}]" in text for group in groups)


def _named(dist: Distribution) -> str:
    # The name of a distribution; empty for damaged metadata, such as the remains of an uninstall.
    try:
        known = metadata_fields(dist)
    except ValueError:
        return ""
    return next(iter(known["name"]), "") if any(known["version"]) else ""


def _listings(found: Iterable[EntryPointInfo | PluginListing], names: re.Pattern[str]) -> tuple[PluginListing, ...]:
    # Each entry with the state that its metadata gives; unreadable ones are listings already.
    offers: dict[tuple[str, str], list[EntryPointInfo]] = defaultdict(list)
    listings = []
    for item in found:
        if isinstance(item, PluginListing):
            listings.append(item)
        else:
            offers[item.kind, item.name].append(item)
    core = _core_version() if offers else ""
    for rivals in offers.values():
        listings += [_judge(entry, rivals, names, core) for entry in rivals]
    return tuple(sorted(listings, key=lambda it: it.entry))


def _judge(entry: EntryPointInfo, rivals: list[EntryPointInfo], names: re.Pattern[str], core: str) -> PluginListing:
    if len(rivals) > 1:
        every = " and ".join(_dist_text(rival) for rival in sorted(rivals))
        return PluginListing(
            entry=entry, state="duplicate", reason=f"Several distributions provide it: {every}. Uninstall all but one."
        )
    if names.fullmatch(entry.name) is None:
        reason = f"Its name {entry.name!r} must match {names.pattern}."
        return PluginListing(entry=entry, state="broken", reason=reason)
    if _TARGET.fullmatch(entry.target) is None:
        return PluginListing(
            entry=entry, state="broken", reason=f"Its entry point {entry.target!r} is not module:object."
        )
    try:
        wrong = [line for line in entry.requires if not version_fits(line, core)]
    except ValueError as fault:
        return PluginListing(
            entry=entry, state="broken", reason=f"Its requirement of tbot-core cannot be read: {fault}."
        )
    if wrong:
        reason = f"It requires {' and '.join(wrong)}, but {_CORE} {core} is installed."
        return PluginListing(entry=entry, state="incompatible", reason=reason)
    return PluginListing(entry=entry)


def _dist_text(entry: EntryPointInfo) -> str:
    return f"{entry.dist} {entry.version}"


def _core_version() -> str:
    from importlib_metadata import Distribution

    return metadata_fields(Distribution.from_name(_CORE))["version"][0]


def metadata_fields(dist: Distribution) -> Mapping[str, list[str]]:
    """Each field with its values, names in lower case; empty for a missing field.

    Missing metadata have no fields. Raises ValueError for text that is not UTF-8. The email package, which
    importlib.metadata uses, would need most of a short command's time: this reads plain fields of one or more lines up
    to the first empty line.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    name = ""
    for line in _text(dist).split("\n"):
        if line[:1] in {" ", "\t"} and name:
            found[name][-1] += f"\n{line}"
            continue
        name, colon, value = line.partition(":")
        if not colon:
            break
        name = name.lower()
        found[name].append(value.strip())
    return found


def _text(dist: Distribution) -> str:
    return next(filter(None, map(dist.read_text, _FILES)), "")


def isolation(kind: str, name: str) -> str:
    """Where a plugin runs: "worker", a process of its own, or "in process", with the full rights of the bot."""
    return "worker" if kind in {"strategy", "filter"} and name in isolated_plugin_names() else "in process"


def isolated_plugin_names() -> frozenset[str]:
    """The names of plugins that run in a worker process, from TBOT_PLUGINS_ISOLATE."""
    parts = (environ.variable(ISOLATE_VARIABLE) or "").split(",")
    return frozenset(part.strip() for part in parts if part.strip())
