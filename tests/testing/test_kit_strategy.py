"""The kit for strategies finds what it is for: each deliberately broken strategy fails its case, an honest one none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals, Trigger, first_hits
from tbot_core.model.window import Window
from tbot_core.testing import causality, sessions
from tbot_core.testing import strategy as kit
from tbot_core.testing.strategy import StrategyUnderTest, check_causality

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.contracts import Strategy
    from tbot_core.model.bars import Array, Bars
    from tbot_core.model.day_facts import DayFacts

WINDOW = Window(start=0, analysis=20, breakout=40, monitoring=30)
MARKET = sessions.market()


@attrs.frozen(kw_only=True)
class Breakout:
    """An honest breakout above the analysis bars' high; the broken ones below override a part of it."""

    window: Window = WINDOW

    def level(self, bars: Bars) -> Array:
        """What a close must exceed; (..., symbols, 1) or (..., symbols, minutes of the phase)."""
        return bars.highest(self.window.start, self.window.entry)[..., None]

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002
        """The one rule."""
        close = bars.close[..., self.window.entry : self.window.entry_end]
        return (Trigger(rule="breakout", side=1, value=close, level=self.level(bars), above=True),)

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The first breakout of each row."""
        hits = first_hits(self.triggers(bars, day), self.window.entry)
        price = hits.at(bars.close)
        return hits.signals(price, ExitRules(hold=30), stop=hits.stop_at(price, 0.02), since=since)


class PeeksAtTheEnd(Breakout):
    """Compares with the last close that it can see."""

    def level(self, bars: Bars) -> Array:
        """`[..., -1]`."""
        return bars.close[..., -1:]


class NormalisesByTheDay(Breakout):
    """Compares with a share of the whole day's high."""

    def level(self, bars: Bars) -> Array:
        """A maximum over every minute."""
        return np.asarray(np.fmax.reduce(bars.close, axis=-1, keepdims=True, initial=np.nan) * 0.99)


class WindowTooLong(Breakout):
    """Takes five minutes of the entry phase into the range."""

    def level(self, bars: Bars) -> Array:
        """The middle of a range of five minutes too many."""
        stop = self.window.entry + 5
        return (bars.highest(self.window.start, stop) + bars.lowest(self.window.start, stop))[..., None] / 2


class LooksAtTheLength(Breakout):
    """Peeks only where it sees a whole session."""

    def level(self, bars: Bars) -> Array:
        """Honest on a prefix."""
        return bars.close[..., -1:] if bars.minutes == 390 else super().level(bars)


class MixesRows(Breakout):
    """Compares with the mean of all symbols."""

    def level(self, bars: Bars) -> Array:
        """A cross-section."""
        return np.broadcast_to(np.fmin.reduce(super().level(bars), axis=-2, keepdims=True), super().level(bars).shape)


class LooksAtThePosition(Breakout):
    """Treats rows by their number."""

    def level(self, bars: Bars) -> Array:
        """Every second row has another level."""
        return super().level(bars) * (1 + 0.001 * (np.arange(len(bars.symbols)) % 2))[:, None]


class MixesSessions(Breakout):
    """Compares with the highest of all sessions of a block."""

    def level(self, bars: Bars) -> Array:
        """A reduction over the leading axis, where there is one."""
        level = super().level(bars)
        return np.broadcast_to(np.fmax.reduce(level, axis=0), level.shape) if level.ndim == 3 else level


class SumsInMemoryOrder(Breakout):
    """Compares with a mean, whose last bits hang on the layout."""

    def level(self, bars: Bars) -> Array:
        """`mean` over minutes."""
        known = np.nan_to_num(bars.close[..., : self.window.entry])
        return np.asarray(known.sum(axis=-1, keepdims=True) / max(1, self.window.entry))


class RemembersUnderAShortName(Breakout):
    """Remembers the range under a name that does not hold its window."""

    def level(self, bars: Bars) -> Array:
        """The key lacks the minutes."""
        return bars.cached("high", self.window.entry, lambda: Breakout.level(self, bars))


class RemembersWhatIsOpen(Breakout):
    """Remembers a feature of minutes that have not closed."""

    def level(self, bars: Bars) -> Array:
        """`stop` is too small."""
        return bars.cached(
            "so far", 0, lambda: np.fmax.reduce(bars.high[..., :20], axis=-1, keepdims=True, initial=0.0)
        )


class ForgetsSince(Breakout):
    """Returns every signal, whatever it was asked for."""

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:  # noqa: ARG002
        """All of them."""
        return super().scan(bars, day)


class BeginsAnewAtSince(Breakout):
    """Looks for the first trigger from `since` on, also in rows that fired before."""

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:  # noqa: ARG002
        """A used-up row fires again."""
        start = min(max(since, self.window.entry), self.window.entry_end)
        close = bars.close[..., start : self.window.entry_end]
        hits = first_hits((Trigger(rule="x", side=1, value=close, level=self.level(bars), above=True),), start)
        price = hits.at(bars.close)
        return hits.signals(price, ExitRules(hold=30), stop=hits.stop_at(price, 0.02))


