"""Assembles a run: settings, plugins and shipped tables become trading rules and active strategies."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Mapping
from datetime import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core import instance as configuration
from tbot_core.contracts import (
    AlertChannel,
    BrokerCapabilities,
    Context,
    FeedQuality,
    Filter,
    RequiresData,
    RiskCheck,
    Strategy,
)
from tbot_core.contracts.abilities import FEED
from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.engine.index_funds import index_funds
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.engine.run_notes import run_notes
from tbot_core.errors import PluginError, SettingsError, TbotError
from tbot_core.instance import Instance, Settings
from tbot_core.instance.findings import SIMULATED_MODES
from tbot_core.instance.identity import jurisdiction_of, read_identity
from tbot_core.instance.registry import catalogue as variables
from tbot_core.instance.secret_schemas import secret_rules
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.projections.vix import RecordedVix, recorded_vix_in
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import Clock
from tbot_core.model.types import UNITS_PER_SHARE
from tbot_core.model.window import Window, anchor_named, missed_bell, named_window, place_window
from tbot_core.plugins import discovery, isolation, lock, quarantine
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import PluginListing
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.plugins.loader import EVERY_EXTENSION, LoadedPlugin, PluginLoader, build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.plugins.network.plugin_connections import PluginConnections
from tbot_core.plugins.risk_checks import risk_checks
from tbot_core.plugins.trial_records import record_failure, record_run
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.proposals import ActiveStrategy, TradingRules
from tbot_core.vault.error_codes import combined_error

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.contracts import FeedSource
    from tbot_core.contracts.setting import DeclaredConfig
    from tbot_core.instance import Mode, SettingsFiles

T = TypeVar("T")
SIMULATOR: Final = "paper"
"""The broker of replay and demo; they ignore BROKER_NAME."""

DRY_RUN: Final = "dry-run"
"""The mode that decides on live data with the instance's settings, and sends nothing."""

STORED_BARS_MODES: Final = frozenset({"replay", "backtest"})
"""The modes that trade past days."""


