"""What hanging alert channels cost a decision: its latency with every channel hanging beside the undisturbed one.

Nine interleaved pairs of twelve sessions of 500 symbols with durable commits: alone, then with the alerts of a run in
the same event loop, whose channels never answer and which have a thousand alerts to send. The alerts run through all
sessions of a measurement; the first session begins when every channel has been given a message. Prints the medians of
each pair and the median of their ratios; the aim is at most 1.05. The latency is mostly the disk's; the ratio of the
processor times shows what alerts add where another program keeps the disk busy. Ends with exit 1 where a channel was
given nothing, or a decision in ten or more was made while it had no call outstanding: such a figure says nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from decision import SETTINGS, decisions

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, MOST_WAITING, Notice, open_store
from tbot_core.contracts import Alert, Urgency
from tbot_core.instance import Instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tbot_core.model.clock import Clock

PAIRS, SESSIONS, AIM = 9, 12, 1.05
LEAST_HANGING = 0.9
"""The smallest share of the decisions that each channel must be hanging with a call for."""

START_S = 5.0
"""The longest time that the alerts may need until every channel has been given a message."""


class Medians(NamedTuple):
    """The medians of a measurement in milliseconds, and the 95th percentile of the latency."""

    latency: float
    processor: float
    slow: float

    def __str__(self) -> str:
        """The figures as text."""
        return f"{self.latency:.2f} ms (processor {self.processor:.2f}, p95 {self.slow:.2f})"


class Hanging:
    """A channel whose service never answers."""

    def __init__(self) -> None:
        self.outstanding = 0
        self.decisions = 0
        self.called = asyncio.Event()

    async def send(self, _alert: Alert) -> None:
        """Wait until the call is cancelled."""
        self.called.set()
        self.outstanding += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.outstanding -= 1


class HangingAlerts:
    """The alerts of a run, with channels that hang and alerts that wait, beside all sessions of a measurement."""

    def __init__(self) -> None:
        self.channels = {name: Hanging() for name in ("pager", "phone", "chat", "mail")}
        self.decisions = self.waiting = 0

    @asynccontextmanager
    async def running(self, home: Path, clock: Clock) -> AsyncIterator[None]:
        """Run the alerts; the body begins when every channel has been given a message."""
        instance = Instance.at(home)
        own = {Urgency.CRITICAL: ("pager", "phone"), Urgency.ROUTINE: ("chat", "mail")}
        writer = MessageWriter(mode="paper", identity="BENCHMARK")
        alerts = AlertDispatcher(instance, AlertDelivery(self.channels, own), writer, clock, AlertOptions())
        alerts.begin()
        store = open_store(instance.data / FILE_NAME)
        with store.transaction():
            for urgency in Urgency:
                notices = (Notice(key="n", urgency=urgency, what=f"Notice {n}.") for n in range(MOST_WAITING // 2))
                store.add_notices(notices, clock.now())
        task = asyncio.create_task(alerts.run())
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                for channel in self.channels.values():
                    await channel.called.wait()
        try:
            yield
        finally:
            self.waiting = sum(len(store.unsent(urgency)) for urgency in Urgency)
            store.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def decided(self) -> None:
        """Count the decision for the channels that are hanging with a call."""
        self.decisions += 1
        for channel in self.channels.values():
            channel.decisions += bool(channel.outstanding)

    def faults(self) -> list[str]:
        """Why the figure says nothing about hanging channels; none if it does."""
        shares = {name: channel.decisions / self.decisions for name, channel in self.channels.items()}
        found = [
            f"the channel {name} was given no message" for name, one in self.channels.items() if not one.called.is_set()
        ]
        found += [
            f"the channel {name} had no call outstanding in {1 - share:.0%} of {self.decisions} decisions"
            for name, share in shares.items()
            if share < LEAST_HANGING
        ]
        return found if self.waiting else [*found, "no alert was waiting at the end"]


def measured(alerts: HangingAlerts | None = None) -> Medians:
    """The median latency of the decisions, alone or beside alerts."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
        Instance.at(home).data.mkdir(parents=True, exist_ok=True)
        found = decisions(home, durable=True, sessions=SESSIONS, beside=alerts)
    wall_ms, processor_ms = ([getattr(one, name) for one in found] for name in ("wall_ms", "processor_ms"))
    return Medians(statistics.median(wall_ms), statistics.median(processor_ms), statistics.quantiles(wall_ms, n=20)[-1])


def main() -> int:
    """Print the figures; 1 if they say nothing."""
    pairs = []
    for number in range(PAIRS):
        alerts, found = HangingAlerts(), {}
        for hanging in (False, True) if number % 2 else (True, False):
            found[hanging] = measured(alerts if hanging else None)
        if faults := alerts.faults():
            sys.stdout.write(f"no figure: {'; '.join(faults)}\n")
            return 1
        pairs.append((found[False], found[True]))
        least = min(channel.decisions for channel in alerts.channels.values())
        sys.stdout.write(
            f"decision alone: {found[False]}; with every channel hanging: {found[True]}"
            f" ({least} of {alerts.decisions} with a call outstanding at each, {alerts.waiting} alerts waiting)\n"
        )
        sys.stdout.flush()
    for column, name in enumerate(("latency", "processor time", "95th percentile of the latency")):
        ratios = [beside[column] / alone[column] for alone, beside in pairs]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        sys.stdout.write(f"{name}, ratio of {PAIRS} pairs: median {statistics.median(ratios):.3f} ({spread})\n")
    sys.stdout.write(f"aim: at most {AIM}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
