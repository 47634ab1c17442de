"""What the orders of a signal trade: its own stock, or a fund or put in its place."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tbot_core.model.types import Instrument, InstrumentKind, Leg, Order, OrderType, Side, stock
from tbot_core.testing.trades import identity

FUND = Instrument(symbol="DOWN", kind=InstrumentKind.FUND, underlying="AAA", leverage=Decimal(-1))
PUT = Instrument(
    symbol="AAA260116P00100000",
    kind=InstrumentKind.PUT,
    underlying="AAA",
    multiplier=100,
    leverage=Decimal(-4),
)
FIELDS: dict[str, Any] = {"symbol": "DOWN", "kind": InstrumentKind.FUND, "underlying": "AAA"}


@pytest.mark.parametrize(
    "fields",
    [
        {"multiplier": 0},
        {"multiplier": -100},
        {"multiplier": 100},  # a fund
        {"leverage": Decimal(0)},
        {"leverage": Decimal("NaN")},
        {"kind": InstrumentKind.PUT, "leverage": Decimal(1)},
        {"kind": InstrumentKind.STOCK},  # of another symbol
        {"symbol": "AAA"},  # the stock is no fund of itself
        {"symbol": "AAA", "kind": InstrumentKind.STOCK, "leverage": Decimal(2)},
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any]) -> None:
    """A multiplier is positive, a leverage not 0; only a put has a multiplier, and only a stock trades itself."""
    with pytest.raises(ValueError, match=r"DOWN|AAA"):
        Instrument(**(FIELDS | fields))


def test_an_order_trades_the_stock_of_its_signal_unless_it_says_otherwise() -> None:
    """The symbol of an order is that of its instrument."""
    terms: dict[str, Any] = {"leg": Leg.ENTRY, "buy": True, "quantity": Decimal(1), "type": OrderType.MARKET}
    own = Order(client_order_id="1", signal=identity("AAA"), **terms)
    proxy = Order(client_order_id="2", signal=identity("AAA"), instrument=FUND, **terms)
    assert (own.symbol, own.instrument) == ("AAA", stock("AAA"))
    assert (proxy.symbol, proxy.signal.symbol) == ("DOWN", "AAA")
    assert (own.instrument.is_proxy, proxy.instrument.is_proxy) == (False, True)
    assert (own.instrument.recorded, proxy.instrument.recorded) == (None, FUND)


@pytest.mark.parametrize(
    ("instrument", "short", "atoms"), [(stock("AAA"), Side.SHORT, 60), (FUND, Side.LONG, 60), (PUT, Side.LONG, 6000)]
)
def test_side_and_money_follow_from_leverage_and_multiplier(instrument: Instrument, short: Side, atoms: int) -> None:
    """What gains while the underlying falls is bought for a short signal; a put's price is that of one share."""
    assert instrument.side(Side.SHORT) is short
    assert instrument.side(Side.LONG) is Side(-short)
    assert instrument.atoms(20, 3) == atoms
