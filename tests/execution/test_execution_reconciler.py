"""Looking after orders in flight: what is in doubt is asked for, and a reading is believed when another agrees."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import (
    AccountActivity,
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    OrderStatusReport,
    Permit,
    PositionReport,
    RejectionMeaning,
)
from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
from tbot_core.engine.live.shutdown import Shutdown
from tbot_core.engine.session.broker_session import BrokerSession
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.engine.session.requests import RequestHandler
from tbot_core.errors import BrokerError, OutcomeUnknown, Rejected, Unavailable
from tbot_core.execution import broker_account, frozen_instruments, orphan_orders
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.contradictions import APART_S, CONTRADICTED_S, Judgment
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.reconciler import LEAST_WINDOW_S, Reconciler
from tbot_core.execution.reconciliation import PositionDifference, ReconciliationStatus, events_from_report
from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.journal.events.accounts import CashSettled, SymbolFrozen
from tbot_core.journal.events.orders import OrderTermsDiffer
from tbot_core.journal.ledger import ledger_of
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.store import Journal, JournalRecorder, NewEvent, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.reasons import Reason
from tbot_core.model.types import (
    UNITS_PER_SHARE,
    Account,
    ExitReason,
    Fill,
    Leg,
    Order,
    OrderState,
    RiskState,
    SignalId,
    atoms_of,
)
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.trades import fill, order, proposal, resting_ids, rules, session
from tbot_core.trading.commands import CancelOrder, SubmitOrder
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.order_lookup import IN_FLIGHT_S
from tbot_core.trading.orders import SUPPOSED_PREFIX, OrderRecord
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.risk.exposure import ExposureBook
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import KINDS, LOCAL, StateCause, TradingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


ACCOUNT = Account(account_id="A1", equity=Decimal(100_000), cash=Decimal(100_000), buying_power=Decimal(5000))
QUERIES = BrokerCapabilities(query_by_cid=True)


class Told:
    """A broker that shows what it is given: `shown` in turn, the last one for ever; None is a reading that failed."""

    def __init__(self, venue: BrokerCapabilities) -> None:
        self.capabilities = venue
        self.shown: list[AccountSnapshot | None] = [AccountSnapshot(account=ACCOUNT)]
        self.found: dict[str, OrderStatusReport] = {}
        self.deaf = False
        self.answer: BrokerError = OutcomeUnknown("time-out")
        self.meanwhile: Callable[[], None] = lambda: None
        self.readings = self.questions = 0
        self.cancels: list[str] = []

    async def connect(self) -> Account:
        """Log in."""
        return ACCOUNT

    async def account(self) -> Account:
        """The money, as the next of what it shows has it."""
        self.meanwhile()
        return ACCOUNT if self.shown[0] is None else self.shown[0].account

    def says(self, account: Account) -> None:
        """Let all that it shows be of this account."""
        self.shown = [None if one is None else attrs.evolve(one, account=account) for one in self.shown]

    async def submit(self, _order: Order, permit: Permit) -> None:
        """Take an order, and answer with an error."""
        permit.redeem()
        raise self.answer

    async def cancel(self, client_order_id: str) -> None:
        """Take a request."""
        self.cancels.append(client_order_id)

    async def replace(self, client_order_id: str, order: Order) -> None:
        """Take a request."""

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is streamed."""
        return ()

    async def find(self, client_order_id: str) -> OrderStatusReport | None:
        """What it knows of one order."""
        self.questions += 1
        if self.deaf:
            raise Unavailable("no way")
        return self.found.get(client_order_id)

    async def snapshot(self, since: datetime) -> AccountSnapshot:
        """The next of what it shows."""
        assert since < session().open
        self.readings += 1
        self.meanwhile()
        shown = self.shown.pop(0) if len(self.shown) > 1 else self.shown[0]
        if shown is None:
            raise Unavailable("no way")
        return shown

    async def close(self) -> None:
        """Log out."""


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value}" + (f" {attempt}" if attempt > 1 else "")


class Bench:
    """A desk whose orders are never answered, and somebody who looks after them."""

    def __init__(self, journal: Journal, venue: BrokerCapabilities = QUERIES, splits: Path | None = None) -> None:
        self.journal = journal
        self.broker = Told(venue)
        self.clock = ManualClock(session().open)
        self.desk = DecisionEngine(rules(venue=venue), session(), atoms_of(Decimal(100_000)), name)
        venue_told = BrokerAccount(broker=self.broker, name="told", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), venue_told, self.desk)
        self.conditions = TradingStateController(self.execution.recorder, self._impose, TradingState())
        self.tender = Reconciler(self.execution, self.desk, self.conditions, splits)

    def _impose(self, state: RiskState) -> None:
        self.desk.exposure.imposed_state = state

    def enter(self) -> Order:
        """Send the entry of AAA, which is not answered."""
        asyncio.run(self.execution.execute(MinuteCommands(decisions=self.desk.decide([proposal()]))))
        return self.execution.tickets["AAA entry"].order

    def hold(self) -> Order:
        """The entry of AAA, known to be filled."""
        entry = self.enter()
        self.broker.found["AAA entry"] = report(entry, "fill", "7")
        self.broker.shown = [reading(report(entry, "fill", "7"), AAA="7")]
        self.later(IN_FLIGHT_S + 1)
        assert self.desk.portfolio.holdings == {"AAA": 7_000_000}
        return entry

    def read(self) -> ReconciliationStatus | None:
        """Read the account."""
        return asyncio.run(self.tender.read())

    def judge(self) -> None:
        """Read the account, ask for the orders that have ended, and read it again."""
        self.read()
        self.later(1)
        self.read()

    def later(self, seconds: float) -> None:
        """Some time passes, then a round is made."""
        asyncio.run(self.clock.sleep(seconds))
        asyncio.run(self.tender.run_once())

    def outlast(self) -> None:
        """The broker goes on to show the same, for as long as it may contradict the books without an explanation."""
        for _ in range(int(CONTRADICTED_S / APART_S) + 4):  # the first readings wait for look-ups
            self.later(APART_S)

    def count(self, kind: str) -> int:
        """How many events of a kind are in the journal."""
        return len(list(self.journal.events(kind=kind)))

    @property
    def record(self) -> OrderRecord:
        """What is known of the entry."""
        return self.execution.tickets["AAA entry"].record

    @property
    def state(self) -> OrderState:
        """The entry's state."""
        return self.record.state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench at a broker that can be asked for one order."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Bench(journal, splits=tmp_path / "splits.csv")


def report(of: Order, kind: str = "acknowledged", filled: str = "0") -> OrderStatusReport:
    """What the broker knows of an order."""
    fills = (fill(of, "100", filled),) if Decimal(filled) else ()
    return OrderStatusReport(
        client_order_id=of.client_order_id,
        broker_order_id="b1",
        kind=kind,
        symbol=of.symbol,
        buy=of.buy,
        quantity=of.quantity,
        time=session().open,
        filled=Decimal(filled),
        average_price=Decimal(100),
        fills=fills,
    )


def reading(*orders: OrderStatusReport, barrier: str = "", **held: str) -> AccountSnapshot:
    """All that the broker shows, with so many shares of each symbol."""
    holdings = tuple(PositionReport(symbol=symbol, quantity=Decimal(shares)) for symbol, shares in held.items())
    return AccountSnapshot(account=ACCOUNT, orders=orders, holdings=holdings, barrier=barrier)


def test_an_account_that_agrees_is_believed(bench: Bench) -> None:
    """Two like readings, or one with the venue's own mark; with them comes the buying power."""
    assert bench.read() is ReconciliationStatus.MATCHED
    assert (bench.broker.readings, bench.tender.has_read_account) == (2, True)
    assert bench.desk.exposure.funds.power_limit_atoms == atoms_of(Decimal(5000))
    bench.broker.shown = [reading(barrier="17")]
    assert bench.read() is ReconciliationStatus.MATCHED
    assert bench.broker.readings == 3


def test_f49_readings_that_go_on_to_differ_are_not_believed(bench: Bench) -> None:
    """A busy minute says nothing, neither good nor bad."""
    bench.broker.shown = [reading(AAA=str(shares)) for shares in range(1, 10)]
    assert bench.read() is None
    assert (bench.tender.has_read_account, bench.tender.external, bench.conditions.causes) == (False, {}, ())


def test_an_account_that_its_broker_restricts_is_entered_no_more(bench: Bench) -> None:
    """Exits go on; once the broker does not say so any more, and a clean reading has held a minute, it is entered."""
    bench.broker.shown = [attrs.evolve(reading(), account=attrs.evolve(ACCOUNT, restricted="margin call of 100 USD"))]
    bench.read()
    (told,) = bench.journal.events(kind=records.STATE)
    assert (told.payload["cause"], told.payload["words"]) == ("RESTRICTED", "margin call of 100 USD")
    assert refused(bench) == "EXIT_ONLY"
    bench.later(61)
    assert refused(bench) == "EXIT_ONLY"
    bench.broker.shown = [reading()]
    bench.read()
    assert bench.conditions.causes == (StateCause.RESTRICTED,)
    bench.later(61)
    assert refused(bench) == "ALLOWED"


def test_settled_cash_is_written_down_where_the_account_is_bound_to_it(bench: Bench) -> None:
    """Once, and again where a reading shows less; an account with margin, or another one, is not held to it."""
    cash = attrs.evolve(ACCOUNT, margin=False)
    for margin, dollars in ((True, 100_000), (False, 90_000), (False, 95_000), (False, 80_000)):
        said = attrs.evolve(cash, margin=margin, cash=Decimal(dollars))
        bench.broker.shown = [attrs.evolve(reading(), account=said)]
        bench.read()
    told = [one.facts(CashSettled) for one in bench.journal.events(kind=records.SETTLED)]
    assert [one.settled for one in told] == [Decimal(90_000), Decimal(80_000)]
    funds, portfolio = bench.desk.exposure.funds, bench.desk.portfolio
    funds.settled_atoms = None
    broker_account.recall_settled_cash(bench.desk, told[-1], "another")
    earlier = CashSettled(account="A1", session=date(2020, 1, 2), settled=Decimal(80_000))
    broker_account.recall_settled_cash(bench.desk, earlier, "A1")
    assert funds.settled_atoms is None
    broker_account.recall_settled_cash(bench.desk, told[-1], "A1")
    assert funds.available_atoms(portfolio) == atoms_of(Decimal(80_000))


