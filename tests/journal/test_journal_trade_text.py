"""The line of an entry and of an exit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import attrs
import pytest

from tbot_core.journal import records
from tbot_core.journal.projections.trade_text import PlannedStops, entry_text, exit_text
from tbot_core.journal.store import NewEvent
from tbot_core.model.types import ExitReason, Leg, Order, OrderType, Side, SignalId, Trade
from tbot_core.trading.orders import OrderRecord

BELL = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
SIGNAL = SignalId(session=date(2026, 11, 24), strategy="open", symbol="AAPL", minute=5, rule="up")
ENTRY = Order(
    client_order_id="e",
    signal=SIGNAL,
    leg=Leg.ENTRY,
    symbol="AAPL",
    buy=True,
    quantity=Decimal(12),
    type=OrderType.MARKET,
)
STOP = attrs.evolve(
    ENTRY,
    client_order_id="s",
    leg=Leg.STOP,
    buy=False,
    type=OrderType.STOP,
    stop_price=Decimal("170.37"),
    reason=ExitReason.STOP,
)


@pytest.mark.parametrize(
    ("order", "price", "stop", "text"),
    [
        (ENTRY, "173.85", "170.37", "[OPEN] BUY 12 AAPL @ 173.85 stop 170.37"),
        (attrs.evolve(ENTRY, buy=False), "173.85", None, "[OPEN] SELL SHORT 12 AAPL @ 173.85"),
        (attrs.evolve(ENTRY, reason=ExitReason.REBALANCE), None, None, "[OPEN] TOP-UP BUY 12 AAPL"),
    ],
)
def test_an_entry_is_one_line(order: Order, price: str | None, stop: str | None, text: str) -> None:
    """Strategy, side, quantity, symbol, price and stop; what is not known is left out."""
    known = [None if one is None else Decimal(one) for one in (price, stop)]
    assert entry_text(order, Decimal(12), *known) == text


def test_an_exit_is_one_line() -> None:
    """Strategy, symbol, why, profit, quantity and price."""
    trade = Trade(
        strategy="mid",
        symbol="FENNO",
        side=Side.LONG,
        quantity=Decimal(10),
        entry_time=BELL,
        entry_price=Decimal(20),
        exit_time=BELL,
        exit_price=Decimal("19.50"),
        fees=Decimal(0),
        pnl=Decimal("-5.00"),
        exit_reason=ExitReason.TIME,
    )
    assert exit_text(trade) == "[MID] EXIT FENNO time \N{MINUS SIGN}5.00 (10 @ 19.50)"


def test_the_level_of_a_stop_is_that_of_its_order_else_as_planned() -> None:
    """Plans are those of the session; a decision without a level plans none."""
    planned = PlannedStops()
    decision = {
        "signal": attrs.asdict(SIGNAL) | {"session": SIGNAL.session.isoformat()},
        "stop": 170.123,
        "side": "long",
    }
    for payload in (decision, {**decision, "stop": None}):
        planned.apply(NewEvent(kind=records.DECISION, payload=payload, time=BELL))
    assert planned.of(ENTRY, [OrderRecord(order=ENTRY)]) == Decimal("170.13")
    assert planned.of(ENTRY, [OrderRecord(order=ENTRY), OrderRecord(order=STOP)]) == Decimal("170.37")
    planned.apply(NewEvent(kind=records.SESSION_OPENED, payload={}, time=BELL))
    assert planned.of(ENTRY, []) is None
