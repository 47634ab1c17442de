"""Carrying decisions out: two barriers before a send, every answer on disk before it counts."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, BrokerCapabilities, BrokerEvent, Permit
from tbot_core.errors import BrokerError, JournalError, OutcomeUnknown, Rejected, Unavailable, Withdrawn
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.send_permit import SendPermit, never_refuse
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import Account, ExitReason, Leg, Order, OrderState, RiskState, SignalId, atoms_of, dollars_of
from tbot_core.plugins.network.request_limits import CYCLE_S, RetryPolicy
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, order, proposal, rules, session
from tbot_core.trading.commands import CancelOrder, ReplaceOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.fill_costs import FillCosts
from tbot_core.trading.matching import MatchingEngine as Simulated
from tbot_core.trading.matching import last_close_ticks
from tbot_core.trading.orders import SUPPOSED_PREFIX
from tbot_core.trading.slippage import Slippage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from tbot_core.model.bars import Bars
    from tbot_core.trading.proposals import Proposal, TradingRules

FREE = FillCosts(slippage=Slippage(kind="none", mean=0.0, deviation=0.0, seed=0))
EQUITY = atoms_of(Decimal(100_000))


class FakeBroker:
    """A broker that writes down what it is asked, raises what it is told to, and says what it is given.

    With a `venue` it hands orders on and says what that says.
    """

    capabilities = BrokerCapabilities(replace="same_id")

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.faults: dict[str, BrokerError] = {}
        self.said: list[BrokerEvent] = []
        self.polls = self.silences = 0
        self.before: Callable[[], None] = lambda: None
        self.venue = Simulated(FREE, session(), ())
        self.minute = -1

    async def connect(self) -> Account:
        """Never called."""
        raise NotImplementedError

    async def account(self) -> Account:
        """An account with a buying power of 1,000 USD."""
        self._ask("account")
        return Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(1000))

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()
        self._ask(f"submit {order.client_order_id}")
        if self.minute >= 0:
            self.venue.accept(order, self.minute)

    async def cancel(self, client_order_id: str) -> None:
        """Take a request to cancel."""
        self._ask(f"cancel {client_order_id}")
        if self.minute >= 0:
            self.venue.cancel(client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Take a request to move a stop."""
        self._ask(f"replace {client_order_id} {order.stop_price}")
        if self.minute >= 0 and order.stop_price is not None:
            self.venue.replace(client_order_id, order.stop_price)

    async def poll(self) -> Sequence[BrokerEvent]:
        """What it was given to say, unless it is silent for so many times."""
        self.polls += 1
        if self.silences:
            self.silences -= 1
            raise Unavailable("no way")
        said, self.said = self.said, []
        return [*said, *self.venue.events()]

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """Never called."""
        raise NotImplementedError

    async def close(self) -> None:
        """Nothing to close."""

    def _ask(self, request: str) -> None:
        self.before()
        self.asked.append(request)
        if request in self.faults:
            raise self.faults[request]


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


class Bench:
    """A desk, its execution, a fake broker and a journal on disk."""

    def __init__(self, journal: Journal, settings: TradingRules | None = None) -> None:
        self.journal = journal
        self.broker = FakeBroker()
        self.waits: list[float] = []
        self.told: list[NewEvent] = []
        self.desk = DecisionEngine(settings or rules(), session(), EQUITY, name)
        self.clock = ManualClock(session().open)
        venue = BrokerAccount(broker=self.broker, name="fake", account_id="A1")
        self.execution = ExecutionEngine(
            JournalRecorder(journal=journal, clock=self.clock, on_events=self.told.extend), venue, self.desk
        )
        journal.append(
            [
                NewEvent(
                    kind=records.RUN_STARTED, payload={"equity": "100000"}, time=self.execution.recorder.clock.now()
                ),
                NewEvent(
                    kind=records.SESSION_OPENED,
                    payload={"date": "2026-01-05", "symbols": 2, "equity": "100000"},
                    time=self.execution.recorder.clock.now(),
                ),
            ]
        )

    @property
    def kinds(self) -> list[str]:
        """Kind and order of each event since the session was opened."""
        return [f"{one.kind} {one.cid or ''}".strip() for one in self.journal.events(2)]

    @property
    def looked_up(self) -> list[str]:
        """The orders that must be looked up."""
        return [cid for cid, ticket in self.execution.tickets.items() if ticket.must_look_up]

    @property
    def states(self) -> dict[str, OrderState]:
        """Each order's state, as the execution and the journal know it alike."""
        mine = {cid: one.state for cid, one in self.execution.tickets.items()}
        assert mine == {cid: one.state for cid, one in fold_events(self.journal.events()).orders.items()}
        return mine

    def know(self, *client_order_ids: str) -> None:
        """Add orders that were sent earlier: entries of these names."""
        [decision] = self.desk.decide([proposal("AAA")])
        assert decision.order is not None
        ticket = self.execution.tickets.pop("AAA entry")
        for cid in client_order_ids:
            self.desk.book.add_ticket(attrs.evolve(ticket.order, client_order_id=cid))

    def decide(self, *proposals: Proposal) -> None:
        """Decide signals and carry the decisions out."""
        self.do(MinuteCommands(decisions=self.desk.decide(proposals)))

    def do(self, minute: MinuteCommands) -> None:
        """Carry a minute out."""
        asyncio.run(self.execution.execute(minute))

    def be_patient(self, retries: int) -> None:
        """Let the broker be asked so many times again; what would be waited is written down."""

        async def pause(seconds: float) -> None:
            self.waits.append(seconds)

        self.execution.venue = attrs.evolve(
            self.execution.venue, retry_policy=RetryPolicy(retries=retries, sleep=pause)
        )

    def hear(self, *said: BrokerEvent) -> None:
        """Let the broker say something."""
        self.broker.said = list(said)
        asyncio.run(self.execution.process_broker_events())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of its own for each test."""
    with closing(open_journal(tmp_path / "run.sqlite")) as journal:
        yield Bench(journal)


def said(kind: str, cid: str, event_id: str = "", words: str = "") -> BrokerEvent:
    """A broker's word on an order."""
    return BrokerEvent(kind=kind, event_id=event_id or f"{kind} {cid}", client_order_id=cid, words=words)


