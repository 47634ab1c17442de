"""Days and lists of symbols as people type them."""

from __future__ import annotations

from datetime import date

from tbot_core.errors import UsageError


def day(text: str) -> date:
    """The day of YYYY-MM-DD; raises UsageError for anything else."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day.", "Write it as YYYY-MM-DD, for example 2018-02-16.") from None


def day_range(first: str, last: str) -> tuple[date, date]:
    """Two days in order, both included; raises UsageError when they are reversed."""
    begin, end = day(first), day(last)
    if begin > end:
        raise UsageError(f"The range {begin}..{end} is reversed.", f"Write {end}..{begin}.")
    return begin, end


def names(text: str) -> tuple[str, ...]:
    """The symbols of a list separated by commas, in capitals."""
    return tuple(name.strip().upper() for name in text.split(",") if name.strip())
