"""Strategy close: the VIX screen, the session's range, momentum and fade with their order."""

from __future__ import annotations

import numpy as np
import pytest
from tbot_strategy_close import Close, tbot_strategy

from tbot_core.contracts import SupportsScreening
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft, market
from tbot_core.testing.strategy import StrategyContract

CLOSE = Close(window=Window(start=300, analysis=5, breakout=5, monitoring=25))


def _scan(draft: SessionDraft, strategy: Close = CLOSE) -> Signals:
    return strategy.scan(draft.bars(), draft.day())


def _found(draft: SessionDraft, strategy: Close = CLOSE) -> list[tuple[int, int, str]]:
    signals = _scan(draft, strategy)
    names = [signals.rules[rule] for rule in signals.rule]
    return list(zip(signals.minute.tolist(), signals.side.tolist(), names, strict=True))


def _moved() -> SessionDraft:
    # An open at 100 and a session between 99 and 101, enough range for an entry.
    return SessionDraft().bar(50, 100, high=101).bar(60, 100, low=99)


def _risen(to: float) -> SessionDraft:
    # A session that opened at 100 and has stood at `to` since noon, after a high far above it.
    draft = SessionDraft().bar(100, to, high=to + 20)
    for minute in range(101, 390):
        draft.bar(minute, to)
    return draft


class TestContract(StrategyContract):
    """Close keeps the contract of strategies."""

    @pytest.fixture
    def strategy(self) -> Close:
        """The strategy with a longer entry phase, in which the kit's market gives both rules."""
        return Close(window=Window(start=200, analysis=5, breakout=60, monitoring=25), fade_pct=0.01)


def test_the_kits_market_gives_both_rules() -> None:
    """The contract above is proved on momentum and on fade, long and short."""
    strategy = Close(window=Window(start=200, analysis=5, breakout=60, monitoring=25), fade_pct=0.01)
    signals = strategy.scan(*market())
    assert {(signals.rules[rule], int(side)) for rule, side in zip(signals.rule, signals.side, strict=True)} == {
        ("momentum", 1),
        ("momentum", -1),
        ("fade", 1),
        ("fade", -1),
    }


@pytest.mark.parametrize(
    ("vix", "denied"),
    [(14.99, True), (15.0, False), (15.01, False), (float("nan"), True)],
)
def test_a_low_or_unknown_vix_denies(vix: float, denied: bool) -> None:
    """The previous close of the VIX binds from below, equal passes, and unknown always denies."""
    draft = SessionDraft("AAA", "BBB")
    (check,) = CLOSE.screen(draft.day(vix=vix))
    assert isinstance(CLOSE, SupportsScreening)
    assert (check.value.shape, check.low, check.high, check.required) == ((2,), 15.0, None, True)
    assert (check.below, check.unknown) == (Reason.VIX_LOW, Reason.VIX_UNKNOWN)
    assert (check.value >= 15.0).any() != denied


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        (101.0, []),
        (101.0001, [(305, 1, "momentum")]),
        (99.0, []),
        (98.9999, [(305, -1, "momentum")]),
    ],
)
def test_momentum_closes_beyond_the_sessions_extreme(close: float, expected: list[tuple[int, int, str]]) -> None:
    """Equal to the high or the low as of the end of analysis is not enough."""
    assert _found(_moved().bar(305, close)) == expected


@pytest.mark.parametrize(("close", "fires"), [(102.01, False), (102.0101, True)])
def test_momentum_needs_the_buffer(close: float, fires: bool) -> None:
    """With CLOSE_BUFFER=0.01 the level is 101 x 1.01, and equal is not beyond."""
    buffered = Close(window=CLOSE.window, buffer=0.01)
    assert _found(_moved().bar(305, close), buffered) == ([(305, 1, "momentum")] if fires else [])


def test_the_extreme_is_that_of_the_end_of_analysis() -> None:
    """A high of minute 304 raises the level, one of the entry phase does not."""
    assert _found(_moved().bar(304, 100, high=103).bar(305, 102)) == []
    assert _found(_moved().bar(305, 100, high=103).bar(306, 102)) == [(306, 1, "momentum")]


@pytest.mark.parametrize(("minute", "fires"), [(304, False), (305, True), (309, True), (310, False)])
def test_only_the_entry_phase_triggers(minute: int, fires: bool) -> None:
    """The first trigger bar is minute 305, the last minute 309."""
    draft = _moved().bar(minute, 101.5, high=101.5)
    assert _found(draft) == ([(minute, 1, "momentum")] if fires else [])


@pytest.mark.parametrize(("high", "fires"), [(100.5, True), (100.4999, False)])
def test_a_session_of_little_range_is_left_alone(high: float, fires: bool) -> None:
    """(high - low) / open of exactly 0.01 is enough; the trigger bar's own prices count."""
    draft = SessionDraft().bar(60, 100, low=99.5).bar(305, 100.3, high=high)
    assert _found(draft) == ([(305, 1, "momentum")] if fires else [])


