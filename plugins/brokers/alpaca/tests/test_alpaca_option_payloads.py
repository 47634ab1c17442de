"""What the pure parser makes of the vendor's documents about options."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from tbot_broker_alpaca import option_data, parse

from tbot_core.contracts import OrderStatus
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.option_symbols import OptionPriceSteps, OptionRight

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, NOTHING = Decimal(1), Decimal(2), Decimal(0)
CALENDAR = ExchangeCalendar()
SHARES = {
    "type": "equity",
    "symbol": "AAPL",
    "asset_id": "b0b6dd9d",
    "amount": "100",
    "allocation_percentage": "100",
    "settlement_type": "T+1",
    "settlement_method": "CCC",
    "delayed_settlement": False,
}
CASH = SHARES | {"type": "cash", "symbol": "USD", "amount": "12.5"}
CONTRACT: dict[str, Any] = {
    "id": "98359ef7",
    "symbol": "AAPL250620P00100000",
    "name": "AAPL Jun 20 2025 100 Put",
    "status": "active",
    "tradable": True,
    "expiration_date": "2025-06-20",
    "root_symbol": "AAPL",
    "underlying_symbol": "AAPL",
    "underlying_asset_id": "b0b6dd9d",
    "type": "put",
    "style": "american",
    "strike_price": "100",
    "multiplier": "100",
    "size": "100",
    "open_interest": "237",
    "open_interest_date": "2025-06-18",
    "close_price": "148.38",
    "close_price_date": "2025-06-18",
    "deliverables": [SHARES],
    "ppind": True,
}
ACCOUNT = {"account_number": "PA1", "equity": "1", "cash": "1", "status": "ACTIVE"}


def without(*names: str, **change: Any) -> dict[str, Any]:
    """The contract without these fields, and with others changed."""
    return {name: CONTRACT[name] for name in CONTRACT if name not in names} | change


def listing(document: dict[str, Any], underlying: str = "AAPL") -> Any:
    """A contract of the chain."""
    return option_data.listing(document, underlying, CALENDAR)


def test_a_contract_is_read() -> None:
    """Each field as the vendor has it; it expires at the close of its last session."""
    found = listing(CONTRACT)
    assert (found.symbol, found.is_standard, found.tradable, found.multiplier) == (CONTRACT["symbol"], True, True, 100)
    assert (found.open_interest, found.open_interest_date) == (237, dt.date(2025, 6, 18))
    assert (found.contract.strike, found.contract.right) == (100.0, OptionRight.PUT)
    assert (found.contract.expiry, found.contract.underlying) == (dt.date(2025, 6, 20), "AAPL")
    assert found.contract.expires == dt.datetime(2025, 6, 20, 20, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "document",
    [
        without("deliverables"),
        without("multiplier"),
        without("size"),
        without(deliverables=[]),
        without(deliverables=None),
        without(deliverables=[SHARES, CASH]),
        without(deliverables=[CASH]),
        without(deliverables=[SHARES, SHARES]),
        without(deliverables=[SHARES | {"amount": "110"}]),
        without(deliverables=[SHARES | {"amount": None}]),
        without(deliverables=[SHARES | {"symbol": "MSFT"}]),
        without(deliverables=[SHARES | {"asset_id": "another"}]),
        without(deliverables=[SHARES | {"type": "cash"}]),
        without(deliverables=[SHARES | {"delayed_settlement": True}]),
        without(size="110"),
        without(multiplier="150"),
        without(symbol="AAPL1250620P00100000"),
        without(symbol="APPL250620P00100000"),
    ],
)
def test_only_a_hundred_shares_and_nothing_else_are_standard(document: dict[str, Any]) -> None:
    """Cash beside the shares, another number or stock, a class of its own, and what is not known are not."""
    assert not listing(document).is_standard


@pytest.mark.parametrize(
    ("document", "steps"),
    [
        (CONTRACT, OptionPriceSteps.PENNY),
        (without(ppind=False), OptionPriceSteps.STANDARD),
        (without("ppind"), OptionPriceSteps.STANDARD),
        (without(ppind="true"), OptionPriceSteps.STANDARD),
    ],
)
def test_a_class_whose_steps_are_not_known_has_the_widest(document: dict[str, Any], steps: OptionPriceSteps) -> None:
    """Only the vendor's own word makes them smaller."""
    assert listing(document).price_steps is steps


