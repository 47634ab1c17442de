"""The venue's market: listed symbols, prices, past bars, halts, and the documents of assets and market data."""

from __future__ import annotations

import datetime as dt
import functools
import itertools
import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from tbot_broker_alpaca.venue.options import OptionMarket
from tbot_broker_alpaca.venue.wire import (
    Refusal,
    day_start,
    id_of,
    minute_stamp,
    moment_of,
    page_of,
    place_of,
    stamp,
    whole_of,
)
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tbot_core.contracts import Bar, Split
    from tbot_core.model.clock import Clock

_SPELLING: Final = re.compile(r"[A-Z]{1,6}(\.[A-Z]{1,2})?")
_PAST_DAYS: Final = 370
_RECENT: Final = dt.timedelta(minutes=15)
_MOST: Final = 10_000
_MOST_ACTIONS: Final = 1000
_SPLIT_TYPES: Final = ("forward_split", "reverse_split")
_ACTION_TYPES: Final = frozenset(
    [
        "cash_dividend",
        "cash_merger",
        "forward_split",
        "name_change",
        "partial_call",
        "redemption",
        "reorganization",
        "reverse_split",
        "rights_distribution",
        "spin_off",
        "stock_and_cash_merger",
        "stock_dividend",
        "stock_merger",
        "unit_split",
        "worthless_removal",
    ]
)
_WAVE: Final = 11
"""Past prices rise and fall with this period, in sessions."""


@attrs.define(eq=False)
class Listing:
    """A symbol: its price now, that of the last close, and the facts that the venue reports as an asset.

    `volume` is that of a past day, `minutes` are today's closed ones. One that is not `active` is not listed.
    `past` are the recorded minutes of past days and `recorded_days` their daily bars; without any the past is invented.
    """

    symbol: str
    price: Decimal
    previous_close: Decimal
    volume: int
    tradable: bool = True
    active: bool = True
    fractionable: bool = True
    shortable: bool = True
    easy_to_borrow: bool = True
    halted: bool = False
    minutes: list[dict[str, Any]] = attrs.field(factory=list)
    past: dict[dt.date, list[dict[str, Any]]] = attrs.field(factory=dict)
    recorded_days: dict[dt.date, dict[str, Any]] = attrs.field(factory=dict)

    @property
    def asset_id(self) -> str:
        """The id of the asset."""
        return id_of(f"asset {self.symbol}")

    @property
    def document(self) -> dict[str, object]:
        """The asset."""
        return {
            "id": self.asset_id,
            "class": "us_equity",
            "exchange": "NASDAQ",
            "symbol": self.symbol,
            "name": f"{self.symbol} Inc. Common Stock",
            "status": "active" if self.active else "inactive",
            "tradable": self.tradable and self.active,
            "marginable": True,
            "maintenance_margin_requirement": 30,
            "margin_requirement_long": "30",
            "margin_requirement_short": "100" if not self.easy_to_borrow else "30",
            "shortable": self.shortable,
            "easy_to_borrow": self.easy_to_borrow,
            "borrow_status": "easy_to_borrow" if self.easy_to_borrow else "hard_to_borrow",
            "fractionable": self.fractionable,
            "attributes": [],
        }


_LastDays: TypeAlias = tuple[dict[str, Any] | None, dict[str, Any] | None]
"""The daily bar of today, or else of the day before, and that of the day before."""