@attrs.frozen(kw_only=True, eq=False)
class Assembly:
    """The parts of a run; `failures` are requested plugins that cannot be used, `notes` report them to people.

    `budgets` are the request budgets that its plugins share, `connections` their ways to the network. `decides_as_at`:
    decisions follow the capabilities of this venue instead of those of the broker that fills. `silent_channels`: the
    alert channels of the settings that have no server in this rehearsal.
    """

    settings: Settings
    calendar: ExchangeCalendar
    clock: Clock
    loader: PluginLoader
    loaded: tuple[LoadedPlugin, ...]
    failures: tuple[PluginFailure, ...]
    listings: tuple[PluginListing, ...]
    checks: tuple[tuple[str, RiskCheck], ...]
    call_guard: CallGuard
    identity: str = ""
    notes: tuple[str, ...] = ()
    silent_channels: tuple[str, ...] = ()
    filters: Mapping[str, Filter] = attrs.field(factory=dict)
    _windows: dict[time, tuple[Window, ...]] = attrs.field(factory=dict, init=False)
    _placed: dict[tuple[Window, ...], tuple[ActiveStrategy, ...]] = attrs.field(factory=dict, alias="placed")
    budgets: RequestBudgets = attrs.Factory(lambda self: RequestBudgets(self.clock), takes_self=True)
    connections: PluginConnections = attrs.field(factory=PluginConnections)
    decides_as_at: BrokerCapabilities | None = None

    def __attrs_post_init__(self) -> None:
        self.call_guard.on_plugin_off = self.connections.close_plugin

    @property
    def typical_volume(self) -> bool:
        """Whether a filter uses the volume of the same minutes of previous sessions."""
        return any(isinstance(one, RequiresData) and "typical_volume" in one.needs for one in self.filters.values())

    @functools.cached_property
    def recorded_vix(self) -> RecordedVix:
        """The VIX recorded by live sessions, for a replay or a backtest with VIX_SOURCE=live."""
        settings = self.settings
        wanted = settings.mode in STORED_BARS_MODES and settings.trading.vix_source == "live"
        return recorded_vix_in(settings.instance.journal) if wanted else {}

    @functools.cached_property
    def extensions(self) -> tuple[tuple[LoadedPlugin, Any], ...]:
        """The enabled extensions, each built once a run; one that cannot be built is reported and left out."""
        found = []
        for loaded in (one for one in self.loaded if one.entry.kind == "extension"):
            try:
                found.append((loaded, self.build(loaded)))
            except TbotError as fault:
                self.call_guard.report_extension(loaded.entry, fault, fault.message)
        return tuple(found)

    def record_plugins(self) -> None:
        """Record how the plugins loaded in this run, for `tbot plugins list`."""
        record_run(self.settings.instance.data, self.loaded, self.failures, self.listings, self.clock.now())

    def rules(self, venue: BrokerCapabilities) -> TradingRules:
        """The rules of decisions at a venue."""
        settings, entries = self.settings, self.settings.entries
        if settings.mode in {*SIMULATED_MODES, DRY_RUN}:  # without confirmations
            entries = attrs.evolve(entries, trade_confirmation_required=False)
        fixed = settings.simulation.fixed_quantity if settings.mode in SIMULATED_MODES else 0
        return TradingRules(
            risk=settings.risk,
            entries=entries,
            exits=settings.exits,
            venue=self.decides_as_at or venue,
            filters=self.filters,
            missing_rejects=settings.trading.filter_missing_data == "reject",
            blocklist=frozenset(settings.trading.blocklist),
            watch_only=frozenset(settings.trading.watch_only),
            universe_max=settings.trading.universe_max,
            fixed_units=fixed * UNITS_PER_SHARE,
            indices=index_funds(),
            rebalance=settings.rebalance,
        )

    def entrants(self, session: Session) -> tuple[ActiveStrategy, ...]:
        """The strategies of a session with their windows, in STRATEGY_SEQUENCE's order.

        Sessions with equal windows share one tuple.
        """
        bell = session.open.timetz()  # with a session's date and time zone it places windows
        if bell not in self._windows:
            anchor = anchor_named(self.settings.trading.time_anchor)
            named = [named_window(name, self.settings.frames[name]) for name in self.settings.strategies]
            self._windows[bell] = tuple(place_window(one, session, anchor) for one in named)
        windows = self._windows[bell]
        if windows not in self._placed:
            self._placed[windows] = tuple(self._entrant(rank, window) for rank, window in enumerate(windows))
        return self._placed[windows]

    def simulated_ids(self) -> ClientOrderIds:
        """The client order ids of replay, demo and backtest; they are the same on every machine, as the results are."""
        return ClientOrderIds(install_id="", identity=self.identity, account_id="")

    def missed_bells(self, session: Session) -> tuple[str, ...]:
        """A sentence for each window that TIME_ANCHOR=utc shifts against this session's open."""
        anchor = anchor_named(self.settings.trading.time_anchor)
        named = (named_window(name, self.settings.frames[name]) for name in self.settings.strategies)
        sentences = (missed_bell(one, session, anchor) for one in named)
        return tuple(sentence for sentence in sentences if sentence is not None)

    def broker(self, name: str = SIMULATOR) -> Any:
        """Build the broker of this name; raises PluginError if it is not loaded."""
        return self.build(self._of("broker", name))

    def quality(self, name: str) -> FeedQuality | None:
        """The declared quality of this broker's live feed; None without one."""
        plugin = self._of("broker", name).plugin
        return None if plugin.quality is None else plugin.quality(self.settings.plugin_config(plugin.config))

    def channel(self, name: str) -> AlertChannel:
        """Build the alert channel of this name; raises PluginError if it is not loaded."""
        made: AlertChannel = self.build(self._of("alert", name))
        return made

    def build(self, loaded: LoadedPlugin, strategy: str | None = None, window: Window | None = None) -> Any:
        """Build a plugin's object from the settings; raises PluginError if that fails."""
        return self._make(loaded, self._context(loaded), strategy, window)

    def _context(self, loaded: LoadedPlugin) -> Context:
        context = plugin_context(self.settings, self.clock, loaded, self.budgets)
        context = attrs.evolve(context, jurisdiction=jurisdiction_of(self.identity))
        self.connections.add(f"{loaded.entry.kind}/{loaded.entry.name}", context.connect)
        return context

    def _make(
        self, loaded: LoadedPlugin, context: Context, strategy: str | None = None, window: Window | None = None
    ) -> Any:
        config = self.settings.plugin_config(loaded.plugin.config, strategy, window=window)
        made = build_plugin(loaded, config, context)
        if isinstance(made, PluginFailure):
            raise plugins_failed_error((made,))
        live = {"live": True, "paper": False}.get(self.settings.mode)
        return guard_plugin(loaded.entry, made, self.call_guard, live=live)

    async def closing(self, work: Awaitable[T]) -> T:
        """Await the work, then close the network connections of all plugins, within some seconds."""
        try:
            return await work
        finally:
            await self.connections.close()

    def check_tables(self) -> None:
        """Rebuild the strategies and filters that read the operator's tables; raises PluginError for an invalid one.

        Isolated plugins read no tables.
        """
        deciding = {"strategy": self.settings.strategies, "filter": self.settings.filters}
        for one in self.loaded:
            kind, name = one.entry.kind, one.entry.name
            here = one.plugin.tables and self.loader.manager.is_registered(one.subject)
            if here and name in deciding.get(kind, ()):
                context = self._context(one)
                try:
                    self._make(one, context, name if kind == "strategy" else None)
                finally:
                    self.connections.remove(f"{kind}/{name}", context.connect)

    def check_secrets(self) -> None:
        """Raise VaultError, with all faults, if secrets that the plugins of this run need are missing or wrong."""
        rules, settings = secret_rules(_declared(self.loaded), required=True), self.settings
        needed = sorted({category for category, _ in rules.required})
        if not needed:
            return
        vault = open_instance_vault(settings.instance, settings.deployment, live=settings.mode == "live")
        faults = [fault for one in needed for fault in vault.category_faults(one, rules.fields, rules.required)]
        if faults:
            raise combined_error(faults)

    def _entrant(self, rank: int, window: Window) -> ActiveStrategy:
        name = self.settings.strategies[rank]
        strategy: Strategy = self.build(self._of("strategy", name), name, window)
        return ActiveStrategy(name=name, rank=rank, strategy=strategy, frame=self.settings.frames[name])

    def _of(self, kind: str, name: str) -> LoadedPlugin:
        for one in self.loaded:
            if (one.entry.kind, one.entry.name) == (kind, name):
                return one
        raise PluginError(f"The {kind} {name} is not installed.", "`tbot plugins list` shows the installed plugins.")


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
    declared = _declared(loaded)
    settings = configuration.load_settings(home, mode=mode, declared=declared, overrides=overrides, sources=sources)
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


