"""The contract of filters: numbered cases, and a pytest class that a plugin's tests inherit.

A plugin's test supplies the filter, with every comparison switched on::

    class TestContract(FilterContract):
        @pytest.fixture
        def subject(self) -> PriceVolume:
            return PriceVolume(config=Config(min_volume=1_000_000, min_relative_volume=1.0))

An options model is tested with a sound request, and with requests that no market quotes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import attrs
import numpy as np

from tbot_core.contracts import (
    Check,
    Filter,
    OptionContract,
    OptionQuote,
    OptionRequest,
    OptionRight,
    OptionsModel,
    OptionVerdict,
    SupportsRefresh,
)
from tbot_core.contracts.settings import StrategySettings
from tbot_core.marketdata.store.recorded_facts import MARKET_CAP
from tbot_core.model.bars import Bars, Quotes
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.signals import ExitRules, Signals
from tbot_core.testing import sessions
from tbot_core.testing.contract import ContractCase, ContractTests, NotClaimed, demand
from tbot_core.trading.lookahead import NAMES, check_rows, judgement_differences


@attrs.frozen
class FilterUnderTest:
    """A filter, a strategy's standard settings, and a block of sessions with its facts on which the cases run.

    To the facts the cases add dates, and random numbers, some unknown, under the names of what the filter fetches.
    """

    subject: Filter
    frame: StrategySettings
    market: tuple[Bars, DayFacts]

    @property
    def parts(self) -> tuple[Filter, StrategySettings, tuple[Bars, DayFacts]]:
        """All three."""
        bars, day = self.market
        return self.subject, self.frame, (bars, sessions.with_recorded(day, _fetched(self.subject) - {MARKET_CAP}))


def f01_it_is_a_filter(tested: FilterUnderTest) -> None:
    """It has `screen` and `judge`."""
    subject = tested.subject
    demand(isinstance(subject, Filter), "a filter has `screen` and `judge`")


def f02_it_compares_something(tested: FilterUnderTest) -> None:
    """Each step has a comparison; otherwise the other cases prove nothing. An options model may compare nothing."""
    subject, frame, market = tested.parts
    checks = [*_screen(subject, market, frame), *_judge(subject, market, frame)]
    if not checks and isinstance(subject, OptionsModel):
        raise NotClaimed("it judges options alone: case f11")
    demand(bool(checks), "it compares nothing")


def f03_a_screen_has_a_value_a_row(tested: FilterUnderTest) -> None:
    """Before the open each comparison has one value per row, and its bounds fit them."""
    subject, frame, market = tested.parts
    _screen(subject, market, frame)


def f04_a_judgement_has_a_value_a_signal(tested: FilterUnderTest) -> None:
    """At the signal each comparison has one value per signal, also without signals."""
    subject, frame, market = tested.parts
    _judge(subject, market, frame)
    signals = pick(market[0])
    none = signals.take(np.zeros(len(signals), dtype=np.bool_))
    _fit(subject.judge(none, MarketView(bars=market[0], day=market[1]), frame), (0,))


def f05_reasons_are_codes_of_the_core(tested: FilterUnderTest) -> None:
    """Every denial has a reason code of its own step, and never ALLOWED; what is likely has those of the signal."""
    subject, frame, market = tested.parts
    at_signal = range(30, 60)
    for step, codes in ((_screen, range(1, 30)), (_judge, at_signal)):
        for check in step(subject, market, frame):
            for reason in (check.below, check.above, check.unknown):
                known = reason in (at_signal if check.likely else codes)
                demand(known, f"{check.name} denies with {reason!r}, which is not a reason code of this step")


def f06_it_is_pure(tested: FilterUnderTest) -> None:
    """The same input gives the same output, and inputs are not changed."""
    subject, frame, market = tested.parts
    bars, day = market
    before = [bars.field(name).tobytes() for name in NAMES], _facts(day)
    for step in (_screen, _judge):
        _same(step(subject, market, frame), step(subject, market, frame), "the same question again")
    after = [bars.field(name).tobytes() for name in NAMES], _facts(day)
    demand(before == after, "it changed the bars or the facts that it was given")


def f07_a_session_is_the_same_in_a_block(tested: FilterUnderTest) -> None:
    """Live trading passes one session, a backtest many: the values are the same."""
    subject, frame, market = tested.parts
    bars, day = market
    signals = pick(bars)
    whole = _screen(subject, market, frame), _judge(subject, market, frame)
    for index in range(bars.field("close").shape[1]):
        alone, own = (bars.session(index), day.session(index)), signals.cells[0] == index
        _same(
            [check_rows(check, index) for check in whole[0]],
            _screen(subject, alone, frame),
            f"session {index} screened",
        )
        rows = attrs.evolve(signals.take(own), cells=(signals.cells[-1][own],))
        checks = subject.judge(rows, MarketView(bars=alone[0], day=alone[1]), frame)
        _same([check_rows(check, own) for check in whole[1]], checks, f"session {index} judged")


def f08_signals_are_judged_alone(tested: FilterUnderTest) -> None:
    """The values of a signal do not depend on the other signals."""
    subject, frame, market = tested.parts
    whole, signals = _judge(subject, market, frame), pick(market[0])
    order = np.random.default_rng(5).permutation(len(signals))[: len(signals) // 2]
    checks = subject.judge(signals.take(order), MarketView(bars=market[0], day=market[1]), frame)
    _same([check_rows(check, order) for check in whole], checks, "half of the signals in another order")


def f09_the_future_does_not_matter(tested: FilterUnderTest) -> None:
    """Bars after a signal's minute have no effect: cut, or with other numbers."""
    subject, frame, (bars, day) = tested.parts
    _judge(subject, (bars, day), frame)
    random = np.random.default_rng(3).uniform(1.0, 500.0, size=bars.field("close").shape)
    for difference in judgement_differences(subject, pick(bars), MarketView(bars=bars, day=day), frame, random):
        raise AssertionError(f"bars after minute {difference.minute}: {difference.found}")