def test_three_funds_trade_in_pennies_at_each_price() -> None:
    """SPY, QQQ and IWM, where the vendor says that they are in the program."""
    row = without(symbol="SPY250620P00100000", underlying_symbol="SPY")
    assert listing(row, "SPY").price_steps is OptionPriceSteps.PENNY_ALWAYS
    assert listing(row | {"ppind": False}, "SPY").price_steps is OptionPriceSteps.STANDARD


@pytest.mark.parametrize(
    ("change", "tradable"),
    [({"tradable": False}, False), ({"status": "inactive"}, False), ({"tradable": "yes"}, False), ({}, True)],
)
def test_a_contract_is_tradable_where_both_fields_say_so(change: dict[str, Any], tradable: bool) -> None:
    """An inactive one is not, nor one whose answer is no truth value."""
    assert listing(without(**change)).tradable is tradable
    assert option_data.rules(without(**change)).tradable is tradable


@pytest.mark.parametrize(
    ("day", "symbol", "expires"),
    [
        ("2025-11-28", "AAPL251128P00100000", "2025-11-28T18:00:00+00:00"),
        ("2025-04-18", "AAPL250418P00100000", "2025-04-17T20:00:00+00:00"),
        ("2010-01-16", "AAPL100116P00100000", "2010-01-15T21:00:00+00:00"),
    ],
)
def test_trading_ends_with_the_last_session(day: str, symbol: str, expires: str) -> None:
    """On a short day early; for an expiry on a holiday or a Saturday on the session before."""
    found = listing(without(expiration_date=day, symbol=symbol))
    assert found.contract.expires == dt.datetime.fromisoformat(expires)


@pytest.mark.parametrize(
    "document",
    [
        without("symbol"),
        without("underlying_symbol"),
        without("tradable"),
        without("strike_price"),
        without(underlying_symbol="MSFT"),
        without(strike_price="101"),
        without(type="call"),
        without(type="both"),
        without(expiration_date="2025-06-27"),
        without(expiration_date="soon"),
        without(open_interest="-1"),
        without(open_interest="2.5"),
        without(open_interest="many"),
        without(multiplier="0.5"),
        without(symbol="AAPL  250620P00100000"),
        without(deliverables=["shares"]),
    ],
)
def test_a_contract_that_contradicts_itself_is_not_read(document: dict[str, Any]) -> None:
    """Its symbol, its fields and the underlying that was asked for must agree."""
    with pytest.raises(Exception, match="cannot be read"), parse.readable("chain"):
        listing(document)


def test_the_rules_of_an_option_are_whole_contracts() -> None:
    """They are not sold short, and the step of their prices is that of the price."""
    found = option_data.rules(CONTRACT)
    assert (found.quantity_step, found.tick) == (Decimal(1), None)
    assert (found.fractionable, found.shortable) == (False, False)
    assert (found.kind, found.name) == ("put", "AAPL Jun 20 2025 100 Put")
    assert option_data.rules(without(type="call", symbol="AAPL250620C00100000")).kind is None


