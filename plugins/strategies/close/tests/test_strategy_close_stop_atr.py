"""Strategy close with STOP_ATR."""

from __future__ import annotations

import pytest
from tbot_strategy_close import Close

from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft


def test_stop_atr_stands_in_place_of_stop_loss_pct() -> None:
    """Half a daily range from the close where the range is known, else STOP_LOSS_PCT; 0 is off."""
    draft = SessionDraft("AAA", "BBB").bar(22, 103.0).bar(22, 103.0, "BBB")
    window = Window(start=0, analysis=20, breakout=10, monitoring=30)
    facts = draft.day(vix=20.0, atr=[2.0, float("nan")])
    assert Close(window=window, stop_atr=0.5).scan(draft.bars(), facts).stop.tolist() == pytest.approx([102.0, 100.94])
    assert Close(window=window).scan(draft.bars(), facts).stop.tolist() == pytest.approx([100.94] * 2)
