"""The table of index funds: the symbols that follow an index, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final, TypeAlias

from tbot_core.errors import DataError
from tbot_core.model.types import is_symbol
from tbot_core.system import filesystem, secure_files

if TYPE_CHECKING:
    from pathlib import Path

FundTable: TypeAlias = Mapping[str, Mapping[str, Decimal]]
"""Index -> symbol -> signed leverage: how a symbol's value changes, as a multiple of the index's relative change.

The index of a single-stock fund is the symbol of that stock, which has no row of its own.
"""

NAME: Final = "index_funds.csv"
HEADER: Final = "index,symbol,leverage"
LARGEST_LEVERAGE: Final = 5
_REMEDY: Final = f"Write {HEADER} on the first line, then one fund per line, such as S&P 500,SH,-1."
_QUOTED: Final = 30
_LARGEST_FILE: Final = 65_536


def read_fund_table(path: Path) -> FundTable | None:
    """Read the operator's table, which is used in place of the shipped one; None without a file.

    Raises AccessError if another user can write the file, DataError with all its faults.
    """
    if not filesystem.is_present(path):
        return None
    text = secure_files.read_operators_text(path, limit=_LARGEST_FILE, remedy=_REMEDY)
    return parse_fund_table(text, str(path))


def parse_fund_table(text: str, source: str) -> FundTable:
    """Read a table; lines that are empty or begin with # are left out.

    Raises DataError with all its faults, which names the `source`.
    """
    lines, table, wrong = text.splitlines(), dict[str, dict[str, Decimal]](), list[str]()
    if not lines or lines[0].strip() != HEADER:
        wrong.append(f"its first line is not {HEADER}")
    for number, line in enumerate(lines[1:], 2):
        if line.strip() and not line.startswith("#"):
            wrong += [f"line {number}: {words}" for words in _add(table, line)]
    if wrong:
        raise DataError(f"{source}: {'; '.join(wrong)}.", _REMEDY)
    return table


def _add(table: dict[str, dict[str, Decimal]], line: str) -> list[str]:
    # Add a line's fund; returns its faults.
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != HEADER.count(",") + 1:
        return [f"{len(fields)} fields"]
    index, symbol, text = fields
    wrong = [] if index else ["no index is named"]
    if not is_symbol(symbol):
        wrong.append(f"{symbol[:_QUOTED]!r} is not a symbol")
    try:
        leverage = Decimal(text)
    except InvalidOperation:
        leverage = Decimal(0)
    if not (leverage.is_finite() and 0 < abs(leverage) <= LARGEST_LEVERAGE):
        wrong.append(f"{text[:_QUOTED]!r} is not a leverage from -{LARGEST_LEVERAGE} to {LARGEST_LEVERAGE}, without 0")
    funds = table.setdefault(index, {})
    if symbol in funds:
        wrong.append(f"{symbol} is in {index} twice")
    funds[symbol] = leverage
    return wrong
