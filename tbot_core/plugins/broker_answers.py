"""The types that the calls of broker and feed plugins must return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    Bar,
    BrokerCapabilities,
    BrokerEvent,
    Feed,
    FeedLabel,
    FeedMessage,
    FeedQuality,
    FeedSession,
    Gap,
    IndexQuote,
    Instrument,
    LiveSession,
    MaintenanceWindow,
    OrderStatusReport,
    Quote,
)
from tbot_core.model.bars import DayFacts
from tbot_core.model.calendar import Session
from tbot_core.model.types import Account, Fill

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


def _is_message(answer: object) -> bool:
    # Another type of a time or number would fail in the core, far from the plugin that sent it.
    match answer:
        case Bar(start=start, open=first, high=high, low=low, close=last, volume=volume):
            return _is_moment(start) and all(map(_is_number, (first, high, low, last, volume)))
        case Quote(bid=bid, ask=ask, time=moment):
            return _is_moment(moment) and _is_number(bid) and _is_number(ask)
        case _:
            return isinstance(answer, FeedMessage)


def _is_bars(answer: object) -> bool:
    return isinstance(answer, list | tuple) and all(isinstance(bar, Bar) and _is_message(bar) for bar in answer)


def _is_number(value: object) -> bool:
    return isinstance(value, Real)


def _is_moment(value: object) -> bool:
    return isinstance(value, datetime) and value.tzinfo is not None


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
    "instruments": (_many(Instrument), "a list of Instrument"),
    "maintenance": (_many(MaintenanceWindow), "a list of MaintenanceWindow"),
    "hours": (_one(Session, None), "Session or None"),
    "ahead_s": (_is_skews, "a list of numbers"),
    "prices": (_is_prices, "a mapping of numbers"),
    "vix_close": (_one(int, float, None), "a number or None"),
    "vix_now": (_one(IndexQuote, None), "IndexQuote or None"),
    "feed": (_one(Feed), "Feed"),
    "label": (_one(FeedLabel), "FeedLabel"),
    "sessions": (lambda answer: isinstance(answer, LiveSession | FeedSession), "LiveSession or FeedSession"),
    "session": (_one(Session), "Session"),
    "symbols": (_many(str), "a tuple of str"),
    "day": (_one(DayFacts), "DayFacts"),
    "quality": (_one(FeedQuality), "FeedQuality"),
    "messages": (_is_message, "a valid message of a feed"),
    "history": (_is_bars, "a list of valid Bar"),
}
"""The checks of what each call or property returns, and the expected type as text; other answers are ignored."""


def checked_answer(name: str, answer: Any) -> Any:
    """The answer of a call; raises TypeError for another type than the contract's."""
    if name in _ANSWERS:
        fits, expected = _ANSWERS[name]
        if not fits(answer):
            raise TypeError(f"it returned an object of type {type(answer).__name__} instead of {expected}")
    return answer
