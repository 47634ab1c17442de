"""Clears causes of an earlier session that have no owner in this one.

The owner of a cause clears it; a run with other settings may lack that owner. Causes set by a person stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tbot_core.execution.trading_state import TradingStateController

_OF_THE_FEED: Final = frozenset({StateCause.FEEDS_STALE, StateCause.UNIVERSE_STALE})
_OF_ARMING: Final = frozenset({StateCause.NOT_ARMED})
_OF_FAILOVER: Final = frozenset({StateCause.BROKERS_DOWN, StateCause.PRIMARY_DOWN})
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


def clear_feed_causes(trading_state: TradingStateController) -> None:
    """Clear the causes of a feed at its session's end."""
    _expire(trading_state, _OF_THE_FEED, _ENDED)


def _expire(trading_state: TradingStateController, causes: Iterable[StateCause], words: str) -> None:
    for cause in sorted(causes):
        trading_state.clear_cause(cause, words)
        trading_state.expire_cause(cause)
