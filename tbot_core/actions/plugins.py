"""The actions of `tbot plugins`: list and describe plugins, approve the enabled ones, and compare with the approval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions import discard
from tbot_core.errors import AccessError, PluginError, TbotError, UsageError
from tbot_core.instance.enabled_plugins import ALL_EXTENSIONS, plugins_enabled, raw_settings
from tbot_core.instance.folder import Instance
from tbot_core.instance.sources import is_sealed
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, lock, trial_records
from tbot_core.plugins.distributions import (
    cool_down_warnings,
    distribution_origin,
    keep_fingerprints,
    plugin_fingerprint,
    publisher,
    startup_files,
)
from tbot_core.plugins.lock import LockDifference, LockedPlugin, PluginLock
from tbot_core.plugins.typosquats import lookalike_warnings
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from tbot_core.actions import Notify
    from tbot_core.contracts.permissions import PluginNeeds
    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.probe import TrialOutcome
    from tbot_core.plugins.trial_records import TrialRecord, TrialRecords

_HASH_SHOWN = 12
_CHANGES: Final = 10


@attrs.frozen(kw_only=True)
class LockProposal:
    """A proposed lock: the previous one (None: none), the changes, and what cannot be locked."""

    path: Path
    previous: PluginLock | None
    proposed: PluginLock
    changes: tuple[LockDifference, ...]
    warnings: tuple[str, ...]

    @property
    def is_unchanged(self) -> bool:
        """Whether the existing lock already matches."""
        return self.previous == self.proposed

    @property
    def change_lines(self) -> Iterator[str]:
        """The changes as text, with the permissions of new plugins."""
        for change in self.changes:
            new = self.proposed.of(change.kind, change.name)
            if change.what == "unlocked" and new is not None:
                origin = f"origin {new.origin.sentence}, {len(new.files)} files"
                yield f"+ {change.kind} {change.name}: {change.detail}, {origin}"
                yield f"    needs {new.needs.sentence(change.name)}"
            elif change.what == "missing":
                yield f"- {change.kind} {change.name}: {change.detail} is no longer enabled"
            else:
                yield f"~ {change.sentence}"

    @property
    def digest(self) -> str:
        """What tells it from another proposal: the plugins with each file and what they need, and the changes."""
        pinned = [
            attrs.asdict(plugin, filter=attrs.filters.exclude("needs", "approver", "date"))
            | {"needs": plugin.needs.document}
            for plugin in self.proposed.plugins
        ]
        content = json.dumps([pinned, [attrs.asdict(change) for change in self.changes]], sort_keys=True)
        return sha256(content.encode()).hexdigest()

    @property
    def rows(self) -> list[dict[str, object]]:
        """Each plugin that is pinned, or no longer is, as a document for approval.

        `state` is "as approved", "new", "changed" or "removed"; `changes` are sentences, at most ten. `before` is the
        version and hash that were approved, "" if none were, and `sentence` all of that as text.
        """
        before = self.previous or PluginLock()
        gone = [
            self._row(plugin, None, "removed") for plugin in before.plugins if self.proposed.of(*plugin.key) is None
        ]
        kept = [self._row(plugin, before.of(*plugin.key)) for plugin in self.proposed.plugins]
        return sorted([*gone, *kept], key=lambda row: (str(row["kind"]), str(row["name"])))

    def _row(self, one: LockedPlugin, old: LockedPlugin | None, state: str = "new") -> dict[str, object]:
        # `state` is that of a plugin without `old`, which is what was approved.
        changes = (
            [] if old is None else [change.sentence for change in self.changes if (change.kind, change.name) == one.key]
        )
        more = [f"and {len(changes) - _CHANGES} more differences."] if len(changes) > _CHANGES else []
        row = {
            "kind": one.kind,
            "name": one.name,
            "distribution": one.distribution,
            "version": one.version,
            "hash": one.files_hash,
            "files": len(one.files),
            "origin": one.origin.sentence,
            "needs": one.needs.sentence(one.name),
            "isolation": discovery.isolation(one.kind, one.name),
            "before": f"{old.version}, {old.files_hash}" if old is not None and changes else "",
            "state": state if old is None else "changed" if changes else "as approved",
            "changes": [*changes[:_CHANGES], *more],
        }
        return row | {"sentence": _sentence(row)}

    @property
    def result(self) -> str:
        """The result of the approval as a sentence."""
        verb = "matches already" if self.is_unchanged else "is written"
        return f"{self.path} {verb}: {_count(self.proposed)}."

    @property
    def document(self) -> dict[str, object]:
        """The result of the approval as a JSON document."""
        return {
            "changes": [attrs.asdict(change) for change in self.changes],
            "path": self.path,
            "plugins": [
                attrs.asdict(plugin, filter=attrs.filters.exclude("files"))
                | {"needs": plugin.needs.document, "files": len(plugin.files)}
                for plugin in self.proposed.plugins
            ],
            "warnings": self.warnings,
            "written": not self.is_unchanged,
        }


@attrs.frozen(kw_only=True)
class PluginsInUse:
    """The installed plugins that settings enable, each as `tbot plugins list` shows it, and what to look at."""

    plugins: tuple[Mapping[str, object], ...]
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What tells them from others: their names, versions, distributions and the hashes of their files."""
        names = ("kind", "name", "distribution", "version", "files_hash")
        return sha256(json.dumps([[plugin[name] for name in names] for plugin in self.plugins]).encode()).hexdigest()


