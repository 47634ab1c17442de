"""What a form for secrets shows: the fields of each category and plugin, and which are stored; never a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.actions.plugin_declarations import PluginDeclarations, plugin_declarations
from tbot_core.actions.secrets import stored_content
from tbot_core.contracts.credentials import SecretField
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.required_plugins import needed_plugin
from tbot_core.instance.secret_schemas import secret_owners, secret_rules
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import schema_key, stored_fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMED: Final = tuple(name for name, it in CATEGORIES.items() if it.shape != "text" and name != "login")
"""The categories that hold fields; settings and users have pages of their own."""


@attrs.frozen(kw_only=True)
class SecretForm:
    """The fields of a category, or of a plugin's `section` in it.

    `stored` are the names of fields with a value, also of undeclared ones. `readers` are the plugins that
    read it, `used` tells whether one of them is enabled. `needs` has a sentence for each of them that is not installed.
    """

    category: str
    section: str = ""
    fields: tuple[SecretField, ...]
    stored: frozenset[str]
    readers: tuple[str, ...] = ()
    used: bool = False
    needs: tuple[str, ...] = ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stored names of which there is no declaration."""
        return tuple(sorted(self.stored - {one.name for one in self.fields}))


def secret_forms(home: Path | None, category: str) -> tuple[SecretForm, ...]:
    """The forms of a category: of the plugins that are enabled, then of the others, with what is stored."""
    plugins = plugin_declarations(home)
    owners = [name for place, name in secret_owners(plugins.enabled, plugins.declared) if place == category]
    stored = stored_content(home, category)
    if not CATEGORIES[category].by_plugin:
        others = [one.name for one in known_plugins() if category in one.secrets]
        fields = secret_rules(plugins.declared, plugins.installed).fields.get(schema_key(category, ""), {})
        names = _stored_names(stored, fields)
        readers = tuple(dict.fromkeys([*owners, *others]))
        return (
            SecretForm(
                category=category,
                fields=tuple(fields.values()),
                stored=names,
                readers=readers,
                used=bool(owners),
                needs=_needs(category, readers, plugins),
            ),
        )
    parts = {name.lower(): part for name, part in stored.items() if isinstance(part, dict)}
    known = [one.name for one in known_plugins() if category in one.secrets]
    sections = dict.fromkeys([*owners, *sorted({*known, *parts})])
    rules = secret_rules(plugin_declarations(home, sections).declared, plugins.installed).fields
    made = []
    for section in sections:
        fields = rules.get(schema_key(category, section), {})
        names = _stored_names(parts.get(section, {}), fields)
        made.append(
            SecretForm(
                category=category,
                section=section,
                fields=tuple(fields.values()),
                stored=names,
                readers=(section,),
                used=section in owners,
                needs=_needs(category, (section,), plugins),
            )
        )
    return tuple(made)


def _needs(category: str, readers: tuple[str, ...], plugins: PluginDeclarations) -> tuple[str, ...]:
    # The sentences on readers that are known and not installed.
    owners = [f"{one.kind} {one.name}" for one in known_plugins() if category in one.secrets and one.name in readers]
    return tuple(filter(None, (needed_plugin(owner, plugins.installed) for owner in owners)))


def _stored_names(stored: Mapping[str, Any], fields: Mapping[str, SecretField]) -> frozenset[str]:
    known = stored_fields(stored, fields)
    spelt = {word.lower() for one in fields.values() for word in (one.name, *one.aliases)}
    names = {one.name for field, one in fields.items() if field in known}
    return frozenset(names | {name for name in stored if name.lower() not in spelt})
