"""The installed plugins and the settings that the enabled ones declare."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.actions import discard
from tbot_core.contracts import Plugin
from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.errors import AccessError, VaultError
from tbot_core.plugins.loader import LoadedPlugin

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from tbot_core.actions import Notify
    from tbot_core.instance import ExaminedSettings, SettingsFiles
    from tbot_core.instance.findings import SettingsFinding
    from tbot_core.instance.sources import SettingsFile
    from tbot_core.plugins.discovery import PluginListing


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
    home: Path | None,
    named: Container[str] = (),
    sources: SettingsFiles | None = None,
    keys: Iterable[str] = (),
) -> PluginDeclarations:
    """The installed plugins, the settings of the enabled ones, and a sentence for each that does not load.

    `sources` are settings files that were read already, or are yet to be written. Those in `named` count as enabled.
    Plugins that hung in an earlier trial are not imported, as in a run. Where all installed extensions are enabled,
    they are imported only for a setting that is otherwise unknown: in the files, or among `keys`.
    """
    from tbot_core.instance import read_settings_files
    from tbot_core.instance.enabled_plugins import ALL_EXTENSIONS, plugins_enabled
    from tbot_core.instance.folder import Instance
    from tbot_core.plugins import discovery
    from tbot_core.plugins.loader import expand_extensions

    listings, data = discovery.installed_plugins(), Instance.at(home).data
    installed = frozenset((listing.entry.kind, listing.entry.name) for listing in listings)
    texts: Mapping[str, str] = {}
    with suppress(AccessError, VaultError):  # an unreadable file has its own finding
        texts = (sources or read_settings_files(Instance.at(home))).texts()
    asked = plugins_enabled(texts)
    enabled = (asked & installed) | {(kind, name) for kind, name in sorted(installed) if name in named}
    loaded, failures = _offers(enabled, listings, data)
    if ALL_EXTENSIONS in asked and not _are_known({*texts, *keys}, texts, loaded):
        enabled |= expand_extensions(asked, installed) & installed
        loaded, failures = _offers(enabled, listings, data)
    return PluginDeclarations(
        installed=installed,
        declared=tuple(plugin.declared for plugin in loaded),
        failures=failures,
        enabled=enabled,
        brokers={plugin.entry.name: plugin.plugin for plugin in loaded if plugin.entry.kind == "broker"},
        channels={plugin.entry.name: plugin for plugin in loaded if plugin.entry.kind == "alert"},
        loaded=loaded,
    )


def _offers(
    enabled: frozenset[tuple[str, str]], listings: tuple[PluginListing, ...], data: Path
) -> tuple[tuple[LoadedPlugin, ...], tuple[str, ...]]:
    # What the plugins offer, and a sentence for each that does not load.
    from tbot_core.model.clock import SystemClock
    from tbot_core.plugins import quarantine
    from tbot_core.plugins.loader import PluginLoader

    usable, quarantined = quarantine.quarantine_broken(enabled, listings, data, SystemClock().now())
    loaded, failed = PluginLoader().offers(usable, listings)
    return loaded, tuple(failure.sentence for failure in (*quarantined, *failed))


def _are_known(keys: Iterable[str], texts: Mapping[str, str], loaded: Iterable[LoadedPlugin]) -> bool:
    # Whether each key is a setting of the core, of a plugin of the project or of one of these.
    from tbot_core.instance.enabled_plugins import running_strategies
    from tbot_core.instance.registry import catalogue

    known = catalogue(running_strategies(texts), [plugin.declared for plugin in loaded])
    return all(known.canonical_name(key) for key in keys)


def load_edited(
    home: Path | None, sources: SettingsFiles, before: SettingsFiles, warn: Notify = discard
) -> ExaminedSettings:
    """The settings of files that are yet to be written, checked as at a paper start with the plugins that they enable.

    `before` are the files as they are. A fault that was there before, in a file that is not edited, is a warning with
    the way to correct it, so that each file can be corrected while the other one is invalid. Plugins that are not
    installed are a warning each: they may be installed later; so are unknown keys, and secrets that are not stored.
    Raises SettingsError for other faults.
    """
    from tbot_core.instance.cross_checks import missing_plugins
    from tbot_core.instance.loading import faults_error

    plugins = plugin_declarations(home, sources=sources)
    examined = examine_edited(home, sources, plugins)
    failing = [finding for finding in examined.findings if finding.level == "fail"]
    left = _left_as_before(home, sources, before) if failing else {}
    if own := [finding for finding in failing if finding not in left]:
        raise faults_error(own)
    for finding in (one for one in failing if one in left):
        warn(f"as before, a start fails: {finding} {left[finding].edit_words}")
    for finding in missing_plugins(examined.values, "paper", plugins.installed):
        if finding.level == "fail":
            warn(f"`tbot check` fails with this setting: {finding}")
    for finding in examined.findings:
        if finding.level == "warn" and finding.where and not any(key in examined.values for key in finding.keys):
            warn(str(finding))  # a key that is unknown, or a line without a setting
    for category, section in _absent_secrets(home, plugins):
        lacking = f"{category} has no section {section}" if section else f"{category} is not there"
        warn(f"`tbot check` fails with this setting: {lacking}. `tbot secrets set {category}` stores it.")
    return examined


def _absent_secrets(home: Path | None, plugins: PluginDeclarations) -> Iterator[tuple[str, str]]:
    # The (category, section) that the enabled plugins need and that are not stored; faults of files have rows of their
    # own in `tbot check`.
    from tbot_core.instance import read_settings_files
    from tbot_core.instance.folder import Instance
    from tbot_core.instance.secret_schemas import secret_rules
    from tbot_core.instance.secrets import open_instance_vault
    from tbot_core.instance.sources import deployment_of
    from tbot_core.model.json_document import InvalidJson, parse_json

    instance = Instance.at(home)
    opened = open_instance_vault(instance, deployment_of(read_settings_files(instance).env.parsed), ready=False)
    for category, section in sorted(secret_rules(plugins.declared, plugins.installed, required=True).required):
        stored: dict[str, Any] = {}
        try:
            if opened.store.has_file(category):
                with opened.read(category) as content:
                    stored = parse_json(bytes(content.view))
        except (VaultError, InvalidJson):
            continue
        if not stored or (section and section not in {name.lower() for name in stored}):
            yield category, section


def examine_edited(home: Path | None, sources: SettingsFiles, plugins: PluginDeclarations) -> ExaminedSettings:
    """The examination of settings files as at a paper start."""
    from tbot_core.instance import examine_settings

    return examine_settings(home, mode="paper", declared=plugins.declared, sources=sources)


def _left_as_before(
    home: Path | None, sources: SettingsFiles, before: SettingsFiles
) -> dict[SettingsFinding, SettingsFile]:
    # The faults of before in the files that are not edited.
    unedited = [one for one, was in zip(sources.both, before.both, strict=True) if one is was]
    found = {}
    for finding in examine_edited(home, before, plugin_declarations(home, sources=before)).findings:
        file = before.file_of(finding)
        if file is not None and any(file is one for one in unedited):
            found[finding] = file
    return found
