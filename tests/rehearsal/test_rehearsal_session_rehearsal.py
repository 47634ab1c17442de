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
from tbot_core.model.clock import SystemClock
from tbot_core.model.types import Account, ExitReason, Fill, Leg, Order, OrderType, Side, SignalId, Trade
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.session_parity import Cause, Difference, Kind, Place
from tbot_core.rehearsal.session_rehearsal import (
    SessionReport,
    SessionTerms,
    disagreements,
    recorded_days,
    rehearse_session,
)
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
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
    symbol="AAA",
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
            symbol="AAA",
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
