"""What viewers of the page cost a bot: 20 of them watch a fast demo live, beside the same demo without a page.

Pairs of runs, one after the other, each in a process of its own as in use. Prints the bot's decision latency (a minute
is due -> it is decided and written down) without and with the page and their ratio, how long after its row in the
journal a fill is on the viewers' screens, and the memory of the page's process at start and end.

    python benchmarks/web_viewers.py [seconds of a run, 60] [pairs, 2]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import BrokerEventKind, FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.pacing import ScaledPace
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.journal.store import Journal
from tbot_core.model.clock import SystemClock
from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from tbot_extension_web.access.logins import Session

    from tbot_core.journal.store import NewEvent

VIEWERS: Final = 20
RATE: Final = 900.0
"""Exchange seconds a second: a session takes 26 s."""

PORT: Final = 8399
_REQUEST: Final = "GET /live/dashboard HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: tbot-session={token}\r\n\r\n"


@attrs.frozen
class Measured:
    """What one run gave: milliseconds of each decision, seconds until a fill was seen, and the page's megabytes."""

    decisions: list[float]
    seen: list[float]
    memory: tuple[float, ...] = ()


def trade(home: Path, seconds: float) -> None:
    """The bot: trades the demo for so long, and prints what it measured."""
    due, decisions, fills = [0.0], list[float](), list[tuple[str, float]]()
    wait, append = ScaledPace.wait_until, Journal.append

    async def wait_until(pace: ScaledPace, moment: datetime) -> None:
        await wait(pace, moment)
        due[0] = time.perf_counter()

    def on_events(entries: Sequence[NewEvent]) -> None:
        fills.extend((one.payload["symbol"], time.time()) for one in entries if one.kind == BrokerEventKind.FILL)

    async def traded() -> None:
        plan = RunPlan(
            assembly=assemble(home, "demo", SystemClock()),
            request=FeedRequest(kind="demo", sessions=1000),
            wall=SystemClock(),
            pace=RATE,
        )
        asyncio.get_running_loop().call_later(seconds, plan.stop.set)
        watcher = RunWatcher(
            on_minute=lambda _session, _minute: decisions.append((time.perf_counter() - due[0]) * 1000),
            on_events=on_events,
        )
        await run(plan, watcher)

    def append_durably(journal: Journal, entries: Sequence[NewEvent]) -> None:
        journal.commit_on = None  # at once, as in paper trading
        append(journal, entries)

    Journal.append = append_durably  # type: ignore[assignment, method-assign]  # a simulation commits once a session
    ScaledPace.wait_until = wait_until  # type: ignore[assignment, method-assign]  # measured where it waits
    asyncio.run(traded())
    print(json.dumps({"decisions": decisions, "fills": fills}))


def show(home: Path) -> None:
    """The page, with sessions that are given."""
    from tbot_extension_web.app import create_app
    from tbot_extension_web.server import Address, listening
    from tbot_extension_web.site import Site
    from tbot_extension_web.testing.given_sessions import GivenSessions

    class _OneEach(GivenSessions):
        # Each viewer has a session of their own, since the page limits the streams of one.
        def session(self, token: str, *, active: bool = True) -> Session | None:
            kind, _, number = token.partition("-")
            found = super().session(kind, active=active)
            return None if found is None else attrs.evolve(found, id=100 + int(number))

    address = Address(port=PORT)
    logins: Any = _OneEach()
    site = Site(home, SystemClock(), address.origin, logins)
    with listening(create_app(site), address, site.live.end) as serve:
        serve()


