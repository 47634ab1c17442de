"""The look-ahead check of a backtest: on the user's own bars, no later bar may change a signal or a judgement.

A backtest scans whole sessions, live trading only the minutes that have closed. The check removes the bars after each
minute in which live trading scans, then replaces them with random ones: earlier signals must stay the same.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.errors import PluginError
from tbot_core.journal.projections.vix import with_recorded_vix
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.store import BarBlock, BarStore
from tbot_core.model.clock import exchange_time
from tbot_core.model.day_facts import MarketView
from tbot_core.trading.lookahead import (
    Difference,
    block_differences,
    changed_bars,
    cut_bars,
    judgement_differences,
    signal_differences,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.backtest.engine import BacktestRange
    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.bars import Array
    from tbot_core.model.signals import Signals
    from tbot_core.trading.proposals import ActiveStrategy

BUDGET_S: Final = 60.0
"""A check that would take longer is made on a sample of the sessions."""

_FACTORS: Final = (0.9, 1.1)


@attrs.frozen(kw_only=True)
class LookaheadFinding:
    """The first difference of a plugin in a session.

    `plugin` is KIND/NAME; of a filter, `strategy` gave the signal. `minute`: that of the signal, after the open, and
    `time` that of the exchange. `change`: what was done to the bars; `found`: what was then answered.
    """

    plugin: str
    strategy: str
    session: dt.date
    symbol: str
    minute: int
    time: str
    change: str
    found: str


@attrs.frozen(kw_only=True)
class LookaheadReport:
    """What was checked, `checked` of `sessions`, and what was found, in order of date."""

    first: dt.date
    last: dt.date
    strategies: tuple[str, ...]
    filters: tuple[str, ...]
    symbols: int
    sessions: int
    checked: int
    signals: int
    found: tuple[LookaheadFinding, ...]


def check_lookahead(
    assembly: Assembly,
    over: BacktestRange,
    progress: Callable[[dt.date], None] = lambda _day: None,
    *,
    budget_s: float | None = BUDGET_S,
) -> LookaheadReport:
    """Check the strategies and filters of a backtest on its bars; DataError without bars.

    `progress` gets the date of each session. If all sessions would take longer than `budget_s`, judged by those before,
    only some of each later month are checked, evenly spread.
    """
    extra, clock = assembly.extra_facts, assembly.clock
    store = BarStore(folder=assembly.settings.instance.bars, calendar=assembly.calendar)
    wanted = over.symbols or assembly.settings.trading.universe
    chosen = select_symbols(store, over.first, over.last, wanted, extra=extra)
    sessions = len(store.sessions(over.first, over.last, chosen.symbols))
    check, stride, done, seen, began = _Check(assembly), 1, 0, 0, clock.monotonic()
    for block in store.blocks(over.first, over.last, chosen.symbols, extra=extra):
        rows = range(0, len(block.sessions), stride)
        check.add(block, rows)
        done, seen = done + len(rows), seen + len(block.sessions)
        for session in block.sessions:
            progress(session.date)
        if budget_s is not None:
            took_s = clock.monotonic() - began
            stride = _stride(took_s / done * (sessions - seen), budget_s - took_s, len(block.sessions))
    return LookaheadReport(
        first=over.first,
        last=over.last,
        strategies=tuple(assembly.settings.strategies),
        filters=tuple(assembly.filters),
        symbols=len(chosen.symbols),
        sessions=sessions,
        checked=done,
        signals=check.signals,
        found=tuple(check.found[key] for key in sorted(check.found)),
    )


def _stride(needed_s: float, left_s: float, most: int) -> int:
    # Each so many-th session is checked, so that the rest takes the time that is left; at least one a block.
    return most if left_s * most <= needed_s else max(1, int(np.ceil(needed_s / left_s)))


class _Check:
    # The first difference of each plugin in each session, and the number of signals that were compared.
    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._random = np.random.default_rng(7)
        self.found: dict[tuple[dt.date, str, str], LookaheadFinding] = {}
        self.signals = 0

    def add(self, block: BarBlock, rows: Sequence[int]) -> None:
        """Check every strategy on these sessions of a block, and every filter on its signals."""
        by_entrants: dict[tuple[ActiveStrategy, ...], list[int]] = {}
        for row in rows:
            by_entrants.setdefault(self._assembly.entrants(block.sessions[row]), []).append(row)
        for entrants, own in by_entrants.items():
            part = BarBlock(
                month=block.month,
                sessions=tuple(block.sessions[row] for row in own),
                bars=block.bars.sessions(own),
                day=block.day.sessions(own),
            )
            for entrant in entrants:
                self._strategy(entrant, part)

    def _strategy(self, entrant: ActiveStrategy, block: BarBlock) -> None:
        window, bars, dates = entrant.window, block.bars, [session.date for session in block.sessions]
        if window.outside(bars.minutes, self._assembly.settings.exits.flatten_before_close):
            return
        day = with_recorded_vix(block.day, dates, entrant.name, self._assembly.recorded_vix)
        block, whole = attrs.evolve(block, day=day), entrant.strategy.scan(bars, day)
        closes = bars.field("close")
        random = closes * self._random.uniform(*_FACTORS, size=closes.shape)
        note = _Notes(self.found, entrant, block)
        self.signals += len(whole)
        cuts = range(window.entry, window.entry_end + 1)
        name = f"strategy/{entrant.name}"
        note.first(name, "without the bars from {} on", _on_cut_bars(entrant, block, whole, cuts))
        note.first(name, "with random bars from {} on", _on_changed_bars(entrant, block, whole, random))
        alone = block_differences(entrant.strategy, bars, day, whole)
        note.first(name, "with the bars of this session alone", alone)
        market = MarketView(bars=bars, day=day)
        for filter_name, one in self._assembly.filters.items():
            judged = judgement_differences(one, whole, market, entrant.frame, random)
            note.first(f"filter/{filter_name}", "without the bars from {} on, or with random ones", judged)


def _on_cut_bars(entrant: ActiveStrategy, block: BarBlock, whole: Signals, cuts: Sequence[int]) -> Iterator[Difference]:
    for known, part in cut_bars(block.bars, cuts):
        try:
            seen = entrant.strategy.scan(part, block.day)
        except PluginError as fault:  # it needs bars that do not exist yet
            for row in range(len(block.sessions)):
                yield Difference(cell=(row,), known=known, minute=known - 1, found=fault.message)
            return
        yield from signal_differences(whole, seen, known)


def _on_changed_bars(entrant: ActiveStrategy, block: BarBlock, whole: Signals, random: Array) -> Iterator[Difference]:
    window = entrant.window
    for known, other in changed_bars(block.bars, range(window.entry, window.entry_end + 1), random):
        try:
            seen = entrant.strategy.scan(other, block.day)
        except PluginError:  # of a later signal: random prices may be such that its stop is none
            continue
        yield from signal_differences(whole, seen.take(seen.minute < known), known)


class _Notes:
    # Records the first difference of a plugin in each session of a block.
    def __init__(
        self, found: dict[tuple[dt.date, str, str], LookaheadFinding], entrant: ActiveStrategy, block: BarBlock
    ) -> None:
        self._found = found
        self._entrant = entrant
        self._block = block

    def first(self, plugin: str, change: str, differences: Iterator[Difference]) -> None:
        """Record them; `change` has a place for the time of the first bar that was changed."""
        for difference in differences:
            session = self._block.sessions[difference.cell[0]]
            key = session.date, plugin, self._entrant.name
            if key not in self._found:
                at, since = (
                    f"{exchange_time(session.moment(minute)):%H:%M}" for minute in (difference.minute, difference.known)
                )
                self._found[key] = LookaheadFinding(
                    plugin=plugin,
                    strategy=self._entrant.name,
                    session=session.date,
                    symbol=self._block.bars.symbols[difference.cell[1]] if len(difference.cell) > 1 else "",
                    minute=difference.minute,
                    time=at,
                    change=change.format(since),
                    found=difference.found,
                )
