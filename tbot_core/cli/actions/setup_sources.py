"""The answers for a new instance that need no terminal: a JSON document, and the vendors' environment variables."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tbot_core.cli.actions.instance_creation import known_fields
from tbot_core.cli.options import document_json
from tbot_core.errors import UsageError
from tbot_core.model import json_document

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO


def parse_document(document: TextIO) -> dict[str, Any]:
    """The document of --from-json: {category: {...}}. Raises UsageError, which never quotes the content."""
    found = document_json(document)
    named = "" not in json_document.invalid_utf8_places(found)
    if not isinstance(found, dict) or not all(isinstance(part, dict) for part in found.values()) or not named:
        raise UsageError("The document must be a JSON object with one object per category.", "See `tbot init --help`.")
    return found


def vendor_credentials(settings: Mapping[str, object]) -> tuple[dict[str, dict[str, dict[str, str]]], tuple[str, ...]]:
    """The values of the vendors' usual variables, by category and plugin, and the names of unused variables.

    Raises UsageError if none is set, or if two of them set different values.
    """
    from tbot_core.instance.plugin_settings import known_plugins
    from tbot_core.system import environ

    prefixes = {prefix: one for one in known_plugins() for prefix in one.environment}
    given = {prefix: values for prefix in prefixes if (values := environ.variables_with_prefix(prefix))}
    known = known_fields(settings)
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    rest: list[str] = []
    for prefix, values in given.items():
        plugin = prefixes[prefix].name
        places = {
            word: (category, it.name)
            for category in prefixes[prefix].secrets
            for it in known[category, plugin].values()
            for word in (it.name, *it.aliases)
        }
        for name, value in values.items():
            if name.lower() not in places:
                rest.append(f"{prefix}{name}")
                continue
            category, field = places[name.lower()]
            if found[category][plugin].setdefault(field, value) != value:
                raise UsageError(
                    f"{prefix}{name} and another variable both set {plugin}.{field}, to different values.",
                    "Unset one of them.",
                )
    if not found:
        raise UsageError(f"No environment variable begins with {', '.join(prefixes)}.", "Set them for this command.")
    return {category: {name: dict(part) for name, part in one.items()} for category, one in found.items()}, tuple(rest)
