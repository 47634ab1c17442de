"""A loop that stood still is noticed when it turns again."""

from __future__ import annotations

from tbot_core.engine.live.session_tasks import STALL_S, LoopGuard
from tbot_core.model.types import RiskState
from tbot_core.trading.risk.states import KINDS, CauseEnd, StateCause


def test_f89_a_pause_that_took_ten_seconds_too_long_is_a_stand_still() -> None:
    """F89: counted from its begin, beyond what it was meant to take; it leaves exits only until a clean reconcile."""
    turning = LoopGuard(100.0)
    assert turning.stalled_s(100.0 + STALL_S + 0.9, 1.0) == 0.0
    assert turning.stalled_s(111.0, 1.0) == STALL_S
    turning.begin_pause(111.0)
    assert turning.stalled_s(112.0, 1.0) == 0.0
    assert (KINDS[StateCause.STALLED].state, KINDS[StateCause.STALLED].end) == (RiskState.EXIT_ONLY, CauseEnd.RECONCILE)
