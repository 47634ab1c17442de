"""What is written down of a session when it opens and when it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.journal import records
from tbot_core.model import dollars_of
from tbot_core.reasons import BY_CODE
from tbot_core.runner import overnight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.decide import Judged
    from tbot_core.execution import Venue
    from tbot_core.journal.journal import Entry
    from tbot_core.runner.session import SessionRun


def opening(run: SessionRun, venue: Venue) -> dict[str, Any]:
    """What is said at the opening bell; `venue` is the primary's."""
    standing = run.desk.standing
    granted = standing.funds.granted
    return {
        "date": run.session.date.isoformat(),
        "primary": venue.name,
        "account": venue.account_id,
        "open": run.session.open.isoformat(),
        "close": run.session.close.isoformat(),
        "minutes": run.session.minutes,
        "symbols": len(run.source.symbols),
        "equity": str(dollars_of(run.desk.portfolio.opening_atoms)),
        "buying_power": None if granted is None else str(dollars_of(granted)),
        "state": standing.present.word,
        "windows": {one.name: attrs.asdict(one.window) for one in run.entrants},
        **_carried(run),
        **({"accounts": _accounts(run)} if run.posts[1:] else {}),
    }


def closing(run: SessionRun, venue: Venue, stuck: Sequence[Entry]) -> dict[str, Any]:
    """What is said at the closing bell; `stuck` tells of what could not be closed."""
    portfolio = run.desk.portfolio
    return {
        "date": run.session.date.isoformat(),
        "equity": str(dollars_of(portfolio.equity_atoms)),
        "cash": str(dollars_of(portfolio.cash_atoms)),
        "pnl": str(dollars_of(run.desk.standing.pnl_atoms)),
        "trades": sum(len(post.desk.portfolio.closed) for post in run.posts),
        "open": sorted({*run.positions, *(one.payload["symbol"] for one in stuck)}),
        "account": venue.account_id,
    }


def reasons(judged: Judged) -> dict[str, int]:
    """How many symbols each reason denied."""
    counts: dict[str, int] = {}
    for code in judged.reasons.ravel().tolist():
        if code:
            name = BY_CODE[code].name
            counts[name] = counts.get(name, 0) + 1
    return counts


def _accounts(run: SessionRun) -> dict[str, dict[str, str]]:
    # Whose accounts the session trades, and what each held at its beginning.
    return {
        post.name: {
            "account": post.execution.venue.account_id,
            "equity": str(dollars_of(post.desk.portfolio.opening_atoms)),
        }
        for post in run.posts
    }


def _carried(run: SessionRun) -> records.Payload:
    # What is held when the bell rings: it could not be closed in the session before.
    held = [(post.key, one) for post in run.posts for one in post.desk.portfolio.positions.values()]
    if not held:
        return {}
    carried = [(key, records.carried_payload(one.signal, overnight.entry(one))) for key, one in held]
    return {"carried": [payload | ({"broker": key} if key else {}) for key, payload in carried]}