def test_the_quotes_of_the_specification_are_read(shared: Path) -> None:
    """Prices, sizes, and the time to the microsecond."""
    folder = shared / "payloads" / "alpaca" / "openapi-examples"
    if not folder.is_dir():
        pytest.skip(f"no saved replies at {folder}")
    saved = json.loads((folder / "market-data-api.json").read_text())
    (rows,) = (one["payload"]["quotes"] for one in saved if one["path"] == "/v1beta1/options/quotes/latest")
    found = option_data.quote("AAPL240419P00140000", rows["AAPL240419P00140000"], "opra")
    assert (found.bid, found.ask, found.bid_size, found.ask_size) == (0.15, 0.16, 164, 669)
    assert found.time == dt.datetime(2024, 2, 28, 15, 30, 28, 46330, tzinfo=dt.UTC)
    assert not found.is_modified
    assert option_data.quote("AAPL240419P00140000", rows["AAPL240419P00140000"], "indicative").is_modified


def saved_orders(shared: Path, name: str) -> list[dict[str, Any]]:
    """The orders of this name among the examples of the specification, each as one of a list."""
    file = shared / "payloads" / "alpaca" / "openapi-examples" / "trading-api.json"
    if not file.is_file():
        pytest.skip(f"no saved replies at {file}")
    found = [one["payload"] for one in json.loads(file.read_text()) if one.get("name") == name]
    return [row for one in found for row in (one if isinstance(one, list) else [one])]


def test_the_option_orders_of_the_specification_are_read(shared: Path) -> None:
    """The example of a purchase of two calls is an order that works."""
    rows = saved_orders(shared, "Options")
    assert len(rows) == 4
    reports, unreadable = parse.orders(rows)
    assert unreadable == {}
    assert {(one.symbol, one.buy, one.quantity, one.kind) for one in reports} == {
        ("AAPL250620C00100000", True, TWO, OrderStatus.WORKING)
    }


def test_orders_of_several_legs_are_left_out(shared: Path) -> None:
    """Neither the order nor its legs are orders of tbot, nested or listed one by one; nor is an event of them."""
    rows = saved_orders(shared, "MultilegOptions")
    legs = [leg for row in rows for leg in row["legs"]]
    assert len(legs) == 2 * len(rows) > 0
    assert parse.orders([*rows, *legs]) == ((), {})
    for row in (*rows, *legs):
        assert parse.event({"event": "fill", "order": row}, "theirs") is None


ORDER = {
    "id": "A",
    "client_order_id": "kit-1",
    "asset_class": "us_option",
    "order_class": "simple",
    "symbol": CONTRACT["symbol"],
    "side": "sell",
    "qty": "2",
    "filled_qty": "1",
    "filled_avg_price": "0.46",
    "status": "partially_filled",
    "created_at": "2026-01-05T15:00:00.123456789Z",
}


@pytest.mark.parametrize(
    ("change", "count"),
    [({}, 1), ({"order_class": ""}, 1), ({"asset_class": "crypto"}, 0), ({"asset_class": ""}, 0)],
)
def test_an_option_order_is_reported_as_one_of_shares_is(change: dict[str, str], count: int) -> None:
    """Its event and its report have contracts, and prices in USD per share; crypto is left out."""
    row = ORDER | change
    reports, unreadable = parse.orders([row])
    assert (len(reports), unreadable) == (count, {})
    document = {"event": "partial_fill", "execution_id": "E", "timestamp": "2026-01-05T15:00:01Z", "qty": "1"}
    event = parse.event(document | {"price": "0.46", "order": row}, "kit-1")
    assert (event is not None) == bool(count)
    if event is not None:
        assert event.fill is not None
        assert (event.fill.symbol, event.fill.buy, event.fill.quantity) == (CONTRACT["symbol"], False, ONE)
        assert [(one.filled, one.average_price) for one in reports] == [(ONE, event.fill.price)]


HELD = {"symbol": CONTRACT["symbol"], "asset_class": "us_option", "qty": "2", "side": "long", "avg_entry_price": "0.49"}


