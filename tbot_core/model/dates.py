"""Parsing of days, ranges and symbol lists from the command line."""

from __future__ import annotations

from datetime import date

from tbot_core.errors import DataError, UsageError
from tbot_core.model.calendar import require_covered_day
from tbot_core.model.types import is_symbol


def parse_day(text: str) -> date:
    """The day of YYYY-MM-DD; raises UsageError for an invalid date, and for a day outside of the calendar."""
    return require_covered(parse_date(text))


def parse_date(text: str) -> date:
    """The date of YYYY-MM-DD, inside or outside of the calendar; raises UsageError for an invalid one."""
    if not text.strip():
        raise UsageError("The date is missing.", "Write it as YYYY-MM-DD, for example 2018-02-16.")
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"Invalid date {text!r}.", "Write it as YYYY-MM-DD, for example 2018-02-16.") from None


def require_covered(found: date) -> date:
    """The same day; raises UsageError outside of the exchange calendar."""
    try:
        require_covered_day(found)
    except DataError as fault:
        raise UsageError(fault.message, fault.remedy) from None
    return found


def day_range(first: str, last: str) -> tuple[date, date]:
    """Two days in order, both inclusive; raises UsageError when they are reversed."""
    begin, end = parse_day(first), parse_day(last)
    if begin > end:
        raise UsageError(f"The range {begin}..{end} is reversed.", f"Give them as {end} and {begin}.")
    return begin, end


def parse_symbols(text: str | None) -> tuple[str, ...]:
    """The symbols of a comma-separated list, in capitals, without repeats; empty for no list.

    Raises UsageError for an invalid symbol, and for an empty list: it must not mean all symbols.
    """
    found = tuple(dict.fromkeys(parse_symbol(part) for part in (text or "").split(",") if part.strip()))
    if text is not None and not found:
        raise UsageError(
            f"--symbols {text!r} contains no symbol.", "Give at least one, as in A,B, or leave the option out."
        )
    return found


def parse_symbol(text: str) -> str:
    """The symbol in capitals; raises UsageError for an invalid one."""
    found = text.strip().upper()
    if len(found.split()) > 1:
        raise UsageError(f"{text.strip()!r} is no symbol.", "Separate symbols by commas, as in AAPL,MSFT.")
    if not is_symbol(found):
        raise UsageError(f"Invalid symbol {text.strip()!r}.", "Use the exchange's spelling, as in AAPL or BRK.B.")
    return found
