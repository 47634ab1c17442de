"""Near misses and the comparisons of one minute."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np

from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger, first_hits
from tbot_core.model.window import Window
from tbot_core.testing.sessions import SessionDraft
from tbot_core.trading.near_misses import find_near_misses, trigger_comparisons
from tbot_core.trading.proposals import ActiveStrategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts

WINDOW = Window(start=0, analysis=20, breakout=10, monitoring=30)
FRAME = StrategySettings(start_time=dt.time(14, 30), analysis_minutes=20, breakout_minutes=10, monitoring_minutes=30)


@attrs.frozen(kw_only=True)
class Mute:
    """A strategy that does not explain itself."""

    window: Window = WINDOW

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:  # noqa: ARG002 - the protocol's names
        """Nothing."""
        empty = np.empty(0)
        none = empty.astype(np.intp)
        return Signals(
            cells=(none,), minute=none, side=none, price=empty, strength=empty, stop=empty, target=empty, rule=none,
            rules=(), exits=ExitRules(),
        )  # fmt: skip


@attrs.frozen(kw_only=True)
class Above(Mute):
    """Long above 110 with volume, short below 90."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - the protocol's names
        """Two rules on the closes of the entry phase."""
        close = bars.close[..., self.window.entry : self.window.entry_end]
        volume = bars.volume[..., self.window.entry : self.window.entry_end]
        upper, lower = (np.full((*close.shape[:-1], 1), level) for level in (110.0, 90.0))
        busy = Condition(name="volume", value=volume, level=np.full_like(volume, 500.0), above=True)
        return (
            Trigger(rule="up", side=1, value=close, level=upper, above=True, when=(busy,)),
            Trigger(rule="down", side=-1, value=close, level=lower, above=False),
        )


@attrs.frozen(kw_only=True)
class TwoConditions(Mute):
    """Long above 110 with volume and above the opening price."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - the protocol's names
        """One rule with a condition by minute and one by symbol."""
        phase = slice(self.window.entry, self.window.entry_end)
        close, volume = bars.close[..., phase], bars.volume[..., phase]
        first = bars.open[..., :1]
        busy = Condition(name="volume", value=volume, level=np.full_like(volume, 500.0), above=True)
        cheap = Condition(name="opening price", value=first, level=np.full_like(first, 105.0), above=False)
        level = np.full((*close.shape[:-1], 1), 110.0)
        return (Trigger(rule="up", side=1, value=close, level=level, above=True, when=(busy, cheap)),)


@attrs.frozen(kw_only=True)
class Empty(Mute):
    """A strategy without triggers, which is asked only in a window that exists."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002 - the protocol's names
        """None."""
        assert self.window.start >= 0
        return ()


def entrant(strategy: Any = None) -> ActiveStrategy:
    """A strategy's part in a run."""
    return ActiveStrategy(name="above", rank=0, strategy=strategy or Above(), frame=FRAME)


def found(draft: SessionDraft, strategy: Any = None, **without: bool) -> list[tuple[str, str, int, int, float]]:
    """Symbol, rule, side, minute and distance of each near miss."""
    bars = draft.bars()
    candidates = np.array([not without.get(symbol) for symbol in bars.symbols])
    misses = find_near_misses(entrant(strategy), bars, draft.day(), candidates)
    return [(one.symbol, one.rule, one.side, one.minute, round(one.distance, 6)) for one in misses]


def test_the_three_closest_are_named_closest_first() -> None:
    """Which rule came how close, and when; a tie goes to the first symbol."""
    draft = SessionDraft(*"ABCDE").bar(22, 109.0).bar(25, 91.0, "B").bar(29, 108.9, "C").bar(24, 109.0, "D")
    draft.bar(19, 109.9, "E").bar(30, 109.9, "E")  # outside the entry phase
    assert found(draft) == [
        ("A", "up", 1, 22, round(1 / 110, 6)),
        ("D", "up", 1, 24, round(1 / 110, 6)),
        ("C", "up", 1, 29, round(1.1 / 110, 6)),
    ]


def test_those_that_triggered_or_were_no_candidates_are_no_near_misses() -> None:
    """A symbol that fired, one screened out, one without bars and one that only lacked a condition."""
    draft = SessionDraft(*"ABCDE").bar(22, 111.0).bar(22, 109.0, "B").gap(0, 390, "C")
    for minute in range(20, 30):
        draft.bar(minute, 120.0, "D", volume=100.0)
    assert [symbol for symbol, *_ in found(draft, B=True)] == ["E", "D"]
    assert [rule for symbol, rule, *_ in found(draft, B=True) if symbol == "D"] == ["down"]


def test_a_minute_counts_only_where_the_other_conditions_held() -> None:
    """The closest minute without volume is passed over, and a symbol that opened too high is no near miss at all."""
    draft = SessionDraft("A", "B").bar(22, 109.9, volume=100.0).bar(24, 109.0).bar(0, 108.0, "B").bar(24, 109.9, "B")
    assert found(draft, TwoConditions()) == [("A", "up", 1, 24, round(1 / 110, 6))]


def test_no_phase_and_no_explanation_give_none() -> None:
    """Before the entry phase has begun, or from a strategy that does not explain or has no trigger."""
    assert found(SessionDraft("A", minutes=20)) == []
    assert found(SessionDraft("A"), Mute()) == []
    assert found(SessionDraft("A"), Empty()) == []
    assert len(Mute().scan(SessionDraft("A").bars(), SessionDraft("A").day())) == 0


def test_one_minute_is_explained() -> None:
    """Value against level of each rule in the last minute, and whether it fired."""
    draft = SessionDraft("A", "B").bar(24, 111.0, "B", volume=100.0).bar(25, 111.0, "B")
    for minutes, fires in ((25, False), (26, True)):
        up, down = trigger_comparisons(entrant(), draft.bars().until(minutes), draft.day(), 1)
        assert (up.rule, up.side, up.value, up.level, up.above, up.fires) == ("up", 1, 111.0, 110.0, True, fires)
        assert (down.rule, down.side, down.above, down.fires) == ("down", -1, False, False)


def test_nothing_is_compared_outside_the_entry_phase() -> None:
    """Neither before nor after it, nor by a strategy that does not explain."""
    draft = SessionDraft("A")
    assert [
        bool(trigger_comparisons(entrant(), draft.bars().until(at), draft.day(), 0)) for at in (20, 21, 30, 31)
    ] == [
        False,
        True,
        True,
        False,
    ]
    assert trigger_comparisons(entrant(Mute()), draft.bars().until(25), draft.day(), 0) == []


def test_a_window_before_the_bell_is_not_compared() -> None:
    """It is skipped: its symbols are no candidates, and the strategy is not asked for minutes that do not exist."""
    early = Empty(window=Window(start=-60, analysis=20, breakout=90, monitoring=30))
    draft = SessionDraft("A")
    assert found(draft, early, A=True) == []
    assert trigger_comparisons(entrant(early), draft.bars().until(25), draft.day(), 0) == []


def test_what_a_near_miss_measures_is_what_a_signal_needs() -> None:
    """The same triggers fire: a near miss at distance 0 would be no hit, one tick more is."""
    draft = SessionDraft("A").bar(22, 110.0)
    assert found(draft) == [("A", "up", 1, 22, 0.0)]
    draft.bar(22, 110.0001)
    assert found(draft) == []
    assert len(first_hits(Above().triggers(draft.bars(), draft.day()), 20).minute) == 1
