"""Tests an alert channel whose secrets are not stored yet: one message, sent at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.actions.instance_creation import initial_contents, settings_files
from tbot_core.alerts.delivery import AlertDelivery
from tbot_core.alerts.text import MessageWriter
from tbot_core.contracts import Urgency
from tbot_core.contracts.credentials import PluginSecrets
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.engine.rehearsal_run import NOT_SERVED, host_addresses, reaches_out
from tbot_core.errors import TbotError
from tbot_core.instance import Instance, load_settings
from tbot_core.journal.projections.failover_drills import DrillStep
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import FieldLocation, fill_schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.contracts import Alert, Context
    from tbot_core.instance import Settings
    from tbot_core.plugins.loader import LoadedPlugin


def try_channel(
    loaded: LoadedPlugin,
    secrets: Mapping[str, Mapping[str, str]],
    identity: str,
    variables: Mapping[str, str] | None = None,
) -> DrillStep:
    """Send a routine test message with these secrets, by category and field, and these of its settings.

    The result has the service's answer, or the reason of the failure; in the rehearsal of TBOT_REHEARSAL it is that of
    the channel's server there. The plugin gets a folder of its own that is removed afterwards.
    """
    name = loaded.entry.name
    with filesystem.scratch_folder() as folder:
        try:
            words, fault = _try(loaded, secrets, identity, _settings(loaded, Instance(folder), variables or {}))
        except TbotError as error:
            words, fault = "", str(error)
    return DrillStep(what=name, passed=not fault, words=fault or words or "the message was accepted")


def _try(
    loaded: LoadedPlugin, secrets: Mapping[str, Mapping[str, str]], identity: str, settings: Settings | None
) -> tuple[str, str]:
    if settings is None:
        return "", f"It stays silent in this rehearsal: {NOT_SERVED}."
    clock = SystemClock()
    filled = PluginSecrets(_filled(loaded, secrets))
    context = plugin_context(settings, clock, loaded, RequestBudgets(clock), filled)
    made: Any = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    if isinstance(made, PluginFailure):
        return "", made.sentence
    delivery = AlertDelivery({loaded.entry.name: made}, {Urgency.ROUTINE: (loaded.entry.name,)})
    delivery.logs_failures = False  # they are in the result
    alert = MessageWriter(mode="paper", identity=identity).compose_test(Urgency.ROUTINE, clock.now())
    return asyncio.run(_sent(delivery, alert, context))


def _settings(loaded: LoadedPlugin, instance: Instance, variables: Mapping[str, str]) -> Settings | None:
    # None in a rehearsal that has no server for the channel.
    target = environment_rehearsal()
    addresses = host_addresses(loaded, target) if target else {}
    if target and reaches_out(loaded) and not addresses:
        return None
    sources = settings_files(instance, initial_contents({"env_bot": {**variables, **addresses}}))
    return load_settings(instance.home, mode="paper", declared=[loaded.declared], sources=sources)


async def _sent(delivery: AlertDelivery, alert: Alert, context: Context) -> tuple[str, str]:
    try:
        (answer,) = (await delivery.deliver(alert, delivery.all_names)).values()
    finally:
        await context.connect.close()
    return answer.words, answer.fault


def _filled(loaded: LoadedPlugin, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    # An object of the plugin's class for each category.
    found = {}
    for category, schema in loaded.declared.secrets.items():
        if schema is not None:
            fields = {name: Secret(text) for name, text in secrets.get(category, {}).items()}
            section = loaded.entry.name if CATEGORIES[category].by_plugin else ""
            found[category] = fill_schema(schema, fields, FieldLocation(category, "the input", section))
    return found
