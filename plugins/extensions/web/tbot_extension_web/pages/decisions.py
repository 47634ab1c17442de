"""Decisions: why a symbol was traded or not, and what each strategy did in a session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.errors import TbotError
from tbot_core.instance import Instance
from tbot_core.model.dates import parse_symbol
from tbot_core.status import runs
from tbot_core.status.day_decisions import day_decisions
from tbot_core.status.why import why_document
from tbot_core.status.why_text import why_sections
from tbot_extension_web.texts import strong

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from starlette.responses import Response

    from tbot_extension_web.call import Call

_EMPTY: Final[Mapping[str, Any]] = {"day": None, "runs": [], "sections": (), "others": (), "fault": None}


@attrs.frozen(kw_only=True)
class Asked:
    """What the form asks for, as entered; "" for what was left empty."""

    symbol: str = ""
    date: str = ""
    at: str = ""
    run: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """The fields of a request."""
        return cls(**{field.name: query.get(field.name, "").strip() for field in attrs.fields(cls)})


async def show(call: Call) -> Response:
    """The symbols of a session, and the answer on one of them."""
    asked = Asked.of(call.request.query_params)
    values = await call.compute(_by_symbol, call.site.home, asked)
    return call.page("decisions.html", 400 if values["fault"] else 200, asked=asked, **values)


async def show_day(call: Call) -> Response:
    """What the window of each strategy did in a session: why no trade, or not more."""
    asked = Asked.of(call.request.query_params)
    values = await call.compute(_of_day, call.site.home, asked)
    return call.page("decisions_day.html", 400 if values["fault"] else 200, asked=asked, **values)


def _of_day(home: Path, asked: Asked) -> dict[str, Any]:
    # The session with the runs to choose from; without a run nothing is shown, which is no fault.
    files = runs.run_files(Instance.at(home))
    if not any(map(runs.has_session, files)):
        return dict(_EMPTY)
    listed = [runs.run_document(file) for file in files]
    try:
        day = day_decisions(home, date=asked.date or None, run=asked.run or None)
    except TbotError as fault:
        return {**_EMPTY, "runs": listed, "fault": fault}
    return {**_EMPTY, "runs": listed, "day": day}


def _by_symbol(home: Path, asked: Asked) -> dict[str, Any]:
    found = _of_day(home, asked)
    if not asked.symbol or found["day"] is None:
        return found
    chosen = {"date": found["day"]["session"], "run": found["day"]["run"], "at": asked.at or None}
    try:
        shown = why_document(parse_symbol(asked.symbol), home, **chosen)
    except TbotError as fault:
        return {**found, "fault": fault}
    others = [one for one in shown["sessions_with_decisions"] if one != shown["session"]]
    return {
        **found,
        "sections": tuple(why_sections({**shown, "sessions_with_decisions": ()}, strong)),
        "others": others,
    }
