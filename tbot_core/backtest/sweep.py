"""Sweeps: many sets of settings traded on the same bars, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.backtest.engine import BacktestRange, read_range
from tbot_core.backtest.trials import TrialRun, run_trials, trial_of
from tbot_core.engine.assembly import Assembly, ChangedAssemblies
from tbot_core.model.types import ATOMS_PER_CENT, dollars_of

if TYPE_CHECKING:
    from tbot_core.backtest.results import TestedSession
    from tbot_core.marketdata.store.store import BarBlock


@attrs.define(kw_only=True, eq=False)
class SweepResult:
    """The result of one set: its settings by variable, and figures of each session in order; money in dollars.

    `equity` is that at the end of each session, `trades` their number of closed positions, `won` of those that
    are shown with a profit. `denials` counts by reason code. `walked`: sessions that were walked minute by minute.
    """

    changes: Mapping[str, str]
    settings_hash: str
    equity_start: Decimal
    dates: list[date] = attrs.field(factory=list)
    equity: list[Decimal] = attrs.field(factory=list)
    trades: list[int] = attrs.field(factory=list)
    won: list[int] = attrs.field(factory=list)
    denials: Counter[str] = attrs.field(factory=Counter)
    walked: int = 0

    @property
    def pnl(self) -> Decimal:
        """Profit after fees."""
        return self.equity[-1] - self.equity_start if self.equity else Decimal(0)

    def add(self, tested: TestedSession) -> None:
        """Add a session."""
        self.dates.append(tested.session.date)
        self.equity.append(dollars_of(tested.equity_atoms))
        profits = tested.profits
        self.trades.append(len(profits))
        self.won.append(sum([2 * one > ATOMS_PER_CENT for one in profits]))
        if denials := tested.denials:
            self.denials.update(denials)
        self.walked += bool(tested.cause)


def sweep(assembly: Assembly, over: BacktestRange, grid: Sequence[Mapping[str, str]]) -> list[SweepResult]:
    """Trade a range with each set of changed settings; DataError without bars.

    Raises SettingsError for a set that is invalid, and PluginError for one that needs another plugin than the
    assembly's. Sets that trade the same symbols on the same days read their bars once.
    """
    alike = dict[Hashable, list[_Set]]()
    for one in _sets(assembly, grid):
        settings = one.assembly.settings.trading
        key = id(one.assembly.calendar), over.symbols or settings.universe, one.assembly.extra_facts
        alike.setdefault(key, []).append(one)
    results = dict[int, SweepResult]()
    for sets in alike.values():
        found = read_range(sets[0].assembly, over)
        results |= _traded(sets, found.blocks, found.chosen.partial_volume)
    return [results[place] for place in range(len(grid))]


def sweep_blocks(
    assembly: Assembly, grid: Sequence[Mapping[str, str]], blocks: Iterable[BarBlock]
) -> list[SweepResult]:
    """The same on blocks, whose days and symbols are those of every set."""
    return list(_traded(_sets(assembly, grid), blocks, frozenset()).values())


@attrs.frozen(eq=False)
class _Set:
    place: int
    changes: Mapping[str, str]
    assembly: Assembly


def _sets(assembly: Assembly, grid: Sequence[Mapping[str, str]]) -> list[_Set]:
    assemblies = ChangedAssemblies(assembly)
    return [_Set(place, changes, assemblies.of(changes)) for place, changes in enumerate(grid)]


def _traded(sets: Sequence[_Set], blocks: Iterable[BarBlock], partial_volume: frozenset[str]) -> dict[int, SweepResult]:
    # The results by place; `partial_volume`: symbols whose volumes are a part of the tape.
    results, runs = dict[int, SweepResult](), dict[TrialRun, SweepResult]()
    for one in sets:
        run = TrialRun(trial_of(one.assembly, partial_volume))
        runs[run] = results[one.place] = SweepResult(
            changes=one.changes,
            settings_hash=one.assembly.settings.fingerprint,
            equity_start=dollars_of(run.equity_atoms),
        )
    for run, tested in run_trials(list(runs), blocks):
        runs[run].add(tested)
    for run, result in runs.items():
        result.denials.update(run.before_bell.denials)
    return results