def f10_the_unknown_is_no_error(tested: FilterUnderTest) -> None:
    """Without any fact or quote it still compares, and raises nothing."""
    subject, frame, market = tested.parts
    bars, day = market
    unknown = sessions.day(len(bars.symbols))
    blank = {
        name: np.full_like(getattr(day, name), np.nan)
        for name in ("previous_close", "average_volume", "market_cap", "atr", "vix")
    }
    without_facts = attrs.evolve(day, **blank, typical_volume=None, recorded={})
    _fit(subject.screen(without_facts, bars.symbols, frame), day.previous_close.shape)
    _fit(subject.screen(unknown, bars.symbols, frame), (len(bars.symbols),))
    signals = pick(bars)
    for quotes in (None, _quotes(len(bars.symbols), np.nan)):
        checks = subject.judge(signals, MarketView(bars=bars, day=without_facts, quotes=quotes), frame)
        _fit(checks, (len(signals),))


def f12_what_it_fetches_has_names_and_days(tested: FilterUnderTest) -> None:
    """A filter that fetches declares each fact by name, with the days for which it holds, at least one."""
    subject = _fetching(tested)
    declared: object = subject.facts
    if not isinstance(declared, Mapping):
        raise AssertionError(f"`facts` is {declared!r}, not a mapping of names to days")  # noqa: TRY004  -- a case fails so
    for name, days in declared.items():
        demand(isinstance(name, str) and name.isidentifier(), f"{name!r} in `facts` is not a name such as pe_ratio")
        demand(type(days) is int and days >= 1, f"the fact {name} holds for {days!r} days, not for a number from 1 on")
    demand(inspect.iscoroutinefunction(subject.refresh), "`refresh` is not a coroutine function (async def)")


def f13_what_it_fetches_it_compares(tested: FilterUnderTest) -> None:
    """Each fact that it fetches matters to a comparison, under the same name; `market_cap` has limits of its own."""
    names = _fetched(_fetching(tested)) - {MARKET_CAP}
    subject, frame, (bars, day) = tested.parts
    checks = [*_screen(subject, (bars, day), frame), *_judge(subject, (bars, day), frame)]
    for name in sorted(names):
        without = attrs.evolve(day, recorded={one: values for one, values in day.recorded.items() if one != name})
        seen = [*_screen(subject, (bars, without), frame), *_judge(subject, (bars, without), frame)]
        same = len(seen) == len(checks) and all(
            _bits(one, part) == _bits(other, part)
            for one, other in zip(checks, seen, strict=True)
            for part in ("value", "low", "high")
        )
        demand(not same, f"it fetches {name}, but no comparison uses day.fact({name!r})")


