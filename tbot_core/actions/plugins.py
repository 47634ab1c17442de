"""The actions of `tbot plugins`: list and describe plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.actions.notices import discard
from tbot_core.errors import PluginError, TbotError, UsageError
from tbot_core.instance.enabled_plugins import plugins_enabled, raw_settings
from tbot_core.instance.folder import Instance
from tbot_core.instance.sources import is_sealed
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, lock, trial_records
from tbot_core.plugins.distributions import (
    distribution_origin,
    keep_fingerprints,
    plugin_fingerprint,
    publisher,
)
from tbot_core.plugins.typosquats import lookalike_warnings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.probe import TrialOutcome
    from tbot_core.plugins.trial_records import TrialRecord, TrialRecords


_HASH_SHOWN = 12


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
            plugin_document(listing, known.of(listing.entry)) | {"lock": state}
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


def _last_settings(home: Path | None) -> tuple[Mapping[str, str], str]:
    # The settings of the last run, which its journal has in the clear, and a sentence about that.
    from tbot_core.status.runs import settings_of_last_run

    since, parsed = settings_of_last_run(Instance.at(home))
    closed = "The settings are encrypted and this command does not open them: "
    shown = f"active is what {since} had enabled; " if parsed.entries else ""
    return {one.key: one.value for one in parsed.entries}, f"{closed}{shown}`tbot check` shows what is enabled now."


def plugin_document(listing: PluginListing, record: TrialRecord | None) -> dict[str, object]:
    """One plugin as a document for the list, without the state of the lock."""
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
    return _facts(listing, record) | {"duplicates": [_facts(it, known.of(it.entry)) for it in others]}


def broker_capabilities(name: str, home: Path, progress: Notify = discard) -> Mapping[str, str] | None:
    """What an installed broker declares, by field; None if it cannot be created. It is tried if there is no record."""
    declared = describe_plugin(f"broker/{name}", home, progress, settings={})["capabilities"]
    return declared if isinstance(declared, dict) else None


def _facts(listing: PluginListing, record: TrialRecord | None) -> dict[str, object]:
    description = _description(record)
    return plugin_document(listing, record) | {
        "capabilities": description.get("matrix") or description.get("capabilities", []),
        "entry_point": listing.entry.target,
        "requires": list(listing.entry.requires),
        "settings": description.get("settings", []),
    }


def find_plugins(name: str, listings: Sequence[PluginListing]) -> list[PluginListing]:
    """The listings of a name or KIND/NAME, all of one kind; several are duplicates.

    Raises PluginError for an unknown name, and UsageError for one that several kinds use.
    """
    found = [it for it in listings if name in {it.entry.name, f"{it.entry.kind}/{it.entry.name}"}]
    kinds = sorted({it.entry.kind for it in found})
    if len(kinds) > 1:
        spelled = " or ".join(f"{kind}/{name}" for kind in kinds)
        raise UsageError(f"Several plugins have the name {name}.", f"Say {spelled}.")
    if not found:
        from difflib import get_close_matches

        from tbot_core.plugins.loader import NEAR

        near = get_close_matches(name, [it.entry.name for it in listings], n=1, cutoff=NEAR)
        remedy = f"Did you mean {near[0]}?" if near else "`tbot plugins list` shows all plugins."
        raise PluginError(f"Unknown plugin {name}.", remedy)
    return found


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
