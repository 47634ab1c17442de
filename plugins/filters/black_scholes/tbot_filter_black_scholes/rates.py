"""The table of risk-free rates by jurisdiction and date."""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import attrs

from tbot_core.errors import SettingsError
from tbot_core.model.formatting import first_names, plural

HEADER: Final = ["code", "date", "rate", "source"]
LEAST: Final = -0.1
MOST: Final = 1.0
_CODE: Final = re.compile(r"[A-Z]{2,4}")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_RATE: Final = re.compile(r"-?[0-9]{1,3}(?:\.[0-9]{1,12})?")


@attrs.frozen(kw_only=True)
class DatedRate:
    """A yearly rate as a fraction of 1, in force from a day on, and who published it."""

    day: date
    rate: float
    source: str


@attrs.frozen(kw_only=True)
class RateTable:
    """The rates of each jurisdiction, the oldest first."""

    rates: Mapping[str, tuple[DatedRate, ...]]

    def at(self, code: str, day: date) -> DatedRate | None:
        """The rate of a jurisdiction that was in force on a day; None if the table has none."""
        rows = self.rates.get(code, ())
        place = bisect_right([row.day for row in rows], day)
        return rows[place - 1] if place else None


def parse(text: str, where: str) -> RateTable:
    """A table with columns code, date, rate and source; `where` names the table in errors.

    Raises SettingsError, with one line per fault, for another header, other columns, an invalid value, a repeated date
    of a code, and a table without rows.
    """
    lines = text.splitlines()
    rows = [_fields(line) for line in lines]
    faults = [] if rows and rows[0] == HEADER else [f"{where}:1: the header is not {','.join(HEADER)!r}."]
    found: dict[str, dict[date, DatedRate]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        one = _dated_rate(row)
        if isinstance(one, str):
            faults.append(f"{where}:{number}: {lines[number - 1]!r}: {one}.")
        elif one.day in found.setdefault(row[0], {}):
            faults.append(f"{where}:{number}: {lines[number - 1]!r}: the table has a rate of {row[0]} of this date.")
        else:
            found[row[0]][one.day] = one
    if not faults and not found:
        faults.append(f"{where}: the table has no rate.")
    if faults:
        raise _refusal(faults, where)
    return RateTable(rates={code: tuple(days[day] for day in sorted(days)) for code, days in found.items()})


def describe(table: RateTable, where: str, today: date, jurisdiction: str) -> str:
    """How many rates of which codes the table has, the newest date, and whether those of the jurisdiction are missing.

    Raises SettingsError for a rate that is not in force yet.
    """
    days = [(row.day, code) for code, rows in table.rates.items() for row in rows]
    future = [f"{where}: the rate of {code} of {day} is in the future." for day, code in sorted(days) if day > today]
    if future:
        raise _refusal(future, where)
    codes = f"{plural(len(table.rates), 'code')} ({first_names(table.rates)})"
    words = f"It has {plural(len(days), 'rate')} of {codes}, the newest of {max(days)[0]}"
    lacks = f"; no rate of {jurisdiction}, the jurisdiction of this instance"
    return f"{words}{lacks if jurisdiction and jurisdiction not in table.rates else ''}."


def _refusal(faults: Sequence[str], where: str) -> SettingsError:
    remedy = f"Correct {where}. Rates are fractions: 0.045 is 4.5 %. Without such a file the shipped table is used."
    return SettingsError("\n".join(faults), remedy)


def _dated_rate(row: list[str]) -> DatedRate | str:
    # The row as a rate, else what is wrong with it.
    if len(row) != len(HEADER):
        return "a row has a code, a date, a rate and a source"
    code, day, rate, source = row
    if not _CODE.fullmatch(code):
        return f"the code {code!r} is not 2 to 4 capital letters"
    try:
        parsed = date.fromisoformat(day if _DATE.fullmatch(day) else "")
    except ValueError:
        return f"{day!r} is not a date YYYY-MM-DD"
    if not _RATE.fullmatch(rate) or not LEAST <= float(rate) <= MOST:
        return f"the rate {rate!r} is not a fraction from {LEAST:g} to {MOST:g}"
    return DatedRate(day=parsed, rate=float(rate), source=source) if source.strip() else "the rate has no source"


def _fields(line: str) -> list[str]:
    # Line by line: an unclosed quote would include the following lines.
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return [line]
