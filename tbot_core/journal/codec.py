"""Writes the facts of events as payloads, and reads them back.

cattrs makes the hooks of a class at its first use: a command that reads no journal does not import it.
"""

from __future__ import annotations

import datetime as dt
import functools
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from tbot_core.errors import JournalError
from tbot_core.journal.events.base import ALWAYS, KEY, WRITTEN_IF, EventFacts, Facts
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cattrs import Converter

Payload = dict[str, Any]
F = TypeVar("F", bound=EventFacts)


def write(facts: EventFacts) -> Payload:
    """The payload of an event."""
    return _converter().unstructure(facts)  # type: ignore[no-any-return]


def read(of: type[F], payload: Mapping[str, Any]) -> F:
    """The facts of an event; raises JournalError for a payload that lacks some."""
    try:
        return _converter().structure(payload, of)
    except Exception as fault:  # cattrs raises groups of what the types raise
        event = f"An event of kind {of.kind}" if of.kind else "An event of a broker"
        raise JournalError(
            f"{event} cannot be read: {'; '.join(_reasons(fault))}.",
            "Read it with the version that wrote it, or restore a backup from before it.",
        ) from fault


@functools.cache
def _converter() -> Converter:
    from cattrs import Converter

    converter = Converter(unstruct_collection_overrides={tuple: list})
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _as_is)
    converter.register_structure_hook(float, _number)
    for moment_type in (dt.date, dt.datetime):
        converter.register_structure_hook(moment_type, lambda text, of: of.fromisoformat(text))
        converter.register_unstructure_hook(moment_type, lambda moment: moment.isoformat())
    converter.register_structure_hook(Decimal, lambda text, _: Decimal(text))
    converter.register_unstructure_hook(Decimal, str)
    converter.register_structure_hook(StateCause, lambda name, _: StateCause[name])
    converter.register_unstructure_hook(StateCause, lambda cause: cause.name)
    converter.register_structure_hook_factory(_has_facts, functools.partial(_reader, converter=converter))
    converter.register_unstructure_hook_factory(_has_facts, functools.partial(_writer, converter=converter))
    return converter


def _has_facts(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Facts)


def _as_is(value: Any, of: type) -> Any:
    # A text, a whole number or a truth value; an enumeration of texts is found by its value.
    if issubclass(of, Enum):
        return of(value)
    if type(value) is not of:
        raise TypeError(f"{value!r} is not {of.__name__}")
    return value


def _number(value: Any, _: object) -> float:
    return value if isinstance(value, float) else float(_as_is(value, int))


def _reader(of: type[Facts], converter: Converter) -> Callable[[Mapping[str, Any], Any], Facts]:
    from cattrs.gen import make_dict_structure_fn, override

    keys = {field.name: override(rename=field.metadata.get(KEY)) for field in attrs.fields(of)}
    return make_dict_structure_fn(of, converter, **keys)  # type: ignore[arg-type]  # by name


def _writer(of: type[Facts], converter: Converter) -> Callable[[Facts], Payload]:
    from cattrs.gen import make_dict_unstructure_fn, override

    conditions = {
        field.metadata.get(KEY, field.name): field.metadata[WRITTEN_IF]
        for field in attrs.fields(of)
        if WRITTEN_IF in field.metadata
    }
    fields = {
        field.name: override(
            omit_if_default=not {*ALWAYS, WRITTEN_IF} & field.metadata.keys(),
            rename=field.metadata.get(KEY),
        )
        for field in attrs.fields(of)
    }
    write_all = make_dict_unstructure_fn(of, converter, **fields)  # type: ignore[arg-type]  # by name
    if not conditions:
        return write_all

    def write_some(facts: Facts) -> Payload:
        left_out = {key for key, holds in conditions.items() if not holds(facts)}
        return {key: value for key, value in write_all(facts).items() if key not in left_out}

    return write_some


def _reasons(fault: BaseException) -> list[str]:
    from cattrs import transform_error

    return transform_error(fault)
