"""The report's tables: banner, results by strategy and broker, denials, near misses, risk, and provenance."""

from __future__ import annotations

import re
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Final

from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import DENIALS_COUNT, format_percent, format_quantity, plural
from tbot_core.model.reasons import Reason
from tbot_core.reports.html.parts import clock, section, signed, table
from tbot_core.reports.summary import SIMULATED_PRICES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from tbot_core.journal.events.risk import PositionStuck
    from tbot_core.journal.events.sessions import NearMiss
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


def _sent(summary: RunSummary) -> str:
    # Where the orders went, and whether the money was real.
    away = [name for name in summary.brokers if name != _SIMULATOR]
    if not away:
        return "Fills are simulated: no order left this machine."
    return f"Orders were sent to {' and '.join(away)}, with {'real' if summary.mode == 'live' else 'paper'} money."


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
