"""A recorded session at a broker's venue: what must agree at its end, and what cannot be rehearsed."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.contracts import AccountSnapshot, OrderStatus, OrderStatusReport, PositionReport
from tbot_core.errors import DataError, PluginError, UsageError
from tbot_core.journal import codec, records
from tbot_core.journal.events.accounts import Adjustment
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.store import NewEvent
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import Account, ExitReason, Fill, Leg, Order, OrderType, Side, SignalId, Trade, stock
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.session_rehearsal import (
    Cause,
    Difference,
    Kind,
    Place,
    SessionRecord,
    SessionReport,
    SessionTerms,
    by_cause,
    differences,
    disagreements,
    recorded_days,
    rehearse_session,
)
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = dt.date(2018, 3, 20)

OPEN = dt.datetime(2018, 3, 20, 13, 30, tzinfo=dt.UTC)


def fill(cid: str, price: str, *, buy: bool, quantity: int = 10) -> Fill:
    """A fill of ten shares of AAA."""
    return Fill(
        execution_id=cid,
        client_order_id=cid,
        symbol="AAA",
        buy=buy,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fees=Decimal(0),
        time=OPEN,
    )


BOUGHT, SOLD = fill("e", "20.00", buy=True), fill("x", "21.00", buy=False)

TRADE = Trade(
    strategy="open",
    instrument=stock("AAA"),
    side=Side.LONG,
    quantity=Decimal(10),
    entry_time=OPEN,
    entry_price=Decimal(20),
    exit_time=OPEN,
    exit_price=Decimal(21),
    fees=Decimal(0),
    pnl=Decimal(10),
    exit_reason=ExitReason.TIME,
)


@attrs.frozen
class Ended:
    """How the run ended."""

    open: tuple[str, ...] = ()
    trades: tuple[Trade, ...] = (TRADE,)

    @property
    def summary(self) -> Any:
        """The run's result."""
        return self


def journal(*fills: Fill, cash: str = "100010.00", still_open: tuple[str, ...] = ()) -> list[Any]:
    """A session that bought and sold; cash and open symbols are the bot's own at its close."""

    def event(kind: str, payload: dict[str, Any], cid: str | None = None) -> Any:
        return NewEvent(kind=kind, payload=payload, time=OPEN, cid=cid)

    signal = SignalId(session=DAY, strategy="open", symbol="AAA", minute=20, rule="up")
    found = [event(records.SESSION_OPENED, {"date": f"{DAY}", "equity": "100000", "symbols": 1})]
    for one in fills:
        leg = Leg.ENTRY if one.buy else Leg.EXIT
        order = Order(
            client_order_id=one.client_order_id,
            signal=signal,
            leg=leg,
            buy=one.buy,
            quantity=one.quantity,
            type=OrderType.MARKET,
            reason=None if one.buy else ExitReason.TIME,
        )
        found.append(event(records.INTENDED, codec.write(OrderIntended.of(order)), one.client_order_id))
        found.append(event("fill", {"words": ""} | codec.write(Adjustment.of(one)), one.client_order_id))
    closed = {"date": f"{DAY}", "equity": cash, "cash": cash, "pnl": "0", "trades": 1, "open": list(still_open)}
    return [*found, event(records.SESSION_CLOSED, closed)]


def account(cash: str = "100010.00", held: int = 0, *, working: bool = False) -> AccountSnapshot:
    """The venue's account."""
    orders = [
        OrderStatusReport(
            client_order_id="s",
            broker_order_id="1",
            symbol="AAA",
            kind=OrderStatus.WORKING,
            buy=False,
            quantity=Decimal(10),
            time=OPEN,
        )
    ]
    return AccountSnapshot(
        account=Account(
            account_id="A", cash=Decimal(cash), equity=Decimal(cash), buying_power=Decimal(cash), currency="USD"
        ),
        holdings=(PositionReport(symbol="AAA", quantity=Decimal(held)),),
        orders=tuple(orders if working else ()),
    )


