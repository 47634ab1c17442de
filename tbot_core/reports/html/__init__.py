"""The report of a run: one HTML file without network access, and its trades as CSV beside it.

Its style and its script are each in one element whose hash the page's security policy names. What a list of runs shows
of a report, a few facts, is in the first bytes of the page, in an element for programs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape, unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import AccessError
from tbot_core.model import json_document
from tbot_core.model.formatting import money_text
from tbot_core.reports.html import charts, tables, trades
from tbot_core.reports.trades_csv import trades_csv
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline
    from tbot_core.reports.trade_charts import TradeCharts

FOLDER: Final = Path(__file__).parent
VENDOR: Final = FOLDER / "vendor"
_STYLES: Final = (VENDOR / "uPlot.min.css", FOLDER / "report.css")
_SCRIPTS: Final = (VENDOR / "uPlot.iife.min.js", FOLDER / "report.js")
HEAD_BYTES: Final = 2_000
"""Within how many bytes of a report its facts are."""

_FACTS: Final = re.compile(r'<meta name="tbot-run" content="([^"]*)">')
_LONGEST: Final = 100


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
        tables.reliability(summary),
        tables.key_figures(summary, story),
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
    head = page_head(tables.title(summary, story), _facts_element(summary, story))
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n{data_and_script(points)}\n</body>\n</html>\n"
    )


def page_head(title: str, facts: str) -> str:
    """The page's head with the element of its facts: nothing is loaded, only this page's style and script apply."""
    policy = f"default-src 'none'; script-src {_hash(_script())}; style-src {_hash(_style())}"
    return (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{facts}\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{escape(title)}</title>\n'
        f"<style>{_style()}</style>"
    )


def data_and_script(document: Mapping[str, Any]) -> str:
    """The points of the charts, which are data and not run, and the script that draws them."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{text}</script>\n<script>{_script()}</script>'


def _facts_element(summary: RunSummary, story: RunTimeline) -> str:
    # The element with the facts of a run; `read_facts` reads it.
    days = [chapter.date for chapter in story.chapters]
    found = {
        "source": str(story.run.get("source", ""))[:_LONGEST],
        "simulated": summary.simulated,
        "first": min(days, default=None),
        "last": max(days, default=None),
        "sessions": summary.sessions,
        "trades": len(summary.trades),
        "pnl": money_text(summary.pnl),
    }
    return f'<meta name="tbot-run" content="{escape(json.dumps(found))}">'


def read_facts(start: bytes) -> dict[str, Any] | None:
    """The facts in the first bytes of a report, None where it has none.

    `source` of the prices, and whether some are `simulated`; the `first` and `last` of its `sessions`, None without
    one; `trades`; `pnl` in dollars.
    """
    match = _FACTS.search(start.decode(errors="replace"))
    if match is None:
        return None
    facts: dict[str, Any] = json_document.parse_json(unescape(match[1]))
    return facts


def _style() -> str:
    return "\n".join(filesystem.read_text(path) for path in _STYLES)


def _script() -> str:
    # The licence of the library asks to be part of each copy.
    licence = filesystem.read_text(VENDOR / "uPlot.LICENSE")
    return "\n".join((f"/*! uPlot\n{licence}*/", *(filesystem.read_text(path) for path in _SCRIPTS)))


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
