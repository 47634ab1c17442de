"""Live trading at the test venue: the first day and the second one, and the comparison at each day's end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from tbot_broker_alpaca import tbot_broker
from tbot_broker_alpaca.venue import open_venue
from tbot_broker_alpaca.venue.wire import Refusal

from tbot_core import cli
from tbot_core.engine import plugin_context
from tbot_core.instance import Instance
from tbot_core.journal import records
from tbot_core.journal.projections.approvals import next_sessions
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar, Session
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, host_addresses, open_day
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE, SimulatedMarket
from tbot_core.system import filesystem

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence

    from tbot_broker_alpaca.venue import AlpacaExchange

    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.plugins.loader import LoadedPlugin

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

MINUTES = 12
FIRST = "FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL"
SETTINGS = {
    "BROKER_NAME": "ALPACA",
    "STRATEGY_SEQUENCE": "open",
    "STRAT_OPEN_BUFFER": "0.002",
    "OPEN_ANALYSIS_TIME": "2",
    "OPEN_BREAKOUT_TIME": "4",
    "OPEN_MONITORING_TIME": "4",
    "FILTERS": "none",
    "ENABLE_SLIPPAGE_MODEL": "false",
    "TOTAL_ALLOCATION": "0.2",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}
ENDS = {"tbot status": 1, "tbot run --dry-run": 130}
"""The exit codes that commands of the page may have besides 0: something needs attention, and Ctrl-C."""

RISES = {"AAPL": 3, "F": 4, "KO": 5}
"""The minute in which each symbol breaks out of its range."""


def tbot(home: Path, *words: str, code: int = 0) -> None:
    """A command at the instance, which must end with that code."""
    assert cli.invoke([*words, "--home", str(home)]) == code, words


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance that may trade live: credentials of a live account, an identity, keys, approved plugins."""
    home, document = tmp_path / "bot", tmp_path / "in.json"
    credentials = {"api_key": "venue-key", "api_secret": "venue-secret", "mode": "live"}
    document.write_text(
        json.dumps(
            {
                "env": {"EXTENSIONS": "none"},
                "env_bot": SETTINGS,
                "bot_identity": {"BOT_IDENTITY_STRING": "US_LLC_ALPACA_A1"},
                "broker": {"alpaca": credentials},
            }
        )
    )
    assert cli.invoke(["init", "--from-json", str(document), "--home", str(home)]) == 0
    tbot(home, "plugins", "lock", "--yes")
    return home


def short(day: dt.date, minutes: int) -> tuple[ExchangeCalendar, Session]:
    """The calendar of a day that closes so many minutes after the open, and its session."""
    whole = ExchangeCalendar().session(day)
    assert whole is not None
    calendar = ExchangeCalendar(overrides={day: EarlyClose(close=exchange_time(whole.moment(minutes)).time())})
    session = calendar.session(day)
    assert session is not None
    return calendar, session


def traded(home: Path, day: dt.date, rises: Mapping[str, int], refusals: tuple[Any, ...] = ()) -> list[Event]:
    """The events of a live day at the venue; `refusals` are its answers to the last of the orders."""
    calendar, session = short(day, MINUTES if rises else 2)
    plugin = attrs.evolve(tbot_broker(), venue=partial(open_venue, live=True))
    market = SimulatedMarket.flat(20 * 100 * CENT, tuple(RISES), session.minutes)
    for symbol, minute in rises.items():
        market.paths[symbol].move(minute * STEPS_A_MINUTE, 2008 * CENT)
    with open_day(plugin, home, market, calendar, day) as (opened, run):
        live, venue = attrs.evolve(opened, mode="live"), opened.venue
        exchange: Any = venue
        exchange.venue.market.half_spread = Decimal("0.01")
        for symbol in exchange.feed_symbols:  # which do not trade
            exchange.venue.market.listings.pop(symbol, None)

        async def whole(_day: BrokerDay) -> RunOutcome:
            life = live.start()
            await live.until(max(rises.values(), default=0) + 0.9)
            exchange.venue.account.refusals.extend(refusals)
            cli.invoke(["status", "--home", str(home)])
            return await life

        outcome = run(whole)
    journal = read_journal(outcome.journal)
    try:
        return list(journal.events())
    finally:
        journal.close()


def of(events: list[Event], kind: str, day: dt.date) -> list[dict[str, Any]]:
    """The payloads of a kind of a session."""
    found = [one.payload for one in events if one.kind == kind]
    return [{**one} for one in found if str(day) in {one.get("date"), one.get("session"), *_signal(one)}]


def bound(decision: dict[str, Any]) -> tuple[str, str]:
    """What decided the size of an entry, and its quantity."""
    return decision["sizing"]["bound"], decision["sizing"]["quantity"]


def _signal(payload: Any) -> set[str]:
    return {payload["signal"]["session"]} if "signal" in payload else set()


