"""What a rejection leads to, by its meaning; the words alone decide nothing."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import BrokerCapabilities, BrokerEvent, BrokerEventKind, Permit, RejectionMeaning
from tbot_core.errors import LoginNeeded, Rejected
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.broker_port import BrokerPort
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.instrument_rules import instrument_rules_text
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.rejections import CLOSED_S, UNPROCESSED
from tbot_core.journal import records
from tbot_core.journal.events.accounts import InstrumentRulesReported
from tbot_core.journal.store import Journal, JournalRecorder, open_journal
from tbot_core.model.clock import ManualClock
from tbot_core.model.types import Leg, Order, OrderState, SignalId, atoms_of
from tbot_core.testing.trades import order, proposal, rules, session
from tbot_core.trading.decision_engine import DecisionEngine
from tbot_core.trading.risk.holds import Hold, Holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path


ENTRY = "AAA entry 1"
READING = [
    RejectionMeaning.INSUFFICIENT_QUANTITY,
    RejectionMeaning.INSUFFICIENT_BUYING_POWER,
    RejectionMeaning.WASH_TRADE,
]


def name(signal: SignalId, leg: Leg, attempt: int) -> str:
    """A readable client order id."""
    return f"{signal.symbol} {leg.value} {attempt}"


class Refusing:
    """A broker that rejects every order, with the meaning that a test sets."""

    capabilities = BrokerCapabilities()

    def __init__(self) -> None:
        self.fault: Rejected | None = None

    async def submit(self, _order: Order, permit: Permit) -> None:
        """Reject an order after it was sent."""
        permit.redeem()
        if self.fault is not None:
            raise self.fault

    async def cancel(self, _client_order_id: str) -> None:
        """Reject a cancel."""
        if self.fault is not None:
            raise self.fault

    async def poll(self) -> Sequence[BrokerEvent]:
        """Nothing is reported."""
        return ()


class Bench:
    """A session at a broker that rejects."""

    def __init__(self, journal: Journal, now: datetime | None = None) -> None:
        self.broker = Refusing()
        self.journal = journal
        self.clock = ManualClock(now or session().open)
        self.desk = DecisionEngine(rules(venue=BrokerCapabilities()), session(), atoms_of(Decimal(100_000)), name)
        broker: Any = self.broker
        venue = BrokerAccount(broker=broker, name="told", account_id="A1")
        self.execution = ExecutionEngine(JournalRecorder(journal=journal, clock=self.clock), venue, self.desk)

    def enter(self, fault: Rejected | None) -> OrderState:
        """The state of an entry whose submit is answered like this."""
        self.broker.fault = fault
        asyncio.run(self.execution.execute(MinuteCommands(decisions=self.desk.decide([proposal()]))))
        return self.execution.tickets[ENTRY].state

    def report(self, kind: str, meaning: RejectionMeaning | None) -> OrderState:
        """The state of the entry after an event of the broker's stream."""
        event = BrokerEvent(kind=kind, event_id=f"{kind} {meaning}", client_order_id=ENTRY, words="no", meaning=meaning)
        self.execution.apply_events([event])
        return self.execution.tickets[ENTRY].state


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench at the bell."""
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        yield Bench(journal)


@pytest.mark.parametrize("meaning", [None, *RejectionMeaning])
def test_the_meaning_is_in_the_journal_and_the_words_decide_nothing(
    bench: Bench, meaning: RejectionMeaning | None
) -> None:
    """A rejection is recorded with the plugin's meaning, and with none if the plugin gives none."""
    bench.enter(Rejected("42210004 off the grid", meaning=meaning))
    found = [event.payload.get("meaning") for event in bench.journal.events(kind="rejected")]
    assert found == ([] if meaning in {RejectionMeaning.DUPLICATE_ID, *UNPROCESSED} else [meaning])
    if meaning is None:
        assert bench.desk.exposure.holds == Holds()
        assert not bench.execution.rejections.must_read


def test_an_order_that_was_not_processed_counts_as_not_sent(bench: Bench) -> None:
    """It is dropped with the broker's words, so that a stop or exit is sent again; it is no rejection in a row."""
    assert bench.enter(Rejected("429", meaning=RejectionMeaning.RATE_LIMITED)) is OrderState.DROPPED
    [dropped] = bench.journal.events(kind=records.DROPPED)
    assert dropped.payload["words"] == "429"
    assert bench.desk.exposure.rejects_in_row == 0


