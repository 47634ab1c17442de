"""The kit for filters finds what it is for: each deliberately broken filter fails its case, an honest one none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check, OptionRequest, OptionValuation, OptionVerdict
from tbot_core.contracts.settings import StrategySettings
from tbot_core.model.bars import Bars
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import Reason
from tbot_core.testing import sessions
from tbot_core.testing.contract import NotClaimed
from tbot_core.testing.filter import CASES, FilterUnderTest, f01_it_is_a_filter, pick

if TYPE_CHECKING:
    from tbot_core.model.bars import Array
    from tbot_core.model.signals import Signals

Screen: TypeAlias = Callable[[DayFacts, tuple[str, ...]], Sequence[Check]]
Judge: TypeAlias = "Callable[[Signals, MarketView], Sequence[Check]]"

JUDGED = (Reason.PRICE_LOW, Reason.PRICE_HIGH, Reason.FILTER_UNKNOWN)
SCREENED = (Reason.VOLUME_LOW, Reason.VOLUME_LOW, Reason.VOLUME_UNKNOWN)


def _check(value: Array, codes: tuple[Reason, Reason, Reason], *, name: str = "it", low: Any = 1.0) -> Check:
    return Check(name=name, value=value, low=low, below=codes[0], above=codes[1], unknown=codes[2])


def _honest_screen(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    return [_check(day.average_volume, SCREENED, low=np.full(day.average_volume.shape, 7.0))]


def _honest_judge(signals: Signals, market: MarketView) -> Sequence[Check]:
    return [_check(signals.price / market.bars.first_open[signals.cells], JUDGED)]


@attrs.frozen(kw_only=True)
class Subject:
    """A filter made of two functions."""

    screens: Screen = _honest_screen
    judges: Judge = _honest_judge

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """Before the bell."""
        return self.screens(day, symbols)

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """At the signal."""
        return self.judges(signals, market)


def _sound(request: OptionRequest) -> bool:
    quote = request.quote
    bid, ask = (quote.bid or math.nan, quote.ask or math.nan) if quote else (math.nan, math.nan)
    numbers = (bid, ask, request.spot or math.nan, request.volatility or math.nan)
    fresh = quote is not None and quote.age_s <= 10
    return all(map(math.isfinite, numbers)) and 0 < bid <= ask and fresh and request.at.date() < request.contract.expiry


def _failures(subject: Any) -> set[str]:
    # The numbers of the cases that fail.
    failed = set()
    for case in CASES:
        try:
            case(FilterUnderTest(subject, StrategySettings(), sessions.market(sessions=2, symbols=9)))
        except AssertionError:
            failed.add(case.__name__[:3])
        except NotClaimed:
            assert case.__name__[:3] in {"f02", "f11", "f12", "f13"}
    return failed


def _by_turns() -> Callable[[OptionRequest], bool]:
    # Another answer each second time.
    turns = itertools.count()
    return lambda request: _sound(request) and next(turns) % 2 == 0


@attrs.frozen(kw_only=True)
class Model:
    """A filter that compares nothing, and an options model that holds the contract but for what is given."""

    sees: Callable[[OptionRequest], bool] = _sound
    reason: str = "it says so"
    screens_too: bool = False

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """Before the bell."""
        return _honest_screen(day, symbols) if self.screens_too else ()

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:  # noqa: ARG002
        """At the signal."""
        return ()

    def value_option(self, request: OptionRequest) -> OptionValuation:
        """A deviation of 0 for what it accepts."""
        known = self.sees(request)
        verdict = OptionVerdict.ACCEPTED if known else OptionVerdict.UNKNOWN
        return OptionValuation(verdict=verdict, reason=self.reason, limit=0.1, deviation=0.0 if known else None)


def _last_price(signals: Signals, market: MarketView) -> Sequence[Check]:
    last = market.bars.close[..., -1] if market.bars.minutes else signals.price
    return [_check(last[signals.cells], JUDGED)]


def _day_volume(signals: Signals, market: MarketView) -> Sequence[Check]:
    volume = np.cumsum(np.nan_to_num(market.bars.volume), axis=-1)[..., -1]
    return [_check(volume[signals.cells], JUDGED)]


def _rank(signals: Signals, market: MarketView) -> Sequence[Check]:  # noqa: ARG001
    return [_check(np.argsort(np.argsort(signals.price)).astype(np.float64), JUDGED)]


def _across_sessions(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    value = day.average_volume
    return [_check(np.broadcast_to(np.fmax.reduce(value, axis=0), value.shape) if value.ndim > 1 else value, SCREENED)]


def _writes(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    day.average_volume[:] = 0.0
    return [_check(day.average_volume, SCREENED)]


def _unknown_bound(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    return [_check(day.average_volume, SCREENED, low=np.full(day.average_volume.shape, np.nan))]


def _odd_bound(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    return [_check(day.average_volume, SCREENED, low=np.array([1.0, 2.0, 3.0]))]


def _only_the_known(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    return [_check(day.average_volume, SCREENED, name="all" if np.isnan(day.vix).any() else f"{day.vix.size}")]


@pytest.mark.parametrize(
    ("broken", "cases"),
    [
        (Subject(), set()),
        (Subject(screens=lambda _day, _symbols: [], judges=lambda _signals, _market: []), {"f02"}),
        (Subject(screens=lambda day, _symbols: [_check(day.vix, SCREENED)]), {"f03", "f10"}),
        (Subject(judges=lambda _signals, market: [_check(market.bars.first_open, JUDGED)]), {"f04", "f10"}),
        (Subject(judges=lambda signals, _market: [_check(signals.price, SCREENED)]), {"f05"}),
        (Subject(screens=lambda day, _symbols: [_check(day.average_volume, JUDGED)]), {"f05"}),
        (Subject(judges=lambda signals, _market: [_check(signals.price, (Reason.ALLOWED, *JUDGED[1:]))]), {"f05"}),
        (Subject(screens=_writes), {"f06"}),
        (Subject(screens=_across_sessions), {"f07"}),
        (Subject(screens=_only_the_known), {"f07"}),
        (Subject(judges=_rank), {"f07", "f08", "f09"}),
        (Subject(judges=_last_price), {"f09"}),
        (Subject(judges=_day_volume), {"f09"}),
        (Subject(screens=_unknown_bound), {"f03", "f10"}),
        (Subject(screens=_odd_bound), {"f03", "f10"}),
        (object(), {"f01"}),
        (Model(), set()),
        (Model(screens_too=True), set()),
        (Model(sees=lambda _request: True), {"f11"}),
        (Model(sees=lambda _request: False), {"f11"}),
        (Model(sees=lambda request: _sound(request) or request.at >= request.contract.expires), {"f11"}),
        (Model(reason=""), {"f11"}),
        (Model(sees=_by_turns()), {"f11"}),
    ],
)
def test_a_broken_filter_fails_its_cases(broken: Any, cases: set[str]) -> None:
    """The cases that look for this fault find it; an honest filter fails none."""
    if isinstance(broken, Subject | Model):
        assert _failures(broken) >= cases
        assert bool(_failures(broken)) == bool(cases)
    else:
        with pytest.raises(AssertionError, match="`screen` and `judge`"):
            f01_it_is_a_filter(FilterUnderTest(broken, StrategySettings(), sessions.market()))


@attrs.frozen(kw_only=True)
class Fetching(Subject):
    """A filter that fetches ratings."""

    facts: Any = attrs.field(factory=lambda: {"rating": 7, "market_cap": 1})

    async def refresh(self, _day: object, _symbols: object) -> Any:
        """Nothing."""


def _rated(day: DayFacts, _symbols: tuple[str, ...]) -> Sequence[Check]:
    return [_check(day.fact("rating"), SCREENED)]


class FetchingAtOnce(Fetching):
    """Its refresh does not wait."""

    def refresh(self, _day: object, _symbols: object) -> Any:
        """Nothing."""


@pytest.mark.parametrize(
    ("subject", "cases"),
    [
        (Fetching(screens=_rated), set()),
        (Fetching(screens=_rated, facts={}), set()),
        (Fetching(), {"f13"}),
        (Fetching(screens=_rated, facts=["rating"]), {"f12"}),
        (Fetching(screens=_rated, facts={"rating": 0}), {"f12"}),
        (Fetching(screens=_rated, facts={"rating": True}), {"f12"}),
        (Fetching(screens=_rated, facts={"rating": 7, "a rank": 7}), {"f12", "f13"}),
        (Fetching(screens=_rated, facts={"rating": 7, 5: 7}), {"f12"}),
        (FetchingAtOnce(screens=_rated), {"f12"}),
    ],
)
def test_a_filter_that_fetches_is_tested_with_what_it_fetches(subject: Subject, cases: set[str]) -> None:
    """Its facts have names and days, and each of them is compared; without any it is judged as any other filter."""
    assert _failures(subject) == cases


def test_the_market_has_the_facts_that_the_filter_declares() -> None:
    """Random numbers, one in five unknown, and the date of each session; the capitalisation has its own place."""
    _, _, (_, day) = FilterUnderTest(Fetching(), StrategySettings(), sessions.market()).parts
    assert day.recorded.keys() == {"rating"}
    assert 0 < np.isnan(day.fact("rating")).mean() < 0.5
    assert day.date[:, 0].astype(str).tolist() == ["2019-12-02", "2019-12-03", "2019-12-04", "2019-12-05"]


def test_state_between_two_questions_is_found() -> None:
    """A filter that answers the same question in two ways is not pure."""
    asked: list[int] = []

    def counting(signals: Signals, _market: MarketView) -> Sequence[Check]:
        asked.append(1)
        return [_check(signals.price + len(asked), JUDGED)]

    assert "f06" in _failures(Subject(judges=counting))


def test_picked_signals_stand_on_bars() -> None:
    """The kit's signals have one a row, at minutes with a bar, with the close as price, the same for the same seed."""
    bars, _ = sessions.market()
    signals = pick(bars)
    assert len(signals) == 40
    assert len(set(zip(*(axis.tolist() for axis in signals.cells), strict=True))) == 40
    assert np.array_equal(signals.price, bars.close[(*signals.cells, signals.minute)])
    assert not np.isnan(signals.price).any()
    assert np.array_equal(signals.minute, pick(bars).minute)
    assert not np.array_equal(signals.minute, pick(bars, seed=2).minute)
    assert isinstance(bars, Bars)
