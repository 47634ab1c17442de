"""Seeds shared among processes: each lives through its part, and says a line of each seed.

Run as `python -m tbot_core.rehearsal.parallel TASK`, the task being what `SeedBatch.text` writes.
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
    """Seeds to live through: from `first` to below `last` by `step`; no world begins after so many minutes."""

    first: int
    last: int
    step: int = 1
    faults: tuple[str, ...] | None = None
    minutes: float | None = None

    @property
    def text(self) -> str:
        """The task as one argument."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, text: str) -> SeedBatch:
        """The task that `text` holds."""
        found = json_document.parse_json(text)
        return cls(**{**found, "faults": None if found["faults"] is None else tuple(found["faults"])})


@attrs.frozen(kw_only=True)
class SeedReport:
    """The report of a seed: figures, and where something is violated the command that shows it again."""

    seed: int
    orders: int
    fills: int
    deaths: int
    faults: dict[str, int]
    settled_s: tuple[float, ...]
    again: str = ""
    violations: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in one line."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def read(cls, text: bytes) -> SeedReport:
        """What a line tells."""
        found = json_document.parse_json(text)
        return cls(**{**found, "settled_s": tuple(found["settled_s"]), "violations": tuple(found["violations"])})


def run_batch(task: SeedBatch, clock: Clock) -> Iterator[SeedReport]:
    """Live through the seeds of a task, one after the other; what violates something is shrunk at once."""
    until = None if task.minutes is None else clock.monotonic() + 60 * task.minutes
    for seed in range(task.first, task.last, task.step):
        if until is not None and clock.monotonic() > until:
            return
        yield _told(seed, task.faults)


@contextmanager
def run_parallel(task: SeedBatch, workers: int) -> Iterator[Iterator[SeedReport]]:
    """So many processes that share the seeds of a task, every one in turn; what they tell, as it comes."""
    parts = [attrs.evolve(task, first=task.first + number * task.step, step=workers) for number in range(workers)]
    commands = [(sys.executable, "-m", __name__, part.text) for part in parts]
    with processes.run_together(commands, environment=environ.minimal_environment()) as lines:
        yield (SeedReport.read(line) for line in lines)


def main(argument: str) -> None:
    """Live through a task, and say a line of each seed; an interrupt ends it in order."""
    with suppress(KeyboardInterrupt):
        for told in run_batch(SeedBatch.read(argument), SystemClock()):
            click.echo(told.text)


def _told(seed: int, faults: tuple[str, ...] | None) -> SeedReport:
    verdict = rehearse(seed, faults)
    least = shrink_faults(seed, verdict) if verdict.violations else verdict
    again = f"tbot rehearse --seeds 1 --first-seed {seed} --fault {','.join(least.on) or 'none'}"
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
