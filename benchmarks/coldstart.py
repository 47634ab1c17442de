"""How long a bot takes from its start to ready, with 1,000 orders open at a broker whose answers take 50 ms.

The process before was killed: in the journal its orders rest, or are still on their way, so that what became of each
has to be found out. The venue is in another process. Prints the seconds of each part, in the machine's time; then what
a session's start reads of a journal of a year, beside a reading of all of it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import attrs

from tbot_core.contracts import BrokerEventKind
from tbot_core.journal import records
from tbot_core.journal.projections.carryover import events_for_session
from tbot_core.journal.store import Journal, NewEvent, open_journal
from tbot_core.rehearsal.bot import BotProcess
from tbot_core.rehearsal.burst import BurstScenario, LocalConnections, RemoteConnections, WorldClock
from tbot_core.rehearsal.remote_broker import VenueServer
from tbot_core.rehearsal.venue_matching import HELD, OPEN
from tbot_core.system import sockets

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.journal.codec import Payload

ENTRIES: Final = 500
ORDERS: Final = 2 * ENTRIES
LATENCY_S: Final = 0.05
GLANCE_S: Final = 0.005
PATIENCE_S: Final = 120.0
RESTS_S: Final = 60.0
TARGET_S: Final = 10
REST: Final = "rest"
START: Final = datetime(2026, 1, 2, 14, 30, tzinfo=UTC)
SESSIONS: Final = 250
EVENTS: Final = 400


async def _until(crowd: BurstScenario, life: BotProcess, over: Callable[[], bool]) -> None:
    # Live until that is so, and no longer.
    living = asyncio.ensure_future(life.live())
    while not living.done() and not over():
        await crowd.clock.sleep(0.05)
    living.cancel()
    await asyncio.gather(living, return_exceptions=True)


def serve(home: Path, path: Path, *, rest: bool) -> None:
    """Let a bot send its orders in virtual time, and serve the venue to the next one."""
    crowd = BurstScenario(ENTRIES, LATENCY_S if rest else 0.0)
    life = BotProcess(
        crowd, ("crowd",), home, attrs.evolve(crowd.bot, poll_s=1.0 if rest else PATIENCE_S), LocalConnections()
    )
    journal, taken = cast("Journal", life.journal), crowd.way.exchange.matching.orders

    def over() -> bool:
        heard = (
            sum(1 for _ in journal.events(kind=BrokerEventKind.ACKNOWLEDGED)) if rest and len(taken) == ORDERS else 0
        )
        return len(taken) == ORDERS and (not rest or heard == ORDERS)

    crowd.loop.run_until_complete(_until(crowd, life, over))
    life.close()
    crowd.way.latency_s = (LATENCY_S / 2, LATENCY_S / 2)
    crowd.loop.run_until_complete(asyncio.sleep(RESTS_S))
    crowd.way.exchange.advance(crowd.loop.time())
    resting = sum(one.kind in {OPEN, HELD} for one in taken)
    with sockets.listen(path, PATIENCE_S) as listener:
        sys.stdout.write(f"{crowd.loop.time()} {resting}\n")
        sys.stdout.flush()
        with closing(listener.accept()) as line:
            VenueServer(crowd.way, crowd.loop, crowd.venue_clock).serve(line)


async def _ready(life: BotProcess) -> float:
    # Live until the account has been read and agrees; the moment at which that was.
    living = asyncio.ensure_future(life.live())
    while not living.done() and (life.session is None or not life.session.reconciler.has_read_account):  # noqa: ASYNC110  -- it tells nobody
        await asyncio.sleep(GLANCE_S)
    at = time.perf_counter()
    living.cancel()
    for outcome in await asyncio.gather(living, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return at


def start(words: str) -> tuple[int, float, float]:
    """Orders open at the broker, seconds until the journal is open and read, and until the bot is ready."""
    with tempfile.TemporaryDirectory(prefix="tbot") as folder:
        path = Path(folder) / "venue"
        command = [sys.executable, __file__, "serve", folder, str(path), words]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as venue:  # noqa: S603  -- this file itself
            at, resting = cast("IO[bytes]", venue.stdout).readline().split()
            crowd = BurstScenario(ENTRIES, LATENCY_S)
            crowd.clock = WorldClock(crowd.start, float(at))
            begun = time.perf_counter()
            life = BotProcess(crowd, ("crowd",), Path(folder), crowd.bot, RemoteConnections(path))
            opened = time.perf_counter()
            ready = asyncio.run(_ready(life))
            life.close()
            venue.kill()
    return int(resting), opened - begun, ready - begun


def read_a_year() -> tuple[int, float, int, float]:
    """The events of a year, seconds to read them, and those that count for the next session, with theirs."""
    signal = {"session": "2026-01-02", "strategy": "open", "symbol": "AAPL", "minute": 3, "rule": "up"}
    finding = {"check": "price", "value": 10.0, "low": 5.0, "high": 500.0, "reason": "ALLOWED"}
    denied: Payload = {
        "signal": signal,
        "side": "long",
        "price": 10.0,
        "reason": "MAX_TRADES",
        "findings": [finding] * 5,
    }
    with (
        tempfile.TemporaryDirectory(prefix="tbot") as folder,
        closing(open_journal(Path(folder) / "tbot.sqlite")) as journal,
    ):
        for day in (START + timedelta(number) for number in range(SESSIONS)):
            said: list[tuple[str, Payload]] = [
                (records.SESSION_OPENED, {"date": day.date().isoformat(), "open": day.isoformat()})
            ]
            said += [(records.DECISION, denied)] * EVENTS
            said += [(records.SESSION_CLOSED, {"date": day.date().isoformat(), "account": "A"})]
            journal.append([NewEvent(kind=kind, payload=payload, time=day) for kind, payload in said])
        begun = time.perf_counter()
        events = sum(1 for _ in journal.events())
        read = time.perf_counter()
        counted = len(events_for_session(journal))
        return events, read - begun, counted, time.perf_counter() - read


def main() -> None:
    """Print the figures."""
    for words in (REST, "are on their way"):
        resting, opened, ready = start(words)
        sys.stdout.write(
            f"cold start with {resting} orders open that {words} in the journal: ready after {ready:.2f} s "
            f"(target {TARGET_S}), the journal open after {opened:.2f} s\n"
        )
    events, whole_s, counted, counted_s = read_a_year()
    sys.stdout.write(
        f"a year's journal of {events:,} events: the {counted} that count for the next session in {counted_s:.3f} s; "
        f"all in {whole_s:.2f} s, {whole_s / counted_s:.0f} times as long\n"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), Path(sys.argv[3]), rest=sys.argv[4] == REST)
    else:
        main()
