"""The types that the calls of broker and feed plugins must return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    DailyValue,
    Gap,
    Instrument,
    MaintenanceWindow,
    OrderStatusReport,
)
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account
from tbot_core.plugins.guarded_feed import FEED_ANSWERS
from tbot_core.plugins.number_bounds import COUNT, MONEY, OFFSET, PRICE, Bound, assert_figure, assert_figures

if TYPE_CHECKING:
    from collections.abc import Callable


def _one(*kinds: type | None) -> Callable[[object], bool]:
    known = tuple(type(None) if kind is None else kind for kind in kinds)
    return lambda answer: isinstance(answer, known)


def _many(kind: Any) -> Callable[[object], bool]:
    return lambda answer: isinstance(answer, list | tuple) and all(isinstance(part, kind) for part in answer)


def _is_mapping(answer: object) -> bool:
    return isinstance(answer, Mapping)


def _is_list(answer: object) -> bool:
    return isinstance(answer, Sequence) and not isinstance(answer, str)


_ANSWERS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "capabilities": (_one(BrokerCapabilities), "BrokerCapabilities"),
    "connect": (_one(Account), "Account"),
    "account": (_one(Account), "Account"),
    "poll": (_many(BrokerEvent), "a list of BrokerEvent"),
    "events": (_one(BrokerEvent, Gap), "BrokerEvent or Gap"),
    "snapshot": (_one(AccountSnapshot), "AccountSnapshot"),
    "find": (_one(OrderStatusReport, None), "OrderStatusReport or None"),
    "open_orders": (_many(OrderStatusReport), "a list of OrderStatusReport"),
    "instruments": (_many(Instrument), "a list of Instrument"),
    "maintenance": (_many(MaintenanceWindow), "a list of MaintenanceWindow"),
    "hours": (_one(Session, None), "Session or None"),
    "clock_ahead_s": (_is_list, "a list of numbers"),
    "prices": (_is_mapping, "a mapping of numbers"),
    "daily_series": (_many(DailyValue), "a list of DailyValue"),
    **FEED_ANSWERS,
}
"""The checks of what each call or property returns, and the expected type as text; other answers are ignored."""


_NUMBERS: Final[Mapping[str, Bound]] = {
    "clock_ahead_s": OFFSET,
    "prices": PRICE,
    "vix_close": PRICE,
    "left_out": COUNT,
    "market_caps": MONEY,
}
"""What the numbers are that a call returns without a class."""


def checked_answer(name: str, answer: Any) -> Any:
    """The answer of a call.

    Raises TypeError for another type than the contract's, and FigureOutOfBounds for a number that none can be.
    """
    if name not in _ANSWERS:
        return answer
    fits, expected = _ANSWERS[name]
    if not fits(answer):
        raise TypeError(f"it returned an object of type {type(answer).__name__} instead of {expected}")
    if name in _NUMBERS:
        _assert_numbers(name, answer, _NUMBERS[name])
    else:
        assert_figures(answer)
    return answer


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
