"""The fields of plugins' secrets in a form: from the plugins' own classes, or as they are known before an install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_extension_web.setup.fields import FormField, Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.contracts.credentials import SecretField
    from tbot_extension_web.setup.state import SecretsOf, SetUpState
    from tbot_extension_web.setup.step import Fault, Values

_MODE: Final = "mode"
_MODES: Final = {
    "paper": "Simulated money at the broker. Begin here.",
    "live": "REAL MONEY. tbot sends no entry before you arm it, for one session each.",
}


def secrets_of(state: SetUpState, wanted: Callable[[str, str], bool]) -> tuple[SecretsOf, ...]:
    """The secrets of the enabled plugins, installed or not, whose kind and category are wanted."""
    return tuple(secret for secret in state.secrets if wanted(secret.kind, secret.category))


def plugin_fields(state: SetUpState, wanted: Callable[[str, str], bool]) -> tuple[FormField, ...]:
    """The fields of the forms of these secrets."""
    found = secrets_of(state, wanted)
    return tuple(_field(state, one, field) for one in found for field in one.fields.values())


def with_plugin_fields(state: SetUpState, values: Values, wanted: Callable[[str, str], bool]) -> SetUpState:
    """The state with the values of a form; a hidden one that was left empty stays as it is stored."""
    for secret in secrets_of(state, wanted):
        kept, section = state.section(secret.category, secret.plugin), dict[str, str]()
        for field in secret.fields.values():
            text = values.get(secret.name(field.name), "") or (kept.get(field.name, "") if field.hidden else "")
            section |= {field.name: text} if text else {}
        state = state.with_section(secret.category, secret.plugin, section)
    return state


def fallback_faults(state: SetUpState, values: Values, wanted: Callable[[str, str], bool]) -> Iterator[Fault]:
    """What is wrong with fields that depend on others: one of two must be given, or one is of no use alone."""
    for secret in secrets_of(state, wanted):
        stored = state.section(secret.category, secret.plugin)
        given = {it.name for it in secret.fields.values() if values.get(secret.name(it.name)) or stored.get(it.name)}
        for field in secret.fields.values():
            if field.fallback and not given & {field.name, field.fallback}:
                yield secret.name(field.name), f"Give this, or {field.fallback}."
            if field.needed_with in given and field.name not in given:
                yield secret.name(field.name), f"It is needed with {field.needed_with}."


def _field(state: SetUpState, place: SecretsOf, one: SecretField) -> FormField:
    stored = state.section(place.category, place.plugin).get(one.name, "")
    words = _MODES if one.name == _MODE and one.kind.allowed == f"one of {', '.join(_MODES)}" else {}
    return FormField(
        name=place.name(one.name),
        label=f"{place.plugin}: {one.name.replace('_', ' ')}",
        doc=one.doc,
        kind=one.kind,
        default=one.default_text,
        value="" if one.hidden else stored,
        hidden=one.hidden,
        stored=one.hidden and bool(stored),
        options=tuple(Option(value=value, text=text) for value, text in words.items()),
    )
