"""`tbot plugins lock` and `verify`: approve the enabled plugins as they are, and check them against the approval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from tbot_core.cli.options import emit, home_option, json_option
from tbot_core.errors import PluginError, UsageError
from tbot_core.instance.enabled_plugins import ALL_EXTENSIONS, plugins_enabled, raw_settings
from tbot_core.instance.folder import Instance
from tbot_core.plugins import discovery, lock, trial_records
from tbot_core.plugins.lock import LockDifference, PluginLock
from tbot_core.plugins.provenance import cool_down_warnings
from tbot_core.plugins.typosquats import lookalikes
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tbot_core.contracts.permissions import PluginNeeds
    from tbot_core.plugins.discovery import PluginListing


@attrs.frozen(kw_only=True)
class LockProposal:
    """A lock that waits for approval: the previous one (None: none), the changes, and what cannot be locked."""

    path: Path
    previous: PluginLock | None
    proposed: PluginLock
    changes: tuple[LockDifference, ...]
    warnings: tuple[str, ...]

    @property
    def is_unchanged(self) -> bool:
        """Whether the existing lock already matches."""
        return self.previous == self.proposed


@click.command("lock")
@click.option("--approver", metavar="NAME", help="Who approves. Default: the name of the account.")
@click.option("--yes", "agreed", is_flag=True, help="Approve without a prompt.")
@json_option
@home_option
def lock_command(*, approver: str | None, agreed: bool, as_json: bool, home: Path | None) -> None:
    """Pin every file of every enabled plugin in the instance's plugins.lock.

    Shows the changes since the last lock and asks before it writes. A plugin whose permissions are not recorded is
    first tried in a process of its own.
    """
    proposal = propose_lock(home, (approver or "").strip() or environ.user_name())
    for warning in proposal.warnings:
        click.echo(f"tbot: {warning}", err=True)
    for line in _announced(proposal):
        click.echo(line, err=as_json)
    if not proposal.is_unchanged:
        if not agreed:
            _ask()
        lock.write_lock(proposal.path.parent, proposal.proposed)
    emit(_document(proposal), as_json=as_json, lines=_outcome(proposal))


@click.command("verify")
@json_option
@home_option
def verify_command(*, as_json: bool, home: Path | None) -> int:
    """Compare the installed plugins with plugins.lock, by metadata and hashes only.

    Exit code 0: every enabled plugin is as approved; 1: something differs, or there is no lock.
    """
    folder = Instance.at(home).home
    standing, differences = compare_with_lock(home)
    files = sum(len(it.files) for it in standing.plugins) if standing else 0
    document = {
        "differences": [attrs.asdict(it) for it in differences],
        "files": files,
        "locked": standing is not None,
        "plugins": len(standing.plugins) if standing else 0,
    }
    lines = [it.sentence for it in differences]
    if standing is None:
        lines = [f"There is no {lock.FILE_NAME} in {folder}: `tbot plugins lock` creates it."]
    elif not differences:
        lines = [f"{lock.FILE_NAME} matches: {_count(standing)}."]
    emit(document, as_json=as_json, lines=lines)
    return 0 if standing is not None and not differences else 1


def propose_lock(home: Path | None, approver: str) -> LockProposal:
    """The lock that `tbot plugins lock` would write; a damaged lock counts as none, with a warning.

    Raises UsageError when the settings enable no installed plugin, and PluginError when none can be locked.
    """
    from tbot_core.model.clock import SystemClock

    instance = Instance.at(home)
    wanted = plugins_enabled(raw_settings(home))
    listings = tuple(it for it in discovery.mark_enabled(discovery.installed_plugins(), wanted) if it.enabled)
    warnings = list(_absent(wanted, listings))
    if not listings:
        raise UsageError(f"The settings in {instance.home} enable no installed plugin.", "There is nothing to lock.")
    try:
        previous = lock.read_lock(instance.home)
    except PluginError as fault:
        previous = None
        warnings.append(f"{fault.message} So every plugin counts as new.")
    needs, refused = _needs(listings, instance.data)
    warnings += refused
    if not needs:
        raise PluginError("\n".join(refused), "Fix or uninstall it; `tbot plugins list` shows all plugins.")
    approval = lock.LockApproval(approver=approver, date=SystemClock().now())
    proposed = lock.make_lock(listings, needs, approval, previous=previous)
    warnings += [*lookalike_warnings(listings, previous), *cool_down_warnings(listings, approval.date)]
    return LockProposal(
        path=instance.home / lock.FILE_NAME,
        previous=previous,
        proposed=proposed,
        changes=lock.lock_changes(previous or lock.PluginLock(), proposed),
        warnings=tuple(warnings),
    )


def compare_with_lock(home: Path | None) -> tuple[PluginLock | None, tuple[LockDifference, ...]]:
    """The existing lock, and the differences to the installed and enabled plugins; PluginError if it is damaged."""
    standing = lock.read_lock(Instance.at(home).home)
    listings = discovery.mark_enabled(discovery.installed_plugins(), plugins_enabled(raw_settings(home)))
    return standing, () if standing is None else lock.verify_lock(standing, listings)


def lookalike_warnings(listings: Iterable[PluginListing], standing: PluginLock | None) -> Iterator[str]:
    """A warning for each distribution whose name is similar to one of the project or of the lock."""
    approved = [it.distribution for it in standing.plugins] if standing else []
    for one, other in lookalikes((it.entry.dist for it in listings), approved):
        yield f"The name of the distribution {one} is similar to {other}: make sure that it is the one you mean."


def _needs(listings: Sequence[PluginListing], folder: Path) -> tuple[dict[tuple[str, str], PluginNeeds], list[str]]:
    # What each usable plugin needs, as recorded of exactly these files or found by a trial, and why others lack it.
    from tbot_core.plugins.probe import probe_plugin

    known, needs, refused = trial_records.read_records(folder), {}, []
    for listing in listings:
        entry = listing.entry
        if listing.state != "active":
            refused.append(f"The {entry.kind} {entry.name} is not locked: {listing.reason}")
            continue
        record = known.of(entry)
        found, why = record.needs if record else None, "it does not declare its permissions."
        if found is None:
            outcome = probe_plugin(entry)
            found = trial_records.needs_of(outcome.description)
            why = outcome.failure.reason if outcome.failure else why
        if found is None:
            refused.append(f"The {entry.kind} {entry.name} is not locked: {why}")
        else:
            needs[entry.kind, entry.name] = found
    return needs, refused


def _absent(wanted: Iterable[tuple[str, str]], listings: Iterable[PluginListing]) -> Iterator[str]:
    there = {(it.entry.kind, it.entry.name) for it in listings}
    for kind, name in sorted(set(wanted) - there - {ALL_EXTENSIONS}):
        yield f"The {kind} {name} is enabled but not installed, so it is not locked."


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for approval, so nothing was locked.", "Approve with --yes.")
    click.confirm("Approve these plugins as they are?", abort=True, err=True)


def _announced(proposal: LockProposal) -> Iterator[str]:
    for it in proposal.changes:
        new = proposal.proposed.of(it.kind, it.name)
        if it.what == "unlocked" and new is not None:
            yield f"+ {it.kind} {it.name}: {it.detail}, origin {new.origin.sentence}, {len(new.files)} files"
            yield f"    needs {new.needs.sentence}"
        elif it.what == "missing":
            yield f"- {it.kind} {it.name}: {it.detail} is no longer enabled"
        else:
            yield f"~ {it.sentence}"


def _outcome(proposal: LockProposal) -> Iterator[str]:
    verb = "matches already" if proposal.is_unchanged else "is written"
    yield f"{proposal.path} {verb}: {_count(proposal.proposed)}."


def _count(one: PluginLock) -> str:
    plugins, files = len(one.plugins), sum(len(it.files) for it in one.plugins)
    return f"{plugins} plugin{'s' * (plugins != 1)}, {files} file{'s' * (files != 1)}"


def _document(proposal: LockProposal) -> dict[str, object]:
    return {
        "changes": [attrs.asdict(it) for it in proposal.changes],
        "path": proposal.path,
        "plugins": [
            attrs.asdict(it, filter=attrs.filters.exclude("files"))
            | {"needs": it.needs.document, "files": len(it.files)}
            for it in proposal.proposed.plugins
        ],
        "warnings": proposal.warnings,
        "written": not proposal.is_unchanged,
    }