def test_f17_a_reading_that_cannot_be_computed_with_has_failed(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A figure out of bounds, or an arithmetic error, ends no run and books nothing; the next reading counts again."""

    def overflow() -> None:
        _ = Decimal("1E+999999") * Decimal("1E+999999")

    huge = PositionReport(symbol="ZZZ", quantity=Decimal("1E+999999"), price=Decimal(10))
    bench.broker.shown = [attrs.evolve(reading(barrier="1"), holdings=(huge,))]
    assert bench.read() is None
    assert "PositionReport.quantity is 1E+999999" in caplog.text
    bench.broker.shown, bench.broker.meanwhile = [reading(barrier="1")], overflow
    assert bench.read() is None
    assert "cannot be computed with: Overflow" in caplog.text
    assert bench.count(records.FOREIGN_HOLDING) == 0
    bench.broker.meanwhile = lambda: None
    assert bench.read() is ReconciliationStatus.MATCHED


def test_f48_three_readings_that_failed_leave_exits_only(bench: Bench) -> None:
    """A failed reading is unknown, never flat; the state ends after a clean reconcile that held 60 s."""
    bench.broker.shown = [None]
    for causes in ((), (), (StateCause.UNKNOWN,)):
        assert bench.read() is None
        assert bench.conditions.causes == causes
    assert bench.desk.exposure.current_state is RiskState.EXIT_ONLY
    bench.broker.shown = [reading(barrier="1")]
    bench.read()
    assert bench.conditions.causes == (StateCause.UNKNOWN,)
    bench.later(61)
    assert bench.desk.exposure.imposed_state.word == "normal"
    assert not recall_states(bench.journal.events()).causes


@pytest.mark.parametrize("whole", [True, False], ids=["all of it", "the account alone"])
def test_a_sale_that_crosses_a_reading_costs_a_cash_account_nothing(bench: Bench, *, whole: bool) -> None:
    """What had settled stays as it was, in the journal too, and the next reading is right again."""
    protected(bench)
    cash = attrs.evolve(ACCOUNT, margin=False, cash=Decimal(99_300))
    stop, funds = bench.execution.tickets["AAA stop"].order, bench.desk.exposure.funds
    bench.broker.says(cash)
    bench.read()
    assert funds.settled_atoms == atoms_of(Decimal(100_000))

    def sell() -> None:
        bench.broker.meanwhile = lambda: None
        hears(bench, "fill", "AAA stop", fill(stop, "100", "7"))

    bench.broker.meanwhile = sell
    asyncio.run(bench.tender.read() if whole else bench.execution.read_account())
    bench.broker.shown = [reading(report(stop, "fill", "7"))]
    bench.broker.says(attrs.evolve(cash, cash=Decimal(100_000)))
    bench.read()
    assert funds.available_atoms(bench.desk.portfolio) == atoms_of(Decimal(99_300))
    assert [*bench.journal.events(kind=records.SETTLED)][-1].payload["settled"] == "100000.00"


def test_a_purchase_that_the_account_shows_before_the_books_costs_a_cash_account_nothing_else(bench: Bench) -> None:
    """Cash without its price, held against books without the purchase, would take it twice."""
    cash = attrs.evolve(ACCOUNT, margin=False, day_trades=1)
    bench.broker.says(cash)
    bench.read()
    entry, funds = bench.enter(), bench.desk.exposure.funds
    bench.broker.shown = [attrs.evolve(reading(AAA="7"), account=attrs.evolve(cash, cash=Decimal(99_300)))]
    bench.later(31)
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    for _ in range(3):
        bench.later(11)
    assert bench.desk.portfolio.holdings == {"AAA": 7 * UNITS_PER_SHARE}
    assert (funds.available_atoms(bench.desk.portfolio), funds.day_trades) == (atoms_of(Decimal(99_300)), 1)


@pytest.mark.parametrize("unread", [True, False], ids=["nobody has read it since", "its entry is open"])
def test_a_purchase_that_a_restart_does_not_know_yet_costs_a_cash_account_nothing_else(
    bench: Bench, *, unread: bool
) -> None:
    """The money with which a session goes on comes without holdings that could be held against the books."""
    cash = attrs.evolve(ACCOUNT, margin=False)
    bench.broker.says(cash)
    bench.read()
    entry, funds = bench.enter(), bench.desk.exposure.funds
    if unread:
        hears(bench, "cancelled")
        bench.desk.exposure.account_unread = True
    bench.broker.shown = [attrs.evolve(reading(AAA="7"), account=attrs.evolve(cash, cash=Decimal(99_300)))]
    asyncio.run(bench.execution.read_account())
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    hears(bench, "fill", told=fill(entry, "100", "7"))
    for _ in range(3):
        bench.later(31)
    assert bench.desk.portfolio.holdings == {"AAA": 7 * UNITS_PER_SHARE}
    assert funds.available_atoms(bench.desk.portfolio) == atoms_of(Decimal(99_300))


def test_f2_an_order_in_doubt_is_settled_by_its_report(bench: Bench) -> None:
    """F2: the answer was lost after acceptance; the query finds it, one order in all, and its fill is booked once."""
    entry = bench.enter()
    bench.broker.found["AAA entry"] = report(entry)
    bench.broker.shown = [reading(report(entry))]
    bench.later(0)
    assert bench.state is OrderState.NEW
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    bench.broker.shown = [reading(report(entry, "fill", "7"), AAA="7")]
    bench.later(60)
    bench.later(60)
    assert bench.state.value == "filled"
    assert bench.count("fill") == 1
    assert bench.tender.external == {}


def test_a_doubt_is_looked_up_more_and_more_rarely(bench: Bench) -> None:
    """From half a second to a minute; a question that is not answered is no answer."""
    bench.read()
    bench.enter()
    bench.broker.deaf = True
    bench.broker.shown = [reading(barrier="1")]
    for seconds, questions in ((0.0, 1), (0.4, 1), (0.2, 2), (0.9, 2), (0.2, 3), (1.9, 3), (0.2, 4)):
        bench.later(seconds)
        assert bench.broker.questions == questions
    assert bench.state is OrderState.UNKNOWN


def test_f1_an_order_that_is_nowhere_is_given_up_after_the_venues_window(bench: Bench) -> None:
    """Query and list agree that they do not know it; before ten minutes it is in doubt, then lost, and reserved."""
    bench.enter()
    for _ in range(9):
        bench.later(LEAST_WINDOW_S / 10)
    assert bench.state is OrderState.UNKNOWN
    for _ in range(3):
        bench.later(LEAST_WINDOW_S / 10)
    assert bench.state.value == "lost"
    assert list(bench.desk.exposure.working) == ["AAA entry"]
    assert bench.count(records.LOST) == 1


def test_an_order_that_was_given_up_delays_no_statement(bench: Bench) -> None:
    """It explains no difference any more: the day's end need not wait for it."""
    bench.broker.shown = [with_cash("100000")]
    bench.read()
    bench.enter()
    for _ in range(12):
        bench.later(LEAST_WINDOW_S / 10)
    assert bench.state is OrderState.LOST
    began = bench.clock.monotonic()
    asyncio.run(bench.tender.close())
    assert bench.count(records.STATEMENT) == 2
    assert bench.clock.monotonic() - began < 60


def test_without_a_query_the_list_is_asked(tmp_path: Path) -> None:
    """Where one order cannot be asked for, a reading is made at once, and its lists are the only source."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, BrokerCapabilities())
        entry = bench.enter()
        bench.broker.shown = [reading(report(entry))]
        bench.later(0)
        assert (bench.state, bench.broker.questions) == (OrderState.NEW, 0)
        bench.broker.shown = [reading()]
        bench.later(60)
        assert bench.state.value == "unknown"
        assert bench.count(records.ORDER_NOT_FOUND) == 1


def test_an_order_that_lists_lack_twice_works_once_they_have_it_again(tmp_path: Path) -> None:
    """Each time that it is listed again its doubt ends, though the reports are the same."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, BrokerCapabilities())
        entry = bench.enter()
        for _ in range(2):
            bench.broker.shown = [reading(report(entry))]
            bench.later(60)
            assert bench.state.value == "new"
            bench.broker.shown = [reading()]
            bench.later(60)
            assert bench.state.value == "unknown"


def test_an_order_that_was_called_unprocessed_and_works_is_counted_and_cancelled(bench: Bench) -> None:
    """A broker that processed what it answered with 429: two sources show the dropped order, and it is cancelled."""
    bench.broker.answer = Rejected("429 too many requests", meaning=RejectionMeaning.RATE_LIMITED)
    entry = bench.enter()
    assert bench.state is OrderState.DROPPED
    bench.broker.found["AAA entry"] = report(entry)
    bench.broker.shown = [reading(report(entry))]
    bench.later(IN_FLIGHT_S + 1)
    for _ in range(2):
        bench.read()
    assert bench.broker.cancels[:1] == ["AAA entry"]
    assert bench.desk.exposure.gross() > 0


def test_a_fill_of_an_order_that_was_called_unprocessed_is_booked(bench: Bench) -> None:
    """It is ours, not foreign, and in the books after two agreeing readings."""
    bench.broker.answer = Rejected("429 too many requests", meaning=RejectionMeaning.RATE_LIMITED)
    entry = bench.enter()
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    bench.broker.shown = [reading(report(entry, "fill", "7"), AAA="7")]
    bench.later(IN_FLIGHT_S + 1)
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}
    assert not bench.tender.external


def test_f20_f47_what_belongs_to_somebody_else_is_named_once_and_left_alone(bench: Bench) -> None:
    """Foreign orders and shares: written down, counted, and no news when they are seen again."""
    foreign = attrs.evolve(report(bench.hold()), client_order_id="", symbol="ZZZ", broker_order_id="b9")
    bench.broker.shown = [reading(foreign, AAA="7", ZZZ="-5")]
    for _ in range(2):
        bench.read()
    assert bench.tender.external == {"ZZZ": Decimal(-5)}
    assert (bench.count(records.FOREIGN_ORDER), bench.count(records.FOREIGN_HOLDING)) == (1, 1)
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}


def test_f47_what_belongs_to_somebody_else_counts_in_exposure(bench: Bench) -> None:
    """Shares and open orders, at the price that the reading says, until they are gone; nothing is entered beyond it."""
    entry = order(quantity="10", symbol="YYY", buy=False)
    resting = attrs.evolve(report(entry), client_order_id="", filled=Decimal(4))
    held = PositionReport(symbol="ZZZ", quantity=Decimal(-800), average_price=Decimal(20))
    sold = PositionReport(symbol="YYY", quantity=Decimal(0), price=Decimal(50))
    bench.broker.shown = [attrs.evolve(reading(resting), holdings=(held, sold))]
    bench.judge()
    assert bench.desk.exposure.gross() == atoms_of(Decimal(16_000 + 6 * 50))
    denied = bench.desk.preview(proposal())
    assert (denied.reason, denied.limit) == (Reason.GROSS_EXPOSURE, Decimal(10_000))
    assert [event.payload["price"] for event in bench.journal.events(kind=records.FOREIGN_HOLDING)] == ["20"]
    bench.broker.shown = [reading()]
    bench.judge()
    assert (bench.desk.exposure.gross(), bench.desk.preview(proposal()).reason) == (0, Reason.ALLOWED)


def test_foreign_shares_without_a_price_count_from_the_first_close(bench: Bench) -> None:
    """The event says that no price is known; a signal on the symbol is one, so it is not entered on top of them."""
    bench.broker.shown = [reading(AAA="950")]
    bench.judge()
    assert [event.payload["price"] for event in bench.journal.events(kind=records.FOREIGN_HOLDING)] == [None]
    assert bench.desk.exposure.gross() == 0
    assert bench.desk.decide([proposal("BBB"), proposal("AAA", 26)])[1].reason is Reason.SYMBOL_EXPOSURE
    assert bench.desk.exposure.external.gross == atoms_of(Decimal(95_000))
    bench.desk.mark(SessionDraft("AAA", price=50.0).bars(), 26)
    assert bench.desk.exposure.external.gross == atoms_of(Decimal(47_500))


@pytest.mark.parametrize(("theirs", "ours", "foreign"), [("3", 3, "0"), ("0", 0, "0"), ("-2", 0, "-2"), ("9", 7, "2")])
@pytest.mark.parametrize("known", ["its order is listed", "its execution was reported", "nothing explains it"])
def test_f46_what_somebody_took_from_a_position_is_adjusted(
    bench: Bench, theirs: str, ours: int, foreign: str, known: str
) -> None:
    """At once if an order or an execution explains it, else after three minutes: less is left, the rest is foreign."""
    bench.hold()
    change = Decimal(theirs) - 7
    by_hand = attrs.evolve(report(order(quantity="20"), "fill"), client_order_id="", broker_order_id="b9")
    by_hand = attrs.evolve(by_hand, buy=change > 0, quantity=abs(change), filled=abs(change))
    bench.broker.shown = [reading(*((by_hand,) if known == "its order is listed" else ()), AAA=theirs)]
    if known == "its execution was reported":
        of = attrs.evolve(order(), client_order_id="", buy=change > 0)
        hears(bench, "fill", "", fill(of, "100", str(abs(change))))
    bench.judge()
    if known == "nothing explains it":
        bench.later(CONTRADICTED_S / 2)
        assert (bench.count(records.ADJUSTMENT), bench.tender.external, bench.conditions.causes) == (0, {}, ())
        bench.outlast()
    assert bench.desk.portfolio.holdings.get("AAA", 0) == ours * 1_000_000
    assert bench.tender.external.get("AAA", Decimal(0)) == Decimal(foreign)
    adjusted = int(ours != 7)
    assert bench.count(records.ADJUSTMENT) == adjusted
    assert bench.conditions.causes == (StateCause.MISMATCH,) * adjusted
    bench.read()
    assert bench.count(records.ADJUSTMENT) == adjusted


