"""Alpaca's bars: those of the running session over a WebSocket, past ones, splits, prices and the VIX over HTTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_broker_alpaca import Config, market_data, quality
from tbot_broker_alpaca.parse import messages, readable, stamp
from tbot_broker_alpaca.rejections import NotPermitted
from tbot_core.contracts import FeedLabel, FeedMessage, Heartbeat
from tbot_core.errors import FeedRefused, LoginNeeded, Rejected
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import exchange_moment, exchange_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

    from tbot_broker_alpaca.client import AlpacaClient
    from tbot_core.contracts import Bar, DailyBar, FeedRequest, IndexQuote, InstrumentRules, Split, StructuredLogger
    from tbot_core.model.clock import Clock

Row = TypeVar("Row")
_QUIET_S: Final = 4.0
_SYMBOLS_PER_REQUEST: Final = 200
_SPELLING: Final = re.compile(r"[A-Z]{1,6}(\.[A-Z]{1,3})?")  # one of another spelling spoils the request for all others
_CONSOLIDATED_DELAY: Final = timedelta(minutes=16)
_MINUTE: Final = timedelta(minutes=1)
_PROCESSED: Final = timedelta(days=14)
"""Corporate actions are requested by the day on which Alpaca processes them, which may differ from their ex-date."""
_INDEX_OPEN, _INDEX_CLOSE = time(9, 30), time(16, 16)
_PROBED, _RECENT = "SPY", timedelta(minutes=5)


class MarketData:
    """The market data that the account's plan has; the plan is probed once."""

    def __init__(self, client: AlpacaClient, clock: Clock, feed: str, log: StructuredLogger) -> None:
        self._client, self.clock, self.name, self._log = client, clock, feed, log
        self._real_time: bool | None = None
        self.refusal = ""
        self._has_index = self._has_splits = True

    async def has_real_time(self) -> bool:
        """Whether the plan has consolidated data in real time, which only a paid one has."""
        if self._real_time is None:
            now = self.clock.now()
            wanted = {"symbols": _PROBED, "timeframe": "1Min", "feed": "sip", "limit": "1"}
            bounds = {"start": stamp(now - _RECENT), "end": stamp(now)}
            try:
                await self._client.data.get("/v2/stocks/bars", {**wanted, **bounds})
            except LoginNeeded:
                raise
            except Rejected as fault:
                self._real_time, self.refusal = False, fault.message
            else:
                self._real_time = True
        return self._real_time

    async def bars(
        self, symbols: Iterable[str], wanted: Mapping[str, str], build: Callable[[str, Mapping[str, Any]], Row]
    ) -> list[Row]:
        """Bars as they were traded, by time within each symbol; `build` makes one of its symbol and row."""
        found: list[Row] = []
        fixed = {"adjustment": "raw", "limit": "10000", "sort": "asc", **wanted}
        for few in _batches(symbols):
            pages = self._client.data.pages(
                "/v2/stocks/bars", {"symbols": few, **fixed}, following=market_data.following
            )
            async for page in pages:
                with readable("bars"):
                    found += [build(name, row) for name, rows in (page.json()["bars"] or {}).items() for row in rows]
        return found

    async def splits(self, symbols: Iterable[str], first: date, last: date) -> list[Split]:
        """The splits whose first session in the new shares is from `first` to `last`; none where the plan has none."""
        bounds = {"start": (first - _PROCESSED).isoformat(), "end": (last + _PROCESSED).isoformat()}
        fixed = {"types": ",".join(market_data.SPLIT_TYPES), "limit": "1000", **bounds}
        rows: list[tuple[str, date, float]] = []
        wanted = {*symbols}
        try:
            for few in _batches(wanted) if self._has_splits else ():
                pages = self._client.data.pages(
                    "/v1/corporate-actions", {"symbols": few, **fixed}, following=market_data.following
                )
                async for page in pages:
                    with readable("corporate actions"):
                        rows += market_data.split_rows(page.json())
        except NotPermitted as fault:
            self._has_splits = False
            self._log.warning("splits.not_permitted", reason=fault.message, remedy="Import them: tbot data import")
            return []
        splits, left_out = market_data.splits(row for row in rows if row[0] in wanted and first <= row[1] <= last)
        if left_out:
            self._log.warning("splits.left_out", reasons=left_out, remedy="Import them: tbot data import")
        return splits

    async def latest_consolidated(self) -> datetime:
        """The time up to which consolidated bars may be requested: on the basic plan a quarter of an hour ago."""
        now = self.clock.now()
        return now if await self.has_real_time() else now - _CONSOLIDATED_DELAY

    async def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """The latest prices of the feed that is configured."""
        found: dict[str, float] = {}
        for few in _batches(symbols):
            response = await self._client.data.get("/v2/stocks/snapshots", {"symbols": few, "feed": self.name})
            with readable("snapshots"):
                document = response.json()
                rows = document.get("snapshots", document)
                prices = {symbol: market_data.price(row) for symbol, row in rows.items() if row}
                found |= {symbol: price for symbol, price in prices.items() if price is not None}
        return found

    async def vix_close(self, day: date) -> float | None:
        """The last value of the VIX of a day, None where there is none or the plan has no index values."""
        bounds = (exchange_moment(day, wall) for wall in (_INDEX_OPEN, _INDEX_CLOSE))
        start, end = (stamp(bound) for bound in bounds)
        wanted = {"symbols": "VIX", "start": start, "end": end, "sort": "desc", "limit": "1"}
        document = await self._index("/v1beta1/indices/values", wanted)
        with readable("index values"):
            rows = (document.get("values") or {}).get("VIX") or []
            return market_data.index_value(rows[0]).value if rows else None

    async def vix_now(self) -> IndexQuote | None:
        """The latest value of the VIX today, None where there is none or the plan has no index values."""
        document = await self._index("/v1beta1/indices/latest/values", {"symbols": "VIX"})
        with readable("index values"):
            row = (document.get("values") or {}).get("VIX")
            found = market_data.index_value(row) if row else None
            today = exchange_time(self.clock.now()).date()
            return found if found is not None and exchange_time(found.time).date() == today else None

    async def _index(self, path: str, wanted: Mapping[str, str]) -> Mapping[str, Any]:
        if not self._has_index:
            return {}
        try:
            document: Mapping[str, Any] = (await self._client.data.get(path, wanted)).json()
        except LoginNeeded:
            raise
        except Rejected:
            self._has_index = False
            return {}
        return document

    async def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """The messages of one connection, the first one once all symbols are subscribed; a heartbeat in silence."""
        channels = {name: list(symbols) for name in ("bars", "quotes", "statuses")}
        async with self._client.market_data(self.name, channels) as socket:
            yield Heartbeat()
            while True:
                try:
                    async with asyncio.timeout(_QUIET_S):
                        frame = await socket.receive()
                except TimeoutError:
                    yield Heartbeat()
                    continue
                for row in messages(frame):
                    with readable("data stream"):
                        found = list(market_data.stream_messages(row))
                    for one in found:
                        yield one


