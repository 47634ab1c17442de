"""Backtests: trades a range of stored sessions at full speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.actions.assembly import settings_warnings
from tbot_core.backtest.engine import BacktestRange, run_backtest
from tbot_core.backtest.lookahead import BUDGET_S, LookaheadReport, check_lookahead
from tbot_core.engine.assembly import Assembly
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import UsageError
from tbot_core.instance import Instance, read_settings_files
from tbot_core.instance.loading import with_trial
from tbot_core.model.clock import SystemClock
from tbot_core.model.formatting import printable_name
from tbot_core.plugins.discovery import installed_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from pathlib import Path

    from tbot_core.contracts import FeedLabel
    from tbot_core.reports.summary import RunSummary


@attrs.frozen(kw_only=True)
class Backtest:
    """A backtest that is ready to run, with the settings of its assembly."""

    assembly: Assembly
    over: BacktestRange

    @property
    def sessions(self) -> int:
        """The number of sessions in its range."""
        return len(self.assembly.calendar.sessions(self.over.first, self.over.last))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about its settings."""
        return settings_warnings(self.assembly)

    def run(self, progress: Callable[[date], None], on_label: Callable[[FeedLabel], None]) -> RunSummary:
        """Trade the range and write the report; DataError without bars.

        `on_label` gets the label of the bars, then `progress` each session's date.
        """
        return run_backtest(self.assembly, self.over, progress, on_label)

    def check_lookahead(self, progress: Callable[[date], None], *, every: bool) -> LookaheadReport:
        """Check that no later bar changes a signal: of `every` session, else of as many as a minute allows.

        `progress` gets each session's date. DataError without bars.
        """
        return check_lookahead(self.assembly, self.over, progress, budget_s=None if every else BUDGET_S)


def prepare_backtest(
    home: Path | None,
    days: tuple[date, date],
    symbols: tuple[str, ...],
    overrides: Mapping[str, str],
    trial: Mapping[str, str] | None = None,
) -> Backtest:
    """A backtest from the first to the last day, of these symbols or UNIVERSE.

    `overrides` replace settings, and so do those of `trial`, which the banner and the report name.
    """
    over = BacktestRange(first=days[0], last=days[1], symbols=symbols)
    sources = with_trial(read_settings_files(Instance.at(home)), trial or {})
    return Backtest(assembly=assemble(home, "backtest", SystemClock(), overrides, sources), over=over)


def backtest_overrides(strategy: str, seed: int | None) -> dict[str, str]:
    """The settings for one strategy, "" for those of STRATEGY_SEQUENCE, and for a seed, None for SEED.

    Raises UsageError for a strategy that is not installed.
    """
    overrides = {"STRATEGY_OVERRIDE": installed_strategy(strategy)} if strategy else {}
    return overrides if seed is None else overrides | {"SEED": str(seed)}


def installed_strategy(name: str) -> str:
    """The name of an installed strategy, in any case of letters; raises UsageError for any other."""
    known = sorted({plugin.entry.name for plugin in installed_plugins() if plugin.entry.kind == "strategy"})
    if name.strip().lower() not in known:
        there = f"installed: {', '.join(known)}" if known else "none is installed"
        raise UsageError(
            f"--strategy {printable_name(name)}: not installed ({there}).", "`tbot plugins list` shows every plugin."
        )
    return name
