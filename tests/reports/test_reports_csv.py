"""The CSV file of a run's trades."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tbot_core.contracts import ClosedTrade
from tbot_core.model.types import ExitReason, Side, Trade, stock
from tbot_core.reports.summary import trade_document
from tbot_core.reports.trades_csv import COLUMNS, LEDGER_COLUMNS, ledger_csv, ledger_name, trades_csv

EVENING = dt.datetime(2026, 11, 24, 20, 59, tzinfo=dt.UTC)


def trade(symbol: str, minutes: int) -> Trade:
    """A trade that is entered so many minutes before the close."""
    return Trade(
        strategy="open",
        instrument=stock(symbol),
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


@pytest.mark.parametrize(
    ("symbol", "cell"),
    [("=1+1", "'=1+1"), ("+A", "'+A"), ("-A", "'-A"), ("@A", "'@A"), ("\tA", "'\tA"), ("BRK.B", "BRK.B"), ("-1", "-1")],
)
def test_no_cell_is_a_formula(symbol: str, cell: str) -> None:
    """A spreadsheet shows the text; a negative number stays one."""
    (row,) = csv.DictReader(io.StringIO(trades_csv([trade(symbol, 5)])))
    assert row["symbol"] == cell


def closed(symbol: str, **terms: Any) -> ClosedTrade:
    """A closed trade of an account."""
    given: dict[str, Any] = {
        "session": dt.date(2026, 11, 24),
        "mode": "live",
        "identity": "AB_US_X_01",
        "account": "A1",
    } | terms
    return ClosedTrade(id=f"s/{symbol}", trade=trade(symbol, 5), **given)


def test_a_ledger_has_exact_money_and_the_account() -> None:
    """Not rounded to cents, as on screens."""
    one = closed("AAPL")
    exact = attrs.evolve(one, trade=attrs.evolve(one.trade, fees=Decimal("0.0134"), pnl=Decimal("-1.5866")))
    rows = list(csv.DictReader(ledger_csv([closed("MSFT"), exact]).splitlines()))
    assert tuple(rows[0]) == LEDGER_COLUMNS
    assert [row["trade_id"] for row in rows] == ["s/AAPL", "s/MSFT"]
    assert [rows[0][name] for name in ("fees", "pnl", "account", "mode", "identity")] == [
        "0.0134",
        "-1.5866",
        "A1",
        "live",
        "AB_US_X_01",
    ]


@pytest.mark.parametrize(
    ("terms", "run", "name"),
    [
        ({}, "", "AB_US_X_01-2026-11-24.csv"),
        ({"mode": "paper"}, "", "AB_US_X_01-paper-2026-11-24.csv"),
        ({"mode": "paper", "identity": ""}, "", "paper-2026-11-24.csv"),
        ({"identity": ""}, "", "live-2026-11-24.csv"),
        ({"mode": "rehearsal"}, "rehearsal-1", "AB_US_X_01-rehearsal-1-2026-11-24.csv"),
    ],
)
def test_only_live_trading_writes_files_of_the_identity_alone(terms: dict[str, str], run: str, name: str) -> None:
    """Every other mode is in the name."""
    assert ledger_name(closed("AAPL", **terms), run) == name


def test_without_a_trade_there_is_only_the_header() -> None:
    """A reader of the file finds its columns in any case."""
    assert trades_csv([]) == ",".join(COLUMNS) + "\n"


def test_a_flattened_position_does_not_read_as_stopped_out() -> None:
    """STOPPED, of a position that a stop or kill of the bot closed, is FLATTENED; a stop order is a STOP."""
    trades = [attrs.evolve(trade("AAPL", 5), exit_reason=reason) for reason in (ExitReason.STOPPED, ExitReason.STOP)]
    rows = csv.DictReader(trades_csv(trades).splitlines())
    assert [row["exit_reason"] for row in rows] == ["FLATTENED", "STOP"]
    assert [one.exit_reason.word for one in trades] == ["flattened", "stop"]
