"""The trades of a run as CSV, in order of entry, and closed trades for a ledger.

A ledger's columns are those of a run's trades, with account, mode, identity and trade id.
"""

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

    from tbot_core.contracts import ClosedTrade
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
LEDGER_COLUMNS: Final = (*COLUMNS, "account", "mode", "identity", "trade_id")
_LIVE: Final = "live"


def trades_csv(trades: Iterable[Trade]) -> str:
    """One line per trade below a header; `session` is the exchange date of the entry, times are UTC, ISO 8601."""
    return _csv_table(
        COLUMNS, (_trade_row(trade, exchange_time(trade.entry_time).date()) for trade in in_order_of_entry(trades))
    )


def _trade_row(trade: Trade, session: date) -> dict[str, str]:
    # The cells of a trade in a session, by column; money in cents, the exit reason as on screens.
    reason = trade.exit_reason.word.replace(" ", "_").upper()
    return {"session": session.isoformat(), **trade_document(trade), "exit_reason": reason}


def _csv_table(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    # Rows below a header; a text that a spreadsheet would calculate as a formula begins with an apostrophe.
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def ledger_csv(trades: Iterable[ClosedTrade]) -> str:
    """One line per trade below a header, in order of exit; `session` is the exchange date of the exit.

    Times are UTC, ISO 8601; prices, quantities and money are exact decimals.
    """
    return _csv_table(LEDGER_COLUMNS, map(_row, sorted(trades, key=lambda one: (one.trade.exit_time, one.id))))


def ledger_name(trade: ClosedTrade, run: str = "") -> str:
    """The name of the file of a trade: that of its bot and session; other modes than live are in the name.

    `run` takes the place of the mode, for a run with a journal of its own.
    """
    word = run or ("" if trade.mode == _LIVE and trade.identity else trade.mode)
    return f"{'-'.join(filter(None, (trade.identity, word, trade.session.isoformat())))}.csv"


def _cell(value: str) -> str:
    return f"'{value}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value) else value


def _row(closed: ClosedTrade) -> dict[str, str]:
    trade = closed.trade
    return {
        **_trade_row(trade, closed.session),
        "fees": f"{trade.fees:f}",
        "pnl": f"{trade.pnl:f}",
        "account": closed.account,
        "mode": closed.mode,
        "identity": closed.identity,
        "trade_id": closed.id,
    }
