"""What a refused connection kept back: a stop or an exit goes as soon as the way is open, and not at once again."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    OrderStatusReport,
    Permit,
    PositionReport,
)
from tbot_core.engine.live.broker_supervisor import BROKEN_S, RESEND_MOST_S, BrokerSupervisor
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.errors import Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Account, Leg, Order, SignalId, atoms_of
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, proposal, resting_ids, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.states import TradingState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


ACCOUNT = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(5000))
ROUND_S = 0.5


class Dead(Exception):
    """The process is no more."""


class Refusing:
    """A broker that takes orders without a word, but for those legs whose connection it refuses."""

    capabilities = BrokerCapabilities()

    def __init__(self, clock: ManualClock) -> None:
        self.refuses: set[Leg] = set()
        self.refused: list[float] = []
        self.taken: list[Order] = []
        self.cancelled: list[str] = []
        self.shown: AccountSnapshot | None = None
        self._clock = clock
        self._said: list[BrokerEvent] = []

    async def connect(self) -> Account:
        """Log in."""
        return ACCOUNT

    async def account(self) -> Account:
        """The money."""
        return ACCOUNT

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order, or refuse the connection before anything has left."""
        if order.leg in self.refuses:
            self.refused.append(self._clock.monotonic())
            raise Unavailable("connection refused")
        permit.redeem()
        self.taken.append(order)
        self.say("acknowledged", order)
        if order.leg is Leg.ENTRY:
            self._said.append(
                BrokerEvent(kind="fill", event_id="1", client_order_id=order.client_order_id, fill=fill(order, "100"))
            )

    async def cancel(self, client_order_id: str) -> None:
        """End an order."""
        self.cancelled.append(client_order_id)
        self.say("cancelled", next(one for one in self.taken if one.client_order_id == client_order_id))

    async def poll(self) -> Sequence[BrokerEvent]:
        """What it has said."""
        said, self._said = self._said, []
        return said

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Take a request."""

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The account, where anybody can read it."""
        if self.shown is None:
            raise Unavailable(f"no way, {since}")
        return self.shown

    async def close(self) -> None:
        """Log out."""

    def say(self, kind: str, order: Order) -> None:
        """Let it say a word on an order."""
        cid = order.client_order_id
        self._said.append(BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid))

    @property
    def legs(self) -> list[Leg]:
        """What it has taken."""
        return [one.leg for one in self.taken]


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