FLAT = journal(BOUGHT, SOLD)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"events": FLAT[:-1]}, ["DAY: the session was closed 0 times"]),
        ({"reading": account(held=5)}, ["HELD: {'AAA': Decimal('5')} at the venue, {} in the journal, [] by the bot"]),
        ({"ended": Ended(("AAA",))}, ["HELD: {} at the venue, {} in the journal, ['AAA'] by the bot"]),
        ({"reading": account(working=True)}, ["WORKING: s works at the venue after the close"]),
        ({"reading": account("100009.99")}, ["CASH: 100009.99 at the venue, 100010"]),
        ({"events": journal(BOUGHT, SOLD, cash="100010.01")}, ["CASH: 100010.00 at the venue"]),
        ({"told": [BOUGHT, attrs.evolve(SOLD, price=Decimal("21.01"))]}, ["FILL: x: ", "TRADES: fills at the venue"]),
        ({"told": [BOUGHT]}, ["FILL: x: (Decimal('0')", "TRADES: fills at the venue gained -200"]),
        ({"ended": Ended(trades=())}, ["TRADES: fills at the venue gained 10.00, and the trades of the bot 0"]),
    ],
)
def test_venue_journal_and_bot_agree_on_positions_cash_and_fills(changes: dict[str, Any], words: list[str]) -> None:
    """Each of the three that differs is named, with what each has."""
    given = {"ended": Ended(), "events": FLAT, "reading": account(), "told": [BOUGHT, SOLD], **changes}
    found = disagreements(*given.values())
    assert [one.startswith(begin) for one, begin in zip(found, words, strict=True)] == [True] * len(words), found


def test_a_position_that_all_three_hold_is_no_disagreement() -> None:
    """A stuck position is held at the venue, in the journal and by the bot."""
    events = journal(BOUGHT, cash="99800.00", still_open=("AAA",))
    assert disagreements(Ended(("AAA",), ()), events, account("99800.00", 10), [BOUGHT]) == []  # type: ignore[arg-type]


def report(**changes: Any) -> SessionReport:
    """A report of a session."""
    given = {"terms": SessionTerms(), "faults": {}, "differences": (), "disagreements": (), "venue": ("9 requests",)}
    return SessionReport(day=DAY, decisions=3, orders=2, fills=2, trades=1, **{**given, **changes})


def test_a_report_lists_differences_by_cause() -> None:
    """A difference without a cause, and a disagreement, are violations."""
    place = Place(20, Kind.FILL, "open", "AAA", "entry", 1)
    spread, unknown = (
        Difference(place=place, live={"fills": "9 @ 20"}, replay={"fills": "10 @ 20"}, cause=cause)
        for cause in (Cause.SPREAD, Cause.NONE)
    )
    one = report(differences=(spread, unknown), disagreements=("CASH: ...",))
    assert one.causes == {"NONE": 1, "SPREAD": 1}
    assert one.violations == (unknown.sentence, "CASH: ...")
    assert one.lines() == [
        "2018-03-20: 3 decisions, 2 orders, 2 fills, 1 trade",
        "denials: none",
        "differences from the replay: NONE 1, SPREAD 1",
        f"  {spread.sentence}",
        f"  {unknown.sentence}",
        "venue, journal and bot do not agree",
        "  CASH: ...",
        "9 requests",
    ]
    assert one.document()["violations"] == [unknown.sentence, "CASH: ..."]


def test_a_report_of_a_session_with_faults_names_them() -> None:
    """It is not compared with a replay."""
    one = report(terms=SessionTerms(seed=7), faults={"RESTART": 2})
    assert one.violations == ()
    assert one.lines()[2:4] == ["faults of seed 7: RESTART x2", "venue, journal and bot agree"]
    assert report().lines()[2] == "differences from the replay: none"


@pytest.mark.usefixtures("loopback", "plugins")
@pytest.mark.slow
def test_what_cannot_be_rehearsed_is_refused(tmp_path: Path) -> None:
    """A day without a session, one without bars, and a broker whose venue trades no recorded session."""
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nFILTERS=none\n")
    (tmp_path / "data").mkdir()
    StoreFixture(folder=tmp_path / "data").put(rising_bars("AAA", exchange_sessions("2018-03-20", "2018-03-20")))
    acme, clock = broker_plugin("acme"), SystemClock()
    assert recorded_days(tmp_path, dt.date(2018, 3, 1), dt.date(2018, 3, 31), clock) == (DAY,)
    with pytest.raises(DataError, match="No bars of any symbol are stored"):
        recorded_days(tmp_path, dt.date(2018, 4, 3), dt.date(2018, 4, 4), clock)
    with pytest.raises(UsageError, match="The exchange is closed on 2018-03-18"):
        rehearse_session(acme, tmp_path, dt.date(2018, 3, 18), SessionTerms(), clock)
    with pytest.raises(PluginError, match="cannot trade a recorded session"):
        rehearse_session(acme, tmp_path, DAY, SessionTerms(), clock)


