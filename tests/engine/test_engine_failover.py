"""A run with several brokers, from its settings: who is logged in to, and what is said of who is not."""

from __future__ import annotations

import asyncio
import io
from copy import copy
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from rich.console import Console

from tbot_core.cli.live_view import LiveFrame, LiveView
from tbot_core.cli.run_options import RunOptions
from tbot_core.contracts import (
    AccountSnapshot,
    Broker,
    BrokerCapabilities,
    BrokerEvent,
    Feed,
    FeedLabel,
    FeedQuality,
    FeedRequest,
    FeedSession,
    LiveSession,
)
from tbot_core.contracts.settings import FailoverSettings
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.live.broker_check import probe_broker
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.engine.session.broker_login import log_in
from tbot_core.errors import Unavailable
from tbot_core.journal import codec, records
from tbot_core.journal.projections.failover import DrillStep, FailoverDrill
from tbot_core.journal.store import Event, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import TICKS_PER_DOLLAR, Account, dollars_of
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.world import LEAD_S, World
from tbot_core.system import filesystem
from tbot_core.testing.trades import session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.engine.session.session import TradingSession
    from tbot_core.model.calendar import Session

SETTINGS = "BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nCRITICAL_ALERT_CHANNEL=console\nROUTINE_ALERT_CHANNEL=console\n"
NAMES = {"paper": "alpha", "beta": "beta"}
EARLY = (
    "START_TIME_OPEN=14:30\nOPEN_ANALYSIS_TIME=3\nOPEN_BREAKOUT_TIME=16\nOPEN_MONITORING_TIME=5\nSTRAT_OPEN_BUFFER=0\n"
    "MAX_GAP_PCT_OPEN=0.5\nFILTERS=price_volume\nFILTER_MISSING_DATA=pass\n"
)
"""A window of sixteen minutes from the fourth on, for a short day."""


