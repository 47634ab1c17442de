"""The closed trades of a run or session, and each trade with its chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tbot_core.errors import TbotError
from tbot_core.instance import Instance
from tbot_core.model.types import ExitReason
from tbot_core.status import runs
from tbot_core.status.trades import trade_with_chart, trades_document
from tbot_extension_web.trade_picture import trade_picture

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.responses import Response

    from tbot_extension_web.call import Call

ALL = "all"
"""What the form sends for every session of the run."""


async def show(call: Call) -> Response:
    """The trades of the latest session, of the one asked for, or of the whole run, with their sums."""
    query = call.request.query_params
    values = await call.compute(_listed, call.site.home, query.get("date", ""), query.get("run", ""))
    return call.page("trades.html", 400 if values["fault"] else 200, words=_words, **values)


async def show_one(call: Call) -> Response:
    """A trade, open or closed: its figures, and its chart where the bars can be had."""
    wanted, run = call.request.path_params["id"], call.request.query_params.get("run")
    found = await call.compute(trade_with_chart, call.site.home, wanted, run=run or None)
    now = await call.work(runs.bot_time, Instance.at(call.site.home), call.site.clock.now())
    picture = None if found["chart"] is None else trade_picture(found["chart"])
    return call.page(
        "trade.html",
        now=now,
        found=found,
        trade=found["trade"],
        levels=found["levels"],
        picture=picture,
        words=_words,
    )


def _listed(home: Path, date: str, run: str) -> dict[str, Any]:
    files = runs.run_files(Instance.at(home))
    listed = [runs.run_document(file) for file in files]
    if not any(map(runs.has_session, files)):
        return {"runs": [], "found": None, "fault": None, "chosen": ""}
    try:
        whole = trades_document(home, run=run or None)
        chosen = date or whole["sessions"][-1]
        found = whole if chosen == ALL else trades_document(home, date=chosen, run=whole["run"])
    except TbotError as fault:
        return {"runs": listed, "found": None, "fault": fault, "chosen": date}
    return {"runs": listed, "found": found, "fault": None, "chosen": chosen}


def _words(reason: str) -> str:
    return ExitReason(reason).word
