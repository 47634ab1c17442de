"""What hanging alert channels cost a decision: its latency with every channel hanging beside the undisturbed one.

Nine interleaved pairs of twelve sessions of 500 symbols with durable commits: alone, then with the alerts of a run in
the same event loop, whose channels never answer and which have a thousand alerts to send. Prints the median of each
pair and the median of their ratios; the aim is at most 1.05.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from decision import SETTINGS, decisions

from tbot_core.alerts.delivery import AlertDelivery
from tbot_core.alerts.dispatcher import AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, MOST_WAITING, Notice, open_store
from tbot_core.alerts.text import MessageWriter
from tbot_core.contracts import Alert, Urgency
from tbot_core.instance import Instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.model.clock import Clock

PAIRS, SESSIONS, AIM = 9, 12, 1.05


class Hanging:
    """A channel whose service never answers."""

    def __init__(self) -> None:
        self.tries = 0

    async def send(self, _alert: Alert) -> None:
        """Wait until the call is cancelled."""
        self.tries += 1
        await asyncio.Event().wait()


async def hanging_alerts(home: Path, clock: Clock) -> None:
    """The alerts of a run, with channels that hang and alerts that wait."""
    instance = Instance.at(home)
    channels = {name: Hanging() for name in ("pager", "phone", "chat", "mail")}
    own = {Urgency.CRITICAL: ("pager", "phone"), Urgency.ROUTINE: ("chat", "mail")}
    writer = MessageWriter(mode="paper", identity="BENCHMARK")
    alerts = AlertDispatcher(instance, AlertDelivery(channels, own), writer, clock, AlertOptions())
    alerts.begin()
    store = open_store(instance.data / FILE_NAME)
    with store.transaction():
        for urgency in Urgency:
            notices = (Notice(key="n", urgency=urgency, what=f"Notice {n}.") for n in range(MOST_WAITING // 2))
            store.add_notices(notices, clock.now())
    store.close()
    try:
        await alerts.run()
    finally:
        if not all(channel.tries for channel in channels.values()):
            sys.stdout.write("a channel was given nothing: the figure says nothing\n")


def measured(*, hanging: bool) -> float:
    """The median latency of a decision in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
        Instance.at(home).data.mkdir(parents=True, exist_ok=True)
        beside = hanging_alerts if hanging else None
        return statistics.median(decisions(home, durable=True, sessions=SESSIONS, beside=beside))


def main() -> None:
    """Print the figures."""
    show: Callable[[str], int] = sys.stdout.write
    ratios = []
    for number in range(PAIRS):
        first = bool(number % 2)
        times = {hanging: measured(hanging=hanging) for hanging in (first, not first)}
        ratios.append(times[True] / times[False])
        show(f"decision: alone {times[False]:.2f} ms, with every channel hanging {times[True]:.2f} ms\n")
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    show(f"ratio of {PAIRS} pairs: median {statistics.median(ratios):.3f} ({spread}), aim at most {AIM}\n")


if __name__ == "__main__":
    main()