@pytest.mark.parametrize("meaning", READING)
def test_the_account_is_read_at_once_where_the_books_may_be_wrong(bench: Bench, meaning: RejectionMeaning) -> None:
    """Shares, money or an opposite order that the books do not know: the reading shows which."""
    assert bench.enter(Rejected("no", meaning=meaning)) is OrderState.REJECTED
    assert bench.execution.rejections.must_read


def test_a_duplicate_id_ends_no_order(bench: Bench) -> None:
    """There is an order of this id at the broker: it is unknown and looked up, never rejected."""
    assert bench.enter(Rejected("must be unique", meaning=RejectionMeaning.DUPLICATE_ID)) is OrderState.UNKNOWN
    assert bench.execution.tickets[ENTRY].must_look_up
    assert bench.desk.exposure.working


def test_a_duplicate_id_after_the_order_was_found_changes_nothing(bench: Bench) -> None:
    """A working order goes on, and a filled or cancelled one is not looked up again."""
    bench.enter(None)
    assert bench.report("acknowledged", None) is OrderState.NEW
    assert bench.report("rejected", RejectionMeaning.DUPLICATE_ID) is OrderState.NEW
    assert bench.report("cancelled", None) is OrderState.CANCELLED
    bench.execution.tickets[ENTRY].must_look_up = False
    assert bench.report("rejected", RejectionMeaning.DUPLICATE_ID) is OrderState.CANCELLED
    assert not bench.execution.tickets[ENTRY].must_look_up


def test_a_duplicate_id_of_nobody_is_only_logged(bench: Bench) -> None:
    """An id that the session does not know has no order here."""
    event = BrokerEvent(
        kind=BrokerEventKind.REJECTED, event_id="1", client_order_id="x", meaning=RejectionMeaning.DUPLICATE_ID
    )
    bench.execution.apply_events([event])
    assert not bench.execution.tickets


def test_what_cannot_be_sold_short_is_not_sold_short_again(bench: Bench) -> None:
    """The journal has it, so that a restart knows it; what was known of the instrument stays."""
    bench.enter(Rejected("no shares to borrow", meaning=RejectionMeaning.NOT_SHORTABLE))
    assert bench.desk.exposure.instrument_rules["AAA"].shortable is False
    (event,) = bench.journal.events(kind=records.INSTRUMENT)
    assert "it cannot be sold short" in instrument_rules_text(event.facts(InstrumentRulesReported))


@pytest.mark.parametrize(("early_s", "wait_s"), [(0.0, CLOSED_S), (300.0, 300.0)])
def test_a_closed_market_gets_no_orders_until_it_opens(bench: Bench, early_s: float, wait_s: float) -> None:
    """Before the bell until the bell, in a session for a minute; a stop is tried all the same."""
    bench = Bench(bench.journal, session().open - timedelta(seconds=early_s))
    bench.enter(Rejected("the market is closed", meaning=RejectionMeaning.MARKET_CLOSED))
    rejections, entry = bench.execution.rejections, order()
    stop = attrs.evolve(entry, leg=Leg.STOP)
    assert "the market is closed" in rejections.denial_reason(entry)
    assert rejections.denial_reason(stop) == ""
    asyncio.run(bench.clock.sleep(wait_s - 1))
    assert rejections.denial_reason(entry)
    asyncio.run(bench.clock.sleep(2))
    assert rejections.denial_reason(entry) == ""


def test_an_instrument_that_is_gone_is_frozen_by_a_rejected_order_alone(bench: Bench) -> None:
    """A refused cancel does not say that the instrument is no longer traded."""
    bench.enter(None)
    bench.report("cancel_refused", RejectionMeaning.NOT_TRADABLE)
    assert not bench.desk.exposure.holds.symbols(Hold.FROZEN)
    bench.report("rejected", RejectionMeaning.NOT_TRADABLE)
    assert bench.desk.exposure.holds.symbols(Hold.FROZEN_FOR_SESSION) == {"AAA"}


@pytest.mark.parametrize(
    ("fault", "login"),
    [
        (LoginNeeded("401 no key"), "401 no key"),
        (Rejected("403 session expired", meaning=RejectionMeaning.NOT_LOGGED_IN), "403 session expired"),
        (Rejected("403 forbidden"), ""),
    ],
)
def test_not_every_403_is_a_login(fault: Rejected, login: str) -> None:
    """The meaning asks for a login, whatever the class of the error or the status of the answer."""
    broker: Any = Refusing()
    broker.fault = fault
    limited = BrokerPort(broker).for_session(ManualClock(session().open))
    with pytest.raises(Rejected):
        asyncio.run(limited.cancel("x"))
    assert limited.login_rejection == login
