"""The trades of a run as CSV, in order of entry."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING, Final

from tbot_core.model.clock import exchange_time
from tbot_core.reports.summary import trade_document
from tbot_core.reports.timeline import in_order_of_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tbot_core.model.types import Trade

COLUMNS: Final = (
    "session",
    "strategy",
    "symbol",
    "broker",
    "side",
    "quantity",
    "entry_time",
    "entry_price",
    "exit_time",
    "exit_price",
    "exit_reason",
    "fees",
    "pnl",
)


_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def trades_csv(trades: Iterable[Trade]) -> str:
    """One line per trade below a header; `session` is the exchange date of the entry, times are UTC, ISO 8601."""
    rows = (
        {"session": exchange_time(trade.entry_time).date().isoformat(), **trade_document(trade)}
        for trade in in_order_of_entry(trades)
    )
    return csv_table(COLUMNS, rows)


def csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Rows below a header; a text that a spreadsheet would calculate as a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value
