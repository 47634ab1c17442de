"""What the two barriers before a send cost: T1 writes a minute's decisions and intents, T2 marks its orders as sent.

Prints the median and the 99th percentile of both together, durable (SQLite, WAL, synchronous=FULL) less the same in
memory, for minutes that send 1, 5 and 20 entries with their stops, and what one wait for this disk takes by itself.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import Leg, OrderType
from tbot_core.testing.trades import order

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES: Final = 300
ENTRIES: Final = (1, 5, 20)
MEDIAN_MS: Final = 15
P99_MS: Final = 50


def barriers(journal: Journal, entries: int) -> list[float]:
    """Milliseconds of T1 and T2 together, minute by minute."""
    clock, found = SystemClock(), []
    stop = attrs.evolve(order(), leg=Leg.STOP, type=OrderType.STOP)
    for minute in range(MINUTES):
        names = [f"tb{minute:06d}{row:04d}" for row in range(entries)]
        parts = [(f"{name}{leg}", one) for name in names for leg, one in (("E", order()), ("S", stop))]
        now = clock.now()
        begun = time.perf_counter()
        journal.append(
            [
                NewEvent(kind=records.INTENDED, payload=codec.write(OrderIntended.of(one)), time=now, cid=cid)
                for cid, one in parts
            ]
        )
        journal.append([NewEvent(kind=records.SENDING, payload={}, time=now, cid=cid) for cid, _ in parts])
        found.append((time.perf_counter() - begun) * 1e3)
    return found


def waits(folder: Path) -> list[float]:
    """Milliseconds of a small write and a wait for the disk."""
    found = []
    with (folder / "wait").open("wb") as file:
        for _ in range(MINUTES):
            begun = time.perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            found.append((time.perf_counter() - begun) * 1e3)
    return found


def figures(times: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def main() -> None:
    """Print the figures."""
    show: Callable[[str], int] = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        for entries in ENTRIES:
            times = []
            for path in (Path(folder) / f"{entries}.sqlite", Path(":memory:")):
                journal = open_journal(path)
                times.append(barriers(journal, entries))
                journal.close()
            free = statistics.median(times[1])
            median, worst = figures([one - free for one in times[0]])
            show(
                f"two barriers, {entries} entries with stops: durable overhead median {median:.2f} ms "
                f"(target {MEDIAN_MS}), p99 {worst:.2f} ms (target {P99_MS}) in {MINUTES} minutes\n"
            )
        median, worst = figures(waits(Path(folder)))
        show(f"one wait for this disk: median {median:.2f} ms, p99 {worst:.2f} ms\n")


if __name__ == "__main__":
    main()
