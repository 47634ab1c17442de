"""The settings that the last run of an instance went by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import SettingsError
from tbot_core.instance import Instance, Settings, load, read
from tbot_core.instance.dotenv import Entry, Parsed
from tbot_core.journal.records import RUN_STARTED
from tbot_core.status.runs import PAPER, reading, run_files

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.instance.findings import Mode


def of_last_run(instance: Instance) -> tuple[str, Parsed]:
    """What paper trading last ran with, else the newest other run, and which; nothing, the defaults, where none ran."""
    for file in sorted(run_files(instance), key=lambda it: (it.name != PAPER, it.dry)):
        with reading(file) as journal:
            started = journal.last(RUN_STARTED)
        if started is not None:
            since = f"the {started.payload['mode']} run of {started.applied:%Y-%m-%d %H:%M} UTC"
            texts = started.payload["settings"].items()
            entries = (Entry(key=name, value=text, file=since, line=0) for name, text in texts)
            return since, Parsed(entries=tuple(entries))
    return "the defaults (nothing ran yet)", Parsed()


def settings_or_former(home: Path | None, *, mode: Mode) -> tuple[Settings, str]:
    """The settings as they are, and ""; where they do not hold, those of the last run, and why.

    Raises SettingsError where they do not hold and nothing ran.
    """
    try:
        return load(home, mode=mode), ""
    except SettingsError as fault:
        since, parsed = of_last_run(Instance.at(home))
        if not parsed.entries:
            raise
        sources = read(Instance.at(home))
        former = attrs.evolve(sources, bot=attrs.evolve(sources.bot, plain=True, parsed=parsed, fault=None))
        try:
            found = load(home, mode=mode, sources=former)
        except SettingsError:
            raise fault from None
        faults = "; ".join(line.rstrip(".") for line in fault.message.splitlines())
        return found, f"{faults}. What is shown goes by those of {since}."