@pytest.mark.parametrize("booked", [False, True])
def test_i15_a_restart_knows_what_somebody_else_executed(bench: Bench, *, booked: bool) -> None:
    """What was reported before it explains a difference after it, unless the books contain it already."""
    bench.hold()
    bench.broker.shown = [reading(AAA="3")]
    hears(bench, "fill", "", fill(attrs.evolve(order(), client_order_id="", buy=False), "100", "4"))
    if booked:
        bench.judge()
    assert bench.count(records.ADJUSTMENT) == booked
    _, execution = recalled(bench)
    difference = PositionDifference(symbol="AAA", ours=Decimal(7), theirs=Decimal(3))
    expected = Judgment.DISPUTED if booked else Judgment.EXPLAINED
    assert execution.contradictions.judge(difference, bench.clock.monotonic() + APART_S) is expected


def test_a_difference_that_an_order_in_flight_may_explain_waits(bench: Bench) -> None:
    """Shares may have come of an order whose outcome is not known: nothing is called foreign or adjusted."""
    bench.enter()
    bench.broker.shown = [reading(AAA="7")]
    bench.read()
    assert (bench.tender.external, bench.count(records.FOREIGN_HOLDING)) == ({}, 0)


def valued(shares: str, price: str, symbol: str = "AAA") -> PositionReport:
    """So many shares, and the last price that the reading says of them."""
    return PositionReport(symbol=symbol, quantity=Decimal(shares), price=Decimal(price))


def test_foreign_shares_count_while_an_order_of_their_symbol_is_in_doubt(bench: Bench) -> None:
    """A foreign buy that fills meanwhile is foreign, and leaves no more room than it did while it was open."""
    bench.enter()
    resting = attrs.evolve(report(order(quantity="90")), client_order_id="", broker_order_id="b9")
    filled = attrs.evolve(resting, kind="fill", filled=Decimal(90))
    for theirs, shares in ((resting, "0"), (filled, "90"), (filled, "90")):
        bench.broker.shown = [attrs.evolve(reading(theirs, barrier="1"), holdings=(valued(shares, "100"),))]
        bench.later(60)
        assert (bench.state, bench.count(records.FOREIGN_HOLDING)) == (OrderState.UNKNOWN, 0)
        assert bench.desk.exposure.external.gross == atoms_of(Decimal(9000))
        assert bench.desk.preview(proposal("BBB")).reason is Reason.GROSS_EXPOSURE
    bench.later(LEAST_WINDOW_S)
    bench.later(60)
    assert (bench.state.value, bench.tender.external) == ("lost", {"AAA": Decimal(90)})
    assert bench.desk.exposure.external.gross == atoms_of(Decimal(9000))


def test_a_difference_that_was_explained_by_our_order_counts_no_more(bench: Bench) -> None:
    """Until it is settled, the shares count besides what is reserved for it; then they are ours alone."""
    entry = bench.enter()
    shown = attrs.evolve(reading(barrier="1"), holdings=(valued("7", "100"),))
    bench.broker.shown = [shown]
    bench.later(0)
    assert bench.desk.exposure.external.gross == atoms_of(Decimal(700))
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    bench.broker.shown = [attrs.evolve(shown, orders=(report(entry, "fill", "7"),))]
    bench.later(60)
    assert (bench.desk.exposure.external.gross, bench.tender.external) == (0, {})


def said(kind: str, of: Order, filled: str = "") -> BrokerEvent:
    """What the stream says of an order."""
    done = fill(of, "100", filled) if filled else None
    return BrokerEvent(
        kind=kind, event_id=f"{kind} {of.client_order_id} {filled}", client_order_id=of.client_order_id, fill=done
    )


def test_f26_a_fill_that_was_never_told_is_asked_for(bench: Bench) -> None:
    """An order that works and is listed no more is looked up; until then its shares have no owner."""
    entry = bench.enter()
    bench.execution.apply_events([said("acknowledged", entry), *(said("cancelled", part) for part in entry.protection)])
    bench.later(IN_FLIGHT_S + 1)
    bench.broker.found["AAA entry"] = report(entry, "fill", "7")
    bench.broker.shown = [reading(AAA="7")]
    bench.read()
    assert (bench.tender.external, bench.count(records.ADJUSTMENT)) == ({}, 0)
    bench.later(1)
    assert bench.state.value == "filled"
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}
    bench.read()
    assert (bench.tender.external, bench.conditions.causes) == ({}, ())


def test_f26_a_fill_that_a_list_shows_is_booked_at_once(bench: Bench) -> None:
    """Its stop waits neither for a second reading nor for a look-up, which may be behind the list."""
    entry = bench.enter()
    hears(bench, "acknowledged")
    bench.broker.found["AAA entry"] = report(entry)
    bench.broker.shown = [reading(report(entry, filled="4"), AAA="4"), None]
    assert bench.read() is None
    assert bench.desk.portfolio.holdings == {"AAA": 4_000_000}


def test_f26_a_fill_that_was_never_told_is_among_the_executions(tmp_path: Path) -> None:
    """Where neither closed orders are listed nor one can be asked for, the account's executions tell it."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, BrokerCapabilities(lists_fills=True))
        entry = bench.enter()
        bench.execution.apply_events([said("acknowledged", entry)])
        bench.broker.shown = [attrs.evolve(reading(AAA="7"), fills=(fill(entry, "100", "7"),))]
        bench.later(IN_FLIGHT_S + 1)
        bench.read()
        assert (bench.state.value, bench.tender.external, bench.count("fill")) == ("filled", {}, 1)


@pytest.mark.parametrize(("known", "foreign"), [(True, {}), (False, {"AAA": Decimal(3)})])
def test_f26_an_order_that_ended_short_is_asked_for_once(bench: Bench, known: bool, foreign: object) -> None:
    """Its last fill may have been lost before the word of its end; what lasts without it is somebody else's."""
    entry = bench.enter()
    bench.execution.apply_events([said("cancelled", part) for part in (entry, *entry.protection)])
    if known:
        bench.broker.found["AAA entry"] = report(entry, "cancelled", "3")
    bench.broker.shown = [reading(AAA="3")]
    bench.read()
    assert bench.tender.external == {}
    for _ in range(2):  # once for the answer that never came, once for the shares
        bench.later(1)
        bench.read()
    bench.outlast()
    assert bench.tender.external == foreign
    assert bench.desk.portfolio.holdings == ({"AAA": 3_000_000} if known else {})
    questions = bench.broker.questions
    bench.later(120)
    assert bench.broker.questions == questions


def test_f26_an_order_that_was_filled_whole_is_asked_for_once(bench: Bench) -> None:
    """It may have filled beyond what was ordered, and that word may be lost: what was sold too much is ours."""
    stop = protected(bench)
    hears(bench, "fill", "AAA stop", told=fill(stop, "100", "7"))
    bench.broker.found["AAA stop"] = report(stop, "fill", "12")
    bench.broker.shown = [reading(AAA="-5")]
    bench.judge()
    assert bench.desk.portfolio.holdings == {"AAA": -5_000_000}
    assert (bench.tender.external, bench.count(records.ADJUSTMENT)) == ({}, 0)


def test_f26_the_closing_statement_knows_what_was_never_told(bench: Bench) -> None:
    """What the last reading leaves open is asked for before the day is stated: its cash is explained."""
    entry = bench.enter()
    bench.broker.shown = [with_cash("100000")]
    bench.read()
    bench.execution.apply_events([said("cancelled", part) for part in (entry, *entry.protection)])
    bench.broker.found["AAA entry"] = report(entry, "cancelled", "3")
    money = attrs.evolve(ACCOUNT, cash=Decimal(99_700))
    bench.broker.shown = [attrs.evolve(reading(AAA="3"), account=money)]
    asyncio.run(bench.tender.close())
    assert bench.count(records.STATEMENT) == 2
    assert "adjustments" not in ledger_of(bench.journal.events()).balances
    assert bench.conditions.causes == ()


def test_a_fill_that_is_heard_while_the_account_is_read_is_no_difference(bench: Bench) -> None:
    """A reading shows the moment before: what was booked since is neither foreign nor closed by somebody else."""
    entry = bench.enter()
    bench.execution.apply_events([said("acknowledged", entry)])
    bench.later(IN_FLIGHT_S + 1)
    bench.broker.shown = [reading(report(entry), barrier="1")]
    bench.broker.meanwhile = lambda: bench.execution.apply_events([said("fill", entry, "7")])
    bench.read()
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}
    assert (bench.tender.external, bench.count(records.ADJUSTMENT)) == ({}, 0)


def test_a_fill_is_no_difference_also_where_ended_orders_are_not_looked_up(tmp_path: Path) -> None:
    """A broker that lists closed orders is asked for none of them: what the books gained meanwhile explains it."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, attrs.evolve(QUERIES, lists_closed=True))
        entry = bench.enter()
        bench.execution.apply_events([said("acknowledged", entry)])
        bench.later(IN_FLIGHT_S + 1)
        bench.broker.shown = [reading(report(entry), barrier="1")]
        bench.broker.meanwhile = lambda: bench.execution.apply_events([said("fill", entry, "7")])
        bench.read()
        assert (bench.desk.portfolio.holdings, bench.count(records.ADJUSTMENT)) == ({"AAA": 7_000_000}, 0)


def test_a_fill_of_an_order_that_left_just_now_is_no_difference(bench: Bench) -> None:
    """A reading need not list an order that is so young; its shares wait for the next one."""
    bench.execution.apply_events([said("acknowledged", bench.enter())])
    bench.broker.shown = [reading(barrier="1", AAA="7")]
    bench.read()
    assert bench.tender.external == {}


def test_a_reading_need_not_list_an_order_that_left_just_now(tmp_path: Path) -> None:
    """Its venue may be behind: the order keeps its state, and is missed by a later reading."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, BrokerCapabilities())
        bench.execution.apply_events([said("acknowledged", bench.enter())])
        bench.broker.shown = [reading(barrier="1")]
        bench.read()
        assert (bench.state, bench.count(records.ORDER_NOT_FOUND)) == (OrderState.NEW, 0)
        bench.later(IN_FLIGHT_S + 60)
        assert (bench.state, bench.count(records.ORDER_NOT_FOUND)) == (OrderState.UNKNOWN, 1)


def paid(name: str, kind: str, cash: str) -> AccountActivity:
    """What moved money without an order."""
    return AccountActivity(activity_id=name, kind=kind, time=session().open, cash=Decimal(cash))


def with_cash(cash: str, *activities: AccountActivity) -> AccountSnapshot:
    """An account with this cash and nothing else, where these were paid."""
    return attrs.evolve(reading(barrier=cash), account=attrs.evolve(ACCOUNT, cash=Decimal(cash)), activities=activities)


def test_f45_dividends_and_fees_are_booked_once_and_the_ledger_has_the_brokers_cash(bench: Bench) -> None:
    """Each once, however often it is listed; what was paid before the first reading is in its cash already."""
    fee, dividend = paid("a1", "fee", "-2.50"), paid("a2", "dividend", "10")
    bench.broker.shown = [with_cash("99997.50", fee), with_cash("100007.50", fee, dividend)]
    bench.read()
    bench.read()
    bench.read()
    asyncio.run(bench.tender.close())
    found = ledger_of(bench.journal.events())
    assert (bench.count(records.ACTIVITY), bench.count(records.STATEMENT)) == (2, 2)
    assert found.cash == Decimal("100007.50")
    assert found.balances["dividends"] == -10
    assert "adjustments" not in found.balances
    assert bench.conditions.causes == ()


