"""Who did what: the access log of the secrets and the page, the chains of the journals, and the lines of the log."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from tbot_core.actions.audit import AccessSearch, access_page, audit_document
from tbot_core.instance import Instance
from tbot_core.status.log_lines import LEVELS, log_page
from tbot_core.system.log import FILE_NAME
from tbot_core.vault.categories import AUDITED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from tbot_extension_web.call import Call

SHOWN_LEVELS: Final = ("debug", "info", "warning", "error")
_PLACE: Final = re.compile(r"[0-9]{1,18}")
_MOST_NEWER: Final = 100


async def show(call: Call) -> Response:
    """The access log, the newest first, by user, category and day, in pages."""
    return await _page(call)


async def verify(call: Call) -> Response:
    """Verify the chains of the access log and of each journal."""
    return await _page(call, await call.compute(audit_document, call.site.home))


async def show_logs(call: Call) -> Response:
    """The lines of the bot's log in pages, the latest first; an admin also sees those of the page."""
    query = call.request.query_params
    level = query.get("level", "info")
    level = level if level in LEVELS else "info"
    of_page = query.get("of") == "page" and call.may("users")
    logs = Instance.at(call.site.home).logs
    path, before = (logs / "web" if of_page else logs) / FILE_NAME, _place(query)
    found = await call.work(log_page, path, level, before)
    return call.page(
        "logs.html",
        200,
        found=found,
        level=level,
        levels=SHOWN_LEVELS,
        of_page=of_page,
        before=before,
        **_pages(call, found.older),
    )


def _place(query: Mapping[str, str]) -> int | None:
    # Where the page ends that is asked for; None for the newest.
    text = query.get("before", "")
    return int(text) if _PLACE.fullmatch(text) else None


def _pages(call: Call, place: int | None) -> dict[str, str]:
    # The addresses of the pages before and after this one and of the first, "" for one that is not there.
    query = call.request.query_params
    asked = {name: text for name, text in query.items() if name not in {"before", "newer"}}
    here = _place(query)
    places = _PLACE.findall(query.get("newer", ""))[-_MOST_NEWER:]  # where the pages ended that led here
    way = [] if here is None else [*places, str(here)]

    def address(ends: list[str]) -> str:
        found = {"before": ends[-1:], "newer": [" ".join(ends[:-1])] if ends[1:] else []}
        return f"?{urlencode({**asked, **found}, doseq=True)}"

    return {
        "older": "" if place is None else address([*way, str(place)]),
        "newer": address(way[:-1]) if way else "",
        "newest": address([]) if way[1:] else "",
    }


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


async def _page(call: Call, verified: dict[str, Any] | None = None) -> Response:
    query = call.request.query_params
    asked = {name: query.get(name, "").strip()[:80] for name in ("user", "category", "day")}
    search = AccessSearch(
        user=asked["user"], category=asked["category"], day=_day(asked["day"]), reads=query.get("reads") == "yes"
    )
    before = _place(query)
    found = await call.work(access_page, call.site.home, search, before)
    return call.page(
        "audit.html",
        200,
        found=found,
        categories=sorted(AUDITED),
        reads=search.reads,
        verified=verified,
        before=before,
        **_pages(call, found.older),
        **asked,
    )
