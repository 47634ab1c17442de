"""Formats figures for people: money to the cent, prices, quantities, percentages."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

MINUS: Final = "\N{MINUS SIGN}"
DENIALS_COUNT: Final = "symbols x strategies"
"""What a count of denials counts: a symbol that two strategies deny counts twice."""

_CENT: Final = Decimal("0.01")
_TICK: Final = 4
_SHARE: Final = Decimal("0.001")
_FEW: Final = 8


def round_to_cents(amount: Decimal) -> Decimal:
    """Dollars to the cent, as they are shown."""
    return amount.quantize(_CENT, ROUND_HALF_EVEN)


def format_money(amount: Decimal, *, signed: bool = False) -> str:
    """Dollars to the cent with thousands separators, such as `99,978.75`; `signed` adds a plus, zero has no sign."""
    cents = round_to_cents(amount)
    sign = MINUS if cents < 0 else "+" if signed and cents > 0 else ""
    return f"{sign}{abs(cents):,}"


def figure_text(figure: object) -> str:
    """A figure of the journal as it is, with the minus of screens and alerts."""
    return str(figure).replace("-", MINUS)


def money_text(amount: Decimal) -> str:
    """Dollars to the cent for a JSON document, such as `99978.75`; zero has no sign."""
    cents = round_to_cents(amount)
    return str(cents or abs(cents))


def format_price(amount: Decimal) -> str:
    """A price with two decimals, or four if needed."""
    return f"{amount:,.{min(_price_decimals([amount]), _TICK)}f}"


def format_prices(amounts: Sequence[Decimal]) -> list[str]:
    """The prices of one column, all with the decimals that the finest needs."""
    digits = _price_decimals(amounts)
    return [f"{amount:,.{digits}f}" for amount in amounts]


def _price_decimals(amounts: Iterable[Decimal]) -> int:
    # The decimals that the prices need: two, four, or eight for averages between two ticks.
    found = tuple(amounts)
    needed = (digits for digits in (2, _TICK) if all(amount == round(amount, digits) for amount in found))
    return next(needed, 8)


def format_quantity(shares: Decimal) -> str:
    """Shares, to a thousandth."""
    return f"{shares.quantize(_SHARE, ROUND_HALF_EVEN).normalize():,f}"


def format_percent(share: Decimal | float, digits: int = 2, *, signed: bool = False) -> str:
    """A ratio (0.0153) as a percentage (`1.53 %`); `signed` adds a plus."""
    return f"{float(share):{'+' if signed else ''}z.{digits}%}".replace("%", "\N{NO-BREAK SPACE}%").replace("-", MINUS)


def request_words(per_minute: int, left: int | None) -> str:
    """A vendor's limit of requests, and how many of them are left if it says so."""
    limit = f"{plural(per_minute, 'request')} a minute allowed"
    return limit if left is None else f"{limit}, {left:,} left"


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 session`, `3 sessions`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def trades_text(closed: int, held: int) -> str:
    """The trades of a session: `3 trades`, or `0 trades closed, 1 open` while positions are held."""
    return plural(closed, "trade") + (f" closed, {held:,} open" if held else "")


def first_names(names: Collection[str]) -> str:
    """The first names, and the number of the others."""
    shown = sorted(names)[:_FEW]
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(shown) + more


def printable_name(name: str) -> str:
    """A foreign name, escaped if it contains terminal control characters."""
    return name if name.isprintable() else ascii(name)[1:-1]


def one_line(text: str) -> str:
    """A foreign text in one line, each run of blanks, line breaks and control characters as one blank.

    A line break in a title would begin another mail header, and an escape sequence would write over a terminal.
    """
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def labelled_line(label: str, text: str) -> str:
    """A labelled line of a status text; without a label it continues the previous line."""
    return f"{label:11} {text}"
