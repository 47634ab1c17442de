"""kill -9 of `tbot run` in the machine's time, at the venue that `tbot rehearse --serve` serves in another process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import pytest

from tbot_core.actions.plugin_development import write_plugin
from tbot_core.actions.secrets import put_values
from tbot_core.contracts import BrokerEventKind
from tbot_core.errors import JournalError
from tbot_core.journal import records
from tbot_core.journal.store import read_journal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tbot_core.journal.store import Event

SETTINGS: Final = {
    "BROKER_NAME": "ALPACA",
    "STRATEGY_SEQUENCE": "early",
    "START_TIME_EARLY": "14:30",
    "EARLY_ANALYSIS_TIME": "1",
    "EARLY_BREAKOUT_TIME": "20",
    "EARLY_MONITORING_TIME": "60",
    "STRAT_EARLY_LENGTH": "1",
    "FILTERS": "none",
    "EXTENSIONS": "none",
    "TOTAL_ALLOCATION": "0.2",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}
TIMEOUT_S: Final = 240.0
LOOK_S: Final = 2.0
BARE_S: Final = 20.0
"""How long a position may be without an order that closes it while a process lives, its start on a busy machine
included; in virtual time it is five seconds.
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which the tutorial's strategy is installed under the name `early`."""
    made = write_plugin("strategy", "early", tmp_path / "site")
    described = made.folder / "tbot_strategy_early-0.1.0.dist-info"
    described.mkdir()
    needs = f"Name: {made.distribution}\nVersion: 0.1.0\nRequires-Dist: tbot-core>=1,<2\n"
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\n{needs}")
    (described / "entry_points.txt").write_text("[tbot.strategies]\nearly = tbot_strategy_early\n")
    return {**os.environ, "PYTHONPATH": str(made.folder)}


@pytest.fixture
def home(environment: dict[str, str], tmp_path: Path) -> Path:
    """An instance that trades early on paper."""
    home = tmp_path / "home"
    command = [sys.executable, "-m", "tbot_core", "init", "--paper", "--home", str(home)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    put_values(home, "broker", {"alpaca": {"api_key": "a-key", "api_secret": "a-secret", "mode": "paper"}})
    (home / ".env_bot.enc").unlink()
    (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in SETTINGS.items()))
    return home


class Account:
    """The venue's account as anybody with a key reads it, and for how long its positions had no closing order."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._over = threading.Event()
        self.lives = False
        self.longest: defaultdict[str, float] = defaultdict(float)
        self._bare: dict[str, float] = {}
        self._watch = threading.Thread(target=self._look)

    def read(self, path: str) -> Any:
        """A document of the venue."""
        headers = {"APCA-API-KEY-ID": "another-key", "APCA-API-SECRET-KEY": "another-secret"}
        with urllib.request.urlopen(urllib.request.Request(self._url + path, headers=headers), timeout=10) as answer:
            return json.load(answer)

    def bare(self) -> list[str]:
        """The positions without orders that close them whole."""
        held = self.read("/v2/positions")
        left = {one["symbol"]: abs(Decimal(one["qty"])) for one in held}
        sides = {one["symbol"]: one["side"] for one in held}
        for one in self.read("/v2/orders?status=open&limit=500"):
            if sides.get(one["symbol"]) == ("long" if one["side"] == "sell" else "short"):
                left[one["symbol"]] -= Decimal(one["qty"]) - Decimal(one["filled_qty"])
        return [symbol for symbol, quantity in left.items() if quantity > 0]

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            now, bare = time.monotonic(), self.bare() if self.lives else []
            self._bare = {symbol: self._bare.get(symbol, now) for symbol in bare}
            for symbol, since in self._bare.items():
                self.longest[symbol] = max(self.longest[symbol], now - since)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_fault: object) -> None:
        self._over.set()
        self._watch.join()


@contextmanager
def served(environment: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The venue in a process of its own: the target that it announces, and at its end what it has seen."""
    command = [sys.executable, "-m", "tbot_core", "rehearse", "--broker", "alpaca", "--serve", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        text = ""
        while "}" not in text:
            line = process.stdout.readline()
            assert line, "the venue was not opened"
            text += line
        seen: list[str] = []
        try:
            yield json.loads(text)["rehearsal"], seen
        finally:
            process.send_signal(signal.SIGINT)
            seen += process.communicate(timeout=30)[1].splitlines()


def events(home: Path) -> list[Event]:
    """The events of the rehearsal's journal, none before there is one."""
    for path in (home / "data" / "runs").glob("rehearsal-*.sqlite"):
        try:
            journal = read_journal(path)
        except JournalError:
            return []
        try:
            return list(journal.events())
        finally:
            journal.close()
    return []


def legs(known: Sequence[Event]) -> dict[str, str]:
    """The leg of each order."""
    return {one.cid or "": one.payload["leg"] for one in known if one.kind == records.INTENDED}


def is_posted(home: Path, account: Account) -> bool:
    """Whether the venue has an order; it is asked once an order is marked as being sent."""
    sending = any(one.kind == records.SENDING for one in events(home))
    return sending and bool(account.read("/v2/orders?status=all&limit=1"))


def is_reported(home: Path, kind: str, leg: str) -> bool:
    """Whether such an event of an order of this leg is on disk."""
    known = events(home)
    of = legs(known)
    return any(one.kind == kind and of.get(one.cid or "") == leg for one in known)


def is_settled(home: Path, account: Account) -> bool:
    """Whether the books have what the venue holds, and all of it is protected."""
    book: defaultdict[str, Decimal] = defaultdict(Decimal)
    known = events(home)
    for one in known:
        if one.kind == BrokerEventKind.FILL:
            sign = 1 if one.payload["buy"] else -1
            book[one.payload["symbol"]] += sign * Decimal(one.payload["quantity"])
    there = {one["symbol"]: Decimal(one["qty"]) for one in account.read("/v2/positions")}
    return {symbol: held for symbol, held in book.items() if held} == there and bool(there) and not account.bare()


def until(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something holds while a process lives."""
    ends = time.monotonic() + TIMEOUT_S
    while not what():
        assert time.monotonic() < ends, "it did not happen in time"
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.2)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("loopback")
def test_three_kills_of_the_real_process_double_nothing(home: Path, environment: dict[str, str]) -> None:
    """After the first entry's post, after a fill, and with a stop that rests: each time the next process goes on."""
    with served(environment) as (target, seen), Account(target.partition("?")[0]) as account:
        moments = [
            partial(is_posted, home, account),
            partial(is_reported, home, BrokerEventKind.FILL, "entry"),
            partial(is_reported, home, BrokerEventKind.ACKNOWLEDGED, "stop"),
            partial(is_settled, home, account),
        ]
        command = [sys.executable, "-m", "tbot_core", "run", "--rehearsal", target, "--home", str(home)]
        for moment in moments:
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as process:
                account.lives = True
                try:
                    until(moment, process)
                finally:
                    account.lives = False
                    process.kill()
            assert process.returncode == -signal.SIGKILL
            time.sleep(1.0)
        orders = account.read("/v2/orders?status=all&limit=500")
    ids = Counter(one["client_order_id"] for one in orders)
    assert set(ids.values()) == {1}
    assert seen
    assert not [line for line in seen if "must be unique" in line]
    assert {symbol: span for symbol, span in account.longest.items() if span > BARE_S} == {}
