"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tbot_core.model.formatting import (
    figure_text,
    format_money,
    format_percent,
    format_price,
    format_prices,
    format_quantity,
    labelled_line,
    money_text,
    plural,
    printable_name,
)


@pytest.mark.parametrize(
    ("amount", "plain", "signed"),
    [
        ("99978.745", "99,978.74", "+99,978.74"),
        ("-0.5", "\N{MINUS SIGN}0.50", "\N{MINUS SIGN}0.50"),
        ("0", "0.00", "0.00"),
        ("-0.004", "0.00", "0.00"),
    ],
)
def test_money_is_written_to_the_cent(amount: str, plain: str, signed: str) -> None:
    """With thousands separated; what rounds to nothing has no sign."""
    assert format_money(Decimal(amount)) == plain
    assert format_money(Decimal(amount), signed=True) == signed


@pytest.mark.parametrize(
    ("amount", "text"),
    [("100021.3912345678", "100021.39"), ("-0.5", "-0.50"), ("0", "0.00"), ("-0.004", "0.00"), ("1E+3", "1000.00")],
)
def test_money_in_a_document_has_two_decimals(amount: str, text: str) -> None:
    """A program reads cents without separators; what rounds to nothing has no sign."""
    assert money_text(Decimal(amount)) == text


def test_prices_have_two_four_or_eight_decimals() -> None:
    """A column has as many as the finest of its prices needs."""
    assert format_price(Decimal("1234.5")) == "1,234.50"
    assert format_price(Decimal("0.1234")) == "0.1234"
    assert format_prices([Decimal(1), Decimal("1.005")]) == ["1.0000", "1.0050"]
    assert format_prices([Decimal(1), Decimal("1.00015")]) == ["1.00000000", "1.00015000"]
    assert format_price(Decimal("1.00017")) == "1.0002"


@pytest.mark.parametrize(("shares", "text"), [("1000", "1,000"), ("0.500000", "0.5"), ("1.23456", "1.235")])
def test_quantities_are_written_to_a_thousandth(shares: str, text: str) -> None:
    """Without zeros behind the last figure, and never as a power of ten."""
    assert format_quantity(Decimal(shares)) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0153, "1.53"), (Decimal("-0.5"), "\N{MINUS SIGN}50.00"), (-0.000001, "0.00")]
)
def test_a_share_is_written_as_a_percentage(share: float | Decimal, text: str) -> None:
    """The sign does not break from its figure, and nothing is not negative."""
    assert format_percent(share) == f"{text}\N{NO-BREAK SPACE}%"
    assert format_percent(share, signed=True).lstrip("+") == f"{text}\N{NO-BREAK SPACE}%"


def test_a_count_has_its_noun() -> None:
    """In the plural but for one; a noun may have a plural of its own."""
    assert [plural(1, "session"), plural(3000, "session"), plural(2, "entry", "entries")] == [
        "1 session",
        "3,000 sessions",
        "2 entries",
    ]


def test_a_name_of_somebody_else_does_not_move_the_cursor() -> None:
    """What cannot be printed is escaped; any other name stays as it is."""
    assert printable_name("a\x1b[2J") == "a\\x1b[2J"
    assert printable_name("prêt") == "prêt"


def test_lines_of_a_status_stand_below_each_other() -> None:
    """A line without a label continues the one before."""
    assert [labelled_line("feed", "up"), labelled_line("", "late")] == ["feed        up", "            late"]


@pytest.mark.parametrize(("figure", "text"), [("-12.5", "\N{MINUS SIGN}12.5"), (4, "4"), (None, "None")])
def test_a_figure_has_the_minus_of_screens(figure: object, text: str) -> None:
    """Otherwise it is as the journal has it."""
    assert figure_text(figure) == text
