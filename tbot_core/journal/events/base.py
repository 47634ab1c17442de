"""The base of the journal's events, and how their fields are written.

The payload of an event has its fields by name: amounts as text, dates and times in ISO 8601, enumerations by value. A
field with a default is left out where it has that value, unless it is marked here. Fields that came later, which old
journals lack, have defaults. `tbot_core.journal.codec` writes and reads payloads.
"""

from __future__ import annotations

import datetime as dt
import functools
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar, dataclass_transform

from tbot_core.model.types import Fill

T = TypeVar("T")

REQUIRED: Final = object()
"""The default of a field without one."""

EMPTY: Final[Mapping[str, Any]] = {}
"""The default of a field that is empty in most events."""


class Fact:
    """A field of an event's class, and how it is written; use `fact`.

    `always`: also with its default. `written_if`: where this condition on the event holds, and else not at all. `key`:
    its name in the payload, where a class cannot use it.
    """

    __slots__ = ("always", "default", "key", "written_if")

    def __init__(
        self,
        *,
        default: object = REQUIRED,
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
    default: Any = REQUIRED,
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
                default = vars(cls).get(name, REQUIRED)
                fields[name] = default if isinstance(default, Fact) else Fact(default=default)
                if default is not REQUIRED:
                    delattr(cls, name)
        cls._fields = fields

    def __init__(self, **facts: Any) -> None:
        values = self.__dict__
        values.update({name: field.default for name, field in self._fields.items()})
        values.update(facts)
        if len(values) != len(self._fields) or REQUIRED in values.values():
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


_UNREAD: Final = "_unread"


def fields_of(of: type[Facts]) -> Mapping[str, Fact]:
    """The fields of a class by name, those of its bases first."""
    return of._fields


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Compute the function once for each class; mypy takes the hash of instances for that of their class."""
    return functools.cache(function)


@per_class
def types_of(of: type) -> dict[str, Any]:
    """The types of all fields by name."""
    return {
        name: _evaluated(annotation, owner.__module__)
        for owner in of.__mro__
        if owner is not Facts
        for name, annotation in vars(owner).get("__annotations__", {}).items()
    }


@functools.cache
def _evaluated(annotation: str, module: str) -> Any:
    # Much faster than typing.get_type_hints, as most annotations are the same few.
    return eval(annotation, vars(sys.modules[module]))  # noqa: S307  # an annotation of ours


def _misfit(of: type[Facts], given: Mapping[str, Any]) -> str:
    fields = fields_of(of)
    missing = [name for name, field in fields.items() if field.default is REQUIRED and name not in given]
    unknown = [name for name in given if name not in fields]
    parts = [f"{what} {', '.join(names)}" for what, names in (("lacks", missing), ("has no", unknown)) if names]
    return f"{of.__name__} {' and '.join(parts)}"


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


FILL_FIELDS: Final = ("execution_id", "symbol", "buy", "quantity", "price", "fees", "time")


def fill_from(facts: Any, client_order_id: str) -> Fill:
    """The fill that an event reports of an order."""
    return Fill(client_order_id=client_order_id, **{name: getattr(facts, name) for name in FILL_FIELDS})


def fill_facts(fill: Fill) -> dict[str, Any]:
    """The fields of an event that a fill gives."""
    return {name: getattr(fill, name) for name in FILL_FIELDS}