class Bench:
    """One broker of a session, and its keeper; the account was `read` before it could be read no more."""

    def __init__(self, journal: Journal, *, read: bool = True) -> None:
        self.clock = ManualClock(session().open)
        self.broker = Refusing(self.clock)
        self.desk = DecisionEngine(rules(venue=self.broker.capabilities), session(), atoms_of(Decimal(100_000)), name)
        venue = BrokerAccount(broker=self.broker, name="refusing", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), venue, self.desk)
        post = BrokerSession(name="refusing", decision_engine=self.desk, execution=self.execution)
        self.keeper = BrokerSupervisor(post, TradingState(), 20.0)
        self.desk.exposure.account_unread = not read

    def enter(self) -> None:
        """AAA is entered and filled."""
        decided = self.desk.decide([proposal(exits=ExitRules(leave=60))])
        asyncio.run(self.execution.execute(MinuteCommands(decisions=decided)))

    def rounds(self, seconds: float) -> None:
        """Some time passes, as a session spends it."""
        for _ in range(round(seconds / ROUND_S)):
            asyncio.run(self.clock.sleep(ROUND_S))
            asyncio.run(self.execution.process_broker_events())
            asyncio.run(self.keeper.run_once())

    def leave(self) -> None:
        """The time of the position is over."""
        actions = self.desk.position_manager.orders_after_minute(SessionDraft().bar(59, 100.0).bars(), 59)
        asyncio.run(self.execution.execute(MinuteCommands(actions=actions)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as found:
        yield found


@pytest.fixture
def bench(journal: Journal) -> Bench:
    """A broker that refuses nothing yet."""
    return Bench(journal)


def test_a_stop_that_could_not_be_sent_is_sent_as_soon_as_the_way_is_open(bench: Bench) -> None:
    """No minute has to pass."""
    bench.broker.refuses = {Leg.STOP}
    bench.enter()
    assert bench.broker.legs == [Leg.ENTRY]
    bench.broker.refuses.clear()
    bench.rounds(1.0)
    assert bench.broker.legs == [Leg.ENTRY, Leg.STOP]
    assert resting_ids(bench.desk.position_manager.book.held_in("AAA")[0]) == {Leg.STOP: "AAA stop 2"}
    bench.rounds(30.0)
    assert bench.broker.legs == [Leg.ENTRY, Leg.STOP]


def test_an_exit_that_could_not_be_sent_is_sent_as_soon_as_the_way_is_open(bench: Bench) -> None:
    """Its stop has been taken back already: the position is never longer than 2 s without cover."""
    bench.enter()
    bench.broker.refuses = {Leg.EXIT}
    bench.leave()
    assert len(bench.broker.refused) == 1
    bench.broker.refuses.clear()
    bench.rounds(1.0)
    assert bench.broker.legs == [Leg.ENTRY, Leg.STOP, Leg.EXIT]


def test_after_a_long_break_a_reading_shows_first_what_is_held(bench: Bench) -> None:
    """Somebody else may have closed the position meanwhile, and what is sent would open the opposite one."""
    bench.broker.refuses = {Leg.STOP}
    bench.enter()
    bench.rounds(2 * BROKEN_S)
    bench.broker.refuses.clear()
    bench.rounds(60.0)
    assert bench.broker.legs == [Leg.ENTRY]
    bench.desk.position_manager.on_reading(bench.clock.monotonic(), ())
    bench.rounds(1.0)
    assert bench.broker.legs == [Leg.ENTRY, Leg.STOP]


def test_a_broker_that_goes_on_refusing_is_spared(bench: Bench) -> None:
    """The pauses double to four seconds, and begin anew when something has left."""
    bench.broker.refuses = {Leg.STOP}
    bench.enter()
    bench.rounds(BROKEN_S - RESEND_MOST_S - 2)
    pauses = [later - sooner for sooner, later in zip(bench.broker.refused, bench.broker.refused[1:], strict=False)]
    assert pauses == [0.5, 0.5, 1.0, 2.0, RESEND_MOST_S]
    bench.broker.refuses = {Leg.EXIT}
    bench.rounds(RESEND_MOST_S + 1)
    bench.broker.refused.clear()
    bench.leave()
    bench.rounds(1.0)
    assert [later - sooner for sooner, later in zip(bench.broker.refused, bench.broker.refused[1:], strict=False)] == [
        0.5,
        0.5,
    ]


def test_a_stop_that_a_crash_left_written_down_and_not_sent_is_placed_by_the_restart(
    bench: Bench, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CP3 and CP15: the entry has filled, and the process dies between the two barriers of its stop."""
    dies_before(bench, Leg.STOP, monkeypatch)
    with pytest.raises(Dead):
        bench.enter()
    again = restarted(journal)
    again.rounds(1.0)
    assert again.broker.legs == [Leg.STOP]


def dies_before(bench: Bench, leg: Leg, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process will die between the two barriers of an order of that leg."""
    mark = bench.execution._mark

    def dies(orders: Sequence[Order]) -> list[Order]:
        if any(one.leg is leg for one in orders):
            raise Dead
        return mark(orders)

    monkeypatch.setattr(bench.execution, "_mark", dies)


def restarted(journal: Journal) -> Bench:
    """The process once more; the account was not read yet."""
    again = Bench(journal, read=False)
    recall = SessionRecovery(again.desk, again.execution, {"AAA": 0})
    for event in list(journal.events()):
        recall.apply(event)
    recall.resolve_open_orders()
    asyncio.run(again.keeper.reconcile())
    return again


@pytest.mark.parametrize("theirs", ["7", "0"])
def test_an_exit_that_a_crash_left_written_down_waits_until_the_account_was_read(
    bench: Bench, journal: Journal, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    """CP3: somebody may have closed the position: a stop rests, and no exit goes while a reading shows it as gone."""
    bench.enter()
    dies_before(bench, Leg.EXIT, monkeypatch)
    with pytest.raises(Dead):
        bench.leave()
    again = restarted(journal)
    again.rounds(1.0)
    again.leave()
    again.rounds(3.0)
    assert (again.broker.legs, again.broker.cancelled) == ([Leg.STOP], [])
    again.broker.shown = reading(*again.broker.taken, AAA=theirs)
    again.keeper.reconciler.read_soon()
    again.rounds(1.0)
    stop = again.broker.taken[0].client_order_id
    assert (again.broker.legs, again.broker.cancelled) == ([Leg.STOP], [])
    again.leave()
    again.rounds(1.0)
    legs, cancelled = ([Leg.STOP, Leg.EXIT], [stop]) if theirs == "7" else ([Leg.STOP], [])
    assert (again.broker.legs, again.broker.cancelled) == (legs, cancelled)


def reading(*orders: Order, **held: str) -> AccountSnapshot:
    """What the account shows: orders that work, and so many shares of each symbol."""
    reports = tuple(
        OrderStatusReport(
            client_order_id=one.client_order_id,
            broker_order_id="b1",
            kind="acknowledged",
            symbol=one.symbol,
            buy=one.buy,
            quantity=one.quantity,
            time=session().open,
        )
        for one in orders
    )
    holdings = tuple(
        PositionReport(symbol=name, quantity=Decimal(shares)) for name, shares in held.items() if shares != "0"
    )
    return AccountSnapshot(account=ACCOUNT, orders=reports, holdings=holdings, barrier="1")
