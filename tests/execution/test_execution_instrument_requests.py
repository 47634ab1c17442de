"""The facts of instruments: before the bell for all symbols, and at the sending of a short sale for one."""

from __future__ import annotations

import asyncio
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, InstrumentKind, InstrumentRules, Permit
from tbot_core.engine.session.vix import funds
from tbot_core.errors import Unavailable
from tbot_core.execution import instrument_rules
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.instrument_requests import AGAIN_S, PORTION, InstrumentRequests
from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderState, Side, SignalId, atoms_of
from tbot_core.testing.trades import proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.exposure import lot_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


EASY = InstrumentRules(symbol="AAA", tradable=True, shortable=True, easy_to_borrow=True)
HARD = attrs.evolve(EASY, easy_to_borrow=False)
UNKNOWN = attrs.evolve(EASY, easy_to_borrow=None)


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


class Knowing:
    """A broker that knows instruments; an exception is raised, and "late" is no answer."""

    def __init__(self, *, shortable: bool = False) -> None:
        self.capabilities = BrokerCapabilities(instruments=True, shortable=shortable)
        self.answer: Any = EASY
        self.asked: list[tuple[str, ...]] = []
        self.sent: list[Order] = []

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """What is known of them."""
        self.asked.append(tuple(symbols))
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "late":
            await asyncio.sleep(60)
        if self.answer is None:
            return ()
        return [attrs.evolve(self.answer, symbol=symbol) for symbol in symbols]

    async def submit(self, order: Order, permit: Permit) -> None:
        """Take an order."""
        permit.redeem()
        self.sent.append(order)

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is reported."""
        return ()


class Bench:
    """A session at a broker that knows instruments."""

    def __init__(self, journal: Journal, broker: Knowing, symbols: tuple[str, ...] = ("AAA",)) -> None:
        self.journal, self.broker, self.clock = journal, broker, ManualClock(session().open)
        self.desk = DecisionEngine(rules(venue=broker.capabilities), session(), atoms_of(Decimal(100_000)), name)
        told: Any = broker
        self.execution = ExecutionEngine(
            JournalRecorder(journal=journal, clock=self.clock),
            BrokerAccount(broker=told, name="told", account_id="A"),
            self.desk,
        )
        self.requests = InstrumentRequests(self.execution, self.desk, self.clock, symbols)

    def look(self, seconds: float = 0.5) -> None:
        """Some time passes, then a round is made."""
        asyncio.run(self.clock.sleep(seconds))
        asyncio.run(self.requests.run_once())

    def enter(self, side: Side = Side.SHORT) -> str:
        """The reason of a decision, or the state of its order after it was executed."""
        decisions = self.desk.decide([proposal(side=side)])
        asyncio.run(self.execution.execute(MinuteCommands(decisions=decisions)))
        record = self.execution.tickets.get("AAA entry 1")
        return decisions[0].reason.name if record is None else record.state.name


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as opened:
        yield opened


def test_all_symbols_are_requested_once_in_portions(journal: Journal) -> None:
    """Before the bell; they are known then, and nothing is written of them."""
    symbols = tuple(f"S{number}" for number in range(PORTION + 1))
    bench = Bench(journal, Knowing(), symbols)
    bench.look()
    bench.look()
    assert bench.broker.asked == [symbols[:PORTION], symbols[PORTION:]]
    assert bench.desk.exposure.instrument_rules.keys() == {*symbols}
    assert not list(journal.events(kind=records.INSTRUMENT))


def test_what_could_not_be_had_is_requested_again(journal: Journal) -> None:
    """After a minute, not in each round."""
    bench = Bench(journal, Knowing())
    bench.broker.answer = Unavailable("no way")
    bench.look()
    bench.look()
    assert len(bench.broker.asked) == 1
    bench.broker.answer = EASY
    bench.look(AGAIN_S)
    assert bench.desk.exposure.instrument_rules == {"AAA": EASY}


def test_a_broker_without_them_is_not_asked(journal: Journal) -> None:
    """The declaration decides."""
    bench = Bench(journal, broker := Knowing())
    broker.capabilities = BrokerCapabilities()
    bench.look()
    assert broker.asked == []


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (EASY, "SENDING"),
        (HARD, "NOT_SHORTABLE"),
        (UNKNOWN, "NOT_SHORTABLE"),
        (attrs.evolve(EASY, tradable=False), "INSTRUMENT_FROZEN"),
        (attrs.evolve(EASY, minimum_quantity=Decimal(10**6)), "QUANTITY_TOO_SMALL"),
        (attrs.evolve(EASY, minimum_notional=Decimal(10**6)), "QUANTITY_TOO_SMALL"),
        (attrs.evolve(EASY, minimum_quantity=Decimal("0.1"), minimum_notional=Decimal(1)), "SENDING"),
    ],
)
def test_what_is_known_before_the_bell_decides(journal: Journal, found: InstrumentRules, reason: str) -> None:
    """Hard to borrow, or not known to be easy, is denied before anything is sent."""
    bench = Bench(journal, Knowing())
    bench.broker.answer = found
    bench.look()
    assert bench.enter() == reason
    assert len(bench.broker.sent) == (reason == "SENDING")


@pytest.mark.parametrize(
    ("shortable", "answer", "state"),
    [
        (False, EASY, "SENDING"),
        (False, HARD, "DROPPED"),
        (False, UNKNOWN, "DROPPED"),
        (False, None, "DROPPED"),
        (False, Unavailable("no way"), "DROPPED"),
        (False, "late", "DROPPED"),
        (True, UNKNOWN, "SENDING"),
        (True, Unavailable("no way"), "SENDING"),
        (True, HARD, "DROPPED"),
    ],
)
def test_a_short_sale_is_asked_about_again_when_it_is_sent(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, shortable: bool, answer: Any, state: str
) -> None:
    """What became hard to borrow, or unknown, is not sent, unless the broker allows every short sale."""
    monkeypatch.setattr(instrument_rules, "RECHECK_S", 0.01)
    bench = Bench(journal, Knowing(shortable=shortable))
    bench.look()
    bench.broker.answer = answer
    assert bench.enter() == state
    assert len(bench.broker.sent) == (state == "SENDING")
    if state == "DROPPED":
        (event,) = journal.events(kind=records.DROPPED)
        assert "NOT_SHORTABLE" in event.payload["words"]


def test_a_purchase_is_not_asked_about_again(journal: Journal) -> None:
    """Only a short sale can become impossible within a session without a halt."""
    bench = Bench(journal, Knowing())
    bench.look()
    bench.broker.answer = HARD
    assert bench.enter(Side.LONG) == OrderState.SENDING.name
    assert len(bench.broker.asked) == 1


@pytest.mark.parametrize(("fractionable", "lot"), [(None, 100_000), (True, 100_000), (False, 1_000_000)])
def test_an_instrument_may_be_traded_in_whole_shares_only(
    journal: Journal, fractionable: bool | None, lot: int
) -> None:
    """Whatever the broker's general step."""
    bench = Bench(journal, Knowing())
    bench.broker.answer = attrs.evolve(EASY, fractionable=fractionable, quantity_step=Decimal("0.1"))
    bench.look()
    assert lot_of(bench.desk.exposure, "AAA") == lot


