"""Which symbols are funds: limits of companies, such as market capitalisation and P/E, do not apply to them.

For filters: what the source of the day's facts says counts, else the table that ships with tbot, or the operator's own
one, which replaces it whole.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tbot_core.errors import SettingsError
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Collection

    from tbot_core.model.bars import Flags
    from tbot_core.model.day_facts import DayFacts

FUNDS: Final = "funds.csv"
"""The name of the table, for `Plugin.tables`."""

_HEADER = ["symbol", "name"]
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.]{0,15}")


def read_funds(folder: Path) -> frozenset[str]:
    """The funds of the operator's table in this folder, else of the shipped one. Raises SettingsError for faults."""
    own = folder / FUNDS
    table = own if filesystem.exists(own) else Path(__file__).with_name(FUNDS)
    return parse_funds(filesystem.read_text(table), str(table))


def flag_funds(day: DayFacts, symbols: tuple[str, ...], funds: Collection[str]) -> Flags:
    """Flags the funds, one value per row: by the source of the facts, else by `funds`; what is unknown is a stock."""
    listed: Flags = np.broadcast_to([symbol in funds for symbol in symbols], day.previous_close.shape)
    return listed if day.fund is None else np.where(np.isnan(day.fund), listed, day.fund == 1)


def parse_funds(text: str, where: str) -> frozenset[str]:
    """The symbols of a table with columns symbol and name; `where` names the table in errors.

    Raises SettingsError, with one line per fault, for another header, other columns, an invalid symbol or an unclosed
    quote.
    """
    lines = text.splitlines()
    rows = [_fields(line) for line in lines]
    faults = [] if rows and rows[0] == _HEADER else [f"{where}:1: the header is not {','.join(_HEADER)!r}."]
    funds: set[str] = set()
    for number, row in enumerate(rows[1:], start=2):
        if len(row) == len(_HEADER) and _SYMBOL.fullmatch(row[0]):
            funds.add(row[0])
        elif row:
            faults.append(f"{where}:{number}: {lines[number - 1]!r} is not a symbol in capitals, a comma and a name.")
    if faults:
        raise SettingsError("\n".join(faults), "Correct the table of funds, or remove it to use the one shipped.")
    return frozenset(funds)


def _fields(line: str) -> list[str]:
    # Parse line by line: an unclosed quote would include the following lines.
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return [line]