def list_plugins(
    home: Path | None,
    *,
    probing: bool = False,
    progress: Notify = discard,
    settings: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, object]], list[str]]:
    """Every plugin as a document with the state of the lock, and warnings.

    `settings` are those of the instance where the caller has opened them; without them encrypted ones stay closed.
    """
    with keep_fingerprints():
        listings, known, warnings = plugin_listings(home, probing=probing, progress=progress, settings=settings)
        states, lock_warnings = _lock_states(home, listings)
        rows = [
            _plugin_document(listing, known.of(listing.entry)) | {"lock": state}
            for listing, state in zip(listings, states, strict=True)
        ]
    return rows, [*warnings, *lock_warnings]


def plugin_listings(
    home: Path | None,
    *,
    probing: bool = False,
    progress: Notify = discard,
    settings: Mapping[str, str] | None = None,
) -> tuple[tuple[PluginListing, ...], TrialRecords, list[str]]:
    """Every plugin with its metadata, settings and recorded results, the records, and warnings.

    With `probing` each usable one is tried; `progress` names it first. Settings that stay closed count as those of the
    last run, and unreadable ones enable nothing; unreadable or unwritable records give a warning each.
    """
    folder = Instance.at(home).data
    listings, warnings = discovery.installed_plugins(), []
    try:
        if settings is None and is_sealed(Instance.at(home)):
            texts, warning = _last_settings(home)
            warnings.append(warning)
        else:
            texts = raw_settings(home) if settings is None else settings
        listings = discovery.mark_enabled(listings, plugins_enabled(texts))
    except TbotError as fault:
        warnings.append(f"{fault.message} The list cannot show which plugins are active.")
    known = trial_records.read_records(folder)
    if known.warning:
        warnings.append(known.warning)
    if probing:
        known = trial_records.with_outcomes(known, _trials(listings, progress), SystemClock().now())
        try:
            trial_records.write_records(folder, known)
        except TbotError as fault:
            warnings.append(f"{fault.message} The results are not recorded.")
    return trial_records.apply_records(listings, known), known, warnings


def _plugin_document(listing: PluginListing, record: TrialRecord | None) -> dict[str, object]:
    # One plugin as a document for the list, without the state of the lock.
    entry = listing.entry
    return {
        "kind": entry.kind,
        "name": entry.name,
        "distribution": entry.dist,
        "version": entry.version,
        "state": listing.state,
        "enabled": listing.enabled,
        "files_hash": (record.files if record else plugin_fingerprint(entry))[:_HASH_SHOWN],
        "isolation": discovery.isolation(entry.kind, entry.name),
        "failures": record.failures if record else 0,
        "last_crash": f"{record.crashed}: {record.crash}" if record and record.crash else "",
        "needs": needs.document if (needs := trial_records.needs_of(_description(record))) else {},
        "origin": distribution_origin(entry).words,
        "publisher": publisher(entry),
        "attested": None,
        "reason": listing.reason,
        "seen": listing.seen,
        "summary": _description(record).get("summary", ""),
    }


