"""What a plugin is created with in a run: clock, log, folder, its own secrets, and its hosts."""

from __future__ import annotations

from hashlib import sha256
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import Context
from tbot_core.contracts.credentials import PluginSecrets
from tbot_core.contracts.network import host_settings, is_on_this_machine
from tbot_core.contracts.permissions import CHOSEN
from tbot_core.errors import PluginError, SettingsError
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.plugins.network.connector import Connector, RequestBudgets
from tbot_core.plugins.network.request_limits import RetryPolicy
from tbot_core.system import filesystem, log, random
from tbot_core.vault.categories import CATEGORIES

INSTALL_ID: Final = "install.id"
"""The file of the id of this installation, in the folder of data."""

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tbot_core.contracts.permissions import Host
    from tbot_core.instance import Settings
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.loader import LoadedPlugin
    from tbot_core.vault.vault import Vault


def plugin_context(
    settings: Settings,
    clock: Clock,
    loaded: LoadedPlugin,
    budgets: RequestBudgets,
    secrets: PluginSecrets | None = None,
) -> Context:
    """The context of a loaded plugin; `budgets` are those that the plugins of the run share.

    `secrets` are used in place of the stored ones.

    Raises VaultError for a file of secrets that cannot be opened or does not fit the plugin's class, PluginError for a
    category that plugins may not receive, and SettingsError for a HOST_ setting in live trading that leads to this
    machine, and for a host that the operator chooses and has not chosen (a simulation and a rehearsal need none).
    """
    kind, plugin = loaded.entry.kind, loaded.plugin
    hosts, addresses = _placed_hosts(settings, loaded)
    connector = Connector(
        plugin=f"{kind} {plugin.name}",
        hosts=hosts,
        addresses=addresses,
        only_here=bool(settings.instance.rehearsal),
        clock=clock,
        budgets=budgets,
        timeout_s=settings.trading.api_timeout,
        retries=RetryPolicy(
            retries=0 if kind == "broker" else settings.trading.api_retry_limit,  # the core repeats a broker's calls
            sleep=clock.sleep,
            jitter=_jitter(settings.instance.data, f"{kind} {plugin.name}"),
        ),
    )
    return Context(
        clock=clock,
        log=log.logger(f"tbot.{kind}.{plugin.name}"),
        data_dir=settings.instance.plugin_data(kind, plugin.name),
        tables_dir=settings.instance.tables,
        downloads_dir=settings.instance.downloads,
        secrets=plugin_secrets(settings, plugin.name, plugin.needs.secrets) if secrets is None else secrets,
        connect=connector,
        timeout_s=settings.trading.api_timeout,
    )


def _placed_hosts(settings: Settings, loaded: LoadedPlugin) -> tuple[dict[str, Host], dict[str, str]]:
    # The hosts as the operator chose them, and the address on this machine that a HOST_ setting gives, "" for none.
    declared = host_settings(loaded.plugin.name, loaded.declared.hosts)
    texts = {host: settings.texts.get(one.name, "") for host, one in declared.items()}
    addresses = {host: text if is_on_this_machine(text) else "" for host, text in texts.items()}
    if settings.mode == "live" and any(addresses.values()):
        named = ", ".join(one.name for host, one in declared.items() if addresses[host])
        raise SettingsError(f"{named}: live trading reaches the vendor itself.", "Remove it from .env_bot.")
    hosts = dict(loaded.plugin.needs.hosts)
    for name, host in hosts.items():
        if host.url == CHOSEN and not addresses[name]:
            hosts[name] = _chosen_host(settings, loaded, host, declared[name].name)
    return hosts, addresses


def _chosen_host(settings: Settings, loaded: LoadedPlugin, host: Host, setting: str) -> Host:
    # The host with the address that the operator chose.
    if chosen := settings.texts.get(setting, ""):
        return attrs.evolve(host, url=chosen)
    if settings.instance.rehearsal or settings.mode in SIMULATED_MODES:
        return host
    raise SettingsError(
        f"{setting} is empty: the host of the {loaded.entry.kind} {loaded.plugin.name} is the operator's choice.",
        f"Set {setting}=https://NAME in .env_bot.",
    )


def _jitter(data: Path, plugin: str) -> Callable[[], float]:
    # Differs by install and plugin, so that many bots do not return to a vendor together.
    path = data / INSTALL_ID
    install = filesystem.read_text(path) if filesystem.exists(path) else str(data)
    return random.generator(int.from_bytes(sha256(f"{install}\n{plugin}".encode()).digest())).random


def plugin_secrets(settings: Settings, plugin: str, wanted: Mapping[str, type[Any] | None]) -> PluginSecrets:
    """An object of the plugin's class for each category in `wanted`; a simulation skips a missing file.

    Raises VaultError and PluginError as `plugin_context` does.
    """
    found: dict[str, Any] = {}
    classes: dict[str, type[Any]] = {}
    for category, schema in sorted(wanted.items(), key=itemgetter(0)):
        kind = CATEGORIES.get(category)
        if kind is None or schema is None or not (kind.by_plugin or kind.shape == "object"):
            raise PluginError(f"The plugin {plugin} cannot receive secrets of {category}.", "Update the plugin.")
        opened = _vault(settings)
        if opened.store.has_file(category) or settings.mode not in SIMULATED_MODES:
            found[category] = opened.read_as(schema, category, plugin if kind.by_plugin else None)
            classes[category] = schema

    def write(category: str, values: Mapping[str, str]) -> Any:
        section = plugin if CATEGORIES[category].by_plugin else None
        return _vault(settings).renew(classes[category], category, values, section)

    return PluginSecrets(found, None if settings.mode in SIMULATED_MODES else write)


def _vault(settings: Settings) -> Vault:
    return open_instance_vault(settings.instance, settings.deployment, live=settings.mode == "live")


def install_id(data: Path) -> str:
    """The id of this installation, created once; it is part of the client order ids."""
    path = data / INSTALL_ID
    if not filesystem.exists(path):
        filesystem.make_folder(data)
        filesystem.write_atomic(path, f"{random.token(16)}\n".encode())
    return filesystem.read_text(path).strip()