def test_f45_a_transfer_is_no_profit(bench: Bench) -> None:
    """A deposit moves the ledger's cash and the account's, and not what tbot has earned today."""
    bench.broker.shown = [with_cash("100000"), with_cash("150000", paid("a1", "transfer", "50000"))]
    bench.read()
    bench.read()
    found = ledger_of(bench.journal.events())
    assert (found.cash, found.balances["transfers"]) == (Decimal(150_000), Decimal(-50_000))
    assert bench.desk.portfolio.pnl_atoms == 0


def test_i5_cash_that_nothing_explains_is_said_aloud(bench: Bench) -> None:
    """The day's last reading has more than the ledger: an adjustment with its cause, and exits only for a minute."""
    bench.broker.shown = [*2 * [with_cash("100000")], with_cash("100000.01")]
    bench.read()
    asyncio.run(bench.tender.close())
    found = ledger_of(bench.journal.events())
    assert (found.cash, found.balances["adjustments"]) == (Decimal("100000.01"), Decimal("-0.01"))
    assert bench.conditions.causes == (StateCause.MISMATCH,)
    (said,) = [event.payload["words"] for event in bench.journal.events(kind=records.STATE) if event.payload["there"]]
    assert said == "cash: 0.01 USD unexplained"


def test_one_reading_alone_states_nothing_that_the_ledger_does_not_have(bench: Bench) -> None:
    """An absurd amount is read again before it is booked, at the day's start and at its end."""
    absurd, right = with_cash("100000000"), with_cash("100000")
    bench.broker.shown = [absurd, *3 * [right], absurd, right]
    bench.read()
    asyncio.run(bench.tender.close())
    found = ledger_of(bench.journal.events())
    assert found.cash == Decimal(100_000)
    assert not found.balances.get("adjustments")
    assert bench.count(records.STATEMENT) == 2


def test_the_days_statement_needs_an_account_that_could_be_read(bench: Bench) -> None:
    """A reading that fails is told to the caller, and states nothing."""
    bench.broker.shown = [with_cash("100000")]
    bench.read()
    bench.broker.shown = [None, with_cash("100000")]
    assert not asyncio.run(bench.tender.close())
    assert bench.count(records.STATEMENT) == 1
    assert asyncio.run(bench.tender.close())
    assert bench.count(records.STATEMENT) == 2


def test_nothing_is_stated_while_an_order_is_in_doubt(bench: Bench) -> None:
    """It may be what makes the difference; and a restart on the same day states nothing again."""
    bench.broker.shown = [with_cash("100000")]
    bench.read()
    bench.enter()
    asyncio.run(bench.tender.close())
    assert bench.count(records.STATEMENT) == 1
    again = Reconciler(bench.execution, bench.desk, bench.conditions)
    asyncio.run(again.read())
    assert bench.count(records.STATEMENT) == 1


def test_causes_are_written_down_and_recalled(bench: Bench) -> None:
    """What came, went, lingered and ended is in the journal; a restart has the same causes."""
    for cause in (StateCause.KILL_COMMAND, StateCause.DISK_LOW, StateCause.DISK_LOW, StateCause.HALF_LOSS):
        bench.conditions.raise_cause(cause)
    bench.conditions.clear_cause(StateCause.KILL_COMMAND, "requested by ann")
    bench.conditions.clear_cause(StateCause.DISK_LOW)
    bench.conditions.clear_cause(StateCause.STOP_FILE)
    assert bench.count(records.STATE) == 5
    again = recall_states(bench.journal.events())
    assert again.causes == bench.conditions.causes == (StateCause.DISK_LOW, StateCause.HALF_LOSS)
    assert bench.conditions.state is again.state is RiskState.EXIT_ONLY
    opening = NewEvent(kind=records.SESSION_OPENED, payload={}, time=bench.execution.recorder.clock.now())
    bench.execution.recorder.write(opening)
    assert recall_states(bench.journal.events()).causes == (StateCause.DISK_LOW,)


def hears(
    bench: Bench,
    kind: str,
    cid: str = "AAA entry",
    told: Fill | None = None,
    words: str = "",
    meaning: RejectionMeaning | None = None,
) -> None:
    """The broker's stream says something."""
    event = BrokerEvent(
        kind=kind, event_id=f"{kind} {bench.journal.head[0]}", client_order_id=cid, fill=told, words=words
    )
    bench.execution.apply_events([attrs.evolve(event, meaning=meaning)])


def proposed(bench: Bench) -> Order:
    """An entry that has not left."""
    (decision,) = bench.desk.decide([proposal()])
    assert decision.order is not None
    return decision.order


def frozen_symbols(bench: Bench) -> frozenset[str]:
    """The symbols that are frozen."""
    return bench.desk.exposure.holds.symbols(Hold.FROZEN)


def frozen(bench: Bench) -> list[bool]:
    """Each time that an instrument was frozen (True) or free again."""
    return [event.payload["there"] for event in bench.journal.events(kind=records.FROZEN)]


def leaves(bench: Bench) -> list[Order]:
    """The exits that a stop of the bot asks for."""
    bench.desk.position_manager.exits.flatten()
    actions = bench.desk.position_manager.orders_after_minute(SessionDraft("AAA").bars(), 60)
    asyncio.run(bench.execution.execute(MinuteCommands(actions=actions)))
    return [one.order for one in bench.execution.tickets.values() if one.order.leg is Leg.EXIT]


def refused(bench: Bench) -> str:
    """Why a signal on AAA is not entered."""
    return bench.desk.preview(proposal(strategy="mid")).reason.name


def test_f30_an_id_that_is_used_again_freezes_its_instrument_until_a_reading_has_settled_it(bench: Bench) -> None:
    """Both facts are in the journal, nothing is entered or closed meanwhile, and what was filled is booked then."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    second = attrs.evolve(fill(entry, "100.02", "4"), time=first.time + timedelta(seconds=5))
    hears(bench, "fill", told=first)
    hears(bench, "fill", told=second)
    assert bench.desk.portfolio.holdings == {"AAA": 3_000_000}
    (again,) = bench.journal.events(kind=records.EXECUTION_REUSED)
    assert (again.payload["quantity"], again.payload["price"]) == ("4", "100.02")
    assert refused(bench) == "INSTRUMENT_FROZEN"
    assert leaves(bench) == []
    said = attrs.evolve(report(entry, "fill", "7"), fills=(first, second))
    stop = report(bench.execution.tickets["AAA stop"].order)
    bench.broker.found = {"AAA entry": said, "AAA stop": stop}
    bench.broker.shown = [reading(said, stop, AAA="7")]
    bench.later(IN_FLIGHT_S + 1)
    bench.later(10.0)
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}
    assert bench.desk.portfolio.in_symbol("AAA")[0].entry_atoms == 3_000_000 * 1_000_000 + 4_000_000 * 1_000_200
    assert frozen(bench) == [True, False]
    assert refused(bench) != "INSTRUMENT_FROZEN"


@pytest.mark.parametrize("asked_s", [IN_FLIGHT_S + 1, QUERIES.list_lag_s + 1], ids=["too soon", "later"])
def test_f30_what_may_be_behind_does_not_settle_an_id_that_is_used_again(bench: Bench, asked_s: float) -> None:
    """Neither a look-up nor a reading without the execution, before the lists must have it."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    hears(bench, "fill", told=first)
    hears(bench, "fill", told=attrs.evolve(fill(entry, "100.02", "2"), time=first.time + timedelta(seconds=5)))
    before = attrs.evolve(report(entry, filled="3"), fills=(first,))
    bench.broker.found, bench.broker.shown = {"AAA entry": before}, [reading(before, AAA="3")]
    bench.later(asked_s)
    is_settled = asked_s > QUERIES.list_lag_s
    assert bench.execution.tickets["AAA entry"].must_look_up is not is_settled
    assert frozen(bench) == ([True, False] if is_settled else [True])


def test_f30_the_same_words_on_an_execution_are_no_other_one(bench: Bench) -> None:
    """Told once more, or by a channel whose clock is less exact, it changes nothing."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    for late in (0.0, 0.4):
        hears(bench, "fill", told=attrs.evolve(first, time=first.time + timedelta(seconds=late)))
    assert frozen(bench) == []
    hears(bench, "corrected", told=attrs.evolve(first, price=Decimal(99)))
    hears(bench, "fill", told=attrs.evolve(first, price=Decimal(99)))
    assert frozen(bench) == []


def test_f30_an_id_of_another_order_is_booked_as_soon_as_its_own_order_says_so(tmp_path: Path) -> None:
    """Where ids are unique by the broker's word, the second order's execution gets an id of its own."""
    with closing(open_journal(tmp_path / "other.sqlite")) as journal:
        bench = Bench(journal, attrs.evolve(QUERIES, exec_ids_unique=True))
        other = attrs.evolve(fill(bench.enter(), "99", "1"), client_order_id="BBB entry", symbol="BBB")
        hears(bench, "fill", "BBB entry", other)
        entry = bench.execution.tickets["AAA entry"].order
        said = report(entry, "fill", "7")
        bench.broker.found["AAA entry"] = said
        hears(bench, "fill", told=fill(entry, "100", "7"))
        assert (frozen(bench), bench.desk.portfolio.holdings) == ([True], {})
        bench.broker.shown = [reading(said, AAA="7", BBB="1")]
        bench.later(IN_FLIGHT_S + 1)
        assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}


@pytest.mark.parametrize("void", [0, 1])
@pytest.mark.parametrize("settled", [True, False])
def test_f29_f30_of_two_executions_under_one_id_the_terms_say_which_is_void(
    bench: Bench, void: int, *, settled: bool
) -> None:
    """The other one stays in the books, whether a reading has booked the second before or not."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    pair = first, attrs.evolve(fill(entry, "100.02", "4"), time=first.time + timedelta(seconds=5))
    for one in pair:
        hears(bench, "fill", told=one)
    if settled:
        both = attrs.evolve(report(entry, "acknowledged", "7"), fills=pair)
        bench.execution.apply_events(tuple(events_from_report(bench.record, both)), read=True)
    hears(bench, "busted", told=pair[void])
    kept = pair[1 - void]
    after = attrs.evolve(report(entry, "acknowledged", str(kept.quantity)), fills=(kept,))
    bench.execution.apply_events(tuple(events_from_report(bench.record, after)), read=True)
    assert bench.record.filled == kept.quantity
    assert bench.desk.portfolio.holdings == {"AAA": int(kept.quantity) * 1_000_000}
    assert ledger_of(bench.journal.events()).holdings == {"AAA": kept.quantity}
    assert not any(one.startswith(SUPPOSED_PREFIX) for one in bench.record.executions)


def test_f29_f30_a_bust_in_one_breath_with_the_execution_that_it_means(bench: Bench) -> None:
    """What takes an execution back is understood when what was said just before it is known."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    second = attrs.evolve(fill(entry, "100.02", "4"), time=first.time + timedelta(seconds=5))
    bench.execution.apply_events(
        [
            BrokerEvent(kind=kind, event_id=f"e{place}", client_order_id="AAA entry", fill=one)
            for place, (kind, one) in enumerate((("fill", first), ("fill", second), ("busted", second)))
        ]
    )
    assert bench.record.filled == first.quantity


def test_f29_f30_a_correction_has_the_time_of_the_execution_that_it_means(bench: Bench) -> None:
    """Of two under one id the second has another price; the first keeps its own."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    second = attrs.evolve(fill(entry, "100.02", "4"), time=first.time + timedelta(seconds=5))
    for one in (first, second):
        hears(bench, "fill", told=one)
    said = attrs.evolve(report(entry, "acknowledged", "7"), fills=(first, second))
    bench.execution.apply_events(tuple(events_from_report(bench.record, said)), read=True)
    hears(bench, "corrected", told=attrs.evolve(second, price=Decimal(101)))
    assert sorted(one.price for one in bench.record.executions.values()) == [100, 101]