def with_filters(assembly: Assembly) -> Assembly:
    """The assembly with its filters created."""
    named = {one.entry.name: one for one in assembly.loaded if one.entry.kind == "filter"}
    made = {name: assembly.build(named[name]) for name in assembly.settings.filters if name in named}
    return attrs.evolve(assembly, filters=made)


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


def feed_source(broker: object, name: str) -> FeedSource:
    """The broker as a source of bars; raises PluginError if it is none."""
    source = FEED.of(broker)
    if source is None:
        raise PluginError(f"The broker {name} supplies no bars.", "Set DATA_SOURCE to another plugin.")
    return source


def _unapproved(
    instance: Instance, listings: tuple[PluginListing, ...], texts: Mapping[str, str], mode: Mode
) -> tuple[str, ...]:
    # Warnings about unapproved plugins; live trading refuses them here, before any import.
    if mode == "live":
        lock.require_locked(instance.home, listings)
    elif mode in {"paper", DRY_RUN} and (texts.get("ENVIRONMENT") or "production").strip().lower() == "production":
        sentences = lock.lock_objections(instance.home, listings)
        more = f" {len(sentences) - 1} more: `tbot plugins verify` shows all." if len(sentences) > 1 else ""
        return tuple(f"Live trading would refuse the plugins: {one}{more}" for one in sentences[:1])
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


def _declared(loaded: tuple[LoadedPlugin, ...]) -> list[DeclaredConfig]:
    return [one.declared for one in loaded]
