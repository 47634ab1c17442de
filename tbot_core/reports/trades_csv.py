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
    from datetime import date

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
    return csv_table(
        COLUMNS, (trade_row(trade, exchange_time(trade.entry_time).date()) for trade in in_order_of_entry(trades))
    )


def trade_row(trade: Trade, session: date) -> dict[str, str]:
    """The cells of a trade in a session, by column; money in cents, the exit reason as on screens."""
    reason = trade.exit_reason.word.replace(" ", "_").upper()
    return {"session": session.isoformat(), **trade_document(trade), "exit_reason": reason}


def csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Rows below a header; a text that a spreadsheet would calculate as a formula begins with an apostrophe."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value
