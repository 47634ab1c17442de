"""Strategy open: the range, strict breakouts on both sides, the nearer stop."""

from __future__ import annotations

import numpy as np
import pytest
from tbot_strategy_open import Open, tbot_strategy

from tbot_core.contracts import SupportsExplain
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.strategy import StrategyContract

OPEN = Open(window=Window(start=0, analysis=20, breakout=10, monitoring=30))
LATER = Open(window=Window(start=5, analysis=15, breakout=10, monitoring=30))


def _scan(draft: SessionDraft, strategy: Open = OPEN) -> Signals:
    return strategy.scan(draft.bars(), draft.day())


def _ranged() -> SessionDraft:
    # A range from 99.00 to 101.00: bars at 100 with one extreme each way.
    return SessionDraft().bar(3, 100, high=101).bar(4, 100, low=99)


def _ups(draft: SessionDraft) -> list[tuple[int, int]]:
    found = _scan(draft)
    return list(zip(found.minute.tolist(), found.side.tolist(), strict=True))


class TestContract(StrategyContract):
    """Open keeps the contract of strategies."""

    @pytest.fixture
    def strategy(self) -> Open:
        """The strategy with a buffer that the kit's market reaches."""
        return Open(window=Window(start=0, analysis=20, breakout=60, monitoring=30), buffer=0.002)


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        (103.02, []),
        (103.0201, [(20, 1)]),
        (103.03, [(20, 1)]),
        (97.02, []),
        (97.0199, [(20, -1)]),
        (97.01, [(20, -1)]),
        (100.0, []),
    ],
)
def test_a_breakout_closes_beyond_the_buffer(close: float, expected: list[tuple[int, int]]) -> None:
    """Equal to 101 x 1.02 or 99 x 0.98 is no breakout, a tick further is."""
    assert _ups(_ranged().bar(20, close)) == expected


@pytest.mark.slow
def test_equal_is_never_beyond() -> None:
    """Whatever the price, a close of exactly high x 1.02 does not fire, although the float product may lie under it."""
    under = 0
    for cents in range(501, 30_000, 37):
        high, close = cents / 100, cents * 102 / 10_000
        under += high * 1.02 < close
        assert _ups(SessionDraft(minutes=30, price=high).bar(20, close)) == []
        assert _ups(SessionDraft(minutes=30, price=high).bar(20, close + 0.0001)) == [(20, 1)]
    assert under > 0


@pytest.mark.parametrize(("minute", "fires"), [(19, False), (20, True), (29, True), (30, False)])
def test_only_the_entry_phase_triggers(minute: int, fires: bool) -> None:
    """The first trigger bar is minute 20, the last minute 29; a bar of minute 19 belongs to the range."""
    assert _ups(_ranged().bar(minute, 104)) == ([(minute, 1)] if fires else [])


def test_a_high_alone_is_no_breakout() -> None:
    """A bar that trades above the level and closes below it does not count."""
    assert _ups(_ranged().bar(20, 103, high=110)) == []


def test_the_first_trigger_counts() -> None:
    """A row has one signal: of its first breakout, whatever follows."""
    assert _ups(_ranged().bar(22, 96).bar(21, 104).bar(23, 105)) == [(21, 1)]


def test_stops_are_the_nearer_of_range_and_percentage() -> None:
    """A wide range leaves STOP_LOSS_PCT of the signal's close, a narrow one its other side; both ways."""
    wide = _scan(_ranged().bar(20, 104))
    narrow = _scan(SessionDraft(price=100).bar(20, 102.01), Open(window=OPEN.window, stop_loss_pct=0.05))
    short = _scan(SessionDraft(price=100).bar(20, 97.99), Open(window=OPEN.window, stop_loss_pct=0.01))
    assert (wide.stop.tolist(), narrow.stop.tolist(), short.stop.tolist()) == ([101.92], [100.0], [98.9699])


def test_a_signal_says_what_it_is() -> None:
    """Price, strength, rule and exit plan of a long breakout: 104 against 103.02; no target; out at minute 60."""
    found = _scan(_ranged().bar(20, 104))
    assert found.price.tolist() == [104.0]
    assert found.strength.tolist() == [pytest.approx((104 - 103.02) / 103.02, rel=1e-12)]
    assert np.isnan(found.target).all()
    assert [found.rules[rule] for rule in found.rule] == ["breakout"]
    assert found.exits == ExitRules(leave=60)


@pytest.mark.parametrize("first", [0, 7])
def test_a_bad_first_print_is_left_out_of_the_range(first: int) -> None:
    """A first bar whose open lies 3 % off its average price does not widen the range, whenever it comes."""
    draft = _ranged().gap(0, first).bar(first, 100, open=110, high=110, low=100, vwap=100).bar(20, 104)
    clean = SessionDraft().gap(0, first).bar(first, 100, open=103, high=103, low=100, vwap=100).bar(20, 104)
    assert _ups(draft.bar(3, 100, high=101) if first == 0 else draft.bar(8, 100, high=101)) == [(20, 1)]
    assert _ups(clean) == []


def test_a_print_before_the_window_is_not_its_business() -> None:
    """Where the window starts after the bell the range holds every analysis bar and none before them."""
    draft = SessionDraft().bar(0, 100, open=110, high=110, vwap=100).bar(4, 120).bar(19, 100, high=101)
    found = _scan(draft.bar(20, 104), LATER)
    assert found.minute.tolist() == [20]


def test_missing_bars_compare_what_exists() -> None:
    """A range of one bar is a range; without any there is no signal; a missing trigger bar waits for the next."""
    assert _ups(SessionDraft().gap(1, 20).bar(20, 104)) == [(20, 1)]
    assert _ups(SessionDraft().gap(0, 20).bar(20, 104)) == []
    assert _ups(_ranged().gap(20, 22).bar(22, 104)) == [(22, 1)]
    assert _ups(SessionDraft().gap(0, 390)) == []


def test_an_analysis_of_no_minutes_never_fires() -> None:
    """Without analysis bars there is no range to break."""
    none = Open(window=Window(start=0, analysis=0, breakout=10, monitoring=30))
    assert len(_scan(_ranged().bar(5, 150), none)) == 0


def test_since_leaves_used_up_rows_out() -> None:
    """Asked from minute 22 on, a row that fired at 21 is silent; asked from 21 on, it is there."""
    draft = _ranged().bar(21, 104).bar(23, 105)
    bars, day = draft.bars(), draft.day()
    assert [len(OPEN.scan(bars, day, since)) for since in (0, 21, 22)] == [1, 1, 0]


def test_a_half_day_has_the_same_window() -> None:
    """A session of 210 minutes breaks out by the same rules; one of 25 ends inside the phase without an error."""
    half = SessionDraft(minutes=210).bar(25, 104)
    assert _scan(half).minute.tolist() == [25]
    assert len(_scan(SessionDraft(minutes=25))) == 0


def test_the_offer_is_the_plugin() -> None:
    """The hook returns plugin `open`, whose config is the finished strategy, and it explains itself."""
    plugin = tbot_strategy()
    assert (plugin.name, plugin.config) == ("open", Open)
    built = plugin.create(OPEN, None)  # type: ignore[arg-type]  # a pure strategy does not look at its context
    assert built is OPEN
    assert isinstance(OPEN, SupportsExplain)
    assert [trigger.level[0, 0] for trigger in OPEN.triggers(_ranged().bars(), _ranged().day())] == [103.02, 97.02]