def f11_an_options_model_refuses_what_no_market_quotes(tested: FilterUnderTest) -> None:
    """An options model answers alike each time, and has no verdict without a sound quote or for an expired contract."""
    subject = tested.subject
    if not isinstance(subject, OptionsModel):
        raise NotClaimed("it prices no options")
    sound = option_request()
    valuation = subject.value_option(sound)
    demand(valuation.verdict is not OptionVerdict.UNKNOWN, f"it has no verdict on a sound quote: {valuation.reason}")
    demand(valuation == subject.value_option(sound), "the same request has another valuation")
    for what, request in _unsound_requests(sound).items():
        valuation = subject.value_option(request)
        demand(valuation.verdict is OptionVerdict.UNKNOWN, f"its verdict is {valuation.verdict} for {what}")
        demand(bool(valuation.reason), f"it gives no reason for {what}")


CASES: Final[tuple[ContractCase, ...]] = (
    f01_it_is_a_filter,
    f02_it_compares_something,
    f03_a_screen_has_a_value_a_row,
    f04_a_judgement_has_a_value_a_signal,
    f05_reasons_are_codes_of_the_core,
    f06_it_is_pure,
    f07_a_session_is_the_same_in_a_block,
    f08_signals_are_judged_alone,
    f09_the_future_does_not_matter,
    f10_the_unknown_is_no_error,
    f11_an_options_model_refuses_what_no_market_quotes,
    f12_what_it_fetches_has_names_and_days,
    f13_what_it_fetches_it_compares,
)
"""The contract, in order of the numbers."""


class FilterContract(ContractTests):
    """The contract of filters as tests; a subclass, or its module, has a fixture `subject`."""

    cases = CASES

    def frame(self) -> StrategySettings:
        """The standard settings of the strategy, with every limit on."""
        return standard_frame()

    def market(self) -> tuple[Bars, DayFacts]:
        """A block of sessions and its facts, on which the cases run."""
        return sessions.market()

    def test_contract(self, case: ContractCase, subject: Filter) -> None:
        """Run one case."""
        case(FilterUnderTest(subject, self.frame(), self.market()))


def standard_frame() -> StrategySettings:
    """A strategy's standard settings with every limit on."""
    return StrategySettings(max_gap_pct=Decimal("0.05"), min_market_cap=Decimal(10**9), max_market_cap=Decimal(10**11))


def pick(bars: Bars, *, seed: int = 1, most: int = 40) -> Signals:
    """Signals at random cells of a block or a session that have a bar, at most one per row."""
    close = bars.close
    random = np.random.default_rng(seed)
    rows = np.argwhere(~np.isnan(close).all(axis=-1))
    rows = rows[np.sort(random.permutation(len(rows))[:most])]
    minutes = [int(random.choice(np.flatnonzero(~np.isnan(close[tuple(row)])))) for row in rows]
    cells = tuple(np.asarray(axis, dtype=np.intp) for axis in rows.T)
    minute = np.asarray(minutes, dtype=np.intp)
    price = close[(*cells, minute)]
    side = np.where(random.random(len(minute)) < 0.5, -1, 1).astype(np.intp)
    return Signals(
        cells=cells,
        minute=minute,
        side=side,
        price=price,
        strength=random.random(len(minute)),
        stop=price - side,
        target=np.full(len(minute), np.nan),
        rule=np.zeros(len(minute), dtype=np.intp),
        rules=("random",),
        exits=ExitRules(hold=30),
    )


def option_request() -> OptionRequest:
    """What is known about a put at the money with 30 days to its expiry, quoted near 2.7, its volatility being 25 %."""
    at = datetime(2024, 5, 22, 15, 0, tzinfo=UTC)
    expires = datetime(2024, 6, 21, 20, 0, tzinfo=UTC)
    contract = OptionContract(
        underlying="SPY", expiry=expires.date(), expires=expires, strike=100.0, right=OptionRight.PUT
    )
    return OptionRequest(
        contract=contract,
        at=at,
        quote=OptionQuote(bid=2.65, ask=2.75, age_s=1.0),
        spot=100.0,
        spot_source="test",
        volatility=0.25,
    )


