"""What a call of a plugin may return: its type, and the bounds of its numbers, by what each number is."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from numbers import Integral, Real
from operator import attrgetter
from typing import Any, Final, TypeAlias, Union, get_args, get_origin, get_type_hints

import attrs

from tbot_core.model.types import MOST_DAILY_BARS, MOST_SPLIT_SHARES

_LEAST_EXPONENT: Final = -64
"""The smallest exponent of a Decimal; a quotient of 28 digits has a larger one."""

_LONGEST: Final = 40

_LONGEST_BITS: Final = 128

_OWN: Final = ("tbot_core.contracts.", "tbot_core.model.")

_Check: TypeAlias = Callable[[str, Any], None]

_CHECKERS: Final[dict[type[Any], Callable[[Any], None]]] = {}


class FigureOutOfBounds(ValueError):
    """A number of a plugin that is not finite, or that no such number can be."""


@attrs.frozen
class Bound:
    """What a number is, and its bounds: `least` <= number < `most`."""

    what: str
    least: int | Decimal
    most: int

    @property
    def words(self) -> str:
        """The bounds as text."""
        return f"{self.what} is at least {_short(self.least)} and below {_short(self.most)}"


@attrs.frozen
class AnswerType:
    """What a call must return: `fits` tests it, `expected` names it; `bound` is that of numbers without a class."""

    fits: Callable[[object], bool]
    expected: str
    bound: Bound | None = None

    def checked(self, name: str, answer: Any) -> Any:
        """The answer of the call of this name.

        Raises TypeError for another type than the contract's, and FigureOutOfBounds for a number that none can be.
        """
        if not self.fits(answer):
            raise TypeError(f"it returned an object of type {type(answer).__name__} instead of {self.expected}")
        if self.bound is None:
            assert_figures(answer)
        else:
            _assert_numbers(name, answer, self.bound)
        return answer


QUANTITY: Final = Bound("a quantity", 0, 10**12)

SIGNED_QUANTITY: Final = Bound("a signed quantity", -(10**12), 10**12)

_STEP: Final = Bound("a step", Decimal("1E-12"), 10**12)

PRICE: Final = Bound("a price", 0, 10**12)

SIGNED_PRICE: Final = Bound("a price of a holding", -(10**12), 10**12)

MONEY: Final = Bound("an amount of money", -(10**15), 10**15)

RATIO: Final = Bound("a ratio", -(10**12), 10**12)

COUNT: Final = Bound("a count", 0, 2**63)

_SECONDS: Final = Bound("a number of seconds", 0, 10**9)

OFFSET: Final = Bound("a time offset in seconds", -(10**10), 10**10)

MINUTES: Final = Bound("a number of minutes", -(10**6), 10**6)

DAILY_BARS: Final = Bound("a number of daily bars", 0, MOST_DAILY_BARS + 1)

_SHARES_OF_ONE: Final = Bound("a multiplier", 1, 10**6)

_SPLIT_SHARES: Final = Bound("a number of shares in a split", 1, MOST_SPLIT_SHARES + 1)

FIGURE: Final = Bound("a figure", -(10**15), 10**15)

_BY_NAME: Final[Mapping[str, Bound]] = (
    dict.fromkeys(("quantity", "filled", "volume", "minimum_quantity"), QUANTITY)
    | dict.fromkeys(("price", "average_price", "open", "high", "low", "close", "vwap", "bid", "ask"), PRICE)
    | dict.fromkeys(("strike", "model", "market"), PRICE)
    | dict.fromkeys(("tick", "quantity_step"), _STEP)
    | dict.fromkeys(("equity", "cash", "buying_power", "settled_cash", "fees"), MONEY)
    | dict.fromkeys(("equity_below", "minimum_notional"), MONEY)
    | dict.fromkeys(("buy_stop_collar", "limit", "deviation", "implied_volatility"), RATIO)
    | dict.fromkeys(("day_trades", "max_day_trades", "level", "options_level", "subscriptions"), COUNT)
    | dict.fromkeys(("requests_per_minute", "cid_length", "open_interest", "bid_size", "ask_size"), COUNT)
    | dict.fromkeys(("multiplier",), _SHARES_OF_ONE)
    | dict.fromkeys(("before", "after"), _SPLIT_SHARES)
    | dict.fromkeys(("history_delay_s", "lookup_window_s", "list_lag_s"), _SECONDS)
    | dict.fromkeys(("start", "analysis", "breakout", "monitoring", "leave", "hold", "minutes"), MINUTES)
)

_BY_FIELD: Final[Mapping[tuple[str, str], Bound]] = {
    ("PositionReport", "quantity"): SIGNED_QUANTITY,
    ("PositionReport", "average_price"): SIGNED_PRICE,
    ("PositionReport", "price"): SIGNED_PRICE,  # one that is not positive counts as no price
    ("AccountActivity", "quantity"): SIGNED_QUANTITY,
    ("IndexQuote", "value"): PRICE,
    ("ModelInput", "value"): FIGURE,
    ("DailyValue", "value"): FIGURE,
}
"""Where the field's name alone does not tell what the number is."""


