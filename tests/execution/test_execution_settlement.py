"""Stops and exits whose outcome is unknown or that others end, and shares that an account no longer shows.

What was sent is settled at once, under its own id as far as the broker allows it. What others did waits for readings.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs
import pytest

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    OrderStatusReport,
    Permit,
    PositionReport,
    RejectionMeaning,
)
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, Unavailable
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.contradictions import CONTRADICTED_S, Contradictions
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.reconciler import Reconciler
from tbot_core.execution.trading_state import TradingStateController
from tbot_core.journal import records
from tbot_core.journal.ledger import ledger_of
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import Clock, ManualClock
from tbot_core.model.types import Account, Leg, Order, OrderState, RiskState, SignalId, atoms_of, quantity_of
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, proposal, resting_ids, rules, session
from tbot_core.trading.commands import SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.order_lookup import UNANSWERED_S
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


ACCOUNT: Final = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(5000))
UNIQUE: Final = BrokerCapabilities(
    query_by_cid=True, lists_closed=True, unique_client_order_id=True, exec_ids_unique=True
)
REPEATED: Final = attrs.evolve(UNIQUE, unique_client_order_id=False)
LAG_S: Final = UNIQUE.list_lag_s
ROUND_S: Final = 0.5
LOST: Final = OutcomeUnknown("503")
BUSY: Final = Rejected("429 too many requests", meaning=RejectionMeaning.RATE_LIMITED)
SHORT: Final = Rejected("insufficient qty available", meaning=RejectionMeaning.INSUFFICIENT_QUANTITY)
USED: Final = Rejected("client_order_id must be unique", meaning=RejectionMeaning.DUPLICATE_ID)


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{leg.value} {attempt}" + ("" if signal.symbol == "AAA" else f" {signal.symbol}")


class Venue:
    """A broker that fills entries, lets stops rest, and fails as it is told.

    `answers`: for each order in turn what it answers, and whether it books the order; without one it books and
    acknowledges. `hidden` are booked orders that no list and no look-up shows, `hung` after how many seconds a request
    is answered.
    """

    def __init__(self, capabilities: BrokerCapabilities) -> None:
        self.capabilities = capabilities
        self.answers: list[tuple[BrokerError | None, bool]] = []
        self.posts: list[str] = []
        self.cancels: list[str] = []
        self.orders: dict[str, OrderStatusReport] = {}
        self.hidden: set[str] = set()
        self.hung: dict[str, float] = {}
        self.held = Decimal(0)
        self.events: list[BrokerEvent] = []
        self.find_faults: list[Exception] = []
        self.failed_readings = 0
        self.theirs: tuple[OrderStatusReport, ...] = ()

    async def submit(self, order: Order, permit: Permit) -> None:
        """Accept an order, or answer as it is told."""
        permit.redeem()
        cid = order.client_order_id
        self.posts.append(cid)
        if cid in self.hung:
            await asyncio.sleep(self.hung[cid])
        if self.capabilities.unique_client_order_id and cid in self.orders:
            raise USED
        if order.leg is not Leg.ENTRY and order.quantity > self.held:
            raise SHORT
        fault, booked = self.answers.pop(0) if self.answers else (None, True)
        if booked:
            self._book(order, reports=fault is None)
        if fault is not None:
            raise fault

    def _book(self, order: Order, *, reports: bool) -> None:
        cid, fills = order.client_order_id, order.leg is not Leg.STOP
        self.orders[cid] = OrderStatusReport(
            client_order_id=cid,
            broker_order_id=f"b {cid}",
            kind="fill" if fills else "acknowledged",
            symbol=order.symbol,
            buy=order.buy,
            quantity=order.quantity,
            time=session().open,
            filled=order.quantity if fills else Decimal(0),
            average_price=Decimal(100),
            fills=(fill(order, "100", execution=cid),) if fills else (),
        )
        if fills:
            self.held += order.quantity if order.buy else -order.quantity
        if reports:
            self.report("fill" if fills else "acknowledged", order)

    def report(self, kind: str, order: Order) -> None:
        """Report something of an order by its stream."""
        cid = order.client_order_id
        done = fill(order, "100", execution=cid) if kind == "fill" else None
        self.events.append(BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid, fill=done))

    def end(self, order: Order) -> None:
        """End an order without a request of tbot."""
        self.orders[order.client_order_id] = attrs.evolve(self.orders[order.client_order_id], kind="cancelled")
        self.report("cancelled", order)

    def sell(self, shares: int, *, kind: str = "fill") -> None:
        """Show an order of somebody else to sell so many shares."""
        sold = Decimal(shares if kind == "fill" else 0)
        one = attrs.evolve(self.orders["entry 1"], client_order_id="", broker_order_id=f"b{shares}", buy=False)
        self.theirs = (attrs.evolve(one, kind=kind, quantity=Decimal(shares), filled=sold, fills=()),)
        self.held -= sold

    async def cancel(self, client_order_id: str) -> None:
        """Accept a request."""
        self.cancels.append(client_order_id)

    async def poll(self) -> Sequence[BrokerEvent]:
        """What has happened."""
        events, self.events = self.events, []
        return events

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """An order, unless it is hidden."""
        if self.find_faults:
            raise self.find_faults.pop()
        await asyncio.sleep(self.hung.get(f"find {client_order_id}", 0.0))
        return None if client_order_id in self.hidden else self.orders.get(client_order_id)

    async def snapshot(self, _since: datetime) -> AccountSnapshot:
        """What the account holds, and its orders."""
        if self.failed_readings:
            self.failed_readings -= 1
            raise Unavailable("no way")
        shown = tuple(one for cid, one in self.orders.items() if cid not in self.hidden)
        held = (PositionReport(symbol="AAA", quantity=self.held),) if self.held else ()
        return AccountSnapshot(account=ACCOUNT, holdings=held, orders=(*shown, *self.theirs), barrier="1")


class Bench:
    """A position of 7 AAA at a broker, and what settles its orders."""

    def __init__(self, journal: Journal, capabilities: BrokerCapabilities, clock: Clock | None = None) -> None:
        self.journal, self.venue, self.clock = journal, Venue(capabilities), clock or ManualClock(session().open)
        broker: Any = self.venue
        self.desk = DecisionEngine(rules(venue=capabilities), session(), atoms_of(Decimal(100_000)), name)
        account = BrokerAccount(broker=broker, name="fake", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), account, self.desk)
        self.state = TradingStateController(self.execution.recorder, self._impose, TradingState())
        self.reconciler = Reconciler(self.execution, self.desk, self.state)

    def _impose(self, state: RiskState) -> None:
        self.desk.exposure.imposed_state = state

    def enter(self, *answers: tuple[BrokerError | None, bool]) -> None:
        """Buy 7 AAA; the orders that follow are answered with these."""
        asyncio.run(self.reconciler.read())
        self.venue.answers = [(None, True), *answers]
        asyncio.run(self.execution.execute(MinuteCommands(decisions=self.desk.decide([proposal()]))))
        asyncio.run(self.execution.process_broker_events())
        asyncio.run(self.execution.process_broker_events())

    def leave(self) -> None:
        """Let the position reach the end of its time."""
        self.desk.position_manager.exits.flatten()
        actions = self.desk.position_manager.orders_after_minute(SessionDraft().bars(), 60)
        self.venue.end(self.execution.tickets["stop 1"].order)
        asyncio.run(self.execution.execute(MinuteCommands(actions=actions)))

    def rounds(self, seconds: float, step: float = ROUND_S) -> None:
        """Rounds of half a second, or of a longer step where nothing has to happen within seconds."""
        for _ in range(round(seconds / step)):
            asyncio.run(self.clock.sleep(step))
            asyncio.run(self.reconciler.run_once())
            asyncio.run(self.execution.process_broker_events())

    def restarted(self) -> DecisionEngine:
        """What a restart now makes of the journal."""
        desk = DecisionEngine(rules(venue=self.venue.capabilities), session(), atoms_of(Decimal(100_000)), name)
        recorder = JournalRecorder(journal=self.journal, clock=self.clock)
        recovery = SessionRecovery(desk, ExecutionEngine(recorder, self.execution.venue, desk), {"AAA": 0})
        for event in list(self.journal.events()):
            recovery.apply(event)
        return desk

    def state_of(self, cid: str) -> OrderState:
        """What is known of an order."""
        return self.execution.tickets[cid].state

    @property
    def posts(self) -> list[str]:
        """The orders that were sent after the entry, in turn."""
        return self.venue.posts[1:]

    @property
    def is_outcome_unknown(self) -> bool:
        """Whether only exits are allowed, since the outcome of a stop or exit is unknown."""
        return StateCause.OUTCOME_UNKNOWN in self.state.causes


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal on disk."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as opened:
        yield opened


@pytest.fixture
def bench(journal: Journal) -> Bench:
    """A bench at a broker that refuses an id that it has seen."""
    return Bench(journal, UNIQUE)


@pytest.mark.parametrize("fault", [LOST, BUSY], ids=["503", "429"])
@pytest.mark.parametrize(
    ("capabilities", "booked", "posts"),
    [(UNIQUE, True, 1), (UNIQUE, False, 2), (REPEATED, True, 1)],
    ids=["it was booked", "it was not booked", "it was booked where ids repeat"],
)
@pytest.mark.parametrize("leg", [Leg.STOP, Leg.EXIT])
def test_an_order_whose_answer_was_a_fault_is_settled_in_one_round(
    journal: Journal, leg: Leg, capabilities: BrokerCapabilities, booked: bool, posts: int, fault: BrokerError
) -> None:
    """It is found where it was booked, and sent again under its id where it was not; its position has just one."""
    bench, cid = Bench(journal, capabilities), f"{leg.value} 1"
    bench.enter(*([(None, True)] if leg is Leg.EXIT else []), (fault, booked))
    if leg is Leg.EXIT:
        bench.leave()
    assert bench.state_of(cid) is OrderState.UNKNOWN
    bench.rounds(2 * ROUND_S)
    assert bench.state_of(cid) is (OrderState.NEW if leg is Leg.STOP else OrderState.FILLED)
    assert bench.posts[-posts:] == [cid] * posts
    assert bench.posts.count(cid) == posts
    assert len([*journal.events(kind=records.SENT_AGAIN)]) == posts - 1


def test_only_exits_are_allowed_while_the_outcome_of_a_stop_is_unknown(bench: Bench) -> None:
    """At once, and until the account has been clean for a minute after it is settled; the words name the order."""
    bench.enter((LOST, True))
    bench.venue.find_faults = [Unavailable("no way")]
    bench.rounds(ROUND_S)
    assert bench.is_outcome_unknown
    assert bench.desk.exposure.imposed_state is RiskState.EXIT_ONLY
    assert [one.payload["words"] for one in bench.journal.events(kind=records.STATE)] == ["stop of AAA"]
    bench.rounds(59)
    assert bench.is_outcome_unknown
    bench.rounds(15)
    assert not bench.is_outcome_unknown


def test_an_order_without_an_answer_is_unknown_after_three_seconds(bench: Bench) -> None:
    """Whatever the time that a request may take."""
    bench.enter((None, False))
    bench.rounds(UNANSWERED_S - ROUND_S)
    assert (bench.state_of("stop 1"), bench.posts) == (OrderState.SENDING, ["stop 1"])
    bench.rounds(2 * ROUND_S)
    assert (bench.state_of("stop 1"), bench.posts) == (OrderState.NEW, ["stop 1"] * 2)


def test_a_stop_does_not_wait_for_the_answer_to_another_one(journal: Journal) -> None:
    """Both are sent at once, and after three seconds others go on; a late answer is booked all the same."""
    loop = VirtualLoop()
    bench = Bench(journal, UNIQUE, LoopClock(loop, session().open))
    bench.venue.hung = {"stop 1": 8.0}

    async def enter() -> tuple[list[str], float]:
        await bench.reconciler.read()
        decided, began = bench.desk.decide([proposal(), proposal("BBB")]), bench.clock.monotonic()
        entered = asyncio.ensure_future(bench.execution.execute(MinuteCommands(decisions=decided)))
        await bench.clock.sleep(UNANSWERED_S / 2)
        posts = bench.posts
        await entered
        waited = bench.clock.monotonic() - began
        await bench.execution.open_requests.finish(10.0)
        await bench.execution.process_broker_events()
        return posts, waited

    posts, waited = run_virtual(enter, loop)
    assert posts == ["entry 1 BBB", "stop 1", "stop 1 BBB"]
    assert waited == UNANSWERED_S
    assert bench.state_of("stop 1") is OrderState.NEW


def test_an_order_is_settled_by_one_request_at_a_time(journal: Journal) -> None:
    """While a look-up has no answer, no other round looks it up or sends it again."""
    loop = VirtualLoop()
    bench = Bench(journal, UNIQUE, LoopClock(loop, session().open))
    bench.venue.hung = {"find stop 1": 60.0}

    async def settle() -> list[str]:
        await bench.reconciler.read()
        bench.venue.answers = [(None, True), (LOST, False)]
        await bench.execution.execute(MinuteCommands(decisions=bench.desk.decide([proposal()])))
        await bench.execution.process_broker_events()
        rounds = []
        for _ in range(3):
            rounds.append(asyncio.ensure_future(bench.reconciler.settle_due()))
            await bench.clock.sleep(1.0)
        await asyncio.gather(*rounds)
        return bench.posts

    assert run_virtual(settle, loop) == ["stop 1"] * 2


def test_an_order_that_was_given_up_while_it_waited_is_not_sent(bench: Bench) -> None:
    """It was settled without it: another one may have taken its place."""
    bench.enter((None, False))
    [order] = [record.order for record in bench.execution.tickets.values() if record.order.leg is Leg.STOP]
    bench.execution.mark_unknown("no answer", order.client_order_id)
    asyncio.run(bench.execution.send(MinuteCommands(actions=(SubmitOrder(order=order),)), [order]))
    assert bench.posts == ["stop 1"]


@pytest.mark.parametrize("appears", [True, False])
def test_an_id_that_is_refused_as_used_says_that_its_order_was_booked(bench: Bench, *, appears: bool) -> None:
    """It is found when the look-up shows it; if none has within the lag of lists, another id takes its place."""
    bench.venue.hidden = {"stop 1"}
    bench.enter((LOST, True))
    bench.rounds(LAG_S - 1)
    assert bench.posts == ["stop 1"] * 2  # sent again once
    if appears:
        bench.venue.hidden = set()
    bench.rounds(4)
    assert bench.state_of("stop 1") is (OrderState.NEW if appears else OrderState.LOST)
    assert bench.posts[2:] == ([] if appears else ["stop 2"])


@pytest.mark.parametrize("unread_s", [0.0, LAG_S / 2, LAG_S + 3])
def test_where_ids_repeat_an_order_is_sent_anew_after_two_lists_without_it(journal: Journal, unread_s: float) -> None:
    """Both lists are of the time since, and apart by the lag of lists; a look-up that does not know it is none."""
    bench = Bench(journal, REPEATED)
    bench.enter((LOST, False))
    bench.venue.failed_readings = 1000
    bench.rounds(unread_s)
    bench.venue.failed_readings = 0
    bench.rounds(LAG_S - 1)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1"], OrderState.UNKNOWN)
    bench.rounds(15 - LAG_S)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1", "stop 2"], OrderState.LOST)


@pytest.mark.parametrize(("seconds", "posts"), [(CONTRADICTED_S, ["stop 1"]), (CONTRADICTED_S + 60, ["stop 2"])])
def test_a_stop_that_was_confirmed_and_is_nowhere_is_believed_for_minutes(
    bench: Bench, seconds: float, posts: list[str]
) -> None:
    """It may rest all the while: only when no source has known it for three minutes another takes its place."""
    bench.enter()
    assert bench.state_of("stop 1") is OrderState.NEW
    del bench.venue.orders["stop 1"]
    bench.rounds(seconds)
    assert bench.posts[-1:] == posts


def test_no_stop_is_sent_again_for_more_than_is_held(bench: Bench) -> None:
    """An execution of its entry was corrected meanwhile: the stop for the whole is cancelled, in case it was booked."""
    bench.enter((LOST, False))
    entry = bench.execution.tickets["entry 1"].order
    less = fill(entry, "100", "3", execution="entry 1")
    bench.venue.events = [BrokerEvent(kind="corrected", event_id="less", client_order_id="entry 1", fill=less)]
    asyncio.run(bench.execution.process_broker_events())
    bench.rounds(3)
    assert (bench.posts, {*bench.venue.cancels}) == (["stop 1"], {"stop 1"})


def test_a_stop_that_is_refused_for_its_quantity_was_booked_before(bench: Bench) -> None:
    """The first one holds the shares, and the account is read before anything is cancelled: it protects."""
    bench.venue.hidden = {"stop 1"}
    bench.enter((LOST, False), (SHORT, True))
    bench.rounds(1.0)
    bench.venue.hidden = set()
    bench.rounds(30.0)
    assert (bench.posts, bench.venue.cancels, bench.state_of("stop 1")) == (["stop 1"] * 2, [], OrderState.NEW)


@pytest.mark.parametrize("capabilities", [UNIQUE, REPEATED], ids=["unique ids", "repeated ids"])
@pytest.mark.parametrize("hidden_s", [0.0, LAG_S - 1])
def test_an_answer_for_its_quantity_ends_no_stop_that_was_booked(
    journal: Journal, capabilities: BrokerCapabilities, hidden_s: float
) -> None:
    """It holds the shares itself: no other one is sent beside it while lists may be behind, and it is not cancelled."""
    bench = Bench(journal, capabilities)
    bench.venue.hidden = {"stop 1"}
    bench.enter((SHORT, True))
    assert bench.state_of("stop 1") is OrderState.UNKNOWN
    bench.rounds(hidden_s)
    bench.venue.hidden = set()
    bench.rounds(30.0)
    assert (bench.state_of("stop 1"), bench.venue.cancels, {*bench.posts}) == (OrderState.NEW, [], {"stop 1"})


def test_a_stop_that_is_refused_for_its_quantity_is_sent_again_when_the_account_was_read(bench: Bench) -> None:
    """Under its id, where the broker refuses one that it has seen: what held the shares may be gone."""
    bench.enter((SHORT, False))
    asyncio.run(bench.reconciler.settle_due())
    assert bench.posts == ["stop 1"]
    bench.rounds(2.0)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1"] * 2, OrderState.NEW)


@pytest.mark.parametrize(
    ("capabilities", "first"),
    [(UNIQUE, LOST), (UNIQUE, SHORT), (REPEATED, SHORT)],
    ids=["sent again", "refused, and sent again", "refused where ids repeat"],
)
def test_a_stop_that_is_refused_since_less_is_held_is_followed_by_one_for_what_is_held(
    journal: Journal, capabilities: BrokerCapabilities, first: BrokerError
) -> None:
    """A person has sold a part: the account says so, once lists would show the first one if it were booked."""
    bench = Bench(journal, capabilities)
    bench.enter((first, False))
    bench.venue.sell(4)
    bench.rounds(15.0)
    working = [one for one in bench.execution.tickets.values() if one.state is OrderState.NEW]
    assert [(one.order.leg, one.order.quantity) for one in working] == [(Leg.STOP, Decimal(3))]
    assert bench.venue.cancels == []


@pytest.mark.parametrize(
    "fault", [LOST, Unavailable("no way"), BUSY, TimeoutError()], ids=["503", "unreachable", "429", "no answer"]
)
def test_an_order_that_could_not_be_sent_again_is_sent_again_later(bench: Bench, fault: BrokerError) -> None:
    """At least every four seconds, until it is settled."""
    bench.enter((LOST, False), *[(fault, False)] * 3)
    bench.rounds(2.0)
    assert bench.posts == ["stop 1"] * 4
    bench.rounds(4.0)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1"] * 5, OrderState.NEW)


def test_an_order_that_is_refused_when_it_is_sent_again_has_ended(bench: Bench) -> None:
    """Its rejection counts as any other: another stop is tried once."""
    bench.enter((LOST, False), (Rejected("no"), False))
    bench.rounds(1.0)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1", "stop 1", "stop 2"], OrderState.REJECTED)


@pytest.mark.parametrize("fault", [TimeoutError(), Unavailable("no way")], ids=["no answer", "unreachable"])
def test_an_order_that_cannot_be_looked_up_is_sent_again(bench: Bench, fault: Exception) -> None:
    """Its id protects it from being booked twice."""
    bench.venue.find_faults = [fault]
    bench.enter((LOST, False))
    bench.rounds(1.0)
    assert (bench.posts, bench.state_of("stop 1")) == (["stop 1"] * 2, OrderState.NEW)


def test_an_entry_whose_answer_was_lost_is_never_sent_again(bench: Bench) -> None:
    """It is not hurried: it stays unknown for its long window, and allows no less than before."""
    bench.venue.answers = [(LOST, False)]
    asyncio.run(bench.execution.execute(MinuteCommands(decisions=bench.desk.decide([proposal()]))))
    bench.rounds(120)
    assert (bench.venue.posts, bench.state_of("entry 1")) == (["entry 1"], OrderState.UNKNOWN)
    assert not bench.is_outcome_unknown


def ended(bench: Bench, cid: str = "stop 1") -> None:
    """Somebody else cancels a stop, and it is reported."""
    bench.venue.end(bench.execution.tickets[cid].order)
    asyncio.run(bench.execution.process_broker_events())


def test_a_stop_that_somebody_else_cancelled_is_placed_again_when_a_reading_shows_the_holding(bench: Bench) -> None:
    """Not before the lists must know of the cancel, and at once then."""
    bench.enter()
    ended(bench)
    bench.rounds(LAG_S - ROUND_S)
    assert bench.posts == ["stop 1"]
    bench.rounds(2 * ROUND_S)
    assert (bench.posts, bench.state_of("stop 2")) == (["stop 1", "stop 2"], OrderState.NEW)


def test_a_stop_is_not_placed_again_beside_an_order_of_somebody_else(bench: Bench) -> None:
    """Who cancelled it to sell the shares is left alone until that order has ended."""
    bench.enter()
    bench.venue.sell(7, kind="acknowledged")
    ended(bench)
    bench.rounds(60)
    assert bench.posts == ["stop 1"]
    bench.venue.theirs = ()
    bench.rounds(31)
    assert bench.posts == ["stop 1", "stop 2"]


def test_nothing_is_sent_for_a_position_of_which_somebody_else_sold_before_a_reading(bench: Bench) -> None:
    """The stream tells of the sale; what is left is in the next reading, and closed then."""
    bench.enter()
    bench.rounds(30)
    bench.venue.sell(4)
    stop = bench.execution.tickets["stop 1"].order
    sale = attrs.evolve(fill(stop, "100", "4", execution="theirs"), client_order_id="")
    bench.venue.events = [BrokerEvent(kind="fill", event_id="theirs", client_order_id="", fill=sale)]
    asyncio.run(bench.execution.process_broker_events())
    manager = bench.desk.position_manager
    manager.exits.flatten()
    assert manager.orders_after_minute(SessionDraft().bars(), 60) == []
    bench.rounds(15)
    asyncio.run(bench.execution.execute(MinuteCommands(actions=manager.orders_after_minute(SessionDraft().bars(), 61))))
    ended(bench)
    assert bench.execution.tickets["exit 1"].order.quantity == Decimal(3)


@pytest.mark.parametrize("case", ["a part was sold", "a reading failed"])
def test_a_stop_that_is_placed_again_has_the_size_of_what_is_held(bench: Bench, case: str) -> None:
    """A reading that books a sale, or that fails, is followed by another within seconds: its position is bare."""
    bench.enter()
    if case == "a part was sold":
        bench.venue.sell(4)
    else:
        bench.rounds(30)  # since the first reading of the account was made without orders
        bench.venue.failed_readings = 1
    ended(bench)
    bench.rounds(15.0)
    assert bench.posts == ["stop 1", "stop 2"]
    assert bench.execution.tickets["stop 2"].order.quantity == (3 if case == "a part was sold" else 7)


def test_of_stops_that_somebody_else_cancels_each_but_the_first_counts_as_rejected(bench: Bench) -> None:
    """After two rejections the position is closed, as one that the broker does not let be protected."""
    bench.enter()
    for number in (1, 2, 3):
        ended(bench, f"stop {number}")
        bench.rounds(LAG_S + ROUND_S)
    assert bench.posts == ["stop 1", "stop 2", "stop 3", "exit 1"]


@pytest.mark.parametrize(
    ("refusal", "seconds", "posts"),
    [(Rejected("no"), 0, ["stop 2"]), (SHORT, LAG_S - ROUND_S, []), (SHORT, LAG_S + 3, ["stop 2"])],
    ids=["for another reason", "for its quantity, at first", "for its quantity"],
)
def test_an_exit_that_is_refused_puts_its_stop_back(
    journal: Journal, refusal: Rejected, seconds: float, posts: list[str]
) -> None:
    """At once; for its quantity only when the lists would show it, and a reading has shown what is held."""
    bench = Bench(journal, REPEATED)
    bench.enter((None, True), (refusal, False))
    bench.leave()
    asyncio.run(bench.execution.process_broker_events())
    bench.rounds(seconds)
    assert bench.posts[2:] == posts


def same_everywhere(bench: Bench) -> int:
    """The holding of AAA, as the books, the journal's book and ledger, and a restart know it alike."""
    live, again = bench.desk, bench.restarted()
    manager = again.position_manager
    assert again.portfolio.holdings == live.portfolio.holdings
    assert fold_events(bench.journal.events()).portfolio.holdings == live.portfolio.holdings
    found = {symbol: quantity_of(units) for symbol, units in live.portfolio.holdings.items()}
    assert ledger_of(bench.journal.events()).holdings == found
    plans = [
        {symbol: (resting_ids(one), one.plan) for symbol, one in each.held.items()}
        for each in (live.position_manager, manager)
    ]
    assert plans[0] == plans[1]
    return int(found.get("AAA", 0))