@pytest.mark.parametrize(
    "found",
    [
        EASY,
        InstrumentRules(
            symbol="AAA",
            fractionable=False,
            minimum_quantity=Decimal("0.5"),
            minimum_notional=Decimal(1),
            tick=Decimal("0.05"),
            kind="fund",
        ),
    ],
)
def test_the_journal_has_every_reported_rule(journal: Journal, found: InstrumentRules) -> None:
    """What a payload says is what was reported, without the name."""
    bench = Bench(journal, Knowing())
    instrument_rules.apply_instrument_rules(bench.desk, InstrumentRulesReported.of(found))
    assert bench.desk.exposure.instrument_rules["AAA"] == found


def test_an_unknown_kind_is_not_reported() -> None:
    """A warrant is neither a stock nor a fund, so the table of funds decides."""
    assert InstrumentRules(symbol="AAA", kind="warrant").kind is None
    assert InstrumentRules(symbol="AAA", kind="fund").kind is InstrumentKind.FUND


def test_the_first_broker_that_answers_says_what_is_a_fund() -> None:
    """1 for a fund, 0 for a stock, unknown otherwise; None if no broker says."""
    silent, stocks = Knowing(), Knowing()
    silent.answer, stocks.answer = Unavailable("no way"), attrs.evolve(EASY, kind="fund")
    assert asyncio.run(funds((object(), silent), ("AAA",))) is None
    found = asyncio.run(funds((silent, stocks), ("AAA", "BBB")))
    assert found is not None
    assert found.tolist() == [1.0, 1.0]
    stocks.answer = attrs.evolve(EASY, kind="stock")
    assert asyncio.run(funds((stocks,), ("AAA",))) == np.array([0.0])
    stocks.answer = None
    unknown = asyncio.run(funds((stocks,), ("AAA",)))
    assert unknown is not None
    assert np.isnan(unknown).all()


def test_they_are_known_once_all_symbols_have_been_requested(journal: Journal) -> None:
    """Not while that fails; of a broker that reports no instruments nothing is awaited."""
    bench = Bench(journal, broker := Knowing())
    known = []
    for answer in (Unavailable("no way"), EASY):
        broker.answer = answer
        bench.look(AGAIN_S)
        known.append(bench.requests.are_known)
    assert known == [False, True]
    again = Bench(journal, broker)
    broker.capabilities = BrokerCapabilities()
    assert again.requests.are_known
