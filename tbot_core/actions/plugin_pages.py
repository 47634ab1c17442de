"""The pages that extensions add to the web page: loaded by the process of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import attrs

from tbot_core.contracts import Context
from tbot_core.contracts.pages import PluginRoute
from tbot_core.errors import PluginError, TbotError
from tbot_core.instance import Instance, Settings, SettingsFiles, examine_settings, read_settings_files
from tbot_core.instance.enabled_plugins import plugins_enabled
from tbot_core.plugins import discovery, lock, quarantine
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader, expand_extensions, log_failure
from tbot_core.plugins.lock import read_private_bytecode
from tbot_core.system import log
from tbot_core.system.foreign_exceptions import assert_failure, own_error

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.model.clock import Clock
    from tbot_core.plugins.discovery import PluginListing


@attrs.frozen(kw_only=True)
class PluginPages:
    """The routes of an extension; `fault` says why it has none, "" for one that works."""

    name: str
    routes: tuple[PluginRoute, ...] = ()
    fault: str = ""


def plugin_pages(home: Path, clock: Clock) -> tuple[PluginPages, ...]:
    """The pages of the enabled extensions, in the order of their names; one that fails has a sentence in their place.

    Where the instance has a plugins.lock, only extensions that match it are imported. Raises AccessError and VaultError
    for settings that cannot be read.
    """
    instance, listings = Instance.at(home), discovery.installed_plugins()
    files = read_settings_files(instance)
    installed = {(listing.entry.kind, listing.entry.name) for listing in listings}
    named = expand_extensions(plugins_enabled(files.texts()), installed) & installed
    wanted = frozenset(pair for pair in sorted(named) if pair[0] == "extension")
    refused = _refused(home, discovery.mark_enabled(listings, wanted))
    allowed = frozenset(pair for pair in sorted(wanted) if pair[1] not in refused)
    usable, hung = quarantine.quarantine_broken(allowed, listings, instance.data, clock.now())
    loader = PluginLoader()
    loaded, failed = loader.offers(usable, listings)
    found = [PluginPages(name=name, fault=fault) for name, fault in refused.items()]
    found += [PluginPages(name=it.name, fault=it.sentence) for it in (*hung, *failed)]
    with_pages = [plugin for plugin in loaded if loader.caller(plugin.subject, "tbot_routes") is not None]
    found += [_pages(loader, page, files, instance, clock) for page in with_pages]
    return tuple(sorted(found, key=lambda it: it.name))


def _refused(home: Path, listings: Sequence[PluginListing]) -> dict[str, str]:
    # Why extensions are not imported, by name: an instance with a lock imports what it approves, and nothing else.
    if (pinned := lock.read_lock(home)) is None:
        return {}
    read_private_bytecode(home)
    enabled = {listing.entry.name for listing in listings if listing.enabled}
    differences = [it for it in lock.verify_lock(pinned, listings) if it.kind == "extension" and it.name in enabled]
    return {difference.name: f"{difference.sentence} `tbot plugins lock` approves it." for difference in differences}


def _pages(
    loader: PluginLoader, loaded: LoadedPlugin, files: SettingsFiles, instance: Instance, clock: Clock
) -> PluginPages:
    name = loaded.entry.name
    try:
        settings = _settings(instance, files, loaded)
        context = Context(
            clock=clock,
            log=log.logger(f"tbot.extension.{name}"),
            data_dir=instance.plugin_data("extension", name),
            tables_dir=instance.tables,
            downloads_dir=instance.downloads,
        )
        caller = loader.caller(loaded.subject, "tbot_routes")
        answers = [] if caller is None else caller(config=settings.plugin_config(loaded.plugin.config), context=context)
        return PluginPages(name=name, routes=_routes(answers))
    except BaseException as fault:  # noqa: BLE001  -- the border of plugin load
        assert_failure(fault)
        failure = PluginFailure.of(loaded.entry, "pages", fault)
        log_failure(failure)
        remedy = f" {own_error(cast('TbotError', fault)).remedy}" if issubclass(type(fault), TbotError) else ""
        return PluginPages(name=name, fault=f"{failure.sentence}{remedy}")


def _settings(instance: Instance, files: SettingsFiles, loaded: LoadedPlugin) -> Settings:
    settings = examine_settings(instance.home, mode="paper", declared=[loaded.declared], sources=files).settings
    if settings is None:
        raise PluginError("The settings have faults.", "`tbot config check` lists them.")
    return settings


def _routes(answers: Sequence[object]) -> tuple[PluginRoute, ...]:
    # Each implementation returns a sequence; each route of it is checked, since a plugin may return anything.
    found: list[PluginRoute] = []
    for answer in answers:
        if not isinstance(answer, Sequence):
            raise PluginError("tbot_routes returned no sequence of PluginRoute.", "Fix or uninstall it.")
        for one in answer:
            if not isinstance(one, PluginRoute):
                raise PluginError("tbot_routes returned something that is no PluginRoute.", "Fix or uninstall it.")
            found.append(one)
    if len({one.key for one in found}) < len(found):
        raise PluginError("tbot_routes returned two routes of the same path and method.", "Fix or uninstall it.")
    return tuple(found)