_FOUND = ExchangeCalendar().session(DAY)


assert _FOUND is not None

SESSION = _FOUND

NO_SPREAD, CENT = Decimal(0), Decimal("0.01")


@attrs.frozen(kw_only=True)
class Bought:
    """A signal of a strategy that was bought, stopped and became a trade."""

    symbol: str = "AAA"
    minute: int = 20
    reason: str = "ALLOWED"
    quantity: int = 10
    limit: str = "20.04"
    price: str = "20.01"
    stop: str = "19.80"
    exit_price: str = "19.80"

    @property
    def signal(self) -> SignalId:
        """The signal."""
        return SignalId(session=DAY, strategy="open", symbol=self.symbol, minute=self.minute, rule="up")

    def events(self) -> list[NewEvent]:
        """What the journal has of it."""
        payload = {
            "signal": attrs.asdict(self.signal) | {"session": self.signal.session.isoformat()},
            "side": "long",
            "reason": self.reason,
        }
        decision = payload | dict.fromkeys(("price", "stop", "target"))
        found = [self.event(records.DECISION, decision)]
        if self.reason != "ALLOWED":
            return found
        for leg, price in ((Leg.ENTRY, self.price), (Leg.STOP, self.exit_price)):
            order = self.order(leg)
            cid = order.client_order_id
            found.append(self.event(records.INTENDED, codec.write(OrderIntended.of(order)), cid))
            found.append(self.event("fill", codec.write(Adjustment.of(self.fill(order, price))), cid))
        return found

    def order(self, leg: Leg) -> Order:
        """The order of a leg."""
        entry = leg is Leg.ENTRY
        return Order(
            client_order_id=f"{self.symbol} {self.minute} {leg.value}",
            signal=self.signal,
            leg=leg,
            buy=entry,
            quantity=Decimal(self.quantity),
            type=OrderType.LIMIT if entry else OrderType.STOP,
            limit_price=Decimal(self.limit) if entry else None,
            stop_price=None if entry else Decimal(self.stop),
        )

    def fill(self, order: Order, price: str) -> Fill:
        """The fill of an order, in the minute after the signal."""
        return Fill(
            execution_id=order.client_order_id,
            client_order_id=order.client_order_id,
            symbol=self.symbol,
            buy=order.buy,
            quantity=order.quantity,
            price=Decimal(price),
            fees=Decimal(0),
            time=SESSION.moment(self.minute + 1),
        )

    def trade(self) -> Trade:
        """The trade."""
        entry, left = Decimal(self.price), Decimal(self.exit_price)
        return Trade(
            strategy="open",
            instrument=stock(self.symbol),
            side=Side.LONG,
            quantity=Decimal(self.quantity),
            entry_time=SESSION.moment(self.minute + 1),
            entry_price=entry,
            exit_time=SESSION.moment(self.minute + 1),
            exit_price=left,
            fees=Decimal(1),
            pnl=(left - entry) * self.quantity - 1,
            exit_reason=ExitReason.STOP,
        )

    @staticmethod
    def event(kind: str, payload: dict[str, Any], cid: str | None = None) -> NewEvent:
        """An event of the journal."""
        return NewEvent(kind=kind, payload=payload, time=SESSION.open, cid=cid)


def record(*bought: Bought, more: Sequence[NewEvent] = ()) -> SessionRecord:
    """A session with these signals."""
    events: Any = [*(event for one in bought for event in one.events()), *more]
    return SessionRecord(events=events, trades=[one.trade() for one in bought if one.reason == "ALLOWED"])


def compared(live: SessionRecord, replay: SessionRecord, half_spread: Decimal = NO_SPREAD) -> list[tuple[Kind, Cause]]:
    """What differs, and why."""
    return [(one.place.kind, one.cause) for one in differences(live, replay, SESSION, half_spread)]


