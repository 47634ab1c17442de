"""The results of trials and runs for each plugin, stored in the instance's data/plugins.json.

A result is valid only for the files that were tried: their hash is stored with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts.permissions import PluginNeeds
from tbot_core.errors import AccessError, TbotError
from tbot_core.model import json_document
from tbot_core.plugins.distributions import plugin_fingerprint
from tbot_core.plugins.failure import PluginFailure
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing
    from tbot_core.plugins.loader import LoadedPlugin
    from tbot_core.plugins.probe import TrialOutcome


_FILE_NAME: Final = "plugins.json"
_FORMAT: Final = 1


@attrs.frozen(kw_only=True)
class TrialRecord:
    """One plugin's last result: time, hash of the files, and description or failure.

    `crash` is the last failure as text, also of other files or before a later success; `crashed` is its time.
    `failures` counts the calls that failed in runs.
    """

    files: str
    seen: str
    description: Mapping[str, Any] | None = None
    phase: str = ""
    error: str = ""
    crashed: str = ""
    crash: str = ""
    failures: int = 0

    @property
    def needs(self) -> PluginNeeds | None:
        """The plugin's permissions; None if the description lacks them."""
        return needs_of(self.description)


@attrs.frozen(kw_only=True)
class TrialRecords:
    """The results by entry; `warning` explains why an existing file could not be read."""

    results: Mapping[str, TrialRecord] = attrs.field(factory=dict)
    warning: str = ""

    def of(self, entry: EntryPointInfo) -> TrialRecord | None:
        """The result of exactly these files, else None."""
        record = self.results.get(_key(entry))
        return record if record is not None and record.files == plugin_fingerprint(entry) else None

    def differs(self, outcome: TrialOutcome) -> bool:
        """Whether an outcome differs from what is recorded for exactly these files."""
        record = self.of(outcome.entry)
        return record is None or _result(outcome, record.files, record.seen, record) != record


def read_records(folder: Path) -> TrialRecords:
    """The records in a data folder; a damaged file counts as none, with a warning."""
    path = folder / _FILE_NAME
    if not filesystem.exists(path):
        return TrialRecords()
    try:
        return TrialRecords(results=_results(json_document.parse_json(filesystem.read_text(path))))
    except (AttributeError, KeyError, TypeError, ValueError, TbotError) as fault:
        words = fault.message if isinstance(fault, TbotError) else f"{type(fault).__name__}: {fault}"
        return TrialRecords(warning=f"{path} cannot be read ({words}); the recorded results of plugins are unknown.")


def with_outcomes(records: TrialRecords, outcomes: Iterable[TrialOutcome], now: datetime) -> TrialRecords:
    """The records with these outcomes as the last results of their plugins, seen `now`."""
    seen = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    results = dict(records.results)
    for outcome in outcomes:
        key = _key(outcome.entry)
        results[key] = _result(outcome, plugin_fingerprint(outcome.entry), seen, results.get(key))
    return attrs.evolve(records, results=results)


def _with_failure(records: TrialRecords, failure: PluginFailure, entry: EntryPointInfo, now: datetime) -> TrialRecords:
    # The records with one more failed call; unchanged if the plugin has no record.
    key = _key(entry)
    before = records.results.get(key)
    if before is None:
        return records
    seen = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    after = attrs.evolve(before, crash=failure.reason, crashed=seen, failures=before.failures + 1)
    return attrs.evolve(records, results={**records.results, key: after})


def write_records(folder: Path, records: TrialRecords) -> None:
    """Write the records to a data folder, creating it if absent; a damaged file is renamed first.

    Raises AccessError when the folder cannot be written.
    """
    filesystem.make_folder(folder)
    path = folder / _FILE_NAME
    if records.warning:
        filesystem.write_atomic(folder / f"{_FILE_NAME}.damaged", filesystem.read_bytes(path))
    results = {key: attrs.asdict(record) for key, record in records.results.items()}
    text = json.dumps({"format": _FORMAT, "results": results}, sort_keys=True, indent=1)
    filesystem.write_atomic(path, text.encode())


