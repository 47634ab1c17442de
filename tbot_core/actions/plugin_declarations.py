"""The installed plugins and the settings that the enabled ones declare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from tbot_core.actions.notices import discard
from tbot_core.contracts import Plugin
from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.errors import AccessError, VaultError
from tbot_core.plugins.loader import LoadedPlugin

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.instance import Settings, SettingsFiles


@attrs.frozen(kw_only=True)
class PluginDeclarations:
    """The installed plugins, the settings of the enabled ones, and a sentence for each that does not load.

    `enabled` are the (kind, name) of the installed ones that the settings enable; `brokers` and `channels` the broker
    plugins and the alert channels among them, by name. `loaded` are all of them that load.
    """

    installed: frozenset[tuple[str, str]]
    declared: tuple[DeclaredConfig, ...]
    failures: tuple[str, ...]
    enabled: frozenset[tuple[str, str]] = frozenset()
    brokers: Mapping[str, Plugin] = attrs.field(factory=dict)
    channels: Mapping[str, LoadedPlugin] = attrs.field(factory=dict)
    loaded: tuple[LoadedPlugin, ...] = ()


def plugin_declarations(
    home: Path | None, named: Container[str] = (), sources: SettingsFiles | None = None
) -> PluginDeclarations:
    """The installed plugins, the settings of the enabled ones, and a sentence for each that does not load.

    `sources` are settings files that were read already, or are yet to be written. Those in `named` count as enabled.
    Plugins that hung in an earlier trial are not imported, as in a run.
    """
    from tbot_core.instance import read_settings_files
    from tbot_core.instance.enabled_plugins import plugins_enabled
    from tbot_core.instance.folder import Instance
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins import discovery, quarantine
    from tbot_core.plugins.loader import PluginLoader

    listings = discovery.installed_plugins()
    installed = frozenset((it.entry.kind, it.entry.name) for it in listings)
    try:
        files = sources or read_settings_files(Instance.at(home))
        enabled = plugins_enabled(files.texts()) & installed
    except (AccessError, VaultError):
        enabled = frozenset()  # an unreadable file has its own finding
    enabled |= {(kind, name) for kind, name in sorted(installed) if name in named}
    usable, quarantined = quarantine.quarantine_broken(enabled, listings, Instance.at(home).data, SystemClock().now())
    loaded, failed = PluginLoader().offers(usable, listings)
    return PluginDeclarations(
        installed=installed,
        declared=tuple(it.declared for it in loaded),
        failures=tuple(failure.sentence for failure in (*quarantined, *failed)),
        enabled=enabled,
        brokers={it.entry.name: it.plugin for it in loaded if it.entry.kind == "broker"},
        channels={it.entry.name: it for it in loaded if it.entry.kind == "alert"},
        loaded=loaded,
    )


def load_edited(home: Path | None, sources: SettingsFiles, warn: Notify = discard) -> Settings:
    """The settings of files that are yet to be written, checked as at a paper start with the plugins that they enable.

    Plugins that they name and that are not installed are a warning each: they may be installed later. Raises
    SettingsError.
    """
    from tbot_core.instance import load_settings
    from tbot_core.instance.required_plugins import missing_plugins

    plugins = plugin_declarations(home, sources=sources)
    settings = load_settings(home, mode="paper", declared=plugins.declared, sources=sources)
    for finding in missing_plugins(settings.values, "paper", plugins.installed):
        if finding.level == "fail":
            warn(f"`tbot check` fails with this setting: {finding}")
    return settings
