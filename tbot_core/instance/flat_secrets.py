"""Converts a category's secrets without sections, as older installations have them, to one section per plugin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tbot_core.errors import SettingsError
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import parse_content

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from tbot_core.instance.plugin_settings import KnownPlugin


def sectioned_secrets(category: str, data: bytes, file: str, *, broker: str, enabled: Collection[str]) -> bytes:
    """The content of a category of plugins with one section per plugin, their names in lower case.

    {field: value} becomes the section of `broker` in the category `broker`, but for fields with the prefix of another
    broker's vendor. Elsewhere each field goes to the plugin that has a field of its name, of those in `enabled` first.
    A vendor's prefix is removed, as in NAME_API_KEY. Content that has sections, or of another category, keeps its
    values. Raises VaultError for content that is no JSON object, SettingsError for a section that is there twice and
    for a field whose plugin is not known.
    """
    if not CATEGORIES[category].by_plugin:
        return data
    content = parse_content(memoryview(data), category, file)
    if not any(isinstance(value, dict) for value in content.values()):
        return _document(_by_plugin(category, content, file, broker, enabled)) if content else data
    names = [name.lower() for name in content]
    for name in content:
        if names.count(name.lower()) > 1:
            raise SettingsError(f"{category}: {file} has more than one section {name.lower()}.")
    return data if names == list(content) else _document(dict(zip(names, content.values(), strict=True)))


def _document(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode()


def _by_plugin(
    category: str, content: Mapping[str, Any], file: str, broker: str, enabled: Collection[str]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, value in content.items():
        owners = dict(_owners(category, name))
        if category == "broker":
            named = {plugin: field for plugin, field in owners.items() if _is_prefixed(plugin, name)}
            owners = named or ({broker: owners.get(broker, name)} if broker else {})
        elif owners.keys() & enabled:
            owners = {plugin: field for plugin, field in owners.items() if plugin in enabled}
        if len(owners) != 1:
            whose = f"fields of {', '.join(sorted(owners))}" if owners else "a field of no known plugin"
            what = (
                "BROKER_NAME is empty, so its broker is not known" if category == "broker" else f"it could be {whose}"
            )
            raise SettingsError(f"{category}: {file}: the field {name} has no section, and {what}.")
        ((plugin, field),) = owners.items()
        found.setdefault(plugin, {})[field] = value
    return found


def _owners(category: str, name: str) -> Iterator[tuple[str, str]]:
    # The plugins with a field of this name, and its name there.
    for plugin in known_plugins():
        fields = plugin.secrets.get(category, {})
        spelt = {word.lower(): field for field, one in fields.items() for word in (one.name, *one.aliases)}
        field = next((spelt[word] for word in _words(plugin, name) if word in spelt), None)
        if field is not None:
            yield plugin.name, field


def _is_prefixed(plugin: str, name: str) -> bool:
    # Whether the name begins with a prefix of this plugin's vendor, which says whose field it is.
    return any(len([*_words(one, name)]) > 1 for one in known_plugins() if one.name == plugin)


def _words(plugin: KnownPlugin, name: str) -> Iterator[str]:
    # The name, and what follows a prefix of the vendor's in it.
    yield name.lower()
    for prefix in (f"{plugin.name}_", *(one.lower() for one in plugin.environment)):
        if name.lower().startswith(prefix):
            yield name.lower().removeprefix(prefix)