@pytest.mark.first(0)  # over two seconds
def test_the_first_live_day_is_small_and_compared_with_its_shadow_run(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entries are reduced to 500 USD, which READY says, and an expected trade that was refused is named."""
    _, day = next_sessions(ExchangeCalendar(), SystemClock().now(), 2)  # the first one may be under way
    tbot(home, "arm", "--sessions", "2")
    events = traded(home, day, RISES, (Refusal(422, 42210000, "halted by the venue"),))
    (ready,), (drift,) = of(events, records.READY, day), of(events, records.DRIFT, day)
    assert ready["first_live_day_cap"] == "500.00"
    assert [bound(one) for one in of(events, records.DECISION, day)] == [(FIRST, "24")] * 3
    assert (drift["both"], drift["missing"], drift["extra"], drift["minutes"]) == (2, 1, 0, MINUTES)
    apple, _, refused = drift["trades"]
    assert (apple["expected"]["quantity"], apple["real"]["quantity"], apple["words"]) == ("24", "24", "")
    assert apple["entry_bps"] > 0  # the venue has a spread, the bars have none
    assert (refused["symbol"], refused["real"]) == ("KO", None)
    assert "the broker rejected the entry: " in refused["words"]
    assert "halted by the venue" in refused["words"]
    assert "first day   the account's first live day: entries of at most 500.00" in capsys.readouterr().out
    tbot(home, "drift", str(day))
    assert "[OPEN] long KO: expected 24 at 20.0800 to 20.0800 session end; real none" in capsys.readouterr().out
    tbot(home, "why", "AAPL")
    assert FIRST in capsys.readouterr().out


@contextmanager
def served() -> Iterator[AlpacaExchange]:
    """The venue of a live account, in real time beside the test."""
    opened: SimpleQueue[tuple[AlpacaExchange, asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    def serve() -> None:
        with asyncio.Runner() as runner, open_venue(runner, SystemClock(), live=True) as exchange:
            ended = asyncio.Event()
            opened.put((exchange, runner.get_loop(), ended))
            runner.run(ended.wait())

    thread = threading.Thread(target=serve)
    thread.start()
    exchange, loop, ended = opened.get(timeout=10)
    try:
        yield exchange
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


class Operator:
    """Runs the commands of a page at an instance, those after `tbot run` beside the running bot."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.codes: list[tuple[str, int]] = []

    def work(self, commands: Sequence[str]) -> None:
        """Run all of them in their order."""
        rest = list(commands)
        while rest:
            command = rest.pop(0)
            if command == "tbot run":
                stop = next((at for at, one in enumerate(rest) if one.startswith("tbot stop")), -1)
                beside, rest = rest[: stop + 1], rest[stop + 1 :]
                self._with_bot(command, beside)
            elif command.startswith("tbot run"):
                self._with_bot(command, [])
            else:
                self._run(command)

    def _with_bot(self, command: str, beside: Sequence[str]) -> None:
        # A bot in this thread, the others in another one; without a command that stops it, it is interrupted.
        instance = Instance.at(self._home)
        lock = instance.dry_run_lock if "--dry-run" in command else instance.lock

        def others() -> None:
            deadline = time.monotonic() + 60
            while filesystem.lock_holder(lock) is None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(1)  # its signals are taken by then
            for one in beside:
                self._run(one)
            if not beside:
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=others)
        thread.start()
        self._run(command)
        thread.join()

    def _run(self, command: str) -> None:
        words = shlex.split(command.replace("SYMBOL", "AAPL"))[1:]
        approves = ["--yes"] if words == ["plugins", "lock"] else []  # there is no terminal to ask
        self.codes.append((command, cli.invoke([*words, *approves, "--home", str(self._home)])))


@pytest.mark.full
def test_each_command_of_the_page_works_in_live_mode(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a first and a second live day, the second without the cap; each ends as it should."""
    _, first, second = next_sessions(ExchangeCalendar(), SystemClock().now(), 3)  # the first one may be under way
    tbot(home, "arm", "--sessions", "3")
    traded(home, first, RISES)
    assert "first_live_day_cap" not in of(traded(home, second, {}), records.READY, second)[0]
    page = (Path(__file__).parents[4] / "docs" / "going-live.md").read_text(encoding="utf-8")
    commands = [line.partition("#")[0].strip() for line in re.findall(r"^ {4}(tbot .*)$", page, re.MULTILINE)]
    editor = tmp_path / "editor.py"
    editor.write_text("")
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    with served() as exchange:
        exchange.venue.market.list_symbol("SPY", Decimal(500), 1_000_000)

        def at_venue(_settings: object, loaded: LoadedPlugin) -> dict[str, str]:
            # Live trading reaches the vendor itself: nothing but this test directs it elsewhere.
            return host_addresses(loaded.plugin, exchange) if loaded.entry.name == "alpaca" else {}

        monkeypatch.setattr(plugin_context, "_addresses", at_venue)
        operator = Operator(home)
        capsys.readouterr()
        operator.work(commands)
    said = capsys.readouterr()
    assert {command for command, _ in operator.codes} == {*commands}
    wrong = [(command, code) for command, code in operator.codes if code not in {0, ENDS.get(command, 0)}]
    assert wrong == [], said
    assert "live money (live host" in said.out
    assert "an entry is at most 500.00" in said.out
