"""Writes the facts of events as payloads, and reads them back: the base of the journal's events, and their fields.

The payload of an event has its fields by name: amounts as text, dates and times in ISO 8601, enumerations by value. A
field with a default is left out where it has that value, unless it is marked here. Fields that came later, which old
journals lack, have defaults.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import attrs

from tbot_core.errors import JournalError
from tbot_core.model.types import Fill
from tbot_core.trading.risk.states import StateCause

Payload = dict[str, Any]

_Convert = Callable[[Any], Any]
"""Turns the value of a field into that of a payload, or back."""

T = TypeVar("T")

_REQUIRED: Final = object()
"""The default of a field without one."""

EMPTY: Final[Mapping[str, Any]] = {}
"""The default of a field that is empty in most events."""

_UNREAD: Final = "_unread"

_FILL_FIELDS: Final = ("execution_id", "symbol", "buy", "quantity", "price", "fees", "time")


@attrs.frozen
class _Field:
    # A field: its names, its default, and how it is read and written; None: as it is.
    name: str
    key: str
    default: Any
    left_out: Any
    written_if: Callable[[Any], bool] | None
    read: _Convert
    write: _Convert | None


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


class Fact:
    """A field of an event's class, and how it is written; use `fact`.

    `always`: also with its default. `written_if`: where this condition on the event holds, and else not at all. `key`:
    its name in the payload, where a class cannot use it.
    """

    __slots__ = ("always", "default", "key", "written_if")

    def __init__(
        self,
        *,
        default: object = _REQUIRED,
        always: bool = False,
        written_if: Callable[[Any], bool] | None = None,
        key: str = "",
    ) -> None:
        self.default = default
        self.always = always
        self.written_if = written_if
        self.key = key


def fact(
    *,
    default: Any = _REQUIRED,
    always: bool = False,
    written_if: Callable[[Any], bool] | None = None,
    key: str = "",
) -> Any:
    """A field that is written in another way than by its type alone, see `Fact`."""
    return Fact(default=default, always=always, written_if=written_if, key=key)


class Unread:
    """A payload, and how each field is read of it: `read` gives the value of a field by its name."""

    __slots__ = ("payload", "read")

    def __init__(self, payload: Mapping[str, Any], read: Callable[[str, Mapping[str, Any]], Any]) -> None:
        self.payload = payload
        self.read = read


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(fact,))
class Facts:
    """The facts of an event, or a part of them: a frozen class whose annotations are its fields.

    Those of a payload are read as they are used: a reader of decisions needs two of their sixty values, and an old
    journal may lack others. No code is generated: a command that reads the journal pays for some sixty classes when it
    starts.
    """

    _fields: ClassVar[Mapping[str, Fact]] = {}

    def __init_subclass__(cls) -> None:
        """Collect the fields, those of the bases first."""
        fields = dict(cls._fields)
        for name, annotation in vars(cls).get("__annotations__", {}).items():
            if not annotation.startswith("ClassVar"):
                default = vars(cls).get(name, _REQUIRED)
                fields[name] = default if isinstance(default, Fact) else Fact(default=default)
                if default is not _REQUIRED:
                    delattr(cls, name)
        cls._fields = fields

    def __init__(self, **facts: Any) -> None:
        values = self.__dict__
        values.update({name: field.default for name, field in self._fields.items()})
        values.update(facts)
        if len(values) != len(self._fields) or _REQUIRED in values.values():
            raise TypeError(_misfit(type(self), facts))

    @classmethod
    def unread(cls, unread: Unread) -> Self:
        """The facts of a payload, which are read as they are used."""
        facts = object.__new__(cls)
        facts.__dict__[_UNREAD] = unread
        return facts

    @property
    def values(self) -> Mapping[str, Any]:
        """All facts by name."""
        return {name: getattr(self, name) for name in self._fields}

    def states(self, name: str) -> bool:
        """Whether the payload has this fact; that of an older version may lack it."""
        unread = self.__dict__.get(_UNREAD)
        return unread is None or (self._fields[name].key or name) in unread.payload

    if TYPE_CHECKING:
        pass  # a type checker knows the fields alone
    else:

        def __getattr__(self, name: str) -> object:
            """Read a field at its first use."""
            unread = self.__dict__.get(_UNREAD)
            if unread is None or name not in self._fields:
                raise AttributeError(f"{type(self).__name__} has no {name}")
            value = self.__dict__[name] = unread.read(name, unread.payload)
            return value

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: facts do not change."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same class, with the same facts."""
        return isinstance(other, Facts) and type(other) is type(self) and other.values == self.values

    def __hash__(self) -> int:
        """The hash of its text."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """The class with its facts."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.values.items())})"


def _fields_of(of: type[Facts]) -> Mapping[str, Fact]:
    # The fields of a class by name, those of its bases first.
    return of._fields


def _per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    # Compute the function once for each class; mypy takes the hash of instances for that of their class.
    return functools.cache(function)


@_per_class
def _types_of(of: type) -> dict[str, Any]:
    # The types of all fields by name.
    return {
        name: _evaluated(annotation, owner.__module__)
        for owner in of.__mro__
        if owner is not Facts
        for name, annotation in vars(owner).get("__annotations__", {}).items()
    }


