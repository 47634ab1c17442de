"""Facts that filters and strategies compare before the bell, and that are unknown: of stored sessions, or of the next.

A run over stored sessions says it before the first one, a session of the market with READY.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import SupportsRefresh
from tbot_core.contracts.feed import ExtraFacts
from tbot_core.errors import PluginError
from tbot_core.journal.projections.vix import with_recorded_vix
from tbot_core.marketdata.store.recorded_facts import IMPORTED
from tbot_core.model.bars import Flags
from tbot_core.model.reasons import Reason
from tbot_core.trading.matching import SIMULATOR_CAPABILITIES
from tbot_core.trading.proposals import screen
from tbot_core.trading.verdicts import unknown_flags

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from tbot_core.contracts import Check
    from tbot_core.engine.assembly import Assembly
    from tbot_core.marketdata.store.store import BarStore
    from tbot_core.model.calendar import Session
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.trading.proposals import ActiveStrategy, TradingRules
    from tbot_core.trading.universe import Universe
    from tbot_core.trading.verdicts import Verdicts

_FUNDAMENTALS: Final = "fundamentals"
_VIX: Final = "the daily VIX"
_BARS: Final = frozenset({"earlier sessions", "raw bars"})
"""What a remedy names that consists of bars."""


@attrs.define(kw_only=True, eq=False)
class _Comparison:
    # A comparison of a plugin: who makes it for which strategies, and where its fact is unknown, (sessions, symbols).
    name: str
    plugin: str
    reason: Reason
    required: bool
    unknown: Flags
    strategies: dict[str, None] = attrs.field(factory=dict)

    @property
    def strategy_names(self) -> str:
        return ", ".join(f"[{name.upper()}]" for name in self.strategies)

    def effect(self, *, rejects: bool) -> str:
        return "is denied" if rejects or self.required else "passes without this comparison"


@attrs.define(kw_only=True, eq=False)
class _Found:
    # The comparisons with an unknown value, by plugin and name, over so many sessions; `traded` flags the symbols.
    sessions: int
    traded: Flags
    comparisons: dict[tuple[str, str], _Comparison] = attrs.field(factory=dict)

    def add(self, strategy: str, verdicts: Verdicts, rows: slice) -> None:
        count = rows.stop - rows.start
        for plugin, check in verdicts.checks:
            unknown = np.broadcast_to(unknown_flags(check), (count, len(self.traded)))[:, self.traded]
            if unknown.any():
                one = self.comparisons.setdefault((plugin, check.name), self._new(plugin, check))
                one.unknown[rows] |= unknown
                one.strategies[strategy] = None

    def _new(self, plugin: str, check: Check) -> _Comparison:
        return _Comparison(
            name=check.name,
            plugin=plugin,
            reason=check.unknown,
            required=check.required,
            unknown=np.zeros((self.sessions, int(self.traded.sum())), dtype=np.bool_),
        )


def missing_fact_notes(
    assembly: Assembly, store: BarStore, days: tuple[dt.date, dt.date], symbols: Sequence[str]
) -> tuple[str, ...]:
    """Sentences on facts that are unknown of a symbol in all sessions, or of all symbols in a session; and ways on.

    `days` are the first and the last of a range of stored sessions, `symbols` those with bars in it. Every check before
    the bell counts, whichever plugin makes it; mean volumes of single minutes count as known.
    """
    sessions, names = store.sessions(*days, symbols), tuple(sorted(symbols))
    try:
        found = [one for one in _comparisons(assembly, store, sessions, names) if _places(one.unknown, sessions)]
    except PluginError:  # the run itself reports it
        return ()
    if not found:
        return ()
    rejects = assembly.settings.trading.filter_missing_data == "reject"
    alike: dict[str, list[_Comparison]] = {}
    for one in found:
        effect = f"each entry of {one.strategy_names} {one.effect(rejects=rejects)}"
        words = f"Unknown {_places(one.unknown, sessions)}, where {effect}"
        alike.setdefault(words, []).append(one)
    notes = [f"{words}: {', '.join(f'{it.name} ({it.plugin})' for it in several)}." for words, several in alike.items()]
    return (*notes, *_ways_on(assembly, found, rejects=rejects))


def session_lacks(
    entrants: Sequence[ActiveStrategy], rules: TradingRules, universe: Universe, session: Session
) -> tuple[str, ...]:
    """A sentence on each fact that is unknown of some symbol of a session's universe.

    The VIX and the facts of filters that were asked are left out: the universe has them in fields of their own.
    """
    found = _Found(sessions=1, traded=_traded(rules.watching(universe.watch_only), universe.symbols))
    try:
        for active in entrants:
            verdicts = screen(active, rules, universe.day, universe.symbols, session.minutes)
            found.add(active.name, verdicts, slice(0, 1))
    except PluginError:  # the session itself reports it
        return ()
    asked = {one.filter for one in universe.facts}
    return tuple(
        f"{one.name} ({one.plugin}): unknown of {np.count_nonzero(one.unknown):,} of {one.unknown.size:,} symbols, of "
        f"which each entry of {one.strategy_names} {one.effect(rejects=rules.missing_rejects)}"
        for one in found.comparisons.values()
        if one.reason is not Reason.VIX_UNKNOWN and one.plugin not in asked
    )


def _traded(rules: TradingRules, symbols: Sequence[str]) -> Flags:
    return np.array([name not in rules.blocklist | rules.watch_only for name in symbols], dtype=np.bool_)


def _comparisons(
    assembly: Assembly, store: BarStore, sessions: Sequence[Session], symbols: tuple[str, ...]
) -> list[_Comparison]:
    rules, first = assembly.rules(SIMULATOR_CAPABILITIES), 0
    found = _Found(sessions=len(sessions), traded=_traded(rules, symbols))
    for part in _parts(assembly, sessions):
        day, dates = _facts(store, part, symbols, assembly.extra_facts), [one.date for one in part]
        rows = slice(first, first + len(part))
        for active in assembly.entrants(part[0]):
            known = with_recorded_vix(day, dates, active.name, assembly.recorded_vix)
            found.add(active.name, screen(active, rules, known, symbols, part[0].minutes), rows)
        first = rows.stop
    return list(found.comparisons.values())


def _parts(assembly: Assembly, sessions: Sequence[Session]) -> Iterator[tuple[Session, ...]]:
    # Sessions with the same strategies, which are screened at once; of daily bars a month is in memory.
    daily = assembly.extra_facts.daily_bars

    def alike(session: Session) -> tuple[int, int, int]:
        month = (session.date.year, session.date.month) if daily else (0, 0)
        return (id(assembly.entrants(session)), *month)

    for _, part in itertools.groupby(sessions, alike):
        yield tuple(part)


def _facts(store: BarStore, sessions: Sequence[Session], symbols: tuple[str, ...], extra: ExtraFacts) -> DayFacts:
    # The facts of these sessions; typical volumes, which need every minute before, are filled instead of computed.
    day = store.facts(sessions, symbols, extra=ExtraFacts(daily_bars=extra.daily_bars))
    if not extra.typical_volume:
        return day
    shape = (*day.previous_close.shape, max(one.minutes for one in sessions))
    return attrs.evolve(day, typical_volume=np.broadcast_to(np.float64(1), shape))


def _places(unknown: Flags, sessions: Sequence[Session]) -> str:
    # Of how many symbols a fact is unknown in all sessions, and in how many sessions of all symbols; "" for neither.
    of, symbols = unknown[0].size, int(np.count_nonzero(unknown.all(axis=0)))
    rows = np.flatnonzero(unknown.all(axis=1) & (of > 0))
    parts = []
    if symbols:
        parts.append(f"of {symbols:,} of {of:,} symbols in {len(sessions):,} of {len(sessions):,} sessions")
    if len(rows) and symbols < of:
        last = sessions[rows[-1]].date
        parts.append(f"of {of:,} of {of:,} symbols in {len(rows):,} of {len(sessions):,} sessions, the last {last}")
    return "; ".join(parts)


def _ways_on(assembly: Assembly, found: Sequence[_Comparison], *, rejects: bool) -> list[str]:
    fetching = {name: one.facts for name, one in assembly.filters.items() if isinstance(one, SupportsRefresh)}
    fetched = sorted({one.plugin for one in found if fetching.get(one.plugin)})
    data = {one.reason.remedy.data for one in found} - {""}
    data |= {_FUNDAMENTALS for name in fetched if not fetching[name].keys().isdisjoint(IMPORTED)}
    ways = [f"`tbot data import PATH` stores {', '.join(sorted(data))} (docs/data-formats.md)"] if data else []
    if _VIX in data:
        ways.append(f"`tbot data download vix` stores {_VIX}")
    if data & _BARS:
        ways.append("`tbot data download --from DATE --to DATE` stores bars of earlier sessions")
    if fetched:
        ways.append(f"`tbot run` fetches before each session what {', '.join(fetched)} compares, and stores it")
    kept = [f"{one.name} ({one.plugin})" for one in found if one.required]
    if rejects and len(kept) < len(found):
        but = f", except {', '.join(kept)}" if kept else ""
        ways.append(f"`--set FILTER_MISSING_DATA=pass` lets entries pass without what is unknown{but}, in one run")
    return [f"What changes it: {'; '.join(ways)}."] if ways else []
