"""The report's figures and tables: key figures with what they mean, reliability, results, denials, risk, provenance.

With the pieces of all sections: headings, tables, times and amounts.
"""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Final

from tbot_core.model.clock import both_times, exchange_time
from tbot_core.model.formatting import DENIALS_COUNT, format_money, format_percent, format_quantity, plural
from tbot_core.model.reasons import Reason
from tbot_core.reports import figures
from tbot_core.reports.summary import SIMULATED_PRICES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from tbot_core.journal.events.risk import PositionStuck
    from tbot_core.journal.events.sessions import NearMiss
    from tbot_core.reports.figures import TradeFigures
    from tbot_core.reports.reliability import ResultRow
    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline, SessionTimeline

_NAMES: Final = {
    "demo": "Demo",
    "replay": "Replay",
    "dry-run": "Dry run",
    "paper": "Paper trading",
    "live": "Live trading",
    "backtest": "Backtest",
}
_SIMULATOR: Final = "paper"
_FIGURES: Final = ("value", "limit")
_DASH: Final = "\N{EN DASH}"
_Row = tuple[str, str, str]


def title(summary: RunSummary, story: RunTimeline) -> str:
    """The report's title in one line."""
    days = [chapter.date for chapter in story.chapters]
    span = "" if not days else f", {days[0]}" if len(days) == 1 else f", {days[0]} to {days[-1]}"
    return f"{_NAMES.get(summary.mode, summary.mode)}{span}"


def header(summary: RunSummary, story: RunTimeline) -> str:
    """Render title and banner with the source of the prices."""
    source = escape(str(story.run.get("source", "")))
    if summary.simulated:
        words = f"{SIMULATED_PRICES} So are volumes, companies and index levels."
        banner = f'<p class="banner"><strong>SIMULATED PRICES</strong> {words} Source: {source}.</p>'
    else:
        words = escape(_sent(summary))
        banner = f'<p class="banner real"><strong>MARKET PRICES</strong> Source: {source}. {words}</p>'
    what = (
        f"{plural(summary.sessions, 'session')}, {plural(summary.symbols, 'symbol')}; times are New York, with UTC "
        "beside them"
    )
    dated = re.sub(r"\d{4}-\d\d-\d\d", r'<span class="date">\g<0></span>', escape(title(summary, story)))
    return f'<h1>{dated}</h1>\n<p class="soft">{what}</p>\n{banner}'


def strategies(summary: RunSummary) -> str:
    """Render profit by strategy."""
    return _split("strategy", summary.by_strategy)


def brokers(summary: RunSummary) -> str:
    """Render profit by broker, if there were several."""
    return _split("broker", summary.by_broker)


def denials(summary: RunSummary) -> str:
    """Render the count of each denial reason, with its sentence."""
    rows = [
        (f"<code>{escape(name)}</code>", f"{count:,}", _sentence(name, summary.strategies))
        for name, count in summary.reasons
    ]
    return section("Denials", table(("Reason", f"Count ({DENIALS_COUNT})", "Meaning"), rows, "lnw")) if rows else ""


def near_misses(story: RunTimeline) -> str:
    """Render the windows of each session with their near misses."""
    rows = []
    for chapter in story.chapters:
        for window in chapter.windows:
            close = [_near(chapter, miss) for miss in window.near_misses]
            counts = (f"{window.candidates:,}", f"{window.triggers:,}")
            rows.append((chapter.date, escape(window.strategy), *counts, "; ".join(close) or "none"))
    heads = ("Session", "Window", "Candidates", "Triggers", "Closest without a trigger")
    return section("Near misses", table(heads, rows, "llnnw")) if rows else ""


def risk(story: RunTimeline) -> str:
    """Render changes of the risk state, and latches."""
    rows = [
        (
            chapter.date,
            clock(moment),
            escape(change.what),
            escape(change.cause),
            signed(change.value),
            signed(change.limit),
        )
        for chapter in story.chapters
        for moment, change in chapter.risk
    ]
    return (
        section("Risk", table(("Session", "Time", "Change", "Cause", "P&amp;L", "Limit"), rows, "llllnn"))
        if rows
        else ""
    )


def stuck(story: RunTimeline) -> str:
    """Render positions that could not be closed by a session's end."""
    rows = [
        (
            chapter.date,
            escape(position.symbol),
            *_place(story, chapter, position),
            position.side,
            escape(position.words),
            format_quantity(position.quantity),
        )
        for chapter in story.chapters
        for position in chapter.stuck
    ]
    heads = ("Session", "Symbol", *(("Broker",) if story.has_several_brokers else ()), "Side", "Why", "Shares")
    return section("Stuck", table(heads, rows, "l" * (len(heads) - 1) + "n")) if rows else ""


