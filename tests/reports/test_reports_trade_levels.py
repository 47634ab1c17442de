"""The levels of a trade are those that were ordered."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tbot_core.journal import codec, records
from tbot_core.journal.events.orders import OrderIntended
from tbot_core.journal.projection import fold
from tbot_core.journal.store import NewEvent
from tbot_core.model.types import (
    ExitReason,
    Instrument,
    InstrumentKind,
    Leg,
    Order,
    OrderType,
    Side,
    SignalId,
    Trade,
    stock,
)
from tbot_core.reports.trade_levels import LevelRecorder, key_of

NOON = dt.datetime(2026, 11, 24, 17, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
SIGNAL = SignalId(session=dt.date(2026, 11, 24), strategy="close", symbol="AAPL", minute=149, rule="momentum")
KEY = (SIGNAL.session, "close", "AAPL")


def order(leg: Leg, cid: str, *, stop: str | None = None, limit: str | None = None) -> Order:
    """An order of the signal."""
    return Order(
        client_order_id=cid,
        signal=SIGNAL,
        leg=leg,
        buy=leg is Leg.ENTRY,
        quantity=Decimal(10),
        type=OrderType.STOP if stop else OrderType.LIMIT,
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None if stop is None else Decimal(stop),
    )


def bracket() -> Order:
    """An entry with its stop and target."""
    legs = (order(Leg.STOP, "s", stop="98.01"), order(Leg.TARGET, "t", limit="104.00"))
    return attrs.evolve(order(Leg.ENTRY, "e", limit="100.20"), protection=legs)


def test_a_stop_has_its_level_and_each_move() -> None:
    """The ordered level takes the place of the planned one; each move is listed with its time."""
    found = LevelRecorder()
    found.decided(SIGNAL, NOON, Side.LONG, 98.0049, 104.0)
    found.submitted(bracket(), NOON)
    found.moved("s", NOON + MINUTE, Decimal("98.50"))
    found.moved("s", NOON + MINUTE * 2, Decimal("98.50"))  # asked again, as the broker had not confirmed
    found.moved("other", NOON + MINUTE * 3, Decimal("99.00"))
    levels = found.levels[KEY]
    assert levels.stops == ((NOON, Decimal("98.01")), (NOON + MINUTE, Decimal("98.50")))
    assert (levels.minute, levels.rule, levels.target) == (149, "momentum", Decimal("104.00"))


def test_rounding_the_planned_level_is_no_move_of_the_stop() -> None:
    """Also where the order is sent later than the decision, as for an entry that waited for its fill."""
    found = LevelRecorder()
    found.decided(SIGNAL, NOON, Side.LONG, 98.0049, None)
    found.submitted(bracket(), NOON + MINUTE)
    assert found.levels[KEY].stops == ((NOON, Decimal("98.01")),)
    found.moved("s", NOON + MINUTE * 2, Decimal("98.50"))
    assert found.levels[KEY].stops[1:] == ((NOON + MINUTE * 2, Decimal("98.50")),)


@pytest.mark.parametrize(("side", "stop", "target"), [(Side.LONG, "22.38", "23.71"), (Side.SHORT, "22.37", "23.70")])
def test_a_planned_level_is_on_the_grid_as_the_plan_has_it(side: Side, stop: str, target: str) -> None:
    """Rounded up for a long position and down for a short one: a person sees the price that is acted on."""
    found = LevelRecorder()
    found.decided(SIGNAL, NOON, side, 22.3734, 23.7006)
    assert found.levels[KEY].stops == ((NOON, Decimal(stop)),)
    assert found.levels[KEY].target == Decimal(target)


def test_a_stop_without_an_order_has_the_planned_level() -> None:
    """A stop that acts on closed bars rests at no broker: its level is that of the decision; NaN is none."""
    found = LevelRecorder()
    found.decided(SIGNAL, NOON, Side.LONG, 98.0, math.nan)
    assert found.levels[KEY].stops == ((NOON, Decimal("98.0")),)
    assert found.levels[KEY].target is None
    found.decided(SIGNAL, NOON, Side.LONG, None, None)
    assert found.levels[KEY].stops == ()


def test_orders_of_a_signal_that_was_not_decided_here_are_left_out() -> None:
    """A stop of a position that was carried in has no signal in this part of the journal."""
    found = LevelRecorder()
    found.submitted(bracket(), NOON)
    assert found.levels == {}


def decision(reason: str) -> dict[str, Any]:
    """The payload of a decision about the signal."""
    signal = attrs.asdict(SIGNAL) | {"session": SIGNAL.session.isoformat()}
    return {"signal": signal, "side": "long", "reason": reason, "stop": 98.0, "target": None}


def test_the_journal_has_the_same_levels() -> None:
    """Decisions, orders and requested moves of a journal give what the recorder of a backtest gives."""
    entry = bracket()
    whole = [
        NewEvent(kind=records.DECISION, payload=decision("ALLOWED"), time=NOON),
        *(
            NewEvent(
                kind=records.INTENDED, cid=one.client_order_id, payload=codec.write(OrderIntended.of(one)), time=NOON
            )
            for one in (entry, *entry.protection)
        ),
        NewEvent(
            kind=records.REPLACE_REQUESTED,
            cid="s",
            payload={"stop_price": "98.50", "reason": "TRAILING_STOP"},
            time=NOON + MINUTE,
        ),
        NewEvent(kind=records.SESSION_CLOSED, payload={}, time=NOON),
    ]
    found = LevelRecorder()
    found.decided(SIGNAL, NOON, Side.LONG, 98.0, None)
    found.submitted(entry, NOON)
    found.moved("s", NOON + MINUTE, Decimal("98.50"))
    assert fold(whole, LevelRecorder()).levels == found.levels
    denied = NewEvent(kind=records.DECISION, payload=decision("MAX_TRADES"), time=NOON)
    assert fold([denied], LevelRecorder()).levels == {}


def test_a_trade_finds_its_levels_by_the_exchange_date_of_its_entry() -> None:
    """The key is the session, not the date in UTC."""
    trade = Trade(
        strategy="close",
        instrument=stock("AAPL"),
        side=Side.LONG,
        quantity=Decimal(10),
        entry_time=NOON,
        entry_price=Decimal(100),
        exit_time=NOON + MINUTE,
        exit_price=Decimal(101),
        fees=Decimal(0),
        pnl=Decimal(10),
        exit_reason=ExitReason.TIME,
    )
    assert key_of(trade) == KEY
    fund = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAPL", leverage=Decimal(-1))
    assert key_of(attrs.evolve(trade, instrument=fund)) == KEY
