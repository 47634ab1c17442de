"""The on_bar adapter: one state a row, existing bars only, the first answer of the entry phase."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import on_bar
from tbot_core.contracts.on_bar import EntrySignal, MinuteBar, OnBarStrategy, SymbolDay
from tbot_core.errors import PluginError
from tbot_core.model.signals import ExitRules, Trigger, first_hits
from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft, market
from tbot_core.testing.strategy import StrategyContract

if TYPE_CHECKING:
    from tbot_core.contracts import Strategy
    from tbot_core.contracts.on_bar import OnBarResult
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts

WINDOW = Window(start=5, analysis=15, breakout=60, monitoring=30)


@attrs.define
class Range:
    """The highest and the lowest price of the analysis bars until then."""

    high: float = -np.inf
    low: float = np.inf


def _breakout(state: Range, bar: MinuteBar) -> OnBarResult:
    # An opening-range breakout, bar by bar.
    if bar.minute < WINDOW.entry:
        state.high, state.low = max(state.high, bar.high), min(state.low, bar.low)
    elif np.isfinite(state.high) and bar.close > state.high:
        return EntrySignal(side=1, strength=(bar.close - state.high) / state.high, stop=state.low)
    elif np.isfinite(state.high) and bar.close < state.low:
        return EntrySignal(side=-1, strength=(state.low - bar.close) / state.low, target=state.low / 2)
    return None


BREAKOUT = OnBarStrategy(window=WINDOW, state=Range, on_bar=_breakout)


def _answering(answer: Any, **more: Any) -> OnBarStrategy[None]:
    # A strategy that always answers the same.
    return OnBarStrategy(window=WINDOW, state=lambda: None, on_bar=lambda _state, _bar: answer, **more)


class TestContract(StrategyContract):
    """A strategy made by the adapter keeps the contract of strategies."""

    @pytest.fixture
    def strategy(self) -> Strategy:
        """A breakout of the range of minutes 5 to 19."""
        return BREAKOUT

    def market(self) -> tuple[Bars, DayFacts]:
        """A smaller market: bar by bar takes its time."""
        return market(sessions=2, symbols=9)


def test_it_finds_what_the_arrays_find() -> None:
    """A function over bars and triggers over arrays give the same rows, minutes, sides and strengths."""
    bars, day = market(seed=4)
    high, low = bars.highest(5, 20)[..., None], bars.lowest(5, 20)[..., None]
    close = bars.close[..., 20:80]
    hits = first_hits(
        (
            Trigger(rule="up", side=1, value=close, level=high, above=True),
            Trigger(rule="down", side=-1, value=close, level=low, above=False),
        ),
        20,
    )
    found = BREAKOUT.scan(bars, day)
    assert len(found) > 10
    for name in ("cells", "minute", "side", "strength"):
        assert np.array_equal(getattr(found, name), getattr(hits, name)), name


def test_the_example_of_the_docs_runs() -> None:
    """The module's example gives what it shows."""
    results = doctest.testmod(on_bar)
    assert results.attempted > 5
    assert results.failed == 0


def test_a_bare_side_gets_stop_and_exits_of_the_adapter() -> None:
    """With 1 or -1 alone the stop is the percentage, there is no target, the position is left with the window."""
    draft = SessionDraft("AAA", "BBB")
    long = _answering(1).scan(draft.bars(), draft.day())
    short = _answering(-1, stop_loss_pct=0.1, exits=ExitRules(hold=3), rule="short").scan(draft.bars(), draft.day())
    assert (long.minute.tolist(), long.stop.tolist(), long.exits) == ([20, 20], [98.0, 98.0], ExitRules(leave=110))
    assert (short.side.tolist(), short.stop.tolist(), short.exits) == ([-1, -1], [110.0, 110.0], ExitRules(hold=3))
    assert np.isnan(long.target).all()
    assert (long.rules, short.rules) == (("on_bar",), ("short",))