def assert_figures(answer: Any) -> None:
    """Check every number and time in an object of a contract's class, or in each object of a list or tuple.

    Raises FigureOutOfBounds for a number out of bounds, and TypeError for a value of another type than its field's.
    """
    if isinstance(answer, list | tuple):
        for one in answer:
            _checker(type(one))(one)
    else:
        _checker(type(answer))(answer)


def assert_figure(name: str, value: object, bound: Bound) -> None:
    """Check a number that is no Decimal; raises as `assert_figures` does."""
    _real(bound, Real)(name, value)


def is_within(value: Decimal, bound: Bound) -> bool:
    """Whether a Decimal is finite and within the bound, with at most 64 decimals."""
    # A zero may have any exponent, and a small number any number of digits: arithmetic would expand them.
    exponent = value.as_tuple().exponent if value.is_finite() and value.adjusted() < -_LEAST_EXPONENT else None
    return isinstance(exponent, int) and exponent >= _LEAST_EXPONENT and bound.least <= value < bound.most


def numeric_fields(kind: type[Any]) -> Mapping[str, Bound]:
    """The numeric fields of a contract's class, with their bounds."""
    hints = get_type_hints(kind)
    numeric = (field.name for field in attrs.fields(kind) if {Decimal, float, int} & set(_parts(hints[field.name])))
    return {name: _bound(kind, name) for name in numeric}


def one(*kinds: type | None, expected: str = "", bound: Bound | None = None) -> AnswerType:
    """An object of one of these types, or None."""
    known = tuple(type(None) if kind is None else kind for kind in kinds)
    named = " or ".join("None" if kind is None else kind.__name__ for kind in kinds)
    return AnswerType(lambda answer: isinstance(answer, known), expected or named, bound)


def many(kind: type, expected: str = "") -> AnswerType:
    """A list or tuple of objects of this type."""

    def fits(answer: object) -> bool:
        return isinstance(answer, list | tuple) and all(isinstance(part, kind) for part in answer)

    return AnswerType(fits, expected or f"a list of {kind.__name__}")


def mapping(bound: Bound) -> AnswerType:
    """Numbers by symbol or reason."""
    return one(Mapping, expected="a mapping of numbers", bound=bound)


def numbers(bound: Bound) -> AnswerType:
    """A list of numbers."""
    return AnswerType(
        lambda answer: isinstance(answer, Sequence) and not isinstance(answer, str), "a list of numbers", bound
    )


def _checker(kind: type[Any]) -> Callable[[Any], None]:
    # Checks an object of this class.
    found = _CHECKERS.get(kind)
    if found is None:
        found = _CHECKERS[kind] = _compiled(kind)
    return found


def _compiled(kind: type[Any]) -> Callable[[Any], None]:
    # A plugin's subclass of a contract's class is checked as that class.
    known = next((one for one in kind.__mro__ if attrs.has(one) and one.__module__.startswith(_OWN)), None)
    if known is None:
        return _pass
    hints = get_type_hints(known)
    found = {field.name: _check_of(known, field.name, hints[field.name]) for field in attrs.fields(known)}
    checks = [(f"{known.__name__}.{name}", check) for name, check in found.items() if check is not None]
    names = [name for name, check in found.items() if check is not None]
    if not names:
        return _pass
    read = attrgetter(*names)
    if len(names) == 1:
        ((only, alone),) = checks
        return lambda subject: alone(only, read(subject))

    def check_all(subject: Any) -> None:
        for value, (name, check) in zip(read(subject), checks, strict=True):
            check(name, value)

    return check_all