class VenueMarket:
    """All symbols in the time of a clock; `half_spread` is the distance of bid and ask from the last price.

    `live_sip`: the plan has consolidated data of the last 15 minutes. `vix` is the index value, None: not offered.
    `repeats_tokens`: a page names itself as the next one, as a broken vendor does. Past bars reach `past_days` back.
    `options` are those of the listed stocks.
    """

    def __init__(self, clock: Clock, *, live_sip: bool) -> None:
        self.clock, self.live_sip = clock, live_sip
        self.calendar = ExchangeCalendar()
        self.listings: dict[str, Listing] = {}
        self.half_spread = Decimal(0)
        self.splits: list[Split] = []
        self.vix: Decimal | None = None
        self.repeats_tokens = False
        self.past_days = _PAST_DAYS
        self.options = OptionMarket(self)
        self._current: tuple[dt.datetime, Session] | None = None
        self._kept_days: dict[str, tuple[tuple[int, dt.date], _LastDays]] = {}

    @property
    def session(self) -> Session:
        """Today's session, or the next one."""
        now = self.clock.now()
        if self._current is None or not self._current[0] <= now < self._current[1].close:
            self._current = now, self.calendar.current(now)
        return self._current[1]

    @property
    def is_open(self) -> bool:
        """Whether the regular session is open."""
        return self.session.open <= self.clock.now() < self.session.close

    def list_symbol(self, symbol: str, price: Decimal, volume: int) -> None:
        """Let a symbol be traded, from this price on."""
        self.listings[symbol] = Listing(symbol, price, price, volume)
        self._kept_days.pop(symbol, None)

    def record(self, bars: Sequence[Bar]) -> None:
        """Have these minutes as the past of their symbols, which has no others."""
        recorded = {symbol: self.listings[symbol] for symbol in sorted({bar.symbol for bar in bars})}
        for listing in recorded.values():
            listing.past.clear()
        for bar in bars:
            recorded[bar.symbol].past.setdefault(exchange_time(bar.start).date(), []).append(_row_of(bar))
        for listing in recorded.values():
            listing.recorded_days = {day: _day_row(day, rows) for day, rows in listing.past.items()}

    def close_minutes(self, bars: Sequence[Bar]) -> list[dict[str, Any]]:
        """Add closed minutes to the history of today; returns them as messages of the stream."""
        found = []
        for bar in bars:
            row = _row_of(bar)
            self.listings[bar.symbol].minutes.append(row)
            found.append({"T": "b", "S": bar.symbol, **row})
        return found

    def quote(self, listing: Listing) -> dict[str, Any]:
        """The latest quote: the last price, half a spread to either side."""
        return {
            "t": stamp(self.clock.now()),
            "ax": "V",
            "ap": float(listing.price + self.half_spread),
            "as": 100,
            "bx": "V",
            "bp": float(listing.price - self.half_spread),
            "bs": 100,
            "c": ["R"],
            "z": "C",
        }

    def trade(self, listing: Listing) -> dict[str, Any]:
        """The latest trade."""
        now = self.clock.now()
        price = float(listing.price)
        return {"t": stamp(now), "x": "V", "p": price, "s": 100, "c": ["@"], "i": int(now.timestamp()), "z": "C"}

    def status(self, listing: Listing) -> dict[str, Any]:
        """The trading status as a message of the stream."""
        words = ("H", "Trading Halt", "T1") if listing.halted else ("T", "Trading Resumption", "")
        code, message, reason = words
        head = {"T": "s", "S": listing.symbol, "sc": code, "sm": message, "rc": reason, "rm": ""}
        return {**head, "t": stamp(self.clock.now()), "z": "C"}

    def clock_document(self) -> dict[str, object]:
        """The answer of /v2/clock."""
        session, now = self.session, exchange_time(self.clock.now())
        opens = self.calendar.next(session.date).open if self.is_open else session.open
        return {
            "timestamp": now.isoformat(),
            "is_open": self.is_open,
            "next_open": exchange_time(opens).isoformat(),
            "next_close": exchange_time(session.close).isoformat(),
        }

    def calendar_document(self, query: Mapping[str, str]) -> list[dict[str, object]]:
        """The answer of /v2/calendar."""
        first = exchange_time(moment_of(query.get("start", "2025-01-01"))).date()
        last = exchange_time(moment_of(query.get("end", "2027-12-31"))).date()
        return [
            {
                "date": session.date.isoformat(),
                "open": f"{exchange_time(session.open):%H:%M}",
                "close": f"{exchange_time(session.close):%H:%M}",
                "session_open": "0400",
                "session_close": "2000",
                "settlement_date": self.calendar.next(session.date).date.isoformat(),
            }
            for session in self.calendar.sessions(first, last)
        ]

    def bars(
        self, query: Mapping[str, str], symbols: Sequence[str]
    ) -> tuple[dict[str, list[dict[str, Any]]], str | None]:
        """The bars that a query asks for, by symbol, and the token of the next page."""
        self._assert_spelled(symbols)
        frame, now = query.get("timeframe", ""), self.clock.now()
        if frame not in {"1Min", "1Day"}:
            raise Refusal(400, 40010000, f"invalid timeframe: {frame}")
        consolidated = query.get("feed", "sip") == "sip" and not self.live_sip
        latest = now - _RECENT if consolidated else now
        first = moment_of(query.get("start", f"{exchange_time(now):%Y-%m-%d}"))
        last = moment_of(query["end"], ends=True) if "end" in query else latest
        if consolidated and frame == "1Min" and "end" in query and last > latest:
            raise Refusal(403, 40310000, "subscription does not permit querying recent SIP data")
        adjusted = query.get("adjustment", "raw") != "raw"
        last_place, descends = place_of(query), query.get("sort") == "desc"
        begins, _, at = (last_place or "").partition(f"|{frame[1]}|") if not descends else ("", "", "")
        found: Iterable[tuple[str, tuple[str, dict[str, Any]]]] = (
            (f"{symbol}|{frame[1]}|{row['t']}", (symbol, row))
            for symbol in sorted({*symbols} & {*self.listings})
            if symbol >= begins
            for since in [max(first, moment_of(at)) if at and symbol == begins else first]
            for row in self._rows(self.listings[symbol], frame, since, last, adjusted=adjusted)
        )
        if descends:
            found = reversed([*found])
        page, token = page_of(found, whole_of(query.get("limit"), 1000, _MOST), query)
        answer: dict[str, list[dict[str, Any]]] = {}
        for _, (symbol, row) in page:
            answer.setdefault(symbol, []).append(row)
        return answer, query.get("page_token", token) if self.repeats_tokens else token

    def corporate_actions(self, query: Mapping[str, str]) -> dict[str, object]:
        """The splits that a query asks for, by the day on which they are processed: the first in the new shares."""
        types = {*query.get("types", ",".join(_SPLIT_TYPES)).split(",")}
        if unknown := sorted(types - _ACTION_TYPES):
            raise Refusal(400, 40010000, f"invalid type: {unknown[0]}")
        symbols = [one for one in query.get("symbols", "").split(",") if one]
        self._assert_spelled(symbols)
        today = f"{exchange_time(self.clock.now()):%Y-%m-%d}"
        first, last = (exchange_time(moment_of(query.get(name, today))).date() for name in ("start", "end"))
        found = [
            (f"{split.date}|{split.symbol}", (_split_type(split), _split_document(split)))
            for split in sorted(self.splits, key=lambda one: (one.date, one.symbol))
            if first <= split.date <= last and (not symbols or split.symbol in symbols) and _split_type(split) in types
        ]
        if query.get("sort") == "desc":
            found.reverse()
        page, token = page_of(found, whole_of(query.get("limit"), 100, _MOST_ACTIONS), query)
        actions: dict[str, list[dict[str, object]]] = {}
        for _, (kind, document) in page:
            actions.setdefault(f"{kind}s", []).append(document)
        token = query.get("page_token", token) if self.repeats_tokens else token
        return {"corporate_actions": actions, "next_page_token": token}

    def latest(self, symbols: Sequence[str]) -> list[Listing]:
        """The listings of a query for latest values; symbols that are not known are left out."""
        self._assert_spelled(symbols)
        return [self.listings[symbol] for symbol in symbols if symbol in self.listings]

    def snapshot(self, listing: Listing) -> dict[str, Any]:
        """Latest trade, quote and minute, today's bar and that of the day before."""
        today, past = self._last_days(listing)
        return {
            "latestTrade": self.trade(listing),
            "latestQuote": self.quote(listing),
            "minuteBar": listing.minutes[-1] if listing.minutes else past,
            "dailyBar": today,
            "prevDailyBar": past,
        }

    def _last_days(self, listing: Listing) -> _LastDays:
        # The daily bars of today, else of the day before, and of the day before; kept until a minute has closed.
        state = len(listing.minutes), exchange_time(self.clock.now()).date()
        if (kept := self._kept_days.get(listing.symbol)) is not None and kept[0] == state:
            return kept[1]
        before = self.calendar.previous(self.session.date)
        past = next(self._days(listing, before.open, before.close, adjusted=False), None)
        now = self.clock.now()
        found = next(self._days(listing, self.session.open, now, adjusted=False), past), past
        self._kept_days[listing.symbol] = state, found
        return found

    @staticmethod
    def _assert_spelled(symbols: Sequence[str]) -> None:
        for symbol in symbols:
            if not _SPELLING.fullmatch(symbol):
                raise Refusal(400, 40010000, f"invalid symbol: {symbol}")

    def _rows(
        self, listing: Listing, frame: str, first: dt.datetime, last: dt.datetime, *, adjusted: bool
    ) -> Iterator[dict[str, Any]]:
        if frame == "1Day":
            yield from self._days(listing, first, last, adjusted=adjusted)
            return
        days = exchange_time(first).date(), exchange_time(last).date()
        begins, ends = minute_stamp(first), minute_stamp(last)
        for day, rows in listing.past.items():
            if days[0] <= day <= days[1]:
                yield from (row for row in rows if begins <= row["t"] <= ends)
        for session, before, close, factor in self._past(listing, first, last, adjusted=adjusted):
            minutes = _invented_minutes(session, float(before), float(close), int(listing.volume / factor))
            yield from (row for row in minutes if begins <= row["t"] <= ends)
        yield from (row for row in listing.minutes if begins <= row["t"] <= ends)

    def _days(
        self, listing: Listing, first: dt.datetime, last: dt.datetime, *, adjusted: bool
    ) -> Iterator[dict[str, Any]]:
        # Daily bars from the day of `first` to that of `last`; recorded ones and that of today from their minutes.
        days = exchange_time(first).date(), exchange_time(last).date()
        yield from (row for day, row in listing.recorded_days.items() if days[0] <= day <= days[1])
        for session, before, close, factor in self._past(listing, first, last, adjusted=adjusted):
            opened, closed = round(float(before), 4), round(float(close), 4)
            high, low = max(opened, closed) * 1.005, min(opened, closed) * 0.995
            at = minute_stamp(day_start(session.date))
            yield _row(at, (opened, high, low, closed), int(listing.volume / factor))
        rows = listing.minutes
        if rows and days[1] >= self.session.date:
            yield _day_row(self.session.date, rows)

    def _past(
        self, listing: Listing, first: dt.datetime, last: dt.datetime, *, adjusted: bool
    ) -> Iterator[tuple[Session, Decimal, Decimal, float]]:
        # Invented sessions before today's in the range: the close before, the close, and the split's factor of prices.
        if listing.past:
            return
        today = self.session.date
        begins = max(exchange_time(first).date(), today - dt.timedelta(days=self.past_days))
        sessions = self.calendar.sessions(begins, today - dt.timedelta(days=1))
        ends = exchange_time(last).date()
        for ago, session in zip(range(len(sessions), 0, -1), sessions, strict=True):
            if session.date > ends:
                return
            factor = Decimal(str(self._factor(listing.symbol, session.date))) if not adjusted else Decimal(1)
            before, close = (listing.previous_close * (1 + _wave(step)) * factor for step in (ago + 1, ago))
            yield session, before, close, float(factor)

    def _factor(self, symbol: str, day: dt.date) -> float:
        later = [split for split in self.splits if split.symbol == symbol and day < split.date]
        return math.prod(split.after / split.before for split in later)


