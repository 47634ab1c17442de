"""The settings of the last run of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import SettingsError
from tbot_core.instance import Instance, Settings, load_settings, read_settings_files
from tbot_core.instance.dotenv import Assignment, ParsedDotenv
from tbot_core.journal.records import RUN_STARTED
from tbot_core.status.runs import PAPER, open_run_file, run_files

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance.findings import Mode


def settings_of_last_run(instance: Instance) -> tuple[str, ParsedDotenv]:
    """The settings of the last paper run, else of the newest other run, and its name; the defaults without a run."""
    for file in sorted(run_files(instance), key=lambda it: (it.name != PAPER, it.dry)):
        with open_run_file(file) as journal:
            started = journal.last_event(RUN_STARTED)
        if started is not None:
            since = f"the {started.payload['mode']} run of {started.applied:%Y-%m-%d %H:%M} UTC"
            texts = started.payload["settings"].items()
            entries = (Assignment(key=name, value=text, file=since, line=0) for name, text in texts)
            return since, ParsedDotenv(entries=tuple(entries))
    return "the defaults (nothing has run yet)", ParsedDotenv()


def settings_or_last_run(home: Path | None, *, mode: Mode) -> tuple[Settings, str]:
    """The current settings and ""; if they are invalid, those of the last run, and the reason.

    Raises SettingsError if they are invalid and nothing has run.
    """
    try:
        return load_settings(home, mode=mode), ""
    except SettingsError as fault:
        since, parsed = settings_of_last_run(Instance.at(home))
        if not parsed.entries:
            raise
        sources = read_settings_files(Instance.at(home))
        former = attrs.evolve(sources, bot=attrs.evolve(sources.bot, plain=True, parsed=parsed, fault=None))
        try:
            found = load_settings(home, mode=mode, sources=former)
        except SettingsError:
            raise fault from None
        faults = "; ".join(line.rstrip(".") for line in fault.message.splitlines())
        return found, f"{faults}. Shown are the settings of {since}."