def filled(of: Order, price: str = "100", quantity: str | None = None, execution: str = "1") -> BrokerEvent:
    """A broker's fill."""
    one = fill(of, price, quantity, execution)
    return attrs.evolve(said("fill", of.client_order_id, f"fill {execution}"), fill=one)


def test_intent_and_sending_are_on_disk_before_an_order_leaves(bench: Bench) -> None:
    """T1 holds decisions and intents, T2 marks all orders of the minute; only then does the first one leave."""
    seen: list[list[str]] = []
    bench.broker.before = lambda: seen.append(bench.kinds)
    bench.decide(proposal("AAA"), proposal("BBB"))
    written = [
        "decision AAA entry",
        "intended AAA entry",
        "intended AAA stop",
        "decision BBB entry",
        "intended BBB entry",
        "intended BBB stop",
        "sending AAA entry",
        "sending AAA stop",
        "sending BBB entry",
        "sending BBB stop",
    ]
    assert seen == [written, written]
    assert bench.broker.asked == ["submit AAA entry", "submit BBB entry"]
    assert set(bench.states.values()) == {OrderState.SENDING}
    assert [f"{one.kind} {one.cid}" for one in bench.told] == written


def test_denials_are_written_and_nothing_is_sent(bench: Bench) -> None:
    """A decision without an order is explained in the journal."""
    bench.decide(proposal("AAA", price=5000.0, stop=4900.0))
    assert bench.kinds == ["decision"]
    assert next(bench.journal.events(2)).payload["reason"] == "QUANTITY_TOO_SMALL"
    assert bench.broker.asked == []


def test_a_minute_without_anything_writes_nothing(bench: Bench) -> None:
    """No event for a quiet minute."""
    bench.do(MinuteCommands())
    assert bench.kinds == []


@pytest.mark.parametrize("barrier", [1, 2])
def test_a_journal_error_sends_nothing(tmp_path: Path, barrier: int) -> None:
    """If T1 or T2 cannot be written, no byte leaves and no one is notified."""

    class Failing(Journal):
        left = 1 + barrier

        def append(self, entries: Sequence[NewEvent]) -> None:
            type(self).left -= 1
            if type(self).left == 0:
                raise JournalError("full", "make room")
            super().append(entries)

    with closing(open_journal(tmp_path / "run.sqlite")) as opened:
        bench = Bench(Failing(opened.path, opened._connection))
        with pytest.raises(JournalError, match=r"^full No order of this minute was sent\. make room$"):
            bench.decide(proposal())
        assert bench.broker.asked == []
        assert len(bench.told) == (0 if barrier == 1 else 3)


@pytest.mark.parametrize("fault", [None, Rejected("no"), OutcomeUnknown("silence")])
def test_a_journal_error_after_sending_says_that_orders_stand(tmp_path: Path, fault: BrokerError | None) -> None:
    """What cannot be written once orders have left is never said to be unsent."""

    class Full(Journal):
        def append(self, entries: Sequence[NewEvent]) -> None:
            if {entry.kind for entry in entries} & {"accepted", "rejected", "no_answer"}:
                raise JournalError("full", "make room")
            super().append(entries)

    with closing(open_journal(tmp_path / "run.sqlite")) as opened:
        bench = Bench(Full(opened.path, opened._connection))
        if fault is None:
            bench.broker.said = [said("accepted", "AAA entry")]
        else:
            bench.broker.faults["submit AAA entry"] = fault
        with pytest.raises(JournalError, match=r"^full Orders that were sent remain at the broker"):
            bench.decide(proposal("AAA"))
        assert bench.broker.asked == ["submit AAA entry"]


def test_a_rejection_ends_the_whole_bracket(bench: Bench) -> None:
    """The broker's own words are written, the entry is no longer worked, and other orders go on."""
    bench.broker.faults["submit AAA entry"] = Rejected("no such margin")
    bench.decide(proposal("AAA"), proposal("BBB"))
    assert bench.states == {
        "AAA entry": OrderState.REJECTED,
        "AAA stop": OrderState.REJECTED,
        "BBB entry": OrderState.SENDING,
        "BBB stop": OrderState.SENDING,
    }
    rejected = bench.journal.last_event("rejected")
    assert rejected is not None
    assert (rejected.payload["words"], rejected.source) == ("no such margin", ("fake", "A1", "refused-AAA stop"))
    assert list(bench.desk.exposure.working) == ["BBB entry"]
    assert fold_events(bench.journal.events()).denials == {"ENTRY_NOT_FILLED": 1}


