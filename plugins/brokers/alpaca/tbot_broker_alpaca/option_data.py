"""Alpaca's documents of option contracts and their quotes as values of tbot: pure functions."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.market_data import page_token
from tbot_broker_alpaca.parse import moment, number, optional_number, readable
from tbot_core.contracts import InstrumentRules, OptionListing, OptionQuoteReport
from tbot_core.contracts.options import OptionContract
from tbot_core.model.option_symbols import OptionPriceSteps, OptionRight, parse_occ_symbol
from tbot_core.model.types import InstrumentKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts import HttpResponse
    from tbot_core.model.calendar import ExchangeCalendar
    from tbot_core.model.option_symbols import OccSymbol

EXCHANGES_FEED: Final = "opra"
"""The feed of the option exchanges, of which a part of the accounts has a subscription."""

FREE_FEED: Final = "indicative"
"""The feed that each account has. Its quotes are modified."""

_STANDARD: Final = 100
_NO_LETTER: Final = re.compile(r"[^A-Z0-9]")
_PENNY_ALWAYS: Final = frozenset({"SPY", "QQQ", "IWM"})


def listing(document: Mapping[str, Any], underlying: str, calendar: ExchangeCalendar) -> OptionListing:
    """A contract of a chain of `underlying`.

    Raises ValueError, KeyError or TypeError for one that cannot be read, and for one of another underlying.
    """
    occ, multiplier = parse_occ_symbol(document["symbol"]), optional_number(document.get("multiplier"))
    if _letters(document["underlying_symbol"]) != _letters(underlying):
        raise ValueError(f"{occ.text} is listed as an option of {document['underlying_symbol']!r:.20}")
    expiry, reported_on = date.fromisoformat(document["expiration_date"]), document.get("open_interest_date")
    interest = optional_number(document.get("open_interest"))
    return OptionListing(
        symbol=document["symbol"],
        contract=OptionContract(
            underlying=underlying,
            expiry=expiry,
            expires=_last_close(expiry, calendar),
            strike=float(number(document["strike_price"])),
            right=OptionRight(document["type"]),
        ),
        is_standard=_is_standard(document, occ),
        tradable=_is_tradable(document),
        multiplier=_STANDARD if multiplier is None else _whole(multiplier),
        open_interest=None if interest is None else _whole(interest),
        open_interest_date=date.fromisoformat(reported_on) if reported_on else None,
        price_steps=_price_steps(document, underlying),
    )


def rules(document: Mapping[str, Any]) -> InstrumentRules:
    """The facts of a contract as those of an instrument: whole contracts, which are not sold short.

    The steps of its prices depend on the price (`OptionListing.price_steps`), so that `tick` is not reported.
    """
    right = OptionRight(document["type"])
    return InstrumentRules(
        symbol=document["symbol"],
        quantity_step=Decimal(1),
        tradable=_is_tradable(document),
        fractionable=False,
        shortable=False,
        name=document.get("name") or "",
        kind=InstrumentKind.PUT if right is OptionRight.PUT else None,
    )


def quote(symbol: str, row: Mapping[str, Any], feed: str) -> OptionQuoteReport:
    """The latest quote of a contract; a price of 0 stands for a side without a quote."""
    return OptionQuoteReport(
        symbol=symbol,
        bid=_price(row["bp"]),
        ask=_price(row["ap"]),
        bid_size=_whole(number(row["bs"])),
        ask_size=_whole(number(row["as"])),
        time=moment(row["t"]),
        feed=feed,
        is_modified=feed != EXCHANGES_FEED,
    )


def following(page: HttpResponse) -> Mapping[str, str] | None:
    """The parameters of the next page of contracts, None after the last, which may have no field for it."""
    with readable("page token"):
        return page_token(page.json().get("next_page_token"))


def _letters(underlying: str) -> str:
    # The root of an underlying's standard contracts: BRKB for BRK.B.
    return _NO_LETTER.sub("", underlying)


def _last_close(expiry: date, calendar: ExchangeCalendar) -> datetime:
    # The close of the last session until the expiry, which was a Saturday for some, and may become a holiday.
    session = calendar.session(expiry) or calendar.previous(expiry)
    return session.close


def _is_tradable(document: Mapping[str, Any]) -> bool:
    return document["tradable"] is True and document["status"] == "active"


def _is_standard(document: Mapping[str, Any], occ: OccSymbol) -> bool:
    # A field that is missing, an amount that is not determined yet and a delayed settlement are not standard.
    underlying, deliverables = document["underlying_symbol"], document.get("deliverables") or []
    if occ.has_own_class or occ.root != _letters(underlying) or len(deliverables) != 1:
        return False
    (delivered,) = deliverables
    amounts = (document.get("multiplier"), document.get("size"), delivered.get("amount"))
    named = (delivered.get("type"), delivered.get("symbol"), delivered.get("delayed_settlement"))
    are_standard = all(optional_number(amount) == _STANDARD for amount in amounts)
    is_same = delivered.get("asset_id") in {None, document.get("underlying_asset_id")}
    return are_standard and named == ("equity", underlying, False) and is_same


def _price_steps(document: Mapping[str, Any], underlying: str) -> OptionPriceSteps:
    # The file describes the field `ppind` with the query of that name; without it prices are on the widest steps.
    if document.get("ppind") is not True:
        return OptionPriceSteps.STANDARD
    return OptionPriceSteps.PENNY_ALWAYS if underlying in _PENNY_ALWAYS else OptionPriceSteps.PENNY


def _price(value: object) -> float | None:
    found = number(value)
    if found < 0:
        raise ValueError(f"{found} is no price of a quote")
    return float(found) if found else None


def _whole(found: Decimal) -> int:
    if found % 1 or found < 0:
        raise ValueError(f"{found} is no count")
    return int(found)