def _unsound_requests(sound: OptionRequest) -> dict[str, OptionRequest]:
    # The request with one thing wrong each: what a chain may hold that cannot be traded.
    quotes = {
        "no quote": None,
        "an empty quote": OptionQuote(),
        "a quote without a bid": OptionQuote(ask=2.75),
        "a quote without an ask": OptionQuote(bid=2.65),
        "a bid of 0": OptionQuote(bid=0.0, ask=2.75),
        "a negative bid": OptionQuote(bid=-1.0, ask=2.75),
        "a bid that is not a number": OptionQuote(bid=math.nan, ask=2.75),
        "an infinite ask": OptionQuote(bid=2.65, ask=math.inf),
        "a crossed quote": OptionQuote(bid=2.75, ask=2.65),
        "a stale quote": OptionQuote(bid=2.65, ask=2.75, age_s=3600.0),
    }
    found = {name: attrs.evolve(sound, quote=quote) for name, quote in quotes.items()}
    expires = sound.contract.expires
    return found | {
        "an expired contract": attrs.evolve(sound, at=expires),
        "a contract on its last day": attrs.evolve(sound, at=expires - timedelta(minutes=30)),
        "an unknown spot": attrs.evolve(sound, spot=None),
        "a spot of 0": attrs.evolve(sound, spot=0.0),
        "a spot that is not a number": attrs.evolve(sound, spot=math.nan),
        "an unknown volatility": attrs.evolve(sound, volatility=None),
    }


def _fetching(tested: FilterUnderTest) -> SupportsRefresh:
    subject = tested.subject
    if not isinstance(subject, SupportsRefresh) or not subject.facts:
        raise NotClaimed("it fetches nothing")
    return subject


def _fetched(subject: object) -> set[str]:
    # The names of what a filter fetches; f12 judges a faulty declaration.
    declared: object = subject.facts if isinstance(subject, SupportsRefresh) else {}
    return {name for name in declared if isinstance(name, str)} if isinstance(declared, Mapping) else set()


def _screen(subject: Filter, market: tuple[Bars, DayFacts], frame: StrategySettings) -> Sequence[Check]:
    bars, day = market
    checks = subject.screen(day, bars.symbols, frame)
    _fit(checks, day.previous_close.shape)
    return checks


def _judge(subject: Filter, market: tuple[Bars, DayFacts], frame: StrategySettings) -> Sequence[Check]:
    bars, day = market
    signals = pick(bars)
    checks = subject.judge(signals, MarketView(bars=bars, day=day), frame)
    _fit(checks, (len(signals),))
    return checks


def _facts(day: DayFacts) -> list[bytes]:
    return [np.asarray(values).tobytes() for values in day.arrays().values()]


def _quotes(symbols: int, value: float) -> Quotes:
    return Quotes(bid=np.full(symbols, value), ask=np.full(symbols, value), age_s=np.full(symbols, value))


def _fit(checks: Sequence[Check], shape: tuple[int, ...]) -> None:
    for check in checks:
        demand(check.value.shape == shape, f"{check.name} has values of shape {check.value.shape}, not {shape}")
        for bound in (np.asarray(bound) for bound in (check.low, check.high) if bound is not None):
            fits = bound.shape in {(), shape}
            demand(fits, f"{check.name} has a bound of shape {bound.shape}, not {shape} or one number")
            demand(not np.isnan(bound).any(), f"{check.name} has an unknown bound")


def _same(expected: Sequence[Check], seen: Sequence[Check], what: str) -> None:
    names = [check.name for check in expected], [check.name for check in seen]
    demand(names[0] == names[1], f"{what}: the comparisons are {names[1]} instead of {names[0]}")
    for one, other in zip(expected, seen, strict=True):
        for name in ("value", "low", "high"):
            demand(_bits(one, name) == _bits(other, name), f"{what}: {one.name} has another {name}")


def _bits(check: Check, name: str) -> bytes | None:
    part = getattr(check, name)
    return None if part is None else np.asarray(part).tobytes()
