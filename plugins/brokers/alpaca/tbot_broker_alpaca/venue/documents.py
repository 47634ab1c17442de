"""The vendor's documents of the account, of positions, and of market data."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.venue import option_documents
from tbot_broker_alpaca.venue.options import OPTION_SYMBOL
from tbot_broker_alpaca.venue.wire import Refusal, id_of, not_found, stamp, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_broker_alpaca.venue.account import VenueAccount
    from tbot_broker_alpaca.venue.market import VenueMarket
    from tbot_broker_alpaca.venue.options import OptionContract

_NO: Final = Decimal(0)


def account(state: VenueAccount) -> dict[str, object]:
    """The account; that of a paper host has a number that begins with PA."""
    retired = {"pattern_day_trader": False, "daytrade_count": 0, "daytrading_buying_power": "0"}
    return {
        "id": id_of("account"),
        "account_number": "912345678" if state.live else "PA3VENUE0001",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "currency": "USD",
        **_money(state),
        "shorting_enabled": state.shorting_enabled,
        "options_approved_level": state.options_level,
        "options_trading_level": state.options_level,
        "trading_blocked": state.blocked,
        "transfers_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
        "created_at": "2023-01-01T18:20:20.272275Z",
        "balance_asof": stamp(state.now)[:10],
        "bod_dtbp": 0,
        "crypto_tier": 1,
        "admin_configurations": {},
        "user_configurations": None,
        **(retired if state.retired_fields else {}),
    }


def _money(state: VenueAccount) -> dict[str, str]:
    # The account's amounts.
    values = state.values.values()
    long = sum((value for value in values if value > 0), _NO)
    short = sum((value for value in values if value < 0), _NO)
    gross = long - short
    power = text_of(round(state.buying_power, 2))
    return {
        "buying_power": power,
        "regt_buying_power": power,
        "effective_buying_power": power,
        "options_buying_power": text_of(state.options_buying_power),
        "non_marginable_buying_power": text_of(round(max(state.cash, _NO), 2)),
        "cash": text_of(state.cash),
        "accrued_fees": "0",
        "pending_transfer_in": "0",
        "pending_transfer_out": "0",
        "pending_reg_taf_fees": "0",
        "intraday_adjustments": "0",
        "portfolio_value": text_of(state.equity),
        "equity": text_of(state.equity),
        "last_equity": text_of(state.last_equity),
        "long_market_value": text_of(long),
        "short_market_value": text_of(short),
        "position_market_value": text_of(gross),
        "initial_margin": text_of(gross / 2),
        "maintenance_margin": text_of(gross * 3 / 10),
        "last_maintenance_margin": "0",
        "sma": text_of(state.last_equity),
        "multiplier": str(state.multiplier),
    }


def configurations(state: VenueAccount) -> dict[str, object]:
    """The account's settings at the vendor."""
    return {
        "no_shorting": not state.shorting_enabled,
        "suspend_trade": False,
        "fractional_trading": True,
        "max_margin_multiplier": str(state.multiplier),
        "trade_confirm_email": "all",
        "ptp_no_exception_entry": False,
        "max_options_trading_level": state.options_level,
    }


def position(state: VenueAccount, symbol: str) -> dict[str, object]:
    """A position; the quantity of one that was sold short is negative."""
    quantity, average = state.held[symbol]
    contract = state.market.options.find(symbol) if OPTION_SYMBOL.fullmatch(symbol) else None
    price, before, multiplier = _prices(state, symbol, contract)
    cost, value = quantity * average * multiplier, quantity * price * multiplier
    gain = value - cost
    share = text_of(round(gain / abs(cost), 6)) if cost else "0"
    reserved = sum(
        (order.remaining for order in state.open_orders if order.symbol == symbol and order.buy is (quantity < 0)), _NO
    )
    return {
        "asset_id": (contract or state.market.listings[symbol]).asset_id,
        "symbol": symbol,
        "exchange": "NASDAQ" if contract is None else "",
        "asset_class": "us_equity" if contract is None else "us_option",
        "asset_marginable": contract is None,
        "avg_entry_price": text_of(round(average, 9)),
        "qty": text_of(quantity),
        "qty_available": text_of(abs(quantity) - reserved),
        "side": "long" if quantity > 0 else "short",
        "market_value": text_of(value),
        "cost_basis": text_of(round(cost, 9)),
        "unrealized_pl": text_of(round(gain, 9)),
        "unrealized_plpc": share,
        "unrealized_intraday_pl": text_of(round(gain, 9)),
        "unrealized_intraday_plpc": share,
        "current_price": text_of(price),
        "lastday_price": text_of(before),
        "change_today": text_of(round(price / before - 1, 6) if before else _NO),
    }