def provenance(summary: RunSummary, story: RunTimeline) -> str:
    """Render notes, and the hashes of settings and data."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in summary.other_caveats)
    pairs = (
        ("Run", story.run.get("run_id", "")),
        ("Source", story.run.get("source", "")),
        ("Settings", summary.settings_hash),
        ("Data", summary.data_hash),
    )
    facts = "".join(f"<dt>{name}</dt><dd><code>{escape(str(text))}</code></dd>" for name, text in pairs)
    if summary.gears:
        facts = f"<dt>Decided</dt><dd>{escape(summary.gears)}</dd>{facts}"
    listed = f'<ul class="notes">{notes}</ul>' if notes else ""
    return section("Notes", f'{listed}<dl class="facts">{facts}</dl>')


def key_figures(summary: RunSummary, story: RunTimeline) -> str:
    """Render the figures; one that is undefined is a dash, with the reason."""
    trades = figures.trade_figures(summary.trades)
    groups = (
        ("Result", _result(summary, trades)),
        ("Trades", _trades(trades)),
        ("Risk", _risk(summary, story)),
    )
    return f'{_cards(summary, story, trades)}\n<div class="groups">{"".join(map(_group, groups))}</div>'


def reliability(summary: RunSummary) -> str:
    """Render the banner of a backtest; "" for other runs."""
    report = summary.reliability_report
    if report is None:
        return ""
    kind = "trust warned" if report.distrust else "trust"
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in report.warnings)
    listed = f"<ul>{warnings}</ul>" if warnings else ""
    facts = "".join(f"<dt>{title}</dt><dd>{escape(words)}</dd>" for title, words in report.facts)
    numbers = "".join(f'<th scope="col" class="n">{name}</th>' for name in ("Trades", "P&amp;L", "of P&amp;L"))
    head = f'<tr><th scope="col">Result</th>{numbers}</tr>'
    rows = "".join(map(_reliability_row, report.rows))
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    content = (
        f'<div class="{kind}"><p><strong>{escape(report.headline)}</strong></p>{listed}{table}<dl>{facts}</dl></div>'
    )
    return section("Reliability", content)


def section(name: str, content: str) -> str:
    """A section with its heading."""
    return f"<section><h2>{name}</h2>\n{content}</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kinds: str) -> str:
    """A table; `kinds` has a letter per column: left, number (right), wide (wraps).

    On a phone the cells of a row with a wide one stand below each other, numbers with the name of their column.
    """
    head = "".join(_head(text, kind) for text, kind in zip(heads, kinds, strict=True))
    body = "\n".join(_row(heads, row, kinds) for row in rows)
    stacked = " stacked" if "w" in kinds else ""
    return f'<div class="table{stacked}"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def clock(moment: datetime) -> str:
    """Exchange time, with UTC beside it."""
    there = f'<span title="{escape(both_times(moment))}">{exchange_time(moment):%H:%M}</span>'
    return f'{there} <span class="soft">{moment:%H:%M}</span>'


def signed(amount: Decimal) -> str:
    """An amount with its sign, in the colour of a gain or a loss."""
    kind = "gain" if amount > 0 else "loss" if amount < 0 else "soft"
    return f'<span class="{kind}">{format_money(amount, signed=True)}</span>'


def _sent(summary: RunSummary) -> str:
    # Where the orders went, and whether the money was real.
    away = [name for name in summary.brokers if name != _SIMULATOR]
    if not away:
        return "Fills are simulated: no order left this machine."
    return f"Orders were sent to {' and '.join(away)}, with {'real' if summary.mode == 'live' else 'paper'} money."


def _split(what: str, parts: Mapping[str, tuple[int, int, Decimal]]) -> str:
    rows = [
        (escape(name), f"{count:,}", f"{won} of {count}", signed(pnl), signed(pnl / count))
        for name, (count, won, pnl) in parts.items()
    ]
    heads = (what.capitalize(), "Trades", "Winners", "P&amp;L", "Average")
    return section(f"By {what}", table(heads, rows, "lnnnn")) if rows else ""


def _place(story: RunTimeline, chapter: SessionTimeline, position: PositionStuck) -> tuple[str, ...]:
    # The cell with the broker, if there were several.
    return (escape(position.broker or chapter.primary),) if story.has_several_brokers else ()


def _near(chapter: SessionTimeline, miss: NearMiss) -> str:
    moment = chapter.open + timedelta(minutes=miss.minute + 1)
    rule = f"{miss.symbol} {miss.rule} {'long' if miss.side > 0 else 'short'}"
    words = f"{rule} at {exchange_time(moment):%H:%M}, {format_percent(miss.distance)} away"
    return escape(words)


def _sentence(name: str, strategies: Sequence[str]) -> str:
    return escape(Reason[name].sentence_for(strategies))


def _cards(summary: RunSummary, story: RunTimeline, trades: TradeFigures) -> str:
    returns = figures.daily_returns(chapter.day for chapter in story.chapters)
    share = summary.pnl / summary.equity_start if summary.equity_start else Decimal(0)
    shown = (
        (signed(summary.pnl), f"net P&amp;L, {format_percent(share)}"),
        (_percent(figures.maximum_drawdown(story.equity)), "maximum drawdown"),
        (f"{trades.count:,}", "trade" if trades.count == 1 else "trades"),
        (_percent(trades.win_rate, 0), f"win rate, {trades.won:,} of {trades.count:,}"),
        (_ratio(trades.profit_factor), "profit factor"),
        (_ratio(figures.sharpe_ratio(returns)), f"Sharpe ratio, {plural(len(returns), 'session')}"),
    )
    items = "\n".join(f"<li><b>{figure}</b><span>{words}</span></li>" for figure, words in shown)
    return f'<ul class="cards">\n{items}\n</ul>'


def _result(summary: RunSummary, trades: TradeFigures) -> Sequence[_Row]:
    share = summary.pnl / summary.equity_start if summary.equity_start else None
    return (
        ("Equity at the start", format_money(summary.equity_start), "USD"),
        ("Equity at the end", format_money(summary.equity_end), "USD"),
        ("Net P&amp;L", signed(summary.pnl), "after fees"),
        ("Return", _percent(share), "of the start" if share is not None else "no equity"),
        ("Fees", format_money(trades.fees), "of all trades"),
        ("Denials", f"{sum(summary.denials.values()):,}", DENIALS_COUNT),
    )


def _trades(trades: TradeFigures) -> Sequence[_Row]:
    none = "" if trades.count else "no trade"
    winners, losers = "" if trades.won else "no winner", "" if trades.lost else "no loser"
    best, worst = _money(trades.largest_win), _money(trades.largest_loss)
    return (
        ("Trades", f"{trades.count:,}", f"{trades.won:,} won, {trades.lost:,} lost"),
        ("Win rate", _percent(trades.win_rate), none or "of all trades"),
        ("Profit factor", _ratio(trades.profit_factor), losers or "profit / loss"),
        ("Expectancy", _money(trades.expectancy), none or "average trade"),
        ("Average win", _money(trades.average_win), winners or f"largest {best}"),
        ("Average loss", _money(trades.average_loss), losers or f"largest {worst}"),
    )


def _risk(summary: RunSummary, story: RunTimeline) -> Sequence[_Row]:
    days = [chapter.day for chapter in story.chapters]
    returns = figures.daily_returns(days)
    few = "one session" if len(returns) < 2 else ""
    sharpe, sortino = figures.sharpe_ratio(returns), figures.sortino_ratio(returns)
    exposure = figures.exposure(summary.trades, days)
    none = "" if days else "no session"
    return (
        ("Maximum drawdown", _percent(figures.maximum_drawdown(story.equity)), none or "from a high"),
        ("Sharpe ratio", _ratio(sharpe), few or ("annualised" if sharpe is not None else "equal days")),
        ("Sortino ratio", _ratio(sortino), few or ("annualised" if sortino is not None else "no losing day")),
        ("Volatility", _percent(figures.annual_volatility(returns)), few or "annualised"),
        ("Time in the market", _percent(exposure.time), none or "of all minutes"),
        ("Equity in the market", _percent(exposure.equity), none or "on average"),
    )


def _group(group: tuple[str, Sequence[_Row]]) -> str:
    name, rows = group
    lines = "".join(f"<dt>{title}</dt><dd>{value}</dd><dd>{words}</dd>" for title, value, words in rows)
    return f"<section><h2>{name}</h2><dl>{lines}</dl></section>"


def _percent(value: float | Decimal | None, digits: int = 2) -> str:
    return _DASH if value is None else format_percent(value, digits)


def _ratio(value: float | None) -> str:
    return _DASH if value is None else f"{value:z,.2f}".replace("-", "\N{MINUS SIGN}")


def _money(value: Decimal | None) -> str:
    return _DASH if value is None else signed(value)


def _reliability_row(row: ResultRow) -> str:
    words = escape(row.words[0].upper() + row.words[1:])
    return (
        f'<tr><th scope="row">{words}</th><td class="n">{row.trades:,}</td><td class="n">{signed(row.pnl)}</td>'
        f'<td class="n">{row.percent}</td></tr>'
    )


def _head(text: str, kind: str) -> str:
    return f'<th scope="col"{_class(kind)}>{text}</th>'


def _row(heads: Sequence[str], cells: Sequence[str], kinds: str) -> str:
    inside = []
    for head, cell, kind in zip(heads, cells, kinds, strict=True):
        name = f' data-name="{head}"' if kind == "n" and "w" in kinds else ""
        inside.append(f"<td{_class(kind)}{name}>{cell}</td>")
    return f"<tr>{''.join(inside)}</tr>"


def _class(kind: str) -> str:
    return {"n": ' class="n"', "w": ' class="wide"'}.get(kind, "")
