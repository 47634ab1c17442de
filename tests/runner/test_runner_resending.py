"""What a refused connection kept back: a stop or an exit goes as soon as the way is open, and not at once again."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tbot_core.clock import ManualClock
from tbot_core.contracts import BrokerEvent, Snapshot, VenueRules
from tbot_core.desk import Desk
from tbot_core.errors import Unavailable
from tbot_core.execution import Execution, Minutes, Venue
from tbot_core.journal.journal import open_journal
from tbot_core.model import Account, Leg, atoms_of
from tbot_core.recorder import Recorder
from tbot_core.runner.keeping import Keeper
from tbot_core.runner.posts import Post
from tbot_core.runner.recalling import Recall
from tbot_core.runner.resending import MOST_S
from tbot_core.signals import Exits
from tbot_core.states import States
from tbot_core.testing.sessions import Draft
from tbot_core.testing.trades import fill, proposal, rules, session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import Permit
    from tbot_core.journal.journal import Journal
    from tbot_core.model import Order, SignalId

ACCOUNT = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(5000))
ROUND_S = 0.5


class Dead(Exception):
    """The process is no more."""


class Refusing:
    """A broker that takes orders without a word, but for those legs whose connection it refuses."""

    rules = VenueRules()

    def __init__(self, clock: ManualClock) -> None:
        self.refuses: set[Leg] = set()
        self.refused: list[float] = []
        self.taken: list[Order] = []
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
        self.say("cancelled", next(one for one in self.taken if one.client_order_id == client_order_id))

    async def poll(self) -> Sequence[BrokerEvent]:
        """What it has said."""
        said, self._said = self._said, []
        return said

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Take a request."""

    async def snapshot(self, since: datetime) -> Snapshot:
        """Nobody can read the account."""
        raise Unavailable(f"no way, {since}")

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
    """One broker of a session, and its keeper."""

    def __init__(self, journal: Journal) -> None:
        self.clock = ManualClock(session().open)
        self.broker = Refusing(self.clock)
        self.desk = Desk(rules(venue=self.broker.rules), session(), atoms_of(Decimal(100_000)), name)
        venue = Venue(broker=self.broker, name="refusing", account_id="A1")
        self.execution = Execution(Recorder(journal=journal, clock=self.clock), venue, self.desk)
        post = Post(name="refusing", desk=self.desk, execution=self.execution)
        self.keeper = Keeper(post, States(), self.clock, session().open, 20.0)

    def enter(self) -> None:
        """AAA is entered and filled."""
        decided = self.desk.decide([proposal(exits=Exits(leave=60))])
        asyncio.run(self.execution.carry_out(Minutes(decisions=decided)))

    def rounds(self, seconds: float) -> None:
        """Some time passes, as a session spends it."""
        for _ in range(round(seconds / ROUND_S)):
            asyncio.run(self.clock.sleep(ROUND_S))
            asyncio.run(self.execution.settle())
            asyncio.run(self.keeper.tend())

    def leave(self) -> None:
        """The time of the position is over."""
        actions = self.desk.custody.manage(Draft().bar(59, 100.0).bars(), 59)
        asyncio.run(self.execution.carry_out(Minutes(actions=actions)))


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
    assert bench.desk.custody.held["AAA"].resting == {Leg.STOP: "AAA stop 2"}
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


def test_a_broker_that_goes_on_refusing_is_spared(bench: Bench) -> None:
    """The pauses double to ten seconds, and begin anew when something has left."""
    bench.broker.refuses = {Leg.STOP}
    bench.enter()
    bench.rounds(60.0)
    pauses = [later - sooner for sooner, later in zip(bench.broker.refused, bench.broker.refused[1:], strict=False)]
    assert pauses[:7] == [0.5, 0.5, 1.0, 2.0, 4.0, 8.0, MOST_S]
    assert set(pauses[7:]) == {MOST_S}
    bench.broker.refuses = {Leg.EXIT}
    bench.rounds(MOST_S)
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
    barrier, mark = 0, bench.execution._mark

    def dies(orders: Sequence[Order]) -> list[Order]:
        nonlocal barrier
        barrier += 1
        if any(one.leg is Leg.STOP for one in orders):
            raise Dead
        return mark(orders)

    monkeypatch.setattr(bench.execution, "_mark", dies)
    with pytest.raises(Dead):
        bench.enter()
    again = Bench(journal)
    recall = Recall(again.desk, again.execution, {"AAA": 0})
    for event in list(journal.events()):
        recall.take(event)
    recall.settle()
    again.rounds(1.0)
    assert again.broker.legs == [Leg.STOP]
