"""`tbot backtest`: trades a range of stored sessions at full speed."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypedDict

import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option
from tbot_core.errors import UsageError
from tbot_core.model.dates import day_range, parse_symbols
from tbot_core.model.formatting import printable_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date
    from pathlib import Path
    from typing import Unpack

    from tbot_core.contracts import FeedLabel
    from tbot_core.reports.summary import RunSummary


class BacktestOptions(TypedDict):
    """The options as click passes them."""

    first: str
    last: str
    symbols: str | None
    strategy: str
    seed: int | None
    home: Path | None
    as_json: bool


@click.command(name="backtest")
@click.option("--from", "first", required=True, metavar="DATE", help="First day, YYYY-MM-DD.")
@click.option("--to", "last", required=True, metavar="DATE", help="Last day, inclusive.")
@click.option("--symbols", metavar="A,B,...", help="Only these symbols. Default: UNIVERSE, else all stored symbols.")
@click.option("--strategy", default="", metavar="NAME", help="Only this strategy. Default: STRATEGY_SEQUENCE.")
@click.option("--seed", type=BoundedInt(min=0), help="Seed of the slippage model. Default: SEED.")
@home_option
@json_option
def command(**given: Unpack[BacktestOptions]) -> None:
    """Backtest a range of stored sessions, with the same decision code as live trading.

    The same settings, bars and seed give the same trades as `tbot run --replay`.
    """
    overrides = {"STRATEGY_OVERRIDE": installed_strategy(given["strategy"])} if given["strategy"] else {}
    if given["seed"] is not None:
        overrides["SEED"] = str(given["seed"])
    days = day_range(given["first"], given["last"])
    from tbot_core.cli.text.run import backtest_lines
    from tbot_core.system import terminal

    summary = backtest_with_progress(
        given["home"], days, parse_symbols(given["symbols"]), overrides, quiet=given["as_json"]
    )
    emit(summary.document(), as_json=given["as_json"], lines=backtest_lines(summary, terminal.columns(), given["home"]))


def installed_strategy(name: str) -> str:
    """The name of an installed strategy, in any case of letters; raises UsageError for any other."""
    from tbot_core.plugins.discovery import installed_plugins

    known = sorted({it.entry.name for it in installed_plugins() if it.entry.kind == "strategy"})
    if name.strip().lower() not in known:
        there = f"installed: {', '.join(known)}" if known else "none is installed"
        raise UsageError(
            f"--strategy {printable_name(name)}: not installed ({there}).", "`tbot plugins list` shows every plugin."
        )
    return name


def backtest_with_progress(
    home: Path | None, days: tuple[date, date], symbols: tuple[str, ...], overrides: Mapping[str, str], *, quiet: bool
) -> RunSummary:
    """Run a backtest and return its result, after printing where the bars come from.

    With `quiet` that line goes to standard error; otherwise progress does, on a terminal.
    """
    from tbot_core.cli.run_display import print_warnings
    from tbot_core.cli.text.run import banner
    from tbot_core.engine.backtest.engine import BacktestRange, run_backtest
    from tbot_core.engine.bootstrap import assemble
    from tbot_core.model.clock import SystemClock

    def started(label: FeedLabel) -> None:
        for line in banner("backtest", label):
            click.echo(line, err=quiet)
        shown.enter_context(bar)  # below those lines

    assembly = assemble(home, "backtest", SystemClock(), overrides)
    print_warnings(assembly)
    over = BacktestRange(first=days[0], last=days[1], symbols=symbols)
    sessions = len(assembly.calendar.sessions(*days))
    hidden = quiet or not sys.stderr.isatty()
    bar = click.progressbar(length=sessions, label="sessions", file=sys.stderr, hidden=hidden)
    with ExitStack() as shown:
        return run_backtest(assembly, over, lambda _day: bar.update(1), started)