@pytest.mark.parametrize(
    "holdings",
    [
        (0, 7),
        (4, 7),
        (4, 5, 7),
        (0, 3, 7),
        (0, 3),
        (4, 7, 4, 7),
        (5, 0, 7),
        (5, 0, 6, 7),
    ],
    ids=str,
)
def test_shares_that_departed_without_an_explanation_are_taken_back(bench: Bench, holdings: tuple[int, ...]) -> None:
    """With plan and stop, as soon as they are shown again; books, ledger and a restart agree at each moment."""
    bench.enter()
    for held in holdings:
        bench.venue.held = Decimal(held)
        bench.rounds(CONTRADICTED_S + 60, LAG_S)
        assert (same_everywhere(bench), bench.reconciler.external) == (held, {})
        for cid, one in bench.execution.tickets.items():  # the venue ends what is cancelled
            if cid in bench.venue.cancels and not one.terminal:
                bench.venue.end(one.order)
        bench.rounds(2 * ROUND_S)
    working = [one for one in bench.execution.tickets.values() if one.state is OrderState.NEW]
    assert [(one.order.leg, one.order.quantity) for one in working] == [(Leg.STOP, Decimal(holdings[-1]))]


def test_a_missing_position_leaves_its_stop_where_it_is(bench: Bench) -> None:
    """Readings that show nothing are believed in the books in the end; what protects is not cancelled for them."""
    bench.enter()
    bench.venue.held = Decimal(0)
    bench.rounds(CONTRADICTED_S + 60, LAG_S)
    assert (bench.desk.portfolio.holdings, bench.venue.cancels) == ({}, [])
    disputed = [one.payload for one in bench.journal.events(kind=records.DISPUTED)]
    assert [(one["there"], one["ours"], one["theirs"]) for one in disputed] == [(True, "7", "0"), (False, None, None)]