def _prices(state: VenueAccount, symbol: str, contract: OptionContract | None) -> tuple[Decimal, Decimal, int]:
    # The price of a symbol now and at the last close, and how many shares it counts for.
    market = state.market
    if contract is None:
        return market.listings[symbol].price, market.listings[symbol].previous_close, 1
    return market.options.prices(contract)[0], market.options.close_price(contract), contract.multiplier


def reading(state: VenueAccount, parts: list[str], query: Mapping[str, str]) -> object:
    """The answer to a GET of these parts of a path, but for orders, positions and activities; raises Refusal."""
    market = state.market
    match parts:
        case ["v2", "account", *rest] if rest in ([], ["configurations"]):
            return configurations(state) if rest else account(state)
        case ["v2", "assets", *rest]:
            return _assets(state, rest, query)
        case ["v2", "clock" | "calendar" as what] | ["v1", "corporate-actions" as what]:
            return _of_exchange(market, what, query)
        case ["v2", "stocks", *rest]:
            return _market_data(market, rest, query)
        case ["v2", "options", "contracts", *rest] | ["v1beta1", "options", *rest]:
            return _options(market, parts[0], rest, query)
        case ["v1beta1", "indices", *rest]:
            return _indices(market, rest, query)
    raise not_found("endpoint not found")


def _of_exchange(market: VenueMarket, what: str, query: Mapping[str, str]) -> object:
    if what == "clock":
        return market.clock_document()
    return market.calendar_document(query) if what == "calendar" else market.corporate_actions(query)


def _assets(state: VenueAccount, rest: list[str], query: Mapping[str, str]) -> object:
    rows = {symbol: listing.document for symbol, listing in sorted(state.market.listings.items())}
    if state.options_level:
        rows = {symbol: {**row, "attributes": ["has_options"]} for symbol, row in rows.items()}
    if not rest:
        return [row for row in rows.values() if query.get("status") in {None, row["status"]}]
    if rest[0] not in rows:
        raise not_found(f"asset not found for {rest[0]}")
    return rows[rest[0]]


def _market_data(market: VenueMarket, rest: list[str], query: Mapping[str, str]) -> object:
    # The values of one symbol that is part of the path, or of all in the query.
    single = len(rest) > 1 and rest[1] in {"bars", "quotes", "trades", "snapshot"}
    symbols = [rest[0]] if single else [one for one in query.get("symbols", "").split(",") if one]
    what = "/".join(rest[1:] if single else rest)
    if what == "bars":
        rows, token = market.bars(query, symbols)
        if single:
            return {"symbol": rest[0], "bars": rows.get(rest[0], []), "next_page_token": token}
        return {"bars": rows, "next_page_token": token}
    values = {
        "bars/latest": lambda one: one.minutes[-1] if one.minutes else None,
        "quotes/latest": market.quote,
        "trades/latest": market.trade,
        "snapshots": market.snapshot,
        "snapshot": market.snapshot,
    }
    if what not in values:
        raise not_found("endpoint not found")
    found = {one.symbol: value for one in market.latest(symbols) if (value := values[what](one)) is not None}
    name = what.split("/")[0]
    if not single:
        return found if what == "snapshots" else {name: found}
    if not found:
        raise not_found(f"no data for {rest[0]}")
    return {"symbol": rest[0], **(found[rest[0]] if what == "snapshot" else {name[:-1]: found[rest[0]]})}


def _options(market: VenueMarket, version: str, rest: list[str], query: Mapping[str, str]) -> object:
    answer = option_documents.contracts if version == "v2" else option_documents.market_data
    return answer(market, rest, query)


def _indices(market: VenueMarket, rest: list[str], query: Mapping[str, str]) -> object:
    # The VIX, where the plan offers it.
    if market.vix is None:
        raise Refusal(403, 40310000, "subscription does not permit querying index data")
    value: dict[str, Any] = {"t": stamp(market.clock.now()), "v": float(market.vix)}
    asked = "VIX" in query.get("symbols", "").split(",")
    if rest == ["latest", "values"]:
        return {"values": {"VIX": value} if asked else {}}
    if rest == ["values"]:
        return {"values": {"VIX": [value]} if asked else {}, "next_page_token": None}
    raise not_found("endpoint not found")
