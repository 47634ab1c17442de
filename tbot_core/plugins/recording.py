"""Results of a run about its plugins, added to the records."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.plugins import trial_records
from tbot_core.plugins.probe import TrialOutcome
from tbot_core.plugins.trial import describe_offer
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo, PluginListing
    from tbot_core.plugins.failure import PluginFailure
    from tbot_core.plugins.loader import LoadedPlugin

_log = log.logger(__name__)


def record_run(
    folder: Path,
    loaded: Iterable[LoadedPlugin],
    failures: Iterable[PluginFailure],
    listings: Iterable[PluginListing],
    now: datetime,
) -> None:
    """Record the plugins that a run loaded and those that failed in it, in a data folder; nothing new, nothing written.

    What metadata alone says (phase find) is not recorded. Raises AccessError when the folder cannot be written.
    """
    known = trial_records.read_records(folder)
    outcomes = [it for it in _outcomes(loaded, failures, listings) if known.differs(it)]
    if outcomes:
        trial_records.write_records(folder, trial_records.with_outcomes(known, outcomes, now))


def record_failure(folder: Path, entry: EntryPointInfo, failure: PluginFailure, now: datetime) -> None:
    """Record in a data folder that a call failed in a run; a folder that cannot be written is a warning."""
    known = trial_records.read_records(folder)
    try:
        trial_records.write_records(folder, trial_records.with_failure(known, failure, entry, now))
    except AccessError as fault:
        _log.warning("plugin.failure_not_recorded", error=fault.message)


def _outcomes(
    loaded: Iterable[LoadedPlugin], failures: Iterable[PluginFailure], listings: Iterable[PluginListing]
) -> Iterator[TrialOutcome]:
    failed = {(it.kind, it.name): it for it in failures if it.phase != "find"}
    for it in loaded:
        if (it.entry.kind, it.entry.name) not in failed:
            # As JSON would give it back, so that it compares with what was recorded.
            yield TrialOutcome(
                entry=it.entry,
                description=json_document.parse_json(json.dumps(attrs.asdict(describe_offer(it.plugin)))),
            )
    for listing in listings:
        failure = failed.get((listing.entry.kind, listing.entry.name))
        if failure is not None:
            yield TrialOutcome(entry=listing.entry, failure=failure)
