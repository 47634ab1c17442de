"""Alpaca's market data as values of tbot: bars, quotes, statuses and index values; pure functions."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from tbot_broker_alpaca.parse import moment, readable
from tbot_broker_alpaca.rejections import stream_error
from tbot_core.contracts import Bar, DailyBar, FeedMessage, HaltStatus, Heartbeat, IndexQuote, Quote, Split
from tbot_core.model.clock import exchange_time
from tbot_core.model.types import MOST_SPLIT_SHARES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.contracts import HttpResponse

_FIELDS: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}

# The codes of both tapes' statuses; others, such as price indications, say nothing about trading.
_HALTED: Final = frozenset({"2", "H", "P"})
_RESUMED: Final = frozenset({"3", "T"})
_MARKET_WIDE: Final = {"1": 1, "2": 2, "3": 3, "MWC1": 1, "MWC2": 2, "MWC3": 3}
_MARKET_RESUMED: Final = "MWCQ"

SPLIT_TYPES: Final = ("forward_split", "reverse_split")
"""The corporate actions that are splits. A unit split has shares of two symbols: it is none."""

_LEAST_RATE, _MOST_RATE = Decimal("0.000001"), Decimal(1_000_000)
_EXACT: Final = 1e-9
"""The relative error of a ratio of two doubles; fractions of whole numbers to 1000 differ by more than 1e-6."""


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


def split_rows(document: Mapping[str, Any]) -> list[tuple[str, date, float]]:
    """The splits of a page of corporate actions: symbol, first session in the new shares, new shares for an old one.

    The symbol is that after the split. Raises ValueError, KeyError or TypeError for a row that cannot be read.
    """
    actions = document["corporate_actions"]
    rows = [row for kind in SPLIT_TYPES for row in actions.get(f"{kind}s") or ()]
    return [
        (_symbol(row), date.fromisoformat(row["ex_date"]), _rate(row, "new_rate") / _rate(row, "old_rate"))
        for row in rows
    ]


def splits(rows: Iterable[tuple[str, date, float]]) -> tuple[list[Split], list[str]]:
    """The splits of these rows, each once, and why a row is none: a phrase for each symbol and day."""
    ratios: dict[tuple[str, date], set[float]] = {}
    for symbol, day, ratio in rows:
        ratios.setdefault((symbol, day), set()).add(ratio)
    found, left_out = list[Split](), list[str]()
    for (symbol, day), reported in sorted(ratios.items()):
        exact = _fraction(*reported) if len(reported) == 1 else None
        if exact is None:
            words = " and ".join(f"{one:g}" for one in sorted(reported))
            left_out.append(f"{symbol} on {day}: {words} new shares for an old one")
        else:
            found.append(Split(symbol=symbol, date=day, before=exact.denominator, after=exact.numerator))
    return found, left_out


def _fraction(ratio: float) -> Fraction | None:
    # The ratio in whole numbers up to 1000; None for any other ratio, and for 1.
    found = Fraction(ratio).limit_denominator(MOST_SPLIT_SHARES)
    is_exact = math.isclose(found, ratio, rel_tol=_EXACT) and 0 < found.numerator <= MOST_SPLIT_SHARES
    return found if is_exact and found != 1 else None


def _symbol(row: Mapping[str, Any]) -> str:
    found = row.get("new_symbol") or row["symbol"]
    if not isinstance(found, str):
        raise TypeError(f"a symbol is {found!r:.40}")
    return found


def _rate(row: Mapping[str, Any], name: str) -> float:
    given = row[name]
    if isinstance(given, bool) or not isinstance(given, int | Decimal) or not _LEAST_RATE <= given <= _MOST_RATE:
        raise ValueError(f"{given!r:.40} is no {name} of a split")
    return float(given)


def following(page: HttpResponse) -> Mapping[str, str] | None:
    """The parameters of the next page of bars or corporate actions, None after the last."""
    with readable("page token"):
        return page_token(page.json()["next_page_token"])


def page_token(token: object) -> Mapping[str, str] | None:
    """The parameter for the page of this token, None without one; raises TypeError for a token that is no text."""
    if not isinstance(token, str | None):
        raise TypeError(f"it is {token!r:.40}")
    return {"page_token": token} if token else None


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(row[short]) for name, short in _FIELDS.items()}
