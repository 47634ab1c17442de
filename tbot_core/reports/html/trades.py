"""The trades of a report in order of entry: a line each, which opens to its chart and its levels."""

from __future__ import annotations

import itertools
from html import escape
from typing import TYPE_CHECKING, Final

from tbot_core.model.clock import both_times
from tbot_core.model.formatting import (
    format_money,
    format_price,
    format_prices,
    format_quantity,
    plural,
    round_to_cents,
)
from tbot_core.model.types import ExitReason
from tbot_core.reports.html.tables import clock, section, signed
from tbot_core.reports.timeline import in_order_of_entry
from tbot_core.reports.trade_charts import MOST_CHARTS, largest
from tbot_core.reports.trade_levels import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from tbot_core.model.types import Trade
    from tbot_core.reports.timeline import RunTimeline
    from tbot_core.reports.trade_charts import TradeCharts

MOST_LINES: Final = 2_000
"""The number of trades that the page lists: those with the largest profit or loss; the CSV file has all."""

_WHY: Final[Mapping[ExitReason, str]] = {
    ExitReason.STOP: "The stop was reached.",
    ExitReason.TRAILING_STOP: "The trailing stop was reached.",
    ExitReason.TARGET: "The target was reached.",
    ExitReason.TIME: "The time of the position, or of the strategy's window, was over.",
    ExitReason.SESSION_END: "Positions are closed before the session ends.",
    ExitReason.DAILY_LOSS: "The daily loss limit was reached.",
    ExitReason.STOPPED: "Flattened: a stop or kill closed the positions.",
    ExitReason.NO_MARKET: "The symbol had no further bar: closed at its last price.",
    ExitReason.OUTSIDE: "It was closed by an order that is not tbot's.",
    ExitReason.UNPROTECTED: "No stop could be placed, so the position was closed.",
    ExitReason.REBALANCE: "Trimmed back to its share of equity.",
    ExitReason.EXCESS: "Shares above the planned quantity were closed.",
}
_HEADS: Final = ("Trade", "Quantity", "Entry", "Price", "Exit", "Price", "Why", "Fees", "P&amp;L")


def trades(story: RunTimeline, charts: TradeCharts, advice: Sequence[str]) -> str:
    """Render the trades by session; each has its broker if there were several.

    `advice`: sentences for a run without a trade.
    """
    everything = [trade for chapter in story.chapters for trade in chapter.trades]
    if not everything:
        sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in advice)
        return section("Trades", sentences or '<p class="soft">There were none.</p>')
    shown = {id(trade) for trade in largest(everything, MOST_LINES)}
    days = [
        (chapter, [trade for trade in in_order_of_entry(chapter.trades) if id(trade) in shown])
        for chapter in story.chapters
    ]
    listed = [trade for _, found in days for trade in found]
    prices = iter(
        zip(
            format_prices([trade.entry_price for trade in listed]),
            format_prices([trade.exit_price for trade in listed]),
            strict=True,
        )
    )
    numbers = itertools.count()
    parts = [_notes(len(everything), charts), _head()]
    for chapter, found in days:
        if found:
            total = f"{plural(len(chapter.trades), 'trade')} &middot; {signed(chapter.pnl)}"
            parts.append(f'<h3 class="day">{escape(chapter.date)} <span>{total}</span></h3>')
            lines = [
                _trade(next(numbers), trade, next(prices), charts, several=story.has_several_brokers) for trade in found
            ]
            parts.append(f'<div class="lines">{"".join(lines)}</div>')
    return section("Trades", f'<div class="trades">{"".join(parts)}</div>')


def chart_data(story: RunTimeline, charts: TradeCharts) -> list[Mapping[str, Any] | None]:
    """The chart of each listed trade, in the order of the page; None without one."""
    everything = [trade for chapter in story.chapters for trade in chapter.trades]
    shown = {id(trade) for trade in largest(everything, MOST_LINES)}
    return [
        charts.documents.get(key_of(trade))
        for chapter in story.chapters
        for trade in in_order_of_entry(chapter.trades)
        if id(trade) in shown
    ]


