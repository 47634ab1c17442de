"""The CSV file of a run's trades."""

from __future__ import annotations

import csv
import datetime as dt
from decimal import Decimal

from tbot_core.model.types import ExitReason, Side, Trade
from tbot_core.reports.summary import trade_document
from tbot_core.reports.trades_csv import COLUMNS, trades_csv

EVENING = dt.datetime(2026, 11, 24, 20, 59, tzinfo=dt.UTC)


def trade(symbol: str, minutes: int) -> Trade:
    """A trade that is entered so many minutes before the close."""
    return Trade(
        strategy="open",
        symbol=symbol,
        side=Side.SHORT,
        quantity=Decimal("12.5"),
        entry_time=EVENING - dt.timedelta(minutes=minutes),
        entry_price=Decimal("100.25"),
        exit_time=EVENING,
        exit_price=Decimal("100.1234"),
        fees=Decimal("0.02"),
        pnl=Decimal("1.58"),
        exit_reason=ExitReason.TRAILING_STOP,
        broker="alpha",
    )


def test_each_trade_is_a_line_in_order_of_entry() -> None:
    """The columns are the keys of a trade in the JSON document, with its session and broker."""
    trades = [trade("AAPL", 5), trade("MSFT", 9)]
    rows = list(csv.DictReader(trades_csv(trades).splitlines()))
    assert [row["symbol"] for row in rows] == ["MSFT", "AAPL"]
    assert rows[1] == {"session": "2026-11-24", **trade_document(trades[0])}
    assert tuple(rows[0]) == COLUMNS


def test_without_a_trade_there_is_only_the_header() -> None:
    """A reader of the file finds its columns in any case."""
    assert trades_csv([]) == ",".join(COLUMNS) + "\n"
