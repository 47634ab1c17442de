"""The report's banner on how far a backtest's result can be trusted."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tbot_core.reports.html.parts import section, signed

if TYPE_CHECKING:
    from tbot_core.reports.reliability import ResultRow
    from tbot_core.reports.summary import RunSummary


def reliability(summary: RunSummary) -> str:
    """Render the banner of a backtest; "" for other runs."""
    report = summary.reliability_report
    if report is None:
        return ""
    kind = "trust warned" if report.distrust else "trust"
    warnings = "".join(f"<li>{escape(one)}</li>" for one in report.warnings)
    listed = f"<ul>{warnings}</ul>" if warnings else ""
    facts = "".join(f"<dt>{title}</dt><dd>{escape(words)}</dd>" for title, words in report.facts)
    numbers = "".join(f'<th scope="col" class="n">{name}</th>' for name in ("Trades", "P&amp;L", "of P&amp;L"))
    head = f'<tr><th scope="col">Result</th>{numbers}</tr>'
    rows = "".join(map(_row, report.rows))
    table = f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
    content = (
        f'<div class="{kind}"><p><strong>{escape(report.headline)}</strong></p>{listed}{table}<dl>{facts}</dl></div>'
    )
    return section("Reliability", content)


def _row(row: ResultRow) -> str:
    words = escape(row.words[0].upper() + row.words[1:])
    return (
        f'<tr><th scope="row">{words}</th><td class="n">{row.trades:,}</td><td class="n">{signed(row.pnl)}</td>'
        f'<td class="n">{row.percent}</td></tr>'
    )
