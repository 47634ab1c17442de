"""What a run came to, for a person: trades, profit by strategy, reasons, near misses, and where to look next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tbot_core import chronicle
from tbot_core.cli.narration import window_words
from tbot_core.cli.wish import MARKET
from tbot_core.clock import exchange_time
from tbot_core.figures import MINUS, money, plural, price, quantity
from tbot_core.journal import read_journal
from tbot_core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tbot_core.cli.wish import Wish
    from tbot_core.model import Trade
    from tbot_core.runner.plan import Outcome
    from tbot_core.summary import Summary

_MOST_TRADES = 60
_MOST_WINDOWS = 12


def closing(outcome: Outcome, wish: Wish) -> Iterator[str]:
    """The end of a run that was not stopped."""
    journal = read_journal(outcome.journal)
    story = chronicle.read(journal.events())
    journal.close()
    summary = outcome.summary
    yield from _results(summary)
    yield from _near_misses(story)
    yield from _notes(summary)
    yield from _total(summary)
    yield from _stuck(outcome)
    yield f"Report: {summary.report}"
    symbol = summary.trades[0].symbol if summary.trades else "SYMBOL"
    where = "" if str(wish.home) == "." else f" --home {wish.home}"
    yield f"Next:   tbot why {symbol}{where}"


def tested(summary: Summary) -> Iterator[str]:
    """The end of a backtest."""
    yield from _results(summary)
    yield from _notes(summary)
    yield from _total(summary)


def halted(outcome: Outcome, wish: Wish) -> Iterator[str]:
    """The end of a run that was stopped; on paper with what it has come to."""
    if wish.mode in MARKET:
        yield from _results(outcome.summary)
        yield from _total(outcome.summary)
    if outcome.open:
        yield f"Stopped with open positions: {', '.join(outcome.open)}."
        if outcome.bare:
            yield f"Without a stop order: {', '.join(outcome.bare)}."
        yield from _stuck(outcome)
    else:
        yield "Stopped; nothing is open." if wish.mode in MARKET else "Stopped."
    yield "The journal is complete up to here; the same command resumes."


def _stuck(outcome: Outcome) -> Iterator[str]:
    if outcome.stuck:
        yield f"STUCK, to be closed at the next open: {', '.join(outcome.stuck)}."


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kinds: str) -> Iterator[str]:
    """Rows under their heads; `kinds` has a letter a column: left or number."""
    widths = [max(len(click.unstyle(row[at])) for row in (heads, *rows)) for at in range(len(heads))]
    for row in (heads, *rows):
        cells = []
        for cell, width, kind in zip(row, widths, kinds, strict=True):
            blank = " " * (width - len(click.unstyle(cell)))
            cells.append(blank + cell if kind == "n" else cell + blank)
        line = f"  {'  '.join(cells)}".rstrip()
        yield click.style(line, dim=True) if row is heads else line


def signed(text: str) -> str:
    """A signed amount, blue for a gain and yellow for a loss; the sign says it without colour."""
    return click.style(text, fg="yellow" if text.startswith(MINUS) else "cyan")


def _results(summary: Summary) -> Iterator[str]:
    yield ""
    yield from _trades(summary)
    yield from _strategies(summary)
    yield from _denials(summary)


def _trades(summary: Summary) -> Iterator[str]:
    trades = summary.trades
    yield click.style("Trades", bold=True)
    if not trades:
        yield "  none"
        return
    rows = [_row(trade) for trade in trades[:_MOST_TRADES]]
    yield from table(
        ("session", "strategy", "symbol", "side", "shares", "entry", "at", "exit", "at", "why", "P&L"),
        rows,
        "llllnlnlnln",
    )
    if len(trades) > _MOST_TRADES:
        where = "in the report" if summary.report else "with --json"
        yield f"  and {len(trades) - _MOST_TRADES} more, {where}"


def _row(trade: Trade) -> tuple[str, ...]:
    entry, left = exchange_time(trade.entry_time), exchange_time(trade.exit_time)
    return (
        f"{entry:%m-%d}",
        trade.strategy,
        trade.symbol,
        trade.side.word,
        quantity(trade.quantity),
        f"{entry:%H:%M}",
        price(trade.entry_price),
        f"{left:%H:%M}",
        price(trade.exit_price),
        trade.exit_reason.value.lower().replace("_", " "),
        signed(money(trade.pnl, signed=True)),
    )


def _strategies(summary: Summary) -> Iterator[str]:
    rows = [
        (name, f"{count}", f"{won}", signed(money(pnl, signed=True)))
        for name, (count, won, pnl) in summary.by_strategy.items()
    ]
    if rows:
        total = sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows)
        pnl = signed(money(summary.pnl, signed=True))
        yield ""
        yield click.style("P&L by strategy", bold=True)
        yield from table(("strategy", "trades", "won", "P&L"), [*rows, ("all", *map(str, total), pnl)], "lnnn")


def _denials(summary: Summary) -> Iterator[str]:
    if summary.denials:
        yield ""
        yield click.style("Denied, by reason", bold=True)
        rows = [(f"{count}", name, Reason[name].sentence) for name, count in summary.reasons]
        yield from table(("count", "reason", ""), rows, "nll")


def _near_misses(story: chronicle.Chronicle) -> Iterator[str]:
    windows = [(chapter.date, window) for chapter in story.chapters for window in chapter.windows]
    if windows:
        yield ""
        yield click.style("Near misses", bold=True)
        for date, window in windows[-_MOST_WINDOWS:]:
            yield f"  {date}  {window_words(window.strategy, window.candidates, window.triggers, window.near_misses)}"


def _notes(summary: Summary) -> Iterator[str]:
    if summary.notes:
        yield ""
        yield click.style("Notes", bold=True)
        yield from (f"  {note}" for note in summary.notes)


def _total(summary: Summary) -> Iterator[str]:
    yield ""
    sessions = plural(summary.sessions, "session")
    equity = f"equity {money(summary.equity_start)} to {money(summary.equity_end)}"
    yield click.style(f"{sessions}, {plural(len(summary.trades), 'trade')}, {equity}", bold=True)
