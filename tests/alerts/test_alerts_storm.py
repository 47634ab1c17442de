"""N7: ten thousand events in a minute, and kill -9 in the middle of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import pytest

from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.alerts.dispatcher import EVENTS_AT_ONCE, AlertDispatcher, AlertOptions
from tbot_core.alerts.store import FILE_NAME, MOST_WAITING, AlertStore
from tbot_core.contracts import Alert, Urgency
from tbot_core.instance import Instance
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.model.clock import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

NOW: Final = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
EVENTS: Final = 10_000
KILLED_AT: Final = 12

CHILD: Final = """
import asyncio, importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("storm", sys.argv[1])
storm = importlib.util.module_from_spec(spec)
spec.loader.exec_module(storm)
asyncio.run(storm.begin(Path(sys.argv[2])))
"""


class Channel:
    """Writes the key and the title of each message to a file; it ends the process at one of them, if it is to."""

    def __init__(self, path: Path, killed_at: int = 0) -> None:
        self.path, self.killed_at, self.count = path, killed_at, 0

    async def send(self, alert: Alert) -> None:
        """Write it."""
        with self.path.open("a") as file:
            file.write(f"{alert.key} {alert.title}\n")
        self.count += 1
        if self.count == self.killed_at:
            signal.raise_signal(signal.SIGKILL)

    @property
    def titles(self) -> list[str]:
        """The titles in order, each message once, without who says it."""
        lines = dict(line.split(" ", 1) for line in self.path.read_text().splitlines()) if self.path.exists() else {}
        return [title.removeprefix("[PAPER BOT_1] ") for title in lines.values()]


def started(home: Path, mail: Channel, pager: Channel) -> AlertDispatcher:
    """A run."""
    own = {Urgency.CRITICAL: ("pager",), Urgency.ROUTINE: ("mail",)}
    delivery = AlertDelivery({"pager": pager, "mail": mail}, own)
    writer = MessageWriter(mode="paper", identity="BOT_1")
    made = AlertDispatcher(Instance.at(home), delivery, writer, ManualClock(NOW), AlertOptions())
    made.begin()
    return made


async def begin(home: Path) -> None:
    """The run of the first process: it has read a part of the storm when it is killed while it sends."""
    instance = Instance.at(home)
    instance.data.mkdir(parents=True)
    journal = open_journal(instance.journal)
    bot = started(home, Channel(home / "mail", KILLED_AT), Channel(home / "pager"))
    refused = ({"name": f"r{number}", "words": "no."} for number in range(EVENTS))
    events = [NewEvent(kind="request_refused", payload=one, time=NOW) for one in refused]
    cause = {"cause": "LOGIN", "there": True, "state": "?", "words": ""}
    journal.append([*events[:200], NewEvent(kind="state", payload=cause, time=NOW), *events[200:]])
    bot.poll_journal()
    for urgency in Urgency:
        await bot.send(urgency)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_n7_a_storm_is_bounded_and_loses_nothing_by_kill_9(tmp_path: Path) -> None:
    """The critical one goes out at once, 20 others, and one digest that counts the rest, over both processes."""
    home = tmp_path / "x"
    child = subprocess.run([sys.executable, "-c", CHILD, __file__, str(home)], check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    mail, pager = Channel(home / "mail"), Channel(home / "pager")
    assert pager.titles == ["Exit-only: the broker requires a new login."]
    assert len(mail.titles) == KILLED_AT
    bot = started(home, mail, pager)
    for _ in range(EVENTS // EVENTS_AT_ONCE - 2):
        bot.poll_journal()
    tracemalloc.start()
    bot.poll_journal()
    bot.poll_journal()
    store = AlertStore(Instance.at(home).data / FILE_NAME, reading=True)
    waiting = store.unsent(Urgency.ROUTINE)
    assert len(waiting) == MOST_WAITING
    store.close()

    async def send() -> None:
        for urgency in Urgency:
            await bot.send(urgency)
        await bot.finish()

    asyncio.run(send())
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert len(pager.titles) == 1
    *singles, digest = mail.titles
    assert len({*singles}) == 21  # that of the kill was sent, and it is not known that it was
    assert digest.startswith(f"{EVENTS - 20:,} routine alerts, the first: The request r")
