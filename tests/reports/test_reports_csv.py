"""The CSV file of a run's trades."""

from __future__ import annotations

import csv
import datetime as dt
from decimal import Decimal

import attrs

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


def test_a_flattened_position_does_not_read_as_stopped_out() -> None:
    """STOPPED, of a position that a stop or kill of the bot closed, is FLATTENED; a stop order is a STOP."""
    trades = [attrs.evolve(trade("AAPL", 5), exit_reason=reason) for reason in (ExitReason.STOPPED, ExitReason.STOP)]
    rows = csv.DictReader(trades_csv(trades).splitlines())
    assert [row["exit_reason"] for row in rows] == ["FLATTENED", "STOP"]
    assert [one.exit_reason.word for one in trades] == ["flattened", "stop"]
