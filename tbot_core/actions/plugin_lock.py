"""The actions of `tbot plugins lock` and `verify`: approve the enabled plugins, and compare with the approval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.actions.plugins import plugin_document
from tbot_core.errors import AccessError, PluginError, UsageError
from tbot_core.instance.enabled_plugins import ALL_EXTENSIONS, plugins_enabled, raw_settings
from tbot_core.instance.folder import Instance
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, lock, trial_records
from tbot_core.plugins.distributions import (
    cool_down_warnings,
    startup_files,
)
from tbot_core.plugins.lock import LockDifference, LockedPlugin, PluginLock
from tbot_core.plugins.typosquats import lookalike_warnings
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from tbot_core.contracts.permissions import PluginNeeds
    from tbot_core.plugins.discovery import PluginListing

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
        for it in self.changes:
            new = self.proposed.of(it.kind, it.name)
            if it.what == "unlocked" and new is not None:
                yield f"+ {it.kind} {it.name}: {it.detail}, origin {new.origin.sentence}, {len(new.files)} files"
                yield f"    needs {new.needs.sentence(it.name)}"
            elif it.what == "missing":
                yield f"- {it.kind} {it.name}: {it.detail} is no longer enabled"
            else:
                yield f"~ {it.sentence}"

    @property
    def digest(self) -> str:
        """What tells it from another proposal: the plugins with each file and what they need, and the changes."""
        pinned = [
            attrs.asdict(it, filter=attrs.filters.exclude("needs", "approver", "date")) | {"needs": it.needs.document}
            for it in self.proposed.plugins
        ]
        content = json.dumps([pinned, [attrs.asdict(it) for it in self.changes]], sort_keys=True)
        return sha256(content.encode()).hexdigest()

    @property
    def rows(self) -> list[dict[str, object]]:
        """Each plugin that is pinned, or no longer is, as a document for approval.

        `state` is "as approved", "new", "changed" or "removed"; `changes` are sentences, at most ten. `before` is the
        version and hash that were approved, "" if none were, and `sentence` all of that as text.
        """
        before = self.previous or PluginLock()
        gone = [self._row(it, None, "removed") for it in before.plugins if self.proposed.of(*it.key) is None]
        kept = [self._row(it, before.of(*it.key)) for it in self.proposed.plugins]
        return sorted([*gone, *kept], key=lambda row: (str(row["kind"]), str(row["name"])))

    def _row(self, one: LockedPlugin, old: LockedPlugin | None, state: str = "new") -> dict[str, object]:
        # `state` is that of a plugin without `old`, which is what was approved.
        changes = [] if old is None else [it.sentence for it in self.changes if (it.kind, it.name) == one.key]
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
            "changes": [attrs.asdict(it) for it in self.changes],
            "path": self.path,
            "plugins": [
                attrs.asdict(it, filter=attrs.filters.exclude("files"))
                | {"needs": it.needs.document, "files": len(it.files)}
                for it in self.proposed.plugins
            ],
            "warnings": self.warnings,
            "written": not self.is_unchanged,
        }


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


def _sentence(row: Mapping[str, object]) -> str:
    if row["state"] == "removed":
        return f"removed: {row['kind']} {row['name']}, {row['distribution']} {row['version']}, is no longer enabled."
    where = "in a worker process" if row["isolation"] == "worker" else "in the process of the bot"
    before = f" (approved before: {row['before']})" if row["before"] else ""
    return (
        f"{row['state']}: {row['kind']} {row['name']}, {row['distribution']} {row['version']}, files {row['hash']}"
        f"{before}, origin {row['origin']}; runs {where}; needs {row['needs']}."
    )


@attrs.frozen(kw_only=True)
class PluginsInUse:
    """The installed plugins that settings enable, each as `tbot plugins list` shows it, and what to look at."""

    plugins: tuple[Mapping[str, object], ...]
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What tells them from others: their names, versions, distributions and the hashes of their files."""
        names = ("kind", "name", "distribution", "version", "files_hash")
        return sha256(json.dumps([[one[name] for name in names] for one in self.plugins]).encode()).hexdigest()


def plugins_in_use(texts: Mapping[str, str]) -> PluginsInUse:
    """The plugins that settings enable, before there is an instance; nothing of them is imported."""
    enabled = plugins_enabled(texts)
    listings = _installed(enabled)
    return PluginsInUse(
        plugins=tuple(plugin_document(one, None) for one in listings),
        warnings=(
            *_not_installed(enabled, listings),
            *lookalike_warnings(listings, None),
            *cool_down_warnings(listings, SystemClock().now()),
        ),
    )


def _installed(enabled: Collection[tuple[str, str]]) -> tuple[PluginListing, ...]:
    return tuple(it for it in discovery.mark_enabled(discovery.installed_plugins(), enabled) if it.enabled)


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
    installed = {(it.entry.kind, it.entry.name) for it in listings}
    for kind, name in sorted(set(enabled) - installed - {ALL_EXTENSIONS}):
        yield f"The {kind} {name} is enabled but not installed, so it is not locked."


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
        "differences": [attrs.asdict(it) for it in differences],
        "exposed": exposed,
        "files": sum(len(it.files) for it in existing.plugins) if existing else 0,
        "locked": existing is not None,
        "plugins": len(existing.plugins) if existing else 0,
        "startup_files": list(others := startup_files()),
    }
    lines = [it.sentence for it in differences]
    if existing is None:
        lines = [f"There is no {lock.FILE_NAME} in {Instance.at(home).home}: `tbot plugins lock` creates it."]
    elif not differences:
        lines = [f"{lock.FILE_NAME} matches: {_count(existing)}."]
    lines += [exposed] if exposed else []
    if others:
        lines += ["Not compared, though Python reads them at each start:", *(f"  {path}" for path in others)]
    return document, lines, existing is not None and not differences and not exposed


def _count(one: PluginLock) -> str:
    plugins, files = len(one.plugins), sum(len(it.files) for it in one.plugins)
    return f"{plugins} plugin{'s' * (plugins != 1)}, {files} file{'s' * (files != 1)}"
