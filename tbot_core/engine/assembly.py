"""A run's parts: settings, plugins and shipped tables as trading rules and active strategies, with notes for people."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from tbot_core import instance as configuration
from tbot_core.contracts import (
    AlertChannel,
    BrokerCapabilities,
    Context,
    FeedQuality,
    FeedSource,
    Filter,
    RequiresDailyBars,
    RequiresData,
    RiskCheck,
    Strategy,
)
from tbot_core.contracts.abilities import FEED
from tbot_core.contracts.feed import ExtraFacts
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.errors import PluginError, TbotError
from tbot_core.execution.broker_port import BrokerPort, open_port
from tbot_core.instance import Settings
from tbot_core.instance.findings import OPTION, SIMULATED_MODES, TRIAL, printable_value
from tbot_core.instance.identity import jurisdiction_of
from tbot_core.instance.index_funds import NAME, FundTable, parse_fund_table, read_fund_table
from tbot_core.instance.plugin_settings import off_by_filters
from tbot_core.instance.secret_schemas import secret_rules
from tbot_core.instance.secrets import open_instance_vault
from tbot_core.journal.projections.vix import RecordedVix, recorded_vix_in
from tbot_core.model.calendar import ExchangeCalendar, Session
from tbot_core.model.clock import Clock
from tbot_core.model.types import UNITS_PER_SHARE
from tbot_core.model.window import Window, anchor_named, missed_bell, named_window, place_window
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import PluginListing
from tbot_core.plugins.failure import PluginFailure, plugins_failed_error
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader, build_plugin
from tbot_core.plugins.network.connector import PluginConnections, RequestBudgets
from tbot_core.plugins.trial_records import record_run
from tbot_core.system import filesystem
from tbot_core.trading.orders import ClientOrderIds
from tbot_core.trading.proposals import ActiveStrategy, TradingRules
from tbot_core.vault.error_codes import combined_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.contracts.setting import DeclaredConfig

T = TypeVar("T")
SIMULATOR: Final = "paper"
"""The broker of replay and demo; they ignore BROKER_NAME."""

DRY_RUN: Final = "dry-run"
"""The mode that decides on live data with the instance's settings, and sends nothing."""

STORED_BARS_MODES: Final = frozenset({"replay", "backtest"})
"""The modes that trade past days."""

_INDEX_FUNDS: Final = Path(__file__).with_name("index_funds.csv")
_NAMELESS: Final = (
    "The bot has no identity, so its client order ids contain no identity: `tbot secrets set bot_identity` sets it."
)
_SHORTABLE: Final = "Simulated short sales: every symbol is assumed to be shortable and easy to borrow."


