"""The sections of secrets: whose they are, and which names are misspelt."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from tbot_core.errors import SettingsError
from tbot_core.model.formatting import printable_name
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import schema_key

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator, Mapping
    from pathlib import Path

    from tbot_core.vault.schemas import Schemas

_MISSPELT: Final = 0.8
"""How similar a section's name in a document is to that of a plugin to be refused."""

_QUOTED: Final = 20
"""The length up to which a typed name is quoted: a longer one may be a secret that was pasted at the wrong question."""


def known_schemas(home: Path | None, sections: Container[str] = ()) -> Schemas:
    """The fields that validate secrets: of the enabled plugins, and of the installed ones named in `sections`."""
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.instance.secret_schemas import secret_rules

    plugins = plugin_declarations(home, sections)
    return secret_rules(plugins.declared, plugins.installed).fields


def section_names(home: Path | None, category: str, stored: Collection[str] = ()) -> list[str]:
    """The plugins that read a section of the category, and those of the stored sections that are installed."""
    return sorted(_readers(known_schemas(home), category) | (_installed() & {name.lower() for name in stored}))


def section_fault(home: Path | None, category: str, name: str) -> str:
    """Why the fields of a plugin's section cannot be asked for; "" where they are known."""
    schemas = known_schemas(home, (name,))
    if schema_key(category, name) in schemas:
        return ""
    readers, shown = _readers(schemas, category), printable_name(name) if len(name) <= _QUOTED else "This name"
    if name in readers or name in _installed():
        return (
            f"The fields of {shown} are not known: its plugin declares none for {category}, or does not load. "
            "`tbot plugins list` says which; --from-json takes the values as they are."
        )
    near = get_close_matches(name[:80], sorted(readers), n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"{shown} is unknown; allowed: {', '.join(sorted(readers))}{meant}"


def unread_sections(home: Path | None, category: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each section whose name is that of no known and no installed plugin."""
    for section in _unread(known_schemas(home), category, values):
        yield f"No known plugin reads the section {printable_name(section)} of {category}; it was stored."


def refuse_misspelt(schemas: Schemas, category: str, values: Mapping[str, Any]) -> None:
    """Refuse values for a section that no plugin reads, and whose name is similar to one that is read.

    Raises SettingsError. What is stored under such a name can be removed.
    """
    readers = sorted(_readers(schemas, category))
    for section in _unread(schemas, category, values):
        near = get_close_matches(section[:80], readers, n=1, cutoff=_MISSPELT)
        part = values[section]
        if near and not (isinstance(part, dict) and all(value is None for value in part.values())):
            raise SettingsError(
                f"The section {printable_name(section[:80])} of {category} is unknown; "
                f"allowed: {', '.join(readers)}; did you mean {near[0]}?",
                "Correct the name, or install the plugin first; nothing was stored.",
            )


def _unread(schemas: Schemas, category: str, values: Mapping[str, Any]) -> Iterator[str]:
    # The sections of plugins that are neither known nor installed.
    if CATEGORIES[category].by_plugin:
        read = _readers(schemas, category) | _installed()
        yield from (section for section in values if section.lower() not in read)


def _readers(schemas: Schemas, category: str) -> set[str]:
    # The plugins that are known to have a section of the category.
    from tbot_core.instance.plugin_settings import known_plugins

    ours = {one.name for one in known_plugins() if category in one.secrets}
    return ours | {name for place, name in schemas if place == category}


def _installed() -> set[str]:
    from tbot_core.plugins.discovery import installed_plugins

    return {it.entry.name for it in installed_plugins()}
