"""What the steps of a set-up share: the answers that were given, and the plugins that they choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.actions.instance_creation import default_env, enabled_offers
from tbot_core.actions.setup_draft import Draft, SetUp
from tbot_core.instance.dotenv import parse_dotenv
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.plugins.typosquats import ours
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Sequence


@attrs.frozen(kw_only=True)
class SetUpState:
    """A set-up with the answers as they are stored."""

    setup: SetUp
    draft: Draft

    @property
    def texts(self) -> dict[str, str]:
        """The text of each variable of both settings files, as the answers are now."""
        env = self.draft.files.get("env") or default_env().decode()
        parsed = (
            parse_dotenv(".env", env.encode()),
            parse_dotenv(".env_bot", self.setup.bot_text(self.draft).encode()),
        )
        return {entry.key: entry.value for one in parsed for entry in one.entries}

    def enabled(self) -> Sequence[LoadedPlugin]:
        """The installed plugins that the answers enable."""
        return enabled_offers(self.texts)

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

    def with_settings(self, values: Mapping[str, str]) -> SetUpState:
        """The same with other values of variables."""
        return self.changed(settings={**self.draft.settings, **values})

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
    wanted = [(it.entry.kind, it.entry.name) for it in listings if it.entry.kind == kind]
    loaded, failed = PluginLoader().offers(wanted, listings)
    there = {name for _, name in wanted}
    known = {one.name: f"tbot-{kind}-{one.name.replace('_', '-')}" for one in known_plugins() if one.kind == kind}
    return Offered(
        installed={one.entry.name: one for one in loaded},
        absent={name: dist for name, dist in sorted(known.items()) if name not in there and dist in ours()},
        failures=tuple(one.sentence for one in failed),
    )
