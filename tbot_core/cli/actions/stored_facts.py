"""What is stored of the facts that filters fetch before the bell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.contracts import Context, SupportsRefresh
from tbot_core.errors import DataError, TbotError
from tbot_core.instance import load_settings
from tbot_core.instance.preflight_subject import PreflightFinding
from tbot_core.model.clock import SystemClock
from tbot_core.model.formatting import plural
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.loader import build_plugin
from tbot_core.system import log

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from tbot_core.cli.actions.plugin_declarations import PluginDeclarations
    from tbot_core.instance import Settings
    from tbot_core.plugins.loader import LoadedPlugin


def fact_findings(home: Path | None, plugins: PluginDeclarations) -> Iterator[PreflightFinding]:
    """For each filter that fetches: of how many symbols its facts are stored, and since when. Nothing is fetched."""
    try:
        settings = load_settings(home, mode="replay", declared=plugins.declared)
    except TbotError:
        return  # each of these faults has its own row
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
    # The names of what a filter fetches, as created for a simulation: without secrets and network.
    context = Context(
        clock=SystemClock(),
        log=log.logger(f"tbot.filter.{loaded.entry.name}"),
        data_dir=settings.instance.plugin_data("filter", loaded.entry.name),
    )
    made: Any = build_plugin(loaded, settings.plugin_config(loaded.plugin.config), context)
    return () if isinstance(made, PluginFailure) or not isinstance(made, SupportsRefresh) else tuple(made.facts)


def _words(bars: Path, facts: Collection[str]) -> str:
    import polars as pl

    from tbot_core.marketdata.store import reference

    stored = reference.read_table(bars, reference.FETCHED).filter(pl.col("name").is_in(list(facts)))
    if stored.is_empty():
        return "no facts are stored; `tbot run` fetches them before the bell"
    known = stored.drop_nulls("value")["symbol"].n_unique()
    newest: dt.date = max(stored["first"])
    return f"facts of {plural(known, 'symbol')} are stored, the newest of {newest.isoformat()}"
