"""The table of rates: what was in force on a day, and each fault of a table by its line."""

from __future__ import annotations

from datetime import date
from importlib.resources import files
from itertools import pairwise

import pytest
from tbot_filter_black_scholes.rates import DatedRate, describe, parse

from tbot_core.errors import SettingsError

HEAD = "code,date,rate,source\n"
TABLE = HEAD + "US,2024-03-01,0.05,Federal Reserve\nUS,2024-01-01,0.04,Federal Reserve\n\nXX,2024-02-01,-0.01,XX bank\n"


@pytest.mark.parametrize(
    ("code", "day", "rate"),
    [
        ("US", date(2023, 12, 31), None),
        ("US", date(2024, 1, 1), 0.04),
        ("US", date(2024, 2, 29), 0.04),
        ("US", date(2024, 3, 1), 0.05),
        ("US", date(2030, 1, 1), 0.05),
        ("XX", date(2024, 2, 1), -0.01),
        ("YY", date(2024, 2, 1), None),
    ],
)
def test_the_rate_is_that_in_force_on_the_day(code: str, day: date, rate: float | None) -> None:
    """Rows count from their date on, whatever their order; before the first one, and of another code, there is none."""
    found = parse(TABLE, "rates.csv").at(code, day)
    assert (None if found is None else found.rate) == rate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "rates.csv:1: the header is not 'code,date,rate,source'."),
        ("code,rate\nUS,0.04\n", "rates.csv:1: the header is not"),
        (HEAD, "rates.csv: the table has no rate."),
        (HEAD + "US,2024-01-01,0.04\n", "rates.csv:2: 'US,2024-01-01,0.04': a row has a code, a date, a rate"),
        (HEAD + 'US,2024-01-01,0.04,"Fed\n', "a row has a code"),
        (HEAD + "us,2024-01-01,0.04,Fed\n", "the code 'us' is not 2 to 4 capital letters"),
        (HEAD + "US,01/02/2024,0.04,Fed\n", "'01/02/2024' is not a date YYYY-MM-DD"),
        (HEAD + "US,2024-02-30,0.04,Fed\n", "'2024-02-30' is not a date YYYY-MM-DD"),
        (HEAD + "US,2024-01-01,4.5,Fed\n", "the rate '4.5' is not a fraction from -0.1 to 1"),
        (HEAD + "US,2024-01-01,nan,Fed\n", "the rate 'nan' is not a fraction"),
        (HEAD + "US,2024-01-01,1e-2,Fed\n", "the rate '1e-2' is not a fraction"),
        (HEAD + "US,2024-01-01,0.04, \n", "the rate has no source"),
        (HEAD + "US,2024-01-01,0.04,Fed\nUS,2024-01-01,0.05,Fed\n", "rates.csv:3: 'US,2024-01-01,0.05,Fed': the table"),
    ],
)
def test_a_faulty_table_is_refused(text: str, words: str) -> None:
    """The line, its text and what is wrong are named."""
    with pytest.raises(SettingsError) as caught:
        parse(text, "rates.csv")
    assert words in str(caught.value)


def test_every_fault_is_reported_at_once() -> None:
    """Two faulty rows are two lines of the error."""
    with pytest.raises(SettingsError) as caught:
        parse(f"{HEAD}us,2024-01-01,0.04,Fed\nUS,2024-01-01,4,Fed\n", "rates.csv")
    assert len(caught.value.message.splitlines()) == 2


def test_a_table_is_described_by_its_codes_and_newest_date() -> None:
    """With what it lacks for the jurisdiction; the first date that is not in force yet refuses it."""
    table = parse(TABLE, "rates.csv")
    found = "It has 3 rates of 2 codes (US, XX), the newest of 2024-03-01"
    assert describe(table, "rates.csv", date(2024, 3, 1), "US") == f"{found}."
    assert describe(table, "rates.csv", date(2024, 3, 1), "") == f"{found}."
    lacks = f"{found}; no rate of DE, the jurisdiction of this instance."
    assert describe(table, "rates.csv", date(2024, 3, 1), "DE") == lacks
    with pytest.raises(SettingsError) as caught:
        describe(table, "rates.csv", date(2024, 2, 29), "US")
    assert "rates.csv: the rate of US of 2024-03-01 is in the future." in str(caught.value)


def test_the_shipped_table_is_sound() -> None:
    """It has the rates of the United States with their source; a rate changes from one row to the next."""
    table = parse((files("tbot_filter_black_scholes") / "rates.csv").read_text(), "rates.csv")
    source = "Federal Reserve: middle of the federal funds target range"
    assert table.at("US", date(2023, 8, 1)) == DatedRate(day=date(2023, 7, 27), rate=0.05375, source=source)
    for rows in table.rates.values():
        assert all(before.rate != after.rate for before, after in pairwise(rows))