def test_equal_sessions_have_no_difference_whatever_their_fees_are() -> None:
    """Fees are those of the simulator; a venue books them on another day."""
    bought = Bought()
    free = SessionRecord(
        events=record(bought).events, trades=[attrs.evolve(bought.trade(), fees=Decimal(0), pnl=Decimal("-2.1"))]
    )
    assert compared(free, record(bought)) == []


def test_without_a_spread_no_difference_has_a_cause() -> None:
    """Another limit is a fault of one of the two, and is reported with both values."""
    found = differences(record(Bought(limit="20.05")), record(Bought()), SESSION, NO_SPREAD)
    assert by_cause(found) == {Cause.NONE: 1}
    assert found[0].sentence == (
        "order [OPEN] AAA at minute 20 entry: limit 20.05, in the replay 20.04 (no cause is known)"
    )


def test_a_spread_moves_the_limit_and_what_follows_from_it() -> None:
    """The entry is priced at the far side; the fills and the trade of that signal follow."""
    live = record(Bought(limit="20.05", quantity=9))
    found = compared(live, record(Bought()), CENT)
    assert found[0] == (Kind.ORDER, Cause.SPREAD)
    assert {(kind, cause) for kind, cause in found[1:]} == {
        (Kind.ORDER, Cause.SIGNAL),
        (Kind.FILL, Cause.SIGNAL),
        (Kind.TRADE, Cause.SIGNAL),
    }


def test_a_spread_does_not_explain_another_decision_on_the_same_price() -> None:
    """A decision that differs in its side or its stop is not one of sizing."""
    other = record(Bought(reason="SYMBOL_HALTED"))
    assert compared(other, record(Bought()), CENT)[0] == (Kind.DECISION, Cause.NONE)
    small = record(Bought(reason="QUANTITY_TOO_SMALL"))
    assert compared(small, record(Bought()), CENT)[0] == (Kind.DECISION, Cause.SPREAD)
    assert compared(small, record(Bought()))[0] == (Kind.DECISION, Cause.NONE)


def test_a_limit_that_counts_holdings_follows_from_an_earlier_difference() -> None:
    """A later signal is denied by MAX_TRADES at the venue alone, where more was filled before; no earlier one is."""
    spread, denied = Bought(limit="20.05", quantity=9), Bought(symbol="BBB", minute=40, reason="MAX_TRADES")
    found = differences(record(spread, denied), record(Bought(), Bought(symbol="BBB", minute=40)), SESSION, CENT)
    [later] = [one for one in found if one.place.kind is Kind.DECISION]
    assert later.cause is Cause.HOLDINGS
    assert [one.cause for one in found if one.place.symbol == "BBB"][1:] == [Cause.SIGNAL] * 5
    early = attrs.evolve(denied, minute=10)
    found = differences(record(spread, early), record(Bought(), Bought(symbol="BBB", minute=10)), SESSION, CENT)
    assert found[0].cause is Cause.NONE


def test_a_row_that_one_side_lacks_is_reported_with_its_values() -> None:
    """Where it is, and what it says."""
    found = differences(record(Bought()), record(), SESSION, NO_SPREAD)
    assert found[0].sentence == (
        "decision [OPEN] AAA at minute 20: only at the venue: side long, reason ALLOWED, price None, stop None, "
        "target None (no cause is known)"
    )
    [*_, trade] = differences(record(), record(Bought()), SESSION, NO_SPREAD)
    assert "only in the replay: side long, quantity 10, entry 20.01" in trade.sentence


@pytest.mark.parametrize("kind", ["rejected", "cancel_refused"])
def test_an_order_that_the_venue_refused_is_a_cause(kind: str) -> None:
    """A stop beyond the price is refused by a venue, and taken by the simulator."""
    live = Bought(exit_price="19.75")
    refused = Bought.event(kind, {}, live.order(Leg.STOP).client_order_id)
    found = compared(record(live, more=[refused]), record(Bought()))
    assert found[0] == (Kind.FILL, Cause.REFUSED)
    assert found[1:] == [(Kind.TRADE, Cause.SIGNAL)]
