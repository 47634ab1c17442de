"""A restart: what the journal knows is what the desk knew, and open questions are written down."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs
import pytest

from tbot_core.contracts import Broker, BrokerCapabilities, BrokerEvent, Permit
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.errors import OutcomeUnknown
from tbot_core.execution import intents
from tbot_core.execution.broker_account import BrokerAccount, update_account
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment, ForeignHolding
from tbot_core.journal.events.orders import OrderIntended, SignalDecided
from tbot_core.journal.events.risk import RiskChanged
from tbot_core.journal.ledger import ledger_of
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.bars import SymbolQuote
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules
from tbot_core.model.types import (
    Account,
    ExitReason,
    Instrument,
    InstrumentKind,
    Leg,
    Order,
    OrderState,
    RiskState,
    Side,
    SignalId,
    atoms_of,
    dollars_of,
)
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, order, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.exposure import RiskChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tbot_core.trading.account_book import ManagedPosition
    from tbot_core.trading.commands import TradingCommand
    from tbot_core.trading.proposals import Proposal

BARE = BrokerCapabilities(shortable=True)
BRACKETS = BrokerCapabilities(brackets=True, replace="same_id", shortable=True)


class Quiet:
    """A broker that takes everything and says what it is given; the orders in `silent` are never answered."""

    capabilities = BARE

    def __init__(self) -> None:
        self.said: list[BrokerEvent] = []
        self.silent: set[str] = set()

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()
        if order.client_order_id in self.silent:
            raise OutcomeUnknown("time-out")

    async def cancel(self, client_order_id: str) -> None:
        """Take a request."""

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Take a request."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """What it was given to say."""
        said, self.said = self.said, []
        return said


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


class Process:
    """A desk and its execution on a journal; `again` is the process after it."""

    def __init__(self, journal: Journal, rules_of_venue: BrokerCapabilities = BRACKETS) -> None:
        self.journal = journal
        self.capabilities = rules_of_venue
        self.broker = Quiet()
        self.clock = ManualClock(session().open)
        self.desk = DecisionEngine(rules(venue=rules_of_venue), session(), atoms_of(Decimal(100_000)), name)
        broker: Broker = self.broker  # type: ignore[assignment]  # nobody logs in or reads the account here
        venue = BrokerAccount(broker=broker, name="quiet", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), venue, self.desk)
        self.recall = SessionRecovery(self.desk, self.execution, {"AAA": 0, "BBB": 1})

    def again(self) -> Process:
        """The next process, with all that the journal says."""
        after = Process(self.journal, self.capabilities)
        for event in self.journal.events():
            after.recall.apply(event)
        return after

    def do(self, *actions: TradingCommand, changes: Sequence[RiskChange] = ()) -> None:
        """Carry actions out."""
        asyncio.run(self.execution.execute(MinuteCommands(actions=actions, changes=changes)))

    def enter(self, shape: ExitRules | None = None, quantity: str = "7") -> Order:
        """Enter AAA; the entry is filled by so many of its 7 shares."""
        return self.enter_by(proposal(exits=shape or ExitRules(leave=60), target=150.0), quantity)

    def enter_by(self, one: Proposal, quantity: str, price: str = "100") -> Order:
        """Enter for a signal of AAA; the entry is filled by so much, at that price."""
        asyncio.run(self.execution.execute(MinuteCommands(decisions=self.desk.decide([one]))))
        entry = self.execution.tickets["AAA entry"].order
        self.hear(said("acknowledged", "AAA entry"), filled(entry, quantity, price))
        return entry

    def hear(self, *words: BrokerEvent) -> None:
        """Let the broker say something."""
        self.broker.said = list(words)
        asyncio.run(self.execution.process_broker_events())

    @property
    def states(self) -> dict[str, OrderState]:
        """Each order's state."""
        return {cid: record.state for cid, record in self.execution.tickets.items()}


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A process of its own for each test."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Process(journal)


def said(kind: str, cid: str, words: str = "") -> BrokerEvent:
    """A broker's word on an order."""
    return BrokerEvent(kind=kind, event_id=f"{kind} {cid}", client_order_id=cid, words=words)


