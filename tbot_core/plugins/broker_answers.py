"""The types that the calls of broker and feed plugins must return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    Gap,
    Instrument,
    MaintenanceWindow,
    OrderStatusReport,
)
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account, Fill
from tbot_core.plugins.answer_checks import decimal_words
from tbot_core.plugins.guarded_feed import FEED_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER: Final = int | float


def _one(*kinds: type | None) -> Callable[[object], bool]:
    known = tuple(type(None) if kind is None else kind for kind in kinds)
    return lambda answer: isinstance(answer, known)


def _many(kind: Any) -> Callable[[object], bool]:
    return lambda answer: isinstance(answer, list | tuple) and all(isinstance(part, kind) for part in answer)


def _is_snapshot(answer: object) -> bool:
    if not (isinstance(answer, AccountSnapshot) and isinstance(answer.account, Account)):
        return False
    parts: tuple[object, ...] = (answer.holdings, answer.orders, answer.activities, answer.fills)
    return all(isinstance(part, tuple) and all(map(attrs.has, map(type, part))) for part in parts)


def _is_event(answer: object) -> bool:
    return isinstance(answer, BrokerEvent) and isinstance(answer.fill, Fill | None)


def _is_events(answer: object) -> bool:
    return isinstance(answer, list | tuple) and all(map(_is_event, answer))


def _is_prices(answer: object) -> bool:
    return isinstance(answer, Mapping) and all(isinstance(price, _NUMBER) for price in answer.values())


def _is_skews(answer: object) -> bool:
    return isinstance(answer, Sequence) and all(isinstance(skew, _NUMBER) for skew in answer)


_ANSWERS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "capabilities": (_one(BrokerCapabilities), "BrokerCapabilities"),
    "connect": (_one(Account), "Account"),
    "account": (_one(Account), "Account"),
    "poll": (_is_events, "a list of BrokerEvent"),
    "events": (lambda answer: isinstance(answer, Gap) or _is_event(answer), "BrokerEvent or Gap"),
    "snapshot": (_is_snapshot, "AccountSnapshot"),
    "find": (_one(OrderStatusReport, None), "OrderStatusReport or None"),
    "open_orders": (_many(OrderStatusReport), "a list of OrderStatusReport"),
    "instruments": (_many(Instrument), "a list of Instrument"),
    "maintenance": (_many(MaintenanceWindow), "a list of MaintenanceWindow"),
    "hours": (_one(Session, None), "Session or None"),
    "clock_ahead_s": (_is_skews, "a list of numbers"),
    "prices": (_is_prices, "a mapping of numbers"),
    **FEED_ANSWERS,
}
"""The checks of what each call or property returns, and the expected type as text; other answers are ignored."""


def checked_answer(name: str, answer: Any) -> Any:
    """The answer of a call; raises TypeError for another type than the contract's."""
    if name in _ANSWERS:
        fits, expected = _ANSWERS[name]
        if not fits(answer):
            words = decimal_words(answer)
            raise TypeError(words or f"it returned an object of type {type(answer).__name__} instead of {expected}")
    return answer
