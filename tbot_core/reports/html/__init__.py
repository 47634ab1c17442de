"""The report of a run: one HTML file without network access, and its trades as CSV beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.reports.html import charts, key_figures, reliability, scripts, tables, trades
from tbot_core.reports.trades_csv import trades_csv
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline
    from tbot_core.reports.trade_charts import TradeCharts


def write_report(folder: Path, name: str, summary: RunSummary, story: RunTimeline, drawn: TradeCharts) -> Path:
    """Write the report of a run to `folder`/`name`.html, its trades to `name`.csv, and return the page's path.

    The same run gives the same bytes.
    """
    path = folder / f"{name}.html"
    filesystem.make_folder(folder)
    filesystem.write_atomic(path.with_suffix(".csv"), trades_csv(summary.trades).encode())
    filesystem.write_atomic(path, render_page(summary, story, drawn).encode())
    return path


def render_page(summary: RunSummary, story: RunTimeline, drawn: TradeCharts) -> str:
    """Render the whole document."""
    parts = (
        tables.header(summary, story),
        reliability.reliability(summary),
        key_figures.key_figures(summary, story),
        charts.equity(story),
        charts.drawdown(story),
        charts.sessions(story),
        tables.strategies(summary),
        tables.brokers(summary),
        trades.trades(story, drawn, summary.no_trade_advice()),
        tables.denials(summary),
        tables.near_misses(story),
        tables.risk(story),
        tables.stuck(story),
        tables.provenance(summary, story),
    )
    body = "\n".join(part for part in parts if part)
    points = {**charts.series(story), "trades": trades.chart_data(story, drawn)}
    head = scripts.head(tables.title(summary, story), simulated=summary.simulated)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n{scripts.data_and_script(points)}\n</body>\n</html>\n"
    )