def filled(of: Order, quantity: str, price: str = "100", execution: str = "1") -> BrokerEvent:
    """A broker's fill."""
    one = fill(of, price, quantity, execution)
    return attrs.evolve(said("fill", of.client_order_id), event_id=f"fill {execution}", fill=one)


def same(before: Process, after: Process) -> None:
    """Both know the same orders and money, and do the same next."""
    assert after.desk.book.records() == before.desk.book.records()
    assert after.desk.portfolio == before.desk.portfolio
    assert after.desk.exposure.working == before.desk.exposure.working
    assert after.desk.exposure.sent == before.desk.exposure.sent
    for minute in (58, 59):
        bars = SessionDraft("AAA", "BBB").bars()
        assert after.desk.position_manager.orders_after_minute(
            bars, minute
        ) == before.desk.position_manager.orders_after_minute(bars, minute)


def test_a_position_is_recalled_with_its_plan_and_protection(process: Process) -> None:
    """An entry filled in part, its stop and target, and the minute in which it is left."""
    process.enter(quantity="3")
    after = process.again()
    same(process, after)
    assert after.desk.portfolio.in_symbol("AAA")[0].units == 3_000_000
    sent = {cid for cid, ticket in after.execution.tickets.items() if ticket.sent_at is not None}
    assert sent == {"AAA entry", "AAA stop", "AAA target"}


@pytest.mark.parametrize(
    ("instrument", "price", "quantity", "cost"),
    [
        (
            Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAA", leverage=Decimal(-1)),
            "20",
            "39",
            Decimal(780),
        ),
        (
            Instrument(
                symbol="PUTAAA", kind=InstrumentKind.PUT, underlying="AAA", multiplier=100, leverage=Decimal(-4)
            ),
            "2",
            "4",
            Decimal(800),
        ),
    ],
    ids=["fund", "put"],
)
def test_a_position_in_place_of_the_signals_stock_is_recalled(
    process: Process, instrument: Instrument, price: str, quantity: str, cost: Decimal
) -> None:
    """Its orders, money and exits are the same after a restart, and for a reader of the journal."""
    one = attrs.evolve(
        proposal(side=Side.SHORT, exits=ExitRules(leave=60)), instrument=instrument, reference=float(price)
    )
    entry = process.enter_by(one, quantity, price)
    after = process.again()
    same(process, after)
    assert after.desk.portfolio.in_symbol(entry.symbol)[0].instrument == instrument
    book = fold_events(process.journal.events())
    assert book.portfolio.positions == after.desk.portfolio.positions
    assert dollars_of(book.portfolio.cost_atoms) == cost
    after = process.again()
    after.do(*after.desk.position_manager.orders_after_minute(SessionDraft("AAA", "BBB").bars(), 59))
    if "AAA stop" in after.execution.tickets:  # the disaster stop of a fund ends before its exit
        after.hear(said("cancelled", "AAA stop"))
        after.do(*after.desk.position_manager.orders_due_now())
    leaving = after.execution.tickets["AAA exit"].order
    assert (leaving.symbol, leaving.buy, str(leaving.quantity)) == (entry.symbol, False, quantity)
    after.hear(filled(leaving, quantity, str(Decimal(price) / 2), "2"))
    last = after.again()
    assert last.desk.portfolio == after.desk.portfolio
    (trade,) = fold_events(process.journal.events()).trades
    assert (trade.instrument, trade.pnl) == (instrument, -cost / 2)
    found = ledger_of(process.journal.events())
    assert (found.cash, found.holdings) == (-cost / 2, {})
    assert found.lots[entry.symbol].gain == -cost / 2


def test_the_journal_names_an_instrument_only_where_it_is_not_the_signals_stock(process: Process) -> None:
    """The events of a stock are as they always were; one of a proxy has all of its fields."""
    process.enter()
    assert not any("instrument" in event.payload for event in process.journal.events())
    fund = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="BBB", leverage=Decimal("-1.5"))
    one = attrs.evolve(proposal("BBB", side=Side.SHORT), instrument=fund, reference=20.0)
    asyncio.run(process.execution.execute(MinuteCommands(decisions=process.desk.decide([one]))))
    named = [event.payload["instrument"] for event in process.journal.events() if "instrument" in event.payload]
    fields = {"symbol": "DOWN", "kind": "fund", "underlying": "BBB", "multiplier": 1, "leverage": "-1.5"}
    assert named == [fields, fields, fields]
    kept = [event for event in process.journal.events() if "instrument" in event.payload]
    assert [codec.read(of, event.payload).instrument for of, event in zip(_NAMING, kept, strict=True)] == [fund] * 3