@pytest.mark.parametrize("meant", [0, 1])
def test_f29_f30_a_correction_of_one_of_two_executions_in_one_moment_has_as_many_shares(
    bench: Bench, meant: int
) -> None:
    """What an order filled and what it filled beyond were done at once, at one price, under one id."""
    entry = bench.enter()
    pair = fill(entry, "100", "7"), fill(entry, "100", "3")
    for one in pair:
        hears(bench, "fill", told=one)
    said = attrs.evolve(report(entry, "fill", "10"), fills=pair)
    bench.execution.apply_events(tuple(events_from_report(bench.record, said)), read=True)
    hears(bench, "corrected", told=attrs.evolve(pair[meant], price=Decimal(101)))
    prices = {one.quantity: one.price for one in bench.record.executions.values()}
    assert prices == {pair[meant].quantity: 101, pair[1 - meant].quantity: 100}


def test_f29_f30_where_the_terms_do_not_say_which_is_void_the_account_says_how_much(bench: Bench) -> None:
    """Nothing is taken back by guess: the instrument is frozen, and a difference that lasts is booked as one."""
    entry = bench.enter()
    first = fill(entry, "100", "3")
    second = attrs.evolve(fill(entry, "100.02", "4"), time=first.time + timedelta(seconds=5))
    for one in (first, second):
        hears(bench, "fill", told=one)
    said = attrs.evolve(report(entry, "fill", "7"), fills=(first, second))
    bench.execution.apply_events(tuple(events_from_report(bench.record, said)), read=True)
    hears(bench, "busted", told=attrs.evolve(first, time=first.time + timedelta(hours=1)))
    assert (str(bench.record.filled), refused(bench)) == ("7", "INSTRUMENT_FROZEN")
    bench.broker.shown = [reading(attrs.evolve(report(entry, "fill", "4"), fills=(second,)), AAA="4")]
    bench.broker.found = {"AAA entry": attrs.evolve(report(entry, "fill", "4"), fills=(second,))}
    bench.later(IN_FLIGHT_S + 1)
    bench.outlast()
    assert bench.desk.portfolio.holdings == {"AAA": 4_000_000}
    assert StateCause.MISMATCH in bench.conditions.causes


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("cause", [one for one in StateCause if KINDS[one].state >= RiskState.EXIT_ONLY])
def test_f60_what_is_the_matter_with_the_session_bars_entries_at_every_broker(
    tmp_path: Path, cause: StateCause, *, away: bool
) -> None:
    """Only what one account has binds that account alone, and only while entries go elsewhere; the words say what."""
    with closing(open_journal(tmp_path / "both.sqlite")) as journal:
        first, second = (Bench(journal) for _ in range(2))
        entry = proposed(first)
        primary, standby = (
            BrokerSupervisor(
                BrokerSession(name=broker, decision_engine=one.desk, execution=one.execution),
                TradingState(),
                60.0,
            )
            for broker, one in (("alpha", first), ("beta", second))
        )
        primary.share_state_with([standby])
        primary.trading_state.set_failed_over(away=away)
        primary.trading_state.raise_cause(cause)
        alone = away and cause in LOCAL
        why = f"{KINDS[cause].state.word}: {cause.value}"
        assert primary.denial_reason(entry, flattening=False) == why
        assert standby.denial_reason(entry, flattening=False) == ("" if alone else why)
        assert (second.desk.exposure.imposed_state >= RiskState.EXIT_ONLY) is not alone


def test_f18_an_order_of_which_an_unknown_word_is_said_is_looked_up(bench: Bench) -> None:
    """The order stays what it was until its report says more; its instrument is traded on."""
    entry = bench.enter()
    hears(bench, "pending_review", words="under review")
    assert bench.state is OrderState.UNKNOWN
    bench.broker.found["AAA entry"] = report(entry)
    bench.broker.shown = [reading(report(entry))]
    bench.later(IN_FLIGHT_S + 1)
    bench.later(10.0)
    assert bench.broker.questions
    assert (bench.state, frozen(bench)) == (OrderState.NEW, [])


def test_f28_more_than_was_ordered_is_booked_and_freezes_its_instrument(bench: Bench) -> None:
    """What the account holds is what counts: it is protected whole, and free again once a reading agrees."""
    entry = bench.enter()
    more = entry.quantity + 3
    hears(bench, "fill", told=fill(entry, "100", str(more)))
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == int(more) * 1_000_000
    assert frozen(bench) == [True]
    asyncio.run(bench.execution.process_broker_events())
    stop = bench.execution.tickets["AAA stop"].order
    assert stop.quantity == more
    bench.broker.shown = [reading(report(entry, "fill", str(more)), report(stop), AAA=str(more))]
    bench.later(IN_FLIGHT_S + 1)
    bench.later(10.0)
    bench.judge()
    assert frozen(bench) == [True, False]


def test_f44_an_instrument_that_the_broker_does_not_trade_any_more_is_frozen_to_the_sessions_end(bench: Bench) -> None:
    """No reading frees it; what is held of it stays as it is, and nothing is sent for it."""
    bench.hold()
    hears(bench, "rejected", "AAA stop", words="42210002 asset AAA is not tradable")
    assert frozen(bench) == []  # a rejection without a meaning
    stop = next(one.order for one in bench.desk.position_manager.orders_due_now() if isinstance(one, SubmitOrder))
    asyncio.run(bench.execution.execute(MinuteCommands(actions=[SubmitOrder(order=stop)])))
    words, meaning = "42210002 asset AAA is not tradable", RejectionMeaning.NOT_TRADABLE
    hears(bench, "rejected", stop.client_order_id, words=words, meaning=meaning)
    bench.later(40.0)
    assert frozen(bench) == [True]
    assert refused(bench) == "INSTRUMENT_FROZEN"
    assert leaves(bench) == []


def test_what_was_frozen_before_a_restart_is_frozen_after_it() -> None:
    """To the session's end where it was to last, and free again where that was said."""
    standing = ExposureBook(portfolio=Portfolio(opening_atoms=1))
    for symbol, there, lasting in (("AAA", True, True), ("BBB", True, False), ("BBB", False, False)):
        recorded = SymbolFrozen(symbol=symbol, there=there, words="gone", lasting=lasting)
        frozen_instruments.recall_frozen(standing, recorded)
    assert standing.holds.symbols(Hold.FROZEN) == standing.holds.symbols(Hold.FROZEN_FOR_SESSION) == {"AAA"}
    assert standing.holds.words("AAA", Hold.FROZEN) == "gone"


def test_a_rejection_for_want_of_money_is_followed_by_a_reading(bench: Bench) -> None:
    """The next round reads the account, however short a time ago it was read; then the schedule holds again."""
    bench.enter()
    bench.later(31.0)
    before = bench.broker.readings
    hears(bench, "rejected", meaning=RejectionMeaning.INSUFFICIENT_BUYING_POWER)
    bench.later(0.5)
    read = bench.broker.readings
    assert read > before
    bench.later(0.5)
    assert bench.broker.readings == read


def over(bench: Bench, kind: str = "cancelled") -> OrderStatusReport:
    """The report of AAA's entry, which is open; in the books it is over, as the broker has streamed."""
    entry = bench.enter()
    if kind != "rejected":
        hears(bench, "acknowledged", "AAA entry")
    hears(bench, kind, "AAA entry")
    asyncio.run(bench.clock.sleep(IN_FLIGHT_S + 1))
    return report(entry)


@pytest.mark.parametrize("kind", ["cancelled", "rejected", "expired"])
@pytest.mark.parametrize("venue", [QUERIES, BrokerCapabilities()], ids=["asked", "read"])
def test_i3_an_order_that_is_open_though_it_was_told_to_be_over_is_counted_and_taken_back(
    tmp_path: Path, kind: str, venue: BrokerCapabilities
) -> None:
    """It counts from the first word on; by the second its symbol is frozen, and it is cancelled until it is gone.

    Where orders can be looked up, the look-up within the reading is the second word.
    """
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, venue)
        bench.broker.found["AAA entry"] = shown = over(bench, kind)
        bench.broker.shown = [reading(shown)]
        assert bench.desk.exposure.gross() == 0
        assert bench.read() is ReconciliationStatus.UNSETTLED
        worst = bench.desk.exposure.gross()
        assert worst > 0
        assert frozen(bench) == ([True] if venue.query_by_cid else [])
        bench.later(1)
        bench.later(1)
        assert (frozen(bench), {*bench.broker.cancels}) == ([True], {"AAA entry"})
        assert refused(bench) == "INSTRUMENT_FROZEN"
        asked = len(bench.broker.cancels)
        bench.later(11)
        assert (len(bench.broker.cancels), bench.tender.verdict) == (asked + 1, ReconciliationStatus.UNSETTLED)
        assert bench.desk.exposure.gross() == worst
        del bench.broker.found["AAA entry"]
        bench.broker.shown = [reading()]
        bench.later(11)
        bench.later(31)
        assert (bench.tender.verdict, frozen(bench)) == (ReconciliationStatus.MATCHED, [True, False])
        assert (bench.state.value, bench.desk.exposure.gross(), len(bench.broker.cancels)) == (kind, 0, asked + 1)


def test_a_reading_of_before_an_orders_end_says_nothing_against_it(bench: Bench) -> None:
    """The order was open when the broker was asked, and over when the answer came."""
    entry = bench.enter()
    hears(bench, "acknowledged", "AAA entry")
    bench.later(IN_FLIGHT_S + 1)
    bench.broker.shown = [reading(report(entry))]
    bench.broker.meanwhile = lambda: hears(bench, "cancelled", "AAA entry")
    bench.broker.readings = 0
    assert bench.read() is ReconciliationStatus.MATCHED
    assert (bench.state.value, bench.desk.exposure.gross()) == ("cancelled", 0)
    assert not bench.execution.tickets["AAA entry"].must_look_up


def test_a_list_that_is_behind_takes_nothing_back(bench: Bench) -> None:
    """Once the broker says of the order itself that it is over, and lists it no more, all is as it was."""
    shown = over(bench)
    bench.broker.found["AAA entry"] = attrs.evolve(shown, kind="cancelled")
    bench.broker.shown = [reading(shown)]
    assert bench.read() is ReconciliationStatus.UNSETTLED
    bench.broker.shown = [reading()]
    bench.later(1)
    assert bench.read() is ReconciliationStatus.MATCHED
    assert (frozen(bench), bench.broker.cancels, bench.desk.exposure.gross()) == ([], [], 0)


def test_f27_an_order_told_to_be_over_that_fills_after_all_is_held_and_frees_its_symbol(bench: Bench) -> None:
    """What was counted of the order counts as a position from then on, and once."""
    shown = over(bench)
    bench.broker.found["AAA entry"] = shown
    bench.broker.shown = [reading(shown)]
    bench.read()
    bench.later(1)
    filled = report(bench.record.order, "fill", "7")
    bench.broker.found["AAA entry"] = filled
    bench.broker.shown = [reading(filled, AAA="7")]
    bench.later(11)
    bench.later(11)
    assert (bench.desk.portfolio.holdings, frozen(bench)) == ({"AAA": 7_000_000}, [True, False])
    assert bench.desk.exposure.gross() == bench.desk.portfolio.cost_atoms