class StartsEarly(Breakout):
    """Triggers in the analysis phase."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:  # noqa: ARG002
        """The phase begins five minutes early."""
        close = bars.close[..., self.window.entry - 5 : self.window.entry_end]
        return (Trigger(rule="breakout", side=1, value=close, level=bars.highest(0, 10)[..., None], above=True),)

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """Counts minutes accordingly."""
        hits = first_hits(self.triggers(bars, day), self.window.entry - 5)
        price = hits.at(bars.close)
        return hits.signals(price, ExitRules(hold=30), stop=hits.stop_at(price, 0.02), since=since)


class TakesTheUnknown(Breakout):
    """Writes a comparison negatively, so that an unknown price fires."""

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """`not close <= level`."""
        (honest,) = super().triggers(bars, day)
        negative = (~(honest.value <= honest.level)).astype(np.float64)
        return (attrs.evolve(honest, value=negative, level=np.array(0.5)),)


class ChangesTheBars(Breakout):
    """Writes into the arrays that it was given."""

    def level(self, bars: Bars) -> Array:
        """Through the one door that is not read-only."""
        bars.field("volume")[:] = 0.0
        return super().level(bars)


class Counts:
    """Keeps state between scans, and is no attrs class."""

    window = WINDOW

    def __init__(self) -> None:
        self.scans = 0

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """Every scan is a little stronger than the last one."""
        self.scans += 1
        signals = Breakout().scan(bars, day, since)
        return attrs.evolve(signals, strength=signals.strength + self.scans)


class NeedsAWholeDay(Breakout):
    """Reads a minute that a half day does not have."""

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """Minute 300, where bars are at all."""
        return super().scan(bars, day, since if bars.minutes < 200 or bars.close[..., 300].size else 0)


class Divides(Breakout):
    """Divides by what may be nothing."""

    def level(self, bars: Bars) -> Array:
        """0 / 0 where nothing has traded."""
        level = super().level(bars)
        return level * (np.nan_to_num(level) / np.nan_to_num(level))


@attrs.frozen(kw_only=True)
class Edited:
    """An honest strategy whose signals are changed before they are returned."""

    columns: dict[str, Any]
    window: Window = WINDOW

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The honest signals with other columns."""
        signals = Breakout().scan(bars, day, since)
        return attrs.evolve(signals, **{name: edit(signals) for name, edit in self.columns.items()})


def _twice(signals: Signals) -> Any:
    return np.repeat(np.arange(len(signals)), 2)


BROKEN: list[tuple[Strategy, causality.Case]] = [
    (PeeksAtTheEnd(), causality.cut),
    (PeeksAtTheEnd(), causality.future),
    (NormalisesByTheDay(), causality.cut),
    (NormalisesByTheDay(), causality.future),
    (WindowTooLong(), causality.cut),
    (WindowTooLong(), causality.future),
    (LooksAtTheLength(), causality.cut),
    (LooksAtTheLength(), causality.future),
    (MixesRows(), causality.rows),
    (LooksAtThePosition(), causality.rows),
    (MixesSessions(), causality.sessions),
    (SumsInMemoryOrder(), causality.layouts),
    (RemembersUnderAShortName(), causality.purity),
    (RemembersWhatIsOpen(), causality.tape),
    (ForgetsSince(), causality.since),
    (BeginsAnewAtSince(), causality.since),
    (StartsEarly(), causality.well_formed),
    (TakesTheUnknown(), causality.silence),
    (TakesTheUnknown(), causality.well_formed),
    (TakesTheUnknown(), causality.half_day),
    (ChangesTheBars(), causality.purity),
    (Counts(), causality.purity),
]


@pytest.mark.parametrize(
    ("broken", "case"),
    [pytest.param(broken, case, id=f"{type(broken).__name__}-{case.__name__}") for broken, case in BROKEN],
)
def test_a_broken_strategy_fails_its_case(broken: Strategy, case: causality.Case) -> None:
    """The case that looks for this fault finds it, in a sentence."""
    faults = list(case(broken, *sessions.market()))
    assert faults
    assert all(len(fault) > 20 for fault in faults)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"strength": lambda signals: signals.strength * np.nan}, "strength is not finite"),
        ({"price": lambda signals: signals.price + 0.01}, "price is not the close"),
        ({"side": lambda signals: signals.side * 0}, "side is neither"),
        ({"stop": lambda signals: signals.price + 1}, "stop is unknown or not on the losing side"),
        ({"stop": lambda signals: signals.price * np.nan}, "stop is unknown"),
        ({"target": lambda signals: signals.price - 1}, "target is not on the winning side"),
        ({"rule": lambda signals: signals.rule + 5}, "rule has no name"),
        ({"target": lambda signals: signals.target[:-1]}, "different lengths"),
        ({"minute": lambda signals: signals.minute + 40}, "outside of the entry phase"),
    ],
)
def test_a_malformed_signal_is_named(columns: dict[str, Any], words: str) -> None:
    """Each impossible column is reported with its reason."""
    faults = list(causality.well_formed(Edited(columns=columns), *MARKET))
    assert len(faults) == 1
    assert words in faults[0]


