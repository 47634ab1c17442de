"""Look-ahead: a strategy's signals, or a filter's comparisons, that later bars change.

Each function compares one answer on whole sessions with the answers on what was known earlier. The contract kit runs
them on a market of its own, `tbot backtest --check-lookahead` on the user's bars.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import numpy as np

from tbot_core.model.bars import FIELDS, Bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tbot_core.contracts import Check, Filter, Strategy
    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Array
    from tbot_core.model.day_facts import DayFacts, MarketView
    from tbot_core.model.signals import Signals

NAMES: Final = (*FIELDS, "vwap")
COLUMNS: Final = ("minute", "side", "price", "strength", "stop", "target", "rule")
_PARTS: Final = ("value", "low", "high")
_DIGITS: Final = 7
_ALL_DIGITS: Final = 17

Cell: TypeAlias = "tuple[int, ...]"
SignalRows: TypeAlias = "dict[Cell, tuple[int | str, ...]]"
"""Signals by cell: their columns, floats as hexadecimal text, so that equal means equal bits."""


@attrs.frozen(kw_only=True)
class Difference:
    """A row whose answer differs: `cell` is its session, if there are several, and its symbol.

    `known`: the number of minutes that both answers saw alike. `minute`: that of the signal. `found` says what was
    answered, and what on the whole session.
    """

    cell: Cell
    known: int
    minute: int
    found: str


def signal_rows(signals: Signals) -> SignalRows:
    """Signals by cell."""
    columns = [getattr(signals, name).tolist() for name in COLUMNS]
    values = (tuple(_bits(value) for value in row) for row in zip(*columns, strict=True))
    return dict(zip(cells_of(signals), values, strict=True))


def cells_of(signals: Signals) -> list[Cell]:
    """The cell of each signal."""
    return list(zip(*(axis.tolist() for axis in signals.cells), strict=True))


def differing_rows(expected: Mapping[Cell, Any], seen: Mapping[Cell, Any], known: int = 0) -> Iterator[Difference]:
    """The rows of `seen` that differ from those of `expected`, in order of the cells."""
    for cell in sorted({*expected, *seen}):
        one, other = expected.get(cell), seen.get(cell)
        if one != other:
            minute = int((one or other or (0,))[0])
            shown = _words(other), _words(one)
            if shown[0] == shown[1]:  # they differ beyond the digits that are shown
                shown = _words(other, _ALL_DIGITS), _words(one, _ALL_DIGITS)
            yield Difference(cell=cell, known=known, minute=minute, found=" instead of ".join(shown))


def cut_bars(bars: Bars, cuts: Iterable[int]) -> Iterator[tuple[int, Bars]]:
    """The bars cut to each number of minutes, with that number."""
    for known in cuts:
        yield known, bars.until(known)


def changed_bars(bars: Bars, cuts: Iterable[int], values: Array | float) -> Iterator[tuple[int, Bars]]:
    """Bars of the same length that are known to each number of minutes; later ones have other numbers.

    `values` is one number, or has the shape of a field. The longest part comes first; the next replaces it.
    """
    changed = {name: bars.field(name).copy() for name in NAMES}
    untouched = bars.minutes
    for known in sorted(cuts, reverse=True):
        for field in changed.values():
            field[known:untouched] = values if isinstance(values, float) else values[known:untouched]
        untouched = min(known, untouched)
        yield known, Bars(changed, bars.symbols)


def signal_differences(whole: Signals, seen: Signals, known: int) -> Iterator[Difference]:
    """The rows whose signals differ, of those that all bars give in the first `known` minutes."""
    expected = whole.take(whole.minute < known)
    if not _same(expected, seen):
        yield from differing_rows(signal_rows(expected), signal_rows(seen), known)


def block_differences(strategy: Strategy, bars: Bars, day: DayFacts, whole: Signals) -> Iterator[Difference]:
    """Signals of a block that its sessions do not have alone; none for a single session."""
    if len(whole.cells) == 1:
        return
    rows = signal_rows(whole)
    for index in range(bars.field("close").shape[1]):
        own = {cell[1:]: row for cell, row in rows.items() if cell[0] == index}
        alone = signal_rows(strategy.scan(bars.session(index), day.session(index)))
        for one in differing_rows(own, alone, bars.minutes):
            yield attrs.evolve(one, cell=(index, *one.cell))


def judgement_differences(
    judge: Filter, signals: Signals, market: MarketView, frame: StrategySettings, values: Array
) -> Iterator[Difference]:
    """Comparisons of a filter that bars after the minute of their signal change: without them, and with `values`."""
    whole = judge.judge(signals, market, frame)
    cuts = (np.unique(signals.minute) + 1).tolist()
    for known, later in itertools.chain(cut_bars(market.bars, cuts), changed_bars(market.bars, cuts, values)):
        rows = np.flatnonzero(signals.minute == known - 1)
        own, expected = signals.take(rows), [check_rows(check, rows) for check in whole]
        seen = judge.judge(own, attrs.evolve(market, bars=later), frame)
        for row, found in _differing_checks(expected, seen):
            yield Difference(cell=cells_of(own)[row], known=known, minute=known - 1, found=found)


def check_rows(check: Check, chosen: Any) -> Check:
    """A comparison of the chosen rows."""

    def cut(bound: Array | float | None) -> Array | float | None:
        return bound[chosen] if isinstance(bound, np.ndarray) and bound.ndim else bound

    return attrs.evolve(check, value=check.value[chosen], low=cut(check.low), high=cut(check.high))


def _same(one: Signals, other: Signals) -> bool:
    # Whether all columns have the same bits in the same order: much faster than by rows, and nearly always so.
    def columns(signals: Signals) -> Iterator[bytes]:
        for column in (*signals.cells, *(getattr(signals, name) for name in COLUMNS)):
            yield column.tobytes()

    return all(left == right for left, right in zip(columns(one), columns(other), strict=True))


def _differing_checks(expected: Sequence[Check], seen: Sequence[Check]) -> Iterator[tuple[int, str]]:
    # The rows whose comparisons differ, with the names of those.
    names = [check.name for check in expected], [check.name for check in seen]
    if names[0] != names[1]:
        yield 0, f"the comparisons are {names[1]} instead of {names[0]}"
        return
    for one, other in zip(expected, seen, strict=True):
        for part in _PARTS:
            left, right = (_column(getattr(check, part), len(check.value)) for check in (one, other))
            differs = ~((left == right) | (np.isnan(left) & np.isnan(right)))
            for row in np.flatnonzero(differs).tolist():
                yield row, f"{part} {right[row]!s} of {one.name} instead of {left[row]!s}"


def _column(bound: Array | float | None, length: int) -> Array:
    return np.broadcast_to(np.nan if bound is None else bound, (length,))


def _bits(value: float) -> int | str:
    return value if isinstance(value, int) else float(value).hex()


def _words(row: tuple[int | str, ...] | None, digits: int = _DIGITS) -> str:
    if row is None:
        return "no signal"
    values = (value if isinstance(value, int) else float.fromhex(value) for value in row)
    columns = zip(COLUMNS, values, strict=True)
    return ", ".join(f"{name} {value:.{digits}g}" for name, value in columns if not math.isnan(value))
