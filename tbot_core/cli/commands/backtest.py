"""`tbot backtest`: trades a range of stored sessions at full speed, or checks its plugins for look-ahead."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

import click

from tbot_core.cli.options import BoundedInt, emit, home_option, json_option, print_warning, trial_option
from tbot_core.cli.tables import wrap_sentence
from tbot_core.errors import UsageError
from tbot_core.model.dates import day_range, parse_symbols
from tbot_core.model.formatting import plural
from tbot_core.system import garbage, terminal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Unpack

    from tbot_core.actions.backtests import Backtest
    from tbot_core.backtest.lookahead import LookaheadFinding, LookaheadReport
    from tbot_core.contracts import FeedLabel
    from tbot_core.reports.summary import RunSummary

_MOST_FINDINGS: Final = 10


class _BacktestOptions(TypedDict):
    # The options as click passes them.

    first: str
    last: str
    symbols: str | None
    strategy: str
    seed: int | None
    progress: Path | None
    lookahead: bool
    every: bool
    trial: dict[str, str]
    home: Path | None
    as_json: bool


@click.command(name="backtest")
@click.option("--from", "first", required=True, metavar="DATE", help="First day, YYYY-MM-DD.")
@click.option("--to", "last", required=True, metavar="DATE", help="Last day, inclusive.")
@click.option("--symbols", metavar="A,B,...", help="Only these symbols. Default: UNIVERSE, else all stored symbols.")
@click.option("--strategy", default="", metavar="NAME", help="Only this strategy. Default: STRATEGY_SEQUENCE.")
@click.option("--seed", type=BoundedInt(min=0), help="Seed of the slippage model. Default: SEED.")
@click.option(
    "--progress",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the number of traded sessions, and of all, to this file as JSON.",
)
@click.option(
    "--check-lookahead",
    "lookahead",
    is_flag=True,
    help="Trade nothing: check that no later bar changes a signal. Exit 1 if one does.",
)
@click.option("--all", "every", is_flag=True, help="With --check-lookahead: every session, however long it takes.")
@trial_option
@home_option
@json_option
def command(**given: Unpack[_BacktestOptions]) -> None:
    """Backtest a range of stored sessions, with the same decision code as live trading.

    The same settings, bars and seed give the same trades as `tbot run --replay`, if no strategy uses bars of the
    future: --check-lookahead looks for that.
    """
    with garbage.kept_start():
        from tbot_core.actions.backtests import backtest_overrides, prepare_backtest
        from tbot_core.cli.run_text import backtest_lines

        if given["every"] and not given["lookahead"]:
            raise UsageError("--all belongs to --check-lookahead.", "Add --check-lookahead, or leave out --all.")
        overrides = backtest_overrides(given["strategy"], given["seed"])
        days = day_range(given["first"], given["last"])
        prepared = prepare_backtest(given["home"], days, parse_symbols(given["symbols"]), overrides, given["trial"])
    if given["lookahead"]:
        _check_lookahead(prepared, given)
        return
    summary = _run_with_progress(prepared, quiet=given["as_json"], file=given["progress"])
    emit(summary.document(), as_json=given["as_json"], lines=backtest_lines(summary, terminal.columns(), given["home"]))
    if summary.unwritten is not None:
        raise summary.unwritten


def _run_with_progress(prepared: Backtest, *, quiet: bool, file: Path | None = None) -> RunSummary:
    # Run a backtest and return its result, after printing its warnings and where the bars come from.
    # With `quiet` that line goes to standard error; otherwise progress does, on a terminal. It goes to `file` too,
    # with the notes on the bars from the start.
    from tbot_core.cli.run_text import banner

    def started(label: FeedLabel) -> None:
        for line in banner("backtest", label):
            click.echo(line, err=quiet)
        notes.extend(label.notes)
        advance(0)
        shown.enter_context(bar)  # below those lines

    for warning in prepared.warnings:
        print_warning(warning)
    notes: list[str] = []
    bar, advance = _progress(prepared, quiet=quiet, file=file, notes=notes)
    with ExitStack() as shown:
        return prepared.run(lambda _day: advance(1), started)


def lookahead_lines(report: LookaheadReport, width: int | None) -> Iterator[str]:
    """What was checked, what was found, and the verdict; on a terminal of that width, None: no terminal."""
    yield from wrap_sentence(_checked_sentence(report), width)
    for one in report.found[:_MOST_FINDINGS]:
        yield from wrap_sentence(_finding_sentence(one), width)
    if len(report.found) > _MOST_FINDINGS:
        yield f"... and {len(report.found) - _MOST_FINDINGS} more; --json has all."
    guilty = sorted({one.plugin for one in report.found})
    if not guilty:
        yield "No look-ahead." if report.signals else "No look-ahead, but no signal either: nothing could differ."
        return
    verdict = f"Look-ahead of {', '.join(guilty)}: a backtest trades what live trading cannot know."
    yield from wrap_sentence(verdict, width)


def _check_lookahead(prepared: Backtest, given: _BacktestOptions) -> None:
    # Report plugins whose answers change with later bars; exit 1 if there are any.
    import attrs

    for warning in prepared.warnings:
        print_warning(warning)
    bar, advance = _progress(prepared, quiet=given["as_json"], file=given["progress"])
    with bar:
        report = prepared.check_lookahead(lambda _day: advance(1), every=given["every"])
    emit(attrs.asdict(report), as_json=given["as_json"], lines=lookahead_lines(report, terminal.columns()))
    if report.found:
        click.get_current_context().exit(1)


def _progress(
    prepared: Backtest, *, quiet: bool, file: Path | None, notes: Sequence[str] = ()
) -> tuple[Any, Callable[[int], None]]:
    # A bar over the sessions, and the function that moves it by some of them, and writes the file with the notes.
    from tbot_core.actions.simulations import write_progress

    hidden = quiet or not sys.stderr.isatty()
    bar = click.progressbar(length=prepared.sessions, label="sessions", file=sys.stderr, hidden=hidden)

    def advance(sessions: int) -> None:
        bar.update(sessions)
        if file is not None:
            write_progress(file, bar.pos, prepared.sessions, notes)

    return bar, advance


def _checked_sentence(report: LookaheadReport) -> str:
    sample = "" if report.checked == report.sessions else f" of {report.sessions:,} (a sample: --all checks every one)"
    judged = f", and the judgements of {', '.join(report.filters)}" if report.filters else ""
    return (
        f"Checked {', '.join(report.strategies)} from {report.first} to {report.last} in "
        f"{plural(report.checked, 'session')}{sample} of {plural(report.symbols, 'symbol')}: "
        f"{plural(report.signals, 'signal')}{judged}, without the bars after each minute of the entry phase, with "
        f"random ones, and with each session alone."
    )


def _finding_sentence(one: LookaheadFinding) -> str:
    by = f"[{one.strategy}]" if one.plugin == f"strategy/{one.strategy}" else f"{one.plugin} on [{one.strategy}]"
    symbol = f" {one.symbol}" if one.symbol else ""
    return f"{by} {one.session} {one.time}{symbol} (minute {one.minute}): {one.change}: {one.found}"