def _check_of(kind: type[Any], name: str, hint: Any) -> _Check | None:
    # The check of a field; None for a field that holds neither a number nor a time.
    parts = _parts(hint)
    check = _check_of_value(kind, name, parts)
    passing = tuple(one for one in (types.NoneType, str) if one in parts)
    if check is None or not passing:
        return check
    return lambda words, value: None if isinstance(value, passing) else check(words, value)


def _check_of_value(kind: type[Any], name: str, parts: tuple[Any, ...]) -> _Check | None:
    if Decimal in parts:
        return _exact(_bound(kind, name))
    if float in parts or int in parts:
        return _real(_bound(kind, name), Real if float in parts else Integral)
    found = [_check_of_part(part) for part in parts]
    return next((one for one in found if one is not None), None)


def _check_of_part(part: Any) -> _Check | None:
    if part in (datetime, date):
        return _check_moment if part is datetime else _check_day
    if isinstance(part, type) and attrs.has(part):
        return functools.partial(_check_object, part)
    if get_origin(part) is tuple and attrs.has(get_args(part)[0]):
        return functools.partial(_check_objects, get_args(part)[0])
    return None


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else (hint,)


def _bound(kind: type[Any], name: str) -> Bound:
    found = _BY_FIELD.get((kind.__name__, name)) or _BY_NAME.get(name)
    if found is None:
        message = f"the number {name} of {kind.__name__} has no bound"
        raise LookupError(message)
    return found


def _exact(bound: Bound) -> _Check:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, Decimal):
            raise _wrong_type(name, value, "a Decimal")
        if not is_within(value, bound):
            raise FigureOutOfBounds(f"{_out_of_bounds(name, value, bound)}, with at most {-_LEAST_EXPONENT} decimals")

    return check


def _real(bound: Bound, kind: type[Any]) -> _Check:
    least, most = bound.least, bound.most

    def check(name: str, value: Any) -> None:
        if type(value) is float and kind is Real:
            if least <= value < most:
                return
        elif isinstance(value, bool) or not isinstance(value, kind):
            raise _wrong_type(name, value, "a number" if kind is Real else "a whole number")
        if not least <= value < most:
            raise FigureOutOfBounds(_out_of_bounds(name, value, bound))

    return check


def _check_moment(name: str, value: object) -> None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _wrong_type(name, value, "a time with its zone")


def _check_day(name: str, value: object) -> None:
    if type(value) is not date:
        raise _wrong_type(name, value, "a date")


def _check_object(kind: type[Any], name: str, value: object) -> None:
    if not isinstance(value, kind):
        raise _wrong_type(name, value, f"of type {kind.__name__}")
    _checker(type(value))(value)


def _check_objects(kind: type[Any], name: str, values: object) -> None:
    if not isinstance(values, tuple):
        raise _wrong_type(name, values, "a tuple")
    for value in values:
        _check_object(kind, name, value)


def _pass(_subject: object) -> None:
    pass


def _wrong_type(name: str, value: object, wanted: str) -> TypeError:
    hint = "; market data are floats: float()" if isinstance(value, Decimal) else ""
    return TypeError(f"it returned an object of type {type(value).__name__} as {name}, not {wanted}{hint}")


def _out_of_bounds(name: str, value: Any, bound: Bound) -> str:
    return f"{name} is {_short(value)}; {bound.words}"


def _short(value: Any) -> str:
    # The number as text, without the digits of a long one.
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, int) and value % 10**9 == 0 and value:
        return f"{Decimal(value).normalize()}"
    words = str(value)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _assert_numbers(name: str, answer: Any, bound: Bound) -> None:
    # One number or None, a list of numbers, or numbers by symbol or reason.
    match answer:
        case None:
            return
        case Mapping():
            for key, value in answer.items():
                assert_figure(f"{name} of {key!r:.40}", value, bound)
        case list() | tuple():
            for value in answer:
                assert_figure(name, value, bound)
        case _:
            assert_figure(name, answer, bound)
