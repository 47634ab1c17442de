"""Alpaca's assets and the calendar of its exchange."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from tbot_broker_alpaca import option_data, parse
from tbot_broker_alpaca.rejections import UnknownOrder
from tbot_core.contracts import InstrumentRules
from tbot_core.errors import LoginNeeded, Rejected, Unavailable
from tbot_core.model.option_symbols import is_occ_symbol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tbot_broker_alpaca.client import AlpacaClient
    from tbot_core.contracts import HttpResponse
    from tbot_core.model.calendar import Session
    from tbot_core.model.clock import Clock

_ONE_BY_ONE: Final = 3
_ASSETS_S: Final = 60.0
_WEEK: Final = timedelta(days=7)


class AlpacaAssets:
    """What can be traded, and when."""

    def __init__(self, client: AlpacaClient, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._known: tuple[float, dict[str, InstrumentRules]] | None = None

    async def instruments(self, symbols: Sequence[str]) -> Sequence[InstrumentRules]:
        """The facts of these instruments: options and a few assets one by one, as they are now, many from the list."""
        are_few = len(symbols) <= _ONE_BY_ONE
        known: Mapping[str, InstrumentRules] = {} if are_few else await self.active()
        return [
            await self._one(symbol)
            if are_few or is_occ_symbol(symbol)
            else known.get(symbol) or InstrumentRules(symbol=symbol, tradable=False)
            for symbol in symbols
        ]

    async def active(self) -> Mapping[str, InstrumentRules]:
        """All active equities, read at most once a minute."""
        now = self._clock.monotonic()
        if self._known is None or now - self._known[0] > _ASSETS_S:
            rows = (await self._client.get("/v2/assets", {"status": "active", "asset_class": parse.EQUITY})).json()
            with parse.readable("assets"):
                self._known = now, {instrument.symbol: instrument for instrument in map(parse.instrument, rows)}
        return self._known[1]

    async def hours(self, day: date) -> Session | None:
        """The session of a day by Alpaca's calendar; the week before is read too, so that an empty answer is seen."""
        try:
            response = await self._calendar(f"{day - _WEEK}T00:00:00Z", f"{day}T23:59:59Z")
        except LoginNeeded:
            raise
        except Rejected:  # the specification has times, and Alpaca's own clients send days
            response = await self._calendar(f"{day - _WEEK}", f"{day}")
        rows = response.json()
        with parse.readable("calendar"):
            found = {row["date"]: row for row in rows}
            if not found:
                raise Unavailable(f"Alpaca's calendar has no day from {day - _WEEK} to {day}.")
            return parse.session(found[day.isoformat()]) if day.isoformat() in found else None

    async def _calendar(self, start: str, end: str) -> HttpResponse:
        return await self._client.get("/v2/calendar", {"start": start, "end": end})

    async def _one(self, symbol: str) -> InstrumentRules:
        # An asset, or the contract of an option.
        is_option = is_occ_symbol(symbol)
        try:
            response = await self._client.get(
                f"/v2/options/contracts/{symbol}" if is_option else f"/v2/assets/{symbol}"
            )
        except UnknownOrder:
            return InstrumentRules(symbol=symbol, tradable=False)
        with parse.readable("asset"):
            return (option_data.rules if is_option else parse.instrument)(response.json())
