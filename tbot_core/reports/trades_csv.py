"""The trades of a run as CSV, in order of entry."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Final

from tbot_core.model.clock import exchange_time
from tbot_core.reports.summary import trade_document
from tbot_core.reports.timeline import in_order_of_entry

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def trades_csv(trades: Iterable[Trade]) -> str:
    """One line per trade below a header; `session` is the exchange date of the entry, times are UTC, ISO 8601."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for trade in in_order_of_entry(trades):
        day = exchange_time(trade.entry_time).date().isoformat()
        reason = trade.exit_reason.word.replace(" ", "_").upper()
        writer.writerow({"session": day, **trade_document(trade), "exit_reason": reason})
    return text.getvalue()
