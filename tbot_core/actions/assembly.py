"""The parts of an action that reaches a broker: at the broker's hosts, or at the rehearsal of TBOT_REHEARSAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.actions import discard
from tbot_core.engine.rehearsal_target import rehearsal_target
from tbot_core.errors import UsageError
from tbot_core.instance.folder import REHEARSAL_VARIABLE
from tbot_core.model.clock import SystemClock, exchange_time
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.actions import Notify
    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.rehearsal_target import RehearsalTarget
    from tbot_core.instance import Mode, SettingsFiles
    from tbot_core.model.clock import Clock


SIMULATED: Final = "PAPER"
"""The broker without an account of a vendor."""


def is_rehearsed() -> bool:
    """Whether TBOT_REHEARSAL names a rehearsal, at whose servers actions are done."""
    return bool(environ.variable(REHEARSAL_VARIABLE))


def environment_rehearsal() -> RehearsalTarget | None:
    """The target of TBOT_REHEARSAL; None if it is unset or empty. Raises UsageError for an invalid one."""
    text = environ.variable(REHEARSAL_VARIABLE)
    return rehearsal_target(text, SystemClock().now()) if text else None


def assert_no_rehearsal(command: str) -> None:
    """Raises UsageError if TBOT_REHEARSAL is set: this command is for the account itself."""
    if is_rehearsed():
        message = (
            f"`tbot {command}` is for the live account, and {REHEARSAL_VARIABLE} is set: a rehearsal has no money."
        )
        raise UsageError(message, f"Unset {REHEARSAL_VARIABLE} first.")


def action_clock(notify: Notify = discard) -> Clock:
    """The machine's clock; that of the rehearsal where TBOT_REHEARSAL names one, of which `notify` gets a sentence."""
    target = environment_rehearsal()
    if target is None:
        return SystemClock()
    from tbot_core.engine.rehearsal_run import rehearsal_clock

    clock = rehearsal_clock(target.opens)
    broker_time = f"{exchange_time(clock.now()):%Y-%m-%d %H:%M:%S} New York"
    notify(f"REHEARSAL ({REHEARSAL_VARIABLE}): the broker is at {target.url}, where it is {broker_time}.")
    return clock


def assemble_action(
    home: Path | None,
    mode: Mode,
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
    notify: Notify = discard,
) -> Assembly:
    """The parts of an action as `assemble` makes them, with `action_clock`; those of a rehearsal at its servers.

    A dry run with the credentials of a live account is refused what a live run is. Raises what `assemble` raises,
    UsageError for an invalid target, and SettingsError for a live account at one.
    """
    from tbot_core.engine.assembly import DRY_RUN
    from tbot_core.engine.bootstrap import assemble
    from tbot_core.engine.rehearsal_run import assemble_rehearsal, live_refusal
    from tbot_core.instance import Instance, read_settings_files

    files = sources or read_settings_files(Instance.at(home), live=mode == "live")
    target = environment_rehearsal()
    if mode == DRY_RUN and uses_live_credentials(home, files, (overrides or {}).get("DATA_SOURCE", "")) and target:
        raise live_refusal()
    clock = action_clock(notify)
    return (
        assemble(home, mode, clock, overrides, files)
        if target is None
        else assemble_rehearsal(target, home, mode, overrides, files)
    )


def settings_warnings(assembly: Assembly) -> tuple[str, ...]:
    """Warnings about the settings of a run; those without effect are listed in one."""
    from tbot_core.instance.report import settings_without_effect

    installed = [(listing.entry.kind, listing.entry.name) for listing in assembly.listings]
    found = settings_without_effect(assembly.settings.values, installed)
    idle = [f"Enabled, but its plugin is not installed: {', '.join(found)}."] if found else []
    return (*map(str, assembly.settings.warnings), *idle)


def uses_live_credentials(home: Path | None, found: SettingsFiles, source: str = "") -> bool:
    """Whether a dry run uses the credentials of a live account for its data: then the checks of a live run apply.

    `source` is the plugin that supplies the data, "" for that of the settings. Raises PluginError if a plugin is
    enabled that live trading would not import.
    """
    from tbot_core.engine.bootstrap import data_source_name
    from tbot_core.errors import VaultError
    from tbot_core.instance import Instance, load_settings, plugins_enabled
    from tbot_core.instance.secrets import account_mode
    from tbot_core.plugins import discovery, lock
    from tbot_core.vault.error_codes import VaultErrorCode

    texts = found.known_texts()
    source = source or data_source_name(texts)
    if source == SIMULATED.lower():
        return False
    try:
        if account_mode(load_settings(home, mode="replay", sources=found), source) != "live":
            return False
    except VaultError as fault:
        if fault.code != VaultErrorCode.CONTENT_ABSENT.text:
            raise
        return False  # a source without credentials has no account
    enabled = discovery.mark_enabled(discovery.installed_plugins(), plugins_enabled(texts))
    lock.require_locked(Instance.at(home).home, enabled)
    return True
