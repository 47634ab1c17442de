"""What a list of runs shows of a report: a few facts in the first bytes of the page, in an element for programs."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from typing import TYPE_CHECKING, Any, Final

from tbot_core.model import json_document
from tbot_core.model.formatting import money_text

if TYPE_CHECKING:
    from tbot_core.reports.summary import RunSummary
    from tbot_core.reports.timeline import RunTimeline

HEAD_BYTES: Final = 2_000
"""Within how many bytes of a report its facts are."""

_FACTS: Final = re.compile(r'<meta name="tbot-run" content="([^"]*)">')
_LONGEST: Final = 100


def facts_element(summary: RunSummary, story: RunTimeline) -> str:
    """The element with the facts of a run; `read_facts` reads it."""
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
    found = _FACTS.search(start.decode(errors="replace"))
    if found is None:
        return None
    facts: dict[str, Any] = json_document.parse_json(unescape(found[1]))
    return facts