@attrs.define
class Viewer:
    """One who watches: each message with the time of its arrival."""

    token: str
    messages: list[tuple[float, str]] = attrs.field(factory=list)

    async def watch(self) -> None:
        """Read the stream until it is cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT, limit=1 << 24)
        writer.write(_REQUEST.format(port=PORT, token=self.token).encode())
        try:
            while block := await reader.readuntil(b"\n\n"):
                if b"data:" in block:
                    self.messages.append((time.time(), block.decode()))
        finally:
            writer.close()


async def watched(seconds: float) -> tuple[list[Viewer], tuple[float, float]]:
    """The viewers after so long, and the page's memory at start and end."""
    viewers = [Viewer(f"viewer-{number}") for number in range(VIEWERS)]
    tasks = [asyncio.create_task(one.watch()) for one in viewers]
    await asyncio.sleep(seconds / 5)
    first = memory()
    await asyncio.sleep(seconds * 4 / 5)
    last = memory()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    if blind := [one.token for one in viewers if not one.messages]:
        raise SystemExit(f"{', '.join(blind)} saw nothing.")
    return viewers, (first, last)


_page: list[int] = []


def memory() -> float:
    """The megabytes that the page's process has in memory."""
    text = Path(f"/proc/{_page[0]}/status").read_text(encoding="utf-8")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.contextmanager
def page(home: Path) -> Iterator[None]:
    """The page, from when it answers."""
    with subprocess.Popen([sys.executable, __file__, "--show", str(home)]) as process:  # noqa: S603  -- this file itself
        _page[:] = [process.pid]
        try:
            asyncio.run(_answers())
            yield
        finally:
            process.kill()


async def _answers() -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", PORT)
            writer.close()
            return
        await asyncio.sleep(0.1)
    raise SystemExit("The page does not answer.")


def measured(seconds: float, *, with_page: bool) -> Measured:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "bot"
        create_demo_instance(home)
        with page(home) if with_page else contextlib.nullcontext():
            command = [sys.executable, __file__, "--trade", str(home), str(seconds)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as bot:  # noqa: S603  -- this file itself
                viewers, used = asyncio.run(watched(seconds)) if with_page else ([], ())
                text, _ = bot.communicate()
        found: Any = parse_json(text.splitlines()[-1])
        return Measured(found["decisions"], list(delays(found["fills"], viewers)), used)


def delays(fills: Sequence[tuple[str, float]], viewers: Sequence[Viewer]) -> Iterator[float]:
    """The seconds from a symbol's first fill to each viewer's first message that names it."""
    first = dict(reversed(fills))
    for viewer in viewers:
        for symbol, at in first.items():
            seen = next((when for when, text in viewer.messages if symbol in text), None)
            if seen is not None and seen > at:  # not one that was named before, as by a denial
                yield seen - at


def quantile(found: Sequence[float], part: float) -> float:
    """The value below which this part is."""
    return sorted(found)[min(len(found) - 1, int(len(found) * part))]


def main(seconds: float, pairs: int) -> None:
    """Measure, and print."""
    alone, beside = list[float](), list[float]()
    seen, used = list[float](), list[tuple[float, ...]]()
    for _ in range(pairs):
        alone += measured(seconds, with_page=False).decisions
        found = measured(seconds, with_page=True)
        beside += found.decisions
        seen += found.seen
        used.append(found.memory)
    print(f"{pairs} pairs of {seconds:g} s, {VIEWERS} viewers, {RATE:g} times real time")
    for name, part in (("median", 0.5), ("99 %", 0.99)):
        without, with_it = quantile(alone, part), quantile(beside, part)
        print(f"decision, {name}: {without:.2f} ms alone, {with_it:.2f} ms with viewers, ratio {with_it / without:.3f}")
    print(f"decision, mean: ratio {statistics.fmean(beside) / statistics.fmean(alone):.3f}")
    if seen:
        print(f"row to screen: median {quantile(seen, 0.5):.2f} s, 99 % {quantile(seen, 0.99):.2f} s of {len(seen)}")
    print("memory of the page, start and end in MB: " + "; ".join(f"{one[0]:.0f}, {one[1]:.0f}" for one in used))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--trade", home, seconds]:
            trade(Path(home), float(seconds))
        case ["--show", home]:
            show(Path(home))
        case given:
            main(*(float(given[0]) if given else 60.0, int(given[1]) if len(given) > 1 else 2))
