"""Assembles a run: settings, plugins and shipped tables become trading rules and active strategies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core import instance as configuration
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.assembly import DRY_RUN, SIMULATOR, Assembly, declared_configs, run_notes, with_filters
from tbot_core.errors import SettingsError
from tbot_core.instance import Instance, Mode, Settings, SettingsFiles
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.identity import read_identity
from tbot_core.instance.loading import assert_trial_is_known
from tbot_core.instance.registry import catalogue as variables
from tbot_core.plugins import discovery, isolation, lock, quarantine
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.hook_calls import risk_checks
from tbot_core.plugins.loader import EVERY_EXTENSION, LoadedPlugin, PluginLoader
from tbot_core.plugins.trial_records import record_failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tbot_core.model.clock import Clock
    from tbot_core.plugins.discovery import PluginListing


def assemble(
    home: Path | str | None,
    mode: Mode,
    clock: Clock,
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
) -> Assembly:
    """The parts of a run, its filters created: `load_assembly`, then `with_filters`."""
    return with_filters(load_assembly(home, mode, clock, overrides, sources))


def load_assembly(
    home: Path | str | None,
    mode: Mode,
    clock: Clock,
    overrides: Mapping[str, str] | None = None,
    sources: SettingsFiles | None = None,
) -> Assembly:
    """Import the enabled plugins, check the settings against their declarations, build the risk checks.

    `sources` are the settings files, if read before. Live trading imports only what plugins.lock approves. Raises
    SettingsError for invalid settings, and PluginError for a plugin that is not approved, and for one that is absent or
    broken: a strategy or broker in any mode, any plugin outside simulations.
    """
    sources = sources or configuration.read_settings_files(Instance.at(home), live=mode == "live")
    texts = {**sources.texts(), **(overrides or {})}
    listings = discovery.mark_enabled(discovery.installed_plugins(), configuration.plugins_enabled(texts))
    warnings = _unapproved(Instance.at(home), listings, texts, mode)
    named = _wanted(texts, mode) if sources.bot.exists or mode == "demo" else []
    if mode != "live":  # live, every plugin is approved file by file: there is nothing to try first
        configuration.load_settings(home, mode=mode, overrides=overrides, sources=sources, installed=_names(listings))
        _check_installed(named, listings, mode)
    wanted, held = quarantine.quarantine_broken(named, listings, Instance.at(home).data, clock.now())
    loaded, failed = _offers(loader := PluginLoader(), wanted, listings, Instance.at(home).data)
    checks, unchecked = risk_checks(loader, loaded, call_guard := _call_guard(Instance.at(home), clock, mode))
    declared = declared_configs(loaded)
    settings = configuration.load_settings(home, mode=mode, declared=declared, overrides=overrides, sources=sources)
    assert_trial_is_known(settings)
    _refuse(failures := (*held, *failed, *unchecked), mode)
    assembly = Assembly(
        settings=settings,
        calendar=calendar_of(settings.trading),
        clock=clock,
        loader=loader,
        loaded=loaded,
        failures=failures,
        listings=listings,
        checks=checks,
        call_guard=call_guard,
        identity=_identity(settings),
    )
    return attrs.evolve(assembly, notes=run_notes(settings, assembly.identity, failures, warnings))


def _offers(
    loader: PluginLoader, wanted: set[tuple[str, str]], listings: tuple[PluginListing, ...], folder: Path
) -> tuple[tuple[LoadedPlugin, ...], tuple[PluginFailure, ...]]:
    # The plugins of a run: imported here, except isolated ones.
    isolated = isolation.isolated_plugins(wanted)
    loaded, failed = loader.offers(wanted - isolated, listings)
    kinds = {name: one.declaration.kind for name, one in variables(()).variables.items()}
    described, unknown = isolation.isolated_offers(isolated, listings, folder, kinds)
    return tuple(sorted((*loaded, *described), key=lambda one: one.entry)), (*failed, *unknown)


def _call_guard(instance: Instance, clock: Clock, mode: Mode) -> CallGuard:
    # A plugin failure ends a simulation, but no other run.
    return CallGuard(
        strict=mode in SIMULATED_MODES,
        clock=clock,
        record=lambda entry, failure: record_failure(instance.data, entry, failure, clock.now()),
    )


def _check_installed(named: list[tuple[str, str]], listings: tuple[PluginListing, ...], mode: Mode) -> None:
    # Refuse a run with missing plugins before any plugin is tried and anything is written.
    known = _names(listings) | {EVERY_EXTENSION}
    _, absent = PluginLoader().offers([pair for pair in named if pair not in known], listings)
    _refuse(absent, mode)


def _names(listings: tuple[PluginListing, ...]) -> set[tuple[str, str]]:
    # Kind and name of each installed plugin.
    return {(one.entry.kind, one.entry.name) for one in listings}


def _refuse(failures: tuple[PluginFailure, ...], mode: Mode) -> None:
    # Raise PluginError for failed plugins that this mode requires.
    fatal = tuple(one for one in failures if mode not in SIMULATED_MODES or one.kind in {"broker", "strategy"})
    if fatal:
        raise plugins_failed_error(fatal)


def _identity(settings: Settings) -> str:
    # Optional except in live trading.
    found = read_identity(settings.instance, settings.deployment, live=settings.mode == "live")
    if found is None and settings.mode == "live":
        raise SettingsError("Live trading needs a bot identity, but none is set.", "`tbot init` creates it.")
    return "" if found is None else found.text


def data_source_name(texts: Mapping[str, str]) -> str:
    """The plugin that supplies bars: DATA_SOURCE, else that of BROKER_NAME."""
    named = (texts.get(name, "").strip().lower() for name in ("DATA_SOURCE", "BROKER_NAME"))
    return next((name for name in named if name), SIMULATOR)


def _unapproved(
    instance: Instance, listings: tuple[PluginListing, ...], texts: Mapping[str, str], mode: Mode
) -> tuple[str, ...]:
    # Warnings about unapproved plugins; live trading refuses them here, before any import.
    if mode == "live":
        lock.require_locked(instance.home, listings)
    elif mode in {"paper", DRY_RUN} and (texts.get("ENVIRONMENT") or "production").strip().lower() == "production":
        return tuple(filter(None, (lock.refusal_sentence(lock.lock_objections(instance.home, listings)),)))
    return ()


def _wanted(texts: Mapping[str, str], mode: Mode) -> list[tuple[str, str]]:
    # The plugins of a run; simulations and dry runs use the simulator and no alert channels.
    enabled = sorted(configuration.plugins_enabled(texts))
    if mode not in {*SIMULATED_MODES, DRY_RUN}:
        return enabled
    brokers = [] if mode == "backtest" else [("broker", SIMULATOR)]
    if mode == DRY_RUN:
        brokers = sorted({*brokers, ("broker", data_source_name(texts))})
    return [pair for pair in enabled if pair[0] in {"strategy", "filter", "extension"}] + brokers