def describe_plugin(
    name: str, home: Path | None, progress: Notify = discard, settings: Mapping[str, str] | None = None
) -> dict[str, object]:
    """One plugin with all its details; it is tried if there is no record. Raises PluginError for an unknown name.

    `duplicates` are the others of the same kind and name: none of them is used.
    """
    listings, known, _ = plugin_listings(home, settings=settings)
    listing, *others = find_plugins(name, listings)
    record = known.of(listing.entry)
    unknown = record is None or (listing.entry.kind == "broker" and not _description(record).get("matrix"))
    if unknown and listing.state in {"active", "available"}:
        fresh = trial_records.with_outcomes(known, _trials([listing], progress), SystemClock().now())
        record = fresh.of(listing.entry)
        (listing,) = trial_records.apply_records([listing], fresh)
    return _facts(listing, record) | {"duplicates": [_facts(other, known.of(other.entry)) for other in others]}


def broker_capabilities(name: str, home: Path, progress: Notify = discard) -> Mapping[str, str] | None:
    """What an installed broker declares, by field; None if it cannot be created. It is tried if there is no record."""
    declared = describe_plugin(f"broker/{name}", home, progress, settings={})["capabilities"]
    return declared if isinstance(declared, dict) else None


def find_plugins(name: str, listings: Sequence[PluginListing]) -> list[PluginListing]:
    """The listings of a name or KIND/NAME, all of one kind; several are duplicates.

    Raises PluginError for an unknown name, and UsageError for one that several kinds use.
    """
    found = [
        listing for listing in listings if name in {listing.entry.name, f"{listing.entry.kind}/{listing.entry.name}"}
    ]
    kinds = sorted({listing.entry.kind for listing in found})
    if len(kinds) > 1:
        spelled = " or ".join(f"{kind}/{name}" for kind in kinds)
        raise UsageError(f"Several plugins have the name {name}.", f"Say {spelled}.")
    if not found:
        from difflib import get_close_matches

        from tbot_core.plugins.loader import NEAR

        near = get_close_matches(name, [listing.entry.name for listing in listings], n=1, cutoff=NEAR)
        remedy = f"Did you mean {near[0]}?" if near else "`tbot plugins list` shows all plugins."
        raise PluginError(f"Unknown plugin {name}.", remedy)
    return found


def propose_lock(home: Path | None, approver: str | None, *, recording: bool = False) -> LockProposal:
    """The lock that `tbot plugins lock` would write; a damaged lock counts as none, with a warning.

    `approver` is the name of the account by default. `recording`: the results of trials are recorded, for who shows the
    proposal again. Raises SettingsError without an instance, UsageError when the
    settings enable no installed plugin, and PluginError when none can be locked.
    """
    from tbot_core.instance.sources import find_instance

    instance = find_instance(home)
    enabled = plugins_enabled(raw_settings(home))
    listings = _installed(enabled)
    warnings = list(_not_installed(enabled, listings))
    if not listings:
        raise UsageError(f"The settings in {instance.home} enable no installed plugin.", "There is nothing to lock.")
    try:
        previous = lock.read_lock(instance.home)
    except PluginError as fault:
        previous = None
        warnings.append(f"{fault.message} So every plugin counts as new.")
    needs, refused = _needs(listings, instance.data, recording=recording)
    warnings += refused
    if not needs:
        raise PluginError("\n".join(refused), "Fix or uninstall it; `tbot plugins list` shows all plugins.")
    approval = lock.LockApproval(approver=(approver or "").strip() or environ.user_name(), date=SystemClock().now())
    proposed = lock.make_lock(listings, needs, approval, previous=previous)
    warnings += [*lookalike_warnings(listings, previous), *cool_down_warnings(listings, approval.date)]
    return LockProposal(
        path=instance.home / lock.FILE_NAME,
        previous=previous,
        proposed=proposed,
        changes=lock.lock_changes(previous or lock.PluginLock(), proposed),
        warnings=tuple(warnings),
    )


