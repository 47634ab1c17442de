"""What is held at accounts that a session does not trade: it is said, it keeps the session from entering, it is kept.

A position stays where it is when the settings no longer name its broker. Nobody there can look after it, so nothing new
is begun before the broker is named again, or a person has said that the position is gone.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.engine.session.requests import amount_of
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import session_book
from tbot_core.model.formatting import format_quantity
from tbot_core.model.types import dollars_of
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from tbot_core.engine.control import ControlRequest
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.trading.positions.state import CarriedPosition


class AbandonedPositions:
    """What is held elsewhere than at the session's `accounts`, left by sessions before or by this one.

    `past` are the journal's events; those since the last session's end are of this one, before a restart.
    """

    def __init__(self, past: Sequence[Event], accounts: Collection[str]) -> None:
        carried, since = carryover.carried_positions(past), carryover.events_since_close(past)
        self._before = [one for one in carried if one.account not in accounts]
        self._abandoned = abandoned_holdings(since, accounts, carried)
        self._heard_of = self._last_heard_of(past, since)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self._before or self._abandoned)

    @property
    def description(self) -> str:
        """What is held where, and what helps; "" where nothing is."""
        held = [(one.fill.quantity, one.fill.symbol, one.broker, one.account) for one in self._before]
        held += [(Decimal(one["quantity"]), one["symbol"], one["at"], one["account"]) for one in self._abandoned]
        if not held:
            return ""
        told = ", ".join(
            f"{format_quantity(shares)} {symbol} at {broker}, account {account}"
            for shares, symbol, broker, account in held
        )
        return f"{told}; name it in BROKER_NAME or FAILOVER_BROKERS, or confirm that it is closed: {_GONE}"

    def update_cause(self, conditions: TradingStateController) -> None:
        """Make a cause of what is left behind, or take it back."""
        conditions.set_cause(StateCause.LEFT_BEHIND, self.description)

    def release(self, request: ControlRequest, recorder: JournalRecorder, conditions: TradingStateController) -> str:
        """Drop all of it, because a person says that nothing is held there any more; returns why not."""
        if amount_of(request) != 0:
            return f"Positions at another broker cannot be valued here: {self.description}."
        if self._heard_of is not None and request.made < self._heard_of:
            return (
                "The request was made before that position was left there: check the account, and confirm again. "
                f"{self.description}."
            )
        places = {(one.broker, one.account): None for one in self._before}
        places |= {(one["at"], one["account"]): None for one in self._abandoned}
        for broker, account in places:
            recorder.record(records.RELEASED, {"of": broker, "account": account, "actor": request.actor})
        self._before, self._abandoned = [], []
        self.update_cause(conditions)
        return ""

    def _last_heard_of(self, past: Iterable[Event], since: Iterable[Event]) -> datetime | None:
        # When the last word on any of it was written down: that it is STUCK, or what became of an order there.
        signals = {one.signal for one in self._before} | {records.signal_of(one["signal"]) for one in self._abandoned}
        keys = {one.get("broker", "") for one in self._abandoned}
        stuck = [
            event.applied
            for event in past
            if event.kind == records.STUCK and records.signal_of(event.payload["signal"]) in signals
        ]
        worked = [event.applied for event in since if event.cid and event.payload.get("broker", "") in keys]
        return max([*stuck, *worked], default=None)

    def entries(self, recorder: JournalRecorder) -> list[NewEvent]:
        """The session is over: what it holds where nobody looked after it."""
        return [recorder.entry(records.STUCK, payload) for payload in self._abandoned]


_GONE = "`tbot failover confirm --amount 0`"


def abandoned_holdings(
    since: Sequence[Event], here: Collection[str], carried: Iterable[CarriedPosition]
) -> list[records.Payload]:
    """What an open session holds at accounts that nobody trades now, as its end tells of it."""
    opened = next((event for event in since if event.kind == records.SESSION_OPENED), None)
    if opened is None:
        return []
    released = {event.payload["account"] for event in since if event.kind == records.RELEASED}
    made = {one.signal: Counter(one.attempts) for one in carried}
    found = []
    for key, account in records.accounts_of(opened.payload).items():
        if account in here or account in released or key == opened.payload.get("primary"):
            continue
        book = session_book(since, key)
        for signal, position in ((one.signal, one) for one in book.portfolio.positions.values()):
            attempts = made.get(signal, Counter()) + Counter(
                one.order.leg for one in book.orders.values() if one.order.signal == signal
            )
            told = records.carried_payload(signal, carryover.carried_entry(position)) | {
                "side": position.side.word,
                "words": "no session trades the account that holds it",
                "attempts": {leg.value: count for leg, count in attempts.items()},
                "account": account,
                "at": key or opened.payload["primary"],
            }
            found.append(told | ({"broker": key} if key else {}))
    return found


def session_end_events(
    recorder: JournalRecorder, since: Sequence[Event], carried: Iterable[CarriedPosition]
) -> list[NewEvent]:
    """The end of an open session of which nobody trades the account any more, from what is written down of it."""
    opened = next(event for event in since if event.kind == records.SESSION_OPENED)
    stuck = abandoned_holdings(since, (), carried)
    book = session_book(since)
    closed = {
        "date": opened.payload["date"],
        "equity": str(book.equity),
        "cash": str(dollars_of(book.portfolio.cash_atoms)),
        "pnl": str(dollars_of(book.portfolio.pnl_atoms)),
        "trades": len(book.trades),
        "open": sorted({one["symbol"] for one in stuck}),
        "account": opened.payload["account"],
    }
    told = [recorder.entry(records.STUCK, one) for one in stuck]
    return [*told, recorder.entry(records.SESSION_CLOSED, closed)]
