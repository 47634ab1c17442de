"""Figures as people read them: money to the cent, prices, quantities, shares of a whole."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MINUS: Final = "\N{MINUS SIGN}"
_CENT: Final = Decimal("0.01")
_SHARE: Final = Decimal("0.001")


def format_money(amount: Decimal, *, signed: bool = False) -> str:
    """Dollars to the cent, thousands separated, as in `99,978.75`; `signed` writes a plus, and zero without sign."""
    cents = amount.quantize(_CENT, ROUND_HALF_EVEN)
    sign = MINUS if cents < 0 else "+" if signed and cents > 0 else ""
    return f"{sign}{abs(cents):,}"


def format_price(amount: Decimal) -> str:
    """A price with two decimals, or four where it has them."""
    return f"{amount:,.{price_decimals([amount])}f}"


def format_prices(amounts: Sequence[Decimal]) -> list[str]:
    """The prices of one column, all with as many decimals as the finest of them."""
    digits = price_decimals(amounts)
    return [f"{amount:,.{digits}f}" for amount in amounts]


def price_decimals(amounts: Iterable[Decimal]) -> int:
    """How many decimals tell prices: two, or four where one of them has more."""
    return 2 if all(amount == amount.quantize(_CENT) for amount in amounts) else 4


def format_quantity(shares: Decimal) -> str:
    """Shares, to a thousandth."""
    return f"{shares.quantize(_SHARE, ROUND_HALF_EVEN).normalize():,f}"


def format_percent(share: Decimal | float, digits: int = 2) -> str:
    """A ratio (0.0153) as a percentage (`1.53 %`)."""
    return f"{float(share):z.{digits}%}".replace("%", "\N{NO-BREAK SPACE}%").replace("-", MINUS)


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun: `1 session`, `3 sessions`."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def printable_name(name: str) -> str:
    """A name that somebody else chose, escaped where it would move the terminal's cursor or colour it."""
    return name if name.isprintable() else ascii(name)[1:-1]


def labelled_line(label: str, text: str) -> str:
    """A labelled line of a status text; without a label it continues the line before."""
    return f"{label:10} {text}"