def test_only_existing_bars_of_the_wanted_minutes_are_fed() -> None:
    """From the window's start, or the minute asked for, up to the answer; missing minutes are left out."""
    seen: list[int] = []

    def watch(_state: None, bar: MinuteBar) -> OnBarResult:
        seen.append(bar.minute)
        return 1 if bar.minute == 22 else None

    draft = SessionDraft().gap(6, 20)
    for feed_from, expected in ((None, [5, 20, 21, 22]), (0, [0, 1, 2, 3, 4, 5, 20, 21, 22]), (21, [21, 22])):
        seen.clear()
        watching = OnBarStrategy(window=WINDOW, state=lambda: None, on_bar=watch, feed_from=feed_from)
        assert watching.scan(draft.bars(), draft.day()).minute.tolist() == [22]
        assert seen == expected


def test_a_state_may_begin_with_the_facts_of_its_day() -> None:
    """Of its own symbol: numbers, and the days before; in a block those of its own session."""
    seen: list[SymbolDay] = []
    watching = OnBarStrategy(window=WINDOW, day_state=seen.append, on_bar=lambda _state, _bar: None, daily_bars=3)
    draft = SessionDraft("AAA", "BBB")
    daily = {"close": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "open": [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]]}
    watching.scan(draft.bars(), draft.day(previous_close=[3.0, 6.0], atr=0.5, vix=17.0, daily=daily))
    assert [(one.previous_close, one.atr, one.vix) for one in seen] == [(3.0, 0.5, 17.0), (6.0, 0.5, 17.0)]
    assert [one.daily.open.tolist() for one in seen if one.daily is not None] == daily["open"]
    assert [one.daily.close.tolist() for one in seen if one.daily is not None] == daily["close"]
    seen.clear()
    bars, facts = market(sessions=2, symbols=5)
    watching.scan(bars, facts)
    assert facts.daily is not None
    assert len(seen) == 10
    for (session, row), one in zip(np.ndindex(2, 5), seen, strict=True):
        assert one.vix == facts.vix[session, 0]
        assert one.daily is not None
        assert one.daily.close.tobytes() == facts.daily.close[session, row].tobytes()


def test_a_state_from_nothing_or_from_a_day_is_needed() -> None:
    """One of both, and its sentence names the rule."""
    none: dict[str, Any] = {}
    for states in (none, {"state": lambda: None, "day_state": lambda _day: None}):
        with pytest.raises(PluginError, match="Rule 'dip' has"):
            OnBarStrategy(window=WINDOW, on_bar=lambda _state, _bar: None, rule="dip", **states)


def test_a_bar_has_its_prices_and_volume() -> None:
    """The function sees the bar's own numbers under their names."""
    seen: list[MinuteBar] = []
    draft = SessionDraft().bar(20, 101, open=100.5, high=102, low=99, volume=7)
    watching = OnBarStrategy(window=WINDOW, state=lambda: seen, on_bar=lambda bars, bar: bars.append(bar))
    watching.scan(draft.bars(), draft.day())
    assert seen[15] == MinuteBar(minute=20, open=100.5, high=102, low=99, close=101, volume=7)


def test_since_leaves_earlier_answers_out() -> None:
    """A row that answered before `since` is silent."""
    draft = SessionDraft()
    assert [len(_answering(1).scan(draft.bars(), draft.day(), since)) for since in (0, 20, 21)] == [1, 1, 0]


@pytest.mark.parametrize("answer", [0, 2, True, 1.0, "long", EntrySignal(side=2)])  # type: ignore[arg-type]  # the point
def test_an_answer_that_is_no_side_is_refused(answer: Any) -> None:
    """Anything but 1, -1, an Entry with such a side and None names the rule and the answer."""
    draft = SessionDraft()
    with pytest.raises(PluginError, match=r"rule 'on_bar' returned") as caught:
        _answering(answer).scan(draft.bars(), draft.day())
    assert repr(answer) in caught.value.message


def test_no_answer_and_no_phase_give_no_signals() -> None:
    """None throughout, a session that ends before the entry phase, and one without rows give nothing."""
    draft = SessionDraft()
    assert len(_answering(None).scan(draft.bars(), draft.day())) == 0
    assert len(_answering(1).scan(draft.bars().until(20), draft.day())) == 0
