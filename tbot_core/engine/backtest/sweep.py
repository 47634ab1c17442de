"""Sweeps: many sets of settings traded on the same bars, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

import attrs

from tbot_core.engine.assembly import Assembly, ChangedAssemblies
from tbot_core.engine.backtest.engine import BacktestRange, read_range
from tbot_core.engine.backtest.trials import TrialRun, run_trials, trial_of
from tbot_core.model.types import dollars_of

if TYPE_CHECKING:
    from tbot_core.engine.backtest.results import TestedSession
    from tbot_core.marketdata.store.store import BarBlock


@attrs.define(kw_only=True, eq=False)
class SweepResult:
    """The result of one set: its settings by variable, and figures of each session in order; money in dollars.

    `equity` is that at the end of each session, `trades` their number of closed positions, `won` of those with a
    profit. `denials` counts by reason code. `walked`: sessions that were walked minute by minute.
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
        self.won.append(sum([one > 0 for one in profits]))
        if denials := tested.denials:
            self.denials.update(denials)
        self.walked += bool(tested.cause)


def sweep(assembly: Assembly, over: BacktestRange, grid: Sequence[Mapping[str, str]]) -> list[SweepResult]:
    """Trade a range with each set of changed settings; DataError without bars.

    Raises SettingsError for a set that is invalid, and PluginError for one that needs another plugin than the
    assembly's. Symbols are those of the range or UNIVERSE, in every set.
    """
    found = read_range(assembly, over)
    return sweep_blocks(assembly, grid, found.blocks, found.chosen.partial_volume)


def sweep_blocks(
    assembly: Assembly,
    grid: Sequence[Mapping[str, str]],
    blocks: Iterable[BarBlock],
    partial_volume: frozenset[str] = frozenset(),
) -> list[SweepResult]:
    """The same on blocks; the volumes of the symbols in `partial_volume` are a part of the tape."""
    assemblies, results = ChangedAssemblies(assembly), dict[TrialRun, SweepResult]()
    for changes in grid:
        one = assemblies.of(changes)
        run = TrialRun(trial_of(one, partial_volume))
        results[run] = SweepResult(
            changes=changes, settings_hash=one.settings.fingerprint, equity_start=dollars_of(run.equity_atoms)
        )
    for run, tested in run_trials(list(results), blocks):
        results[run].add(tested)
    for run, result in results.items():
        result.denials.update(run.before_bell.denials)
    return list(results.values())
