"""Downloads daily series from the extensions that publish them into the bar store."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import DailyValue, SupportsDailySeries
from tbot_core.contracts.permissions import host_setting_name
from tbot_core.contracts.series import RATES, VIX
from tbot_core.errors import BrokerError, DataError, PluginError, TbotError
from tbot_core.marketdata.store import reference
from tbot_core.marketdata.store.daily_facts import look_back_sessions
from tbot_core.marketdata.store.series import (
    ChangedValue,
    PublishedSeries,
    SeriesMerge,
    merge_series,
    stored_series,
)
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import plural
from tbot_core.plugins.guarded import GuardedSeries
from tbot_core.plugins.trial import series_word
from tbot_core.plugins.trial_records import read_records
from tbot_core.system import filesystem, log

if TYPE_CHECKING:
    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.calendar import Session
    from tbot_core.plugins.loader import LoadedPlugin

SOURCE_S: Final = 10.0
"""How long a source may take before the bell, in seconds."""

ATTEMPTS: Final = 2
"""How often series are refreshed before a session: when it is prepared, and when it begins."""

TABLE: Final = f"{RATES}.csv"
"""The table of rates, for `Plugin.tables`."""

TABLE_SPAN: Final = dt.timedelta(days=3653)
"""How far back the table of rates goes; plugins read it whole at each start."""

_log = log.logger(__name__)


@attrs.frozen(kw_only=True)
class SeriesDownload:
    """What was stored of a series, and from which source; `faults` are those of sources that were asked before it."""

    name: str
    source: str
    merge: SeriesMerge
    faults: Mapping[str, TbotError] = attrs.field(factory=dict)


def series_sources(assembly: Assembly, name: str) -> dict[str, GuardedSeries]:
    """The enabled extensions that publish a series, in order of their names; of a rehearsal those with a server."""
    return {
        loaded.entry.name: GuardedSeries(entry=loaded.entry, inner=made, guard=assembly.call_guard)
        for loaded, made in assembly.extensions
        if name in loaded.plugin.series and isinstance(made, SupportsDailySeries) and _is_served(assembly, loaded)
    }


def _is_served(assembly: Assembly, loaded: LoadedPlugin) -> bool:
    # Whether it reaches its hosts: in a rehearsal only those with an address on this machine.
    settings, name = assembly.settings, loaded.plugin.name
    hosts = loaded.plugin.needs.hosts if settings.instance.rehearsal else ()
    return all(settings.texts.get(host_setting_name(name, host)) for host in hosts)


async def download_series(
    assembly: Assembly, name: str, source: str | None = None, limit_s: float | None = None
) -> SeriesDownload:
    """Store what the bar store lacks of a series: of `source`, else of the first enabled one whose answer is plausible.

    `limit_s`: how long each may take, in seconds. Raises PluginError where no enabled extension publishes it, and the
    fault of the first one, with those of the others in its remedy, if none can be used.
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
            if name == RATES:
                _put_table(assembly, today)
        except TimeoutError:
            faults[one] = DataError(f"{one} has not answered within {limit_s:g} s.")
        except (BrokerError, PluginError, DataError) as fault:
            faults[one] = fault
        else:
            return SeriesDownload(name=name, source=one, merge=merge, faults=faults)
    first, *others = faults.values()
    first.remedy = " ".join(filter(None, (first.remedy, *(f"Asked too: {_clause(other)}." for other in others))))
    raise first


