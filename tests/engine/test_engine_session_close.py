"""The end of a session at a market, and what goes over into the next: nothing that cannot be closed is forgotten."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.engine import control
from tbot_core.engine.live.daily_cycle import DailyCycle
from tbot_core.engine.live.session_inputs import DailyServices
from tbot_core.engine.live.session_tasks import SessionTasks
from tbot_core.engine.session.config import LiveConfig
from tbot_core.engine.session.feed_session import universe_of
from tbot_core.engine.session.session import SessionContext, TradingSession
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.journal import codec, records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.sessions import CarriedPosition
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Event, Journal, NewEvent, open_journal
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import Fill, Leg, SignalId
from tbot_core.rehearsal.bot import BotConfig, bot_config
from tbot_core.rehearsal.prices import STEP_S
from tbot_core.rehearsal.world import World
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.risk.holds import Hold

if TYPE_CHECKING:
    from tbot_core.contracts import Broker, FeedSession, LiveSession
    from tbot_core.model.calendar import Session
    from tbot_core.model.types import Account
    from tbot_core.trading.proposals import ActiveStrategy
    from tbot_core.trading.universe import Universe

SEED = 5
DAY = dt.timedelta(days=1)


@attrs.define(eq=False)
class Scene:
    """A world without faults, a journal, and the processes that trade in it."""

    home: Path
    journal: Journal
    world: World = attrs.field(factory=lambda: World(SEED, (), rates={}, live=False, minutes=25))
    watch: Callable[[TradingSession, int], None] = lambda _run, _minute: None
    blocked: dt.datetime | None = None
    _bot: BotConfig = attrs.field(init=False)
    _context: SessionContext = attrs.field(init=False)

    def live(self) -> DailyCycle:
        """A process that trades the day."""
        world, self._bot = self.world, bot_config(self.world)
        broker = cast("Broker", world.client(world.names[0]))
        self._context = SessionContext(
            rules=self._bot.rules(broker.capabilities),
            venue=BrokerAccount(broker=broker, name="w", account_id="a"),
            journal=self.journal,
            clock=world.clock,
            naming=ClientOrderIds(
                install_id="life", identity="", account_id="a", length=broker.capabilities.cid_length
            ),
            wait=world.clock.sleep_until,
            on_events=lambda _entries: None,
            on_minute=self.watch,
        )
        floor = LiveConfig(folder=self.home / "control", poll_s=1.0, ttl_s=20.0, watch_s=1.0)
        life = DailyCycle(
            self._context.recorder, broker, floor, self, DailyServices(calendar=world.calendar, once=True)
        )
        world.run(life.run)
        return life

    async def prepare(self, session: Session) -> None:
        """Nothing is prepared."""

    async def bars(self, _session: Session) -> FeedSession:
        """The world's bars."""
        return self.world.feed()

    async def universe(self, source: FeedSession | LiveSession, *_given: object) -> Universe:
        """All symbols of the source."""
        return universe_of(source)

    def entrants(self, _session: Session) -> tuple[ActiveStrategy, ...]:
        """Those of the world's bot."""
        return self._bot.entrants

    async def context(self, _account: Account, _opened: Event | None) -> SessionContext:
        """The bot's account, without another broker."""
        return self._context

    def arming_terms(self, _account: Account) -> None:
        """It is not armed."""

    def is_drilled(self, _past: Sequence[Event]) -> bool:
        """Whether another broker may take over; there is none."""
        return False

    async def compare(self, session: Session) -> None:
        """Nothing is compared."""

    def events(self, kind: str) -> list[Event]:
        """What the journal holds of a kind."""
        return list(self.journal.events(kind=kind))

    def halt_to_the_close(self, minute: int = 0) -> None:
        """No symbol trades from a minute on."""
        first = int(minute * 60 // STEP_S)
        for path in self.world.market.paths.values():
            path.halts.append((first, len(path.prices)))

    def units(self) -> dict[str, int]:
        """What the account holds."""
        return dict(self.world.way(self.world.names[0]).exchange.matching.books.units)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """The bell rings five minutes after the start."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Scene(tmp_path, journal)


def opened(scene: Scene) -> dict[str, Any]:
    """How the session of the day before was opened."""
    session = scene.world.session
    return {"date": str(session.date - DAY), "open": (session.open - DAY).isoformat(), "minutes": session.minutes,
            "close": (session.close - DAY).isoformat(), "symbols": 2, "equity": "100000"}  # fmt: skip


def sent_for(scene: Scene, signal: SignalId) -> list[Event]:
    """The intents of a signal."""
    return [one for one in scene.events(records.INTENDED) if records.signal_of(one.payload["signal"]) == signal]


def left_by_the_day_before(scene: Scene, quantity: str = "7", *, told: bool = True) -> SignalId:
    """A journal of the day before, in which a position was stuck; the account holds it."""
    world, symbol = scene.world, scene.world.market.symbols[0]
    session = world.session
    yesterday = SignalId(session=session.date - DAY, strategy="open", symbol=symbol, minute=3, rule="up")
    price = Decimal(world.market.paths[symbol].prices[0]) / 10_000
    fill = Fill(execution_id="carried", client_order_id="", symbol=symbol, buy=True, quantity=Decimal(quantity),
                price=round(price, 4), fees=Decimal(0), time=session.open - DAY)  # fmt: skip
    before = opened(scene) | {"carried": [codec.write(CarriedPosition(signal=yesterday, **fill_facts(fill)))]}
    stuck = codec.write(CarriedPosition(signal=yesterday, **fill_facts(fill))) | {
        "side": "long", "words": "it is halted", "attempts": {"exit": 2}
    }  # fmt: skip
    closed = {"date": str(session.date - DAY), "equity": "100000", "open": [symbol], "account": "a"}
    entries = [NewEvent(kind=records.SESSION_OPENED, payload=before, time=session.open - DAY)]
    entries += [NewEvent(kind=records.STUCK, payload=stuck, time=session.close - DAY)] if told else []
    scene.journal.append([*entries, NewEvent(kind=records.SESSION_CLOSED, payload=closed, time=session.close - DAY)])
    floor = world.way(world.names[0]).exchange.matching
    floor.books.units[symbol] = int(Decimal(quantity) * 1_000_000)
    return yesterday


@pytest.mark.slow
def test_what_is_halted_through_the_close_is_told_two_minutes_before_it_and_stuck_after_it(scene: Scene) -> None:
    """Its exits do not fill; the session's end names it with why, and the books go on holding it."""
    scene.watch = lambda run, minute: (
        scene.halt_to_the_close(minute + 1) if run.decision_engine.portfolio.positions else None
    )
    life = scene.live()
    assert life.session is not None
    held = life.session.run.decision_engine.portfolio.symbols
    assert held
    close = scene.world.session.close
    late = scene.events(records.CLOSING_LATE)
    assert sorted(one.payload["symbol"] for one in late) == held
    assert all(dt.timedelta(0) < close - one.applied <= dt.timedelta(minutes=2) for one in late)
    stuck = scene.events(records.STUCK)
    assert [one.payload["symbol"] for one in stuck] == held
    assert stuck[0].payload["words"] == "its exit does not fill"
    assert [one["symbol"] for one in fold_events(scene.journal.events()).stuck] == held
    assert scene.events(records.SESSION_CLOSED)[-1].payload["open"] == held


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("hold", ["kill", "freeze"])
def test_what_is_stuck_since_its_exit_was_held_back_says_by_what(scene: Scene, hold: str) -> None:
    """No exit leaves from the first fill on, and no stop is reached in this world."""
    scene.world = World(2, (), rates={}, live=False)

    def watch(run: TradingSession, _minute: int) -> None:
        for symbol in run.books.positions:
            if hold == "kill":
                control.prepare_folder(scene.home / "control")
                (scene.home / "control" / control.KILL).touch(mode=0o600)
            else:
                for frozen in (Hold.FROZEN, Hold.FROZEN_FOR_SESSION):
                    run.decision_engine.exposure.holds.add(symbol, frozen)

    scene.watch = watch
    life = scene.live()
    assert life.session is not None
    held = sorted(life.session.run.books.positions)
    assert held
    words = {"kill": "a kill suspends its exit", "freeze": "it is frozen"}[hold]
    assert {one.payload["symbol"]: one.payload["words"] for one in scene.events(records.STUCK)} == dict.fromkeys(
        held, words
    )


def test_what_is_held_is_closed_though_nobody_can_look_at_what_is_asked(scene: Scene) -> None:
    """A folder of requests that cannot be used leaves exits only: an exit whose stop has made way leaves."""
    scene.world = World(2, (), rates={}, live=False)

    def watch(run: TradingSession, _minute: int) -> None:
        if run.books.positions and not scene.blocked:
            scene.blocked = scene.world.clock.now()
            (scene.home / "control").symlink_to("control")  # that leads nowhere, where nobody has made the folder yet

    scene.watch = watch
    life = scene.live()
    assert life.session is not None
    assert life.session.run.books.positions == []
    since = scene.blocked
    assert since is not None
    legs = {one.cid: one.payload["leg"] for one in scene.events(records.INTENDED)}
    later = [legs[one.cid] for one in scene.events(records.SENDING) if one.applied > since]
    assert "exit" in later
    assert "entry" not in later


def test_exits_that_do_not_fill_are_sent_again_three_minutes_before_the_close(scene: Scene) -> None:
    """The first is proven cancelled before the second leaves: no two of a position ever work side by side."""
    scene.watch = lambda run, minute: (
        scene.halt_to_the_close(minute + 1) if run.decision_engine.portfolio.positions else None
    )
    scene.live()
    events, since = list(scene.journal.events()), scene.world.session.close - dt.timedelta(minutes=3)
    exits = {one.cid: one.payload["signal"]["symbol"] for one in events
             if one.kind == records.INTENDED and one.payload["leg"] == "exit"}  # fmt: skip
    working: dict[str, set[str | None]] = {}
    again = 0
    for event in events:
        if event.cid not in exits:
            continue
        of_symbol = working.setdefault(exits[event.cid], set())
        if event.kind == records.SENDING:
            assert not of_symbol
            again += event.applied >= since
            of_symbol.add(event.cid)
        elif event.kind in {"cancelled", "expired", "rejected", records.DROPPED}:
            of_symbol.discard(event.cid)
    assert again >= len(set(exits.values()))


@pytest.mark.slow
def test_what_was_stuck_is_adopted_and_closed_at_the_next_open(scene: Scene) -> None:
    """It counts as held from the start, READY names it, and its exit leaves half a minute after the bell."""
    signal = left_by_the_day_before(scene)
    scene.live()
    (ready,) = scene.events(records.READY)
    assert ready.payload["stuck"] == ready.payload["positions"] == [signal.symbol]
    carried = scene.events(records.SESSION_OPENED)[-1].payload["carried"]
    assert [one["signal"]["symbol"] for one in carried] == [signal.symbol]
    (exit_order,) = sent_for(scene, signal)
    assert [exit_order.payload[name] for name in ("leg", "quantity", "buy")] == ["exit", "7", False]
    assert (exit_order.applied - scene.world.session.open).total_seconds() == pytest.approx(30.0, abs=2.0)
    assert scene.events(records.FOREIGN_HOLDING) == scene.events(records.ADJUSTMENT) == []
    book = fold_events(scene.journal.events())
    assert book.stuck == []
    assert [trade.symbol for trade in book.trades if trade.strategy == "open"] == [signal.symbol]
    assert signal.symbol not in scene.units()


@pytest.mark.slow
def test_the_exit_of_what_was_stuck_bears_a_name_that_none_before_it_had(scene: Scene) -> None:
    """The signal is that of another session, whose exits have used up their names."""
    signal = left_by_the_day_before(scene)
    scene.live()
    (exit_order,) = sent_for(scene, signal)
    assert exit_order.cid is not None
    naming = ClientOrderIds(install_id="life", identity="", account_id="a", length=len(exit_order.cid))
    assert exit_order.cid == naming.client_order_id(signal, Leg.EXIT, 3)


def test_what_somebody_sold_overnight_is_not_sold_once_more(scene: Scene) -> None:
    """The first reading adjusts the position away; nothing is sent for it."""
    signal = left_by_the_day_before(scene)
    scene.world.way(scene.world.names[0]).exchange.matching.books.units.clear()
    scene.live()
    assert [one.payload["symbol"] for one in scene.events(records.ADJUSTMENT)] == [signal.symbol]
    assert sent_for(scene, signal) == []
    assert fold_events(scene.journal.events()).stuck == []


def test_what_an_account_holds_that_no_session_named_stuck_is_foreign(scene: Scene) -> None:
    """Only what the journal says is ours is taken over."""
    left_by_the_day_before(scene, told=False)
    scene.live()
    (foreign,) = scene.events(records.FOREIGN_HOLDING)
    assert foreign.payload["quantity"] == "7"


def test_a_session_that_nobody_ended_is_ended_before_the_next_begins(scene: Scene) -> None:
    """A crash of the day before: its entry has expired meanwhile, its session is closed under its own date."""
    session = scene.world.session
    scene.journal.append([NewEvent(kind=records.SESSION_OPENED, payload=opened(scene), time=session.open - DAY)])
    scene.live()
    ends = [one.payload["date"] for one in scene.events(records.SESSION_CLOSED)]
    assert ends == [str(session.date - DAY), str(session.date)]
    begins = [one.payload["date"] for one in scene.events(records.SESSION_OPENED)]
    assert begins == [str(session.date - DAY), str(session.date)]


def test_f39_nothing_is_sent_while_the_exchange_is_closed(scene: Scene) -> None:
    """Before the bell and after the close every order is refused before its first byte, exits too."""
    life = scene.live()
    assert life.session is not None
    orders = [record.order for record in life.session.run.execution.tickets.values()]
    assert orders
    assert {life.session.denial_reason(order) for order in orders} == {"the exchange is closed"}
    sent = [one.applied for one in scene.events(records.SENDING)]
    assert sent
    assert all(scene.world.session.open <= moment < scene.world.session.close for moment in sent)


def test_what_is_being_sent_when_all_is_over_may_finish() -> None:
    """Its answer is waited for, no longer than API_TIMEOUT; what only waits is ended at once."""
    done: list[str] = []

    async def send() -> None:
        await asyncio.sleep(0.05)
        done.append("sent")

    async def hang() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        await asyncio.sleep(0.01)

    async def go(timeout_s: float, act: Callable[[], object]) -> None:
        errands = SessionTasks(SystemClock(), timeout_s)
        side = [asyncio.ensure_future(errands.repeat_every(60.0, act))]  # type: ignore[arg-type]
        await errands.run_until_first_ends(asyncio.ensure_future(main()), side)

    asyncio.run(asyncio.wait_for(go(5.0, send), 2.0))
    assert done == ["sent"]
    asyncio.run(asyncio.wait_for(go(0.05, hang), 2.0))


def test_after_a_failure_nothing_is_waited_for() -> None:
    """Whatever failed is raised at once, though another request is on its way."""

    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise RuntimeError("the disk is gone")

    async def send() -> None:
        await asyncio.sleep(60)

    async def go() -> None:
        errands = SessionTasks(SystemClock(), 30.0)
        side = [asyncio.ensure_future(errands.repeat_every(1.0, send))]
        await errands.run_until_first_ends(asyncio.ensure_future(fail()), side)

    with pytest.raises(RuntimeError, match="disk"):
        asyncio.run(asyncio.wait_for(go(), 2.0))


def test_f63_the_brokers_maintenance_leaves_exits_only_for_its_time_and_is_told_once(scene: Scene) -> None:
    """Its silence is one cause that comes and goes, and no order of ours is sent twice for it."""
    opens = (scene.world.session.open - scene.world.start).total_seconds()
    scene.world.way(scene.world.names[0]).add_fault("F63", opens + 300.0, opens + 540.0, "F63")
    scene.live()
    told = [event for event in scene.events(records.STATE) if event.payload["cause"] == "UNKNOWN"]
    assert [event.payload["there"] for event in told] == [True, False, False]
    assert "maintenance" in told[0].payload["words"]
    assert {event.payload["cause"] for event in scene.events(records.STATE)} == {"UNRECONCILED", "UNKNOWN"}
    sent = [event.applied for event in scene.events(records.SENDING)]
    assert any(moment > told[-1].applied for moment in sent)
    assert scene.events(records.SESSION_CLOSED)