def plugins_in_use(texts: Mapping[str, str]) -> PluginsInUse:
    """The plugins that settings enable, before there is an instance; nothing of them is imported."""
    enabled = plugins_enabled(texts)
    listings = _installed(enabled)
    return PluginsInUse(
        plugins=tuple(_plugin_document(listing, None) for listing in listings),
        warnings=(
            *_not_installed(enabled, listings),
            *lookalike_warnings(listings, None),
            *cool_down_warnings(listings, SystemClock().now()),
        ),
    )


def approve_lock(proposal: LockProposal, confirm: Callable[[], None] | None = None) -> None:
    """Write the proposed lock unless it exists already; `confirm` is called before, and raises where it is refused."""
    if proposal.is_unchanged:
        return
    if confirm is not None:
        confirm()
    lock.write_lock(proposal.path.parent, proposal.proposed)


def approve_installed(home: Path | None) -> LockProposal:
    """Approve the plugins that the settings enable, as they are installed now.

    Nothing is written if there is a warning about one. Raises what `propose_lock` raises.
    """
    proposal = propose_lock(home, None)
    if not proposal.warnings:
        approve_lock(proposal)
    return proposal


def verify_plugins(home: Path | None) -> tuple[dict[str, object], list[str], bool]:
    """The comparison with the lock as a document and as text, and whether every enabled plugin is as approved."""
    existing, differences = _compare_with_lock(home)
    exposed = lock.lock_exposure(Instance.at(home).home)
    document = {
        "differences": [attrs.asdict(difference) for difference in differences],
        "exposed": exposed,
        "files": sum(len(plugin.files) for plugin in existing.plugins) if existing else 0,
        "locked": existing is not None,
        "plugins": len(existing.plugins) if existing else 0,
        "startup_files": list(others := startup_files()),
    }
    lines = [difference.sentence for difference in differences]
    if existing is None:
        lines = [f"There is no {lock.FILE_NAME} in {Instance.at(home).home}: `tbot plugins lock` creates it."]
    elif not differences:
        lines = [f"{lock.FILE_NAME} matches: {_count(existing)}."]
    lines += [exposed] if exposed else []
    if others:
        lines += ["Not compared, though Python reads them at each start:", *(f"  {path}" for path in others)]
    return document, lines, existing is not None and not differences and not exposed


def _last_settings(home: Path | None) -> tuple[Mapping[str, str], str]:
    # The settings of the last run, which its journal has in the clear, and a sentence about that.
    from tbot_core.status.runs import settings_of_last_run

    since, parsed = settings_of_last_run(Instance.at(home))
    closed = "The settings are encrypted and this command does not open them: "
    shown = f"active is what {since} had enabled; " if parsed.entries else ""
    return {
        entry.key: entry.value for entry in parsed.entries
    }, f"{closed}{shown}`tbot check` shows what is enabled now."


def _facts(listing: PluginListing, record: TrialRecord | None) -> dict[str, object]:
    description = _description(record)
    return _plugin_document(listing, record) | {
        "capabilities": description.get("matrix") or description.get("capabilities", []),
        "entry_point": listing.entry.target,
        "requires": list(listing.entry.requires),
        "settings": description.get("settings", []),
    }


def _trials(listings: Iterable[PluginListing], progress: Notify) -> Iterator[TrialOutcome]:
    # The trial of each usable plugin; one that does not end names itself by what was shown before it.
    from tbot_core.plugins.probe import probe_plugin

    for listing in listings:
        if listing.state in {"active", "available"}:
            progress(f"Trying {listing.entry.kind} {listing.entry.name} ...")
            yield probe_plugin(listing.entry)


def _description(record: TrialRecord | None) -> Mapping[str, Any]:
    return (record.description if record is not None else None) or {}


