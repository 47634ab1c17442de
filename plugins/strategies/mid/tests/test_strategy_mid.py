"""Strategy mid: distance from the session's VWAP, inclusive, with the VWAP as target."""

from __future__ import annotations

import pytest
from tbot_strategy_mid import Mid, tbot_strategy

from tbot_core.model.signals import ExitRules, Signals
from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft
from tbot_core.testing.strategy import StrategyContract

MID = Mid(window=Window(start=60, analysis=15, breakout=10, monitoring=30))


def _scan(draft: SessionDraft, strategy: Mid = MID) -> Signals:
    return strategy.scan(draft.bars(), draft.day())


def _found(draft: SessionDraft) -> list[tuple[int, int]]:
    signals = _scan(draft)
    return list(zip(signals.minute.tolist(), signals.side.tolist(), strict=True))


def _at(close: float, minute: int = 75, vwap: float = 100.0) -> SessionDraft:
    # A session at 100 with one bar that closes elsewhere; its volume of 0 leaves the VWAP where it is.
    return SessionDraft(price=vwap).bar(minute, close, volume=0)


class TestContract(StrategyContract):
    """Mid keeps the contract of strategies."""

    @pytest.fixture
    def strategy(self) -> Mid:
        """The strategy with a threshold that the kit's market reaches."""
        return Mid(window=Window(start=60, analysis=15, breakout=60, monitoring=30), threshold=0.005)


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        (98.0, [(75, 1)]),
        (98.0001, []),
        (97.9999, [(75, 1)]),
        (102.0, [(75, -1)]),
        (101.9999, []),
        (102.0001, [(75, -1)]),
    ],
)
def test_the_threshold_counts_as_reached_when_equal(close: float, expected: list[tuple[int, int]]) -> None:
    """At VWAP x (1 -+ 0.02) there is a signal, a tick nearer there is none."""
    assert _found(_at(close)) == expected


def test_equal_is_always_reached() -> None:
    """Whatever the price, a close of exactly VWAP x 0.98 fires and a tick above it does not."""
    for cents in range(501, 30_000, 37):
        level = cents * 98 / 10_000
        assert _found(_at(level, vwap=cents / 100)) == [(75, 1)]
        assert _found(_at(level + 0.0001, vwap=cents / 100)) == []


@pytest.mark.parametrize(("minute", "fires"), [(74, False), (75, True), (84, True), (85, False)])
def test_only_the_entry_phase_triggers(minute: int, fires: bool) -> None:
    """The first trigger bar is minute 75, the last minute 84."""
    assert _found(_at(97, minute)) == ([(minute, 1)] if fires else [])


def test_the_vwap_counts_from_the_sessions_first_bar() -> None:
    """Bars long before the window weigh by their volume: 75 bars at 100 and one of as many shares at 104 make 102."""
    draft = SessionDraft().bar(0, 104, volume=75_000, open=104).bar(75, 99.96, volume=0)
    signals = _scan(draft)
    assert signals.side.tolist() == [1]
    assert signals.target.tolist() == [pytest.approx((74 * 1000 * 100 + 75_000 * 104) / (74_000 + 75_000))]


def test_the_feeds_own_average_is_used_where_there_is_one() -> None:
    """A bar's own VWAP counts in place of its typical price; a bar without one keeps the typical price."""
    draft = SessionDraft().bar(10, 100, vwap=110, volume=1_000_000).bar(75, 100, volume=0)
    assert _found(draft) == [(75, 1)]
    assert _found(SessionDraft().bar(10, 100, volume=1_000_000).bar(75, 100, volume=0)) == []


def test_the_signal_bar_is_part_of_the_vwap() -> None:
    """The VWAP is that of the same minute: a heavy signal bar pulls it to itself."""
    assert _found(SessionDraft().bar(75, 97, volume=1_000)) == [(75, 1)]
    assert _found(SessionDraft().bar(75, 97, volume=10_000_000).gap(76, 85)) == []


def test_a_signal_says_what_it_is() -> None:
    """Stop 2 % off the close on the losing side, target the VWAP, held for the monitoring minutes; both sides."""
    long, short = _scan(_at(97)), _scan(_at(103))
    assert (long.stop.tolist(), short.stop.tolist()) == ([95.06], [105.06])
    assert (long.target.tolist(), short.target.tolist()) == ([100.0], [100.0])
    assert long.strength.tolist() == [pytest.approx((98 - 97) / 98)]
    assert short.strength.tolist() == [pytest.approx((103 - 102) / 102)]
    assert long.rules == ("reversion", "reversion")
    assert long.exits == ExitRules(hold=30)


def test_nothing_traded_is_no_vwap() -> None:
    """Before a row's first share there is nothing to compare with; missing bars are passed over."""
    assert _found(SessionDraft().gap(0, 75).bar(75, 97, volume=0)) == []
    assert _found(_at(97, 77).gap(75, 77)) == [(77, 1)]
    assert _found(SessionDraft().gap(0, 390)) == []


def test_since_and_half_days() -> None:
    """Minutes before `since` are left out, and a session that ends before the phase has no signal and no error."""
    draft = _at(97)
    assert [len(MID.scan(draft.bars(), draft.day(), since)) for since in (0, 75, 76)] == [1, 1, 0]
    assert len(_scan(SessionDraft(minutes=70))) == 0
    assert _scan(SessionDraft(minutes=80).bar(79, 97, volume=0)).minute.tolist() == [79]


def test_the_offer_is_the_plugin() -> None:
    """The hook returns plugin `mid`, whose config is the finished strategy."""
    plugin = tbot_strategy()
    assert (plugin.name, plugin.config) == ("mid", Mid)
    built = plugin.create(MID, None)  # type: ignore[arg-type]  # a pure strategy does not look at its context
    assert built is MID
