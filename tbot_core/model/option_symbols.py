"""The symbols of listed options, as the Options Clearing Corporation (OCC) writes them, and their price steps."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Final

import attrs

_ROOT: Final = re.compile(r"(?=[0-9]*[A-Z])[A-Z0-9]{1,6}")
_SYMBOL: Final = re.compile(
    r"(?P<root>[A-Z0-9]{1,6})(?P<padding> *)(?P<day>[0-9]{6})(?P<right>[CP])(?P<strike>[0-9]{8})"
)
_ROOT_LENGTH: Final = 6
_CENTURY: Final = 2000
_LAST_YEAR: Final = 2099
_LEAST_ABSURD: Final = 100_000
_THOUSANDTH: Final = Decimal("0.001")


class OptionRight(StrEnum):
    """What the holder of an option may do: buy the underlying at the strike, or sell it."""

    CALL = "call"
    PUT = "put"


_LETTERS: Final = {"C": OptionRight.CALL, "P": OptionRight.PUT}


@attrs.frozen(kw_only=True)
class OccSymbol:
    """The parts of the OCC symbol of an option.

    `root`: that of the class, 1 to 6 capitals and digits. It is the ticker of the underlying without dots, as BRKB, for
    standard contracts; an adjusted or mini class has a digit, as AAPL1 or AAPL7, and one of an index its own root, as
    SPXW. `strike`: dollars above 0 and below 100,000, to three decimals. `expiry`: from 2000 to 2099.

    Raises ValueError for a part that no OCC symbol has.
    """

    root: str
    expiry: date
    right: OptionRight = attrs.field(converter=OptionRight)
    strike: Decimal

    def __attrs_post_init__(self) -> None:
        if _ROOT.fullmatch(self.root) is None:
            raise ValueError(f"the root {self.root[:20]!r} is not of 1 to 6 capitals and digits")
        if not _CENTURY <= self.expiry.year <= _LAST_YEAR:
            raise ValueError(f"the expiry {self.expiry} is not from {_CENTURY} to {_LAST_YEAR}")
        if not self.strike.is_finite() or not 0 < self.strike < _LEAST_ABSURD or self.strike % _THOUSANDTH:
            raise ValueError(f"the strike {self.strike} is not above 0 and below {_LEAST_ABSURD}, to three decimals")

    @property
    def text(self) -> str:
        """The symbol without padding, 16 to 21 characters, as AAPL240119P00150000."""
        letter = self.right.value[0].upper()
        return f"{self.root}{self.expiry:%y%m%d}{letter}{int(self.strike * 1000):08d}"

    @property
    def has_own_class(self) -> bool:
        """Whether a digit of the root says that the class is not the standard one: adjusted, mini or flexible."""
        return not self.root.isalpha()


def parse_occ_symbol(text: str) -> OccSymbol:
    """The parts of an OCC symbol, whose root may be padded with blanks to six characters.

    Raises ValueError for any other text.
    """
    found = _SYMBOL.fullmatch(text)
    if found is None or (found["padding"] and found.end("padding") != _ROOT_LENGTH):
        raise ValueError(f"{text[:40]!r} is no OCC symbol, such as AAPL240119P00150000")
    day = found["day"]
    try:
        expiry = date(_CENTURY + int(day[:2]), int(day[2:4]), int(day[4:]))
    except ValueError:
        raise ValueError(f"{text!r} is no OCC symbol: {day} is not a date") from None
    strike = Decimal(found["strike"]).scaleb(-3)
    return OccSymbol(root=found["root"], expiry=expiry, right=_LETTERS[found["right"]], strike=strike)


def occ_symbol(root: str, expiry: date, right: OptionRight, strike: float | Decimal) -> str:
    """The OCC symbol without padding of an option of this class; raises ValueError as `OccSymbol` does."""
    return OccSymbol(root=root, expiry=expiry, right=right, strike=Decimal(str(strike))).text


def is_occ_symbol(text: str) -> bool:
    """Whether the text is an OCC symbol without padding."""
    try:
        return parse_occ_symbol(text).text == text
    except ValueError:
        return False


class OptionPriceSteps(StrEnum):
    """The steps of the prices of a class of options.

    `STANDARD`: 0.05 below 3.00 and 0.10 from there on. `PENNY`, the Penny Interval Program: 0.01 below 3.00 and 0.05
    from there on. `PENNY_ALWAYS`, its classes SPY, QQQ and IWM: 0.01. A price on the steps of one is on those of the
    next.
    """

    STANDARD = "standard"
    PENNY = "penny"
    PENNY_ALWAYS = "penny_always"


_BORDER: Final = Decimal(3)
_STEPS: Final = {
    OptionPriceSteps.STANDARD: (Decimal("0.05"), Decimal("0.10")),
    OptionPriceSteps.PENNY: (Decimal("0.01"), Decimal("0.05")),
    OptionPriceSteps.PENNY_ALWAYS: (Decimal("0.01"), Decimal("0.01")),
}


def option_tick(price: Decimal, steps: OptionPriceSteps = OptionPriceSteps.STANDARD) -> Decimal:
    """The step of prices at `price` in dollars per share; without the class's own rule the widest."""
    below, above = _STEPS[steps]
    return below if price < _BORDER else above
