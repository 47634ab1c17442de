"""The strict reader of daily series in CSV: what is not the whole file is refused, with its own sentence."""

from __future__ import annotations

import datetime as dt

import pytest

from tbot_core.contracts.series import csv_day, csv_number, csv_rows
from tbot_core.errors import Unavailable

HEADER = ("DATE", "CLOSE")


def test_the_rows_of_a_whole_file_are_read() -> None:
    """Each as its fields, also with the line ends of another system."""
    assert csv_rows("DATE,CLOSE\n12/01/2026,16.2\n", HEADER) == [["12/01/2026", "16.2"]]
    assert csv_rows("DATE,CLOSE\r\n12/01/2026,16.2\r\n", HEADER) == [["12/01/2026", "16.2"]]
    assert csv_rows("DATE,CLOSE\n", HEADER) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "begins with nothing instead of 'DATE,CLOSE'"),
        ("\n", "begins with '' instead of 'DATE,CLOSE'"),
        ("<!DOCTYPE html><title>Sorry</title>", "is a page in HTML instead of a CSV file: '<!DOCTYPE html>"),
        ("observation_date,VXNCLS\n2026-12-01,16.2\n", "begins with 'observation_date,VXNCLS' instead of"),
        ("DATE,CLOSE\n12/01/2026,16.", "ends within a line, '12/01/2026,16.'"),
        ("DATE,CLOSE\n12/01/2026\n", "Line 2 of the CSV file, '12/01/2026', has 1 fields instead of 2"),
        ("DATE,CLOSE\n\n12/01/2026,16.2\n", "Line 2 of the CSV file, '', has 1 fields instead of 2"),
    ],
)
def test_anything_else_is_refused(text: str, words: str) -> None:
    """A page in HTML, another series, and a part of a file; the sentence quotes the begin."""
    with pytest.raises(Unavailable) as refused:
        csv_rows(text, HEADER)
    assert words in refused.value.message


def test_dates_have_one_form() -> None:
    """The month first, or the year first, as the source writes them."""
    assert csv_day("12/01/2026", "MM/DD/YYYY") == dt.date(2026, 12, 1)
    assert csv_day("2026-12-01", "YYYY-MM-DD") == dt.date(2026, 12, 1)


@pytest.mark.parametrize("text", ["31/12/2026", "2026-12-01", "12/1/2026", "02/30/2026", "12-01-2026", ""])
def test_a_date_in_another_order_is_refused(text: str) -> None:
    """The sentence names the form."""
    with pytest.raises(Unavailable, match="is not a date MM/DD/YYYY"):
        csv_day(text, "MM/DD/YYYY")


def test_numbers_are_plain_digits() -> None:
    """With or without a fraction, and a sign below zero."""
    assert [csv_number(text) for text in ("16.200000", "17", "-0.1")] == [16.2, 17.0, -0.1]


@pytest.mark.parametrize("text", ["", ".", "nan", "inf", "1e5", "16,2", "+16.2", " 16.2", "1" * 12])
def test_other_numbers_are_refused(text: str) -> None:
    """Also those that Python would read."""
    with pytest.raises(Unavailable, match="is not a number"):
        csv_number(text)
