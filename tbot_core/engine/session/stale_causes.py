"""Clears causes of an earlier session that have no owner in this one.

The owner of a cause clears it; a run with other settings may lack that owner. Causes set by a person stay.
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
    """The causes without an owner in a session; None marks an owner that it does not have."""
    owners = ((_OF_ARMING, arming), (_OF_FAILOVER, failover), (_OF_THE_FEED, feed))
    return frozenset(cause for causes, owner in owners if owner is None for cause in causes)


def clear_unowned_causes(trading_state: TradingStateController, unowned: Iterable[StateCause], *, opened: bool) -> None:
    """Clear the causes that have no owner in this live session.

    In an `opened` session, continued after a restart, they expire after their usual time. Before the open they expire
    at once, and so do the causes of the feed.
    """
    if opened:
        for cause in unowned:
            trading_state.clear_cause(cause, _WORDS)
        return
    _expire(trading_state, {*unowned}, _WORDS)
    _expire(trading_state, _OF_THE_FEED, _ENDED)


def clear_market_causes(recorder: JournalRecorder) -> None:
    """Clear the causes of live trading before a paper session: a simulated venue cannot raise them."""
    trading_state = TradingStateController(
        recorder, _ignore_state, recall_states(recorder.journal.events(kind=records.STATE))
    )
    _expire(trading_state, {*trading_state.causes} - _AT_A_SIMULATOR, _WORDS)


def clear_feed_causes(trading_state: TradingStateController) -> None:
    """Clear the causes of a feed at its session's end."""
    _expire(trading_state, _OF_THE_FEED, _ENDED)


def _ignore_state(state: RiskState) -> None:
    # Before the session no decision depends on the state.
    pass


def _expire(trading_state: TradingStateController, causes: Iterable[StateCause], words: str) -> None:
    for cause in sorted(causes):
        trading_state.clear_cause(cause, words)
        trading_state.expire_cause(cause)