def test_a_shares_stop_that_fills_after_they_departed_closes_their_position(bench: Bench) -> None:
    """They were there all the while: what it sold is taken back, and nothing is left."""
    bench.enter()
    bench.venue.held = Decimal(0)
    bench.rounds(CONTRADICTED_S + 60, LAG_S)
    bench.venue.report("fill", bench.execution.tickets["stop 1"].order)
    bench.venue.orders["stop 1"] = attrs.evolve(
        bench.venue.orders["stop 1"],
        kind="fill",
        filled=Decimal(7),
        fills=(fill(bench.execution.tickets["stop 1"].order, "100", execution="stop 1"),),
    )
    bench.rounds(60)
    assert (same_everywhere(bench), bench.reconciler.external, bench.posts) == (0, {}, ["stop 1"])


def test_while_readings_contradict_the_books_a_time_exit_waits_and_the_first_stop_of_a_fill_does_not(
    journal: Journal,
) -> None:
    """A holding that is not clear is not closed; one that the broker has just confirmed is protected."""
    bench = Bench(journal, UNIQUE)
    bench.enter()
    bench.venue.held = Decimal(4)
    bench.rounds(60)
    assert bench.desk.exposure.holds.symbols(Hold.DISPUTED) == {"AAA"}
    bench.desk.position_manager.exits.flatten()
    assert bench.desk.position_manager.orders_after_minute(SessionDraft().bars(), 60) == []
    held = bench.desk.position_manager.book.held_in("AAA")[0]
    assert held.stop is not None
    held.stop.works = False
    for had_stop, posts in ((True, 0), (False, 1)):
        held.had_stop = had_stop
        assert len(bench.desk.position_manager.orders_due_now()) == posts


@pytest.mark.parametrize("young", [False, True], ids=["at once", "when its orders may be in the lists"])
def test_a_contradiction_at_a_start_allows_exits_only(bench: Bench, *, young: bool) -> None:
    """The session goes on, and leaves the state when readings have agreed for a minute."""
    bench.enter()
    bench.venue.held = Decimal(4)
    bench.execution.contradictions = Contradictions(LAG_S)
    bench.reconciler = Reconciler(bench.execution, bench.desk, bench.state)
    asyncio.run(bench.clock.sleep(0 if young else 10))
    bench.rounds(60)
    assert StateCause.MISMATCH in bench.state.causes
    bench.venue.held = Decimal(7)
    bench.rounds(100)
    assert bench.state.causes == ()
