"""What is stored of the facts that filters fetch before the bell, and whether capitalisations have a source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.actions.assembly import action_clock, environment_rehearsal
from tbot_core.actions.notices import discard
from tbot_core.actions.plugin_declarations import plugin_declarations
from tbot_core.actions.plugins import broker_capabilities
from tbot_core.contracts.feed import SupportsDailyVix
from tbot_core.contracts.plugin import Context
from tbot_core.contracts.series import VIX
from tbot_core.contracts.settings.calendar import calendar_of
from tbot_core.contracts.strategy import SupportsRefresh, SupportsScreening
from tbot_core.errors import DataError, TbotError
from tbot_core.instance.preflight_subject import PreflightFinding
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP
from tbot_core.model.clock import SystemClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.formatting import first_names, plural
from tbot_core.model.reasons import Reason
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import build_plugin
from tbot_core.system import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import polars as pl

    from tbot_core.actions.notices import Notify
    from tbot_core.actions.plugin_declarations import PluginDeclarations
    from tbot_core.instance import Settings
    from tbot_core.plugins.loader import LoadedPlugin


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
    return tuple(one for one in plugins.loaded if one.entry.kind == "extension")


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
    filters = (one for one in plugins.loaded if one.entry.kind == "filter")
    return any(MARKET_CAP in _facts(settings, one) for one in filters)


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
