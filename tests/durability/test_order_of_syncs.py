"""The system calls of a process that sends an order: both barriers are on the disk before the first byte leaves."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import attrs
import pytest

if TYPE_CHECKING:
    from pathlib import Path

CHILD: Final = """
import asyncio, socket, sys
from decimal import Decimal
from pathlib import Path

from tbot_core.model.clock import ManualClock
from tbot_core.contracts import BrokerCapabilities
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal.store import open_journal
from tbot_core.model.types import atoms_of
from tbot_core.journal.store import JournalRecorder
from tbot_core.testing.trades import proposal, rules, session

class Wire:
    # A broker at the other end of a connection that stands before anything is decided.
    capabilities = BrokerCapabilities()

    def __init__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.ours = socket.create_connection(listener.getsockname())
        self.theirs, _ = listener.accept()

    async def submit(self, order, permit):
        permit.redeem()
        self.ours.sendall(f"ORDER {order.client_order_id}".encode())

    async def poll(self):
        return ()

wire, clock = Wire(), ManualClock(session().open)
journal = open_journal(Path(sys.argv[1]))
journal._connection.execute(f"PRAGMA synchronous = {sys.argv[2]}")
named = lambda signal, leg, _: f"{signal.symbol} {leg.value}"
desk = DecisionEngine(rules(), session(), atoms_of(Decimal(100_000)), named)
venue = BrokerAccount(broker=wire, name="wire", account_id="A1")
execution = ExecutionEngine(JournalRecorder(journal=journal, clock=clock), venue, desk)
asyncio.run(execution.execute(MinuteCommands(decisions=desk.decide([proposal("AAA"), proposal("BBB")]))))
print(wire.theirs.recv(100).decode())
"""
CALL: Final = re.compile(r"(\w+)\(\d+<([^>]*)>(.*)")
WORDS: Final = ("intendedAAA entry", "sendingAAA entry")
"""What T1 and T2 write of the first order, as it stands in a row: the kind, then the id."""


@attrs.frozen
class Seen:
    """What was on the disk when T2 was first written, and when the first byte of the first order left."""

    at_t2: frozenset[str]
    at_send: frozenset[str]


def watched(place: Path, synchronous: str) -> Seen:
    """Send orders in a process whose system calls are written down; skips where that is not allowed."""
    calls = place / "calls"
    strace = [shutil.which("strace") or "strace", "-f", "-y", "-s", "100000", "-o", str(calls)]
    strace += ["-e", "trace=pwrite64,write,sendto,sendmsg,fsync,fdatasync"]
    if not shutil.which("strace") or subprocess.run([*strace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace is not installed, or may not watch a process here")
    command = [*strace, sys.executable, "-W", "error", "-c", CHILD, str(place / "run.sqlite"), synchronous]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ORDER AAA entry")
    return _seen(calls.read_text())


def _seen(calls: str) -> Seen:
    written, durable = set[str](), set[str]()
    at_t2: frozenset[str] | None = None
    for name, file, rest in CALL.findall(calls):
        log = file.endswith("run.sqlite-wal")
        if name == "pwrite64" and log:
            found = {word for word in WORDS if word in rest}
            if WORDS[1] in found and at_t2 is None:
                at_t2 = frozenset(durable)
            written |= found
        elif name in {"fsync", "fdatasync"} and log:
            durable |= written
        elif "ORDER AAA" in rest and file.startswith(("TCP", "socket")):
            assert at_t2 is not None
            return Seen(at_t2, frozenset(durable))
    pytest.fail(f"no order left: {calls[-2000:]}")


@pytest.mark.slow
def test_cp3_cp5_both_barriers_are_synced_before_the_first_byte_of_an_order(tmp_path: Path) -> None:
    """The sync of the intent comes before T2 is written, the sync of T2 before the order's first byte."""
    assert watched(tmp_path, "FULL") == Seen(frozenset(WORDS[:1]), frozenset(WORDS))


@pytest.mark.slow
def test_f76_orders_that_leave_before_the_sync_are_seen(tmp_path: Path) -> None:
    """With synchronous=NORMAL nothing is on the disk when the order leaves: the test sees what it looks for."""
    assert watched(tmp_path, "NORMAL") == Seen(frozenset(), frozenset())