class SeriesRefresher:
    """Downloads before each session what it lacks of the VIX, and of the rates if a plugin reads their table."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._session: dt.date | None = None
        self._attempts = 0
        self._notes: dict[str, list[str]] = {}
        self._with_rates = False

    async def refresh(self, session: Session) -> tuple[str, ...]:
        """Refresh what the store lacks for a session, at most twice; returns what went wrong, in sentences.

        Each source has ten seconds. It raises nothing: a session goes on with what is stored.
        """
        if session.date != self._session:
            self._session, self._attempts, self._notes, self._with_rates = session.date, 0, {}, False
        if self._attempts < ATTEMPTS:
            self._attempts += 1
            before = look_back_sessions(self._assembly.calendar, session.date)[-1].date
            await self._refresh(VIX, lambda: self._has_vix(before), f"no value of {before} yet")
            if self._assembly.reads_table(TABLE):
                await self._refresh(RATES, lambda: self._with_rates, "")
        return tuple(f"Series {name}: {'; '.join(words)}." for name, words in self._notes.items() if words)

    async def _refresh(self, name: str, is_known: Callable[[], bool], lacking: str) -> None:
        # Ask one source after the other until nothing is lacking; their faults are of interest only if none has it.
        faults: list[str] = []
        earlier, self._notes[name] = self._notes.get(name, []), []
        try:
            if is_known():
                self._notes[name] = earlier
                return
            for source in series_sources(self._assembly, name):
                if fault := await self._ask(name, source) or ("" if is_known() else f"{source}: {lacking}"):
                    faults.append(fault)
                if is_known():
                    return
        except TbotError as fault:
            faults.append(_clause(fault))
        for words in faults:
            _log.warning("series.not_refreshed", series=name, reason=words)
        self._notes[name] += faults

    async def _ask(self, name: str, source: str) -> str:
        # Download from one source; returns its fault.
        try:
            found = await download_series(self._assembly, name, source, SOURCE_S)
        except TbotError as fault:
            return f"{source}: {_clause(fault)}"
        self._with_rates |= name == RATES
        if found.merge.changed:
            words = f"{source}: {changed_words(found.merge.changed)}"
            _log.warning("series.changed", series=name, reason=words)
            self._notes[name].append(words)
        return ""

    def _has_vix(self, before: dt.date) -> bool:
        return before in reference.reference_facts(self._assembly.settings.instance.bars).vix


def _clause(fault: TbotError) -> str:
    return fault.message.removesuffix(".")


def changed_words(changed: Sequence[ChangedValue]) -> str:
    """On how many days a source publishes another value than the stored one, which stays, and the last of them."""
    last = changed[-1]
    days = plural(len(changed), "day")
    return f"on {days} it publishes another value than the stored one, which stays; the last {last.text}"


def _put_table(assembly: Assembly, today: dt.date) -> None:
    # Put the stored rates in place as the downloaded table, once each plugin that reads it was built with it.
    folder = assembly.settings.instance.downloads
    oldest = today - TABLE_SPAN
    rates = [one for one in stored_series(assembly.settings.instance.bars, RATES) if one[0].day >= oldest]
    data = rate_table(rates).encode()
    with filesystem.scratch_folder() as scratch:
        filesystem.write_atomic(scratch / TABLE, data)
        assembly.check_table(TABLE, scratch)
    filesystem.make_folder(assembly.settings.instance.data)  # private, as `tbot init` makes it
    filesystem.make_folder(folder)
    filesystem.write_atomic(folder / TABLE, data)


def rate_table(rates: Sequence[tuple[DailyValue, str]]) -> str:
    """The table of rates, by code and day: a row where a rate changes, and the last one of each code.

    A rate of a day is known when that day is over, so it is in force from the next one.
    """
    rows = ["code,date,rate,source"]
    for number, (one, source) in enumerate(rates):
        before = rates[number - 1][0] if number else None
        after = rates[number + 1][0] if number + 1 < len(rates) else None
        changes = before is None or (before.code, before.value) != (one.code, one.value)
        if changes or after is None or after.code != one.code:
            rows.append(f"{one.code},{one.day + dt.timedelta(days=1)},{one.value:.9f},{source}")
    return "".join(f"{row}\n" for row in rows)


def _no_source(assembly: Assembly, name: str, source: str | None) -> PluginError:
    what = "No enabled extension" if source is None else f"--source {source}: no enabled extension of this name"
    remedy = "Install one, or enable it in EXTENSIONS of .env; `tbot plugins list` shows what is installed."
    if enabled := ", ".join(series_sources(assembly, name)):
        remedy = f"These do: {enabled}."
    elif installed := ", ".join(_publishers(assembly, name)):
        remedy = f"These are installed: {installed}. EXTENSIONS of .env enables them."
    return PluginError(f"{what} publishes the series {name}.", remedy)


def _publishers(assembly: Assembly, name: str) -> list[str]:
    # The installed extensions of which the last trial or run has recorded that they publish it.
    records = read_records(assembly.settings.instance.data)
    found = ((one.entry, records.of(one.entry)) for one in assembly.listings if one.entry.kind == "extension")
    return [
        entry.name
        for entry, record in found
        if record is not None and series_word(name) in (record.description or {}).get("capabilities", ())
    ]