_NAMING = (SignalDecided, OrderIntended, OrderIntended)


def test_the_lots_of_a_fund_are_recalled_after_each_step(process: Process) -> None:
    """Two signals hold it: each process that ends leaves both with their stops; the exit of one keeps the other's."""
    fund = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAA", leverage=Decimal(-1))
    first = attrs.evolve(proposal(side=Side.SHORT, exits=ExitRules(leave=60)), instrument=fund, reference=20.0)
    second = attrs.evolve(
        proposal("BBB", side=Side.SHORT), instrument=attrs.evolve(fund, underlying="BBB"), reference=20.0, row=1
    )
    process.enter_by(first, "39", "20")
    process = recalled(process)
    asyncio.run(process.execution.execute(MinuteCommands(decisions=process.desk.decide([second]))))
    process = recalled(process)
    bought = process.execution.tickets["BBB entry"].order
    process.hear(said("acknowledged", "BBB entry"), filled(bought, str(bought.quantity), "20", "2"))
    process = recalled(process)
    assert [lot.stop and lot.stop.cid for lot in process.desk.book.held_in("DOWN")] == ["AAA stop", "BBB stop"]
    process.hear(said("acknowledged", "AAA stop"), said("acknowledged", "BBB stop"))
    process.do(*process.desk.position_manager.orders_after_minute(SessionDraft("AAA", "BBB").bars(), 59))
    process = recalled(process)
    process.hear(said("cancelled", "AAA stop"))
    process.do(*process.desk.position_manager.orders_after_minute(SessionDraft("AAA", "BBB").bars(), 59))
    process.hear(said("acknowledged", "AAA stop 2"), said("cancelled", "AAA stop 2"))  # it protected since the restart
    process = recalled(process)
    process.hear(filled(process.execution.tickets["AAA exit"].order, "39", "21", "3"))
    process = recalled(process)
    (kept,) = process.desk.book.held_in("DOWN")
    assert (kept.position.signal.symbol, kept.stop and kept.stop.cid) == ("BBB", "BBB stop")
    assert process.desk.position_manager.orders_to_cancel == ()
    book = fold_events(process.journal.events())
    assert book.portfolio.positions == process.desk.portfolio.positions
    assert book.covered("DOWN", kept.position.signal) == bought.quantity == book.portfolio.holdings["DOWN"] // 10**6
    (trade,) = book.trades
    assert (trade.instrument, trade.pnl) == (fund, Decimal(39))
    assert ledger_of(process.journal.events()).holdings == {"DOWN": bought.quantity}


def recalled(process: Process) -> Process:
    """The next process, which knows the same as the one before."""
    after = process.again()
    assert after.desk.book.records() == process.desk.book.records()
    assert after.desk.portfolio == process.desk.portfolio
    assert after.desk.exposure.working == process.desk.exposure.working
    lots = [(lot.position, lot.plan.stop, lot.plan.disaster_stop, lot.stop and lot.stop.cid) for lot in held_by(after)]
    assert lots == [
        (lot.position, lot.plan.stop, lot.plan.disaster_stop, lot.stop and lot.stop.cid) for lot in held_by(process)
    ]
    return after


def held_by(process: Process) -> list[ManagedPosition]:
    """The managed positions of a process."""
    return [*process.desk.book.held.values()]


def test_a_closed_trade_is_recalled_with_its_reason(process: Process) -> None:
    """Stop, target and exit close for what they were sent for, also when the venue found no market."""
    for words, reason in (("", ExitReason.TIME), ("NO_MARKET", ExitReason.NO_MARKET)):
        with closing(open_journal(process.journal.path.with_name(f"{reason}.sqlite"))) as journal:
            one = Process(journal)
            one.enter()
            one.do(*one.desk.position_manager.orders_after_minute(SessionDraft("AAA", "BBB").bars(), 59))
            one.hear(said("cancelled", "AAA target"), said("cancelled", "AAA stop"))
            leaving = one.execution.tickets["AAA exit"].order
            assert one.again().desk.position_manager.orders_due_now() == []
            one.hear(attrs.evolve(filled(leaving, "7", "101", "2"), words=words))
            after = one.again()
            assert [trade.exit_reason for trade in after.desk.portfolio.closed] == [reason]
            same(one, after)


