"""The types that the calls of broker, feed and data plugins must return, and the bounds of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from tbot_core.plugins.number_bounds import Bound, assert_figure, assert_figures


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