def test_two_signals_of_a_row_are_too_many() -> None:
    """A row that fires twice is reported."""

    class Twice(Breakout):
        """Returns every signal twice."""

        def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
            """Each row repeated."""
            signals = super().scan(bars, day, since)
            return signals.take(_twice(signals))

    assert list(causality.well_formed(Twice(), *MARKET)) == ["a row has more than one signal"]


def test_an_honest_strategy_passes() -> None:
    """No case finds anything in it, in a block and in one session."""
    bars, day = MARKET
    assert len(Breakout().scan(bars, day)) > 5
    check_causality(Breakout(), bars, day)
    check_causality(Breakout(), bars.session(0), day.session(0))


def test_the_check_reports_every_kind_of_fault_at_once() -> None:
    """A strategy that peeks fails with a line for each case, and each line says whose signal changed."""
    with pytest.raises(AssertionError) as caught:
        check_causality(PeeksAtTheEnd(), *MARKET)
    lines = str(caught.value).splitlines()
    assert len(lines) >= 3
    assert any("session 0, S00" in line and "instead of" in line for line in lines)


@pytest.mark.parametrize(("broken", "error"), [(NeedsAWholeDay(), IndexError), (Divides(), RuntimeWarning)])
def test_errors_of_an_author_reach_the_author(broken: Strategy, error: type[Exception]) -> None:
    """A half day that breaks a strategy, and a warning, are raised with the author's own lines."""
    with pytest.raises(error), np.errstate(all="warn"):
        check_causality(broken, *MARKET)


def test_the_class_itself_fails_where_nothing_is_found() -> None:
    """A strategy that finds nothing, or is none, proves nothing."""
    silent = Breakout(window=Window(start=0, analysis=390, breakout=1, monitoring=1))
    with pytest.raises(AssertionError, match="with these settings it finds 0 signals in this market"):
        kit.s02_it_finds_something(StrategyUnderTest(silent, *MARKET))
    with pytest.raises(AssertionError, match="a window and a scan"):
        kit.s01_it_is_a_strategy(StrategyUnderTest(cast("Strategy", object()), *MARKET))
    with pytest.raises(AssertionError, match="its window is a Window, not 5"):
        kit.s01_it_is_a_strategy(StrategyUnderTest(Breakout(window=cast("Window", 5)), *MARKET))


def test_triggers_must_be_those_of_the_scan() -> None:
    """A strategy that explains other rules than it acts on is found; one that does not explain is left alone."""

    class Explains(Breakout):
        """Says another level than it uses."""

        def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
            """A rule that never acted."""
            return tuple(attrs.evolve(one, level=one.level * 1.01) for one in super().triggers(bars, day))

        def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
            """The honest scan."""
            return Breakout().scan(bars, day, since)

    kit.s14_triggers_explain_the_signals(StrategyUnderTest(Breakout(), *MARKET))
    with pytest.raises(AssertionError, match="differs from that of the first triggers"):
        kit.s14_triggers_explain_the_signals(StrategyUnderTest(Explains(), *MARKET))
    with pytest.raises(pytest.skip.Exception):
        kit.s14_triggers_explain_the_signals(StrategyUnderTest(Counts(), *MARKET))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"base": "x"}, "is 'x': prices, or one of the columns high, low, vwap, volume, are expected"),
        ({"base_name": "x" * 1000}, "The base of its triggers has no name of at most 500 characters"),
        ({"level": np.zeros(7)}, "A value of its triggers has shape"),
    ],
)
def test_triggers_must_be_such_as_a_run_takes(wrong: dict[str, Any], words: str) -> None:
    """What ends a replay and a backtest is found by the kit, and the sentence names the field."""

    class Wrong(Breakout):
        """Explains itself in a way that no run takes."""

        def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
            """Rules that fire as they should, with one wrong field."""
            return tuple(attrs.evolve(one, **wrong) for one in super().triggers(bars, day))

        def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
            """The honest scan."""
            return Breakout().scan(bars, day, since)

    with pytest.raises(AssertionError, match=re.escape(words)):
        kit.s14_triggers_explain_the_signals(StrategyUnderTest(Wrong(), *MARKET))


def test_a_screen_has_a_value_a_row() -> None:
    """A strategy whose screen compares one number for all rows is found."""

    class Screens(Breakout):
        """Screens by the VIX as it lies in the day."""

        def screen(self, day: DayFacts) -> Sequence[Check]:
            """One value a session."""
            reason = Reason.VIX_LOW
            return (Check(name="vix", value=day.vix, low=1.0, below=reason, above=reason, unknown=reason),)

    with pytest.raises(AssertionError, match="vix has shape"):
        kit.s15_screens_have_a_value_a_row(StrategyUnderTest(Screens(), *MARKET))