def test_the_rejection_of_an_accepted_order_is_looked_up_before_its_reservation_ends(bench: Bench) -> None:
    """Until a lookup confirms that it ended, the order may fill: it stays reserved."""
    bench.decide(proposal("AAA"))
    bench.hear(said("acknowledged", "AAA entry"), said("rejected", "AAA entry"))
    assert bench.states["AAA entry"] is OrderState.NEW
    assert list(bench.desk.exposure.working) == ["AAA entry"]
    assert bench.looked_up == ["AAA entry"]
    bench.hear(said("cancelled", "AAA entry"))
    assert not bench.desk.exposure.working


@pytest.mark.parametrize("fault", [OutcomeUnknown("time-out"), Unavailable("no way"), BrokerError("nonsense")])
def test_f2_f3_f5_f9_f10_f15_f16_no_answer_is_no_rejection(bench: Bench, fault: BrokerError) -> None:
    """The order is unknown and keeps its reservation; nothing is sent again, other orders go on."""
    bench.broker.faults["submit AAA entry"] = fault
    bench.decide(proposal("AAA"), proposal("BBB"))
    assert bench.broker.asked == ["submit AAA entry", "submit BBB entry"]
    assert bench.states["AAA entry"] is bench.states["AAA stop"] is OrderState.UNKNOWN
    assert list(bench.desk.exposure.working) == ["AAA entry", "BBB entry"]
    bench.hear(said("acknowledged", "AAA entry"))
    assert bench.states["AAA entry"].value == "new"


def test_a_fill_is_on_disk_before_the_desk_hears_of_it(bench: Bench) -> None:
    """First the journal, then the books."""
    bench.decide(proposal("AAA"))
    entry = bench.execution.tickets["AAA entry"].order
    heard: list[int] = []
    booked = bench.desk.position_manager.on_order_event

    def listen(event: BrokerEvent, *, ended: bool, at: float) -> object:
        heard.append(len(bench.kinds))
        return booked(event, ended=ended, at=at)

    bench.desk.position_manager.on_order_event = listen  # type: ignore[method-assign, assignment]  # an ear, not another behaviour
    before = len(bench.kinds)
    bench.hear(said("acknowledged", "AAA entry"), filled(entry))
    assert heard == [before + 2, before + 2]
    assert bench.states["AAA entry"] is OrderState.FILLED
    assert fold_events(bench.journal.events()).portfolio.symbols == ["AAA"]


def test_fills_before_acknowledgements_and_twice_told_are_booked_once(bench: Bench) -> None:
    """One event twice in a poll, again in the next, and one execution under another event: one fill."""
    bench.decide(proposal("AAA"))
    entry = bench.execution.tickets["AAA entry"].order
    part = filled(entry, quantity="3")
    bench.hear(part, part)
    bench.hear(part, attrs.evolve(part, event_id="the same in other words"), said("acknowledged", "AAA entry"))
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 3_000_000
    assert bench.states["AAA entry"] is OrderState.PARTIALLY_FILLED
    assert [kind for kind in bench.kinds if kind.startswith("fill")] == ["fill AAA entry"]
    assert fold_events(bench.journal.events()).portfolio.equity_atoms == bench.desk.portfolio.equity_atoms
    bench.hear(filled(entry, quantity="4", execution="2"))
    assert bench.states["AAA entry"].value == "filled"
    assert bench.desk.exposure.working == {}


def test_what_is_not_ours_is_written_and_changes_nothing(bench: Bench) -> None:
    """Foreign orders and unknown words are kept, and stop nothing."""
    bench.decide(proposal("AAA"))
    foreign = order(name="somebody", symbol="ZZZ")
    bench.hear(filled(foreign), said("cancelled", "somebody"), said("celebrated", "AAA entry"))
    assert bench.kinds[-3:] == ["fill somebody", "cancelled somebody", "celebrated AAA entry"]
    assert bench.states["AAA entry"] is OrderState.SENDING
    assert bench.desk.portfolio.positions == {}
    assert fold_events(bench.journal.events()).portfolio.positions == {}


@pytest.mark.parametrize(
    "kind", ["acknowledged", "rejected", "cancelled", "replaced", "expired", "not_found", "cancel_refused"]
)
def test_no_word_stops_a_session(bench: Bench, kind: str) -> None:
    """Any word at any moment, also after the end, has an answer."""
    bench.decide(proposal("AAA"))
    bench.hear(
        said(kind, "AAA entry", "first"), said("expired", "AAA entry", "second"), said(kind, "AAA entry", "third")
    )
    assert bench.execution.tickets["AAA entry"].terminal
    assert bench.states


def held(bench: Bench) -> Bars:
    """Let the bench hold AAA with a resting stop; flat bars."""
    bench.decide(proposal("AAA", exits=ExitRules(leave=60, trailing=True)))
    entry = bench.execution.tickets["AAA entry"].order
    bench.hear(said("acknowledged", "AAA entry"), filled(entry), said("acknowledged", "AAA stop"))
    return SessionDraft("AAA", "BBB").bar(30, 110.0).bars()


