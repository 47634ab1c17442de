"""The report of a run: one HTML file without network access, and its trades as CSV beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.errors import AccessError
from tbot_core.reports.html import charts, facts, key_figures, reliability, scripts, tables, trades
from tbot_core.reports.trades_csv import trades_csv
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline
    from tbot_core.reports.trade_charts import TradeCharts


def with_report(folder: Path, name: str, summary: RunSummary, story: RunTimeline, drawn: TradeCharts) -> RunSummary:
    """Write the report of a run as `write_report` does; returns the summary with its path, or with why there is none.

    So a folder that cannot be written never costs the result.
    """
    try:
        return attrs.evolve(summary, report=str(write_report(folder, name, summary, story, drawn)))
    except AccessError as fault:
        remedy = f"{fault.remedy} The result is complete; only its report is missing.".lstrip()
        return attrs.evolve(summary, unwritten=AccessError(fault.message, remedy))


def write_report(folder: Path, name: str, summary: RunSummary, story: RunTimeline, drawn: TradeCharts) -> Path:
    """Write the report of a run to `folder`/`name`.html, its trades to `name`.csv, and return the page's path.

    The same run gives the same bytes. Raises AccessError where one of them cannot be written; then neither is left.
    """
    path = folder / f"{name}.html"
    content = {path: render_page(summary, story, drawn), path.with_suffix(".csv"): trades_csv(summary.trades)}
    filesystem.make_folder(folder)
    new = [one for one in content if not filesystem.exists(one)]
    try:
        for one, text in content.items():
            filesystem.write_atomic(one, text.encode())
    except BaseException:
        for one in new:
            filesystem.remove(one)
        raise
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
    head = scripts.head(tables.title(summary, story), facts.facts_element(summary, story))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n{scripts.data_and_script(points)}\n</body>\n</html>\n"
    )
