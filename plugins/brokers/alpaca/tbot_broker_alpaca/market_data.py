"""Alpaca's market data as values of tbot: bars, quotes, statuses and index values; pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.parse import moment
from tbot_broker_alpaca.rejections import stream_error
from tbot_core.contracts import Bar, DailyBar, FeedMessage, HaltStatus, Heartbeat, IndexQuote, Quote
from tbot_core.model.clock import exchange_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tbot_core.contracts import HttpResponse

_FIELDS: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}

# The codes of both tapes' statuses; others, such as price indications, say nothing about trading.
_HALTED: Final = frozenset({"2", "H", "P"})
_RESUMED: Final = frozenset({"3", "T"})
_MARKET_WIDE: Final = {"1": 1, "2": 2, "3": 3, "MWC1": 1, "MWC2": 2, "MWC3": 3}
_MARKET_RESUMED: Final = "MWCQ"


def minute_bar(symbol: str, row: Mapping[str, Any]) -> Bar:
    """The bar of one minute."""
    vwap = row.get("vw")
    return Bar(symbol=symbol, start=moment(row["t"]), vwap=None if vwap is None else float(vwap), **_numbers(row))


def daily_bar(symbol: str, row: Mapping[str, Any]) -> DailyBar:
    """The bar of one day, which is stamped with midnight in New York."""
    return DailyBar(symbol=symbol, date=exchange_time(moment(row["t"])).date(), **_numbers(row))


def quote(symbol: str, row: Mapping[str, Any]) -> Quote:
    """A quote; 0 stands for a side that is empty, and the core does not use such a quote."""
    return Quote(symbol=symbol, bid=float(row["bp"]), ask=float(row["ap"]), time=moment(row["t"]))


def price(snapshot: Mapping[str, Any]) -> float | None:
    """The mid price of the latest quote of a snapshot, else its last trade; None without either."""
    latest, trade = snapshot.get("latestQuote") or {}, snapshot.get("latestTrade") or {}
    bid, ask = float(latest.get("bp") or 0), float(latest.get("ap") or 0)
    if 0 < bid <= ask:
        return (bid + ask) / 2
    return float(trade["p"]) if trade.get("p") else None


def index_value(row: Mapping[str, Any]) -> IndexQuote:
    """The value of an index."""
    return IndexQuote(value=float(row["v"]), time=moment(row["t"]))


def stream_messages(row: Mapping[str, Any]) -> Iterator[FeedMessage]:
    """The messages of one object of the stream; raises BrokerError for one that reports an error."""
    match row.get("T"):
        case "b":
            yield minute_bar(row["S"], row)
        case "q":
            yield quote(row["S"], row)
        case "s":
            yield from statuses(row)
        case "error":
            raise stream_error(row)
        case _:  # also `u`, a bar after a late trade: the bar of a minute is the one that came first
            yield Heartbeat()


def statuses(row: Mapping[str, Any]) -> Iterator[FeedMessage]:
    """What a trading status says: of its symbol, and of the whole market where its reason is a market-wide halt."""
    code, reason = str(row.get("sc")), str(row.get("rc"))
    words = " ".join(str(row[name]) for name in ("sm", "rm") if row.get(name))
    if reason == _MARKET_RESUMED:
        yield HaltStatus(symbol="", halted=False, words=words)
    if code in _HALTED:
        if level := _MARKET_WIDE.get(reason):
            yield HaltStatus(symbol="", halted=True, level=level, words=words)
        yield HaltStatus(symbol=row["S"], halted=True, words=words)
    elif code in _RESUMED:
        yield HaltStatus(symbol=row["S"], halted=False, words=words)
    else:
        yield Heartbeat()


def following(page: HttpResponse) -> Mapping[str, str] | None:
    """The parameters of the next page of bars, None after the last."""
    token = page.json()["next_page_token"]
    return {"page_token": token} if token else None


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[short]) for name, short in _FIELDS.items()}