def _lock_states(home: Path | None, listings: Sequence[PluginListing]) -> tuple[list[str], list[str]]:
    # The state of each listing in the lock ("" if it is neither locked nor in use), and warnings.
    try:
        approved = lock.read_lock(Instance.at(home).home)
        changed = {(it.kind, it.name) for it in lock.verify_lock(approved or lock.PluginLock(), listings)}
    except TbotError as fault:
        warning = f"{fault.message} The list cannot show which plugins are approved."
        return ["UNKNOWN" if it.enabled else "" for it in listings], [warning, *lookalike_warnings(listings, None)]
    states = []
    for listing in listings:
        kind, name = listing.entry.kind, listing.entry.name
        if approved is not None and approved.of(kind, name) is not None:
            states.append("CHANGED" if (kind, name) in changed else "locked")
        else:
            states.append("UNLISTED" if listing.enabled else "")
    return states, list(lookalike_warnings(listings, approved))


def _sentence(row: Mapping[str, object]) -> str:
    if row["state"] == "removed":
        return f"removed: {row['kind']} {row['name']}, {row['distribution']} {row['version']}, is no longer enabled."
    where = "in a worker process" if row["isolation"] == "worker" else "in the process of the bot"
    before = f" (approved before: {row['before']})" if row["before"] else ""
    return (
        f"{row['state']}: {row['kind']} {row['name']}, {row['distribution']} {row['version']}, files {row['hash']}"
        f"{before}, origin {row['origin']}; runs {where}; needs {row['needs']}."
    )


def _installed(enabled: Collection[tuple[str, str]]) -> tuple[PluginListing, ...]:
    return tuple(
        listing for listing in discovery.mark_enabled(discovery.installed_plugins(), enabled) if listing.enabled
    )


def _compare_with_lock(home: Path | None) -> tuple[PluginLock | None, tuple[LockDifference, ...]]:
    # The existing lock, and the differences to the installed and enabled plugins; PluginError if it is damaged.
    existing = lock.read_lock(Instance.at(home).home)
    listings = discovery.mark_enabled(discovery.installed_plugins(), plugins_enabled(raw_settings(home)))
    return existing, () if existing is None else lock.verify_lock(existing, listings)


def _needs(
    listings: Sequence[PluginListing], folder: Path, *, recording: bool
) -> tuple[dict[tuple[str, str], PluginNeeds], list[str]]:
    # The permissions of each usable plugin, recorded for these files or found by a trial, and why others have none.
    from tbot_core.plugins.probe import probe_plugins

    known, needs, refused = trial_records.read_records(folder), {}, list[str]()
    usable = [it.entry for it in listings if it.state == "active"]
    unknown = [it for it in usable if (record := known.of(it)) is None or record.needs is None]
    tried = {outcome.entry: outcome for outcome in probe_plugins(unknown)}
    if tried and recording:
        try:
            results = trial_records.with_outcomes(known, tried.values(), SystemClock().now())
            trial_records.write_records(folder, results)
        except AccessError as fault:
            refused.append(f"{fault.message} The results of the trials are not recorded.")
    for listing in listings:
        entry = listing.entry
        if listing.state != "active":
            refused.append(f"The {entry.kind} {entry.name} is not locked: {listing.reason}")
            continue
        record = known.of(entry)
        found, why = record.needs if record else None, "it does not declare its permissions."
        if found is None:
            outcome = tried[entry]
            found = trial_records.needs_of(outcome.description)
            why = outcome.failure.reason if outcome.failure else why
        if found is None:
            refused.append(f"The {entry.kind} {entry.name} is not locked: {why}")
        else:
            needs[entry.kind, entry.name] = found
    return needs, refused


def _not_installed(enabled: Iterable[tuple[str, str]], listings: Iterable[PluginListing]) -> Iterator[str]:
    installed = {(listing.entry.kind, listing.entry.name) for listing in listings}
    for kind, name in sorted(set(enabled) - installed - {ALL_EXTENSIONS}):
        yield f"The {kind} {name} is enabled but not installed, so it is not locked."


def _count(one: PluginLock) -> str:
    plugins, files = len(one.plugins), sum(len(plugin.files) for plugin in one.plugins)
    return f"{plugins} plugin{'s' * (plugins != 1)}, {files} file{'s' * (files != 1)}"
