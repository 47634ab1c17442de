"""How fast a kill is obeyed by a bot in a process of its own, at a venue whose answers take 50 ms.

Somebody touches control/kill, with a loose mode, while the bot sends 100 entries, and once while all of them rest. It
prints what passes until the bot has written down that it saw the file, until the last cancel has left, and how many
entries left although the file was there; then what it takes to refuse an order when the file has appeared. `--json`
prints the figures as one line for a program.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.engine import control
from tbot_core.errors import Withdrawn
from tbot_core.execution.send_permit import SendPermit
from tbot_core.journal import records
from tbot_core.journal.store import open_journal
from tbot_core.model.types import Leg, Order
from tbot_core.rehearsal.bot import BotProcess
from tbot_core.rehearsal.burst import CALLED_AT, BurstScenario, RemoteConnections, WorldClock
from tbot_core.rehearsal.remote_broker import VenueServer, load_line
from tbot_core.system import sockets
from tbot_core.testing.trades import order
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable


ORDERS: Final = 100
LATENCY_S: Final = 0.05
LEAD_S: Final = 1.0
REST_S: Final = 1.0
PATIENCE_S: Final = 60.0
GLANCES: Final = 1_000
SEEN_MS: Final = 100
CANCELS_S: Final = 5
REFUSED_MS: Final = 10
KILL_FILE: Final = StateCause.KILL_FILE.name


@attrs.define
class Watch:
    """What a venue sees of a bot, second by second; `kill` is when the file was there."""

    touch_at: int
    sent: list[float] = attrs.field(factory=list)
    cancelled: list[float] = attrs.field(factory=list)
    entered_after: int = 0
    kill: float | None = None

    def see(self, message: bytes, touch: Callable[[], None]) -> None:
        """Take in a message; the file is touched at the submit of that number, or when all have rested for a while."""
        at, _, what, parts = load_line(message)
        if what == "submit":
            self.sent.append(at)
            self.entered_after += self.kill is not None and parts[0].leg is Leg.ENTRY
        elif what == "cancel":
            self.cancelled.append(at)
        rested = len(self.sent) == ORDERS and at > self.sent[-1] + REST_S
        if self.kill is None and (len(self.sent) == self.touch_at or rested):
            touch()
            self.kill = at

    @property
    def over(self) -> bool:
        """Whether everything that left is being taken back."""
        return self.kill is not None and len(self.cancelled) >= len(self.sent)


@attrs.frozen
class Figures:
    """What a kill came to."""

    sent: int
    entered_after: int
    seen_ms: float
    cancels_s: float


def live(home: Path, path: Path, offset: float) -> None:
    """The bot, by the machine's clock, of which a world's second is `offset` more."""
    crowd = BurstScenario(ORDERS, LATENCY_S)
    crowd.clock = WorldClock(crowd.start, time.monotonic() + offset)
    asyncio.run(BotProcess(crowd, ("crowd",), home, crowd.bot, RemoteConnections(path)).live())


def kill(touch_at: int) -> Figures:
    """Let a bot send, touch the file at the submit of that number, and see what it does."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        home, path = Path(folder), Path(folder) / "venue"
        crowd, watch = BurstScenario(ORDERS, LATENCY_S), Watch(touch_at)
        control.prepare_folder(home / "control")
        offset = CALLED_AT - LEAD_S - time.monotonic()
        with sockets.listen(path, PATIENCE_S) as listener:
            command = [sys.executable, __file__, "live", str(home), str(path), str(offset)]
            with (
                subprocess.Popen(command, stderr=subprocess.DEVNULL) as bot,  # noqa: S603  -- this file itself
                closing(listener.accept()) as line,
            ):
                counter = VenueServer(crowd.way, crowd.loop, crowd.venue_clock)
                while not watch.over and (message := line.receive()) is not None:
                    watch.see(message, lambda: touch(home / "control" / control.KILL))
                    line.send(counter.answer(message))
                bot.kill()
        crowd.loop.finish()
        with closing(open_journal(home / "tbot.sqlite")) as journal:
            seen = next(
                event.applied for event in journal.events(kind=records.STATE) if event.payload["cause"] == KILL_FILE
            )
    if watch.kill is None:
        raise SystemExit("The bot was gone before it had sent enough.")
    moment = crowd.start + dt.timedelta(seconds=watch.kill)
    return Figures(
        sent=len(watch.sent),
        entered_after=watch.entered_after,
        seen_ms=(seen - moment).total_seconds() * 1e3,
        cancels_s=max(watch.cancelled) - watch.kill,
    )


def touch(file: Path) -> None:
    """Somebody who has no idea of modes touches a file."""
    subprocess.run(["/bin/sh", "-c", f"umask 0; touch '{file}'"], check=True)  # noqa: S603  -- a folder of our own


def refusals() -> list[tuple[float, float]]:
    """Milliseconds from the file's appearing to the refusal of an order: by the clock, and of the process's own time.

    The first also counts what a busy machine gives to others meanwhile.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        control.prepare_folder(Path(folder))

        def refusal(one: Order) -> str:
            return f"{one.symbol}: killed" if control.kill_file_exists(Path(folder)) else ""

        for _ in range(GLANCES):
            permit = SendPermit(order(), refusal)
            (Path(folder) / control.KILL).touch()
            begun, worked = time.perf_counter(), time.thread_time()
            try:
                permit.redeem()
            except Withdrawn:
                own = time.thread_time() - worked
                found.append(((time.perf_counter() - begun) * 1e3, own * 1e3))
            (Path(folder) / control.KILL).unlink()
    return found


def main() -> None:
    """Print the figures."""
    sending, resting, measured = kill(ORDERS // 2), kill(ORDERS + 1), refusals()
    refused, own = [wall for wall, _ in measured], [one for _, one in measured]
    if "--json" in sys.argv:
        said = {"sending": attrs.asdict(sending), "resting": attrs.asdict(resting), "refused_ms": max(refused)}
        sys.stdout.write(json.dumps(said) + "\n")
        return
    for words, one in (("while it sends", sending), ("while all rest", resting)):
        sys.stdout.write(
            f"kill by a touched file {words}: seen after {one.seen_ms:.0f} ms (target {SEEN_MS}), {one.entered_after} "
            f"entries after it (target 0), {one.sent} cancels issued in {one.cancels_s:.2f} s (target {CANCELS_S})\n"
        )
    sys.stdout.write(
        f"refusal of an order in the process: median {statistics.median(refused):.3f} ms, "
        f"most {max(refused):.3f} ms (target {REFUSED_MS}), of it own {max(own):.3f} ms at most, of {len(refused)}\n"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["live"]:
        live(Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
    else:
        main()
