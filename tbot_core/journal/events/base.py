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
from typing import Any, ClassVar, Final, TypeVar, dataclass_transform

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


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False, field_specifiers=(fact,))
class Facts:
    """The facts of an event, or a part of them: a frozen class whose annotations are its fields.

    Nothing is generated: a command that reads the journal pays for some sixty of these classes when it starts.
    """

    def __init__(self, **facts: Any) -> None:
        fields = self.__dict__
        fields.update(defaults_of(type(self)))
        expected = len(fields)
        fields.update(facts)
        if len(fields) != expected or REQUIRED in fields.values():
            raise TypeError(_misfit(type(self), facts))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: facts do not change."""
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same class, with the same facts."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """The hash of its text."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """The class with its facts."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def per_class(function: Callable[[type], T]) -> Callable[[type], T]:
    """Compute the function once for each class; mypy takes the hash of instances for that of their class."""
    return functools.cache(function)


@per_class
def fields_of(of: type) -> dict[str, Fact]:
    """The fields of a class by name, those of its bases first."""
    fields: dict[str, Fact] = {}
    for owner in reversed(of.__mro__):
        for name, annotation in vars(owner).get("__annotations__", {}).items():
            if not annotation.startswith("ClassVar"):
                default = vars(owner).get(name, REQUIRED)
                fields[name] = default if isinstance(default, Fact) else Fact(default=default)
    return fields


@per_class
def types_of(of: type) -> dict[str, Any]:
    """The types of all fields by name."""
    return {
        name: _evaluated(annotation, owner.__module__)
        for owner in of.__mro__
        for name, annotation in vars(owner).get("__annotations__", {}).items()
    }


@functools.cache
def _evaluated(annotation: str, module: str) -> Any:
    # Much faster than typing.get_type_hints, as most annotations are the same few.
    return eval(annotation, vars(sys.modules[module]))  # noqa: S307  # an annotation of ours


@per_class
def defaults_of(of: type) -> dict[str, Any]:
    """The defaults of all fields by name; `REQUIRED` where there is none."""
    return {name: field.default for name, field in fields_of(of).items()}


def _misfit(of: type[Facts], given: dict[str, Any]) -> str:
    defaults = defaults_of(of)
    missing = [name for name, default in defaults.items() if default is REQUIRED and name not in given]
    unknown = [name for name in given if name not in defaults]
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
