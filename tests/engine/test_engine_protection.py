"""What protects each position: measured, written down, and emulated on fresh prices while no stop rests."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

from tbot_core.contracts import Bar, BrokerCapabilities, BrokerEvent, FeedQuality, Permit, Quote
from tbot_core.engine.live.protection import ProtectionMonitor
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.marketdata.feed_health import SILENT_S, FeedHealth
from tbot_core.model.clock import ManualClock
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Leg, Order, SignalId, atoms_of
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


ROUND_S: Final = 0.5
ABOVE: Final = (99.9, 100.1)
BELOW: Final = (97.8, 98.0)
WIDE: Final = (97.0, 98.0)
"""Quotes above the stop at 98.00 and below it, and one below it with a spread of over 1 %."""


def name(_signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{leg.value} {attempt}"


class Venue:
    """A broker that accepts every order, and reports what it is given."""

    capabilities = BrokerCapabilities()

    def __init__(self) -> None:
        self.posts: list[str] = []
        self.cancels: list[str] = []
        self.fills_first: Callable[[str], None] | None = None

    async def submit(self, order: Order, permit: Permit) -> None:
        """Accept an order."""
        permit.redeem()
        self.posts.append(order.client_order_id)

    async def cancel(self, client_order_id: str) -> None:
        """Accept a request; the order may fill first."""
        self.cancels.append(client_order_id)
        if self.fills_first is not None:
            self.fills_first(client_order_id)

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is reported here."""
        return ()


class Bench:
    """A position of 7 AAA whose stop at 98.00 was sent, and what watches its protection."""

    def __init__(self, journal: Journal, exits: ExitRules | None = None) -> None:
        self.journal, self.clock, self.venue = journal, ManualClock(session().open), Venue()
        broker: Any = self.venue
        self.desk = DecisionEngine(rules(venue=self.venue.capabilities), session(), atoms_of(Decimal(100_000)), name)
        account = BrokerAccount(broker=broker, name="fake", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), account, self.desk)
        self.health = FeedHealth(("AAA",), FeedQuality(coverage="consolidated", quotes=True), self.clock.monotonic())
        self.monitor = self.started()
        entry = self.desk.decide([proposal(exits=exits or ExitRules())])
        self.run(self.execution.execute(MinuteCommands(decisions=entry)))
        self.report("fill", "entry 1")
        self.run(self.execution.process_broker_events())

    def started(self, *, has_feed: bool = True) -> ProtectionMonitor:
        """A monitor that begins now."""
        broker_session = BrokerSession(name="fake", decision_engine=self.desk, execution=self.execution)
        return ProtectionMonitor(broker_session, self.clock, self.health if has_feed else None)

    @staticmethod
    def run(waits: Any) -> None:
        """Run to the end."""
        asyncio.run(waits)

    def report(self, kind: str, cid: str) -> None:
        """Report something of an order."""
        done = fill(self.execution.tickets[cid].order, "100", execution=cid) if kind == "fill" else None
        event = BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid, fill=done)
        self.execution.apply_events([event])

    def rounds(self, seconds: float, *quotes: tuple[float, float]) -> None:
        """Rounds of half a second, each with the next quote, the last one again and again, none where none is given."""
        for number in range(round(seconds / ROUND_S)):
            self.run(self.clock.sleep(ROUND_S))
            if quotes:
                bid, ask = quotes[min(number, len(quotes) - 1)]
                quote = Quote(symbol="AAA", bid=bid, ask=ask, time=self.clock.now())
                self.health.on_quote(quote, self.clock.monotonic())
            self.run(self.monitor.run_once())

    @property
    def written(self) -> list[tuple[str, float, float]]:
        """What the journal has of it: what protects, and the seconds bare and emulated by then."""
        found = [one.payload for one in self.journal.events(kind=records.PROTECTION)]
        return [(one["state"], float(one["bare_s"]), float(one["emulated_s"])) for one in found]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal on disk."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as opened:
        yield opened


def test_the_seconds_of_a_position_are_written_down(journal: Journal) -> None:
    """Bare before a price comes, emulated on prices, then with a stop that rests, until the position is closed."""
    bench = Bench(journal)
    bench.rounds(2.0)
    bench.rounds(3.0, ABOVE)
    bench.report("acknowledged", "stop 1")
    bench.rounds(60.0)
    bench.report("fill", "stop 1")
    bench.rounds(1.0)
    assert bench.written == [
        ("bare", 0.0, 0.0),
        ("emulated", 2.0, 0.0),
        ("resting", 2.0, 3.0),
        ("closed", 2.0, 3.0),
    ]
    first = next(journal.events(kind=records.PROTECTION)).payload
    assert (first["symbol"], first["since"]) == ("AAA", "2026-01-05T14:30:00.500000+00:00")


def bar(close: float) -> Bar:
    """The bar of a minute that has just closed."""
    return Bar(symbol="AAA", start=session().open, open=close, high=close, low=close, close=close, volume=1.0)


