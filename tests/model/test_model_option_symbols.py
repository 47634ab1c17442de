"""OCC symbols of options, and the steps of their prices."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.option_symbols import (
    OccSymbol,
    OptionPriceSteps,
    OptionRight,
    is_occ_symbol,
    occ_symbol,
    option_tick,
    parse_occ_symbol,
)
from tbot_core.model.types import is_symbol

CALL, PUT = OptionRight.CALL, OptionRight.PUT

PUBLISHED = [
    ("AAPL240119P00150000", "AAPL", date(2024, 1, 19), PUT, "150", False),
    ("AAPL250620C00100000", "AAPL", date(2025, 6, 20), CALL, "100", False),
    ("SPXW240327P04925000", "SPXW", date(2024, 3, 27), PUT, "4925", False),
    ("NIO240405P00004000", "NIO", date(2024, 4, 5), PUT, "4", False),
    ("AAPL240308C00172500", "AAPL", date(2024, 3, 8), CALL, "172.5", False),
    ("F240119P00012000", "F", date(2024, 1, 19), PUT, "12", False),
    ("BRKB240621C00400000", "BRKB", date(2024, 6, 21), CALL, "400", False),
    ("AAPL1240119P00150000", "AAPL1", date(2024, 1, 19), PUT, "150", True),
    ("AAPL7140118P00500000", "AAPL7", date(2014, 1, 18), PUT, "500", True),
    ("4SPX240621P05000000", "4SPX", date(2024, 6, 21), PUT, "5000", True),
    ("GOOGL1240119P00000125", "GOOGL1", date(2024, 1, 19), PUT, "0.125", True),
]


@pytest.mark.parametrize(("text", "root", "expiry", "right", "strike", "own"), PUBLISHED)
def test_a_published_symbol_has_these_parts(
    text: str, root: str, expiry: date, right: OptionRight, strike: str, *, own: bool
) -> None:
    """Root, day, right and strike of standard, adjusted, mini, flexible and index options; padding changes nothing."""
    found = parse_occ_symbol(text)
    assert found == OccSymbol(root=root, expiry=expiry, right=right, strike=Decimal(strike))
    assert (found.text, found.has_own_class) == (text, own)
    assert occ_symbol(root, expiry, right, float(strike)) == text
    assert parse_occ_symbol(f"{root:6}{text.removeprefix(root)}") == found
    assert is_occ_symbol(text)
    assert not is_symbol(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAPL",
        "AAPL240119P0015000",
        "AAPL240119P001500000",
        "AAPL240119X00150000",
        "aapl240119P00150000",
        "AAPL240230P00150000",
        "AAPL240119P00000000",
        "TOOLONG240119P00150000",
        "240119P00150000",
        "123240119P00150000",
        "BRK.B240119P00150000",
        "AAPL 240119P00150000",
        "AAPL   240119P00150000",
        "AAPL240119P00150000\n",
        "AAPL24011\u0669P00150000",
    ],
)
def test_another_text_is_none(text: str) -> None:
    """A part that is absent, too long, not a date, without a letter or half padded makes no OCC symbol."""
    with pytest.raises(ValueError, match=r"root|strike|is no OCC symbol"):
        parse_occ_symbol(text)
    assert not is_occ_symbol(text)


def test_a_padded_symbol_names_no_instrument() -> None:
    """It is read, and it is not the symbol under which tbot keeps a contract."""
    assert parse_occ_symbol("AAPL  240119P00150000").text == "AAPL240119P00150000"
    assert not is_occ_symbol("AAPL  240119P00150000")


@pytest.mark.parametrize(
    ("root", "day", "strike"),
    [
        ("", date(2026, 1, 16), "20"),
        ("BRK.B", date(2026, 1, 16), "20"),
        ("1234", date(2026, 1, 16), "20"),
        ("AAPL", date(1999, 1, 15), "20"),
        ("AAPL", date(2100, 1, 15), "20"),
        ("AAPL", date(2026, 1, 16), "0"),
        ("AAPL", date(2026, 1, 16), "-1"),
        ("AAPL", date(2026, 1, 16), "100000"),
        ("AAPL", date(2026, 1, 16), "20.0005"),
        ("AAPL", date(2026, 1, 16), "NaN"),
    ],
)
def test_what_no_symbol_can_say_is_refused(root: str, day: date, strike: str) -> None:
    """A root, a year or a strike that the form has no place for would name another contract."""
    with pytest.raises(ValueError, match=r"the root|the expiry|the strike"):
        occ_symbol(root, day, PUT, Decimal(strike))


@given(
    st.from_regex(r"[A-Z]{1,5}[A-Z0-9]?", fullmatch=True),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
    st.sampled_from(OptionRight),
    st.integers(1, 99_999_999),
)
def test_a_symbol_is_read_as_it_is_written(root: str, expiry: date, right: OptionRight, thousandths: int) -> None:
    """Writing and reading give the same parts, in 16 to 21 characters."""
    made = OccSymbol(root=root, expiry=expiry, right=right, strike=Decimal(thousandths).scaleb(-3))
    assert parse_occ_symbol(made.text) == made
    assert 16 <= len(made.text) <= 21


@pytest.mark.parametrize(
    ("steps", "price", "tick"),
    [
        ("standard", "0.05", "0.05"),
        ("standard", "2.99", "0.05"),
        ("standard", "3.00", "0.10"),
        ("penny", "2.99", "0.01"),
        ("penny", "3", "0.05"),
        ("penny_always", "2.99", "0.01"),
        ("penny_always", "150", "0.01"),
    ],
)
def test_a_price_has_the_step_of_its_class(steps: str, price: str, tick: str) -> None:
    """The step changes at 3.00, and not in the three classes that have pennies at every price."""
    assert option_tick(Decimal(price), OptionPriceSteps(steps)) == Decimal(tick)


@pytest.mark.parametrize("cents", range(5, 1000, 5))
def test_a_price_on_wide_steps_is_valid_in_each_class(cents: int) -> None:
    """So a class whose rule is not known is traded at the widest."""
    price = Decimal(cents) / 100
    if price % option_tick(price) == 0:
        assert not any(price % option_tick(price, steps) for steps in OptionPriceSteps)
