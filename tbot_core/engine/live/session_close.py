"""The end of a session: positions that cannot be closed are reported shortly before the close, and STUCK after it.

If the whole market is halted to the close they are STUCK at once.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tbot_core.engine.live.data_guard import FIRST_ORDER_S
from tbot_core.execution.intents import MinuteCommands
from tbot_core.execution.throttling import run_concurrently
from tbot_core.journal import records
from tbot_core.journal.projections import carryover
from tbot_core.model.types import Leg, OrderState, RiskState
from tbot_core.trading.orders import IN_DOUBT
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tbot_core.engine.live.broker_supervisor import BrokerSupervisor
    from tbot_core.engine.session.broker_session import BrokerSession
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.model.clock import Clock
    from tbot_core.trading.portfolio import Position

ALERT_BEFORE_CLOSE: Final = timedelta(minutes=2)
"""How long before the close an open position is reported."""

_SILENCES: Final = frozenset(
    {StateCause.UNREACHABLE, StateCause.MAINTENANCE, StateCause.UNKNOWN, StateCause.UNRECONCILED}
)


class SessionClose:
    """Watches one session's end, at each of its brokers; `past` are its events before a restart.

    `over` says whether the market is halted to the close.
    """

    def __init__(
        self,
        run: TradingSession,
        keepers: Sequence[BrokerSupervisor],
        clock: Clock,
        past: Sequence[Event],
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._session = run.session
        self._keepers = keepers
        self._clock = clock
        self._over = over
        self._reopened = False
        self._told = {_mark(one.payload) for one in past if one.kind in {records.CLOSING_LATE, records.STUCK}}

    async def run_once(self) -> None:
        """Called about twice a second.

        As soon as orders are sent what the session before could not close is closed; in the last two minutes each
        position that is still held is told, once; one that the market does not let go any more is STUCK.
        """
        session, now = self._session, self._clock.now()
        opens = session.open + timedelta(seconds=FIRST_ORDER_S)
        if not self._reopened and opens <= now < session.close:
            self._reopened = True
            await run_concurrently([partial(self._reopen, keeper.broker_session) for keeper in self._keepers])
        over = self._over()
        if not session.open <= now < session.close or not (over or session.close - ALERT_BEFORE_CLOSE <= now):
            return
        for keeper, position in self._held():
            mark = keeper.broker_session.journal_tag, position.signal.symbol
            if mark not in self._told:
                self._told.add(mark)
                kind = records.STUCK if over else records.CLOSING_LATE
                keeper.broker_session.execution.recorder.record(kind, _payload(keeper, position))

    def stuck_entries(self) -> list[NewEvent]:
        """The session has ended: the open positions, and why they could not be closed."""
        return [
            keeper.broker_session.execution.recorder.entry(records.STUCK, _payload(keeper, position))
            for keeper, position in self._held()
        ]

    def _held(self) -> list[tuple[BrokerSupervisor, Position]]:
        held = [(keeper, keeper.broker_session.decision_engine.portfolio.positions) for keeper in self._keepers]
        return [(keeper, positions[symbol]) for keeper, positions in held for symbol in sorted(positions)]

    @staticmethod
    async def _reopen(post: BrokerSession) -> None:
        await post.execution.execute(MinuteCommands(actions=post.decision_engine.position_manager.on_market_open()))


def _mark(payload: Mapping[str, Any]) -> tuple[str, str]:
    return payload.get("broker", ""), payload["symbol"]


def _payload(keeper: BrokerSupervisor, position: Position) -> records.Payload:
    carried = records.carried_payload(position.signal, carryover.carried_entry(position))
    made = keeper.broker_session.decision_engine.position_manager.recovery.attempts_by_leg(position.signal)
    attempts = {leg.value: count for leg, count in made.items()}
    return carried | {"side": position.side.word, "words": _why(keeper, position), "attempts": attempts}


def _held_back(keeper: BrokerSupervisor, symbol: str) -> str:
    # What has kept an exit from leaving; "" for nothing that is still there.
    if keeper.state is RiskState.HALTED:
        return "a kill suspends its exit"
    return "it is frozen" if symbol in keeper.broker_session.decision_engine.exposure.frozen else ""


def _why(keeper: BrokerSupervisor, position: Position) -> str:
    symbol, orders = position.signal.symbol, keeper.broker_session.execution.orders.values()
    if symbol in keeper.broker_session.decision_engine.position_manager.exits.halted:
        return "it is halted"
    exits = [one for one in orders if one.order.leg is Leg.EXIT and one.order.signal == position.signal]
    if exits and exits[-1].state in {*IN_DOUBT, OrderState.SENDING}:
        return "the outcome of its exit order is unknown"
    if silence := next((cause for cause in keeper.trading_state.causes if cause in _SILENCES), None):
        return silence.value
    unsent = not exits or exits[-1].state is OrderState.DROPPED
    if unsent and (words := _held_back(keeper, symbol)):
        return words
    if not exits:
        return "no exit order was sent"
    refused = exits[-1].state is OrderState.REJECTED
    return "the broker rejects its exits" if refused else "its exit does not fill"