def test_a_stop_that_was_moved_is_recalled_where_it_was_asked_to_be(process: Process) -> None:
    """It is asked for until the broker has moved it; from then on its fill is called a trailing stop."""
    process.enter(ExitRules(trailing=True))
    bars = SessionDraft("AAA", "BBB").bar(30, 110.0).bars()
    process.do(*(asked := process.desk.position_manager.orders_after_minute(bars, 30)))
    assert (
        process.again().desk.position_manager.orders_after_minute(bars, 30) == asked
    )  # the crash may have come before it left
    process.hear(said("replaced", "AAA stop"))
    assert process.again().desk.position_manager.orders_after_minute(bars, 30) == []
    stop = process.execution.tickets["AAA stop"].order
    process.hear(filled(stop, "7", "107.80", "2"))
    assert [trade.exit_reason for trade in process.again().desk.portfolio.closed] == [ExitReason.TRAILING_STOP]


def test_stops_of_its_own_are_recalled_with_their_number(process: Process) -> None:
    """A renewal that a crash cut short is finished, and no name is used twice."""
    one = Process(process.journal, BARE)
    entry = one.enter(ExitRules(), "3")
    one.hear(filled(entry, "4", execution="2"))
    assert one.states["AAA stop"] is OrderState.SENDING
    after = one.again()
    same(one, after)
    after.hear(said("cancelled", "AAA stop"))
    assert after.states["AAA stop 2"] is OrderState.SENDING


def test_a_request_to_cancel_is_recalled(process: Process) -> None:
    """An entry that was being taken back works on until the broker has said what became of it."""
    process.enter(quantity="3")
    process.do(*process.desk.position_manager.orders_after_minute(SessionDraft("AAA", "BBB").bars(), 384))
    after = process.again()
    assert list(after.desk.exposure.working) == ["AAA entry"]
    after.hear(said("cancelled", "AAA entry"))
    assert not after.desk.exposure.working


def test_what_was_written_down_and_not_sent_never_left(process: Process) -> None:
    """A crash between the barriers: the order is dropped, its reservation freed; the next restart says no more."""
    decision = process.desk.decide([proposal()])[0]
    minute = MinuteCommands(decisions=[decision])
    recorder = process.execution.recorder
    recorder.write(*intents.intent_events(recorder, minute))
    after = process.again()
    after.recall.resolve_open_orders()
    assert set(after.states.values()) == {OrderState.DROPPED}
    assert after.desk.position_manager.is_idle
    head = process.journal.head
    again = process.again()
    again.recall.resolve_open_orders()
    assert process.journal.head == head
    assert again.desk.position_manager.is_idle
    assert again.recall.decided == {decision.proposal.signal.text}


def test_what_was_on_its_way_is_in_doubt(process: Process) -> None:
    """A crash after the second barrier: the outcome is unknown, its exposure stays reserved, no order is sent again."""
    asyncio.run(process.execution.execute(MinuteCommands(decisions=process.desk.decide([proposal()]))))
    after = process.again()
    after.recall.resolve_open_orders()
    assert set(after.states.values()) == {OrderState.UNKNOWN}
    assert list(after.desk.exposure.working) == ["AAA entry"]
    assert after.desk.decide([proposal(minute=26)])[0].reason is Reason.ALREADY_HELD


def test_an_entry_whose_rejection_is_not_confirmed_is_recalled_as_reserved(process: Process) -> None:
    """A restart frees nothing: the order that the broker accepted first may still fill."""
    process.enter(quantity="3")
    process.hear(said("rejected", "AAA entry"))
    assert list(process.desk.exposure.working) == ["AAA entry"]
    same(process, process.again())


