"""Closing between two minutes, at several brokers: when it may begin, and what others find of a minute at work."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, cast

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.live.shutdown import PositionFlattener
from tbot_core.engine.session.broker_session import StandbyBroker
from tbot_core.engine.session.session import SessionContext, SessionServices, TradingSession, open_books
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.journal.store import open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import atoms_of
from tbot_core.rehearsal.prices import SimulatedMarket
from tbot_core.testing.sessions import day
from tbot_core.testing.trades import fill, proposal, rules, session
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.contracts import Broker, Permit
    from tbot_core.journal.store import Journal
    from tbot_core.model.types import Order
    from tbot_core.trading.commands import Decision
    from tbot_core.trading.proposals import Proposal

RICH = atoms_of(Decimal(100_000))
RULES = rules(venue=BrokerCapabilities())


class Quiet:
    """A broker that takes everything and says nothing."""

    capabilities = BrokerCapabilities()

    async def submit(self, _order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()

    async def cancel(self, client_order_id: str) -> None:
        """Take a request."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is streamed."""
        return ()


@attrs.define
class Stops:
    """What people request for the end of the session."""

    flattening: bool = False
    keeps_positions: bool = False


class Run(TradingSession):
    """A session at two brokers that enters something at each of them; `called` is told when that is decided."""

    called: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, context: SessionContext) -> None:
        self.requested = Stops()
        books = open_books(context, session(), ("AAA",), day(1), RICH)
        super().__init__(context, books, (), SessionServices(stops=self.requested))

    def decide(self, proposals: Sequence[Proposal]) -> list[Decision]:
        """Enter AAA at the first, and BBB at the second."""
        signals = zip(self.broker_sessions, map(proposal, ("AAA", "BBB")), strict=True)
        decided = [attrs.evolve(post.decision_engine.decide([one])[0], broker=post.name) for post, one in signals]
        self.called()
        return [*super().decide(proposals), *decided]


async def _wait(_moment: datetime) -> None:
    # Nobody waits for a minute.
    pass


def _venue(name: str) -> BrokerAccount:
    return BrokerAccount(broker=cast("Broker", Quiet()), name=name, account_id=name)


def _naming(name: str) -> ClientOrderIds:
    return ClientOrderIds(install_id="here", identity="", account_id=name, length=32)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as found:
        yield found


@pytest.fixture
def clock() -> ManualClock:
    """An hour after the bell."""
    return ManualClock(session().open + timedelta(hours=1))


@pytest.fixture
def run(journal: Journal, clock: ManualClock) -> Run:
    """A session at alpha and beta."""
    beta = StandbyBroker(rules=RULES, venue=_venue("beta"), naming=_naming("beta"), equity_atoms=RICH)
    context = SessionContext(
        rules=RULES,
        venue=_venue("alpha"),
        journal=journal,
        clock=clock,
        naming=_naming("alpha"),
        wait=_wait,
        on_events=lambda _entries: None,
        on_minute=lambda _run, _minute: None,
        standbys=(beta,),
    )
    return Run(context)


@pytest.mark.parametrize(
    ("after_s", "begins"), [(-1.0, False), (29.0, False), (31.0, True), (23_399.0, True), (23_401.0, False)]
)
def test_closing_begins_while_the_exchange_takes_orders(run: Run, after_s: float, begins: bool) -> None:
    """Before and behind that an exit would be dropped, and the stop that made way for it were gone."""
    now = ManualClock(session().open + timedelta(seconds=after_s))
    run.has_traded_minute = True
    run.requested.flattening = True
    assert PositionFlattener(run, run.broker_sessions[0], now).should_begin() is begins


def test_closing_waits_until_a_restart_has_caught_up(run: Run, clock: ManualClock) -> None:
    """On the bars of long ago a stop or a target would act that the price has left behind since."""
    closer = PositionFlattener(run, run.broker_sessions[0], clock)
    run.requested.flattening = True
    assert not closer.should_begin()
    asyncio.run(run.step(60))
    assert closer.should_begin()


def test_closing_waits_until_the_account_was_read(run: Run, clock: ManualClock) -> None:
    """What the journal holds may be gone by now; it begins with the first reading, and not with a minute after it."""
    closer = PositionFlattener(run, run.broker_sessions[0], clock)
    run.has_traded_minute, run.broker_sessions[0].decision_engine.exposure.account_unread = True, True
    run.requested.flattening = True
    assert not closer.should_begin()
    run.broker_sessions[0].decision_engine.exposure.account_unread = False
    assert closer.should_begin()


def test_between_two_minutes_nothing_is_begun_that_is_kept_or_old(run: Run) -> None:
    """A loss or the end of a halt closes nothing while a stop keeps all, nor before a restart has caught up."""
    post = run.broker_sessions[0]
    market = SimulatedMarket.flat(100_000, ("AAA",), 30)
    for index in range(30):
        run.tape.append(market.minute(index))
    (decision,) = post.decision_engine.decide([proposal(exits=ExitRules(trigger="close"))])
    assert decision.order is not None
    asyncio.run(post.execution.execute(MinuteCommands(decisions=[decision])))
    cid = decision.order.client_order_id
    filled = BrokerEvent(kind="fill", event_id="1", client_order_id=cid, fill=fill(decision.order, "100"))
    post.execution.apply_events([filled])
    post.decision_engine.position_manager.exits.flatten()
    assert run.orders_between_minutes(post) == ()
    run.has_traded_minute, run.requested.keeps_positions = True, True
    assert run.orders_between_minutes(post) == ()
    assert post.decision_engine.position_manager.exits.keeps_positions()
    run.requested.keeps_positions = False
    assert len(run.orders_between_minutes(post)) == 1


def test_no_cancel_is_written_before_its_order(run: Run, journal: Journal) -> None:
    """A kill in the turn in which a minute goes to two brokers finds its entries on disk: a restart can read that."""
    keeper = BrokerSupervisor(run.broker_sessions[1], TradingState(), 20.0)

    async def trade() -> None:
        bell = asyncio.Event()

        async def withdraw() -> None:
            await bell.wait()
            await keeper.cancel_entries()

        def kill() -> None:
            keeper.trading_state.raise_cause(StateCause.KILL_COMMAND)
            bell.set()

        run.called = kill
        withdrawing = asyncio.ensure_future(withdraw())
        await run.step(25)
        await withdrawing

    asyncio.run(trade())
    entry = next(iter(run.broker_sessions[1].execution.tickets))
    wanted = {records.INTENDED, records.CANCEL_REQUESTED}
    told = [one.kind for one in journal.events() if one.cid == entry and one.kind in wanted]
    assert told == [records.INTENDED, records.CANCEL_REQUESTED]
