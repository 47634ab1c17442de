"""The alert channels of an instance before it trades: their secrets, and whether their services can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.actions.assembly import environment_rehearsal
from tbot_core.contracts import Context, SupportsConnectionCheck
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.errors import TbotError, VaultError
from tbot_core.instance.preflight_subject import PreflightFinding
from tbot_core.model.clock import SystemClock
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.system.foreign_exceptions import assert_failure, exception_text
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.actions.plugin_declarations import PluginDeclarations
    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.instance import Settings


def alert_findings(named: Settings, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """One finding for each channel of the settings. Nothing is sent: a channel connects and logs in where it can.

    A service that does not answer is a warning: a bot that starts again manages its positions all the same.
    """
    settings: Settings = named
    silent: tuple[PreflightFinding, ...] = ()
    try:
        if target := environment_rehearsal():
            settings, silent = _rehearsed(named, plugins, target)
    except TbotError:
        return  # each of these faults has its own row
    yield from silent
    own = settings.notifications
    for name in dict.fromkeys((*own.critical_alert_channel, *own.routine_alert_channel)):
        if name in plugins.channels:
            yield from _finding(settings, plugins.channels[name])


def _rehearsed(
    named: Settings, plugins: PluginDeclarations, target: RehearsalTarget
) -> tuple[Settings, tuple[PreflightFinding, ...]]:
    # The settings at the rehearsal, and a warning for each channel that has no server there.
    from tbot_core.engine.rehearsal_run import NOT_SERVED, settings_at, silent_channels

    placed = settings_at(named, plugins.channels.values(), target)
    words = (
        f"Alert channel {name}: it stays silent in this rehearsal: {NOT_SERVED}."
        for name in silent_channels(named, placed)
    )
    return placed, tuple(PreflightFinding(level="warn", subject="alerts", message=message) for message in words)


def _finding(settings: Settings, loaded: LoadedPlugin) -> Iterator[PreflightFinding]:
    what, needs, clock = f"Alert channel {loaded.entry.name}", loaded.plugin.needs, SystemClock()
    test = f"`tbot alerts test {loaded.entry.name}`"
    try:
        context = plugin_context(settings, clock, loaded, RequestBudgets(clock))
    except VaultError:
        return  # the rows of secrets name it
    except TbotError as fault:
        message = f"{what}: {fault.message}"
        yield PreflightFinding(
            level="fail", subject="alerts", message=message, remedy=fault.remedy, exit_code=fault.exit_code
        )
        return
    made = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    if isinstance(made, PluginFailure):
        return  # it has its own row
    there = "its secrets are there" if needs.secrets else "it needs no secrets"
    if not isinstance(made, SupportsConnectionCheck):
        sentence, remedy = f"{what}: {there}.", ""
        if needs.hosts or needs.own_network:
            remedy = f"Its service cannot be tried without a message: {test} sends one."
        yield PreflightFinding(level="ok", subject="alerts", message=sentence, remedy=remedy)
        return
    words, fault_words = _answer(made, context)
    if fault_words:
        message = f"{what}: {there}, but it cannot deliver: {fault_words.rstrip('.')}."
        yield PreflightFinding(level="warn", subject="alerts", message=message, remedy=f"{test} tries it again.")
    else:
        yield PreflightFinding(level="ok", subject="alerts", message=f"{what}: {there}, and it answers: {words}.")


def _answer(channel: SupportsConnectionCheck, context: Context) -> tuple[str, str]:
    # The words of the service, or why there are none. A channel that connects nowhere needs no event loop.
    import asyncio

    from tbot_core.alerts.delivery import SEND_S

    async def connect() -> tuple[str, str]:
        try:
            async with asyncio.timeout(SEND_S):
                return redact(await channel.check_connection()), ""
        except BaseException as fault:  # noqa: BLE001  -- the border of an alert channel
            assert_failure(fault, awaited=True)
            late = type(fault) is TimeoutError
            return "", redact(f"It took longer than {SEND_S:g} s." if late else exception_text(fault))
        finally:
            await context.connect.close()

    return asyncio.run(connect())
