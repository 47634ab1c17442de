"""Who did what: the access log of the secrets and the page, the chains of the journals, and the lines of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.actions.access_log import logged_accesses
from tbot_core.actions.audit import audit_document
from tbot_core.instance import Instance
from tbot_core.model.clock import exchange_time
from tbot_core.status.log_lines import LEVELS, latest_log_lines
from tbot_core.system.log import FILE_NAME
from tbot_core.vault.categories import CATEGORIES

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from tbot_core.vault.audit_log import AuditLogEntry
    from tbot_extension_web.call import Call

MOST_ROWS: Final = 200
READS: Final = frozenset({"open", "decrypt"})
SHOWN_LEVELS: Final = ("debug", "info", "warning", "error")


async def show(call: Call) -> Response:
    """The access log, the newest first, by user, category and day."""
    return await _page(call)


async def verify(call: Call) -> Response:
    """Verify the chains of the access log and of each journal."""
    return await _page(call, await call.work(audit_document, call.site.home))


async def show_logs(call: Call) -> Response:
    """The latest lines of the bot's log; an admin also sees those of the page."""
    query = call.request.query_params
    level = query.get("level", "info")
    level = level if level in LEVELS else "info"
    of_page = query.get("of") == "page" and call.may("users")
    logs = Instance.at(call.site.home).logs
    lines = await call.work(latest_log_lines, (logs / "web" if of_page else logs) / FILE_NAME, level)
    return call.page("logs.html", lines=lines, level=level, levels=SHOWN_LEVELS, of_page=of_page)


def accesses(home: Path, user: str, category: str, day: str, *, reads: bool) -> list[AuditLogEntry]:
    """The accesses that fit, the newest first; `day` is one of New York, and "" fits each."""

    def fits(entry: AuditLogEntry) -> bool:
        return (
            user.casefold() in entry.actor.casefold()
            and category in {"", entry.category}
            and day in {"", f"{exchange_time(entry.utc):%Y-%m-%d}"}
            and (reads or not _is_usual(entry))
        )

    return [entry for entry in reversed(logged_accesses(home, verify=False)[0]) if fits(entry)]


def _is_usual(entry: AuditLogEntry) -> bool:
    # What was read without a fault, and beginnings, whose end is a line too.
    return entry.outcome == "begun" or (entry.action in READS and entry.outcome == "ok")


async def _page(call: Call, verified: dict[str, Any] | None = None) -> Response:
    query = call.request.query_params
    asked: dict[str, Any] = {name: query.get(name, "").strip()[:80] for name in ("user", "category", "day")}
    reads = query.get("reads") == "yes"
    found = await call.work(accesses, call.site.home, **asked, reads=reads)
    return call.page(
        "audit.html",
        200,
        rows=found[:MOST_ROWS],
        total=len(found),
        categories=[*CATEGORIES, "web"],
        reads=reads,
        verified=verified,
        **asked,
    )