class Client:
    """A client of one of the world's venues, which may be deaf; the first one also serves the bars."""

    label = FeedLabel(name="world", simulated=True, quotes=False)

    def __init__(self, world: World, name: str, *, deaf: bool = False) -> None:
        self._client = world.client(name)
        self._world = world
        self._deaf = deaf
        self.capabilities = attrs.evolve(self._client.capabilities, feed=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def connect(self) -> Account:
        """Log in, unless the line is dead."""
        if self._deaf:
            raise Unavailable("the line is dead")
        return await self._client.connect()

    @property
    def quality(self) -> FeedQuality:
        """That of the world's feed."""
        return self._world.live_feed().quality

    def feed(self, _request: FeedRequest) -> Feed:
        """Itself: it has one session."""
        return cast("Feed", self)

    async def sessions(self) -> AsyncIterator[FeedSession | LiveSession]:
        """The world's session."""
        yield self._world.live_feed() if self._world.live else self._world.feed()


class Teller(Client):
    """A client that says what symbols trade at, times `off`; where there is none for a symbol, nothing of it."""

    def __init__(self, world: World, name: str, off: Callable[[str], float | None]) -> None:
        super().__init__(world, name)
        self._off = off
        self.capabilities = attrs.evolve(self.capabilities, prices=True)

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The middle of the market, more or less."""
        step = int((self._world.clock.monotonic() - LEAD_S) // STEP_S)
        paths = {symbol: self._world.market.paths[symbol] for symbol in symbols}
        middles = {symbol: (path.bid(step) + path.ask(step)) / 2 / TICKS_PER_DOLLAR for symbol, path in paths.items()}
        said = {symbol: self._off(symbol) for symbol in symbols}
        return {symbol: middles[symbol] * factor for symbol, factor in said.items() if factor is not None}


def traded(home: Path, *, drilled: bool = True, deaf: bool = False) -> list[Event]:
    """What the journal holds after a day whose primary is cut off for ten minutes."""
    world = World(5, (), rates={}, venues=2, minutes=30)
    world.ways[0].add_fault("F60", LEAD_S + 300.0, LEAD_S + 900.0)
    clients = {name: Client(world, venue, deaf=deaf and name == "beta") for name, venue in NAMES.items()}
    return lived(home, world, clients, SETTINGS, drilled=drilled)


def lived(
    home: Path,
    world: World,
    clients: Mapping[str, Client],
    settings: str,
    *,
    drilled: bool = True,
    watcher: RunWatcher | None = None,
) -> list[Event]:
    """What the journal holds after a day with these clients, on which somebody may look."""
    filesystem.write_atomic(home / ".env_bot", settings.encode())
    assembly = assemble(home, "paper", world.clock)
    paper = next(one for one in assembly.loaded if one.entry.kind == "broker")

    def loaded(name: str) -> Any:
        plugin = attrs.evolve(paper.plugin, create=lambda _config, _context: clients[name])
        return attrs.evolve(paper, entry=attrs.evolve(paper.entry, name=name), plugin=plugin)

    others = tuple(one for one in assembly.loaded if one.entry.kind != "broker")
    failover = FailoverSettings(failover_enabled=True, failover_brokers=("beta",))
    made = attrs.evolve(
        assembly,
        calendar=world.calendar,
        loaded=(*others, loaded("paper"), loaded("beta")),
        settings=attrs.evolve(assembly.settings, failover=failover),
    )
    filesystem.make_folder(home / "data")
    journal = open_journal(home / "data" / "tbot.sqlite")
    if drilled:
        held = FailoverDrill(
            brokers=("paper", "beta"), settings="x", time=world.start, steps=(DrillStep(what="all", passed=True),)
        )
        journal.append([NewEvent(kind=records.DRILL, payload=codec.write(held.event), time=world.start)])
    journal.close()
    plan = RunPlan(assembly=made, request=FeedRequest(kind="live"), wall=world.clock, once=True, watch_s=1.0)
    world.run(lambda: run(plan, watcher or RunWatcher()))
    journal = open_journal(home / "data" / "tbot.sqlite")
    try:
        return list(journal.events())
    finally:
        journal.close()


def phases(events: list[Event]) -> list[tuple[str, str]]:
    """How the day stood with its primary."""
    return [(one.payload["phase"], one.payload["why"]) for one in events if one.kind == records.FAILOVER]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_day_is_manned_with_every_broker_and_a_broken_primary_is_left(tmp_path: Path) -> None:
    """The session's opening names both accounts; with a drill passed entries may go to the other one."""
    events = traded(tmp_path)
    (opened,) = (one.payload for one in events if one.kind == records.SESSION_OPENED)
    accounts = {name: one["account"] for name, one in opened["accounts"].items()}
    assert accounts == {"paper": "SIM-ALPHA", "beta": "SIM-BETA"}
    assert phases(events) == [("entries go on", ""), ("over", "")]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_live_view_shows_what_is_held_at_every_broker(tmp_path: Path) -> None:
    """Each position with its broker's name; profit and exposure are those of all brokers together."""
    world = World(1, (), rates={}, venues=2, minutes=30, live=True)
    world.ways[0].add_fault("F60", LEAD_S + 120.0, LEAD_S + 1500.0)
    clients = {"paper": Teller(world, "alpha", lambda _: 1.0), "beta": Teller(world, "beta", lambda _: 1.0)}
    live = LiveView(RunOptions(mode="paper", home=tmp_path), world.clock, Console(file=io.StringIO()))
    inner, seen = live.watcher, list[LiveFrame]()

    def look(run: TradingSession) -> None:
        inner.on_round(run)
        held = [
            (post.name, symbol) for post in run.broker_sessions for symbol in post.decision_engine.portfolio.symbols
        ]
        if held and live.frame.moment == world.clock.now():
            seen.append(copy(live.frame))
            assert [(one.broker, one.symbol) for one in live.frame.holdings or ()] == held
            assert live.frame.pnl == sum(
                dollars_of(post.decision_engine.portfolio.pnl_atoms) for post in run.broker_sessions
            )
            assert live.frame.gross == sum(
                dollars_of(post.decision_engine.portfolio.cost_atoms) for post in run.broker_sessions
            )

    lived(tmp_path, world, clients, SETTINGS + EARLY, watcher=attrs.evolve(inner, on_round=look))
    assert {one.broker for frame in seen for one in frame.holdings or ()} == {"beta"}
    assert all(frame.gross for frame in seen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("off", "reason"),
    [(1.0, "ALLOWED"), (1.03, "FEEDS_APART"), (None, "DATA_STALE")],
    ids=["agrees", "differs", "silent"],
)
@pytest.mark.first(0)  # over 1.5 seconds
def test_f57_the_feed_is_held_against_the_prices_of_the_broker_that_entries_go_to(
    tmp_path: Path, off: float | None, reason: str
) -> None:
    """While the first one is broken, only what the next one prices as the feed does is entered there."""
    world = World(1, (), rates={}, venues=2, minutes=30, live=True)
    world.ways[0].add_fault("F60", LEAD_S + 120.0, LEAD_S + 1500.0)
    clients = {
        "paper": Teller(world, "alpha", lambda _symbol: 1.0),
        "beta": Teller(world, "beta", lambda symbol: off if symbol == "F" else 1.0),
    }
    events = lived(tmp_path, world, clients, SETTINGS + EARLY)
    decided = [one.payload for one in events if one.kind == records.DECISION]
    found = {one["signal"]["symbol"]: one["reason"] for one in decided}
    assert (found["F"], found["MSFT"]) == (reason, "ALLOWED")
    told = [one.payload for one in events if one.kind == records.FEEDS_APART]  # the world's prices may jump in between
    apart = [(one.get("broker"), one["symbol"]) for one in told if one["symbol"] == "F"]
    assert apart == ([("beta", "F")] if reason == "FEEDS_APART" else [])


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_without_a_drill_the_other_broker_only_reduces(tmp_path: Path) -> None:
    """The journal says why."""
    assert phases(traded(tmp_path, drilled=False))[0] == ("the others only reduce", "NO_DRILL")


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_broker_that_cannot_be_logged_in_to_is_said_and_left_out(tmp_path: Path) -> None:
    """The session goes on with its primary alone, as without failover."""
    events = traded(tmp_path, deaf=True)
    (absent,) = (one.payload for one in events if one.kind == records.STANDBY_ABSENT)
    assert absent == {"of": "beta", "words": "the line is dead"}
    (opened,) = (one.payload for one in events if one.kind == records.SESSION_OPENED)
    assert "accounts" not in opened
    assert phases(events) == []


class Hanging(Client):
    """A client that answers none of these calls."""

    def __init__(self, world: World, name: str, *calls: str) -> None:
        super().__init__(world, name)
        self._calls = calls

    async def _wait(self, name: str) -> None:
        if name in self._calls:
            await asyncio.sleep(10**9)

    async def connect(self) -> Account:
        """Log in."""
        await self._wait("connect")
        return await super().connect()

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """Read the account."""
        await self._wait("snapshot")
        return await self._client.snapshot(since)

    async def poll(self) -> Sequence[BrokerEvent]:
        """Report events."""
        await self._wait("poll")
        return await self._client.poll()


@pytest.mark.slow
@pytest.mark.parametrize("calls", [("snapshot", "poll"), ("connect",)], ids=" ".join)
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_standby_that_hangs_delays_nothing_at_the_primary(tmp_path: Path, calls: tuple[str, ...]) -> None:
    """Minutes, entries, exits and the close of the day are the primary's own, as on a day without a standby."""
    world = World(1, (), rates={}, venues=2, minutes=30, live=True)
    clients = {"paper": Client(world, "alpha"), "beta": Hanging(world, "beta", *calls)}
    events = lived(tmp_path, world, clients, SETTINGS + EARLY)
    alone = World(1, (), rates={}, venues=2, minutes=30, live=True)
    deaf = {"paper": Client(alone, "alpha"), "beta": Client(alone, "beta", deaf=True)}
    (tmp_path / "alone").mkdir()
    expected = lived(tmp_path / "alone", alone, deaf, SETTINGS + EARLY)
    assert trades(events) == trades(expected) != []
    assert [one.payload["trades"] for one in events if one.kind == records.SESSION_CLOSED] == [
        one.payload["trades"] for one in expected if one.kind == records.SESSION_CLOSED
    ]
    absent = [one.payload["words"] for one in events if one.kind == records.STANDBY_ABSENT]
    assert absent == (["the login was not answered within 30 s"] if calls == ("connect",) else [])


def trades(events: list[Event]) -> list[tuple[Any, ...]]:
    """What was sent at the primary, and in which minute."""
    sent = [one for one in events if one.kind == records.INTENDED and not one.payload.get("broker")]
    return [(one.payload["leg"], one.payload["signal"]["symbol"], f"{one.applied:%H:%M}") for one in sent]


@attrs.frozen
class Said:
    """An event."""

    payload: dict[str, Any]


class Door:
    """A broker that refuses the login, or accepts it."""

    capabilities = BrokerCapabilities(hours=True)

    def __init__(self, account: Account | None, hours: Session | None = None) -> None:
        self._account = account
        self._hours = hours
        self.closed = False

    async def connect(self) -> Account:
        """Log in."""
        if self._account is None:
            raise Unavailable("nobody is there")
        return self._account

    async def snapshot(self, _since: object) -> AccountSnapshot:
        """Everything at the account."""
        assert self._account is not None
        return AccountSnapshot(account=self._account)

    async def hours(self, _day: object) -> Session | None:
        """The session that was said."""
        return self._hours

    async def close(self) -> None:
        """Log out."""
        self.closed = True


RICH = Account(account_id="B-1", equity=Decimal(1000), cash=Decimal(1000), margin=True)


@pytest.mark.parametrize("known", [True, False])
def test_a_session_that_was_opened_goes_on_at_an_account_that_cannot_be_had(known: bool) -> None:
    """Who it is and what it held are those of the opening; what is not known from before cannot be made up."""
    opened = cast("Event", Said({"accounts": {"beta": {"account": "B-1", "equity": "500"}} if known else {}}))
    door = cast("Broker", Door(None))
    if not known:
        with pytest.raises(Unavailable):
            asyncio.run(log_in(door, "beta", opened))
        return
    found = asyncio.run(log_in(door, "beta", opened))
    assert (found.account.account_id, found.account.equity, found.login_fault) == (
        "B-1",
        Decimal(500),
        "nobody is there",
    )


def test_an_account_that_answers_again_keeps_the_equity_of_its_opening() -> None:
    """Limits of a session do not change with a restart."""
    opened = cast("Event", Said({"accounts": {"beta": {"account": "B-1", "equity": "500"}}}))
    found = asyncio.run(log_in(cast("Broker", Door(RICH)), "beta", opened))
    assert (found.account.equity, found.login_fault) == (Decimal(500), "")


@pytest.mark.parametrize(
    ("door", "passed", "words"),
    [
        (Door(RICH, session()), True, "account B-1, margin, equity 1,000.00, 0 held"),
        (Door(RICH, None), False, "it reports that it is closed on"),
        (Door(None), False, "nobody is there"),
    ],
)
def test_a_drill_asks_a_broker_for_its_account_and_its_hours(door: Door, passed: bool, words: str) -> None:
    """It is logged out of again, whatever it says."""
    clock = ManualClock(session().open)
    step = asyncio.run(probe_broker("beta", cast("Broker", door), session(), clock))
    assert (step.what, step.passed, door.closed) == ("beta answers", passed, True)
    assert words in step.words