class EqualPlugins:
    """Objects of plugins, so that assemblies with equal settings for a plugin share its object."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: tuple[Hashable, ...], make: Callable[[], T]) -> T:
        """What `make()` returned for this key; it is made each time if a part of the key has no hash."""
        try:
            hash(key)
        except TypeError:
            return make()
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found


@attrs.frozen(kw_only=True, eq=False)
class Assembly:
    """The parts of a run; `failures` are requested plugins that cannot be used, `notes` report them to people.

    `budgets` are the request budgets that its plugins share, `connections` their ways to the network. `decides_as_at`:
    decisions follow the capabilities of this venue instead of those of the broker that fills. `silent_channels`: the
    alert channels of the settings that have no server in this rehearsal. `equal`: what it shares with others.
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
    _by_bell: dict[time, tuple[ActiveStrategy, ...]] = attrs.field(factory=dict, init=False)
    _placed: dict[tuple[Window, ...], tuple[ActiveStrategy, ...]] = attrs.field(factory=dict, alias="placed")
    equal: EqualPlugins | None = None
    budgets: RequestBudgets = attrs.Factory(lambda self: RequestBudgets(self.clock), takes_self=True)
    connections: PluginConnections = attrs.field(factory=PluginConnections)
    decides_as_at: BrokerCapabilities | None = None

    def __attrs_post_init__(self) -> None:
        self.call_guard.on_plugin_off = self.connections.close_plugin

    @property
    def extra_facts(self) -> ExtraFacts:
        """What the filters and strategies of this run need beyond the facts that every run has."""
        needs = {name for one in self.filters.values() if isinstance(one, RequiresData) for name in one.needs}
        entrants = self.entrants(self.calendar.current(self.clock.now()))
        days = (one.strategy.daily_bars for one in entrants if isinstance(one.strategy, RequiresDailyBars))
        return ExtraFacts(typical_volume="typical_volume" in needs, daily_bars=max(days, default=0))

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
            indices=index_funds(settings.instance.table(NAME)),
            rebalance=settings.rebalance,
        )

    def entrants(self, session: Session) -> tuple[ActiveStrategy, ...]:
        """The strategies of a session with their windows, in STRATEGY_SEQUENCE's order.

        Sessions with equal windows share one tuple.
        """
        bell = session.open.timetz()  # with a session's date and time zone it places windows
        if bell not in self._by_bell:
            anchor = anchor_named(self.settings.trading.time_anchor)
            named = [named_window(name, self.settings.frames[name]) for name in self.settings.strategies]
            windows = tuple(place_window(one, session, anchor) for one in named)
            if windows not in self._placed:
                self._placed[windows] = tuple(self._entrant(rank, window) for rank, window in enumerate(windows))
            self._by_bell[bell] = self._placed[windows]
        return self._by_bell[bell]

    def simulated_ids(self) -> ClientOrderIds:
        """The client order ids of replay, demo and backtest; they are the same on every machine, as the results are."""
        return ClientOrderIds(install_id="", identity=self.identity, account_id="")

    def missed_bells(self, session: Session) -> tuple[str, ...]:
        """A sentence for each window that TIME_ANCHOR=utc shifts against this session's open."""
        anchor = anchor_named(self.settings.trading.time_anchor)
        named = (named_window(name, self.settings.frames[name]) for name in self.settings.strategies)
        sentences = (missed_bell(one, session, anchor) for one in named)
        return tuple(sentence for sentence in sentences if sentence is not None)

    def broker(self, name: str = SIMULATOR) -> BrokerPort:
        """Build the broker of this name; raises PluginError if it is not loaded."""
        port: BrokerPort = self.build(self._of("broker", name))
        return port

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
        if loaded.entry.kind == "broker":
            return open_port(loaded.entry, made, self.call_guard, live=live)
        return guard_plugin(loaded.entry, made, self.call_guard)

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
        for one in self._readers():
            self._try(one)

    def check_table(self, name: str, folder: Path) -> None:
        """Build the strategies and filters that read this table with the one in `folder`, as the operator's own.

        Raises PluginError if one of them refuses it.
        """
        for one in self._readers(name):
            self._try(one, folder)

    def reads_table(self, name: str) -> bool:
        """Whether a strategy or filter of this run reads a table of this name."""
        return any(self._readers(name))

    def _readers(self, name: str | None = None) -> Iterator[LoadedPlugin]:
        # The strategies and filters that read the table, or any; isolated ones read none.
        deciding = {"strategy": self.settings.strategies, "filter": self.settings.filters}
        for one in self.loaded:
            reads = one.plugin.tables if name is None else name in one.plugin.tables
            decides = one.entry.name in deciding.get(one.entry.kind, ())
            if reads and decides and self.loader.manager.is_registered(one.subject):
                yield one

    def _try(self, one: LoadedPlugin, tables: Path | None = None) -> None:
        # Build it, with the tables of this folder.
        kind, name = one.entry.kind, one.entry.name
        context = self._context(one)
        given = context if tables is None else attrs.evolve(context, tables_dir=tables)
        try:
            self._make(one, given, name if kind == "strategy" else None)
        finally:
            self.connections.remove(f"{kind}/{name}", context.connect)

    def check_secrets(self) -> None:
        """Raise VaultError, with all faults, if secrets that the plugins of this run need are missing or wrong."""
        rules, settings = secret_rules(declared_configs(self.loaded), required=True), self.settings
        needed = sorted({category for category, _ in rules.required})
        if not needed:
            return
        vault = open_instance_vault(settings.instance, settings.deployment, live=settings.mode == "live")
        faults = [fault for one in needed for fault in vault.category_faults(one, rules.fields, rules.required)]
        if faults:
            raise combined_error(faults)

    def _entrant(self, rank: int, window: Window) -> ActiveStrategy:
        settings, name = self.settings, self.settings.strategies[rank]
        loaded, frame = self._of("strategy", name), settings.frames[name]

        def make() -> ActiveStrategy:
            strategy: Strategy = self.build(loaded, name, window)
            return ActiveStrategy(name=name, rank=rank, strategy=strategy, frame=frame)

        config = settings.plugin_config(loaded.plugin.config, name, window=window)
        return _once(self, (name, rank, frame, config), make)

    def _of(self, kind: str, name: str) -> LoadedPlugin:
        for one in self.loaded:
            if (one.entry.kind, one.entry.name) == (kind, name):
                return one
        raise PluginError(f"The {kind} {name} is not installed.", "`tbot plugins list` shows the installed plugins.")


