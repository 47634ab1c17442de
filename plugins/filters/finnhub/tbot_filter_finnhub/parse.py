"""Finnhub's answers as facts. Pure; names and units are those of its OpenAPI file and of recorded answers."""

from __future__ import annotations

import datetime as dt
import math
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PE_RATIO: Final = "pe_ratio"
DEBT_TO_EQUITY: Final = "debt_to_equity"
MARKET_CAP: Final = "market_cap"
EARNINGS_DATE: Final = "earnings_date"

PE_KEYS: Final = ("peTTM", "peExclExtraTTM", "peBasicExclExtraTTM", "peInclExtraTTM")
"""The P/E over the last twelve months, the first that is there. That of the last fiscal year is not used: a company
that has lost money since would still have one."""

DEBT_KEYS: Final = ("totalDebt/totalEquityQuarterly", "totalDebt/totalEquityAnnual")
"""Total debt to equity, a ratio (0.8 is 80 %), by the last quarterly balance sheet, else by the last annual one."""

CAP_KEY: Final = "marketCapitalization"
_MILLION: Final = 1_000_000
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


def refusal(document: Mapping[str, Any]) -> str | None:
    """The vendor's words where the answer is an error instead of data; None for data."""
    words = document.get("error")
    return None if words is None else str(words)


def company_facts(document: Mapping[str, Any]) -> dict[str, float] | None:
    """The facts in an answer of `/stock/metric`; None where Finnhub does not know the symbol.

    A fact whose key is missing or without a number is left out. So is a P/E that is not above 0, because the company
    lost money, and a negative ratio of debt to equity, because its equity is negative: neither is a small ratio.
    """
    metric = document.get("metric")
    if not isinstance(metric, dict) or not metric:
        return None
    found: dict[str, float] = {}
    if (ratio := _first(metric, PE_KEYS)) is not None and ratio > 0:
        found[PE_RATIO] = ratio
    if (ratio := _first(metric, DEBT_KEYS)) is not None and ratio >= 0:
        found[DEBT_TO_EQUITY] = ratio
    if (millions := _number(metric.get(CAP_KEY))) is not None and millions > 0:
        found[MARKET_CAP] = millions * _MILLION
    return found


def report_dates(document: Mapping[str, Any]) -> tuple[tuple[str, dt.date], ...]:
    """The symbol and the date of each report in an answer of `/calendar/earnings`; rows without both are left out."""
    rows = document.get("earningsCalendar")
    found = (_report(row) for row in (rows if isinstance(rows, list) else ()))
    return tuple(one for one in found if one is not None)


def next_reports(reports: Iterable[tuple[str, dt.date]], day: dt.date) -> dict[str, dt.date]:
    """The first report of each symbol on this day or later."""
    found: dict[str, dt.date] = {}
    for symbol, date in reports:
        if date >= day:
            found[symbol] = min(date, found.get(symbol, date))
    return found


def day_number(date: dt.date) -> float:
    """The days from 1970-01-01 to this date."""
    return float(date.toordinal() - _EPOCH)


def _report(row: object) -> tuple[str, dt.date] | None:
    if not isinstance(row, dict):
        return None
    symbol, date = row.get("symbol"), row.get("date")
    if isinstance(symbol, str) and isinstance(date, str):
        with suppress(ValueError):
            return symbol, dt.date.fromisoformat(date)
    return None


def _first(metric: Mapping[str, Any], keys: Iterable[str]) -> float | None:
    return next((found for key in keys if (found := _number(metric.get(key))) is not None), None)


def _number(value: object) -> float | None:
    # A finite number; Finnhub writes null, or nothing, for what it does not have.
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