@pytest.mark.parametrize(
    ("change", "multiplier"),
    [
        ({"cost_basis": "98"}, 100),
        ({}, 100),
        ({"cost_basis": "9.8"}, 100),
        ({"symbol": "AAPL7250620P00100000", "cost_basis": "9.8"}, 10),
        ({"symbol": "AAPL7250620P00100000", "cost_basis": "-9.8", "side": "short", "qty": "-2"}, 10),
        ({"symbol": "AAPL7250620P00100000", "cost_basis": "6.667", "avg_entry_price": "0.33"}, 10),
        ({"symbol": "AAPL2250620P00100000", "cost_basis": "980"}, 1000),
        ({"symbol": "AAPL1250620P00100000", "cost_basis": "66.67", "avg_entry_price": "0.33"}, 100),
        ({"symbol": "AAPL1250620P00100000", "cost_basis": "47.3"}, 100),
        ({"symbol": "AAPL1250620P00100000"}, 100),
        ({"symbol": "AAPL1250620P00100000", "cost_basis": "0.1"}, 100),
        ({"symbol": "AAPL1250620P00100000", "cost_basis": "98", "avg_entry_price": "0"}, 100),
        ({"symbol": "AAPL PUT"}, 100),
        ({"symbol": "AAPL", "asset_class": "us_equity", "cost_basis": "0.98"}, 1),
        ({"symbol": "BTCUSD", "asset_class": "crypto"}, 1),
    ],
)
def test_a_position_in_options_has_a_multiplier(change: dict[str, str], multiplier: int) -> None:
    """A hundred, but of an adjusted or mini class where its cost says that of a mini or jumbo one."""
    found = parse.position(HELD | change)
    assert found.multiplier == multiplier
    assert abs(found.quantity) == 2


@pytest.mark.parametrize("word", ["OPASN", "OPCA", "OPCSH", "OPEXC", "OPEXP", "OPTRD"])
def test_an_activity_of_options_keeps_its_word(word: str) -> None:
    """The core books it as an adjustment of what it moves."""
    row = {"id": "1", "activity_type": word, "date": "2026-01-16", "net_amount": "0", "qty": "-2", "group_id": "g"}
    found = parse.activity(row | {"symbol": CONTRACT["symbol"]})
    assert found is not None
    assert (found.kind, found.symbol, found.quantity, found.cash) == (word, CONTRACT["symbol"], -TWO, NOTHING)
    bare = parse.activity({"id": "1", "activity_type": word, "date": "2026-01-16"})
    assert bare is not None
    assert (bare.symbol, bare.quantity, bare.cash) == ("", NOTHING, NOTHING)


def test_the_contracts_of_the_vendors_own_tests_are_read(shared: Path) -> None:
    """They have neither a multiplier nor deliverables, and so are not known to be standard."""
    file = shared / "payloads" / "alpaca" / "alpaca-py-tests" / "test_option_routes.json"
    if not file.is_file():
        pytest.skip(f"no saved replies at {file}")
    rows = [row for one in json.loads(file.read_text()) for row in one["payload"].get("option_contracts", ())]
    found = [listing(row) for row in rows]
    assert {(one.symbol, one.is_standard, one.multiplier, one.open_interest) for one in found} == {
        ("AAPL231103C00170000", False, 100, 0)
    }


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({}, None),
        ({"options_trading_level": 2, "options_approved_level": 3}, 2),
        ({"options_trading_level": 3, "options_approved_level": 2}, 2),
        ({"options_trading_level": 0, "options_approved_level": 2}, 0),
        ({"options_trading_level": 2}, 2),
        ({"options_trading_level": "2", "options_approved_level": None}, 2),
        ({"options_approved_level": 3}, None),
    ],
)
def test_the_level_of_an_account_is_the_lower_one(fields: dict[str, Any], level: int | None) -> None:
    """What was approved alone does not say what is effective."""
    assert parse.account(ACCOUNT | fields, "paper").options_level == level


@pytest.mark.parametrize("level", ["high", -1, 1.5])
def test_a_level_that_is_none_is_not_read(level: Any) -> None:
    """An account with an absurd level is no reading."""
    with pytest.raises(ValueError, match="is no"):
        parse.account(ACCOUNT | {"options_trading_level": level}, "paper")
