"""The drift of a session: as it was recorded at the day's end, else computed from what the session received."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import TYPE_CHECKING

from tbot_core.backtest.shadow_run import session_drift
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import DataError, UsageError
from tbot_core.instance.sources import find_instance
from tbot_core.journal import records
from tbot_core.journal.events.sessions import DriftMeasured, SessionClosed, SessionOpened
from tbot_core.marketdata import received_bars, received_files
from tbot_core.model import dates
from tbot_core.model.clock import SystemClock
from tbot_core.model.formatting import plural
from tbot_core.reports.drift import drift_together, events_of_session
from tbot_core.status import Document, runs
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from tbot_core.instance import Instance
    from tbot_core.journal.store import Event
    from tbot_core.status.runs import RunFile

_CHANGED = "The settings have changed since the run: the shadow run uses the current ones."


def drift_of(home: Path | None, date: str | None, run: str | None) -> Document:
    """The drift of the session of a date, None for the last one that ended; of a run by its id.

    Without an id it is that of paper and live trading; in a rehearsal that one. Raises UsageError for an invalid date
    and for one without a closed session, and DataError if the run has none or its bars are gone.
    """
    wanted = None if date is None else dates.parse_day(date)
    instance, file, closed = _closed_sessions(home, run)
    return _drift(instance, file, _day(closed, wanted))


def drift_of_last(home: Path | None, count: int, run: str | None) -> Document:
    """The drift of the last `count` sessions that ended, or of all if there are fewer, and of all of them together.

    The run is that of `drift_of`. A session that cannot be compared has its `fault` instead. Raises DataError if none
    has ended.
    """
    instance, file, closed = _closed_sessions(home, run)
    found: list[Document] = []
    for day in closed[-count:]:
        try:
            found.append(_drift(instance, file, dt.date.fromisoformat(day)))
        except DataError as fault:
            found.append({"date": day, "fault": str(fault)})
    return drift_together(found)


def _closed_sessions(home: Path | None, run: str | None) -> tuple[Instance, RunFile, Sequence[str]]:
    # The dates of the sessions of the run that ended, in order, at least one.
    instance = find_instance(home)
    asked = run or (None if runs.is_rehearsing(instance) else runs.PAPER)
    if (
        asked == runs.PAPER
        and (names := {run_file.name for run_file in runs.run_files(instance)})
        and runs.PAPER not in names
    ):
        raise _nothing_ended(instance, runs.PAPER)
    file = runs.run_file(instance, asked)
    with runs.open_run_file(file) as journal:
        closed = sorted(
            {event.facts(SessionClosed).date.isoformat() for event in journal.events(kind=records.SESSION_CLOSED)}
        )
    if not closed:
        raise _nothing_ended(instance, file.name)
    return instance, file, closed


def _drift(instance: Instance, file: RunFile, day: dt.date) -> Document:
    # The drift of a session that ended: as recorded, else computed.
    with runs.open_run_file(file) as journal:
        recorded = [event for event in journal.events(kind=records.DRIFT) if event.facts(DriftMeasured).date == day]
        if recorded:
            return {**recorded[-1].payload}
        events, started = events_of_session(journal.events(), day), journal.last_event(records.RUN_STARTED)
    return _computed(instance, file, events, {} if started is None else started.payload)


def _nothing_ended(instance: Instance, run: str) -> DataError:
    # What was looked for, and what is there that does not count.
    whose = "paper or live trading" if run == runs.PAPER else f"the run {run}"
    simulated = sum(not run_file.apart and run_file.name != runs.PAPER for run_file in runs.run_files(instance))
    others = f" {plural(simulated, 'replay or demo', 'replays and demos')} do not count: their fills are simulated."
    return DataError(
        f"No session of {whose} has ended in {instance.home}.{others if simulated else ''}",
        "`tbot run` trades on paper, and its session is compared after the close; `tbot drift --run ID` names the run "
        "of a rehearsal or a dry run.",
    )


def _day(closed: Sequence[str], wanted: dt.date | None) -> dt.date:
    # The session of a date, None for the last one that ended.
    day = wanted or dt.date.fromisoformat(closed[-1])
    if day.isoformat() not in closed:
        words = runs.recorded_sessions_text(closed, day)
        raise UsageError(f"The run has no session on {day} that ended.", words)
    return day


def _computed(instance: Instance, file: RunFile, events: Sequence[Event], run: Mapping[str, Any]) -> Document:
    # The drift by the current settings.
    assembly = assemble(instance.home, "paper" if file.rehearsal else run["mode"], SystemClock())
    folder = runs.received_of(instance, file)
    day = events[0].facts(SessionOpened).date
    path = received_files.recorded_file(folder, day)
    if path is None:
        raise DataError(f"What was received on {day} is not in {folder}.", "Only a run in real time records it.")
    name = assembly.settings.trading.broker_name
    venue = SIMULATOR_CAPABILITIES if file.dry else assembly.broker(name).capabilities
    recording = received_bars.read_recording(path)
    note = _CHANGED if assembly.settings.fingerprint != run["settings_hash"] else ""
    return asyncio.run(assembly.closing(session_drift(assembly, venue, recording, events, note)))
