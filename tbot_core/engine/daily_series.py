"""Downloads daily series from the extensions that publish them into the bar store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import SupportsDailySeries
from tbot_core.errors import BrokerError, DataError, PluginError, TbotError
from tbot_core.marketdata.store.series import PublishedSeries, SeriesMerge, merge_series
from tbot_core.model.clock import exchange_time
from tbot_core.plugins.guarded import GuardedSeries

if TYPE_CHECKING:
    from tbot_core.engine.assembly import Assembly

SOURCE_S: Final = 10.0
"""How long a source may take before the bell, in seconds."""


@attrs.frozen(kw_only=True)
class SeriesDownload:
    """What was stored of a series, and from which source; `faults` are those of sources that were asked before it."""

    name: str
    source: str
    merge: SeriesMerge
    faults: Mapping[str, TbotError] = attrs.field(factory=dict)


def series_sources(assembly: Assembly, name: str) -> dict[str, GuardedSeries]:
    """The enabled extensions that publish a series, in order of their names."""
    return {
        loaded.entry.name: GuardedSeries(entry=loaded.entry, inner=made, guard=assembly.call_guard)
        for loaded, made in assembly.extensions
        if name in loaded.plugin.series and isinstance(made, SupportsDailySeries)
    }


async def download_series(
    assembly: Assembly, name: str, source: str | None = None, limit_s: float | None = None
) -> SeriesDownload:
    """Store what the bar store lacks of a series: of `source`, else of the first enabled one whose answer is plausible.

    `limit_s`: how long each may take, in seconds. Raises PluginError where no enabled extension publishes it, and the
    fault of the first one if none can be used.
    """
    sources = series_sources(assembly, name)
    if source is not None:
        sources = {one: made for one, made in sources.items() if one == source}
    if not sources:
        raise _no_source(assembly, name, source)
    faults: dict[str, TbotError] = {}
    today = exchange_time(assembly.clock.now()).date()
    folder = assembly.settings.instance.bars
    for one, made in sources.items():
        try:
            async with asyncio.timeout(limit_s):
                values = await made.daily_series(name)
            found = PublishedSeries(name=name, source=one, values=values)
            merge = merge_series(folder, assembly.calendar, found, today)
        except TimeoutError:
            faults[one] = DataError(f"{one} has not answered within {limit_s:g} s.")
        except (BrokerError, PluginError, DataError) as fault:
            faults[one] = fault
        else:
            return SeriesDownload(name=name, source=one, merge=merge, faults=faults)
    raise next(iter(faults.values()))


def _no_source(assembly: Assembly, name: str, source: str | None) -> PluginError:
    what = "No enabled extension" if source is None else f"--source {source}: no enabled extension of this name"
    enabled = ", ".join(series_sources(assembly, name))
    remedy = (
        f"These do: {enabled}." if enabled else "Install one, and name it in EXTENSIONS of .env or leave that empty."
    )
    return PluginError(f"{what} publishes the series {name}.", remedy)
