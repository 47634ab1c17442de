"""The table of funds, to which limits of market capitalisation do not apply."""

from __future__ import annotations

import csv
import re

from tbot_core.errors import SettingsError

HEADER = ["symbol", "name"]
_SYMBOL = re.compile(r"[A-Z][A-Z0-9.]{0,15}")


def parse(text: str, where: str) -> frozenset[str]:
    """Parse a table with the columns symbol and name, and return its symbols; `where` names it in errors.

    Raises SettingsError with a line per fault: a wrong header, wrong columns, an invalid symbol or an unclosed quote.
    """
    lines = text.splitlines()
    rows = [_fields(line) for line in lines]
    faults = [] if rows and rows[0] == HEADER else [f"{where}:1: the header is not {','.join(HEADER)!r}."]
    funds: set[str] = set()
    for number, row in enumerate(rows[1:], start=2):
        if len(row) == len(HEADER) and _SYMBOL.fullmatch(row[0]):
            funds.add(row[0])
        elif row:
            faults.append(f"{where}:{number}: {lines[number - 1]!r} is not a symbol in capitals, a comma and a name.")
    if faults:
        raise SettingsError("\n".join(faults), "Correct the table of funds, or remove it to use the one shipped.")
    return frozenset(funds)


def _fields(line: str) -> list[str]:
    # Line by line: an unclosed quote would include the following lines.
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return [line]
