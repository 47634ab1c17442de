"""The protocol between a run and a plugin's worker process: a JSON text and plain arrays, never a pickle.

Only the classes of the contract are known, each by its name; anything else is a PluginError on either side.
"""

from __future__ import annotations

import json
import struct
from datetime import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.contracts import Check
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError
from tbot_core.model import json_document
from tbot_core.model.bars import Quotes
from tbot_core.model.daily_bars import DailyBars
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.reasons import REASON_BY_CODE, Reason
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger
from tbot_core.model.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HEAD_BYTES: Final = 4 * 2**20
BODY_BYTES: Final = 2**30
_SIZES: Final = struct.Struct("<IQ")
_CLASSES: Final[Mapping[str, type[Any]]] = {
    one.__name__: one
    for one in (Check, Condition, DailyBars, DayFacts, ExitRules, StrategySettings, Quotes, Signals, Trigger, Window)
}
_KINDS: Final = "fiubM"
_REMEDY: Final = "Plugins that need more than the contract's values cannot run in a process of their own."


def send_message(write: Callable[[bytes], None], message: Any) -> None:
    """Send a message; raises PluginError for unsupported content, and for a message that is too large."""
    arrays: list[bytes] = []
    try:
        head = json.dumps(_plain(message, arrays)).encode()
    except RecursionError as fault:
        raise PluginError("A message to or from a worker is nested too deeply.", _REMEDY) from fault
    size = sum(map(len, arrays))
    _bounded(len(head), size)
    write(b"".join((_SIZES.pack(len(head), size), head, *arrays)))


def receive_message(read: Callable[[int], bytes]) -> Any:
    """The next message; None after the other side has closed. Raises PluginError for an invalid one."""
    sizes = read(_SIZES.size)
    if len(sizes) < _SIZES.size:
        return None
    length, size = _SIZES.unpack(sizes)
    _bounded(length, size)
    head, body = read(length), read(size)
    try:
        return _value(json_document.parse_json(head), _Body(body))
    except (KeyError, TypeError, ValueError) as fault:
        raise PluginError(f"A worker's message cannot be read: {type(fault).__name__}: {fault}", _REMEDY) from fault


class _Body:
    # The arrays of a message, one after the other: none twice, so that together they need no more than was sent.
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._taken = 0

    def take(self, kind: np.dtype[Any], count: int, start: int) -> Any:
        if start != self._taken:
            raise ValueError(f"an array at byte {start} instead of {self._taken}")
        array = np.frombuffer(self._data, kind, count, start)
        self._taken += array.nbytes
        return array.copy()


def _bounded(head: int, body: int) -> None:
    if head > HEAD_BYTES or body > BODY_BYTES:
        raise PluginError(f"A worker's message of {head + body} bytes is too large.", _REMEDY)


def _plain(value: Any, arrays: list[bytes]) -> Any:  # noqa: PLR0911  one for each kind of value
    # The value for JSON; types that JSON lacks become an object with one key that names the type.
    match value:
        case Reason():
            return {"reason": int(value)}
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return {"decimal": str(value)}
        case time():
            return {"time": value.isoformat()}
        case np.ndarray() if value.dtype.kind in _KINDS:
            start = sum(map(len, arrays))
            arrays.append(np.ascontiguousarray(value).tobytes())
            return {"array": [value.dtype.str, list(value.shape), start]}
        case np.number() | np.bool_():
            return value.item()
        case tuple() | list():
            return {type(value).__name__: [_plain(one, arrays) for one in value]}
        case dict():
            return {"dict": {str(name): _plain(one, arrays) for name, one in value.items()}}
        case _ if _CLASSES.get(type(value).__name__) is type(value):
            fields = {one.name: _plain(getattr(value, one.name), arrays) for one in attrs.fields(type(value))}
            return {"of": [type(value).__name__, fields]}
        case _:
            raise PluginError(f"An object of type {type(value).__name__} cannot be sent to a worker.", _REMEDY)


def _value(plain: Any, body: _Body) -> Any:  # noqa: PLR0911  one for each kind of value
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    match kind:
        case "reason":
            return REASON_BY_CODE[inner]
        case "decimal":
            return Decimal(inner)
        case "time":
            return time.fromisoformat(inner)
        case "array":
            return _array(inner, body)
        case "tuple":
            return tuple(_value(one, body) for one in inner)
        case "list":
            return [_value(one, body) for one in inner]
        case "dict":
            return {name: _value(one, body) for name, one in inner.items()}
        case _:
            name, fields = inner
            return _CLASSES[name](**{field: _value(one, body) for field, one in fields.items()})


def _array(inner: Any, body: _Body) -> Any:
    name, shape, start = inner
    kind = np.dtype(name)
    if kind.kind not in _KINDS or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"an array of {name} and shape {shape}")
    count = int(np.prod(shape, dtype=object)) if shape else 1
    return body.take(kind, count, start).reshape(shape)