@pytest.mark.parametrize("other", [{"quantity": Decimal(700)}, {"buy": False}, {"symbol": "AAB"}], ids=str)
def test_f19_an_order_that_the_broker_works_for_more_or_else_is_counted_and_taken_back(
    bench: Bench, other: dict[str, Any]
) -> None:
    """The broker's fact is written down, its symbol frozen, what it may come to counted, and its cancel asked for."""
    entry = bench.enter()
    gross = bench.desk.exposure.gross()
    taken = attrs.evolve(report(entry), **other)
    more = taken.quantity - 7 if "quantity" in other else taken.quantity
    assert entry.limit_price is not None
    bench.broker.found["AAA entry"] = taken
    bench.broker.shown = [reading(taken)]
    bench.later(IN_FLIGHT_S + 1)
    bench.later(1)
    assert (bench.tender.verdict, {*bench.broker.cancels}) == (ReconciliationStatus.UNSETTLED, {"AAA entry"})
    assert bench.desk.exposure.gross() == gross + atoms_of(more * entry.limit_price)
    assert bench.count(records.OTHER_TERMS) == 1
    assert frozen_symbols(bench) == {"AAA", taken.symbol}


def test_f19_an_order_that_the_broker_took_for_less_is_told_and_goes_on(bench: Bench) -> None:
    """Nothing of it is beyond any limit: it counts as ordered, and its exit may leave; it is told once."""
    entry = bench.enter()
    gross = bench.desk.exposure.gross()
    bench.broker.found["AAA entry"] = taken = attrs.evolve(report(entry), quantity=Decimal(3))
    bench.broker.shown = [reading(taken)]
    for _ in range(3):
        bench.later(11)
    (told_once,) = bench.journal.events(kind=records.OTHER_TERMS)
    assert (told_once.cid, told_once.payload["quantity"]) == ("AAA entry", "3")
    assert (
        orphan_orders.misread_order_text(told_once.facts(OrderTermsDiffer))
        == "The broker works the entry to buy 7 AAA as an order to buy 3 AAA"
    )
    assert (frozen(bench), bench.broker.cancels, bench.desk.exposure.gross()) == ([], [], gross)
    assert bench.tender.verdict is ReconciliationStatus.MATCHED


def test_a_look_up_that_may_be_behind_the_list_without_a_stop_does_not_say_that_it_rests(bench: Bench) -> None:
    """It is looked up again, until one that was asked for later than lists may lag has it."""
    stop, asked = protected(bench), []
    bench.broker.found["AAA stop"] = report(stop)
    bench.broker.shown = [*[reading(AAA="7")] * 2, reading(report(stop), AAA="7")]
    for seconds in (31, 1, QUERIES.list_lag_s + 1):
        bench.later(seconds)
        asked.append(bench.execution.tickets["AAA stop"].must_look_up)
    assert asked == [True, True, False]


def test_a_stop_that_a_list_shows_for_less_and_then_for_all_closes_all_again(bench: Bench) -> None:
    """As the stop of a bracket, which grows with the fills of its entry."""
    stop, closes = protected(bench), []
    for quantity in (3, 7):
        bench.broker.shown = [reading(attrs.evolve(report(stop), quantity=Decimal(quantity)), AAA="7")]
        bench.later(31)
        closes.append(bench.execution.tickets["AAA stop"].closing_units)
    assert closes == [3 * UNITS_PER_SHARE, 7 * UNITS_PER_SHARE]


def test_f19_an_exit_that_the_broker_took_for_less_is_cancelled_and_sent_again_at_once(bench: Bench) -> None:
    """Meanwhile the rest of the position has neither a stop nor an exit."""
    protected(bench)
    leaves(bench)
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    hears(bench, "acknowledged", "AAA exit")
    taken = attrs.evolve(report(bench.execution.tickets["AAA exit"].order), quantity=Decimal(3))
    bench.broker.shown = [reading(taken, AAA="7")]
    bench.later(31)
    asyncio.run(bench.execution.process_broker_events())
    assert bench.broker.cancels[-1] == "AAA exit"
    hears(bench, "fill", "AAA exit", fill(bench.execution.tickets["AAA exit"].order, "100", "2"))
    hears(bench, "cancelled", "AAA exit")
    asyncio.run(bench.execution.process_broker_events())
    assert bench.execution.tickets["AAA exit 2"].order.quantity == Decimal(5)


@pytest.mark.parametrize(
    ("other", "held"),
    [({"symbol": "AAB"}, {"AAB": "7"}), ({"buy": False}, {"AAA": "-7"})],
    ids=["another symbol", "the other side"],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "read"])
def test_f19_what_was_filled_for_something_else_is_not_the_signals_position(
    bench: Bench, other: dict[str, Any], held: dict[str, str], *, streamed: bool
) -> None:
    """It is too much, told and counted; what was ordered stays frozen, and nothing is sold that the account lacks."""
    entry = bench.enter()
    amiss = attrs.evolve(fill(entry, "100", "7"), **other)
    if streamed:
        hears(bench, "fill", told=amiss)
        assert frozen_symbols(bench) == {"AAA", amiss.symbol}
    bench.broker.shown = [reading(attrs.evolve(report(entry, "fill", "7"), fills=(amiss,), **other), **held)]
    for _ in range(3):
        bench.later(31)
    (symbol, shares) = next(iter(held.items()))
    assert bench.desk.portfolio.unassigned_units == {symbol: int(shares) * UNITS_PER_SHARE}
    assert bench.desk.portfolio.unassigned_units == fold_events(bench.journal.events()).portfolio.unassigned_units
    assert (bench.desk.portfolio.positions, {**bench.desk.position_manager.held}) == ({}, {})
    assert {*bench.execution.tickets} == {"AAA entry"}
    assert bench.desk.exposure.working == {}
    assert (bench.tender.verdict, bench.tender.external) == (ReconciliationStatus.MATCHED, {})
    assert frozen_symbols(bench) == {"AAA"}  # what was filled is as the books have it
    assert bench.desk.exposure.current_state is RiskState.EXIT_ONLY
    assert bench.desk.decide([proposal()])[0].order is None


def test_f19_an_exit_that_the_broker_took_for_another_symbol_is_not_sent_again(bench: Bench) -> None:
    """What is held is protected again, and no second exit opens more of an unwanted position."""
    protected(bench)
    bench.desk.position_manager.exits.flatten()
    actions = bench.desk.position_manager.orders_after_minute(SessionDraft().bars(), 59)
    asyncio.run(bench.execution.execute(MinuteCommands(actions=actions)))
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    leaves = bench.execution.tickets["AAA exit"].order
    hears(bench, "fill", "AAA exit", attrs.evolve(fill(leaves, "100", "7"), symbol="AAB"))
    for minute in (60, 61):
        actions = bench.desk.position_manager.orders_after_minute(SessionDraft().bars(), minute)
        asyncio.run(bench.execution.execute(MinuteCommands(actions=actions)))
    assert bench.desk.portfolio.holdings == {"AAA": 7 * UNITS_PER_SHARE, "AAB": -7 * UNITS_PER_SHARE}
    assert [one.order.leg for one in bench.execution.tickets.values() if not one.terminal] == [Leg.STOP]
    assert "AAA exit 2" not in bench.execution.tickets
    assert frozen_symbols(bench) == {"AAA", "AAB"}
    assert bench.desk.exposure.holds.symbols(Hold.FROZEN_FOR_SESSION) | {"AAB"} == {"AAA", "AAB"}


def test_what_is_left_of_an_order_that_was_filled_for_something_else_is_taken_back(bench: Bench) -> None:
    """Its rest may fill alike."""
    entry = bench.enter()
    hears(bench, "fill", told=attrs.evolve(fill(entry, "100", "3"), symbol="AAB"))
    asyncio.run(bench.execution.process_broker_events())
    assert bench.broker.cancels == ["AAA entry"]
    hears(bench, "cancelled")
    assert (bench.desk.exposure.working, bench.desk.position_manager.orders_to_cancel) == ({}, ())


def test_a_fill_for_another_symbol_that_is_void_leaves_nothing(bench: Bench) -> None:
    """Whichever symbol the word that takes it back names."""
    entry = bench.enter()
    amiss = attrs.evolve(fill(entry, "100", "7"), symbol="AAB")
    hears(bench, "fill", told=amiss)
    hears(bench, "busted", told=attrs.evolve(amiss, symbol="AAA"))
    assert not any(bench.desk.portfolio.holdings.values())
    assert bench.desk.portfolio.cash_atoms == bench.desk.portfolio.opening_atoms


def split(quantity: str, number: int = 1) -> AccountActivity:
    """So many shares of AAA were added by a split."""
    name, added = f"a{number}", Decimal(quantity)
    return AccountActivity(
        activity_id=name, kind="split", time=session().open, symbol="AAA", quantity=added, words="2:1"
    )


def protected(bench: Bench) -> Order:
    """The entry of AAA, filled, and its stop, which rests."""
    bench.hold()
    asyncio.run(bench.execution.process_broker_events())
    hears(bench, "acknowledged", "AAA stop")
    stop = bench.execution.tickets["AAA stop"].order
    bench.broker.shown = [reading(report(stop), AAA="7")]
    bench.later(IN_FLIGHT_S + 1)
    return stop


def astray_stop(bench: Bench) -> None:
    """The broker works AAA's stop of 7 as one of 70, by two of its answers."""
    taken = attrs.evolve(report(protected(bench)), quantity=Decimal(70))
    bench.broker.found["AAA stop"] = taken
    bench.broker.shown = [reading(taken, AAA="7")]
    bench.later(11)
    bench.later(1)


def stops(bench: Bench) -> list[str]:
    """The stops of AAA that were written down."""
    return [cid for cid, one in bench.execution.tickets.items() if one.order.leg is Leg.STOP]


@pytest.mark.parametrize("killed", [False, True])
def test_f19_a_stop_that_the_broker_works_for_more_is_taken_back_and_made_anew(bench: Bench, *, killed: bool) -> None:
    """Its symbol is frozen, and in a kill nothing is closed either: another stop leaves as soon as it has ended."""
    astray_stop(bench)
    if killed:
        bench.conditions.raise_cause(StateCause.KILL_COMMAND)
    assert (frozen(bench), {*bench.broker.cancels}, stops(bench)) == ([True], {"AAA stop"}, ["AAA stop"])
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    placed = bench.execution.tickets["AAA stop 2"].order
    was = bench.execution.tickets["AAA stop"].order
    assert (placed.quantity, placed.stop_price) == (was.quantity, was.stop_price)
    held = bench.desk.position_manager.book.held_in("AAA")[0]
    assert (resting_ids(held), held.plan.on_close) == ({Leg.STOP: "AAA stop 2"}, False)


def test_i15_a_restart_goes_on_with_a_stop_that_was_made_anew(bench: Bench) -> None:
    """What is taken back for being worked for more is followed by another, and that one stays what it is."""
    astray_stop(bench)
    assert resumed(bench).position_manager.book.held_in("AAA")[0].is_stop_ending
    hears(bench, "cancelled", "AAA stop")
    assert names(resumed(bench)) == ["AAA stop 2"]
    asyncio.run(bench.execution.process_broker_events())
    again = resumed(bench)
    held = again.position_manager.book.held_in("AAA")[0]
    assert (resting_ids(held), held.plan.on_close, names(again)) == ({Leg.STOP: "AAA stop 2"}, False, [])


def test_f19_a_position_whose_second_stop_is_worked_for_more_as_well_gets_no_third_one(bench: Bench) -> None:
    """Not after a restart either: none rests, its symbol is free again, and a close beyond its level closes it."""
    astray_stop(bench)
    for one in ("AAA stop", "AAA stop 2"):
        taken = attrs.evolve(report(bench.execution.tickets[one].order), quantity=Decimal(70))
        bench.broker.shown = [reading(taken, AAA="7")]
        bench.broker.found[one] = taken
        hears(bench, "acknowledged", one)
        bench.later(11)
        bench.later(1)
        assert bench.broker.cancels[-1] == one
        hears(bench, "cancelled", one)
        asyncio.run(bench.execution.process_broker_events())
        bench.broker.found[one] = attrs.evolve(taken, kind="cancelled")
        asyncio.run(
            bench.execution.execute(MinuteCommands(actions=[CancelOrder(client_order_id=one)]))
        )  # it crosses its end
    bench.broker.shown = [reading(AAA="7")]
    for _ in range(3):
        bench.later(31)
    asyncio.run(bench.execution.process_broker_events())
    assert (stops(bench), frozen_symbols(bench)) == (["AAA stop", "AAA stop 2"], frozenset())
    for desk in (bench.desk, resumed(bench)):
        held = desk.position_manager.book.held_in("AAA")[0]
        assert (resting_ids(held), held.plan.on_close, names(desk)) == ({}, True, [])
        (closes,) = desk.position_manager.orders_after_minute(SessionDraft().bar(30, 97.0).bars(), 30)
        assert isinstance(closes, SubmitOrder)
        assert (closes.order.quantity, closes.order.reason) == (Decimal(7), ExitReason.STOP)


