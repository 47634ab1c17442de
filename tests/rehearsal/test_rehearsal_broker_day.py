"""The broker and the strategy of the tutorials, installed as they are written, trade days over real connections."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from contextlib import nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.engine.run_plan import RunOutcome
from tbot_core.errors import PluginError
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.rehearsal.broker_rehearsal import BrokerDay, addresses, open_day
from tbot_core.rehearsal.prices import CENT, STEPS_A_MINUTE, SimulatedMarket
from tbot_core.rehearsal.world import DAY, short_day
from tbot_core.testing.scripted_server import ServerFault, SocketFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

SETTINGS = {
    "BROKER_NAME": "ACME",
    "SLEEP_TIME": "3s",
    "STRATEGY_SEQUENCE": "streak",
    "START_TIME_STREAK": "14:35",
    "STREAK_ANALYSIS_TIME": "1",
    "STREAK_BREAKOUT_TIME": "8",
    "STREAK_MONITORING_TIME": "15",
    "FILTERS": "price_volume",
    "FILTER_MISSING_DATA": "pass",
    "MAX_GAP_PCT_STREAK": "0.5",
    "CRITICAL_ALERT_CHANNEL": "console",
    "ROUTINE_ALERT_CHANNEL": "console",
}
RISES_FROM, RISES_TO, FALLS_AT = 7, 12, 16
"""The minutes in which AAA rises by a cent each, and the one from which on it is far below every stop."""


def rising(minutes: int, *, falls: bool = False) -> SimulatedMarket:
    """AAA rises for some minutes, so that the strategy buys; it falls afterwards, or stays."""
    market = SimulatedMarket.flat(20 * 100 * CENT, ("AAA", "BBB"), minutes)
    path = market.paths["AAA"]
    for minute in range(RISES_FROM, RISES_TO):
        path.move(minute * STEPS_A_MINUTE, path.prices[-1] + CENT)
    if falls:
        path.move(FALLS_AT * STEPS_A_MINUTE, 15 * 100 * CENT)
    return market


@attrs.frozen(kw_only=True, eq=False)
class TradedDay:
    """What is left of a day: how it ended, the journal, and the client order ids that the server received."""

    outcome: RunOutcome
    events: list[Event]
    sent: Counter[str]
    held: Any

    def of(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def failures(self) -> set[tuple[str, str]]:
        """The plugins that failed, each with the call."""
        return {(one.payload["plugin"], one.payload["call"]) for one in self.of(records.PLUGIN_FAILED)}

    def assert_traded_once(self) -> None:
        """The day was ready, bought, sold again and holds nothing; nothing was sent twice."""
        assert self.of(records.READY)
        assert len(self.of(records.SESSION_CLOSED)) == 1
        [trade] = self.outcome.summary.trades
        assert (trade.symbol, trade.strategy) == ("AAA", "streak")
        assert self.outcome.open == self.outcome.stuck == ()
        assert self.held == []
        assert set(self.sent.values()) == {1}


@pytest.fixture
def trade(plugins: Any, tmp_path: Path) -> Callable[..., TradedDay]:
    """Trades a day by a script."""

    def traded(
        script: Callable[[BrokerDay], Awaitable[RunOutcome]],
        market: SimulatedMarket,
        minutes: int | None = None,
        **settings: str,
    ) -> TradedDay:
        home, plugin = tmp_path / "home", plugins.tbot_broker()
        home.mkdir()
        calendar, _ = short_day(minutes)
        with open_day(plugin, home, market, calendar, DAY) as (day, run):
            texts = SETTINGS | settings | addresses(plugin, day.venue)
            (home / ".env_bot").write_text("".join(f"{name}={text}\n" for name, text in texts.items()))
            outcome = run(script)
            sent = [one.document for one in day.venue.server.requests if one.method == "POST"]
            held = [one for one in day.venue.wait(day.venue.broker.snapshot(day.session.open)).holdings if one.quantity]
        journal = read_journal(outcome.journal)
        try:
            events = list(journal.events())
        finally:
            journal.close()
        ids = Counter(one["client_id"] for one in sent)
        return TradedDay(outcome=outcome, events=events, sent=ids, held=held)

    return traded


async def whole(day: BrokerDay) -> RunOutcome:
    """From before the bell to the close."""
    return await day.start()


@pytest.mark.full
def test_a_whole_day_takes_at_most_90_seconds(trade: Callable[..., TradedDay]) -> None:
    """390 minutes with every request over HTTP, bars over a WebSocket, in processor time."""
    began = time.process_time()
    day = trade(whole, rising(390))
    assert time.process_time() - began < 90
    day.assert_traded_once()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_day_is_ready_enters_protects_and_exits(trade: Callable[..., TradedDay]) -> None:
    """The stop is sent within seconds of the fill, and the position is closed at its time."""
    day = trade(whole, rising(45), 45)
    day.assert_traded_once()
    entry, stop, *_ = day.of(records.INTENDED)
    assert (entry.payload["leg"], stop.payload["leg"]) == ("entry", "stop")
    assert (stop.applied - entry.applied).total_seconds() < 10
    assert not day.failures


@pytest.mark.first(0)
def test_a_restart_in_mid_session_finds_the_fill_of_its_stop(trade: Callable[..., TradedDay]) -> None:
    """The market falls through the stop while no process runs; the next one books it, and sends nothing again."""

    async def script(day: BrokerDay) -> RunOutcome:
        life = day.start()
        await day.until(FALLS_AT - 1)
        assert not life.done()
        await day.crash(life)
        await day.until(FALLS_AT + 2)
        return await day.start()

    day = trade(script, rising(45, falls=True), 45)
    day.assert_traded_once()
    assert day.outcome.summary.trades[0].exit_price < Decimal(16)
    assert [one.payload["leg"] for one in day.of(records.INTENDED)] == ["entry", "stop"]


@pytest.mark.first(0)
def test_a_minute_of_server_errors_ends_no_run(trade: Callable[..., TradedDay]) -> None:
    """While the entry is sent: it is found or given up, and its outcome is known at the end."""

    async def script(day: BrokerDay) -> RunOutcome:
        life = day.start()
        await day.until(RISES_TO)
        day.venue.server.fail(ServerFault.SERVER_ERROR, times=None)
        await day.clock.sleep(60)
        assert not life.done()
        day.venue.server.recover()
        return await life

    day = trade(script, rising(45), 45)
    day.assert_traded_once()


@pytest.mark.first(0)
def test_a_mute_stream_ends_no_run(trade: Callable[..., TradedDay]) -> None:
    """No message for five minutes, then a half-open connection: minutes are missed, and the exit is in time."""

    async def script(day: BrokerDay) -> RunOutcome:
        life = day.start()
        server = day.venue.server
        await day.until(RISES_TO + 1)
        server.fail_sockets(SocketFault.MUTED, times=None)
        await day.clock.sleep(300)
        server.recover()
        await day.clock.sleep(60)
        server.fail_sockets(SocketFault.HALF_OPEN)
        return await life

    day = trade(script, rising(45), 45)
    day.assert_traded_once()
    assert len(day.of(records.FEED_GAP)) >= 1
    assert day.of(records.FEED_FILLED)
    assert not day.failures


CALLS = (
    "connect", "sessions", "messages", "history", "snapshot", "submit", "find", "poll", "replace", "cancel", "close",
)  # fmt: skip
"""Every call of the contract that the tutorial's broker and its feed have; `account` is called by `snapshot`."""

