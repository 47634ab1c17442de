"""Tests a broker's credentials that are not stored yet: one login, and a reading of the account; no order is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.assembly import action_clock, environment_rehearsal
from tbot_core.actions.notices import discard
from tbot_core.contracts.credentials import PluginSecrets
from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.engine.rehearsal_run import host_addresses
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance, load_settings
from tbot_core.journal.projections.failover_drills import DrillStep
from tbot_core.model.clock import exchange_time
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.actions.notices import Notify
    from tbot_core.instance import Settings
    from tbot_core.model.clock import Clock
    from tbot_core.plugins.loader import LoadedPlugin

_TIMEOUT_S: Final = "10"


def try_login(
    loaded: LoadedPlugin,
    settings: Mapping[str, str],
    credentials: Mapping[str, str],
    *,
    live: bool,
    notify: Notify = discard,
) -> DrillStep | None:
    """Log in with the credentials, by field, and log out; None for a simulated broker.

    `settings` are variables of the trading configuration that differ from a paper instance's. The result has the
    account, or the reason of the failure; an account of another kind than `live` says is a failure. The plugin gets a
    folder of its own that is removed afterwards. `notify` gets what `action_clock` says.
    """
    with filesystem.scratch_folder() as folder:
        try:
            made = _settings(Instance(folder), settings, loaded)
            return _try_login(loaded, made, credentials, action_clock(notify), live=live)
        except TbotError as fault:
            return DrillStep(what=f"{loaded.entry.name} answers", passed=False, words=str(fault))


def try_stored_login(
    home: Path | None, name: str, notify: Notify = discard, *, actor: str = ""
) -> tuple[DrillStep | None, bool]:
    """Log in at a broker with its stored credentials, whether the settings name it or not; also whether it is live.

    Raises UsageError for one that is not installed, VaultError without stored credentials.
    """
    from tbot_core.actions.plugin_declarations import plugin_declarations
    from tbot_core.actions.secrets import vault_of_home
    from tbot_core.instance import read_settings_files

    offered = plugin_declarations(home, (name,)).loaded
    loaded = next((it for it in offered if it.entry.kind == "broker" and it.entry.name == name), None)
    if loaded is None:
        raise UsageError(f"The broker {name} is not installed.", f"Install tbot-broker-{name}, and start again.")
    stored = vault_of_home(home, ready=False, actor=actor).read_section("broker", name)
    credentials = {field: value.inspect() for field, value in stored.items()}
    texts = read_settings_files(Instance.at(home)).known_texts()
    own = {key: text for key, text in texts.items() if key.startswith((f"{name}_".upper(), f"HOST_{name}_".upper()))}
    live = any(field.lower() == "mode" and text.strip().lower() == "live" for field, text in credentials.items())
    return try_login(loaded, own, credentials, live=live, notify=notify), live


def _settings(instance: Instance, variables: Mapping[str, str], loaded: LoadedPlugin) -> Settings:
    from tbot_core.actions.instance_creation import initial_contents, settings_files

    name, target = loaded.entry.name.upper(), environment_rehearsal()
    addresses = host_addresses(loaded, target) if target else {}
    contents = initial_contents({"env_bot": {**variables, **addresses, "BROKER_NAME": name, "API_TIMEOUT": _TIMEOUT_S}})
    sources = settings_files(instance, contents)
    return load_settings(instance.home, mode="paper", declared=[loaded.declared], sources=sources)


def _try_login(
    loaded: LoadedPlugin, settings: Settings, credentials: Mapping[str, str], clock: Clock, *, live: bool
) -> DrillStep | None:
    from tbot_core.engine.live.broker_probe import probe_broker
    from tbot_core.engine.plugin_context import plugin_context
    from tbot_core.execution.broker_port import open_port
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.failure import PluginFailure
    from tbot_core.plugins.loader import build_plugin
    from tbot_core.plugins.network.connector import RequestBudgets
    from tbot_core.plugins.network.request_limits import PRIORITY, RequestPriority

    secrets = PluginSecrets(_filled(loaded, credentials))
    context = plugin_context(settings, clock, loaded, RequestBudgets(clock), secrets)
    made = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    if isinstance(made, PluginFailure):
        return DrillStep(what=f"{loaded.entry.name} answers", passed=False, words=made.sentence)
    broker = open_port(loaded.entry, made, CallGuard(strict=False), live=live)
    if broker.capabilities.simulated:
        return None
    session = calendar_of(settings.trading).next(exchange_time(clock.now()).date())

    async def probed() -> DrillStep:
        PRIORITY.set(RequestPriority.PROTECTION)  # a person waits; other readings wait longer
        try:
            return await probe_broker(loaded.entry.name, broker, session, clock)
        finally:
            await context.connect.close()

    return asyncio.run(probed())


def _filled(loaded: LoadedPlugin, credentials: Mapping[str, str]) -> dict[str, Any]:
    # An object of the plugin's class for its category `broker`.
    from tbot_core.vault.schemas import FieldLocation, fill_schema

    schema = loaded.declared.secrets.get("broker")
    if schema is None:
        return {}
    fields = {name: Secret(text) for name, text in credentials.items()}
    return {"broker": fill_schema(schema, fields, FieldLocation("broker", "the input", loaded.entry.name))}