@attrs.frozen(kw_only=True, eq=False)
class AlpacaSession:
    """One session; the core makes the minutes. `left_out`: how many assets it does not offer, by reason."""

    market: MarketData
    session: Session
    symbols: tuple[str, ...]
    quality: Any
    left_out: Mapping[str, int]

    async def daily(self, symbols: Sequence[str], first: date, last: date) -> Sequence[DailyBar]:
        """Daily bars of all venues, which every plan has."""
        end = min(exchange_moment(last, time(23, 59)), await self.market.latest_consolidated())
        start = exchange_moment(first, time())
        if end < start:
            return []
        wanted = {"timeframe": "1Day", "feed": "sip", "start": stamp(start), "end": stamp(end)}
        found = await self.market.bars(symbols, wanted, market_data.daily_bar)
        return [bar for bar in found if first <= bar.date <= last]

    async def history(self, symbols: Sequence[str], first: datetime, last: datetime) -> Sequence[Bar]:
        """Minute bars of the feed that is configured; Alpaca's end is included."""
        wanted = {"timeframe": "1Min", "feed": self.market.name, "start": stamp(first), "end": stamp(last - _MINUTE)}
        return await self.market.bars(symbols, wanted, market_data.minute_bar)

    async def splits(self, symbols: Sequence[str], first: date, last: date) -> Sequence[Split]:
        """Forward and reverse splits."""
        return await self.market.splits(symbols, first, last)

    def messages(self, symbols: Sequence[str]) -> AsyncIterator[FeedMessage]:
        """Bars, quotes and trading statuses of these symbols."""
        return self.market.messages(symbols)


class AlpacaFeed:
    """The bars of the live market."""

    def __init__(
        self,
        market: MarketData,
        assets: Callable[[], Awaitable[Mapping[str, InstrumentRules]]],
        request: FeedRequest,
    ) -> None:
        self._market, self._assets, self._request = market, assets, request
        self.label = FeedLabel(name=f"Alpaca {market.name.upper()}", simulated=False, quotes=True)

    async def sessions(self) -> AsyncIterator[AlpacaSession]:
        """Today's session, or the next one; raises FeedRefused where the plan does not have the feed."""
        paid = await self._market.has_real_time()
        if self._market.name == "sip" and not paid:
            raise FeedRefused(
                "alpaca: ALPACA_DATA_FEED=sip, but the account's plan has no consolidated data in real time. Bars of "
                f"the last {_RECENT.seconds // 60} minutes were requested and refused: {self._market.refusal}.",
                "Set ALPACA_DATA_FEED=iex, or subscribe to the plan that has them.",
            )
        declared = quality(Config(data_feed=self._market.name))
        session = (self._request.calendar or ExchangeCalendar()).current(self._market.clock.now())
        assets = await self._assets()
        tradable = {symbol for symbol, one in assets.items() if one.tradable}
        wanted = tradable & set(self._request.symbols or tradable)
        yield AlpacaSession(
            market=self._market,
            session=session,
            symbols=tuple(sorted(wanted)),
            quality=attrs.evolve(declared, subscriptions=0 if paid else declared.subscriptions),
            left_out={"not tradable": len(assets) - len(tradable)},
        )


def _batches(symbols: Iterable[str]) -> Iterator[str]:
    # The symbols as lists that fit into the address of one request.
    known = sorted(filter(_SPELLING.fullmatch, symbols))
    for start in range(0, len(known), _SYMBOLS_PER_REQUEST):
        yield ",".join(known[start : start + _SYMBOLS_PER_REQUEST])