@pytest.mark.parametrize(
    ("case", "quotes", "protection"),
    [
        ("its stop is unknown", [ABOVE], "emulated"),
        ("its stop is unknown", [], "bare"),
        ("its stop is unknown", [WIDE], "bare"),
        ("a bar has closed", [WIDE], "emulated"),
        ("its quote is old", [ABOVE], "bare"),
        ("there is no feed", [ABOVE], "bare"),
        ("its stop rests", [], "resting"),
        ("its stop rests for a part", [ABOVE], "emulated"),
        ("more of its entry was filled than is booked", [ABOVE], "bare"),
        ("somebody else cancelled its stop", [ABOVE], "bare"),
        ("readings contradict it", [ABOVE], "bare"),
    ],
)
def test_a_position_is_protected_by_an_order_or_by_fresh_prices(
    journal: Journal, case: str, quotes: Sequence[tuple[float, float]], protection: str
) -> None:
    """By neither where prices are wide or old, or where nothing may be sent for it."""
    bench = Bench(journal)
    match case:
        case "a bar has closed":
            bench.health.on_bar(bar(99.0), bench.clock.monotonic(), 0)
        case "there is no feed":
            bench.monitor = bench.started(has_feed=False)
        case "its stop rests":
            bench.report("acknowledged", "stop 1")
        case "its stop rests for a part":
            bench.report("acknowledged", "stop 1")
            bench.desk.position_manager.book.held_in("AAA")[0].position.units *= 2
        case "more of its entry was filled than is booked":
            bench.report("acknowledged", "stop 1")
            other = fill(bench.execution.tickets["entry 1"].order, "101", execution="entry 1")
            again = BrokerEvent(kind="fill", event_id="again", client_order_id="entry 1", fill=other)
            bench.execution.apply_events([again])
        case "somebody else cancelled its stop":
            bench.report("acknowledged", "stop 1")
            bench.report("cancelled", "stop 1")
        case "readings contradict it":
            bench.desk.exposure.holds.add("AAA", Hold.DISPUTED)
    bench.rounds(ROUND_S, *quotes)
    if case == "its quote is old":
        bench.rounds(SILENT_S + 1)
    assert bench.written[-1][0] == protection


@pytest.mark.parametrize(
    ("quotes", "closed"),
    [
        ([BELOW], True),
        ([ABOVE, BELOW], True),
        ([ABOVE], False),
        ([WIDE], False),
        ([BELOW, BELOW, BELOW, ABOVE, BELOW, BELOW, BELOW, ABOVE], False),  # never for two seconds
    ],
)
def test_an_emulated_stop_closes_its_position_when_prices_have_stayed_beyond_it(
    journal: Journal, quotes: Sequence[tuple[float, float]], closed: bool
) -> None:
    """Two readings two seconds apart: the stop whose outcome is unknown is cancelled, and only then the exit goes."""
    bench = Bench(journal)
    bench.rounds(3.5, *quotes)
    assert (bench.venue.cancels[:1], bench.venue.posts[2:]) == (["stop 1"] if closed else [], [])
    if closed:
        bench.report("cancelled", "stop 1")
        bench.run(bench.execution.process_broker_events())
        assert bench.venue.posts[2:] == ["exit 1"]


def test_a_position_may_close_while_its_emulated_stop_fires(journal: Journal) -> None:
    """Its stop fills after all before it is cancelled: nothing is left to close, and the monitor goes on."""
    bench = Bench(journal)
    bench.venue.fills_first = partial(bench.report, "fill")
    bench.rounds(5.0, BELOW)
    assert ({**bench.desk.position_manager.held}, bench.venue.posts[2:]) == ({}, [])
    assert bench.written[-1][0] == records.CLOSED


@pytest.mark.parametrize("why", ["a stop rests", "its strategy closes it on bars", "it is being closed"])
def test_only_a_stop_that_should_rest_and_does_not_is_emulated(journal: Journal, why: str) -> None:
    """What another order or rule closes is not closed twice."""
    bench = Bench(journal, ExitRules(trigger="close") if "bars" in why else None)
    if why == "a stop rests":
        bench.report("acknowledged", "stop 1")
    elif why == "it is being closed":
        bench.desk.position_manager.close_at_stop(bench.desk.position_manager.book.held_in("AAA")[0])
    bench.rounds(5.0, BELOW)
    assert (bench.venue.cancels, bench.venue.posts[2:]) == ([], [])


@pytest.mark.parametrize(
    ("last", "bare_s"), [({"broker": "another", "state": "bare"}, 3.0), ({"state": records.CLOSED}, 0.0)]
)
def test_a_restart_counts_on_from_the_seconds_before_it(journal: Journal, last: dict[str, str], bare_s: float) -> None:
    """Those of a position that was closed, or that is held at another broker, are not counted again."""
    bench = Bench(journal)
    bench.rounds(3.0)
    bench.rounds(2.0, ABOVE)
    seconds = {"symbol": "AAA", "bare_s": "99", "emulated_s": "99"}
    bench.execution.recorder.write(
        NewEvent(kind=records.PROTECTION, payload=seconds | last, time=bench.execution.recorder.clock.now())
    )
    bench.monitor = bench.started()
    bench.monitor.restore(journal.events())
    bench.rounds(ROUND_S, ABOVE)
    assert bench.written[-1] == ("emulated", bare_s, 0.0)


def test_a_position_whose_exit_the_venue_cancelled_is_bare(journal: Journal) -> None:
    """Its next exit goes once a reading shows that it is still held; no price closes it before."""
    bench = Bench(journal)
    bench.rounds(2.5, BELOW)
    for cid in ("stop 1", "exit 1"):
        bench.report("cancelled", cid)
        bench.run(bench.execution.process_broker_events())
    bench.rounds(5.0, BELOW)
    assert (bench.written[-1][0], bench.venue.posts[2:]) == ("bare", ["exit 1"])
    bench.desk.position_manager.on_reading(bench.desk.position_manager.reading_due, ())
    bench.run(bench.execution.process_broker_events())
    assert bench.venue.posts[2:] == ["exit 1", "exit 2"]
