"""The fields of plugins' secrets in a form, from the plugins' own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts.credentials import secret_fields
from tbot_core.vault.categories import CATEGORIES
from tbot_extension_web.setup.fields import FormField, Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.contracts.credentials import SecretField
    from tbot_extension_web.setup.state import SetUpState
    from tbot_extension_web.setup.step import Values

_MODES: Final = {
    "paper": "Paper: simulated money at the broker. Begin here.",
    "live": "LIVE: real money. tbot sends no entry before you arm it, for one session each.",
}


def plugin_fields(state: SetUpState, wanted: Callable[[str, str], bool]) -> tuple[FormField, ...]:
    """The fields of the enabled plugins whose kind and category are wanted."""
    return tuple(_field(state, category, plugin, one) for category, plugin, one in _declared(state, wanted))


def with_plugin_fields(state: SetUpState, values: Values, wanted: Callable[[str, str], bool]) -> SetUpState:
    """The state with the values of a form; a hidden one that was left empty stays as it is stored."""
    places = list(_declared(state, wanted))
    for category, plugin in dict.fromkeys((category, plugin) for category, plugin, _ in places):
        kept = state.section(category, plugin)
        section: dict[str, str] = {}
        for one in (field for place, owner, field in places if (place, owner) == (category, plugin)):
            text = values.get(_name(category, plugin, one), "") or (kept.get(one.name, "") if one.hidden else "")
            section |= {one.name: text} if text else {}
        state = state.with_section(category, plugin, section)
    return state


def _declared(state: SetUpState, wanted: Callable[[str, str], bool]) -> Iterator[tuple[str, str, SecretField]]:
    for plugin in state.enabled():
        for category, schema in plugin.declared.secrets.items():
            if schema is not None and category in CATEGORIES and wanted(plugin.entry.kind, category):
                yield from ((category, plugin.entry.name, one) for one in secret_fields(schema).values())


def _field(state: SetUpState, category: str, plugin: str, one: SecretField) -> FormField:
    stored = state.section(category, plugin).get(one.name, "")
    words = _MODES if one.name == "mode" and _allows(one, _MODES) else {}
    return FormField(
        name=_name(category, plugin, one),
        label=f"{plugin}: {one.name.replace('_', ' ')}",
        doc=one.doc,
        kind=one.kind,
        default=one.default_text,
        value="" if one.hidden else stored,
        hidden=one.hidden,
        stored=one.hidden and bool(stored),
        options=tuple(Option(value=value, text=text) for value, text in words.items()),
    )


def _allows(one: SecretField, words: dict[str, str]) -> bool:
    return one.kind.name == "choice" and one.kind.allowed == f"one of {', '.join(words)}"


def _name(category: str, plugin: str, one: SecretField) -> str:
    return f"{category}.{plugin}.{one.name}"
