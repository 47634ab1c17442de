"""The events that are recorded when a session opens and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.model.reasons import REASON_BY_CODE
from tbot_core.model.types import dollars_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tbot_core.contracts import FeedSession
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.trading.proposals import ActiveStrategy, Verdicts


def session_opened_payload(
    source: FeedSession, entrants: Sequence[ActiveStrategy], posts: Sequence[BrokerSession]
) -> dict[str, Any]:
    """The payload of SESSION_OPENED; the first of `posts` is the primary broker."""
    session, primary = source.session, posts[0]
    venue, exposure = primary.execution.venue, primary.decision_engine.exposure
    granted = exposure.funds.power_limit_atoms
    return {
        "date": session.date.isoformat(),
        "primary": venue.name,
        "account": venue.account_id,
        "open": session.open.isoformat(),
        "close": session.close.isoformat(),
        "minutes": session.minutes,
        "symbols": len(source.symbols),
        "equity": str(dollars_of(primary.decision_engine.portfolio.opening_atoms)),
        "buying_power": None if granted is None else str(dollars_of(granted)),
        "state": exposure.current_state.word,
        "windows": {one.name: attrs.asdict(one.window) for one in entrants},
        **_carried(posts),
        **({"accounts": _accounts(posts)} if posts[1:] else {}),
    }


def session_closed_payload(
    source: FeedSession, posts: Sequence[BrokerSession], unclosed: Iterable[str]
) -> dict[str, Any]:
    """The payload of SESSION_CLOSED; `unclosed` are the symbols that are still held."""
    primary = posts[0]
    portfolio = primary.decision_engine.portfolio
    return {
        "date": source.session.date.isoformat(),
        "equity": str(dollars_of(portfolio.equity_atoms)),
        "cash": str(dollars_of(portfolio.cash_atoms)),
        "pnl": str(dollars_of(primary.decision_engine.exposure.pnl_atoms)),
        "trades": sum(len(post.decision_engine.portfolio.closed) for post in posts),
        "open": sorted(set(unclosed)),
        "account": primary.execution.venue.account_id,
    }


def denial_counts(judged: Verdicts) -> dict[str, int]:
    """How many symbols each reason denied."""
    counts: dict[str, int] = {}
    for code in judged.reasons.ravel().tolist():
        if code:
            name = REASON_BY_CODE[code].name
            counts[name] = counts.get(name, 0) + 1
    return counts


def _accounts(posts: Sequence[BrokerSession]) -> dict[str, dict[str, str]]:
    # Whose accounts the session trades, and what each held at its beginning.
    return {
        post.name: {
            "account": post.account_id,
            "equity": str(dollars_of(post.decision_engine.portfolio.opening_atoms)),
        }
        for post in posts
    }


def _carried(posts: Sequence[BrokerSession]) -> records.Payload:
    # What is held when the bell rings: it could not be closed in the session before.
    held = [(post.journal_tag, one) for post in posts for one in post.decision_engine.portfolio.positions.values()]
    if not held:
        return {}
    carried = [(key, records.carried_payload(one.signal, carryover.carried_entry(one))) for key, one in held]
    return {"carried": [payload | ({"broker": key} if key else {}) for key, payload in carried]}
