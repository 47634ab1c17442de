"""What the enabled plugins find before an instance trades: stored facts, alert channels, the operator's tables.

A new table is checked by its plugin, and put in place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.actions import Notify, discard
from tbot_core.actions.assembly import action_clock, environment_rehearsal
from tbot_core.actions.plugin_declarations import PluginDeclarations, plugin_declarations
from tbot_core.actions.plugins import broker_capabilities
from tbot_core.contracts import Context, SupportsConnectionCheck
from tbot_core.contracts.feed import SupportsDailyVix
from tbot_core.contracts.series import VIX
from tbot_core.contracts.settings.trading import calendar_of
from tbot_core.contracts.strategy import SupportsRefresh, SupportsScreening
from tbot_core.engine.plugin_context import plugin_context
from tbot_core.errors import AccessError, DataError, SettingsError, TbotError, UsageError, VaultError
from tbot_core.instance import Instance, Settings, load_settings
from tbot_core.instance.identity import jurisdiction_of, read_identity
from tbot_core.instance.preflight import PreflightFinding
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP
from tbot_core.model.clock import SystemClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.formatting import first_names, plural
from tbot_core.model.reasons import Reason
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import LoadedPlugin, build_plugin
from tbot_core.plugins.network.connector import RequestBudgets
from tbot_core.system import filesystem, log
from tbot_core.system.foreign_exceptions import assert_failure, exception_text
from tbot_core.system.redaction import redact

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator

    import polars as pl

    from tbot_core.engine.rehearsal_target import RehearsalTarget


def fact_findings(settings: Settings, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """For each filter that fetches: of how many symbols its facts are stored, and since when. Nothing is fetched."""
    for loaded in plugins.loaded:
        name = loaded.entry.name
        facts = _facts(settings, loaded) if loaded.entry.kind == "filter" else ()
        if not facts:
            continue
        try:
            words = _words(settings.instance.bars, facts)
        except DataError as fault:
            message = f"{name}: {fault.message}"
            yield PreflightFinding(level="fail", subject="facts", message=message, remedy=fault.remedy)
        else:
            yield PreflightFinding(level="ok", subject="facts", message=f"{name}: {words}.")


def vix_findings(
    settings: Settings, plugins: PluginDeclarations, progress: Notify = discard
) -> Iterator[PreflightFinding]:
    """A warning where a strategy needs the VIX, and nothing of the settings has the close before the next session.

    Nothing is requested: a broker that declares the daily VIX counts, as do a filter and an extension that supply it,
    and an extension that publishes its series, which is downloaded before the session. The venue of a rehearsal has
    none.
    """
    try:
        names = _without_entries(settings, plugins)
        if not names or settings.trading.vix_source == "live" or _supplies_vix(settings, plugins, progress):
            return
        day, is_stored = _stored_vix(settings)
        if is_stored:
            return
    except TbotError:
        return  # each of these faults has its own row
    yield PreflightFinding(
        level="warn",
        subject="facts",
        message=f"VIX close of {day.isoformat()} unknown: no entries by {', '.join(names)}.",
        remedy="`tbot data import FILE` supplies it, an extension that publishes vix, or DATA_SOURCE with the VIX.",
    )


def market_cap_findings(
    settings: Settings, plugins: PluginDeclarations, progress: Notify = discard
) -> Iterator[PreflightFinding]:
    """A warning where capitalisations are limited, and nothing of the settings supplies them."""
    try:
        names = _market_cap_limits(settings)
        source = settings.trading.data_source or settings.trading.broker_name
        if not (names and settings.filters) or source not in plugins.brokers:
            return
        declared = broker_capabilities(source, settings.instance.home, progress)
        if declared is None or "yes" in {declared["market_caps"], declared["simulated"]}:
            return  # a broker that cannot be created has its own row; a simulated market has its own capitalisations
        if _fetches_market_caps(settings, plugins) or _has_imported_market_caps(settings.instance.bars):
            return
    except TbotError:
        return  # each of these faults has its own row
    missing = settings.trading.filter_missing_data
    which = "every" if missing == "pass" else "no"
    yield PreflightFinding(
        level="warn",
        subject="facts",
        message=f"{first_names(names)}: nothing supplies capitalisations, as {source} has none. With "
        f"FILTER_MISSING_DATA={missing} {which} stock passes these limits.",
        remedy="Enable a filter that fetches them, import fundamentals with `tbot data import`, or remove the limits.",
    )


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


def import_table(instance: Instance, table: str, path: Path) -> str:
    """Put a file in place as a table, once each enabled plugin that names it was built with it; returns what was done.

    `table`: the table's name, with or without its ending. Raises UsageError for a name that no enabled plugin has,
    SettingsError for a file that one of these refuses, and AccessError for one that cannot be read.
    """
    plugins = plugin_declarations(instance.home)
    tables = sorted({name for plugin in plugins.loaded for name in plugin.plugin.tables})
    name = next((one for one in tables if table in {one, Path(one).stem}), "")
    if not name:
        known = ", ".join(Path(one).stem for one in tables) or "none"
        message = f"No enabled plugin has a table {table} (tables: {known})."
        raise UsageError(message, "The settings enable plugins; `tbot plugins list` shows them.")
    settings = load_settings(instance.home, mode="replay", declared=plugins.declared)
    if filesystem.is_folder(path):
        raise AccessError(f"{path} is a folder.", "Name the file of the table.")
    data, words = filesystem.read_bytes(path), [f"imported from {path}."]
    readers = [plugin for plugin in plugins.loaded if name in plugin.plugin.tables]
    with filesystem.scratch_folder() as folder:
        filesystem.write_atomic(folder / name, data)
        words += [_tried(settings, reader, folder / name, path) for reader in readers]
    for folder in (instance.data, instance.tables):
        filesystem.make_folder(folder)  # each private, as `tbot init` makes them
    filesystem.write_atomic(instance.table(name), data)
    said = " ".join(filter(None, dict.fromkeys(words)))
    used = ", ".join(reader.entry.name for reader in readers)
    return f"{instance.table(name)}: {said} A running bot uses it from the next session ({used})."


def warning_findings(settings: Settings, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """What the enabled plugins warn of, and a failure for each that cannot say it, as with an invalid table."""
    warned = [plugin for plugin in plugins.loaded if plugin.plugin.warnings is not None]
    try:
        identity = read_identity(settings.instance, settings.deployment) if warned else None
    except TbotError:
        return  # each of these faults has its own row
    for one in warned:
        yield from _findings(settings, one, jurisdiction_of(identity.text if identity else ""))


def _facts(settings: Settings, loaded: LoadedPlugin) -> Collection[str]:
    # The names of what a filter fetches.
    made = _created(settings, loaded)
    return () if isinstance(made, PluginFailure) or not isinstance(made, SupportsRefresh) else tuple(made.facts)


def _created(settings: Settings, loaded: LoadedPlugin) -> Any:
    # A plugin as created for a simulation: without secrets and network.
    kind, name = loaded.entry.kind, loaded.entry.name
    context = Context(
        clock=SystemClock(),
        log=log.logger(f"tbot.{kind}.{name}"),
        data_dir=settings.instance.plugin_data(kind, name),
        tables_dir=settings.instance.tables,
        downloads_dir=settings.instance.downloads,
    )
    config = settings.plugin_config(loaded.plugin.config, name if kind == "strategy" else None)
    return build_plugin(loaded, config, context)


def _stored_vix(settings: Settings) -> tuple[dt.date, bool]:
    # The day of the close before the next session, and whether its VIX is stored.
    from tbot_core.marketdata.store import manifest
    from tbot_core.marketdata.store.daily_facts import look_back_sessions

    calendar = calendar_of(settings.trading)
    day = look_back_sessions(calendar, calendar.current(action_clock().now()).date)[-1].date
    table = _stored_table(settings.instance.bars, manifest.VIX)
    return day, table is not None and day in table["date"].to_list()


def _without_entries(settings: Settings, plugins: PluginDeclarations) -> list[str]:
    # The strategies that screen by the VIX, and deny where it is unknown.
    found = []
    for loaded in plugins.loaded:
        if loaded.entry.kind != "strategy" or loaded.entry.name not in settings.strategies:
            continue
        made = _created(settings, loaded)
        if isinstance(made, SupportsScreening):
            checks = made.screen(DayFacts.unknown(1))
            found += [loaded.entry.name] if any(check.unknown is Reason.VIX_UNKNOWN for check in checks) else []
    return found


def _supplies_vix(settings: Settings, plugins: PluginDeclarations, progress: Notify) -> bool:
    # Whether a broker, filter or extension of the settings has the VIX; one that cannot be created has its own row.
    for loaded in plugins.loaded:
        if loaded.entry.kind in {"filter", "extension"}:
            made = _created(settings, loaded)
            if isinstance(made, PluginFailure | SupportsDailyVix):
                return True
    served = "" if environment_rehearsal() is None else "no"
    for name in dict.fromkeys(filter(None, (settings.trading.data_source, *settings.brokers))):
        if name in plugins.brokers:
            declared = broker_capabilities(name, settings.instance.home, progress)
            if declared is None or "yes" in {declared["simulated"], served or declared["daily_vix"]}:
                return True
    return any(VIX in loaded.plugin.series for loaded in _extensions(settings, plugins))


def _extensions(settings: Settings, plugins: PluginDeclarations) -> tuple[LoadedPlugin, ...]:
    # The enabled extensions; where all installed ones are, they are imported here.
    if not settings.values["EXTENSIONS"].value:
        names = {name for kind, name in plugins.installed if kind == "extension"}
        plugins = plugin_declarations(settings.instance.home, names)
    return tuple(plugin for plugin in plugins.loaded if plugin.entry.kind == "extension")


def _market_cap_limits(settings: Settings) -> list[str]:
    # The names of the limits that are set for strategies that run.
    return [
        f"{which}_MARKET_CAP_{strategy.upper()}"
        for strategy in settings.strategies
        for which, limit in (
            ("MIN", settings.frames[strategy].min_market_cap),
            ("MAX", settings.frames[strategy].max_market_cap),
        )
        if limit
    ]


def _fetches_market_caps(settings: Settings, plugins: PluginDeclarations) -> bool:
    filters = (plugin for plugin in plugins.loaded if plugin.entry.kind == "filter")
    return any(MARKET_CAP in _facts(settings, plugin) for plugin in filters)


def _has_imported_market_caps(bars: Path) -> bool:
    from tbot_core.marketdata.store import manifest

    table = _stored_table(bars, manifest.FUNDAMENTALS)
    return table is not None and not table.drop_nulls(MARKET_CAP).is_empty()


def _words(bars: Path, facts: Collection[str]) -> str:
    from tbot_core.marketdata.store import manifest

    table = _stored_table(bars, manifest.FETCHED)
    stored = None if table is None else table.filter(table["name"].is_in(list(facts)))
    if stored is None or stored.is_empty():
        return "no facts are stored; `tbot run` fetches them before the bell"
    known = stored.drop_nulls("value")["symbol"].n_unique()
    newest: dt.date = max(stored["first"])
    return f"facts of {plural(known, 'symbol')} are stored, the newest of {newest.isoformat()}"


def _stored_table(bars: Path, name: str) -> pl.DataFrame | None:
    # A table of facts; None where none is stored, without the time that importing polars takes.
    from tbot_core.marketdata.store import manifest

    if name in manifest.read_facts(bars):
        from tbot_core.marketdata.store import reference

        return reference.read_table(bars, name)
    return None


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


def _tried(settings: Settings, loaded: LoadedPlugin, copy: Path, path: Path) -> str:
    # What the plugin says of the new table, "" for nothing; raises SettingsError if it refuses it.
    context = attrs.evolve(_context(settings, loaded), tables_dir=copy.parent, jurisdiction=_jurisdiction(settings))
    made = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    described = made if isinstance(made, PluginFailure) else _described(copy.name, loaded, context)
    if isinstance(described, PluginFailure):
        # The plugin's words, about the file that was given instead of the copy that it read.
        words = described.error.replace(str(copy), str(path))
        raise SettingsError(f"{path} was not imported: {words}", "The table in use is unchanged.")
    return described


def _described(name: str, loaded: LoadedPlugin, context: Context) -> str | PluginFailure:
    # What the plugin says of the new table; "" if it describes none.
    if loaded.plugin.describe_table is None:
        return ""
    try:
        return loaded.plugin.describe_table(name, context)
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
        assert_failure(fault)
        return PluginFailure.of(loaded.entry, "create", fault)


def _jurisdiction(settings: Settings) -> str:
    # That of the identity; "" without one, or where it cannot be read.
    try:
        identity = read_identity(settings.instance, settings.deployment)
    except TbotError:
        return ""
    return jurisdiction_of(identity.text if identity else "")


def _findings(settings: Settings, loaded: LoadedPlugin, jurisdiction: str) -> Iterator[PreflightFinding]:
    subject, warnings = "plugins", loaded.plugin.warnings
    try:
        context = attrs.evolve(_context(settings, loaded), jurisdiction=jurisdiction)
        config = settings.plugin_config(loaded.plugin.config)
        sentences = tuple(warnings(config, context)) if warnings else ()
    except BaseException as fault:  # noqa: BLE001  -- the border of a plugin
        assert_failure(fault)
        words = PluginFailure.of(loaded.entry, "create", fault).sentence
        yield PreflightFinding(level="fail", subject=subject, message=words)
        return
    for sentence in sentences:
        yield PreflightFinding(level="warn", subject=subject, message=sentence)


def _context(settings: Settings, loaded: LoadedPlugin) -> Context:
    clock = SystemClock()
    return plugin_context(settings, clock, loaded, RequestBudgets(clock))