def with_filters(assembly: Assembly) -> Assembly:
    """The assembly with its filters created."""
    named = {one.entry.name: one for one in assembly.loaded if one.entry.kind == "filter"}
    filters = {name: _filter(assembly, named[name]) for name in assembly.settings.filters if name in named}
    return attrs.evolve(assembly, filters=filters)


def _filter(assembly: Assembly, loaded: LoadedPlugin) -> Filter:
    config = assembly.settings.plugin_config(loaded.plugin.config)
    made: Filter = _once(assembly, (loaded.entry.name, config), lambda: assembly.build(loaded))
    return made


def _once(assembly: Assembly, key: tuple[Hashable, ...], make: Callable[[], T]) -> T:
    return make() if assembly.equal is None else assembly.equal.once(key, make)


class ChangedAssemblies:
    """Assemblies with some settings of one changed; equal filters, strategies and calendars are shared."""

    def __init__(self, assembly: Assembly) -> None:
        instance = assembly.settings.instance
        self._calendars = [assembly.calendar]
        self._assembly = attrs.evolve(assembly, equal=EqualPlugins())
        self._sources = configuration.read_settings_files(instance, live=assembly.settings.mode == "live")

    def of(self, changes: Mapping[str, str]) -> Assembly:
        """The assembly with these settings, by variable.

        Raises SettingsError for invalid settings, PluginError for a strategy or filter that was not loaded.
        """
        settings = self._assembly.settings
        given = {name: one.text for name, one in settings.values.items() if one.origin in {OPTION, TRIAL}}
        changed = configuration.load_settings(
            settings.instance.home,
            mode=settings.mode,
            declared=declared_configs(self._assembly.loaded),
            overrides={**given, **changes},
            sources=self._sources,
        )
        known = {(one.entry.kind, one.entry.name) for one in self._assembly.loaded}
        wanted = [("strategy", one) for one in changed.strategies] + [("filter", one) for one in changed.filters]
        for kind, name in (one for one in wanted if one not in known):
            words = ", ".join(f"{key}={text}" for key, text in changes.items())
            raise PluginError(
                f"The {kind} {name} of the set {words} was not loaded.",
                "Name the strategies and filters of all sets in STRATEGY_SEQUENCE and FILTERS of the instance.",
            )
        calendar = self._equal(calendar_of(changed.trading))
        return with_filters(attrs.evolve(self._assembly, settings=changed, calendar=calendar, placed={}))

    def _equal(self, calendar: ExchangeCalendar) -> ExchangeCalendar:
        # The calendar itself, or an equal one that an earlier assembly has.
        if calendar not in self._calendars:
            self._calendars.append(calendar)
        return self._calendars[self._calendars.index(calendar)]


def feed_source(broker: object, name: str) -> FeedSource:
    """The broker as a source of bars; raises PluginError if it is none."""
    source = FEED.of(broker)
    if source is None:
        raise PluginError(f"The broker {name} supplies no bars.", "Set DATA_SOURCE to another plugin.")
    return source


def declared_configs(loaded: tuple[LoadedPlugin, ...]) -> list[DeclaredConfig]:
    """The settings classes of loaded plugins."""
    return [one.declared for one in loaded]


def index_funds(path: Path | None = None) -> FundTable:
    """The operator's table of index funds at `path`, else the shipped one.

    Raises AccessError if another user can write the operator's, DataError with all its faults.
    """
    own = None if path is None else read_fund_table(path)
    return parse_fund_table(filesystem.read_text(_INDEX_FUNDS), NAME) if own is None else own


def run_notes(
    settings: Settings, identity: str, failures: Iterable[PluginFailure], warnings: Iterable[str]
) -> tuple[str, ...]:
    """The notes of a run, with these warnings; a demo needs no identity."""
    assumed = shortable_notes(settings) if settings.mode in SIMULATED_MODES else ()
    absent = (f"Not applied: {one.kind} {one.name} ({one.error})" for one in failures)
    nameless = not identity and settings.mode != "demo"
    off = off_by_filters(settings.filters_off)
    return (*absent, *((off,) if off else ()), *warnings, *assumed, *((_NAMELESS,) if nameless else ()))


def trial_notes(settings: Settings) -> tuple[str, ...]:
    """The settings that `--set` changed for this run, in one sentence for the label of its bars; none without any."""
    tried = [f"{name}={printable_value(one.text)}" for name, one in settings.values.items() if one.origin == TRIAL]
    return (f"Set for this run: {', '.join(sorted(tried))}.",) if tried else ()


def shortable_notes(settings: Settings) -> tuple[str, ...]:
    """What a simulation assumes about short sales, if a strategy makes any."""
    sells_short = any(settings.frames[name].short_type.lower() == "shortsell" for name in settings.strategies)
    return (_SHORTABLE,) if sells_short else ()
