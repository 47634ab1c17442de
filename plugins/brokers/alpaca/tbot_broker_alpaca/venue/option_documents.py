"""The vendor's documents of option contracts and of their market data, and the queries for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_broker_alpaca.venue.options import OPTION_SYMBOL
from tbot_broker_alpaca.venue.wire import (
    Refusal,
    invalid,
    moment_of,
    not_found,
    page_of,
    stamp,
    text_of,
    whole_of,
)
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_broker_alpaca.venue.market import VenueMarket
    from tbot_broker_alpaca.venue.options import OptionContract, OptionQuote

_MOST_CONTRACTS: Final = 10_000
_MOST_SNAPSHOTS: Final = 1_000
_PAGE: Final = 100
_MOST_SYMBOLS: Final = 100
_DELAY: Final = dt.timedelta(minutes=15)
_SATURDAY: Final = 5
_CHOICES: Final = {
    "status": ("active", "inactive"),
    "type": ("call", "put"),
    "style": ("american", "european"),
    "ppind": ("true", "false"),
    "show_deliverables": ("true", "false"),
}


def contracts(market: VenueMarket, rest: list[str], query: Mapping[str, str]) -> object:
    """The answer to a GET of /v2/options/contracts, or of one of them; raises Refusal."""
    options = market.options
    if rest:
        found = options.find(rest[0])
        if found is None or not options.is_listed(found):
            raise not_found(f"option contract {rest[0]} not found")
        return _contract(market, found, deliverables=True)
    for name, allowed in _CHOICES.items():
        if name in query and query[name].lower() not in allowed:
            raise invalid(f"invalid {name}: {query[name]}")
    today = exchange_time(market.clock.now()).date()
    bounded = any(name in query for name in ("expiration_date", "expiration_date_lte"))
    weekend = (today + dt.timedelta(days=(_SATURDAY - today.weekday()) % 7)).isoformat()
    wanted = _filter_of(query if bounded else {**query, "expiration_date_lte": weekend}, invalid)
    symbols = filter(None, query.get("underlying_symbols", ",".join(market.listings)).split(","))
    rows = [
        (one.symbol, one)
        for symbol in sorted({*symbols} & {*market.listings})
        for one in options.chain(symbol)
        if wanted.fits(one)
        and options.is_active(one) is (query.get("status", "active") == "active")
        and query.get("style", "american") == "american"
        and ("ppind" not in query or options.penny_classes[symbol] is (query["ppind"].lower() == "true"))
    ]
    page, token = page_of(rows, whole_of(query.get("limit"), _PAGE, _MOST_CONTRACTS), query)
    shown = query.get("show_deliverables", "").lower() == "true"
    documents = [_contract(market, one, deliverables=shown) for _, one in page]
    return {"option_contracts": documents, "next_page_token": _next(market, query, token)}


def market_data(market: VenueMarket, rest: list[str], query: Mapping[str, str]) -> object:
    """The answer to a GET of these parts of /v1beta1/options; raises Refusal."""
    indicative = _is_indicative(market, query)
    match rest:
        case ["snapshots"]:
            rows = _asked(market, query)
        case ["snapshots", underlying] if underlying in market.listings:
            wanted = _filter_of(query, _malformed)
            rows = [
                one for one in market.options.chain(underlying) if market.options.is_active(one) and wanted.fits(one)
            ]
        case ["snapshots", _]:
            rows = []
        case ["quotes" | "trades" as what, "latest"]:
            show = _quote if what == "quotes" else _trade
            found = {one.symbol: show(market, one, indicative=indicative) for one in _asked(market, query)}
            return {what: {symbol: row for symbol, row in found.items() if row is not None}}
        case _:
            raise not_found("endpoint not found")
    since = moment_of(query["updated_since"]) if "updated_since" in query else None
    shown = {one.symbol: _snapshot(market, one, indicative=indicative) for one in rows}
    kept = [(one, shown[one]) for one in sorted(shown) if since is None or _updated(shown[one]) >= stamp(since)]
    page, token = page_of(kept, whole_of(query.get("limit"), _PAGE, _MOST_SNAPSHOTS), query)
    return {"snapshots": dict(page), "next_page_token": _next(market, query, token)}


def _is_indicative(market: VenueMarket, query: Mapping[str, str]) -> bool:
    # Whether the feed is the free one; without the paid plan it is the only one, and the default.
    feed = query.get("feed", "opra" if market.live_sip else "indicative")
    if feed not in {"opra", "indicative"}:
        raise _malformed(f"invalid feed: {feed}")
    if feed == "opra" and not market.live_sip:
        raise Refusal(403, 0, "OPRA agreement is not signed")
    return feed == "indicative"


def _asked(market: VenueMarket, query: Mapping[str, str]) -> list[OptionContract]:
    # The contracts that a query names; those that are not quoted any more are left out.
    symbols = [one for one in query.get("symbols", "").split(",") if one]
    if not 1 <= len(symbols) <= _MOST_SYMBOLS:
        raise _malformed(f"symbols must name 1 to {_MOST_SYMBOLS} contracts: {len(symbols)}")
    for symbol in symbols:
        if not OPTION_SYMBOL.fullmatch(symbol):
            raise _malformed(f"invalid symbol: {symbol}")
    found = filter(None, map(market.options.find, symbols))
    return [one for one in found if market.options.is_listed(one) and market.options.is_active(one)]


@attrs.frozen(kw_only=True)
class _Filter:
    # What a query says of expiry, strike, type and root.
    query: Mapping[str, str]
    days: dict[str, dt.date]
    strikes: dict[str, Decimal]

    def fits(self, one: OptionContract) -> bool:
        query, days, strikes = self.query, self.days, self.strikes
        return (
            days.get("expiration_date", one.expires) == one.expires
            and days.get("expiration_date_gte", one.expires) <= one.expires
            and days.get("expiration_date_lte", one.expires) >= one.expires
            and strikes.get("strike_price_gte", one.strike) <= one.strike
            and strikes.get("strike_price_lte", one.strike) >= one.strike
            and query.get("type", _type(one)) == _type(one)
            and query.get("root_symbol", one.root) == one.root
        )


def _filter_of(query: Mapping[str, str], refusal: Callable[[str], Refusal]) -> _Filter:
    # Raises the refusal of a value that is none.
    days, strikes = {}, {}
    for name in [name for name in query if name.startswith("expiration_date")]:
        try:
            days[name] = dt.date.fromisoformat(query[name])
        except ValueError:
            raise refusal(f"invalid {name}: {query[name]}") from None
    for name in [name for name in query if name.startswith("strike_price")]:
        try:
            strikes[name] = Decimal(query[name])
        except InvalidOperation:
            raise refusal(f"invalid {name}: {query[name]}") from None
    return _Filter(query=query, days=days, strikes=strikes)


def _malformed(message: str) -> Refusal:
    # A refusal of the data host, whose errors have no code.
    return Refusal(400, 0, message)


def _type(contract: OptionContract) -> str:
    return "call" if contract.call else "put"


def _contract(market: VenueMarket, contract: OptionContract, *, deliverables: bool) -> dict[str, Any]:
    # The contract as the vendor's trading host lists it.
    options, listing = market.options, market.listings[contract.underlying]
    last = market.calendar.previous(market.session.date).date.isoformat()
    strike = text_of(contract.strike)
    found: dict[str, Any] = {
        "id": contract.asset_id,
        "symbol": contract.symbol,
        "name": f"{contract.underlying} {contract.expires:%b %d %Y} {strike} {_type(contract).title()}",
        "status": "active" if options.is_active(contract) else "inactive",
        "tradable": options.is_tradable(contract),
        "expiration_date": contract.expires.isoformat(),
        "root_symbol": contract.root,
        "underlying_symbol": contract.underlying,
        "underlying_asset_id": listing.asset_id,
        "type": _type(contract),
        "style": "american",
        "strike_price": strike,
        "multiplier": str(contract.multiplier),
        "size": str(contract.size),
        "open_interest": str(options.open_interest(contract)),
        "open_interest_date": last,
        "close_price": text_of(options.close_price(contract)),
        "close_price_date": last,
        "ppind": options.penny_classes[contract.underlying],
    }
    if deliverables:
        found["deliverables"] = [
            {
                "type": "equity",
                "symbol": contract.underlying,
                "asset_id": listing.asset_id,
                "amount": str(contract.size),
                "allocation_percentage": "100",
                "settlement_type": "T+1",
                "settlement_method": "CCC",
                "delayed_settlement": False,
            }
        ]
    return found


def _quote(market: VenueMarket, contract: OptionContract, *, indicative: bool) -> dict[str, Any] | None:
    found: OptionQuote | None = market.options.quote(contract, indicative=indicative)
    if found is None:
        return None
    bid, ask = float(found.bid), float(found.ask)
    sizes = {"as": found.ask_size, "bs": found.bid_size}
    return {"t": stamp(found.at), "ax": "C", "ap": ask, "bx": "C", "bp": bid, **sizes, "c": "A"}


def _trade(market: VenueMarket, contract: OptionContract, *, indicative: bool) -> dict[str, Any] | None:
    # The latest trade, at the bid of the minute's start; that of the free feed is delayed.
    found = market.options.quote(contract)
    if found is None or not found.bid:
        return None
    at = found.at.replace(second=0, microsecond=0) - (_DELAY if indicative else dt.timedelta())
    return {"t": stamp(at), "x": "C", "p": float(found.bid), "s": 1, "c": "I"}


def _snapshot(market: VenueMarket, contract: OptionContract, *, indicative: bool) -> dict[str, Any]:
    # Latest quote and trade, and the Greeks where there is a quote.
    quote, trade = (show(market, contract, indicative=indicative) for show in (_quote, _trade))
    found: dict[str, Any] = {"latestTrade": trade} if trade else {}
    if quote is None:
        return found
    greeks = {"greeks": market.options.greeks(contract), "impliedVolatility": market.options.model.volatility}
    return {**found, "latestQuote": quote, **greeks}


def _updated(row: Mapping[str, Any]) -> str:
    # When a snapshot has changed; an empty one never has.
    return max((row[name]["t"] for name in ("latestQuote", "latestTrade") if name in row), default="")


def _next(market: VenueMarket, query: Mapping[str, str], token: str | None) -> str | None:
    return query.get("page_token", token) if market.repeats_tokens else token