class EventFacts(Facts):
    """The facts of an event of `kind`; `broker`: the one it belongs to, empty for the primary."""

    kind: ClassVar[str] = ""

    broker: str = ""


class FillFacts(EventFacts):
    """An event with a fill."""

    execution_id: str
    symbol: str
    buy: bool
    quantity: Decimal
    price: Decimal
    fees: Decimal
    time: dt.datetime

    @property
    def fill(self) -> Fill:
        """The fill; it belongs to no order."""
        return fill_from(self, "")


def fill_from(facts: Any, client_order_id: str) -> Fill:
    """The fill that an event reports of an order."""
    return Fill(client_order_id=client_order_id, **{name: getattr(facts, name) for name in _FILL_FIELDS})


def fill_facts(fill: Fill) -> dict[str, Any]:
    """The fields of an event that a fill gives."""
    return {name: getattr(fill, name) for name in _FILL_FIELDS}


F = TypeVar("F", bound=EventFacts)


@_per_class
def _field_reader(of: type) -> Callable[[str, Mapping[str, Any]], Any]:
    # Reads a field of a payload by its name.
    fields = {field.name: (field.key, field.default, field.read) for field in _fields(of)}

    def read_field(name: str, payload: Mapping[str, Any]) -> Any:
        key, default, convert = fields[name]
        value = payload.get(key, _REQUIRED)
        if value is _REQUIRED:
            if default is _REQUIRED:
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


def _write(facts: Facts) -> Payload:
    payload: Payload = {}
    for field in _fields(type(facts)):
        value = getattr(facts, field.name)
        if field.written_if is None:
            if field.left_out is not _REQUIRED and value == field.left_out:
                continue
        elif not field.written_if(facts):
            continue
        payload[field.key] = value if field.write is None or value is None else field.write(value)
    return payload


@_per_class
def _fields(of: type) -> tuple[_Field, ...]:
    types_ = _types_of(of)
    return tuple(_field(name, fact, types_[name]) for name, fact in _fields_of(of).items())


def _field(name: str, fact: Fact, of: Any) -> _Field:
    return _Field(
        name=name,
        key=fact.key or name,
        default=fact.default,
        left_out=_REQUIRED if fact.always else fact.default,
        written_if=fact.written_if,
        read=_reader(of),
        write=_writer(of),
    )


@functools.cache
def _reader(of: Any) -> _Convert:
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


def _part_reader(of: type[Facts]) -> _Convert:
    # Its fields are read as they are used, as those of the event are.
    return lambda payload: of.unread(Unread(payload, _field_reader(of)))


def _generic_reader(of: Any) -> _Convert:
    origin, arguments = get_origin(of), get_args(of)
    if origin is Literal:
        return functools.partial(_one_of, arguments)
    if origin is tuple:
        return _sequence_reader(arguments)
    if origin is Mapping:
        return functools.partial(_mapping, _reader(arguments[1]))
    return _optional(_reader(_without_none(arguments)))


@functools.cache
def _writer(of: Any) -> _Convert | None:
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


def _generic_writer(of: Any) -> _Convert | None:
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


def _optional(convert: _Convert) -> _Convert:
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


def _mapping(convert: _Convert, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: convert(value) for key, value in values.items()}


def _sequence_reader(arguments: tuple[Any, ...]) -> _Convert:
    if arguments[1:] == (...,):
        read_value = _reader(arguments[0])
        return lambda values: tuple([read_value(value) for value in _as_is(list, values)])
    readers = [_reader(of) for of in arguments]
    return lambda values: tuple([convert(value) for convert, value in zip(readers, values, strict=True)])


def _sequence_writer(arguments: tuple[Any, ...]) -> _Convert:
    write_value = _writer(arguments[0])
    return list if write_value is None else lambda values: [write_value(value) for value in values]


def _attrs_reader(of: type[attrs.AttrsInstance]) -> _Convert:
    hints, names = get_type_hints(of), [field.name for field in attrs.fields(of)]
    readers = {name: _reader(hints[name]) for name in names}
    return lambda values: of(**{name: convert(values[name]) for name, convert in readers.items() if name in values})


def _attrs_writer(of: type[attrs.AttrsInstance]) -> _Convert:
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


@functools.cache
def _evaluated(annotation: str, module: str) -> Any:
    # Much faster than typing.get_type_hints, as most annotations are the same few.
    return eval(annotation, vars(sys.modules[module]))  # noqa: S307  # an annotation of ours


def _misfit(of: type[Facts], given: Mapping[str, Any]) -> str:
    fields = _fields_of(of)
    missing = [name for name, field in fields.items() if field.default is _REQUIRED and name not in given]
    unknown = [name for name in given if name not in fields]
    parts = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has no", unknown)) if names]
    return f"{of.__name__} {' and '.join(parts)}"


_READERS: Final[Mapping[Any, _Convert]] = {
    Any: _unchanged,
    float: _number,
    Decimal: Decimal,
    dt.date: dt.date.fromisoformat,
    dt.datetime: dt.datetime.fromisoformat,
    StateCause: lambda name: StateCause[name],
}

_WRITERS: Final[Mapping[Any, _Convert]] = {
    Any: _plain,
    Decimal: str,
    dt.date: dt.date.isoformat,
    dt.datetime: dt.datetime.isoformat,
    StateCause: lambda cause: cause.name,
}
