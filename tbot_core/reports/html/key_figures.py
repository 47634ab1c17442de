"""The figures at the top of the report: six in large type, then all of them with what they mean."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from tbot_core.model.formatting import DENIALS_COUNT, format_money, format_percent, plural
from tbot_core.reports import figures
from tbot_core.reports.html.parts import signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.reports.figures import TradeFigures
    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline

_DASH: Final = "\N{EN DASH}"
_Row = tuple[str, str, str]


def key_figures(summary: RunSummary, story: RunTimeline) -> str:
    """Render the figures; one that is undefined is a dash, with the reason."""
    trades = figures.trade_figures(summary.trades)
    groups = (
        ("Result", _result(summary, trades)),
        ("Trades", _trades(trades)),
        ("Risk", _risk(summary, story)),
    )
    return f'{_cards(summary, story, trades)}\n<div class="groups">{"".join(map(_group, groups))}</div>'


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
