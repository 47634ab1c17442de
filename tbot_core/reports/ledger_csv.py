"""Closed trades as CSV for a ledger: the columns of a run's trades, with account, mode, identity and trade id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.reports.trades_csv import COLUMNS, csv_table, trade_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.contracts import ClosedTrade

LEDGER_COLUMNS: Final = (*COLUMNS, "account", "mode", "identity", "trade_id")
_LIVE: Final = "live"


def ledger_csv(trades: Iterable[ClosedTrade]) -> str:
    """One line per trade below a header, in order of exit; `session` is the exchange date of the exit.

    Times are UTC, ISO 8601; prices, quantities and money are exact decimals.
    """
    return csv_table(LEDGER_COLUMNS, map(_row, sorted(trades, key=lambda one: (one.trade.exit_time, one.id))))


def ledger_name(trade: ClosedTrade, run: str = "") -> str:
    """The name of the file of a trade: that of its bot and session; other modes than live are in the name.

    `run` takes the place of the mode, for a run with a journal of its own.
    """
    word = run or ("" if trade.mode == _LIVE and trade.identity else trade.mode)
    return f"{'-'.join(filter(None, (trade.identity, word, trade.session.isoformat())))}.csv"


def _row(closed: ClosedTrade) -> dict[str, str]:
    trade = closed.trade
    return {
        **trade_row(trade, closed.session),
        "fees": f"{trade.fees:f}",
        "pnl": f"{trade.pnl:f}",
        "account": closed.account,
        "mode": closed.mode,
        "identity": closed.identity,
        "trade_id": closed.id,
    }
