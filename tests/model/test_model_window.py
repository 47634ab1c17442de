"""Window: derived minutes, bounds and the session it needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.model.window import Window

OPEN = Window(start=0, analysis=20, breakout=10, monitoring=30)
CLOSE = Window(start=300, analysis=5, breakout=5, monitoring=25)


def test_the_phases_follow_one_another() -> None:
    """Entry, its end and the leaving minute are sums of the phases before them."""
    assert (OPEN.entry, OPEN.entry_end, OPEN.leave) == (20, 30, 60)


@given(
    start=st.integers(0, 400),
    analysis=st.integers(0, 400),
    breakout=st.integers(1, 400),
    monitoring=st.integers(1, 400),
)
def test_the_phases_never_overlap(start: int, analysis: int, breakout: int, monitoring: int) -> None:
    """Whatever the lengths, the phases are ordered and keep their lengths."""
    window = Window(start=start, analysis=analysis, breakout=breakout, monitoring=monitoring)
    assert 0 <= window.start <= window.entry < window.entry_end < window.leave
    assert (window.entry - start, window.entry_end - window.entry, window.leave - window.entry_end) == (
        analysis,
        breakout,
        monitoring,
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("start", -1), ("analysis", -1), ("breakout", 0), ("monitoring", 0)],
)
def test_a_window_that_cannot_trade_is_refused(field: str, value: int) -> None:
    """A start before the bell, or an empty phase, never becomes a window."""
    minutes = {"start": 0, "analysis": 20, "breakout": 10, "monitoring": 30, field: value}
    with pytest.raises(ValueError, match=field):
        Window(**minutes)


def test_minutes_are_whole() -> None:
    """Half a minute is not a place among one-minute bars."""
    with pytest.raises(TypeError, match="start"):
        Window(start=0.5, analysis=20, breakout=10, monitoring=30)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(
    ("window", "session_minutes", "flatten", "outside"),
    [
        (CLOSE, 390, 5, False),
        (CLOSE, 390, 80, False),
        (CLOSE, 390, 81, True),
        (CLOSE, 210, 5, True),
        (OPEN, 210, 5, False),
        (OPEN, 30, 0, False),
        (OPEN, 29, 0, True),
    ],
)
def test_a_window_needs_its_entry_phase_before_flattening(
    window: Window, session_minutes: int, flatten: int, outside: bool
) -> None:
    """The last trigger bar may close at the moment flattening starts, not later."""
    assert window.outside(session_minutes, flatten) is outside