AFTER = frozenset({"submit", "close"})
"""Calls that fail after their work is done: an order has left, connections are closed."""


@attrs.define(eq=False)
class BrokenCalls:
    """Lets calls of the plugin raise a TypeError: `due` ones once, then they are in `raised`."""

    due: set[str] = attrs.field(factory=set)
    raised: set[str] = attrs.field(factory=set)

    def fail(self, name: str, *, now: bool = True) -> None:
        """Raise if it is due."""
        if now and name in self.due:
            self.due.remove(name)
            self.raised.add(name)
            raise TypeError(f"{name} does not work")

    def call(self, name: str, sound: Any) -> Any:
        """The function as one that may fail."""

        async def call(broker: Any, *given: Any) -> Any:
            self.fail(name, now=name not in AFTER)
            answer = await sound(broker, *given)
            self.fail(name)
            return answer

        return call

    def iterate(self, name: str, sound: Any) -> Any:
        """The generator as one that may fail."""

        async def iterate(feed: Any, *given: Any) -> Any:
            async for one in sound(feed, *given):
                self.fail(name)
                yield one

        return iterate


@pytest.fixture
def calls(plugins: Any, monkeypatch: pytest.MonkeyPatch) -> BrokenCalls:
    """The calls of the plugin's classes, which may fail."""
    made = BrokenCalls()
    for module, name in (("broker", "AcmeBroker"), ("feed", "AcmeFeed"), ("feed", "AcmeSession")):
        owner = getattr(importlib.import_module(f"{plugins.__name__}.{module}"), name)
        for call in CALLS:
            if hasattr(owner, call):
                wrap = made.iterate if call in {"sessions", "messages"} else made.call
                monkeypatch.setattr(owner, call, wrap(call, getattr(owner, call)))
    return made


@pytest.mark.first(0)  # failing calls are tested one by one in test_engine_failing_plugins
def test_a_type_error_in_each_call_ends_no_run(
    trade: Callable[..., TradedDay], calls: BrokenCalls, caplog: pytest.LogCaptureFixture
) -> None:
    """One after the other: the plugin and the call are named each time, and nothing is sent twice."""
    times = {"submit": 8, "find": 8, "replace": 8, "poll": 14, "cancel": 20, "snapshot": 32, "messages": 36}

    async def script(day: BrokerDay) -> RunOutcome:
        calls.due |= {"connect", "sessions", "history", "close"}
        life = day.start()
        for name, minute in sorted(times.items(), key=lambda one: one[1]):
            await day.until(minute)
            assert not life.done(), name
            calls.due.add(name)
        return await life

    day = trade(script, rising(45), 45, TRAILING_STOP="true")
    assert calls.raised == set(CALLS)
    day.assert_traded_once()
    logged = {
        (one.msg["plugin"], str(one.msg["phase"]))
        for one in caplog.records
        if isinstance(one.msg, dict) and one.msg.get("event") == "plugin.failed"
    }
    assert logged | day.failures >= {("broker/acme", name) for name in CALLS}


def failing_venue(*_place: object) -> Any:
    """A venue that cannot be opened."""
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("venue", "words"),
    [
        (None, "offers no venue"),
        (lambda *_place: nullcontext(object()), "cannot trade a whole day"),
        (failing_venue, "venue of the broker acme cannot be opened: SystemExit: 3"),
    ],
)
def test_a_plugin_without_a_market_of_its_own_is_refused(venue: Any, words: str, plugins: Any, tmp_path: Path) -> None:
    """It is named."""
    plugin = attrs.evolve(plugins.tbot_broker(), venue=venue)
    opened = open_day(plugin, tmp_path, rising(45), short_day(45)[0], DAY)
    with pytest.raises(PluginError, match=words), opened:
        pass