def test_i15_a_restart_counts_the_stops_that_were_worked_for_more(bench: Bench) -> None:
    """What was taken for less and cancelled for another reason is none of them."""
    astray_stop(bench)
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    assert (
        resumed(bench).position_manager.book.held_in("AAA")[0].refused_stops
        == bench.desk.position_manager.book.held_in("AAA")[0].refused_stops
        == 1
    )
    hears(bench, "acknowledged", "AAA stop 2")
    less = attrs.evolve(report(bench.execution.tickets["AAA stop 2"].order), quantity=Decimal(5))
    bench.broker.found["AAA stop 2"], bench.broker.shown = less, [reading(less, AAA="7")]
    bench.later(31)
    asyncio.run(bench.execution.execute(MinuteCommands(actions=[CancelOrder(client_order_id="AAA stop 2")])))
    held = resumed(bench).position_manager.book.held_in("AAA")[0]
    assert (held.refused_stops, held.is_stop_ending, held.plan.on_close) == (1, True, False)


def resumed(bench: Bench, *, brackets: bool = False) -> DecisionEngine:
    """The desk of a restart."""
    return recalled(bench, brackets=brackets)[0]


def recalled(bench: Bench, *, brackets: bool = False) -> tuple[DecisionEngine, ExecutionEngine]:
    """The desk of a restart, and what sends its orders."""
    desk = DecisionEngine(
        rules(venue=attrs.evolve(QUERIES, brackets=brackets)), session(), atoms_of(Decimal(100_000)), name
    )
    recorder = JournalRecorder(journal=bench.journal, clock=bench.clock)
    execution = ExecutionEngine(recorder, BrokerAccount(broker=bench.broker, name="told", account_id="A1"), desk)
    recall = SessionRecovery(desk, execution, {"AAA": 0})
    for event in list(bench.journal.events()):
        recall.apply(event)
    return desk, execution


def names(desk: DecisionEngine) -> list[str]:
    """What a desk would place or cancel now."""
    actions = desk.position_manager.orders_due_now()
    return [one.order.client_order_id if isinstance(one, SubmitOrder) else f"- {one}" for one in actions]


@pytest.mark.parametrize("said", [True, False], ids=["told", "read"])
def test_i3_a_stop_that_was_told_to_be_over_and_is_not_is_followed_by_another(bench: Bench, *, said: bool) -> None:
    """No other rests beside it: a reading comes first, and one follows once the end of this one is certain."""
    stop = protected(bench)
    hears(bench, "cancelled", "AAA stop")
    held = bench.desk.position_manager.book.held_in("AAA")[0]
    asyncio.run(bench.execution.process_broker_events())
    assert (resting_ids(held), held.plan.on_close, stops(bench)) == ({}, False, ["AAA stop"])
    bench.broker.found["AAA stop"] = shown = report(stop)
    bench.broker.shown = [reading(shown, AAA="7")]
    bench.later(31)
    bench.later(1)
    bench.later(1)
    asyncio.run(bench.execution.process_broker_events())
    assert (frozen(bench), {*bench.broker.cancels}, stops(bench)) == ([True], {"AAA stop"}, ["AAA stop"])
    if said:
        bench.execution.apply_events([BrokerEvent(kind="cancelled", event_id="again", client_order_id="AAA stop")])
    else:
        bench.broker.found["AAA stop"] = attrs.evolve(shown, kind="cancelled")
    bench.broker.shown = [reading(AAA="7")]
    bench.later(11)
    asyncio.run(bench.execution.process_broker_events())
    assert (resting_ids(held), held.plan.on_close) == ({Leg.STOP: "AAA stop 2"}, False)
    again = resumed(bench)
    held = again.position_manager.book.held_in("AAA")[0]
    assert (resting_ids(held), held.plan.on_close, names(again)) == ({Leg.STOP: "AAA stop 2"}, False, [])


def test_f19_a_bracket_whose_stop_is_worked_for_more_gets_another_when_its_entry_fills(tmp_path: Path) -> None:
    """The stop has ended before anything was held."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, attrs.evolve(QUERIES, brackets=True))
        entry = bench.enter()
        hears(bench, "acknowledged", "AAA entry")
        hears(bench, "acknowledged", "AAA stop")
        taken = attrs.evolve(report(bench.execution.tickets["AAA stop"].order), quantity=Decimal(70))
        bench.broker.found = {"AAA stop": taken, "AAA entry": report(entry)}
        bench.broker.shown = [reading(report(entry), taken)]
        bench.later(11)
        bench.later(1)
        hears(bench, "cancelled", "AAA stop")
        bench.execution.apply_events(
            [BrokerEvent(kind="fill", event_id="1", client_order_id="AAA entry", fill=fill(entry, "100"))]
        )
        asyncio.run(bench.execution.process_broker_events())
        assert resting_ids(bench.desk.position_manager.book.held_in("AAA")[0]) == {Leg.STOP: "AAA stop 2"}


@pytest.mark.parametrize("told", ["right first", "wrong first", "wrong first, and its stop has ended before the other"])
def test_f19_what_a_bracket_has_bought_rightly_keeps_a_stop(tmp_path: Path, told: str) -> None:
    """Its own is taken back with the rest of the entry, and another leaves for what is held as soon as it has ended."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        bench = Bench(journal, attrs.evolve(QUERIES, brackets=True))
        entry = bench.enter()
        for cid in ("AAA entry", "AAA stop"):
            hears(bench, "acknowledged", cid)
        fills = [fill(entry, "100", "4", "1"), attrs.evolve(fill(entry, "100", "3", "2"), symbol="AAB")]
        for number, one in enumerate(fills if told == "right first" else reversed(fills)):
            hears(bench, "fill", told=one)
            asyncio.run(bench.execution.process_broker_events())
            if number == 0 and "ended" in told:
                hears(bench, "cancelled", "AAA stop")
        assert "AAA stop" in bench.broker.cancels
        if not bench.execution.tickets["AAA stop"].terminal:
            cancel = CancelOrder(client_order_id="AAA stop")
            assert names(resumed(bench, brackets=True)) == [f"- {cancel}"]
            hears(bench, "cancelled", "AAA stop")
            assert names(resumed(bench, brackets=True)) == ["AAA stop 2"]
        asyncio.run(bench.execution.process_broker_events())
        held = bench.desk.position_manager.book.held_in("AAA")[0]
        assert (resting_ids(held), held.plan.on_close) == ({Leg.STOP: "AAA stop 2"}, False)
        assert bench.execution.tickets["AAA stop 2"].order.quantity == Decimal(4)


@pytest.mark.parametrize("read", [True, False], ids=["two readings", "a reading and a query"])
def test_i12_no_second_stop_leaves_beside_one_that_is_open_while_an_exit_works(bench: Bench, *, read: bool) -> None:
    """The exit ends unfilled, and its symbol is frozen by then: another stop waits until that one is gone."""
    stop = protected(bench)
    bench.desk.position_manager.exits.flatten()
    asyncio.run(
        bench.execution.execute(
            MinuteCommands(actions=bench.desk.position_manager.orders_after_minute(SessionDraft().bars(), 59))
        )
    )
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    hears(bench, "acknowledged", "AAA exit")
    bench.desk.position_manager.exits.flatten(on=False)
    leaves = report(bench.execution.tickets["AAA exit"].order)
    bench.broker.shown = [reading(report(stop), leaves, AAA="7")]
    bench.broker.found = {"AAA exit": leaves} | ({} if read else {"AAA stop": report(stop)})
    bench.read()
    bench.later(1)
    if read:
        bench.read()
    assert frozen(bench) == [True]
    hears(bench, "cancelled", "AAA exit")
    asyncio.run(bench.execution.process_broker_events())
    assert stops(bench) == ["AAA stop"]
    bench.broker.found["AAA stop"] = attrs.evolve(report(stop), kind="cancelled")
    bench.broker.shown = [reading(AAA="7")]
    bench.later(31)
    asyncio.run(bench.execution.process_broker_events())
    assert (stops(bench), bench.desk.position_manager.orders_to_cancel) == (["AAA stop", "AAA stop 2"], ())


@pytest.mark.parametrize("shares", ["7", "3"])
def test_f19_a_stop_that_was_filled_for_another_symbol_is_made_anew(bench: Bench, shares: str) -> None:
    """Once: a second one that is filled for something else is followed by none."""
    protected(bench)
    held = bench.desk.position_manager.book.held_in("AAA")[0]
    for cid, after in (("AAA stop", {Leg.STOP: "AAA stop 2"}), ("AAA stop 2", {})):
        stop = bench.execution.tickets[cid].order
        hears(bench, "fill", cid, attrs.evolve(fill(stop, "98", shares, f"of {cid}"), symbol="AAB"))
        if not bench.execution.tickets[cid].terminal:
            asyncio.run(bench.execution.process_broker_events())
            assert bench.broker.cancels[-1] == cid
            hears(bench, "cancelled", cid)
        asyncio.run(bench.execution.process_broker_events())
        assert (held.position.units, resting_ids(held)) == (7 * UNITS_PER_SHARE, after)
    assert held.plan.on_close


@pytest.mark.parametrize("other", [{"symbol": "AAB"}, {"buy": False}], ids=["symbol", "side"])
def test_f29_an_execution_that_is_corrected_to_something_else_is_not_the_signals_position(
    bench: Bench, other: dict[str, Any]
) -> None:
    """Its stop is taken back; corrected once more it is, and has another."""
    protected(bench)
    right = fill(bench.execution.tickets["AAA entry"].order, "100", "7")
    wrong = attrs.evolve(right, **other)
    hears(bench, "corrected", told=wrong)
    asyncio.run(bench.execution.process_broker_events())
    units = (7 if wrong.buy else -7) * UNITS_PER_SHARE
    assert (bench.desk.portfolio.positions, {**bench.desk.position_manager.held}) == ({}, {})
    assert (
        bench.desk.portfolio.unassigned_units
        == fold_events(bench.journal.events()).portfolio.unassigned_units
        == {wrong.symbol: units}
    )
    assert bench.broker.cancels == ["AAA stop"]
    assert bench.desk.exposure.holds.symbols(Hold.FROZEN_FOR_SESSION) == {"AAA"}
    hears(bench, "cancelled", "AAA stop")
    hears(bench, "corrected", told=right)
    asyncio.run(bench.execution.process_broker_events())
    assert (bench.desk.portfolio.holdings["AAA"], bench.desk.portfolio.unassigned_units) == (7 * UNITS_PER_SHARE, {})
    assert fold_events(bench.journal.events()).portfolio.symbols == ["AAA"]
    assert resting_ids(bench.desk.position_manager.book.held_in("AAA")[0]) == {Leg.STOP: "AAA stop 2"}


def test_f29_what_is_left_of_an_order_that_is_corrected_to_something_else_is_taken_back(bench: Bench) -> None:
    """Its rest may fill alike."""
    entry = bench.enter()
    right = fill(entry, "100", "3")
    hears(bench, "fill", told=right)
    asyncio.run(bench.execution.process_broker_events())
    hears(bench, "corrected", told=attrs.evolve(right, symbol="AAB"))
    asyncio.run(bench.execution.process_broker_events())
    assert {*bench.broker.cancels} == {"AAA entry", "AAA stop"}


