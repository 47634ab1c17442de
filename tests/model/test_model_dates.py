"""Days, ranges and symbols as they are typed on the command line."""

from __future__ import annotations

from datetime import date

import pytest

from tbot_core.errors import UsageError
from tbot_core.model.dates import day_range, parse_date, parse_day, parse_symbols


def test_a_day_is_read_as_it_is_written() -> None:
    """White space around it does not count."""
    assert parse_day(" 2018-02-16 ") == date(2018, 2, 16)


@pytest.mark.parametrize(
    ("text", "words"),
    [("  ", "The date is missing."), ("16.2.2018", "Invalid date '16.2.2018'."), ("1492-10-12", "1492-10-12")],
)
def test_what_is_no_day_of_the_calendar_is_refused(text: str, words: str) -> None:
    """The message names what was typed, and the remedy what to type instead."""
    with pytest.raises(UsageError) as refused:
        parse_day(text)
    assert words in refused.value.message
    assert refused.value.remedy


def test_a_date_may_lie_outside_of_the_calendar() -> None:
    """Fundamentals may be older than the calendar; the remedy for another spelling is the same as for a day."""
    assert parse_date("1492-10-12") == date(1492, 10, 12)
    with pytest.raises(UsageError) as refused:
        parse_date("16.2.2018")
    assert refused.value.remedy.startswith("Write it as YYYY-MM-DD")


def test_a_range_holds_both_of_its_days() -> None:
    """One day is a range as well; two in the wrong order are refused with the right one."""
    assert day_range("2018-02-16", "2018-02-20") == (date(2018, 2, 16), date(2018, 2, 20))
    assert day_range("2018-02-16", "2018-02-16") == (date(2018, 2, 16), date(2018, 2, 16))
    with pytest.raises(UsageError) as refused:
        day_range("2018-02-20", "2018-02-16")
    assert refused.value.remedy == "Give them as 2018-02-16 and 2018-02-20."


def test_symbols_are_listed_once_and_in_capitals() -> None:
    """In the order in which they were typed; no list at all names none."""
    assert parse_symbols("msft, brk.b,,MSFT") == ("MSFT", "BRK.B")
    assert parse_symbols(None) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" , ", "--symbols ' , ' contains no symbol."),
        ("A,b?", "Invalid symbol 'b?'."),
        ("A b", "'A b' is no symbol."),
    ],
)
def test_a_list_of_symbols_names_symbols_alone(text: str, words: str) -> None:
    """An empty list is refused, since it must not mean all symbols."""
    with pytest.raises(UsageError) as refused:
        parse_symbols(text)
    assert refused.value.message == words
