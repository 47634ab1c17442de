"""Look-ahead: which answers later bars change, and what is said about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import numpy as np

from tbot_core.contracts import Check
from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.day_facts import MarketView
from tbot_core.model.reasons import Reason
from tbot_core.testing import sessions
from tbot_core.testing.filter import pick
from tbot_core.trading.lookahead import (
    changed_bars,
    cut_bars,
    differing_rows,
    judgement_differences,
    signal_differences,
    signal_rows,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.model.bars import Array
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.signals import Signals
    from tbot_core.trading.lookahead import SignalRows

BARS, DAY = sessions.market(sessions=2, symbols=6)
SIGNALS = pick(BARS)


@attrs.frozen
class Judge:
    """A filter with one comparison per number, named after it; more of them while it sees whole sessions."""

    upper: float | None = None
    second: bool = False

    def screen(self, _day: DayFacts, _symbols: tuple[str, ...], _frame: StrategySettings) -> Sequence[Check]:
        """Nothing."""
        return ()

    def judge(self, signals: Signals, market: MarketView, _frame: StrategySettings) -> Sequence[Check]:
        """The close of the signal, against a bound."""
        whole = market.bars.minutes == BARS.minutes
        bound: Array | float | None = self.upper if whole or self.upper is None else self.upper + 1
        low, high = Reason.PRICE_LOW, Reason.PRICE_HIGH
        check = Check(name="close", value=signals.price, high=bound, below=low, above=high, unknown=low)
        return (check, attrs.evolve(check, name="again")) if self.second and whole else (check,)


def differences(judge: Judge) -> list[str]:
    """What is said of the filter's answers on later bars that are absent, or 1."""
    market, ones = MarketView(bars=BARS, day=DAY), np.ones(BARS.field("close").shape)
    return [one.found for one in judgement_differences(judge, SIGNALS, market, StrategySettings(), ones)]


def test_changed_bars_leave_what_is_known() -> None:
    """The bars before a cut are the same; all others are replaced, whatever came before."""
    seen = [(known, other.field("close").copy()) for known, other in changed_bars(BARS, (3, 7, 390), np.nan)]
    assert [known for known, _ in seen] == [390, 7, 3]
    for known, closes in seen:
        assert np.array_equal(closes[:known], BARS.field("close")[:known], equal_nan=True)
        assert np.isnan(closes[known:]).all()
    assert [(known, part.minutes) for known, part in cut_bars(BARS, (3, 7))] == [(3, 3), (7, 7)]


def test_signals_in_another_order_are_the_same() -> None:
    """The engine sorts signals, so their order does not matter; a changed bit of a price does."""
    turned = SIGNALS.take(np.arange(len(SIGNALS))[::-1])
    assert not list(signal_differences(SIGNALS, turned, BARS.minutes))
    other = attrs.evolve(turned, price=np.nextafter(turned.price, np.inf))
    found = list(signal_differences(SIGNALS, other, BARS.minutes))
    assert len(found) == len(SIGNALS)
    first = found[0]
    assert (first.cell, first.known) == (min(signal_rows(SIGNALS)), BARS.minutes)
    assert f"minute {first.minute}, side" in first.found
    seen, expected = first.found.split(" instead of ")
    assert seen != expected
    assert " instead of minute" in first.found


def test_a_signal_that_is_missing_or_new_is_named() -> None:
    """Either way round."""
    rows: SignalRows = {(0,): (5, 1, *(float(price).hex() for price in (20.5, 0.25, 20.0, np.nan)), 0)}
    words = "minute 5, side 1, price 20.5, strength 0.25, stop 20, rule 0"
    assert [one.found for one in differing_rows(rows, {})] == [f"no signal instead of {words}"]
    assert [one.found for one in differing_rows({}, rows)] == [f"{words} instead of no signal"]


def test_numbers_of_a_finding_are_short() -> None:
    """Seven digits are enough to tell most signals apart; where they are not, all are shown."""
    rows: SignalRows = {
        (0,): (
            5,
            1,
            *(float(price).hex() for price in (174.64919999999998, 7.375242835312441e-05)),
            *[float("nan").hex()] * 2,
            0,
        )
    }
    (one,) = differing_rows(rows, {})
    assert one.found == "no signal instead of minute 5, side 1, price 174.6492, strength 7.375243e-05, rule 0"


def test_judgements_are_compared_part_by_part() -> None:
    """The same comparisons are no difference; a bound that changes is one, and so is a comparison that is gone."""
    assert differences(Judge()) == []
    assert differences(Judge(upper=9.0)) == ["high 10.0 of close instead of 9.0"] * len(SIGNALS)
    gone = "the comparisons are ['close'] instead of ['close', 'again']"
    assert set(differences(Judge(second=True))) == {gone}