def apply_records(listings: Iterable[PluginListing], records: TrialRecords) -> tuple[PluginListing, ...]:
    """The listings with recorded failures: otherwise usable ones become broken, with reason and time."""
    judged = []
    for listing in listings:
        usable = listing.state in {"active", "available"}
        record = records.of(listing.entry) if usable else None
        if record is not None and record.error:
            failure = PluginFailure.said(listing.entry, record.phase, record.error)  # type: ignore[arg-type]  # a phase when it was written
            judged.append(attrs.evolve(listing, state="broken", reason=failure.reason, seen=record.seen))
        else:
            judged.append(listing)
    return tuple(judged)


def needs_of(description: Mapping[str, Any] | None) -> PluginNeeds | None:
    """The permissions in a trial's description; None if it lacks them."""
    try:
        return PluginNeeds.of((description or {})["needs"])
    except (AttributeError, KeyError, TypeError):
        return None


def _key(entry: EntryPointInfo) -> str:
    return f"{entry.kind}/{entry.name}/{entry.dist}"


def _result(outcome: TrialOutcome, files: str, seen: str, before: TrialRecord | None) -> TrialRecord:
    failure = outcome.failure
    crashed, crash = (before.crashed, before.crash) if before else ("", "")
    return TrialRecord(
        files=files,
        seen=seen,
        description=_with_matrix(outcome.description, before, files),
        phase=failure.phase if failure else "",
        error=failure.error if failure else "",
        crashed=seen if failure else crashed,
        crash=failure.reason if failure else crash,
        failures=before.failures if before else 0,
    )


def _with_matrix(
    description: Mapping[str, Any] | None, before: TrialRecord | None, files: str
) -> Mapping[str, Any] | None:
    # A run describes the offer alone: the capabilities of a broker are those of its last trial.
    last = before.description if before is not None and before.files == files else None
    if not (description and last) or description.get("matrix"):
        return description
    return {**description, "matrix": last.get("matrix", {})}


def _results(document: Mapping[str, Any]) -> dict[str, TrialRecord]:
    if document["format"] != _FORMAT:
        raise ValueError(f"its format is {document['format']}, not {_FORMAT}")
    return {key: _record(value) for key, value in document["results"].items()}


def _record(document: Mapping[str, Any]) -> TrialRecord:
    record = TrialRecord(**document)
    texts = (record.files, record.seen, record.phase, record.error, record.crashed, record.crash)
    sound = all(isinstance(text, str) for text in texts) and isinstance(record.failures, int)
    if not sound or not isinstance(record.description, dict | None):
        raise TypeError("a result has values of a wrong type")
    return record


def record_run(
    folder: Path,
    loaded: Iterable[LoadedPlugin],
    failures: Iterable[PluginFailure],
    listings: Iterable[PluginListing],
    now: datetime,
) -> None:
    """Record in a data folder which plugins a run loaded and which failed; writes only changes.

    Failures in the metadata (phase find) are not recorded. Raises AccessError when the folder cannot be written.
    """
    trial_records = read_records(folder)
    outcomes = [outcome for outcome in _outcomes(loaded, failures, listings) if trial_records.differs(outcome)]
    if outcomes:
        write_records(folder, with_outcomes(trial_records, outcomes, now))


def record_failure(folder: Path, entry: EntryPointInfo, failure: PluginFailure, now: datetime) -> None:
    """Record in a data folder that a call failed in a run; if the folder cannot be written, log a warning."""
    from tbot_core.system import log  # a run has it; listing plugins needs none

    trial_records = read_records(folder)
    try:
        write_records(folder, _with_failure(trial_records, failure, entry, now))
    except AccessError as fault:
        log.logger(__name__).warning("plugin.failure_not_recorded", error=fault.message)


def _outcomes(
    loaded: Iterable[LoadedPlugin], failures: Iterable[PluginFailure], listings: Iterable[PluginListing]
) -> Iterator[TrialOutcome]:
    from tbot_core.plugins.probe import TrialOutcome
    from tbot_core.plugins.trial import describe_offer  # which imports the contracts: listing plugins needs none

    failed = {(it.kind, it.name): it for it in failures if it.phase != "find"}
    for plugin in loaded:
        if (plugin.entry.kind, plugin.entry.name) not in failed:
            # As JSON returns it, for comparison with the record.
            yield TrialOutcome(
                entry=plugin.entry,
                description=json_document.parse_json(json.dumps(attrs.asdict(describe_offer(plugin.plugin)))),
            )
    for listing in listings:
        failure = failed.get((listing.entry.kind, listing.entry.name))
        if failure is not None:
            yield TrialOutcome(entry=listing.entry, failure=failure)