def test_an_exit_leaves_once_its_protection_is_proven_gone(bench: Bench) -> None:
    """The cancel is written and asked; the exit is written, with its reason, and sent when the cancel is told."""
    bars = held(bench)
    seen: list[list[str]] = []
    bench.broker.before = lambda: seen.append(bench.kinds[-3:])
    bench.broker.asked.clear()
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 59)))
    assert bench.broker.asked == ["cancel AAA stop"]
    assert seen[0][-1] == "cancel_requested AAA stop"
    bench.hear(said("cancelled", "AAA stop"))
    assert bench.broker.asked == ["cancel AAA stop", "submit AAA exit"]
    assert seen[1] == ["cancelled AAA stop", "intended AAA exit", "sending AAA exit"]
    intended = bench.journal.last_event("intended")
    assert intended is not None
    assert (intended.payload["reason"], intended.payload["leg"], intended.payload["quantity"]) == ("TIME", "exit", "7")
    bench.hear(filled(bench.execution.tickets["AAA exit"].order, "101", execution="2"))
    book = fold_events(bench.journal.events())
    assert [trade.exit_reason for trade in book.trades] == [ExitReason.TIME]
    assert dollars_of(bench.desk.portfolio.pnl_atoms) == book.trades[0].pnl == 7
    assert bench.desk.position_manager.is_idle


def test_exits_leave_before_entries(bench: Bench) -> None:
    """What frees risk goes first."""
    bars = held(bench)
    bench.broker.asked.clear()
    bench.broker.said = [said("cancelled", "AAA stop")]
    minute = MinuteCommands(
        actions=bench.desk.position_manager.orders_after_minute(bars, 59),
        decisions=bench.desk.decide([proposal("BBB", 59, "mid")]),
    )
    bench.do(minute)
    assert bench.broker.asked == ["cancel AAA stop", "submit AAA exit", "submit BBB entry"]


def test_a_stop_is_moved_and_named_trailing(bench: Bench) -> None:
    """The level is written; the broker's confirmation makes the stop a trailing one, in both books."""
    bars = held(bench)
    bench.broker.asked.clear()
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 30)))
    assert bench.broker.asked == ["replace AAA stop 107.8000"]
    requested = bench.journal.last_event("replace_requested")
    assert requested is not None
    assert requested.payload == {"stop_price": "107.8000", "reason": "TRAILING_STOP"}
    stop = bench.execution.tickets["AAA stop"].order
    bench.hear(said("replaced", "AAA stop"), filled(stop, "107.80", execution="2"))
    trade = bench.desk.portfolio.closed[0].to_trade()
    assert [trade] == fold_events(bench.journal.events()).trades
    assert trade.exit_reason is ExitReason.TRAILING_STOP


@pytest.mark.parametrize("fault", [OutcomeUnknown("time-out"), Unavailable("no way")])
def test_a_move_without_an_answer_is_looked_into_and_asked_for_again(bench: Bench, fault: BrokerError) -> None:
    """Whether the stop still rests is read; the next minute asks for the same level."""
    held(bench)
    bars = SessionDraft("AAA", "BBB").bar(30, 110.0).bar(31, 109.0).bar(32, 109.0).bars()
    bench.broker.asked.clear()
    bench.broker.faults["replace AAA stop 107.8000"] = fault
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 30)))
    assert bench.looked_up == ["AAA stop"]
    bench.broker.faults.clear()
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 31)))
    assert bench.broker.asked == ["replace AAA stop 107.8000"] * 2
    bench.hear(said("replaced", "AAA stop"))
    assert bench.desk.position_manager.orders_after_minute(bars, 32) == []


def test_a_stop_that_may_not_be_moved_stays(bench: Bench) -> None:
    """What the broker refuses in its answer is requested again with the next minute; the stop is not cancelled."""
    held(bench)
    bars = SessionDraft("AAA", "BBB").bar(30, 110.0).bar(31, 109.0).bars()
    bench.broker.faults["replace AAA stop 107.8000"] = Rejected("not now")
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 30)))
    (again,) = bench.desk.position_manager.orders_after_minute(bars, 31)
    assert isinstance(again, ReplaceOrder)


@pytest.mark.parametrize("fault", [Rejected("too late"), OutcomeUnknown("time-out"), Unavailable("no way")])
def test_a_cancel_without_proof_keeps_the_exit_back_and_is_asked_again(bench: Bench, fault: BrokerError) -> None:
    """A cancel that is refused or not answered is written down; no exit goes beside a stop that may still rest."""
    bars = held(bench)
    bench.broker.faults["cancel AAA stop"] = fault
    bench.broker.asked.clear()
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 59)))
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 60)))
    assert bench.broker.asked == ["cancel AAA stop"] * 2
    word = "cancel_refused" if isinstance(fault, Rejected) else "silence"
    assert bench.kinds.count(f"{word} AAA stop") == 2
    assert bench.states["AAA stop"] is OrderState.NEW
    bench.hear(filled(bench.execution.tickets["AAA stop"].order, "98", execution="2"))
    assert [trade.exit_reason for trade in fold_events(bench.journal.events()).trades] == [ExitReason.STOP]
    assert bench.desk.position_manager.orders_after_minute(bars, 61) == []


