"""The report's text: banner, figures, trades, denials, near misses, and provenance."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Final

from tbot_core.model.clock import both_times, exchange_time
from tbot_core.model.formatting import format_money, format_percent, format_prices, format_quantity, plural
from tbot_core.model.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from tbot_core.model.types import Trade
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


def title(summary: RunSummary, story: RunTimeline) -> str:
    """The report's title in one line."""
    days = [chapter.date for chapter in story.chapters]
    span = "" if not days else f", {days[0]}" if len(days) == 1 else f", {days[0]} to {days[-1]}"
    return f"{_NAMES.get(summary.mode, summary.mode)}{span}"


def header(summary: RunSummary, story: RunTimeline) -> str:
    """Render title and banner with the source of the prices."""
    source = escape(str(story.run.get("source", "")))
    if story.run.get("simulated"):
        words = "Every price, volume, company and index level in this report is simulated."
        banner = f'<p class="banner"><strong>SIMULATED PRICES</strong> {words} Source: {source}.</p>'
    else:
        words = escape(_sent(summary))
        banner = f'<p class="banner real"><strong>MARKET PRICES</strong> Source: {source}. {words}</p>'
    what = (
        f"{plural(summary.sessions, 'session')}, {plural(summary.symbols, 'symbol')}; times are New York, with UTC "
        "beside them"
    )
    return f'<h1>{escape(title(summary, story))}</h1>\n<p class="soft">{what}</p>\n{banner}'


def _sent(summary: RunSummary) -> str:
    # Where the orders went, and whether the money was real.
    away = [name for name in summary.brokers if name != _SIMULATOR]
    if not away:
        return "Fills are simulated: no order left this machine."
    return f"Orders were sent to {' and '.join(away)}, with {'real' if summary.mode == 'live' else 'paper'} money."


def cards(summary: RunSummary) -> str:
    """Render the key figures."""
    trades = summary.trades
    won = sum(trade.pnl > 0 for trade in trades)
    share = summary.pnl / summary.equity_start if summary.equity_start else Decimal(0)
    shown = (
        (_signed(summary.pnl), f"net P&L, {format_percent(share)}"),
        (format_money(summary.equity_end), f"equity, from {format_money(summary.equity_start)}"),
        (f"{len(trades):,}", plural(len(trades), "trade", "trades").partition(" ")[2]),
        (format_percent(Decimal(won) / len(trades), 0) if trades else "none", f"winners, {won} of {len(trades)}"),
        (format_money(sum((trade.fees for trade in trades), Decimal(0))), "fees"),
        (f"{sum(summary.denials.values()):,}", "denials and missed entries"),
    )
    items = "\n".join(f"<li><b>{figure}</b><span>{words}</span></li>" for figure, words in shown)
    return f'<ul class="cards">\n{items}\n</ul>'


def strategies(summary: RunSummary) -> str:
    """Render profit by strategy."""
    return _split("strategy", summary.by_strategy)


def brokers(summary: RunSummary) -> str:
    """Render profit by broker, if there were several."""
    return _split("broker", summary.by_broker)


def trades(story: RunTimeline) -> str:
    """Render every trade by session, with its broker if there were several."""
    columns = tuple(one for one in _COLUMNS if one[0] != "Broker" or story.has_several_brokers)
    heads, kinds = [name for name, _ in columns], "".join(kind for _, kind in columns)
    if not story.book.trades:
        return _section("Trades", '<p class="soft">There were none.</p>')
    trades_shown = [trade for chapter in story.chapters for trade in chapter.trades]
    entries, exits = (
        format_prices([trade.entry_price for trade in trades_shown]),
        format_prices([trade.exit_price for trade in trades_shown]),
    )
    at = iter(zip(entries, exits, strict=True))
    bodies = "".join(_day(chapter, kinds, at) for chapter in story.chapters)
    head = "".join(_head(text, kind) for text, kind in zip(heads, kinds, strict=True))
    return _section("Trades", f'<div class="table"><table><thead><tr>{head}</tr></thead>{bodies}</table></div>')


def denials(summary: RunSummary) -> str:
    """Render the count of each denial reason, with its sentence."""
    rows = [
        (f"<code>{escape(name)}</code>", f"{count:,}", _sentence(name, summary.strategies))
        for name, count in summary.reasons
    ]
    return _section("Denials", _table(("Reason", "Count", "Meaning"), rows, "lnw")) if rows else ""


def near_misses(story: RunTimeline) -> str:
    """Render the windows of each session with their near misses."""
    rows = []
    for chapter in story.chapters:
        for window in chapter.windows:
            close = [_near(chapter, one) for one in window.near_misses]
            counts = (f"{window.candidates:,}", f"{window.triggers:,}")
            rows.append((chapter.date, escape(window.strategy), *counts, "; ".join(close) or "none"))
    heads = ("Session", "Window", "Candidates", "Triggers", "Closest without a trigger")
    return _section("Near misses", _table(heads, rows, "llnnw")) if rows else ""


def risk(story: RunTimeline) -> str:
    """Render changes of the risk state, and latches."""
    rows = [
        (chapter.date, _clock(moment), escape(it["what"]), escape(it["cause"]), *(_amount(it[x]) for x in _FIGURES))
        for chapter in story.chapters
        for moment, it in chapter.risk
    ]
    return (
        _section("Risk", _table(("Session", "Time", "Change", "Cause", "P&amp;L", "Limit"), rows, "llllnn"))
        if rows
        else ""
    )


