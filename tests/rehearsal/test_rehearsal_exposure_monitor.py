"""A check of the venues every few seconds finds what would close more than there is, and stops behind their plan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tbot_core.contracts import BrokerEventKind
from tbot_core.model.types import Leg, OrderState
from tbot_core.rehearsal.exposure_monitor import ExposureMonitor
from tbot_core.rehearsal.network import NetworkRequest
from tbot_core.rehearsal.venue_matching import VenueFact, VenueMatchingEngine
from tbot_core.rehearsal.world import World
from tbot_core.testing.trades import fill, order
from tbot_core.trading.orders import OrderRecord
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from tbot_core.rehearsal.bot import BotProcess

SHARE = 1_000_000
SYMBOL = "AAPL"


def bot(causes: tuple[StateCause, ...] = (), **held: object) -> BotProcess:
    """A life whose bot knows of nothing but what it holds, and of `causes`."""
    leaving = SimpleNamespace(exits_blocked=lambda _symbol: False)
    engine = SimpleNamespace(
        portfolio=SimpleNamespace(unassigned_units={}),
        book=SimpleNamespace(tickets={}),
        position_manager=SimpleNamespace(held=held, exits=leaving),
        exposure=SimpleNamespace(working={}, gross=lambda: 0, all_brokers=()),
    )
    post = SimpleNamespace(
        name="alpha",
        decision_engine=engine,
    )
    supervisor = SimpleNamespace(
        broker_session=post, reconciler=SimpleNamespace(external={}), trading_state=SimpleNamespace(causes=causes)
    )
    return cast("BotProcess", SimpleNamespace(session=SimpleNamespace(supervisors=[supervisor])))


def holding(**plan: object) -> object:
    """A position with such a plan, for which a stop is thought to rest."""
    stop, position = SimpleNamespace(cid="stop"), SimpleNamespace(symbol=SYMBOL)
    return SimpleNamespace(plan=SimpleNamespace(**plan), stop=stop, position=position, exit_reason=None)


def rest(matching: VenueMatchingEngine, leg: Leg, quantity: int) -> None:
    """An order of ours works at the venue."""
    matching.rest(matching.accept(order(leg, name=leg.value, symbol=SYMBOL, quantity=str(quantity), limit="9999")))


def hold(matching: VenueMatchingEngine, quantity: int) -> None:
    """An order of ours was filled."""
    done = fill(order(name="entry", symbol=SYMBOL, quantity=str(quantity)), "100")
    matching.books.write(
        VenueFact(at=matching.moment(0), kind="execution", ours=True, symbol=SYMBOL, units=quantity * SHARE, fill=done)
    )


@pytest.mark.parametrize(
    ("held", "closes", "causes", "words"),
    [
        (10, 10, (), ""),
        (10, 20, (), "more than the 10000000 units held could be closed for 60 s"),
        (0, 5, (), "more than the 0 units held could be closed for 60 s"),
        (10, 20, (StateCause.MISMATCH,), ""),
        (10, 20, (StateCause.STOP_COMMAND,), "more than the 10000000 units held could be closed for 60 s"),
    ],
)
def test_what_is_held_and_what_would_close_it_agree(
    held: int, closes: int, causes: tuple[StateCause, ...], words: str
) -> None:
    """More on its way out than is held is found when it lasts; not if a cause of the account explains it."""
    world = World(0, (), live=False, venues=1)
    matching = world.ways[0].exchange.matching
    patrol = ExposureMonitor(world)

    async def main() -> None:
        hold(matching, held or 10)
        if not held:
            hold(matching, -10)
        if closes:
            rest(matching, Leg.EXIT, closes)
        patrol.watch(bot(causes, **{SYMBOL: holding(is_ahead_of=lambda _level: False)}))
        patrol.begin()
        await world.clock.sleep(100)

    world.run(main)
    found = [*patrol.found.values()]
    assert len(found) == bool(words)
    assert all(words in one for one in found)


@pytest.mark.parametrize(
    ("legs", "words"),
    [
        ({Leg.STOP: 10, Leg.TARGET: 10}, ""),
        ({Leg.STOP: 10, Leg.EXIT: 5}, "more than the 10000000 units held could be closed for 60 s"),
        ({Leg.TARGET: 5, Leg.EXIT: 5}, ""),
        ({Leg.TARGET: 6, Leg.EXIT: 5}, "more than the 10000000 units held could be closed for 60 s"),
    ],
)
def test_all_that_would_close_counts_together(legs: dict[Leg, int], words: str) -> None:
    """A stop and a target end each other; an exit beside them comes on top."""
    world = World(0, (), live=False, venues=1)
    matching = world.ways[0].exchange.matching
    patrol = ExposureMonitor(world)

    async def main() -> None:
        hold(matching, 10)
        for leg, quantity in legs.items():
            rest(matching, leg, quantity)
        held: Any = {SYMBOL: holding(is_ahead_of=lambda _level: False)}
        patrol.watch(bot(**held))
        patrol.begin()
        await world.clock.sleep(100)

    world.run(main)
    assert [words in one for one in patrol.found.values()] == [True] * bool(words)


@pytest.mark.parametrize(
    ("state", "working", "gross", "words"),
    [
        (OrderState.UNKNOWN, True, 100, ""),
        (OrderState.CANCELLED, False, 0, ""),
        (OrderState.UNKNOWN, False, 100, "the entry entry is unknown, and is not reserved"),
        (OrderState.PARTIALLY_FILLED, False, 100, "the entry entry is partially filled, and is not reserved"),
        (OrderState.NEW, True, 99, "the gross exposure counts 99 of 100 atoms held and reserved"),
    ],
)
def test_an_entry_that_may_fill_stays_reserved(state: OrderState, working: bool, gross: int, words: str) -> None:
    """Until its end is proven, whatever is known of it; and limits count what is reserved."""
    world = World(0, (), live=False, venues=1)
    held: Any = {SYMBOL: holding(is_ahead_of=lambda _level: False)}
    patrol, life = ExposureMonitor(world), bot(**held)
    entry = order(name="entry", symbol=SYMBOL)
    session: Any = life.session
    engine = session.supervisors[0].broker_session
    record = OrderRecord(order=entry, state=state)
    ticket = SimpleNamespace(record=record, order=entry, state=state, must_look_up=False)
    engine.decision_engine.book.tickets["entry"] = ticket
    reserved = {"entry": SimpleNamespace(worst_atoms=100)} if working else {}
    portfolio = SimpleNamespace(positions={}, closed=[], surplus=[], pnl_atoms=0)
    book = SimpleNamespace(portfolio=portfolio, working=reserved)
    engine.decision_engine.exposure = SimpleNamespace(working=reserved, gross=lambda: gross, all_brokers=(book,))

    async def main() -> None:
        hold(world.ways[0].exchange.matching, 10)
        rest(world.ways[0].exchange.matching, Leg.STOP, 10)
        patrol.watch(life)
        patrol.begin()
        await world.clock.sleep(10)

    world.run(main)
    assert [words in one for one in patrol.found.values()] == [True] * bool(words)


@pytest.mark.parametrize(
    ("gross", "pnl", "words"),
    [(70, 5, ""), (69, 5, "the gross exposure counts 69 of 70"), (70, 4, "counts 4 atoms, its trades gained 5")],
)
def test_sums_are_those_of_what_is_held(gross: int, pnl: int, words: str) -> None:
    """Cost and profit of a session count what its positions, trades and surplus make of it, also after a correction."""
    world = World(0, (), live=False, venues=1)
    patrol, life = ExposureMonitor(world), bot()
    open_one, ended = SimpleNamespace(cost_atoms=10, pnl_atoms=1), SimpleNamespace(pnl_atoms=2)
    surplus = SimpleNamespace(units=-3, price=20, pnl_atoms=2)
    portfolio = SimpleNamespace(positions={SYMBOL: open_one}, closed=[ended], surplus=[surplus], pnl_atoms=pnl)
    session: Any = life.session
    session.supervisors[0].broker_session.decision_engine.exposure = SimpleNamespace(
        working={}, gross=lambda: gross, all_brokers=(SimpleNamespace(portfolio=portfolio, working={}),)
    )

    async def main() -> None:
        hold(world.ways[0].exchange.matching, 10)
        patrol.watch(life)
        patrol.begin()
        await world.clock.sleep(10)

    world.run(main)
    assert [words in one for one in patrol.found.values()] == [True] * bool(words)


def test_what_is_held_after_a_split_may_all_be_closed() -> None:
    """Ten shares became twenty, and a stop for twenty is not too much."""
    world = World(0, (), live=False, venues=1)
    matching = world.ways[0].exchange.matching
    patrol = ExposureMonitor(world)

    async def main() -> None:
        hold(matching, 10)
        matching.write("split", symbol=SYMBOL, units=matching.books.units[SYMBOL], words="2 for 1")
        rest(matching, Leg.EXIT, 20)
        patrol.watch(bot())
        patrol.begin()
        await world.clock.sleep(100)

    world.run(main)
    assert patrol.found == {}


@pytest.mark.parametrize("reached", [False, True])
def test_what_the_bot_asks_to_take_back_in_vain_is_known(*, reached: bool) -> None:
    """A cancel that got lost on its way is asked for anew; one that arrived has no such excuse."""
    world = World(0, (), live=False, venues=1)
    matching = world.ways[0].exchange.matching
    patrol = ExposureMonitor(world)

    async def main() -> None:
        hold(matching, 10)
        rest(matching, Leg.EXIT, 20)
        patrol.watch(bot())
        patrol.begin()
        for at in (0.0, 50.0):
            request = NetworkRequest(at=at, kind="cancel", client_order_id=Leg.EXIT.value, reached=reached)
            world.ways[0].requests.append(request)
            await world.clock.sleep(50)

    world.run(main)
    assert bool(patrol.found) is reached


@pytest.mark.parametrize(
    ("reached", "causes", "refused", "words"),
    [(True, (), False, 1), (False, (), False, 0), (True, (StateCause.MISMATCH,), False, 0), (True, (), True, 0)],
)
def test_a_stop_that_stays_behind_its_plan_is_found(
    *, reached: bool, causes: tuple[StateCause, ...], refused: bool, words: int
) -> None:
    """Three minutes are enough to move it, unless a request is lost or refused, or the bot reports a problem."""
    world = World(0, (), live=False, venues=1)
    matching = world.ways[0].exchange.matching
    patrol = ExposureMonitor(world)

    async def main() -> None:
        hold(matching, 10)
        matching.rest(matching.accept(order(Leg.STOP, name="stop", symbol=SYMBOL, quantity="10", stop="0.01")))
        patrol.watch(bot(causes, **{SYMBOL: holding(is_ahead_of=lambda level: level < SHARE)}))
        patrol.begin()
        for at in range(0, 250, 50):
            request = NetworkRequest(at=float(at), kind="replace", client_order_id="stop", reached=reached)
            world.ways[0].requests.append(request)
            if refused:
                matching.report(BrokerEventKind.CANCEL_REFUSED, "stop", words="it would trigger at once")
            await world.clock.sleep(50)

    world.run(main)
    assert len(patrol.found) == words
    assert all("a stop rested behind the level of its plan for 180 s" in one for one in patrol.found.values())