def test_a_short_on_its_way_is_recalled_with_its_worst_case(process: Process) -> None:
    """It takes 1.03 times the ask of its quote of the buying power, before and after a restart."""
    quoted = attrs.evolve(
        proposal(side=Side.SHORT), reference=99.99, quote=SymbolQuote(bid=99.99, ask=100.05, age_s=1.0)
    )
    (decision,) = process.desk.decide([quoted])
    asyncio.run(process.execution.execute(MinuteCommands(decisions=[decision])))
    assert decision.order is not None
    (entry,) = process.desk.exposure.working.values()
    assert entry.power_atoms == atoms_of(decision.order.quantity * Decimal("103.0515"))
    same(process, process.again())


def test_doubts_and_losses_are_recalled(process: Process) -> None:
    """No answer, not found, given up: the order is lost after the restart as before it."""
    process.broker.silent.add("AAA entry")
    asyncio.run(process.execution.execute(MinuteCommands(decisions=process.desk.decide([proposal()]))))
    process.execution.mark_lost("AAA entry")
    process.execution.mark_not_found("AAA stop")
    after = process.again()
    assert after.states == {"AAA entry": OrderState.LOST, "AAA stop": OrderState.UNKNOWN}
    same(process, after)


def test_an_execution_that_was_part_of_a_supposed_fill_is_recalled_once(process: Process) -> None:
    """What was booked when it was supposed is not booked again when the restart reads its executions."""
    entry = process.enter(quantity="0.5")
    process.hear(filled(entry, "3", execution="supposed-1"), filled(entry, "3", execution="2"))
    after = process.again()
    assert after.desk.portfolio.in_symbol("AAA")[0].units == 3_500_000
    same(process, after)


def test_what_somebody_else_did_is_recalled(process: Process) -> None:
    """Adjusted positions, and foreign shares by their symbol."""
    process.enter()
    one = fill(order(Leg.EXIT), "100", "4", "outside")
    process.execution.recorder.write(process.execution.recorder.entry(Adjustment.of(one)))
    process.desk.position_manager.on_external_change(one)
    foreign = {"symbol": "ZZZ", "quantity": "-5"}  # as it was written down before it had a price
    process.execution.recorder.write(
        NewEvent(kind=records.FOREIGN_HOLDING, payload=foreign, time=process.execution.recorder.clock.now())
    )
    after = process.again()
    assert after.recall.external == {"ZZZ": Decimal(-5)}
    assert after.desk.exposure.external.gross == 0
    assert after.desk.portfolio.in_symbol("AAA")[0].units == 3_000_000
    same(process, after)


def test_a_foreign_figure_that_none_can_hold_ends_no_restart(process: Process) -> None:
    """An older version booked it; what is held is unknown until the account is read."""
    recorder = process.execution.recorder
    payload = codec.write(ForeignHolding(symbol="ZZZ", quantity=Decimal("1E+999999"), price=Decimal(20)))
    recorder.write(NewEvent(kind=records.FOREIGN_HOLDING, payload=payload, time=recorder.clock.now()))
    after = process.again()
    assert after.recall.external == {}
    assert after.desk.exposure.external.gross == 0


def test_what_is_foreign_counts_after_a_restart(process: Process) -> None:
    """Before anybody could be asked: shares at the price that was known, split since, and open orders."""
    recorder = process.execution.recorder
    entries = [
        recorder.entry(ForeignHolding(symbol="ZZZ", quantity=Decimal(-5), price=Decimal(20))),
        NewEvent(
            kind=records.CORPORATE_ACTION, payload={"symbol": "ZZZ", "before": 1, "after": 2}, time=recorder.clock.now()
        ),
    ]
    for said, filled in (("acknowledged", "4"), ("cancelled", "6")):
        payload = {"broker_order_id": said, "symbol": "ZZZ", "buy": False, "quantity": "14", "filled": filled}
        entries.append(
            NewEvent(kind=records.FOREIGN_ORDER, payload={**payload, "said": said}, time=recorder.clock.now())
        )
    recorder.write(*entries)
    after = process.again()
    assert after.recall.external == {"ZZZ": Decimal(-10)}
    assert after.desk.exposure.gross() == atoms_of(Decimal(20 * 10))