class SlowBroker(FakeBroker):
    """A broker whose answer to a cancel takes a moment; it counts those that are under way."""

    under_way = most = 0

    async def cancel(self, client_order_id: str) -> None:
        """Take a request to cancel, and answer it later."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        await super().cancel(client_order_id)


def test_f62_the_same_request_is_under_way_once_however_slow_its_answer_is(bench: Bench) -> None:
    """Two rounds that ask for one cancel at a time send one; once it is answered it may be asked for again."""
    broker = bench.broker = SlowBroker()
    bench.execution.venue = attrs.evolve(bench.execution.venue, broker=broker)
    bench.know("S1")
    once = MinuteCommands(actions=[CancelOrder(client_order_id="S1")])

    async def twice() -> None:
        await asyncio.gather(bench.execution.execute(once), bench.execution.execute(once))

    asyncio.run(twice())
    assert broker.asked == ["cancel S1"]
    bench.do(once)
    assert broker.asked == ["cancel S1"] * 2


def test_cancels_do_not_wait_for_each_others_answers(bench: Bench) -> None:
    """Twenty-five of one minute are ten at a time under way, in their order; one that is refused keeps none back."""
    broker = bench.broker = SlowBroker()
    bench.execution.venue = attrs.evolve(bench.execution.venue, broker=broker)
    symbols = [f"S{number:02d}" for number in range(25)]
    bench.know(*symbols)
    broker.faults["cancel S03"] = Rejected("too late")
    bench.do(MinuteCommands(actions=[CancelOrder(client_order_id=symbol) for symbol in symbols]))
    assert broker.asked == [f"cancel {symbol}" for symbol in symbols]
    assert broker.most == 10
    assert bench.kinds.count("cancel_refused S03") == 1


def test_a_cancel_that_cannot_be_written_down_ends_the_session_once_all_have_left(tmp_path: Path) -> None:
    """The disk is full as one of three goes unanswered: the others are asked for, then the error is raised."""

    class Full(Journal):
        def append(self, entries: Sequence[NewEvent]) -> None:
            if {entry.kind for entry in entries} & {records.REQUEST_FAILED}:
                raise JournalError("full", "make room")
            super().append(entries)

    with closing(open_journal(tmp_path / "run.sqlite")) as opened:
        bench = Bench(Full(opened.path, opened._connection))
        bench.know(*"ABC")
        bench.broker.faults["cancel A"] = OutcomeUnknown("silence")
        with pytest.raises(JournalError, match="full"):
            bench.do(MinuteCommands(actions=[CancelOrder(client_order_id=one) for one in "ABC"]))
        assert bench.broker.asked == ["cancel A", "cancel B", "cancel C"]


def test_each_refusal_of_a_request_is_an_event_of_its_own(bench: Bench) -> None:
    """Two refused moves of one stop are two events."""
    held(bench)
    request = ReplaceOrder(client_order_id="AAA stop", stop_price=Decimal(99), reason=ExitReason.TRAILING_STOP)
    bench.broker.faults["replace AAA stop 99"] = Rejected("no")
    bench.do(MinuteCommands(actions=[request, request]))
    assert bench.kinds.count("cancel_refused AAA stop") == 2


def test_a_rejected_exit_puts_its_stop_back_and_is_sent_again_the_next_minute(bench: Bench) -> None:
    """No minute passes without a stop; each order has a new name, since the ones before are over."""
    bars = held(bench)
    bench.broker.faults["submit AAA exit"] = Rejected("not now")
    bench.broker.said = [said("cancelled", "AAA stop")]
    bench.broker.asked.clear()
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 59)))
    assert bench.broker.asked == ["cancel AAA stop", "submit AAA exit", "submit AAA stop 2"]
    bench.broker.said = [said("cancelled", "AAA stop 2")]
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 60)))
    assert bench.broker.asked[3:] == ["cancel AAA stop 2", "submit AAA exit 2"]


def test_changes_of_the_risk_state_are_written(bench: Bench) -> None:
    """What changed, why, and the figures."""
    held(bench)
    bars = SessionDraft("AAA", "BBB").bar(30, 1.0).bars()
    bench.do(MinuteCommands(changes=bench.desk.mark(bars, 30)))
    changes = [one.payload for one in bench.journal.events(kind="risk")]
    assert [one["what"] for one in changes] == ["window loss latch of open"]
    assert changes == fold_events(bench.journal.events()).risk
    assert Decimal(changes[0]["value"]) < Decimal(changes[0]["limit"])


def test_desk_execution_and_journal_agree_after_a_simulated_day(bench: Bench) -> None:
    """Trades, equity and states are the same however they are counted, and every order has ended."""
    draft = SessionDraft("AAA", "BBB", "CCC").bar(30, 103.0).bar(31, 95.0, "BBB").gap(26, 29, "CCC")
    draft.bar(40, 98.0)
    bars = draft.bars()
    venue = bench.broker.venue = Simulated(FREE, session(), bars.symbols)
    wanted = [proposal(symbol, row=row, exits=ExitRules(trailing=True)) for row, symbol in enumerate(bars.symbols)]

    async def day() -> None:
        for minute in range(25, 390):
            bench.broker.minute = minute
            venue.match(bars, minute)
            await bench.execution.process_broker_events()
            changes, actions = (
                bench.desk.mark(bars, minute),
                bench.desk.position_manager.orders_after_minute(bars, minute),
            )
            decisions = bench.desk.decide(wanted if minute == 25 else ())
            await bench.execution.execute(MinuteCommands(changes=changes, actions=actions, decisions=decisions))
        venue.close(partial(last_close_ticks, bars))
        await bench.execution.process_broker_events()

    asyncio.run(day())
    book = fold_events(bench.journal.events())
    assert [trade.exit_reason.value for trade in book.trades] == ["TRAILING_STOP", "STOP"]
    assert book.trades == [position.to_trade() for position in bench.desk.portfolio.closed]
    assert book.equity == dollars_of(bench.desk.portfolio.equity_atoms)
    assert book.denials == {"ENTRY_NOT_FILLED": 1}
    assert book.allowed == 3
    assert all(record.terminal for record in book.orders.values())
    assert bench.states["CCC stop"] is OrderState.EXPIRED
    assert bench.journal.verify() == bench.journal.head


def test_words_of_ours_are_events_too(bench: Bench) -> None:
    """The projection knows what the execution writes of itself."""
    bench.broker.faults["submit AAA entry"] = OutcomeUnknown("time-out")
    bench.decide(proposal("AAA"))
    assert [one.payload for one in bench.journal.events(kind=records.NO_ANSWER)] == [{"words": "time-out"}] * 2
    assert bench.states["AAA entry"] is OrderState.UNKNOWN


def test_more_than_was_ordered_is_booked_and_alarms(bench: Bench) -> None:
    """The truth of a fill beyond the quantity stands in both books."""
    bench.decide(proposal("AAA"))
    bench.hear(filled(bench.execution.tickets["AAA entry"].order, quantity="9"))
    assert bench.execution.tickets["AAA entry"].record.overfilled == 2
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 9_000_000


def test_a_broker_that_does_not_answer_is_asked_again_within_the_cycle(bench: Bench) -> None:
    """Each silence is written down, the waits grow, and what the broker says in the end is booked as ever."""
    bench.be_patient(3)
    bench.decide(proposal("AAA"))
    polls, bench.broker.silences = bench.broker.polls, 2
    bench.hear(said("acknowledged", "AAA entry"))
    assert bench.broker.polls == polls + 3
    assert bench.kinds[-3:] == ["silence", "silence", "acknowledged AAA entry"]
    assert [one.payload for one in bench.journal.events(kind=records.REQUEST_FAILED)] == [
        {"asked": "poll", "words": "no way"}
    ] * 2
    assert [0.25 <= bench.waits[0] <= 0.5, 0.5 <= bench.waits[1] <= 1.0] == [True, True]
    assert bench.desk.exposure.state is RiskState.NORMAL


def test_a_broker_that_stays_silent_leaves_exits_only(bench: Bench) -> None:
    """After API_RETRY_LIMIT nothing is entered, exits go on, and it is asked once at a time until it answers."""
    bars = held(bench)
    bench.be_patient(3)
    polls, bench.broker.silences = bench.broker.polls, 5
    bench.hear()
    assert bench.broker.polls == polls + 4
    bench.hear()
    assert (bench.broker.polls, len(bench.waits)) == (polls + 5, 3)
    (change,) = bench.desk.mark(bars, 59)
    assert (change.what, change.value) == ("exit-only", Decimal(3))
    minute = MinuteCommands(
        actions=bench.desk.position_manager.orders_after_minute(bars, 59),
        decisions=bench.desk.decide([proposal("BBB", 59, "mid")]),
    )
    bench.broker.said = [said("cancelled", "AAA stop")]
    assert [one.reason for one in minute.decisions] == [Reason.EXIT_ONLY]
    bench.do(minute)
    assert bench.broker.asked[-1] == "submit AAA exit"
    bench.broker.silences = 1
    bench.hear()
    assert len(bench.waits) == 4


def test_a_cancel_that_was_not_answered_is_asked_again_within_the_cycle(bench: Bench) -> None:
    """Unlike an order it may be sent twice."""
    bars = held(bench)
    bench.be_patient(3)
    bench.broker.faults["cancel AAA stop"] = Unavailable("no way")
    bench.broker.before = lambda: bench.broker.faults.clear() if len(bench.waits) == 2 else None
    bench.broker.asked.clear()
    bench.broker.said = [said("cancelled", "AAA stop")]
    bench.do(MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(bars, 59)))
    assert bench.broker.asked == ["cancel AAA stop"] * 3 + ["submit AAA exit"]
    assert bench.kinds.count("silence AAA stop") == 2
    assert "no_answer AAA stop" not in bench.kinds


@pytest.mark.parametrize("fault", [None, Unavailable("no way"), Rejected("who are you?")])
def test_the_account_is_read_or_nothing_is_entered(bench: Bench, fault: BrokerError | None) -> None:
    """What the broker grants bounds the entries; an account that cannot be read is not known."""
    if fault is not None:
        bench.broker.faults["account"] = fault
    asyncio.run(bench.execution.read_account())
    standing = bench.desk.exposure
    assert standing.funds.power_limit_atoms == (atoms_of(Decimal(1000)) if fault is None else None)
    assert standing.state is (RiskState.NORMAL if fault is None else RiskState.EXIT_ONLY)


def test_the_waits_of_one_request_end_with_its_cycle() -> None:
    """However many attempts are allowed, an answer that would come too late is not waited for."""
    waits = list(RetryPolicy(retries=20).delays())
    assert 3 <= len(waits) <= 5
    assert sum(waits) <= CYCLE_S
    assert list(RetryPolicy(retries=20).delays()) == waits
    assert list(RetryPolicy().delays()) == []


def test_without_a_clock_nothing_is_waited_for(bench: Bench) -> None:
    """A patience that is given no way to wait asks again at once."""
    bench.execution.venue = attrs.evolve(bench.execution.venue, retry_policy=RetryPolicy(retries=2))
    bench.broker.silences = 2
    bench.hear()
    assert bench.broker.polls == 3


def refuse(bench: Bench, refusal: Callable[[Order], str]) -> None:
    """Let somebody look at each order before it leaves."""
    bench.execution.venue = attrs.evolve(bench.execution.venue, denial_reason=refusal)


def test_what_the_second_barrier_refuses_is_dropped(bench: Bench) -> None:
    """It is written down as never sent, with the reason, frees what it reserved, and holds no other order up."""
    refuse(bench, lambda order: "halted: the file control/kill exists" if order.symbol == "AAA" else "")
    bench.decide(proposal("AAA"), proposal("BBB"))
    assert bench.broker.asked == ["submit BBB entry"]
    assert bench.states["AAA entry"] is bench.states["AAA stop"] is OrderState.DROPPED
    assert [one.payload["words"] for one in bench.journal.events(kind=records.DROPPED)] == [
        "halted: the file control/kill exists"
    ] * 2
    assert list(bench.desk.exposure.working) == ["BBB entry"]


def test_a_kill_between_the_second_barrier_and_the_first_byte_withdraws_the_permit(bench: Bench) -> None:
    """The order was marked as being sent, and yet never left: it is dropped, not in doubt."""
    looks = iter(["", "halted: tbot kill"])
    refuse(bench, lambda _order: next(looks))
    bench.decide(proposal("AAA"))
    assert bench.broker.asked == []
    assert bench.kinds[-4:] == ["sending AAA entry", "sending AAA stop", "dropped AAA entry", "dropped AAA stop"]
    assert set(bench.states.values()) == {OrderState.DROPPED}
    assert bench.desk.position_manager.is_idle
    dropped = bench.journal.last_event(records.DROPPED)
    assert dropped is not None
    assert dropped.payload["words"] == "The order AAA entry (AAA) was not sent: halted: tbot kill."


def test_f6_f7_f8_what_could_not_even_begin_to_leave_is_dropped(bench: Bench) -> None:
    """No way to the broker, and a permit that was not used: both say that nothing has left (F6, F8)."""

    async def unreachable(_order: Order, _permit: Permit) -> None:
        raise Unavailable("no such host")

    bench.broker.submit = unreachable  # type: ignore[method-assign, assignment]  # a broker that gets nowhere
    bench.decide(proposal("AAA"))
    assert set(bench.states.values()) == {OrderState.DROPPED}
    assert bench.desk.position_manager.is_idle


def test_an_order_that_fell_into_doubt_while_it_waited_for_its_turn_stays_in_doubt(bench: Bench) -> None:
    """Readings missed it before its turn came to nothing: it is not called dropped, and what it reserved stays."""

    async def too_late(order: Order, _permit: Permit) -> None:
        for part in (order, *order.protection):
            bench.execution.mark_not_found(part.client_order_id)
        raise Unavailable("60 requests per minute are allowed")

    bench.broker.submit = too_late  # type: ignore[method-assign, assignment]  # a broker whose requests are short
    bench.decide(proposal("AAA"))
    assert set(bench.states.values()) == {OrderState.UNKNOWN}
    assert list(bench.desk.exposure.working) == ["AAA entry"]


def test_a_permit_is_for_one_sending() -> None:
    """A broker that would send an order twice is stopped at the second time; the first stands."""
    permit = SendPermit(order(name="AAA entry"), never_refuse)
    permit.redeem()
    with pytest.raises(
        Withdrawn, match=r"^The order AAA entry \(AAA\) was sent already: a permit is valid for one order"
    ):
        permit.redeem()
    assert permit.redeemed


def test_executions_are_told_apart_by_order_where_a_broker_uses_their_ids_again(bench: Bench) -> None:
    """Two orders with an execution 1 each have two fills; where ids are unique, the first that bears one counts."""
    bench.decide(proposal("AAA"), proposal("BBB", row=1))
    entries = [bench.execution.tickets[f"{symbol} entry"].order for symbol in ("AAA", "BBB")]
    bench.hear(*(filled(entry) for entry in entries))
    assert bench.desk.portfolio.symbols == ["AAA", "BBB"]
    bench.broker.capabilities = BrokerCapabilities(exec_ids_unique=True)
    bench.hear(*(filled(entry, quantity="1", execution="2") for entry in entries))
    assert bench.kinds.count("fill AAA entry") == 2
    assert bench.kinds.count("fill BBB entry") == 1


def test_an_execution_that_is_named_later_grows_nothing(bench: Bench) -> None:
    """What was supposed from a cumulative quantity is booked; the executions behind it come too late to count."""
    bench.decide(proposal("AAA"))
    entry = bench.execution.tickets["AAA entry"].order
    bench.hear(filled(entry, quantity="3", execution=f"{SUPPOSED_PREFIX}AAA entry-0-3"), filled(entry, quantity="3"))
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 3_000_000
    bench.hear(filled(entry, quantity="4", execution="2"))
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 7_000_000
    assert bench.states["AAA entry"] is OrderState.FILLED


def test_an_order_that_nobody_knows_is_in_doubt_then_lost(bench: Bench) -> None:
    """Each step is on disk; a lost entry goes on reserving what it would cost."""
    bench.decide(proposal("AAA"))
    bench.execution.mark_not_found("AAA entry")
    assert bench.states["AAA entry"] is OrderState.UNKNOWN
    bench.execution.mark_lost("AAA entry")
    assert bench.states["AAA entry"].value == "lost"
    assert bench.kinds[-2:] == ["absent AAA entry", "lost AAA entry"]
    assert list(bench.desk.exposure.working) == ["AAA entry"]
    bench.hear(said("acknowledged", "AAA entry"))
    assert bench.states["AAA entry"].value == "new"


def _lost(bench: Bench) -> None:
    bench.execution.mark_not_found("AAA entry")
    bench.execution.mark_lost("AAA entry")


def _found_again(bench: Bench) -> None:
    _lost(bench)
    bench.hear(said("acknowledged", "AAA entry"))


def _filled_in_part(bench: Bench) -> None:
    bench.hear(filled(bench.execution.tickets["AAA entry"].order, quantity="1"))


def _cancel_without_answer(bench: Bench) -> None:
    bench.hear(said("acknowledged", "AAA entry"))
    bench.broker.faults["cancel AAA entry"] = OutcomeUnknown("time-out")
    bench.do(MinuteCommands(actions=[CancelOrder(client_order_id="AAA entry")]))


UNPROVEN: dict[str, tuple[OrderState, Callable[[Bench], None]]] = {
    "just sent": (OrderState.SENDING, lambda _: None),
    "working": (OrderState.NEW, lambda bench: bench.hear(said("acknowledged", "AAA entry"))),
    "filled in part": (OrderState.PARTIALLY_FILLED, _filled_in_part),
    "without an answer": (OrderState.UNKNOWN, lambda bench: bench.execution.mark_unknown("time-out", "AAA entry")),
    "not listed": (OrderState.UNKNOWN, lambda bench: bench.execution.mark_not_found("AAA entry")),
    "not found": (OrderState.UNKNOWN, lambda bench: bench.hear(said("not_found", "AAA entry"))),
    "lost": (OrderState.LOST, _lost),
    "found after it was lost": (OrderState.NEW, _found_again),
    "cancel refused": (
        OrderState.NEW,
        lambda bench: bench.hear(said("acknowledged", "AAA entry"), said("cancel_refused", "AAA entry")),
    ),
    "cancel not answered": (OrderState.NEW, _cancel_without_answer),
}
"""What may be known of an entry whose end is not proven, and its state then."""

PROVEN: dict[str, OrderState] = {
    "cancelled": OrderState.CANCELLED,
    "expired": OrderState.EXPIRED,
    "rejected": OrderState.REJECTED,
}

RESERVED: dict[str, tuple[Reason, dict[str, Any]]] = {
    "exposure": (Reason.GROSS_EXPOSURE, {"max_gross_exposure": "0.01"}),
    "exposure of an index": (
        Reason.INDEX_EXPOSURE,
        {"max_index_exposure": "0.01", "indices": {"index": {"AAA": Decimal(1), "BBB": Decimal(1)}}},
    ),
    "leverage": (Reason.BUYING_POWER, {"max_leverage": "0.01"}),
    "buying power of the account": (Reason.BUYING_POWER, {}),
    "a position": (Reason.MAX_OPEN_POSITIONS, {"max_open_positions": 1}),
    "a weight": (Reason.MAX_TRADES, {"max_trades": 1}),
    "the symbol": (Reason.ALREADY_HELD, {}),
}
"""What an entry reserves: the denial of the next one, and settings with room for one entry only."""


def _next_reason(bench: Bench, what: str) -> Reason:
    # Whether another entry a minute later is allowed.
    later = "AAA" if what == "the symbol" else "BBB"
    return bench.desk.decide([proposal(later, minute=26, row=int(later == "BBB"))])[0].reason


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    """A bench with room for one entry of what is named, which has been sent."""
    with closing(open_journal(tmp_path / "narrow.sqlite")) as journal:

        def made(what: str) -> Bench:
            bench = Bench(journal, rules(one_trade_per_symbol_per_day=False, **RESERVED[what][1]))
            power = Decimal(1_000 if what == "buying power of the account" else 100_000)
            bench.desk.update_account(
                Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=power)
            )
            bench.decide(proposal("AAA"))
            return bench

        yield made


@pytest.mark.parametrize("known", UNPROVEN)
@pytest.mark.parametrize("what", RESERVED)
def test_an_entry_reserves_until_its_end_is_proven(narrow: Callable[[str], Bench], what: str, known: str) -> None:
    """Exposure, buying power, its place among positions and weights, and its symbol, whatever is in doubt."""
    bench, (state, learn) = narrow(what), UNPROVEN[known]
    learn(bench)
    assert bench.states["AAA entry"] is state
    assert _next_reason(bench, what) is RESERVED[what][0]


@pytest.mark.parametrize("before", ["just sent", "without an answer", "lost"])
@pytest.mark.parametrize("end", PROVEN)
@pytest.mark.parametrize("what", RESERVED)
def test_a_proven_end_frees_all_but_the_weight(
    narrow: Callable[[str], Bench], what: str, end: str, before: str
) -> None:
    """The next entry is allowed at once; the k-th order sent keeps its place among the weights."""
    bench = narrow(what)
    UNPROVEN[before][1](bench)
    bench.hear(said(end, "AAA entry"))
    assert bench.states["AAA entry"] is PROVEN[end]
    assert _next_reason(bench, what) is (Reason.MAX_TRADES if what == "a weight" else Reason.ALLOWED)


def test_whoever_watches_the_broker_is_told_of_each_reading(bench: Bench) -> None:
    """Answers and silences go to the watcher, which alone decides what they mean."""
    seen: list[str] = []
    bench.execution.venue = attrs.evolve(bench.execution.venue, on_read_result=seen.append)
    bench.broker.silences = 1
    bench.hear()
    bench.hear()
    assert seen == ["no way", ""]
    assert bench.desk.exposure.state is RiskState.NORMAL


def test_an_order_ages_by_the_steady_clock(bench: Bench) -> None:
    """From the moment it was marked; one that never was has no age."""
    bench.decide(proposal("AAA"))
    asyncio.run(bench.clock.sleep(3))
    sent = bench.execution.tickets["AAA entry"]
    assert (bench.execution.age(sent), bench.execution.age(attrs.evolve(sent, sent_second=None))) == (3.0, 0.0)
