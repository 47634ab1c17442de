"""The contract of strategies: numbered cases, and a pytest class that a plugin's tests inherit.

A plugin's test supplies the strategy::

    class TestContract(StrategyContract):
        @pytest.fixture
        def strategy(self) -> Open:
            return Open(window=Window(start=0, analysis=20, breakout=60, monitoring=30), buffer=0.002)

Choose parameters that give signals in the kit's market: case s02 fails without signals. A strategy that needs other
bars overrides the method `market`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Final

import attrs
import numpy as np

from tbot_core.contracts import RequiresDailyBars, Strategy, SupportsExplain, SupportsScreening
from tbot_core.errors import PluginError
from tbot_core.model.bars import Bars
from tbot_core.model.day_facts import DailyBars, DayFacts
from tbot_core.model.formatting import plural
from tbot_core.model.signals import first_hits
from tbot_core.model.window import Window
from tbot_core.plugins.guarded import checked_triggers
from tbot_core.testing import causality, sessions
from tbot_core.testing.causality import check_causality
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand

if TYPE_CHECKING:
    from tbot_core.testing.causality import Case

__all__ = ["CASES", "StrategyContract", "StrategyUnderTest", "check_causality"]


@attrs.frozen
class StrategyUnderTest:
    """A strategy, and a block of sessions with its facts on which the cases run."""

    strategy: Strategy
    bars: Bars
    day: DayFacts

    @classmethod
    def of(cls, strategy: Strategy, market: tuple[Bars, DayFacts]) -> StrategyUnderTest:
        """A strategy in a market, whose facts have as many daily bars as it declares."""
        bars, day = market
        days = strategy.daily_bars if isinstance(strategy, RequiresDailyBars) else 0
        return cls(strategy, bars, day.with_daily_bars(days))


def s01_it_is_a_strategy(subject: StrategyUnderTest) -> None:
    """It has a window and a scan."""
    demand(isinstance(subject.strategy, Strategy), "a strategy has a window and a scan")
    window = subject.strategy.window
    demand(isinstance(window, Window), f"its window is a Window, not {window!r}")


def s02_it_finds_something(subject: StrategyUnderTest) -> None:
    """The market gives at least three signals; otherwise the other cases prove nothing."""
    found = len(subject.strategy.scan(subject.bars, subject.day))
    words = (
        f"with these settings it finds {plural(found, 'signal')} in this market, and the other cases need at least 3"
    )
    demand(found >= 3, f"{words}: run StrategyContract in a test of yours, with other settings or a market of its own")


def s14_triggers_explain_the_signals(subject: StrategyUnderTest) -> None:
    """If a strategy explains itself, its triggers are such as a run takes, and its signals their first firings."""
    strategy, window = subject.strategy, subject.strategy.window
    if not isinstance(strategy, SupportsExplain):
        raise NotClaimed("the strategy does not explain itself")
    signals = strategy.scan(subject.bars, subject.day)
    triggers = strategy.triggers(subject.bars, subject.day)
    try:
        checked_triggers(triggers, subject.bars.close[..., window.entry : window.entry_end].shape)
    except PluginError as fault:
        raise AssertionError(fault.message) from fault
    hits = first_hits(triggers, window.entry)
    demand(hits.rules == signals.rules, f"the triggers have the rules {hits.rules}, the signals {signals.rules}")
    for name in ("cells", "minute", "side", "rule", "strength"):
        same = np.array_equal(getattr(hits, name), getattr(signals, name))
        demand(same, f"{name} of the signals differs from that of the first triggers")


def s15_screens_have_a_value_a_row(subject: StrategyUnderTest) -> None:
    """If a strategy screens the day, each comparison has one value per row, in a block and alone."""
    strategy, day = subject.strategy, subject.day
    if not isinstance(strategy, SupportsScreening):
        raise NotClaimed("the strategy does not screen")
    for facts in (day, day.session(0)):
        for check in strategy.screen(facts):
            shape = facts.previous_close.shape
            demand(check.value.shape == shape, f"{check.name} has shape {check.value.shape}, rows are {shape}")


def s16_days_without_bars_give_no_error(subject: StrategyUnderTest) -> None:
    """If a strategy reads daily bars, it raises nothing where they are unknown, and in a block as for one session."""
    strategy, bars, day = subject.strategy, subject.bars, subject.day
    if day.daily is None:
        raise NotClaimed("the strategy declares no daily bars")
    unknown = attrs.evolve(day, daily=DailyBars.unknown(day.daily.close.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy.scan(bars, unknown)
        strategy.scan(bars.session(0), unknown.session(0))


def _causal(number: int, case: Case) -> ContractCase:
    # A case of `tbot_core.testing.causality` with its number.
    def run(subject: StrategyUnderTest) -> None:
        faults = list(case(subject.strategy, subject.bars, subject.day))
        demand(not faults, "\n".join(faults))

    run.__name__, run.__doc__ = f"s{number:02}_{case.__name__}", case.__doc__
    return run


CASES: Final[tuple[ContractCase, ...]] = (
    s01_it_is_a_strategy,
    s02_it_finds_something,
    *(_causal(number, case) for number, case in enumerate(causality.CASES, 3)),
    s14_triggers_explain_the_signals,
    s15_screens_have_a_value_a_row,
    s16_days_without_bars_give_no_error,
)
"""The contract, in order of the numbers."""


class StrategyContract(ContractTests):
    """The contract of strategies as tests; a subclass, or its module, has a fixture `strategy`."""

    cases = CASES

    def market(self) -> tuple[Bars, DayFacts]:
        """A block of sessions and its facts, on which the cases run."""
        return sessions.market()

    def test_contract(self, case: ContractCase, strategy: Strategy) -> None:
        """Run one case."""
        case(StrategyUnderTest.of(strategy, self.market()))
