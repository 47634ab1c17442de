"""What `tbot check` finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.actions.checks import check_instance, check_outcome, reached_findings, with_broker

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from tbot_core.instance.preflight_subject import PreflightFinding
    from tbot_extension_web.call import Call


async def show(call: Call) -> Response:
    """Every finding, failures first, as the command line prints them."""
    return call.page("check.html", **await call.work(findings, call.site.home))


def findings(home: Path) -> dict[str, Any]:
    """The rows of the check, and its result."""
    rows: tuple[PreflightFinding, ...] = check_instance(home)
    if not any(row.level == "fail" for row in rows):
        rows = with_broker(rows, tuple(reached_findings(home)))
    return {"rows": rows, "outcome": check_outcome([row.level for row in rows])}