def _split_type(split: Split) -> str:
    return "forward_split" if split.after > split.before else "reverse_split"


def _split_document(split: Split) -> dict[str, object]:
    # The corporate action; the number of the security changes with a reverse split only.
    number, day = f"{sum(map(ord, split.symbol)):08d}1", split.date.isoformat()
    forward = _split_type(split) == "forward_split"
    return {
        "id": id_of(f"split {split.symbol} {day}"),
        "symbol": split.symbol,
        "new_rate": split.after,
        "old_rate": split.before,
        "process_date": day,
        "ex_date": day,
        **({"cusip": number} if forward else {"old_cusip": number, "new_cusip": f"{number[:-1]}2"}),
        "record_date": day,
        "payable_date": day,
    }


def _wave(ago: int) -> Decimal:
    # How far the close so many sessions ago was from the last one, as a fraction; 0 for the last one.
    return Decimal(((ago - 1) * 4) % _WAVE) / 1000 if ago > 1 else Decimal(0)


@functools.lru_cache(maxsize=2_000)  # the pages of one answer read the same sessions again
def _invented_minutes(session: Session, before: float, close: float, volume: int) -> tuple[dict[str, Any], ...]:
    # The minutes of a past session, on a straight line from the close before to its own.
    prices = [round(before + (close - before) * step / session.minutes, 4) for step in range(session.minutes + 1)]
    return tuple(
        _row(
            minute_stamp(session.moment(minute)),
            (opened, max(opened, closed), min(opened, closed), closed),
            volume // session.minutes,
        )
        for minute, (opened, closed) in enumerate(itertools.pairwise(prices))
    )


def _day_row(day: dt.date, minutes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    high, low = max(row["h"] for row in minutes), min(row["l"] for row in minutes)
    prices = (minutes[0]["o"], high, low, minutes[-1]["c"])
    return _row(minute_stamp(day_start(day)), prices, sum(row["v"] for row in minutes))


def _row_of(bar: Bar) -> dict[str, Any]:
    row = _row(minute_stamp(bar.start), (bar.open, bar.high, bar.low, bar.close), bar.volume)
    return row if bar.vwap is None else {**row, "vw": bar.vwap}


def _row(at: str, prices: tuple[float, float, float, float], volume: float) -> dict[str, Any]:
    # A bar of open, high, low and close; the average price is that of the four.
    opened, high, low, closed = prices
    average = round(sum(prices) / 4, 6)
    high, low = max(high, opened, closed), min(low, opened, closed)
    numbers = {"o": opened, "h": round(high, 4), "l": round(low, 4), "c": closed}
    return {"t": at, **numbers, "v": int(volume), "n": max(int(volume) // 100, 1), "vw": average}
