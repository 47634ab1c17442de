"""Blocks the import of a plugin that hung in its trial, or ended starts of the run: it would do so again.

A plugin without a record of its files is tried first, in a child process.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from tbot_core.errors import AccessError
from tbot_core.plugins import hung_plugins, probe, trial_records
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import expand_extensions, log_failure
from tbot_core.system import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.plugins.discovery import PluginListing
    from tbot_core.plugins.trial_records import TrialRecords

_log = log.logger(__name__)


def quarantine_broken(
    wanted: Iterable[tuple[str, str]],
    listings: Sequence[PluginListing],
    folder: Path,
    now: datetime,
    *,
    limit_s: float = probe.LIMIT_S,
) -> tuple[set[tuple[str, str]], tuple[PluginFailure, ...]]:
    """The requested (kind, name) pairs that may be loaded, and the failures of the others.

    Trials are recorded in the data folder `folder`; each takes at most `limit_s`. A plugin that failed with an error
    may be loaded: it fails the same way, unless settings or its requirements have fixed it.
    """
    known = {(it.entry.kind, it.entry.name): it for it in listings}
    pairs = expand_extensions(wanted, known)
    usable = [known[pair] for pair in sorted(pairs & known.keys()) if known[pair].state in {"active", "available"}]
    recorded = _complete(usable, folder, now, limit_s)
    failures = []
    for listing in usable:
        record = recorded.of(listing.entry)
        if record is not None and record.phase == "probe":
            failures.append(PluginFailure.said(listing.entry, "probe", record.error))
            log_failure(failures[-1])
    return pairs - {(failure.kind, failure.name) for failure in failures}, tuple(failures)


def _complete(usable: Iterable[PluginListing], folder: Path, now: datetime, limit_s: float) -> TrialRecords:
    # The records, with the missing ones added.
    recorded = trial_records.read_records(folder)
    usable, ended = list(usable), hung_plugins.ended_starts(folder, now)
    outcomes = [
        probe.TrialOutcome(entry=listing.entry, failure=PluginFailure.said(listing.entry, "probe", ended[name]))
        for listing in usable
        if (name := f"{listing.entry.kind}/{listing.entry.name}") in ended
    ]
    entries = {outcome.entry for outcome in outcomes}
    fresh = [listing.entry for listing in usable if listing.entry not in entries and recorded.of(listing.entry) is None]
    if fresh or outcomes:
        found = chain(outcomes, probe.probe_plugins(fresh, limit_s=limit_s))
        recorded = trial_records.with_outcomes(recorded, found, now)
        try:
            trial_records.write_records(folder, recorded)
        except AccessError as fault:
            _log.warning("plugin.trial_not_recorded", error=str(fault))
    return recorded
