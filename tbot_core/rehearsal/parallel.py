"""Rehearses seeds in several processes; each writes a line per seed.

Run as `python -m tbot_core.rehearsal.parallel TASK`; TASK is `SeedBatch.text`.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs
import click

from tbot_core.model import json_document
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.rehearsal import rehearse, shrink_faults
from tbot_core.system import environ, processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.model.clock import Clock


@attrs.frozen(kw_only=True)
class SeedBatch:
    """Seeds to rehearse: from `first` to below `last` by `step`; none is started after `minutes`.

    `live`: whether the bot has a live feed or a minute feed; None lets each seed decide.
    """

    first: int
    last: int
    step: int = 1
    faults: tuple[str, ...] | None = None
    minutes: float | None = None
    live: bool | None = None

    @property
    def text(self) -> str:
        """The batch as one command-line argument."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, text: str) -> SeedBatch:
        """Parse a batch."""
        found = json_document.parse_json(text)
        return cls(**{**found, "faults": None if found["faults"] is None else tuple(found["faults"])})


@attrs.frozen(kw_only=True)
class SeedReport:
    """The report of a seed: figures, and after a violation the command that repeats it.

    `venue` is what the venue of a broker reports of it.
    """

    seed: int
    orders: int
    fills: int
    deaths: int
    faults: dict[str, int]
    settled_s: tuple[float, ...]
    again: str = ""
    violations: tuple[str, ...] = ()
    venue: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The report as one line."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, text: bytes) -> SeedReport:
        """Parse a line."""
        found = json_document.parse_json(text)
        return cls(**{**found, **{name: tuple(found[name]) for name in ("settled_s", "violations", "venue")}})


def run_batch(task: SeedBatch, clock: Clock) -> Iterator[SeedReport]:
    """Rehearse the seeds of a batch in order; the faults of a failing seed are shrunk."""
    until = None if task.minutes is None else clock.monotonic() + 60 * task.minutes
    for seed in range(task.first, task.last, task.step):
        if until is not None and clock.monotonic() > until:
            return
        yield _report(seed, task)


@contextmanager
def run_parallel(task: SeedBatch, workers: int) -> Iterator[Iterator[SeedReport]]:
    """Rehearse a batch in `workers` processes, which take the seeds in turn; yields the reports as they arrive."""
    parts = [attrs.evolve(task, first=task.first + number * task.step, step=workers) for number in range(workers)]
    commands = [(sys.executable, "-m", __name__, part.text) for part in parts]
    with processes.run_together(commands, environment=environ.minimal_environment()) as lines:
        yield (SeedReport.read(line) for line in lines)


def main(argument: str) -> None:
    """Rehearse a batch, and print a line per seed; an interrupt ends it normally."""
    with suppress(KeyboardInterrupt):
        for report in run_batch(SeedBatch.read(argument), SystemClock()):
            click.echo(report.text)


def _report(seed: int, task: SeedBatch) -> SeedReport:
    verdict = rehearse(seed, task.faults, live=task.live)
    least = shrink_faults(seed, verdict, live=task.live) if verdict.violations else verdict
    feed = "" if task.live is None else f" --feed {'live' if task.live else 'minutes'}"
    again = f"tbot rehearse --seeds 1 --first-seed {seed} --fault {','.join(least.on) or 'none'}{feed}"
    return SeedReport(
        seed=seed,
        orders=verdict.orders,
        fills=verdict.fills,
        deaths=verdict.deaths,
        faults=dict(verdict.faults),
        settled_s=verdict.settled_s,
        again=again if least.violations else "",
        violations=least.violations,
    )


if __name__ == "__main__":
    main(sys.argv[1])
