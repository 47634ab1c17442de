"""What the steps of a set-up share: the answers that were given, and the plugins that they choose from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.actions.instance_creation import default_env, enabled_offers, known_fields, settings_files
from tbot_core.actions.setup_draft import Draft, SetUp
from tbot_core.instance.dotenv import replace_values
from tbot_core.instance.enabled_plugins import plugins_enabled
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.instance.registry import catalogue
from tbot_core.instance.secret_schemas import secret_owners
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.plugins.typosquats import distribution_of
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import schema_key
from tbot_extension_web.access.accounts import CATEGORY as ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.instance import SettingsFiles

from tbot_core.contracts.credentials import SecretField


@attrs.frozen(kw_only=True)
class SecretsOf:
    """The secrets that a plugin reads: its kind and name, the category, and its fields there."""

    kind: str
    plugin: str
    category: str
    fields: Mapping[str, SecretField]

    def name(self, field: str) -> str:
        """The name of a field in a form."""
        return f"{self.category}.{self.plugin}.{field}"


@attrs.frozen(kw_only=True)
class SetUpState:
    """A set-up with the answers as they are stored."""

    setup: SetUp
    draft: Draft

    @cached_property
    def env(self) -> str:
        """The global configuration as a file."""
        text, changes = self.draft.files.get("env") or default_env().decode(), self.draft.answers.get("env", {})
        return replace_values(text, changes).decode() if changes else text

    @cached_property
    def sources(self) -> SettingsFiles:
        """Both settings files as the answers are now."""
        contents = {"env": self.env.encode(), "env_bot": self.setup.bot_text(self.draft).encode()}
        return settings_files(self.setup.instance, contents)

    @cached_property
    def texts(self) -> dict[str, str]:
        """The text of each variable of both settings files, as the answers are now."""
        return {entry.key: entry.value for file in self.sources.both for entry in file.parsed.entries}

    @cached_property
    def enabled(self) -> Sequence[LoadedPlugin]:
        """The installed plugins that the answers enable."""
        return enabled_offers(self.texts)

    @cached_property
    def secrets(self) -> tuple[SecretsOf, ...]:
        """The secrets that the enabled plugins read, installed or not; without accounts."""
        known, enabled = known_fields(self.texts), plugins_enabled(self.texts)
        kinds = {name: kind for kind, name in sorted(enabled)} | {it.entry.name: it.entry.kind for it in self.enabled}
        found = []
        for category, plugin in secret_owners(enabled, [one.declared for one in self.enabled]):
            fields = known.get(schema_key(category, plugin), {})
            if fields and category != ACCOUNTS:
                found.append(SecretsOf(kind=kinds.get(plugin, ""), plugin=plugin, category=category, fields=fields))
        return tuple(found)

    def section(self, category: str, plugin: str) -> Mapping[str, str]:
        """The values that were given of a category, or of a plugin's section in it."""
        part: Mapping[str, Any] = self.draft.answers.get(category, {})
        return part.get(plugin, {}) if CATEGORIES[category].by_plugin else part

    def with_section(self, category: str, plugin: str, values: Mapping[str, str]) -> SetUpState:
        """The same with other values; without any the section is left out."""
        answers = {name: dict(part) for name, part in self.draft.answers.items()}
        part = answers.setdefault(category, {})
        if CATEGORIES[category].by_plugin:
            part.pop(plugin, None)
            part |= {plugin: dict(values)} if values else {}
        else:
            answers[category] = part = dict(values)
        if not part:
            del answers[category]
        return self.changed(answers=answers)

    def with_setting(self, name: str, value: str, *, file: str = ".env_bot") -> SetUpState:
        """The same with another value of a variable, which keeps the name that a file of the person has for it."""
        entries = self.sources.env.parsed.entries if file == ".env" else self.sources.bot.parsed.entries
        known = catalogue(())
        key = next((entry.key for entry in entries if known.canonical_name(entry.key) == name), name)
        if file == ".env":
            env = {**self.draft.answers.get("env", {}), key: value}
            return self.changed(answers={**self.draft.answers, "env": env})
        return self.changed(settings={**self.draft.settings, key: value})

    def changed(self, **parts: Any) -> SetUpState:
        """The same with other parts of the draft."""
        return attrs.evolve(self, draft=attrs.evolve(self.draft, **parts))

    def noted(self, name: str, text: str) -> SetUpState:
        """The same with a note; an empty text removes it."""
        notes = {key: one for key, one in self.draft.notes.items() if key != name}
        return self.changed(notes={**notes, name: text} if text else notes)


@attrs.frozen(kw_only=True)
class Offered:
    """The plugins of a kind: the installed ones with what they are, the others with the distribution to install.

    `failures` is a sentence for each installed one that does not load.
    """

    installed: Mapping[str, LoadedPlugin]
    absent: Mapping[str, str]
    failures: tuple[str, ...]


def offered(kind: str) -> Offered:
    """The plugins of a kind."""
    listings = discovery.installed_plugins()
    wanted = [(listing.entry.kind, listing.entry.name) for listing in listings if listing.entry.kind == kind]
    loaded, failed = PluginLoader().offers(wanted, listings)
    there = {name for _, name in wanted}
    known = {plugin.name: distribution_of(kind, plugin.name) for plugin in known_plugins() if plugin.kind == kind}
    return Offered(
        installed={plugin.entry.name: plugin for plugin in loaded},
        absent={name: dist for name, dist in sorted(known.items()) if name not in there and dist},
        failures=tuple(one.sentence for one in failed),
    )
