"""Causes that a session before has left, and that nobody in this one would ever take back: they go with their owner.

Whoever judges a cause takes it back; a run of other settings may not have that judge. What a person asked for stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.execution.trading_state import TradingStateController, recall_states
from tbot_core.journal import records
from tbot_core.trading.risk.states import KILLS_AND_STOPS, StateCause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.model.types import RiskState

_OF_THE_FEED: Final = frozenset({StateCause.FEEDS_STALE, StateCause.UNIVERSE_STALE})
_OF_ARMING: Final = frozenset({StateCause.NOT_ARMED})
_OF_FAILOVER: Final = frozenset({StateCause.BROKERS_DOWN, StateCause.PRIMARY_DOWN})
_AT_A_SIMULATOR: Final = KILLS_AND_STOPS | {
    StateCause.CONTROL_LOST,
    StateCause.DISK_LOW,
    StateCause.JOURNAL,
    StateCause.STALLED,
    StateCause.PLUGIN_LOST,
    StateCause.HALF_LOSS,
    StateCause.DEVIATIONS,
    StateCause.DEFENSE_COMMAND,
    StateCause.DEFENSE_SETTING,
}
_WORDS: Final = "it does not apply in this session"
_ENDED: Final = "the session has ended"


def unowned_causes(*, arming: object, failover: object, feed: object) -> frozenset[StateCause]:
    """The causes that nobody judges in a session that has not each of these; None is what it has not."""
    judges = ((_OF_ARMING, arming), (_OF_FAILOVER, failover), (_OF_THE_FEED, feed))
    return frozenset(cause for causes, judge in judges if judge is None for cause in causes)


def clear_unowned_causes(conditions: TradingStateController, nobodys: Iterable[StateCause], *, begun: bool) -> None:
    """Withdraw what this session of a broker's market has no owner for, `nobodys`.

    In a session that has `begun`, which is gone on with after a restart, a cause lingers as it would have; before the
    bell it goes at once, and so does what is said of a feed that nobody has heard yet today.
    """
    if begun:
        for cause in nobodys:
            conditions.clear_cause(cause, _WORDS)
        return
    _let_go(conditions, {*nobodys}, _WORDS)
    _let_go(conditions, _OF_THE_FEED, _ENDED)


def clear_market_causes(recorder: JournalRecorder) -> None:
    """Withdraw before a paper session what a broker's market has left: a simulated venue has no such trouble."""
    conditions = TradingStateController(recorder, _nobody, recall_states(recorder.journal.events(kind=records.STATE)))
    _let_go(conditions, {*conditions.causes} - _AT_A_SIMULATOR, _WORDS)


def clear_feed_causes(conditions: TradingStateController) -> None:
    """The session is over, and with it whatever its feed did not say."""
    _let_go(conditions, _OF_THE_FEED, _ENDED)


def _nobody(state: RiskState) -> None:
    # Before the session nobody decides.
    pass


def _let_go(conditions: TradingStateController, causes: Iterable[StateCause], words: str) -> None:
    for cause in sorted(causes):
        conditions.clear_cause(cause, words)
        conditions.expire_cause(cause)
