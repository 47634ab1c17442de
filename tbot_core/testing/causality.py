"""The rules for every scan, as cases over bars: no look-ahead, no mixing of rows, equal bits in every memory layout.

A case yields a sentence for each fault. `check_causality` runs all cases; the contract class for strategies runs each
one as a test.
"""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import attrs
import numpy as np

from tbot_core.model.bars import Bars, MinuteSlice, Tape
from tbot_core.testing.contract import demand
from tbot_core.trading.lookahead import (
    COLUMNS,
    NAMES,
    block_differences,
    cells_of,
    changed_bars,
    cut_bars,
    differing_rows,
    signal_differences,
    signal_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.contracts import Strategy
    from tbot_core.model.bars import Array, Index
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.signals import Signals
    from tbot_core.trading.lookahead import Difference, SignalRows

    Case: TypeAlias = Callable[[Strategy, Bars, DayFacts], Iterator[str]]

HALF_DAY = 210


def check_causality(strategy: Strategy, bars: Bars, day: DayFacts) -> None:
    """Run all cases: cut, changed, reordered and re-laid bars must give bit-equal signals.

    `bars` is one session or a block of sessions of one length, `day` its facts. Raises AssertionError with a line for
    each kind of fault.
    """
    found = [fault for case in CASES for fault in case(strategy, bars, day)]
    demand(not found, "\n".join(found))


def well_formed(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """At most one signal per row, inside the entry phase, with the close as price and levels on the correct sides."""
    signals, window = strategy.scan(bars, day), strategy.window
    lengths = {name: len(getattr(signals, name)) for name in COLUMNS}
    if len({*lengths.values(), *map(len, signals.cells)}) > 1:
        yield f"columns have different lengths: {lengths}"
        return
    if len(set(cells_of(signals))) < len(signals):
        yield "a row has more than one signal"
    last = min(window.entry_end, bars.minutes)
    if outside := set(signals.minute[(signals.minute < window.entry) | (signals.minute >= last)].tolist()):
        yield f"minutes {sorted(outside)} are outside of the entry phase [{window.entry}, {last})"
        return
    risk = signals.side * (signals.price - signals.stop)
    gain = signals.side * (signals.target - signals.price)
    faults = {
        "a side is neither 1 nor -1": ~np.isin(signals.side, (1, -1)),
        "a price is not the close of its bar": signals.price != bars.close[(*signals.cells, signals.minute)],
        "a strength is not finite": ~np.isfinite(signals.strength),
        "a stop is unknown or not on the losing side of the price": ~(risk >= 0),
        "a target is not on the winning side of the price": gain < 0,
        "a rule has no name": ~np.isin(signals.rule, range(len(signals.rules))),
    }
    yield from (f"{fault} ({np.count_nonzero(rows)} signals)" for fault, rows in faults.items() if rows.any())


def cut(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """The session cut after each minute gives the signals of the whole session before the cut."""
    whole = strategy.scan(bars, day)
    for known, part in cut_bars(bars, range(bars.minutes + 1)):
        for difference in signal_differences(whole, strategy.scan(part, day), known):
            differs = _words(difference, bars)
            yield f"a session cut to {known} minutes differs from the whole session up to there: {differs}"
            return


def since(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """With `since`, a scan leaves out the rows that fired earlier, on the whole session and on a prefix."""
    whole = signal_rows(strategy.scan(bars, day))
    for minute in range(bars.minutes):
        later = {cell: row for cell, row in whole.items() if int(row[0]) >= minute}
        if fault := _difference(later, strategy.scan(bars, day, minute), bars):
            yield f"since={minute} differs from the whole scan from there on: {fault}"
            return
        now = {cell: row for cell, row in later.items() if int(row[0]) == minute}
        if fault := _difference(now, strategy.scan(bars.until(minute + 1), day, minute), bars):
            yield f"the scan of minute {minute} as it closes differs: {fault}"
            return


def future(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """Other numbers, or none, after a minute do not change the signals up to it, in a session of the same length."""
    whole, window = strategy.scan(bars, day), strategy.window
    random = np.random.default_rng(7).uniform(1.0, 500.0, size=bars.field("close").shape)
    phase = range(window.entry, min(window.entry_end, bars.minutes))
    cuts = {*phase, *range(0, bars.minutes, 13)}
    for known, other in itertools.chain(changed_bars(bars, cuts, random), changed_bars(bars, cuts, np.nan)):
        seen = strategy.scan(other, day)
        for difference in signal_differences(whole, seen.take(seen.minute < known), known):
            yield f"bars from minute {known} on change earlier signals: {_words(difference, bars)}"
            return


def layouts(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """The same bars in another memory layout give the same bits."""
    whole = signal_rows(strategy.scan(bars, day))
    layers: dict[str, Callable[[Array], Array]] = {
        "with the minutes innermost": lambda field: np.moveaxis(np.ascontiguousarray(np.moveaxis(field, 0, -1)), -1, 0),
        "in Fortran order": np.asfortranarray,
        "with every value apart": lambda field: np.repeat(field, 2, axis=-1)[..., ::2],
    }
    for name, layout in layers.items():
        if fault := _difference(whole, signal_rows(strategy.scan(_edited(bars, layout), day)), bars):
            yield f"bars {name} give other signals: {fault}"


def sessions(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """Each session of a block alone gives the same signals as in the block."""
    for difference in block_differences(strategy, bars, day, strategy.scan(bars, day)):
        yield f"session {difference.cell[0]} alone differs from the block: {_words(difference, bars)}"
        return


def rows(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """A symbol has the same signal among other symbols and in another order."""
    whole = signal_rows(strategy.scan(bars, day))
    count = len(bars.symbols)
    orders = {
        "the symbols in another order": np.random.default_rng(11).permutation(count),
        "every second symbol": np.arange(0, count, 2),
        "every symbol but the first": np.arange(1, count),
    }
    for name, order in orders.items():
        seen = signal_rows(strategy.scan(_chosen(bars, order), day.symbols(order)))
        back = {(*cell[:-1], int(order[cell[-1]])): row for cell, row in seen.items()}
        expected = {cell: row for cell, row in whole.items() if cell[-1] in order}
        if fault := _difference(expected, back, bars):
            yield f"{name} gives other signals: {fault}"


def tape(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """A session that grows minute by minute on a tape, with running columns and one memo, gives the same signals."""
    block = bars.field("close").ndim > 2
    for index in range(bars.field("close").shape[1] if block else 1):
        one, facts = (bars.session(index), day.session(index)) if block else (bars, day)
        growing, seen = Tape(one.symbols, one.minutes), {}
        for minute in range(one.minutes):
            growing.append(MinuteSlice(index=minute, **{name: one.field(name)[minute] for name in NAMES}))
            seen.update(signal_rows(strategy.scan(growing.bars, facts, minute)))
        if fault := _difference(signal_rows(strategy.scan(one, facts)), seen, bars):
            yield f"the session growing on a tape differs from the whole: {fault}"
            return


def silence(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """No bars at all give no signals, and no warning of a division or an empty row."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = _edited(bars, lambda field: np.full_like(field, np.nan))
        if len(strategy.scan(empty, day)) or len(strategy.scan(bars.until(0), day)):
            yield "there are signals in minutes without a bar"


def half_day(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """A session of 210 minutes, as on a half day, raises nothing and gives signals within it."""
    short = _edited(bars, lambda field: field[:HALF_DAY])
    yield from (f"on a half day: {fault}" for fault in well_formed(strategy, short, day))


def purity(strategy: Strategy, bars: Bars, day: DayFacts) -> Iterator[str]:
    """The same input gives the same output, inputs are not changed, and another window's memory has no effect."""
    before = {name: bars.field(name).tobytes() for name in NAMES}
    whole = signal_rows(strategy.scan(bars, day))
    if fault := _difference(whole, signal_rows(strategy.scan(bars, day)), bars):
        yield f"the same scan again differs: {fault}"
    if before != {name: bars.field(name).tobytes() for name in NAMES}:
        yield "the scan changed the bars that it was given"
        return
    if attrs.has(type(strategy)):
        shared, window = bars.until(bars.minutes), strategy.window
        shifted: Strategy = attrs.evolve(
            cast("Any", strategy),
            window=attrs.evolve(window, analysis=window.analysis + 1 + window.breakout // 2),
        )
        shifted.scan(shared, day)
        if fault := _difference(whole, signal_rows(strategy.scan(shared, day)), bars):
            yield f"a cached result of another window is returned: {fault}"


CASES: tuple[Case, ...] = (
    well_formed,
    cut,
    since,
    future,
    layouts,
    sessions,
    rows,
    tape,
    silence,
    half_day,
    purity,
)


def _difference(expected: SignalRows, seen: Signals | SignalRows, bars: Bars) -> str:
    # A sentence on the first row that differs, "" if none does.
    found = seen if isinstance(seen, dict) else signal_rows(seen)
    return next((_words(row, bars) for row in differing_rows(expected, found)), "")


def _words(one: Difference, bars: Bars) -> str:
    where = ", ".join([*(f"session {index}" for index in one.cell[:-1]), bars.symbols[one.cell[-1]]])
    return f"{where} has {one.found}"


def _edited(bars: Bars, edit: Callable[[Array], Array]) -> Bars:
    return Bars({name: edit(bars.field(name)) for name in NAMES}, bars.symbols)


def _chosen(bars: Bars, order: Index) -> Bars:
    return Bars({name: bars.field(name)[..., order] for name in NAMES}, tuple(bars.symbols[row] for row in order))
