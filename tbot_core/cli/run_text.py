"""A run as text: its heading, one event as a plain line, and its results."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from tbot_core.cli.run_options import MARKET_MODES
from tbot_core.cli.tables import style_signed, text_table, trade_table, wrap_sentence
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import DENIALS_COUNT, format_money, plural
from tbot_core.model.reasons import Reason
from tbot_core.reports import timeline
from tbot_core.reports.summary import SIMULATED_PRICES
from tbot_core.status.event_lines import stopped_sentence, unprotected_sentences, window_words
from tbot_core.system import environ

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tbot_core.cli.run_options import RunOptions
    from tbot_core.contracts import FeedLabel
    from tbot_core.engine.run_plan import RunOutcome
    from tbot_core.reports.summary import RunSummary
    from tbot_core.status.event_lines import EventLine

_MOST_TRADES = 60
_MOST_WINDOWS = 12
_VALUED = {"": "", "marks": ", at the last marks", "fills": ", positions at their last fill prices"}


def banner(mode: str, label: FeedLabel, closed: int = 0, interrupted: str = "") -> list[str]:
    """The source of the prices, and the notes about them.

    For a resumed run the number of `closed` sessions, and where it was `interrupted`: in which session of which run.
    """
    label_text = "SIMULATED PRICES: " if label.simulated else "Market prices: "
    lines = [f"tbot {mode}. {label_text}{label.name}."]
    lines += [f"  {note}" for note in label.notes]
    if interrupted:
        after = f", after {plural(closed, 'closed session')}" if closed else ""
        lines.append(f"Resuming {interrupted}{after}.")
    elif closed:
        lines.append(f"Resumed after {plural(closed, 'closed session')}.")
    return lines


def plain_line(line: EventLine) -> str:
    """A line with exchange time and UTC."""
    if line.time is None:
        return line.text
    return f"{exchange_time(line.time):%H:%M} ({line.time:%H:%M} UTC)  {line.text}"


def finished_lines(outcome: RunOutcome, options: RunOptions, width: int | None = None) -> Iterator[str]:
    """The results of a complete run, on a terminal of that width; None: no terminal."""
    journal = read_journal(outcome.journal)
    run_timeline = timeline.read_timeline(journal.events())
    journal.close()
    summary = outcome.summary
    home, which = _home(options), f" --run {outcome.journal.stem}" if options.is_apart else ""
    yield from _results(summary, width)
    yield from _no_trades(summary, width, f"`tbot why SYMBOL{which}{home}`", home)
    yield from _near_misses(run_timeline, width)
    yield from _notes(summary, width)
    yield from _total(summary, options)
    yield from _stuck(outcome, width)
    yield from _report(summary)
    symbol = summary.trades[0].symbol if summary.trades else "SYMBOL"
    yield f"Next:   {environ.own_command('tbot', sys.argv[0])} why {symbol}{which}{home}"


def backtest_lines(summary: RunSummary, width: int | None, home: Path | None = None) -> Iterator[str]:
    """The results of a backtest, on a terminal of that width; None: no terminal. `home` is the option --home."""
    where = "" if home is None else f" --home {home}"
    yield from _results(summary, width)
    yield from _no_trades(summary, width, f"`tbot run --replay FROM..TO{where}`, then `tbot why SYMBOL{where}`", where)
    yield from _notes(summary, width)
    yield from _reliability(summary, width)
    yield from _total(summary)
    yield from wrap_sentence(f"{summary.gears}.", width)
    yield from _report(summary)


def stopped_lines(outcome: RunOutcome, options: RunOptions, width: int | None = None) -> Iterator[str]:
    """The end of a stopped run; in the live market with its results."""
    if options.mode in MARKET_MODES:
        home = _home(options)
        yield from _results(outcome.summary, width)
        yield from _no_trades(outcome.summary, width, f"`tbot why SYMBOL{home}`", home)
        yield from _total(outcome.summary, options)
    if outcome.open:
        yield from wrap_sentence(stopped_sentence(outcome.open, outcome.unconfirmed), width)
        for sentence in unprotected_sentences(outcome.unprotected, outcome.cancelling):
            yield from wrap_sentence(sentence, width)
        yield from _stuck(outcome, width)
    else:
        yield from wrap_sentence(
            stopped_sentence((), outcome.unconfirmed) if options.mode in MARKET_MODES else "Stopped.", width
        )
    if options.rehearsal:
        yield "The journal is complete. This resumes the rehearsal; one without ?opens= has a journal of its own:"
        yield f"  tbot run --rehearsal '{options.rehearsal.text}'"
    else:
        yield "The journal is complete; the same command resumes the run."


def _home(options: RunOptions) -> str:
    # The option --home of the commands that are named.
    return "" if str(options.home) == "." else f" --home {options.home}"


def _report(summary: RunSummary) -> Iterator[str]:
    if summary.report:
        yield f"Report: {summary.report}"


def _stuck(outcome: RunOutcome, width: int | None) -> Iterator[str]:
    if outcome.stuck:
        yield from wrap_sentence(f"STUCK, to be closed at the next open: {', '.join(outcome.stuck)}.", width)


def _results(summary: RunSummary, width: int | None) -> Iterator[str]:
    yield ""
    yield from _trades(summary, width)
    yield from _split("strategy", summary.by_strategy, summary.pnl)
    yield from _split("broker", summary.by_broker, summary.pnl)
    yield from _denials(summary, width)


def _trades(summary: RunSummary, width: int | None) -> Iterator[str]:
    trades = summary.trades
    yield click.style("Trades", bold=True)
    if not trades:
        yield "  none"
        return
    yield from trade_table(trades[:_MOST_TRADES], width, several=len(summary.brokers) > 1)
    if len(trades) > _MOST_TRADES:
        where = "in the report" if summary.report else "with --json"
        yield f"  and {len(trades) - _MOST_TRADES} more, {where}"


def _split(what: str, parts: Mapping[str, tuple[int, int, Decimal]], pnl: Decimal) -> Iterator[str]:
    rows = [
        (name, f"{count}", f"{won}", style_signed(format_money(part, signed=True)))
        for name, (count, won, part) in parts.items()
    ]
    if rows:
        total = sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows)
        yield ""
        yield click.style(f"Net P&L by {what}", bold=True)
        if rest := pnl - sum((part for _, _, part in parts.values()), Decimal(0)):
            rows.append(("still open", "", "", style_signed(format_money(rest, signed=True))))
        last = ("all", *map(str, total), style_signed(format_money(pnl, signed=True)))
        yield from text_table((what, "trades", "won", "P&L"), [*rows, last], "lnnn")


def _denials(summary: RunSummary, width: int | None) -> Iterator[str]:
    if summary.denials:
        yield ""
        yield click.style(f"Denials by reason ({DENIALS_COUNT})", bold=True)
        rows = [(f"{count}", name, Reason[name].sentence_for(summary.strategies)) for name, count in summary.reasons]
        yield from text_table(("count", "reason", ""), rows, "nlw", width)


def _no_trades(summary: RunSummary, width: int | None, why: str, home: str) -> Iterator[str]:
    # Without a trade: what denied most, with the settings and commands that change it, or the command that explains.
    if advice := summary.no_trade_advice(why, home):
        yield ""
    for sentence in advice:
        yield from wrap_sentence(sentence, width)


def _near_misses(run_timeline: timeline.RunTimeline, width: int | None) -> Iterator[str]:
    windows = [(session.date, window) for session in run_timeline.chapters for window in session.windows]
    if windows:
        yield ""
        yield click.style("Near misses", bold=True)
        for date, window in windows[-_MOST_WINDOWS:]:
            near = [(miss.symbol, miss.distance) for miss in window.near_misses]
            words = window_words(window.strategy, window.candidates, window.triggers, near)
            yield from wrap_sentence(f"  {date}  {words}", width)


def _notes(summary: RunSummary, width: int | None) -> Iterator[str]:
    if notes := summary.other_caveats:
        yield ""
        yield click.style("Notes", bold=True)
        for note in notes:
            yield from wrap_sentence(f"  {note}", width)


def _reliability(summary: RunSummary, width: int | None) -> Iterator[str]:
    if (report := summary.reliability_report) is None:
        return
    yield ""
    yield click.style("Reliability", bold=True)
    colour = "yellow" if report.distrust else None
    for sentence in (report.headline, *report.warnings):
        yield from (click.style(line, fg=colour) for line in wrap_sentence(f"  {sentence}", width))
    rows = [
        (row.words, f"{row.trades:,}", style_signed(format_money(row.pnl, signed=True)), row.percent)
        for row in report.rows
    ]
    yield from text_table(("", "trades", "P&L", "of P&L"), rows, "lnnn")
    for title, words in report.facts:
        yield from wrap_sentence(f"  {title}: {words}", width)


def _total(summary: RunSummary, options: RunOptions | None = None) -> Iterator[str]:
    yield ""
    title = f"{options.title}: " if options is not None and options.is_apart else ""
    if not summary.equity_start:  # stopped before the first log-in
        yield click.style(f"{title}No session was traded.", bold=True)
        return
    equity = f"equity {format_money(summary.equity_start)} to {format_money(summary.equity_end)}"
    yield click.style(f"{title}{', '.join([*_counts(summary), equity])}{_VALUED[summary.valued]}", bold=True)
    if summary.simulated:
        yield SIMULATED_PRICES


def _counts(summary: RunSummary) -> Iterator[str]:
    # The sessions and trades; of a session that a stop left open also what it holds.
    sessions, trades = plural(summary.sessions, "session"), plural(len(summary.trades), "trade")
    if not summary.valued:
        yield from (sessions, trades)
        return
    yield f"{sessions} and a stopped one" if summary.sessions else "1 stopped session"
    yield f"{trades} closed"
    if summary.held:
        yield plural(summary.held, "open position")
