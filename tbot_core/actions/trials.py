"""Tests a broker with the stored credentials, and a login or an alert channel with ones that are not stored yet.

No order is sent; a channel sends one message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions import Notify, discard
from tbot_core.actions.assembly import action_clock, assemble_action, environment_rehearsal
from tbot_core.actions.instance_creation import initial_contents, settings_files
from tbot_core.alerts.delivery import AlertDelivery, MessageWriter
from tbot_core.contracts import Alert, Context, FeedRequest, Urgency
from tbot_core.contracts.credentials import PluginSecrets
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.assembly import Assembly, feed_source
from tbot_core.engine.live.broker_check import BrokerFinding, check_broker
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.engine.rehearsal_run import NOT_SERVED, host_addresses, reaches_out
from tbot_core.errors import TbotError, UsageError
from tbot_core.instance import Instance, Settings, load_settings
from tbot_core.instance.secrets import account_mode
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.model.clock import Clock, SystemClock, exchange_time
from tbot_core.model.formatting import request_words
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.system import filesystem
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.schemas import FieldLocation, fill_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tbot_core.model.types import Account

SHORTS: Final = "shorts"
_SWITCH_OFF: Final = (
    "the account may sell short, and no strategy of STRATEGY_SEQUENCE does: switch short sales off in the account's "
    "configuration at the broker, so that no order can open a short position; the broker's page in docs/brokers names "
    "the setting"
)
_LOGIN_TIMEOUT_S: Final = "10"


def connect_broker(instance: Instance, name: str = "", notify: Notify = discard) -> tuple[str, list[BrokerFinding]]:
    """The name of the broker (default: BROKER_NAME) and what was found there, in the mode of its credentials.

    `notify` gets what `action_clock` says. Raises what `assemble_action` raises.
    """
    live = account_mode(load_settings(instance.home, mode="replay"), name) == "live"
    assembly = assemble_action(instance.home, "live" if live else "paper", notify=notify)
    chosen = name or assembly.settings.trading.broker_name
    return chosen, asyncio.run(assembly.closing(_tested(assembly, chosen)))


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
            made = _login_settings(Instance(folder), settings, loaded)
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
    loaded = next((plugin for plugin in offered if plugin.entry.kind == "broker" and plugin.entry.name == name), None)
    if loaded is None:
        raise UsageError(f"The broker {name} is not installed.", f"Install tbot-broker-{name}, and start again.")
    stored = vault_of_home(home, ready=False, actor=actor).read_section("broker", name)
    credentials = {field: value.inspect() for field, value in stored.items()}
    texts = read_settings_files(Instance.at(home)).known_texts()
    own = {key: text for key, text in texts.items() if key.startswith((f"{name}_".upper(), f"HOST_{name}_".upper()))}
    live = any(field.lower() == "mode" and text.strip().lower() == "live" for field, text in credentials.items())
    return try_login(loaded, own, credentials, live=live, notify=notify), live


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
            words, fault = _try_channel(
                loaded, secrets, identity, _channel_settings(loaded, Instance(folder), variables or {})
            )
        except TbotError as error:
            words, fault = "", str(error)
    return DrillStep(what=name, passed=not fault, words=fault or words or "the message was accepted")


async def _tested(assembly: Assembly, name: str) -> list[BrokerFinding]:
    plugin, clock = assembly.broker(name), assembly.clock
    broker = plugin.for_session(clock)  # it refuses what a run does, as an account in another currency
    if broker.capabilities.simulated:
        return [BrokerFinding(level="ok", subject="login", words=f"{name} is a simulation: there is no login")]
    feed = None
    if assembly.quality(name) is not None:
        request = FeedRequest(kind="live", symbols=assembly.settings.trading.universe, calendar=assembly.calendar)
        feed = feed_source(plugin, name).feed(request)
    findings = await check_broker(broker, assembly.calendar.current(clock.now()), clock, feed)
    if broker.reported_account is None:
        return findings
    return [*findings, *_shorts(broker.reported_account, assembly.settings), *_requests(assembly)]


def _shorts(account: Account, settings: Settings) -> Iterator[BrokerFinding]:
    # What an account may do and no strategy does is better switched off there.
    sells_short = any(settings.frames[name].short_type.lower() == "shortsell" for name in settings.strategies)
    if account.shorting_allowed and not sells_short:
        yield BrokerFinding(level="warn", subject=SHORTS, words=_SWITCH_OFF)


def _requests(assembly: Assembly) -> Iterator[BrokerFinding]:
    # The vendor's limits at the hosts that were reached.
    for host, left, per_minute, _ in assembly.budgets.left():
        words = f"{host}: {request_words(per_minute, left)}"
        yield BrokerFinding(level="ok", subject="requests", words=words)


def _login_settings(instance: Instance, variables: Mapping[str, str], loaded: LoadedPlugin) -> Settings:
    from tbot_core.actions.instance_creation import initial_contents, settings_files

    name, target = loaded.entry.name.upper(), environment_rehearsal()
    addresses = host_addresses(loaded, target) if target else {}
    contents = initial_contents(
        {"env_bot": {**variables, **addresses, "BROKER_NAME": name, "API_TIMEOUT": _LOGIN_TIMEOUT_S}}
    )
    sources = settings_files(instance, contents)
    return load_settings(instance.home, mode="paper", declared=[loaded.declared], sources=sources)


def _try_login(
    loaded: LoadedPlugin, settings: Settings, credentials: Mapping[str, str], clock: Clock, *, live: bool
) -> DrillStep | None:
    from tbot_core.engine.live.broker_check import probe_broker
    from tbot_core.engine.plugin_context import plugin_context
    from tbot_core.execution.broker_port import open_port
    from tbot_core.plugins.call_guard import CallGuard
    from tbot_core.plugins.failure import PluginFailure
    from tbot_core.plugins.loader import build_plugin
    from tbot_core.plugins.network.connector import RequestBudgets
    from tbot_core.plugins.network.request_limits import PRIORITY, RequestPriority

    secrets = PluginSecrets(_login_secrets(loaded, credentials))
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


def _login_secrets(loaded: LoadedPlugin, credentials: Mapping[str, str]) -> dict[str, Any]:
    # An object of the plugin's class for its category `broker`.
    from tbot_core.vault.schemas import FieldLocation, fill_schema

    schema = loaded.declared.secrets.get("broker")
    if schema is None:
        return {}
    fields = {name: Secret(text) for name, text in credentials.items()}
    return {"broker": fill_schema(schema, fields, FieldLocation("broker", "the input", loaded.entry.name))}


def _try_channel(
    loaded: LoadedPlugin, secrets: Mapping[str, Mapping[str, str]], identity: str, settings: Settings | None
) -> tuple[str, str]:
    if settings is None:
        return "", f"It stays silent in this rehearsal: {NOT_SERVED}."
    clock = SystemClock()
    filled = PluginSecrets(_channel_secrets(loaded, secrets))
    context = plugin_context(settings, clock, loaded, RequestBudgets(clock), filled)
    made: Any = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    if isinstance(made, PluginFailure):
        return "", made.sentence
    delivery = AlertDelivery({loaded.entry.name: made}, {Urgency.ROUTINE: (loaded.entry.name,)}, logs_failures=False)
    alert = MessageWriter(mode="paper", identity=identity).compose_test(Urgency.ROUTINE, clock.now())
    return asyncio.run(_sent(delivery, alert, context))


def _channel_settings(loaded: LoadedPlugin, instance: Instance, variables: Mapping[str, str]) -> Settings | None:
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


def _channel_secrets(loaded: LoadedPlugin, secrets: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    # An object of the plugin's class for each category.
    found = {}
    for category, schema in loaded.declared.secrets.items():
        if schema is not None:
            fields = {name: Secret(text) for name, text in secrets.get(category, {}).items()}
            section = loaded.entry.name if CATEGORIES[category].by_plugin else ""
            found[category] = fill_schema(schema, fields, FieldLocation(category, "the input", section))
    return found
