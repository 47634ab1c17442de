"""Serializes values of the broker contract as one line of JSON, for a venue and a bot in two processes.

Only the types listed here are supported, in both directions.
"""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import (
    AccountActivity,
    AccountSnapshot,
    BrokerCapabilities,
    BrokerEvent,
    OrderStatusReport,
    PositionReport,
    ReplaceMode,
)
from tbot_core.errors import (
    BrokerError,
    LoginNeeded,
    OutcomeUnknown,
    Rejected,
    RejectionMeaning,
    Unavailable,
    Withdrawn,
)
from tbot_core.model import json_document
from tbot_core.model.types import (
    Account,
    AccountRestriction,
    ExitReason,
    Fill,
    Leg,
    Order,
    OrderState,
    OrderType,
    SignalId,
)
from tbot_core.rehearsal.venue_profiles import VenueProfile
from tbot_core.trading.orders import OrderRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VALUES: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    one.__name__: one
    for one in (
        *(Account, AccountActivity, BrokerEvent, VenueProfile, Fill, PositionReport),
        *(Order, OrderRecord, OrderStatusReport, SignalId, AccountSnapshot, BrokerCapabilities),
    )
}
_ERRORS: Final = {
    one.__name__: one for one in (BrokerError, LoginNeeded, OutcomeUnknown, Rejected, Unavailable, Withdrawn)
}
_TEXTS: Final[Mapping[str, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    "Decimal": (str, Decimal),
    "datetime": (dt.datetime.isoformat, dt.datetime.fromisoformat),
    "date": (dt.date.isoformat, dt.date.fromisoformat),
    **{
        one.__name__: (str, one)
        for one in (AccountRestriction, ExitReason, Leg, OrderState, OrderType, RejectionMeaning, ReplaceMode)
    },
}
_KIND: Final = "is"
_OF: Final = "of"


def dump_line(value: object) -> bytes:
    """Serialize a value as a line with its line feed; raises TypeError for an unsupported type."""
    return json.dumps(_plain(value), separators=(",", ":")).encode() + b"\n"


def load_line(line: bytes) -> Any:
    """Parse a line; lists become tuples. Raises KeyError or ValueError for an invalid line."""
    return _value(json_document.parse_json(line))


def _plain(value: object) -> object:
    # The value in JSON types, marked with its type.
    kind = type(value).__name__
    if kind in _TEXTS:
        return {_KIND: kind, _OF: _TEXTS[kind][0](value)}
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple() | list():
            return [_plain(one) for one in value]
        case BrokerError():
            meaning = value.meaning if type(value) is Rejected else None
            return {_KIND: kind, _OF: [value.message, value.remedy, value.retry_after_s, meaning]}
    return {_KIND: kind, _OF: _content(value)}


def _content(value: object) -> object:
    # The content of a set, a dict or a value of the contract.
    match value:
        case frozenset():
            return [_plain(one) for one in sorted(value)]
        case dict():
            return [[_plain(key), _plain(one)] for key, one in value.items()]
        case _ if type(value).__name__ in _VALUES:
            names = [field.name for field in attrs.fields(_VALUES[type(value).__name__])]
            return {name: _plain(getattr(value, name)) for name in names}
    raise TypeError(f"{type(value).__name__} cannot be serialized.")


def _value(plain: Any) -> Any:
    # The inverse of `_plain`.
    match plain:
        case list():
            return tuple(_value(one) for one in plain)
        case {"is": "frozenset", "of": of}:
            return frozenset(_value(one) for one in of)
        case {"is": "dict", "of": of}:
            return {_value(key): _value(one) for key, one in of}
        case {"is": kind, "of": of}:
            return _construct(kind, of)
    return plain


def _construct(kind: str, of: Any) -> Any:
    if kind in _TEXTS:
        return _TEXTS[kind][1](of)
    if kind in _ERRORS:
        message, remedy, retry_after_s, meaning = of
        made = _ERRORS[kind](message, remedy, retry_after_s=retry_after_s)
        if type(made) is Rejected:
            made.meaning = None if meaning is None else RejectionMeaning(meaning)
        return made
    return _VALUES[kind](**{name: _value(one) for name, one in of.items()})