@pytest.mark.parametrize("opened", [10.1, 33.3, 70.7, 123.4])
def test_the_range_is_exact_at_its_edge(opened: float) -> None:
    """A range of exactly 1 % of the open is enough at any price, although the float quotient may lie under it."""
    draft = SessionDraft(price=opened).bar(60, opened, low=round(opened - opened / 200, 4))
    draft.bar(305, opened + 0.01, high=round(opened + opened / 200, 4))
    assert _found(draft) == [(305, 1, "momentum")]


@pytest.mark.parametrize(
    ("level", "turned", "expected"),
    [
        (106.0, 105.9, [(305, -1, "fade")]),
        (106.0, 106.0, []),
        (106.0, 106.1, []),
        (105.1, 105.0, []),
        (105.1, 105.0001, [(305, -1, "fade")]),
        (94.0, 94.1, [(305, 1, "fade")]),
        (94.0, 94.0, []),
        (94.9, 95.0, []),
        (94.9, 94.9999, [(305, 1, "fade")]),
    ],
)
def test_fade_trades_against_a_large_move_that_turns(
    level: float, turned: float, expected: list[tuple[int, int, str]]
) -> None:
    """The return from the open must be beyond 5 %, equal is not, and the last five minutes must go the other way."""
    draft = _risen(level)
    draft.bar(305, turned)
    for minute in range(306, 310):
        draft.gap(minute, minute + 1)
    draft.bar(100, level, high=level + 20, low=level - 20)
    assert _found(draft) == expected


def test_fade_looks_back_exactly_the_analysis() -> None:
    """The comparison is with the close five minutes before; a missing one gives no signal."""
    assert _found(_risen(106).bar(300, 107).bar(305, 106).gap(306, 310)) == [(305, -1, "fade")]
    assert _found(_risen(106).bar(300, 107).gap(300, 301).bar(305, 105.9).gap(306, 310)) == []
    assert _found(_risen(106).bar(301, 107).bar(305, 106).gap(306, 310)) == []


def test_momentum_wins_over_fade() -> None:
    """A bar that is a new extreme and a turn at once is momentum, with momentum's strength."""
    draft = SessionDraft().bar(100, 100, high=107, low=99)
    for minute in range(101, 305):
        draft.bar(minute, 106)
    draft.bar(300, 110).bar(304, 106)
    assert _found(draft.bar(305, 109, high=112)) == [(305, -1, "fade")]
    lower = SessionDraft().bar(100, 100, high=101)
    for minute in range(101, 390):
        lower.bar(minute, 94)
    lower.bar(300, 93, low=93).bar(305, 92)
    assert _found(lower) == [(305, -1, "momentum")]
    both = SessionDraft().bar(100, 100, high=100, low=99).bar(300, 108, high=105, open=104)
    assert _found(both.bar(305, 106).gap(306, 310)) == [(305, 1, "momentum")]


def test_strength_is_relative_to_the_session() -> None:
    """Momentum's distance is divided by the range until then, fade's is the return beyond the limit."""
    momentum = _scan(_moved().bar(305, 101.5))
    fade = _scan(_risen(106).bar(305, 105.9).gap(306, 310))
    assert momentum.strength.tolist() == [pytest.approx((101.5 - 101) / (101.5 - 99))]
    assert fade.strength.tolist() == [pytest.approx(0.059 - 0.05)]


def test_a_signal_says_what_it_is() -> None:
    """The stop trails from 2 % off the close; no target; held for the monitoring minutes."""
    long, short = _scan(_moved().bar(305, 102)), _scan(_moved().bar(305, 98))
    assert (long.stop.tolist(), short.stop.tolist()) == ([99.96], [99.96])
    assert np.isnan(long.target).all()
    assert long.exits == ExitRules(trailing=True, hold=25)


def test_missing_bars_give_nothing() -> None:
    """A row without bars, one that begins in the phase, and a half day have no signal and raise nothing."""
    assert _found(SessionDraft().gap(0, 390)) == []
    assert _found(SessionDraft().gap(0, 305).bar(305, 105, high=106, low=90)) == []
    assert _found(SessionDraft(minutes=210)) == []
    assert len(CLOSE.scan(_moved().bar(305, 102).bars(), _moved().day(), 306)) == 0


def test_without_analysis_there_is_no_fade() -> None:
    """With no minutes of analysis a bar is compared with itself, which never turns; momentum is as before."""
    none = Close(window=Window(start=305, analysis=0, breakout=5, monitoring=25))
    assert _found(_risen(106).bar(305, 105), none) == []
    assert _found(_moved().bar(305, 102), none) == [(305, 1, "momentum")]


def test_the_offer_is_the_plugin() -> None:
    """The hook returns plugin `close`, whose config is the finished strategy, and its conditions have names."""
    plugin = tbot_strategy()
    assert (plugin.name, plugin.config) == ("close", Close)
    built = plugin.create(CLOSE, None)  # type: ignore[arg-type]  # a pure strategy does not look at its context
    assert built is CLOSE
    triggers = CLOSE.triggers(_moved().bars(), _moved().day())
    assert [[condition.name for condition in trigger.when] for trigger in triggers] == [
        ["range so far"],
        ["range so far"],
        ["range so far", "5 minutes before"],
        ["range so far", "5 minutes before"],
    ]
