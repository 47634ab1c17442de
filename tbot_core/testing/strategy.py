"""The contract of strategies: a pytest class that a plugin's tests inherit, with one numbered test per rule.

A plugin's test supplies the strategy::

    class TestContract(StrategyContract):
        @pytest.fixture
        def strategy(self) -> Open:
            return Open(window=Window(start=0, analysis=20, breakout=60, monitoring=30), buffer=0.002)

Choose parameters that give signals in the kit's market: case s02 fails without signals. A strategy that needs other
bars overrides fixture `market`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tbot_core.contracts import Strategy, SupportsExplain, SupportsScreening
from tbot_core.model.signals import first_hits
from tbot_core.model.window import Window
from tbot_core.testing import causality, sessions
from tbot_core.testing.causality import check_causality, demand

if TYPE_CHECKING:
    from tbot_core.model.bars import Bars, DayFacts
    from tbot_core.testing.causality import Case

__all__ = ["StrategyContract", "check_causality"]


class StrategyContract:
    """The contract of strategies; a subclass has a fixture `strategy`."""

    @pytest.fixture
    def market(self) -> tuple[Bars, DayFacts]:
        """A block of sessions and its facts, on which the cases run."""
        return sessions.market()

    def test_s01_it_is_a_strategy(self, strategy: Strategy) -> None:
        """It has a window and a scan."""
        demand(isinstance(strategy, Strategy), "a strategy has a window and a scan")
        demand(isinstance(strategy.window, Window), f"its window is a Window, not {strategy.window!r}")

    def test_s02_it_finds_something(self, strategy: Strategy, market: tuple[Bars, DayFacts]) -> None:
        """The market gives at least three signals; otherwise the other cases prove nothing."""
        found = len(strategy.scan(*market))
        demand(found >= 3, f"it found {found} signals: choose parameters or a market that give at least 3")

    @pytest.mark.parametrize(
        "case",
        [pytest.param(case, id=f"s{number:02}_{case.__name__}") for number, case in enumerate(causality.CASES, 3)],
    )
    def test_scan(self, case: Case, strategy: Strategy, market: tuple[Bars, DayFacts]) -> None:
        """Cases s03 to s13, described in `tbot_core.testing.causality`."""
        faults = list(case(strategy, *market))
        demand(not faults, "\n".join(faults))

    def test_s14_triggers_explain_the_signals(self, strategy: Strategy, market: tuple[Bars, DayFacts]) -> None:
        """If a strategy explains itself, its signals are the first firings of its triggers."""
        if not isinstance(strategy, SupportsExplain):
            pytest.skip("the strategy does not explain itself")
        signals = strategy.scan(*market)
        hits = first_hits(strategy.triggers(*market), strategy.window.entry)
        demand(hits.rules == signals.rules, f"the triggers have the rules {hits.rules}, the signals {signals.rules}")
        for name in ("cells", "minute", "side", "rule", "strength"):
            same = np.array_equal(getattr(hits, name), getattr(signals, name))
            demand(same, f"{name} of the signals differs from that of the first triggers")

    def test_s15_screens_have_a_value_a_row(self, strategy: Strategy, market: tuple[Bars, DayFacts]) -> None:
        """If a strategy screens the day, each comparison has one value per row, in a block and alone."""
        if not isinstance(strategy, SupportsScreening):
            pytest.skip("the strategy does not screen")
        _, day = market
        for facts in (day, day.session(0)):
            for check in strategy.screen(facts):
                shape = facts.previous_close.shape
                demand(check.value.shape == shape, f"{check.name} has shape {check.value.shape}, rows are {shape}")