def test_cash_that_had_not_settled_before_a_restart_has_not_after_it(process: Process) -> None:
    """What a person has sold of his own today buys nothing in a cash account, whenever the bot was started."""
    told = Account(account_id="A1", equity=Decimal(50_000), cash=Decimal(10_000), margin=False)
    sold = attrs.evolve(told, cash=Decimal(30_000))
    for account in (told, sold):
        update_account(process.desk, process.execution.recorder, account)
    after = process.again()
    update_account(after.desk, after.execution.recorder, sold)
    assert after.desk.exposure.funds.available_atoms(after.desk.portfolio) == atoms_of(Decimal(10_000))
    assert len(list(process.journal.events(kind=records.SETTLED))) == 1


@pytest.mark.parametrize("what", ["daily loss latch", "losing run latch", "window loss latch of open"])
def test_f99_latches_outlive_a_restart(process: Process, what: str) -> None:
    """A loss that the marks of now do not show any more goes on denying what it denied."""
    process.do(changes=[RiskChange(what=what, cause="loss", value=Decimal(-1), limit=Decimal(-1))])
    standing = process.again().desk.exposure
    found = {
        "daily loss latch": standing.daily_loss,
        "losing run latch": standing.losing_run,
        "window loss latch of open": "open" in standing.window_loss,
    }
    assert [name for name, latched in found.items() if latched] == [what]


def test_states_of_the_session_outlive_a_restart(process: Process) -> None:
    """Defense and exits-only as the session itself came to them; what is no state changes none."""
    for what, state in (
        ("fill deviation", RiskState.NORMAL),
        ("defense", RiskState.DEFENSE),
        ("exit-only", RiskState.EXIT_ONLY),
        ("defense", RiskState.EXIT_ONLY),
    ):
        process.do(changes=[RiskChange(what=what, cause="c", value=Decimal(1), limit=Decimal(1))])
        assert process.again().desk.exposure.state is state


@pytest.mark.parametrize("broker", ["", "second"])
def test_defense_of_the_session_is_recalled_at_every_broker(process: Process, broker: str) -> None:
    """Whichever broker's loss or fills it came of; exits-only is that of the account which came to it."""
    posts = [Process(process.journal), Process(process.journal)]
    posts[1].desk.share_limits_with(posts[0].desk)
    recorder = attrs.evolve(process.execution.recorder, broker=broker)
    for what, states in (("defense", ["defense", "defense"]), ("exit-only", ["exit-only", "defense"])):
        change = RiskChange(what=what, cause="c", value=Decimal(1), limit=Decimal(1))
        event = recorder.entry(RiskChanged.of(change))
        recorder.write(event)
        recalls = [
            SessionRecovery(
                one.desk, ExecutionEngine(attrs.evolve(recorder, broker=key), one.execution.venue, one.desk), {}
            )
            for one, key in zip(posts, ("", "second"), strict=True)
        ]
        for told in process.journal.events(kind=records.RISK):
            for one in recalls:
                one.apply(told)
        found = [one.desk.exposure.state.word for one in posts]
        assert (found if broker == "" else found[::-1]) == states


def test_a_denial_is_recalled_as_decided(process: Process) -> None:
    """A signal that was denied is not decided a second time; it has no order to recall."""
    denied = process.desk.decide([proposal(price=5000.0, stop=4900.0, side=Side.LONG)])
    asyncio.run(process.execution.execute(MinuteCommands(decisions=denied)))
    after = process.again()
    assert after.recall.decided == {denied[0].proposal.signal.text}
    assert after.execution.tickets == {}


def test_words_that_move_no_order_change_nothing(process: Process) -> None:
    """Unknown words on an order of ours are kept in the journal and skipped."""
    process.enter()
    process.hear(said("celebrated", "AAA entry"))
    same(process, process.again())


def test_an_exit_under_way_is_not_sent_twice(process: Process) -> None:
    """The restart finds it in doubt; only its proven end lets another one leave."""
    process.enter()
    bars = SessionDraft("AAA", "BBB").bars()
    process.do(*process.desk.position_manager.orders_after_minute(bars, 59))
    process.hear(said("cancelled", "AAA target"), said("cancelled", "AAA stop"))
    after = process.again()
    after.recall.resolve_open_orders()
    assert after.desk.position_manager.orders_after_minute(bars, 60) == []
    assert "AAA exit 2" not in after.states
    after.hear(said("expired", "AAA exit"))
    assert "AAA exit 2" in after.states
