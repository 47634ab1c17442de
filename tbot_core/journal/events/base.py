"""The base of the journal's events, and how their fields are written.

The payload of an event has its fields by name: amounts as text, dates and times in ISO 8601, enumerations by value. A
field with a default is left out where it has that value, unless it is marked here. Fields that came later, which old
journals lack, have defaults. `tbot_core.journal.codec` writes and reads payloads.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any, ClassVar, Final

import attrs

from tbot_core.model.types import Fill

ALWAYS: Final = {"always": True}
"""Marks a field that is written with its default too."""

WRITTEN_IF: Final = "written_if"
"""Marks a field that is written, also as None, where this condition on the event holds, and else left out."""

KEY: Final = "key"
"""The name of a field in the payload, where a class cannot use it."""


@attrs.frozen(kw_only=True, slots=False, eq=False, repr=False)
class Facts:
    """The facts of an event, or a part of them.

    Equality and repr are written once, here: made for each class, they would triple the import's time.
    """

    def __eq__(self, other: object) -> bool:
        """Whether the other one is of the same class, with the same facts."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """The hash of its text."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """The class with its facts."""
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


@attrs.frozen(kw_only=True, slots=False, eq=False, repr=False)
class EventFacts(Facts):
    """The facts of an event of `kind`; `broker`: the one it belongs to, empty for the primary."""

    kind: ClassVar[str] = ""

    broker: str = ""


@attrs.frozen(kw_only=True, slots=False, eq=False, repr=False)
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
