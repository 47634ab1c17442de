"""Days, ranges and lists of symbols as people type them."""

from __future__ import annotations

from datetime import date

from tbot_core.errors import DataError, UsageError
from tbot_core.model.calendar import require_covered_day
from tbot_core.model.types import is_symbol


def parse_day(text: str) -> date:
    """The day of YYYY-MM-DD; raises UsageError for anything else, and for a day that the calendar does not cover."""
    if not text.strip():
        raise UsageError("A day is missing.", "Write it as YYYY-MM-DD, for example 2018-02-16.")
    try:
        return require_covered(date.fromisoformat(text.strip()))
    except ValueError:
        raise UsageError(f"{text!r} is no day.", "Write it as YYYY-MM-DD, for example 2018-02-16.") from None


def require_covered(found: date) -> date:
    """The day itself; raises UsageError where the exchange calendar does not reach."""
    try:
        require_covered_day(found)
    except DataError as fault:
        raise UsageError(fault.message, fault.remedy) from None
    return found


def day_range(first: str, last: str) -> tuple[date, date]:
    """Two days in order, both included; raises UsageError when they are reversed."""
    begin, end = parse_day(first), parse_day(last)
    if begin > end:
        raise UsageError(f"The range {begin}..{end} is reversed.", f"Write {end}..{begin}.")
    return begin, end


def parse_symbols(text: str | None) -> tuple[str, ...]:
    """The symbols of a list separated by commas, in capitals, each once; none where no list is given.

    Raises UsageError for what is no symbol, and for a list that names none: it must not mean all of them.
    """
    found = tuple(dict.fromkeys(parse_symbol(part) for part in (text or "").split(",") if part.strip()))
    if text is not None and not found:
        raise UsageError(f"--symbols {text!r} names no symbol.", "Name some, as in A,B, or leave the option out.")
    return found


def parse_symbol(text: str) -> str:
    """The symbol in capitals; raises UsageError for what is none."""
    found = text.strip().upper()
    if not is_symbol(found):
        raise UsageError(f"{text.strip()!r} is no symbol.", "Write it as its exchange does, as in AAPL or BRK.B.")
    return found