def stuck(story: RunTimeline) -> str:
    """Render positions that could not be closed by a session's end."""
    rows = [
        (chapter.date, escape(it["symbol"]), *_place(story, chapter, it), it["side"], escape(it["words"]), shares)
        for chapter in story.chapters
        for it in chapter.stuck
        for shares in (format_quantity(Decimal(it["quantity"])),)
    ]
    heads = ("Session", "Symbol", *(("Broker",) if story.has_several_brokers else ()), "Side", "Why", "Shares")
    return _section("Stuck", _table(heads, rows, "l" * (len(heads) - 1) + "n")) if rows else ""


def provenance(summary: RunSummary, story: RunTimeline) -> str:
    """Render notes, and the hashes of settings and data."""
    notes = "".join(f"<li>{escape(note)}</li>" for note in (*summary.caveats, *summary.no_trade_advice()))
    pairs = (
        ("Run", story.run.get("run_id", "")),
        ("Source", story.run.get("source", "")),
        ("Settings", summary.settings_hash),
        ("Data", summary.data_hash),
    )
    facts = "".join(f"<dt>{name}</dt><dd><code>{escape(str(text))}</code></dd>" for name, text in pairs)
    listed = f'<ul class="notes">{notes}</ul>' if notes else ""
    return _section("Notes", f"{listed}<dl>{facts}</dl>")


_FIGURES: Final = ("value", "limit")


_COLUMNS: Final[Sequence[tuple[str, str]]] = (
    ("Strategy", "l"),
    ("Symbol", "l"),
    ("Broker", "l"),
    ("Side", "l"),
    ("Quantity", "n"),
    ("Entry", "l"),
    ("Price", "n"),
    ("Exit", "l"),
    ("Price", "n"),
    ("Why", "l"),
    ("Fees", "n"),
    ("P&amp;L", "n"),
)


def _split(what: str, parts: Mapping[str, tuple[int, int, Decimal]]) -> str:
    rows = [
        (escape(name), f"{count:,}", f"{won} of {count}", _signed(pnl), _signed(pnl / count))
        for name, (count, won, pnl) in parts.items()
    ]
    heads = (what.capitalize(), "Trades", "Winners", "P&amp;L", "average trade")
    return _section(f"By {what}", _table(heads, rows, "lnnnn")) if rows else ""


def _day(chapter: SessionTimeline, kinds: str, at: Iterator[tuple[str, str]]) -> str:
    # A session's trades under its date; `at` yields their formatted prices.
    if not chapter.trades:
        return ""
    total = f"{plural(len(chapter.trades), 'trade')}, {_signed(chapter.pnl)}"
    several = len(kinds) == len(_COLUMNS)
    rows = "".join(_row(_cells(trade, *next(at), several=several), kinds) for trade in chapter.trades)
    day = (
        f'<tr class="day"><th colspan="{len(kinds)}" scope="rowgroup">{escape(chapter.date)} &middot; {total}</th></tr>'
    )
    return f'<tbody class="session">{day}{rows}</tbody>'


def _cells(trade: Trade, entry: str, leave: str, *, several: bool) -> Sequence[str]:
    return (
        escape(trade.strategy),
        escape(trade.symbol),
        *((escape(trade.broker),) if several else ()),
        trade.side.word,
        format_quantity(trade.quantity),
        _clock(trade.entry_time),
        entry,
        _clock(trade.exit_time),
        leave,
        escape(trade.exit_reason.value.lower().replace("_", " ")),
        format_money(trade.fees),
        _signed(trade.pnl),
    )


def _place(story: RunTimeline, chapter: SessionTimeline, payload: Mapping[str, Any]) -> tuple[str, ...]:
    # The cell with the broker, if there were several.
    return (escape(payload.get("broker") or chapter.primary),) if story.has_several_brokers else ()


def _near(chapter: SessionTimeline, one: Mapping[str, Any]) -> str:
    side = "long" if one["side"] > 0 else "short"
    moment = chapter.open + timedelta(minutes=one["minute"] + 1)
    rule = f"{one['symbol']} {one['rule']} {side}"
    words = f"{rule} at {exchange_time(moment):%H:%M}, {format_percent(one['distance'])} away"
    return escape(words)


def _clock(moment: datetime) -> str:
    there = f'<span title="{escape(both_times(moment))}">{exchange_time(moment):%H:%M}</span>'
    return f'{there} <span class="soft">{moment:%H:%M}</span>'


def _amount(text: str) -> str:
    return _signed(Decimal(text))


def _signed(amount: Decimal) -> str:
    kind = "gain" if amount > 0 else "loss" if amount < 0 else "soft"
    return f'<span class="{kind}">{format_money(amount, signed=True)}</span>'


def _sentence(name: str, strategies: Sequence[str]) -> str:
    return escape(Reason[name].sentence_for(strategies))


def _section(name: str, content: str) -> str:
    return f"<h2>{name}</h2>\n{content}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], kinds: str) -> str:
    # `kinds` has a letter per column: left, number (right), wide (wraps).
    head = "".join(_head(text, kind) for text, kind in zip(heads, kinds, strict=True))
    body = "\n".join(_row(row, kinds) for row in rows)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def _head(text: str, kind: str) -> str:
    return f'<th scope="col"{_class(kind)}>{text}</th>'


def _row(cells: Sequence[str], kinds: str) -> str:
    inside = "".join(f"<td{_class(kind)}>{cell}</td>" for cell, kind in zip(cells, kinds, strict=True))
    return f"<tr>{inside}</tr>"


def _class(kind: str) -> str:
    return {"n": ' class="n"', "w": ' class="wide"'}.get(kind, "")