def by_operator(bench: Bench, folder: Path, text: str, mode: int = 0o600) -> None:
    """The account holds 14 AAA, the books 7, the broker lists nothing, and the operator's file says this."""
    stop = protected(bench)
    path = folder / "splits.csv"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    bench.broker.shown = [reading(report(stop), AAA="14")]
    bench.later(40.0)
    bench.later(1)
    bench.read()


def test_f43_the_operators_file_is_evidence_where_the_broker_lists_nothing(bench: Bench, tmp_path: Path) -> None:
    """Lots, position and stop follow as they do for a split that the broker lists, once, and the event says by whom."""
    by_operator(bench, tmp_path, f"date,symbol,before,after\n{session().date},AAA,1,2\n")
    (event,) = bench.journal.events(kind=records.CORPORATE_ACTION)
    assert (event.payload["before"], event.payload["after"]) == (1, 2)
    assert event.payload["words"] == "from the operator's splits.csv, line 2"
    assert bench.desk.portfolio.in_symbol("AAA")[0].units == 14 * UNITS_PER_SHARE
    assert frozen(bench) == [True]
    assert bench.count(records.ADJUSTMENT) == bench.count(records.FOREIGN_HOLDING) == 0
    again = PositionDifference(symbol="AAA", ours=Decimal(14), theirs=Decimal(28))
    assert not bench.tender.splits.explain(again)  # the same line explains nothing twice
    assert bench.count(records.CORPORATE_ACTION) == 1


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ("{day},AAA,1,3", 0o600),
        ("{day},BBB,1,2", 0o600),
        ("2025-12-01,AAA,1,2", 0o600),
        ("2026-01-06,AAA,1,2", 0o600),
        ("{day},AAA,1,two", 0o600),
        ("{day},AAA,1,2", 0o666),
    ],
)
def test_f43_a_line_that_does_not_fit_is_no_evidence(bench: Bench, tmp_path: Path, line: str, mode: int) -> None:
    """Another ratio, symbol or time, a file that is not sound or that others may write: what lasts is foreign."""
    by_operator(bench, tmp_path, f"date,symbol,before,after\n{line.format(day=session().date)}\n", mode)
    bench.outlast()
    assert bench.count(records.CORPORATE_ACTION) == 0
    assert bench.tender.external == {"AAA": Decimal(7)}


def test_f43_a_split_multiplies_what_is_held_and_makes_its_stop_anew(bench: Bench) -> None:
    """Lots, position and levels follow, nothing is traded until a reading agrees, and it is booked once."""
    stop = protected(bench)
    entry = report(bench.execution.tickets["AAA entry"].order, "fill", "7")
    shown = attrs.evolve(reading(entry, report(stop), AAA="14"), activities=(split("7"),))
    bench.broker.shown = [shown]
    bench.judge()
    position = bench.desk.portfolio.in_symbol("AAA")[0]
    assert (position.units, position.entry_units) == (14_000_000, 14_000_000)
    assert position.entry_atoms == 7_000_000 * 1_000_000
    assert (frozen(bench), refused(bench)) == ([True], "INSTRUMENT_FROZEN")
    assert bench.count(records.ADJUSTMENT) == bench.count(records.FOREIGN_HOLDING) == 0
    assert ledger_of(bench.journal.events()).holdings == {"AAA": Decimal(14)}
    assert fold_events(bench.journal.events()).portfolio.holdings == {"AAA": 14_000_000}
    asyncio.run(bench.execution.process_broker_events())
    assert bench.count(records.CANCEL_REQUESTED) == 1
    hears(bench, "cancelled", "AAA stop")
    asyncio.run(bench.execution.process_broker_events())
    anew = bench.execution.tickets["AAA stop 2"].order
    assert (anew.quantity, anew.stop_price) == (Decimal(14), Decimal(49))
    bench.broker.shown = [attrs.evolve(reading(entry, report(anew), AAA="14"), activities=(split("7"),))]
    bench.broker.found["AAA stop 2"] = report(anew)
    bench.later(11.0)
    bench.later(11.0)
    assert frozen(bench) == [True, False]
    assert bench.count(records.CORPORATE_ACTION) == 1


def test_f43_a_quantity_that_changed_without_evidence_is_a_mismatch(bench: Bench) -> None:
    """A split of another size explains nothing: what is more, and lasts, belongs to somebody else."""
    stop = protected(bench)
    bench.broker.shown = [attrs.evolve(reading(report(stop), AAA="12"), activities=(split("7"),))]
    bench.judge()
    assert bench.tender.external == {}
    bench.outlast()
    assert bench.count(records.CORPORATE_ACTION) == 0
    assert bench.tender.external == {"AAA": Decimal(5)}


def test_f43_a_split_of_what_is_partly_not_ours_multiplies_both(bench: Bench) -> None:
    """Of ten shares seven are ours, of thirty twenty-one then, and a reverse split undoes it."""
    stop = report(protected(bench))
    bench.broker.shown = [reading(stop, AAA="10")]
    bench.outlast()
    bench.broker.shown = [attrs.evolve(reading(stop, AAA="30"), activities=(split("20"),))]
    bench.read()
    assert (bench.desk.portfolio.holdings, bench.tender.external) == ({"AAA": 21_000_000}, {"AAA": Decimal(9)})
    bench.broker.shown = [attrs.evolve(reading(stop, AAA="10"), activities=(split("20"), split("-20", 2)))]
    bench.read()
    assert (bench.desk.portfolio.holdings, bench.tender.external) == ({"AAA": 7_000_000}, {"AAA": Decimal(3)})


def test_a_split_leaves_foreign_shares_what_they_are_worth(bench: Bench) -> None:
    """The reading that tells it says the price after it; a close of whichever side of it is not divided on top."""
    foreign = bench.desk.exposure.external
    bench.broker.shown = [attrs.evolve(reading(barrier="1"), holdings=(valued("100", "1000"),))]
    bench.read()
    assert foreign.gross == atoms_of(Decimal(100_000))
    for minute, price, number in ((None, "100", 1), (3, "10", 2), (4, "1", 3)):
        if minute is not None:  # the market knew of the second split before, and of the third not yet
            bench.desk.mark(SessionDraft("AAA", price=10.0).bars(), minute)
        held = foreign.held["AAA"]
        (after,) = (valued(str(held * 10), price),)
        shown = attrs.evolve(reading(barrier="1"), holdings=(after,), activities=(split(str(held * 9), number),))
        bench.broker.shown = [shown]
        for _ in range(2):
            bench.read()
            assert (foreign.held["AAA"], foreign.gross) == (held * 10, atoms_of(Decimal(100_000)))
    assert bench.count(records.CORPORATE_ACTION) == 3


def test_a_split_of_foreign_shares_without_a_price_divides_the_last_one_that_is_known(bench: Bench) -> None:
    """What was paid is no price of now: the last close counts on, for so many shares more."""
    paid = PositionReport(symbol="AAA", quantity=Decimal(100), average_price=Decimal(20))
    bench.broker.shown = [attrs.evolve(reading(barrier="1"), holdings=(paid,))]
    bench.read()
    bench.desk.mark(SessionDraft("AAA", price=1000.0).bars(), 0)
    after = attrs.evolve(paid, quantity=Decimal(1000), average_price=Decimal(2))
    bench.broker.shown = [attrs.evolve(reading(barrier="1"), holdings=(after,), activities=(split("900"),))]
    for _ in range(2):
        bench.read()
        assert bench.desk.exposure.external.gross == atoms_of(Decimal(100_000))


def ending(bench: Bench) -> Shutdown:
    """A stop was asked for at the bench, whose entry was taken back, as the broker says."""
    keeper = BrokerSupervisor(
        BrokerSession(name="told", decision_engine=bench.desk, execution=bench.execution),
        TradingState(),
        20.0,
    )
    bench.tender = keeper.reconciler
    requests = RequestHandler(bench.execution.recorder, keeper.trading_state)
    entry = bench.enter()
    bench.broker.found["AAA entry"] = report(entry)
    bench.broker.shown = [reading(report(entry), barrier="1")]
    bench.later(0)
    bench.later(1)
    keeper.trading_state.raise_cause(StateCause.STOP_COMMAND)
    bench.execution.apply_events([BrokerEvent(kind="cancelled", event_id="c", client_order_id="AAA entry")])
    assert not bench.execution.tickets["AAA entry"].must_look_up
    return Shutdown(requests, [keeper], bench.clock, 30.0, lambda _due: asyncio.Event())


def test_a_stop_is_not_over_while_what_an_entry_filled_may_be_told_late(bench: Bench) -> None:
    """The account is read once more: shares of an entry that was taken back are found, held and protected."""
    stop = ending(bench)
    entry = bench.execution.tickets["AAA entry"].order
    bench.broker.shown = [reading(barrier="1", AAA="7")]
    bench.broker.found["AAA entry"] = report(entry, "cancelled", "7")
    for _ in range(3):
        assert not stop.check()
        bench.later(1)
    assert not stop.check()
    assert bench.desk.portfolio.holdings == {"AAA": 7_000_000}


def test_a_stop_is_not_over_while_an_order_is_open_that_was_told_to_be_over(bench: Bench) -> None:
    """It could fill without a bot: its cancel is asked for until it is gone, and it is named among what is left."""
    stop = ending(bench)
    post = BrokerSession(name="told", decision_engine=bench.desk, execution=bench.execution)
    assert (bench.state.value, post.is_idle, post.in_flight) == ("cancelled", True, 0)
    for _ in range(60):
        assert not stop.check()
        bench.later(1)
    assert len(bench.broker.cancels) > 4
    assert (post.is_idle, post.is_settled, post.has_lookups, post.in_flight, post.open_symbols) == (
        False,
        False,
        False,
        1,
        {"AAA"},
    )
    bench.broker.found["AAA entry"] = attrs.evolve(bench.broker.found["AAA entry"], kind="cancelled")
    bench.broker.shown = [reading(barrier="1")]
    bench.later(11)
    bench.later(1)
    assert (stop.check(), post.in_flight, post.open_symbols) == (True, 0, set())


def test_a_stop_that_the_broker_works_for_more_is_not_what_a_position_is_left_with(bench: Bench) -> None:
    """Who keeps positions waits for the stop that takes its place; a stop as it was ordered is waited for no longer."""
    stop = protected(bench)
    post = BrokerSession(name="told", decision_engine=bench.desk, execution=bench.execution)
    assert post.is_settled
    bench.broker.shown = [reading(attrs.evolve(report(stop), quantity=Decimal(70)), AAA="7")]
    bench.read()
    assert (bench.desk.position_manager.book.held_in("AAA")[0].is_stop_ending, post.is_settled, post.open_symbols) == (
        False,
        False,
        {"AAA"},
    )


def test_a_stop_is_over_as_soon_as_the_account_was_read(bench: Bench) -> None:
    """It is read at once, whenever the next reading were due."""
    stop = ending(bench)
    bench.broker.shown = [reading(barrier="1")]
    assert not stop.check()
    bench.later(1)
    assert stop.check()


def test_a_stop_waits_for_a_reading_no_longer_than_a_broker_may_take(bench: Bench) -> None:
    """An account that cannot be read ends no process late; it is not pressed either."""
    stop = ending(bench)
    bench.broker.shown, readings = [None], bench.broker.readings
    for _ in range(30):
        assert not stop.check()
        bench.later(1)
    assert stop.check()
    assert 10 <= bench.broker.readings - readings <= 16


def test_an_entry_that_was_given_up_keeps_no_stop_waiting(bench: Bench) -> None:
    """It goes on being reserved, but nothing is held and nothing works that anybody could wait for."""
    bench.enter()
    for _ in range(12):
        bench.later(LEAST_WINDOW_S / 10)
    post = BrokerSession(name="told", decision_engine=bench.desk, execution=bench.execution)
    assert (bench.state.value, post.is_idle) == ("lost", True)
