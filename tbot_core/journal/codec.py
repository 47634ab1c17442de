"""Writes the facts of events as payloads, and reads them back.

What a class needs is made of its annotations at its first use, from a few closures: a command that reads a journal is
short, and would spend a fifth of its time on a library that compiles code for each class.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

import attrs

from tbot_core.errors import JournalError
from tbot_core.journal.events.base import REQUIRED, EventFacts, Fact, Facts, Unread, fields_of, per_class, types_of
from tbot_core.trading.risk.states import StateCause

Payload = dict[str, Any]
F = TypeVar("F", bound=EventFacts)
Convert = Callable[[Any], Any]
"""Turns the value of a field into that of a payload, or back."""


def write(facts: EventFacts) -> Payload:
    """The payload of an event."""
    return _write(facts)


def read(of: type[F], payload: Mapping[str, Any]) -> F:
    """The facts of an event, all of them; raises JournalError for a payload that lacks some."""
    facts = view(of, payload)
    write(facts)  # uses all of them
    return facts


def view(of: type[F], payload: Mapping[str, Any]) -> F:
    """The facts of an event, each read at its first use; that raises JournalError where it cannot be read."""
    return of.unread(Unread(payload, _field_reader(of)))


@per_class
def _field_reader(of: type) -> Callable[[str, Mapping[str, Any]], Any]:
    # Reads a field of a payload by its name.
    fields = {field.name: (field.key, field.default, field.read) for field in _fields(of)}

    def read_field(name: str, payload: Mapping[str, Any]) -> Any:
        key, default, convert = fields[name]
        value = payload.get(key, REQUIRED)
        if value is REQUIRED:
            if default is REQUIRED:
                raise _unreadable(of, f"{key} is missing")
            return default
        try:
            return convert(value)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
            raise _unreadable(of, f"{key}: {fault}") from fault

    return read_field


def _unreadable(of: type, why: str) -> JournalError:
    kind = getattr(of, "kind", "")
    event = f"An event of kind {kind}" if kind else "An event of a broker"
    return JournalError(
        f"{event} cannot be read: {why}.",
        "Read it with the version that wrote it, or restore a backup from before it.",
    )


@attrs.frozen
class _Field:
    # A field: its names, its default, and how it is read and written; None: as it is.
    name: str
    key: str
    default: Any
    left_out: Any
    written_if: Callable[[Any], bool] | None
    read: Convert
    write: Convert | None


def _write(facts: Facts) -> Payload:
    payload: Payload = {}
    for field in _fields(type(facts)):
        value = getattr(facts, field.name)
        if field.written_if is None:
            if field.left_out is not REQUIRED and value == field.left_out:
                continue
        elif not field.written_if(facts):
            continue
        payload[field.key] = value if field.write is None or value is None else field.write(value)
    return payload


@per_class
def _fields(of: type) -> tuple[_Field, ...]:
    types_ = types_of(of)
    return tuple(_field(name, fact, types_[name]) for name, fact in fields_of(of).items())


def _field(name: str, fact: Fact, of: Any) -> _Field:
    return _Field(
        name=name,
        key=fact.key or name,
        default=fact.default,
        left_out=REQUIRED if fact.always else fact.default,
        written_if=fact.written_if,
        read=_reader(of),
        write=_writer(of),
    )


@functools.cache
def _reader(of: Any) -> Convert:
    # How a value of this type is read.
    if get_origin(of) is not None:
        return _generic_reader(of)
    if of in _READERS:
        return _READERS[of]
    if issubclass(of, Facts):
        return _part_reader(of)
    if attrs.has(of):
        return _attrs_reader(of)
    return of if issubclass(of, Enum) else functools.partial(_as_is, of)


def _part_reader(of: type[Facts]) -> Convert:
    # Its fields are read as they are used, as those of the event are.
    return lambda payload: of.unread(Unread(payload, _field_reader(of)))


def _generic_reader(of: Any) -> Convert:
    origin, arguments = get_origin(of), get_args(of)
    if origin is Literal:
        return functools.partial(_one_of, arguments)
    if origin is tuple:
        return _sequence_reader(arguments)
    if origin is Mapping:
        return functools.partial(_mapping, _reader(arguments[1]))
    return _optional(_reader(_without_none(arguments)))


@functools.cache
def _writer(of: Any) -> Convert | None:
    # How a value of this type is written, other than None; None: as it is.
    if get_origin(of) is not None:
        return _generic_writer(of)
    if of in _WRITERS:
        return _WRITERS[of]
    if issubclass(of, Facts):
        return _write
    if attrs.has(of):
        return _attrs_writer(of)
    return _enum_value if issubclass(of, Enum) else None


def _generic_writer(of: Any) -> Convert | None:
    origin, arguments = get_origin(of), get_args(of)
    if origin is Literal:
        return None
    if origin is tuple:
        return _sequence_writer(arguments)
    if origin is Mapping:
        write_value = _writer(arguments[1])
        return dict if write_value is None else functools.partial(_mapping, _optional(write_value))
    return _writer(_without_none(arguments))


def _without_none(arguments: tuple[Any, ...]) -> Any:
    (of,) = (argument for argument in arguments if argument is not type(None))
    return of


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _as_is(of: type, value: Any) -> Any:
    # A text, a whole number or a truth value: nothing is made of another one. An event that is not stored yet may have
    # an enumeration of texts.
    if type(value) is of:
        return value
    if of is str and isinstance(value, str):
        return str(value)
    raise TypeError(f"{value!r} is not {of.__name__}")


def _one_of(values: tuple[Any, ...], value: Any) -> Any:
    if value not in values:
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, values))}")
    return value


def _number(value: Any) -> float:
    return value if isinstance(value, float) else float(_as_is(int, value))


def _mapping(convert: Convert, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: convert(value) for key, value in values.items()}


def _sequence_reader(arguments: tuple[Any, ...]) -> Convert:
    if arguments[1:] == (...,):
        read_value = _reader(arguments[0])
        return lambda values: tuple([read_value(value) for value in _as_is(list, values)])
    readers = [_reader(of) for of in arguments]
    return lambda values: tuple([convert(value) for convert, value in zip(readers, values, strict=True)])


def _sequence_writer(arguments: tuple[Any, ...]) -> Convert:
    write_value = _writer(arguments[0])
    return list if write_value is None else lambda values: [write_value(value) for value in values]


def _attrs_reader(of: type[attrs.AttrsInstance]) -> Convert:
    hints, names = get_type_hints(of), [field.name for field in attrs.fields(of)]
    readers = {name: _reader(hints[name]) for name in names}
    return lambda values: of(**{name: convert(values[name]) for name, convert in readers.items() if name in values})


def _attrs_writer(of: type[attrs.AttrsInstance]) -> Convert:
    hints, names = get_type_hints(of), [field.name for field in attrs.fields(of)]
    writers = [(name, _optional(_writer(hints[name]) or _unchanged)) for name in names]
    return lambda value: {name: convert(getattr(value, name)) for name, convert in writers}


def _enum_value(member: Enum) -> Any:
    return member.value


def _unchanged(value: Any) -> Any:
    return value


def _plain(value: Any) -> Any:
    # A value of a type that its field does not name.
    match value:
        case Enum():
            return value.value
        case Mapping():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    write_value = _WRITERS.get(type(value))
    return value if write_value is None else write_value(value)


_READERS: Final[Mapping[Any, Convert]] = {
    Any: _unchanged,
    float: _number,
    Decimal: Decimal,
    dt.date: dt.date.fromisoformat,
    dt.datetime: dt.datetime.fromisoformat,
    StateCause: lambda name: StateCause[name],
}
_WRITERS: Final[Mapping[Any, Convert]] = {
    Any: _plain,
    Decimal: str,
    dt.date: dt.date.isoformat,
    dt.datetime: dt.datetime.isoformat,
    StateCause: lambda cause: cause.name,
}
