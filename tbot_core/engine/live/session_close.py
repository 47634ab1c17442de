"""The end of a session: positions still open are reported shortly before the close, and are STUCK after it.

If the whole market is halted to the close, they are STUCK at once.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from tbot_core.engine.live.data_guard import FIRST_ORDER_S
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.requests import run_concurrently
from tbot_core.journal import records
from tbot_core.journal.codec import fill_facts
from tbot_core.journal.events.risk import ClosingLate, PositionLeft, PositionStuck
from tbot_core.journal.projections import carryover
from tbot_core.model.types import Leg, OrderState, RiskState
from tbot_core.trading.orders import IN_DOUBT
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.model.clock import Clock
    from tbot_core.trading.portfolio import Position

ALERT_BEFORE_CLOSE: Final = timedelta(minutes=2)
"""How long before the close an open position is reported."""

_NO_ANSWER_CAUSES: Final = frozenset(
    {StateCause.UNREACHABLE, StateCause.MAINTENANCE, StateCause.UNKNOWN, StateCause.UNRECONCILED}
)

Left = TypeVar("Left", bound=PositionLeft)


class SessionClose:
    """Watches one session's end at each of its brokers; `past` are its events before a restart.

    `halted_to_close` tells whether the market is halted to the close.
    """

    def __init__(
        self,
        run: TradingSession,
        supervisors: Sequence[BrokerSupervisor],
        clock: Clock,
        past: Sequence[Event],
        halted_to_close: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session = run.session
        self._supervisors = supervisors
        self._clock = clock
        self._halted_to_close = halted_to_close
        self._reopened: set[str] = set()
        self._reported = {
            (event.broker, event.facts(PositionLeft).signal)
            for event in past
            if event.kind in {records.CLOSING_LATE, records.STUCK}
        }

    async def run_once(self) -> None:
        """One round, about twice a second.

        Closes carried positions as soon as orders may be sent. In the last two minutes it reports each open position
        once. One that cannot be closed in this session is STUCK at once: its symbol is frozen to the session's end, or
        the market is halted to the close.
        """
        session, now = self._session, self._clock.now()
        opens = session.open + timedelta(seconds=FIRST_ORDER_S)
        if opens <= now < session.close:
            brokers = (one.broker_session for one in self._supervisors)
            due = [one for one in brokers if one.is_awaited and one.name not in self._reopened]
            self._reopened.update(one.name for one in due)
            await run_concurrently([partial(self._reopen, one) for one in due])
        if not session.open <= now < session.close:
            return
        halted_to_close, is_late = self._halted_to_close(), session.close - ALERT_BEFORE_CLOSE <= now
        for supervisor, position in self._held():
            broker_session, symbol = supervisor.broker_session, position.symbol
            is_stuck = halted_to_close or broker_session.decision_engine.exposure.holds.has(
                symbol, Hold.FROZEN_FOR_SESSION
            )
            key = broker_session.journal_tag, position.signal
            if (is_stuck or is_late) and key not in self._reported:
                self._reported.add(key)
                left = PositionStuck if is_stuck else ClosingLate
                broker_session.execution.recorder.record(self._left(left, supervisor, position))

    def stuck_entries(self) -> list[NewEvent]:
        """The STUCK events of positions still open at the session's end, with the reasons."""
        return [
            supervisor.broker_session.execution.recorder.entry(self._left(PositionStuck, supervisor, position))
            for supervisor, position in self._held()
        ]

    def _held(self) -> list[tuple[BrokerSupervisor, Position]]:
        return [
            (supervisor, position)
            for supervisor in self._supervisors
            for position in supervisor.broker_session.decision_engine.portfolio.by_symbol
        ]

    def _left(self, left: type[Left], supervisor: BrokerSupervisor, position: Position) -> Left:
        made = supervisor.broker_session.decision_engine.position_manager.recovery.attempts_by_leg(position.signal)
        attempts = {leg.value: count for leg, count in made.items()}
        words = "it is halted" if self._halted_to_close() else _why(supervisor, position)
        fill = fill_facts(carryover.carried_entry(position))
        return left(
            signal=position.signal,
            side=position.side.word,
            words=words,
            attempts=attempts,
            instrument=position.instrument.recorded,
            **fill,
        )

    @staticmethod
    async def _reopen(broker_session: BrokerSession) -> None:
        await broker_session.execution.execute(
            MinuteCommands(actions=broker_session.decision_engine.position_manager.on_market_open())
        )


def _blocked_by(supervisor: BrokerSupervisor, symbol: str) -> str:
    # What still prevents an exit from being sent; "" if nothing does.
    if supervisor.state is RiskState.HALTED:
        return "a kill suspends its exit"
    holds = supervisor.broker_session.decision_engine.exposure.holds
    return "it is frozen" if holds.has(symbol, Hold.FROZEN) else ""


def _why(supervisor: BrokerSupervisor, position: Position) -> str:
    symbol, tickets = position.symbol, supervisor.broker_session.execution.tickets.values()
    if supervisor.broker_session.decision_engine.exposure.holds.has(symbol, Hold.HALTED):
        return "it is halted"
    exits = [one for one in tickets if one.order.leg is Leg.EXIT and one.order.signal == position.signal]
    if exits and exits[-1].state in {*IN_DOUBT, OrderState.SENDING}:
        return "the outcome of its exit order is unknown"
    if no_answer := next((cause for cause in supervisor.trading_state.causes if cause in _NO_ANSWER_CAUSES), None):
        return no_answer.value
    unsent = not exits or exits[-1].state is OrderState.DROPPED
    if unsent and (words := _blocked_by(supervisor, symbol)):
        return words
    if not exits:
        return "no exit order was sent"
    refused = exits[-1].state is OrderState.REJECTED
    return "the broker rejects its exits" if refused else "its exit does not fill"
