"""The report of a run: one HTML file without network access or scripts."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tbot_core.reports import timeline
from tbot_core.reports.html import charts, tables
from tbot_core.reports.html.tables import cards, header
from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.journal.projection import JournalEvent
    from tbot_core.reports.summary import RunSummary


_STYLE: Final = Path(__file__).with_name("report.css")


def write_report(folder: Path, name: str, summary: RunSummary, events: Iterable[JournalEvent]) -> Path:
    """Write the report of a run to `folder`/`name`.html and return its path; the same run gives the same bytes."""
    path = folder / f"{name}.html"
    filesystem.make_folder(folder)
    filesystem.write_atomic(path, render_page(summary, timeline.read_timeline(events)).encode())
    return path


def render_page(summary: RunSummary, story: timeline.RunTimeline) -> str:
    """Render the whole document."""
    parts = (
        header(summary, story),
        cards(summary),
        charts.equity(story),
        charts.sessions(story),
        tables.strategies(summary),
        tables.brokers(summary),
        tables.trades(story),
        tables.denials(summary),
        tables.near_misses(story),
        tables.risk(story),
        tables.stuck(story),
        tables.provenance(summary, story),
    )
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(tables.title(summary, story))}</title>\n"
        f"<style>\n{filesystem.read_text(_STYLE)}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
