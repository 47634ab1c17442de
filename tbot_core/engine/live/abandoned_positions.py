"""Positions at accounts that a session does not trade: they are reported, block entries, and are carried on.

They arise when the settings no longer name a broker. tbot cannot manage them there, so entries are blocked until the
broker is named again, or a person confirms that the position is gone.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tbot_core.engine.session.requests import amount_of
from tbot_core.journal import records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.risk import PositionsReleased, PositionStuck
from tbot_core.journal.events.sessions import SessionClosed, SessionOpened
from tbot_core.journal.projections import carryover
from tbot_core.journal.projections.book import session_book
from tbot_core.model.formatting import format_quantity
from tbot_core.model.types import dollars_of
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tbot_core.engine.control import ControlRequest
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.journal.store import Event, JournalRecorder, NewEvent
    from tbot_core.trading.portfolio import CarriedPosition


class AbandonedPositions:
    """Positions at accounts other than the session's `accounts`, left by earlier sessions or by this one.

    `past` are the journal's events; those since the last session's end belong to this one, before a restart.
    """

    def __init__(self, past: Sequence[Event], accounts: Collection[str]) -> None:
        carried, since = carryover.carried_positions(past), carryover.events_since_close(past)
        self._before = [one for one in carried if one.account not in accounts]
        self._abandoned = abandoned_holdings(since, accounts, carried)
        self._last_event = self._find_last_event(past, since)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._before or self._abandoned)

    @property
    def description(self) -> str:
        """The positions with their accounts, and the remedy; "" without any."""
        held = [(one.fill.quantity, one.fill.symbol, one.broker, one.account) for one in self._before]
        held += [(one.quantity, one.symbol, one.at, one.account) for one in self._abandoned]
        if not held:
            return ""
        listed = ", ".join(
            f"{format_quantity(shares)} {symbol} at {broker}, account {account}"
            for shares, symbol, broker, account in held
        )
        return f"{listed}; name it in BROKER_NAME or FAILOVER_BROKERS, or confirm that it is closed: {_GONE}"

    def update_cause(self, trading_state: TradingStateController) -> None:
        """Set or clear the cause of abandoned positions."""
        trading_state.set_cause(StateCause.LEFT_BEHIND, self.description)

    def release(self, request: ControlRequest, recorder: JournalRecorder, trading_state: TradingStateController) -> str:
        """Drop all of them, because a person confirmed that they are gone; returns the reason of a refusal."""
        if amount_of(request) != 0:
            return f"Positions at another broker cannot be valued here: {self.description}."
        if request.order <= self._last_event:
            return (
                "The request was made before that position was left there: check the account, and confirm again. "
                f"{self.description}."
            )
        places = {(one.broker, one.account): None for one in self._before}
        places |= {(one.at, one.account): None for one in self._abandoned}
        for broker, account in places:
            recorder.record(PositionsReleased(of=broker, account=account, actor=request.actor))
        self._before, self._abandoned = [], []
        self.update_cause(trading_state)
        return ""

    def _find_last_event(self, past: Iterable[Event], since: Iterable[Event]) -> int:
        # The number of the last event of any of them: STUCK, or an order event there; 0 for none.
        signals = {one.signal for one in self._before} | {one.signal for one in self._abandoned}
        keys = {one.broker for one in self._abandoned}
        stuck = [
            event.seq for event in past if event.kind == records.STUCK and event.facts(PositionStuck).signal in signals
        ]
        order_events = [event.seq for event in since if event.cid and event.broker in keys]
        return max([*stuck, *order_events], default=0)

    def entries(self, recorder: JournalRecorder) -> list[NewEvent]:
        """The STUCK events of positions that this session abandoned, for its end."""
        return [recorder.entry(position) for position in self._abandoned]


_GONE = "`tbot failover confirm --amount 0`"


def abandoned_holdings(
    since: Sequence[Event], accounts: Collection[str], carried: Iterable[CarriedPosition]
) -> list[PositionStuck]:
    """The STUCK events of an open session's positions at accounts that are no longer traded."""
    opened = next((event for event in since if event.kind == records.SESSION_OPENED), None)
    if opened is None:
        return []
    primary = opened.facts(SessionOpened).primary
    released = {event.facts(PositionsReleased).account for event in since if event.kind == records.RELEASED}
    attempts_by_signal = {one.signal: Counter(one.attempts) for one in carried}
    found = []
    for key, account in records.accounts_of(opened.payload).items():
        if account in accounts or account in released or key == primary:
            continue
        book = session_book(since, key)
        for signal, position in ((one.signal, one) for one in book.portfolio.positions.values()):
            attempts = attempts_by_signal.get(signal, Counter()) + Counter(
                one.order.leg for one in book.orders.values() if one.order.signal == signal
            )
            found.append(
                PositionStuck(
                    signal=signal,
                    side=position.side.word,
                    words="no session trades the account that holds it",
                    attempts={leg.value: count for leg, count in attempts.items()},
                    account=account,
                    at=key or primary,
                    broker=key,
                    instrument=position.instrument.recorded,
                    **fill_facts(carryover.carried_entry(position)),
                )
            )
    return found


def session_end_events(
    recorder: JournalRecorder, since: Sequence[Event], carried: Iterable[CarriedPosition]
) -> list[NewEvent]:
    """The closing events of an open session whose account is no longer traded, from the journal alone."""
    opened = next(event for event in since if event.kind == records.SESSION_OPENED).facts(SessionOpened)
    stuck = abandoned_holdings(since, (), carried)
    book = session_book(since)
    closed = SessionClosed(
        date=opened.date,
        equity=book.equity,
        cash=dollars_of(book.portfolio.cash_atoms),
        pnl=dollars_of(book.portfolio.pnl_atoms),
        trades=len(book.trades),
        open=tuple(sorted({position.symbol for position in stuck})),
        account=opened.account or "",
    )
    return [recorder.entry(event) for event in (*stuck, closed)]
