"""Alpaca's options: the contracts of a chain, and their latest quotes by the best feed that the account has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_broker_alpaca import option_data
from tbot_broker_alpaca.parse import readable
from tbot_broker_alpaca.rejections import NotPermitted
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import exchange_time
from tbot_core.model.option_symbols import is_occ_symbol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from tbot_broker_alpaca.client import AlpacaClient
    from tbot_core.contracts import OptionListing, OptionQuoteReport, StructuredLogger
    from tbot_core.model.clock import Clock
    from tbot_core.model.option_symbols import OptionRight

_CONTRACTS: Final = "/v2/options/contracts"
_QUOTES: Final = "/v1beta1/options/quotes/latest"
_CONTRACTS_PER_PAGE: Final = 1000
_SYMBOLS_PER_REQUEST: Final = 100


class AlpacaOptions:
    """Which options there are, and how they are quoted."""

    def __init__(self, client: AlpacaClient, clock: Clock, log: StructuredLogger) -> None:
        self._client, self._clock, self._log = client, clock, log
        self._calendar = ExchangeCalendar()
        self._refused_on: date | None = None  # the day on which the account had no subscription of the exchanges' feed

    async def option_contracts(
        self, underlying: str, right: OptionRight, first_expiry: date, last_expiry: date
    ) -> Sequence[OptionListing]:
        """The active contracts that expire on these days, by expiry, strike and symbol."""
        wanted = {
            "underlying_symbols": underlying,
            "type": right.value,
            "expiration_date_gte": first_expiry.isoformat(),
            "expiration_date_lte": last_expiry.isoformat(),
            "show_deliverables": "true",
            "limit": str(_CONTRACTS_PER_PAGE),
        }
        found: dict[str, OptionListing] = {}
        async for page in self._client.documents(_CONTRACTS, wanted, option_data.following):
            with readable("option contracts"):
                rows = [option_data.listing(row, underlying, self._calendar) for row in page["option_contracts"]]
            found |= {one.symbol: one for one in rows}
        asked = [
            one
            for one in found.values()
            if one.contract.right is right and first_expiry <= one.contract.expiry <= last_expiry
        ]
        return sorted(asked, key=lambda one: (one.contract.expiry, one.contract.strike, one.symbol))

    async def option_quotes(self, symbols: Sequence[str]) -> Sequence[OptionQuoteReport]:
        """The latest quotes of these contracts, in their order; one of another spelling spoils no request."""
        wanted = [*dict.fromkeys(filter(is_occ_symbol, symbols))]
        found: dict[str, OptionQuoteReport] = {}
        for start in range(0, len(wanted), _SYMBOLS_PER_REQUEST):
            found |= await self._quotes(wanted[start : start + _SYMBOLS_PER_REQUEST])
        return [found[symbol] for symbol in wanted if symbol in found]

    async def _quotes(self, symbols: Sequence[str]) -> dict[str, OptionQuoteReport]:
        # By the feed of the exchanges, unless it was refused today already.
        today = exchange_time(self._clock.now()).date()
        if self._refused_on != today:
            try:
                return await self._quotes_of(option_data.EXCHANGES_FEED, symbols)
            except NotPermitted as fault:
                self._refused_on = today
                remedy = "Subscribe to the plan that has opra, and sign its agreement. Live orders need its quotes."
                self._log.warning("option_quotes.modified", reason=fault.message, remedy=remedy)
        return await self._quotes_of(option_data.FREE_FEED, symbols)

    async def _quotes_of(self, feed: str, symbols: Sequence[str]) -> dict[str, OptionQuoteReport]:
        response = await self._client.data.get(_QUOTES, {"symbols": ",".join(symbols), "feed": feed})
        with readable("option quotes"):
            rows = response.json()["quotes"]
            return {symbol: option_data.quote(symbol, rows[symbol], feed) for symbol in symbols if rows.get(symbol)}