def _notes(count: int, charts: TradeCharts) -> str:
    notes = ["In order of entry; a line opens to the chart of its trade."] if charts.documents else []
    if count > MOST_LINES:
        notes.append(
            f"The page lists the {MOST_LINES:,} trades with the largest profit or loss; the CSV file has all {count:,}."
        )
    if count > MOST_CHARTS and charts.documents:
        notes.append(f"The {MOST_CHARTS:,} trades with the largest profit or loss have a chart.")
    if charts.missing:
        notes.append(charts.missing)
    text = f'<p class="soft">{escape(" ".join(notes))}</p>' if notes else ""
    tools = (
        '<p class="tools" hidden><button type="button" id="open-all">Open all</button></p>' if charts.documents else ""
    )
    return f'<div class="intro">{text}{tools}</div>'


def _head() -> str:
    cells = "".join(
        f"<span{' class=n' if number in {1, 3, 5, 7, 8} else ''}>{name}</span>" for number, name in enumerate(_HEADS)
    )
    return f'<div class="line head" aria-hidden="true">{cells}</div>'


def _trade(number: int, trade: Trade, prices: tuple[str, str], charts: TradeCharts, *, several: bool) -> str:
    chart = charts.documents.get(key_of(trade))
    reason = trade.exit_reason.word
    what = f"[{trade.strategy.upper()}] {trade.side.word}{f' at {trade.broker}' if several else ''}"
    cells = (
        ("what", f"<b>{escape(trade.symbol)}</b> <i>{escape(what)}</i>"),
        ("quantity n", format_quantity(trade.quantity)),
        ("entered", clock(trade.entry_time)),
        ("entry n", prices[0]),
        ("left", clock(trade.exit_time)),
        ("exit n", prices[1]),
        ("why", escape(reason)),
        ("fees n", format_money(trade.fees)),
        ("pnl n", signed(trade.pnl)),
    )
    line = "".join(f'<span class="{kind}">{text}</span>' for kind, text in cells)
    plot = "" if chart is None else f'<div class="plot" data-trade="{number}"></div><noscript>{_NO_SCRIPT}</noscript>'
    return (
        f'<details class="trade"{" open" if number == 0 and chart else ""}><summary class="line">{line}</summary>'
        f'<div class="inside">{plot}<dl>{_facts(trade, chart)}</dl></div></details>'
    )


_NO_SCRIPT: Final = '<p class="soft">The chart needs scripts, which are off.</p>'


def _facts(trade: Trade, chart: Mapping[str, Any] | None) -> str:
    facts = [
        ("entry", "Entry", f"{format_price(trade.entry_price)} at {escape(both_times(trade.entry_time))}"),
        (
            "gain" if round_to_cents(trade.pnl) > 0 else "loss",
            "Exit",
            f"{format_price(trade.exit_price)} at {escape(both_times(trade.exit_time))}. {_WHY[trade.exit_reason]}",
        ),
        ("size", "Quantity", f"{format_quantity(trade.quantity)}, fees {format_money(trade.fees)}"),
        *([] if chart is None else _levels(chart)),
    ]
    return "".join(f'<div><dt class="{kind}">{name}</dt><dd>{text}</dd></div>' for kind, name, text in facts)


def _levels(chart: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    # The lines of the chart: kind, name and level; of a moving one the level at the signal's bar.
    stops: Sequence[tuple[int, float]] = chart["s"]
    if stops:
        first, last = f"{stops[0][1]:,.2f}", f"{stops[-1][1]:,.2f}"
        moves = plural(len(stops) - 1, "move")
        yield "stop", "Stop", first if len(stops) == 1 else f"{first}, trailed to {last} in {moves}"
    if "g" in chart:
        yield "target", "Target", f"{chart['g']:,.2f}"
    for kind, name, start, _, steps in chart["l"]:
        values = list(itertools.accumulate(steps))
        if values:
            level = values[min(max(chart.get("i", start) - start, 0), len(values) - 1)] / 10 ** chart["d"]
            yield kind, escape(name[0].upper() + name[1:]), f"{level:,.2f}{' at the signal' if len(values) > 1 else ''}"
