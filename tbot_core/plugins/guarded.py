"""Guarded strategies and filters: each call has a time limit, and a failure raises nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from decimal import localcontext
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any, Final

import attrs
import numpy as np

from tbot_core.contracts import (
    Check,
    DailyValue,
    Filter,
    OptionsModel,
    RequiresDailyBars,
    RequiresData,
    Strategy,
    SupportsDailySeries,
    SupportsDailyVix,
    SupportsExplain,
    SupportsRefresh,
    SupportsScreening,
)
from tbot_core.errors import BrokerError, PluginError
from tbot_core.model.formatting import one_line
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import ExitRules, Signals, Trigger
from tbot_core.model.window import Window
from tbot_core.plugins import answer_checks
from tbot_core.plugins.answer_types import many
from tbot_core.plugins.broker_calls import VIX_CLOSE
from tbot_core.plugins.call_guard import CallGuard
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.number_bounds import DAILY_BARS, MINUTES, assert_figure, assert_figures
from tbot_core.system.foreign_exceptions import assert_failure, raise_own
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import date

    from tbot_core.contracts import OptionRequest, OptionValuation
    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts, MarketView

_FAILED: Final = "failed"
_SERIES: Final = many(DailyValue)
_REMEDY: Final = "`tbot plugins check` tests a plugin against its contract."


@attrs.frozen(kw_only=True, eq=False)
class GuardedStrategy:
    """A strategy that gives no signals if it fails, and denies every symbol if its screen fails.

    It sees exactly as many daily bars as it declares, whatever others need.
    """

    entry: EntryPointInfo
    window: Window
    daily_bars: int
    _inner: Strategy = attrs.field(alias="inner")
    _guard: CallGuard = attrs.field(alias="guard")
    _last_facts: list[tuple[Any, Any]] = attrs.field(factory=list, init=False)

    def _facts(self, day: DayFacts) -> DayFacts:
        # The same object for the same day, so that what a strategy or its worker keeps of a day stays valid.
        if not self._last_facts or self._last_facts[0][0] is not day:
            self._last_facts[:] = [(day, day.with_daily_bars(self.daily_bars))]
        facts: DayFacts = self._last_facts[0][1]
        return facts

    def scan(self, bars: Bars, day: DayFacts, since: int = 0) -> Signals:
        """The strategy's signals; none if it fails."""

        def scan() -> Signals:
            return answer_checks.checked_signals(
                self._inner.scan(bars, self._facts(day), since),
                self.entry.name,
                self.window,
                bars,
                since,
                day=day,
            )

        return self._guard.call(self.entry, "scan", scan, lambda _words: _nothing(bars.close.ndim - 1))

    def triggers(self, bars: Bars, day: DayFacts) -> Sequence[Trigger]:
        """The strategy's triggers; none if it fails or does not explain itself."""
        inner = self._inner
        if not isinstance(inner, SupportsExplain):
            return ()

        def triggers() -> Sequence[Trigger]:
            phase = bars.close[..., self.window.entry : self.window.entry_end]
            return answer_checks.checked_triggers(inner.triggers(bars, self._facts(day)), phase.shape)

        return self._guard.call(self.entry, "triggers", triggers, lambda _words: ())

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """The strategy's own comparisons before the open; none if it has none."""
        inner, shape = self._inner, day.previous_close.shape
        if not isinstance(inner, SupportsScreening):
            return ()

        def screen() -> Sequence[Check]:
            return answer_checks.checked_comparisons(inner.screen(self._facts(day)), "screen", shape)

        return self._guard.call(self.entry, "screen", screen, lambda words: _denied(words, shape, Reason.SCREEN_FAILED))


@attrs.frozen(kw_only=True, eq=False)
class GuardedFilter:
    """A filter that denies if it fails: unknown means deny. `facts` are those that it fetches, {} for none."""

    entry: EntryPointInfo
    needs: frozenset[str]
    facts: Mapping[str, int]
    _inner: Filter = attrs.field(alias="inner")
    _guard: CallGuard = attrs.field(alias="guard")

    def screen(self, day: DayFacts, symbols: tuple[str, ...], frame: StrategySettings) -> Sequence[Check]:
        """The filter's comparisons before the open."""
        shape = day.previous_close.shape

        def screen() -> Sequence[Check]:
            return answer_checks.checked_comparisons(self._inner.screen(day, symbols, frame), "screen", shape)

        return self._guard.call(self.entry, "screen", screen, lambda words: _denied(words, shape, Reason.SCREEN_FAILED))

    async def refresh(self, day: date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """What the filter fetches; raises its BrokerErrors, and PluginError for anything else that goes wrong."""
        with _fetching(self._guard, self.entry, "refresh") as mark:
            work = self._inner.refresh(day, symbols)  # type: ignore[attr-defined]  # it declares facts
            found = await steps_within(None, work, mark)
            return answer_checks.checked_facts(found, self.facts, symbols)

    async def vix_close(self, day: date) -> float | None:
        """The VIX close that the filter knows, None from one that offers none; raises as `refresh`."""
        if not isinstance(self._inner, SupportsDailyVix):
            return None
        return await GuardedVix(entry=self.entry, inner=self._inner, guard=self._guard).vix_close(day)

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """The filter's comparisons at the signal."""
        shape = (len(signals),)

        def judge() -> Sequence[Check]:
            return answer_checks.checked_comparisons(self._inner.judge(signals, market, frame), "judge", shape)

        return self._guard.call(self.entry, "judge", judge, lambda words: _denied(words, shape, Reason.FILTER_FAILED))

    @property
    def options_model(self) -> GuardedOptionsModel | None:
        """The filter as an options model, guarded; None if it prices no options."""
        inner = self._inner
        if not isinstance(inner, OptionsModel):
            return None
        return GuardedOptionsModel(entry=self.entry, inner=inner, guard=self._guard)


@attrs.frozen(kw_only=True, eq=False)
class GuardedVix:
    """A filter or an extension as a source of the VIX; its failures are recorded."""

    entry: EntryPointInfo
    _inner: SupportsDailyVix = attrs.field(alias="inner")
    _guard: CallGuard = attrs.field(alias="guard")

    async def vix_close(self, day: date) -> float | None:
        """The VIX close that it knows; raises its BrokerErrors, and PluginError for anything else that goes wrong."""
        with _fetching(self._guard, self.entry, "vix_close") as mark:
            answer = await steps_within(None, self._inner.vix_close(day), mark)
            return VIX_CLOSE.checked(answer)


def checked_series(answer: Any) -> Sequence[DailyValue]:
    """The answer of `daily_series`; raises as `AnswerType.checked`."""
    series: Sequence[DailyValue] = _SERIES.checked("daily_series", answer)
    return series


@attrs.frozen(kw_only=True, eq=False)
class GuardedSeries:
    """An extension as a source of daily series; its failures are recorded."""

    entry: EntryPointInfo
    _inner: SupportsDailySeries = attrs.field(alias="inner")
    _guard: CallGuard = attrs.field(alias="guard")

    async def daily_series(self, name: str) -> Sequence[DailyValue]:
        """The series that it publishes; raises its BrokerErrors, and PluginError for anything else that goes wrong."""
        with _fetching(self._guard, self.entry, "daily_series") as mark:
            answer = await steps_within(None, self._inner.daily_series(name), mark)
            return checked_series(answer)


@attrs.frozen(kw_only=True, eq=False)
class GuardedOptionsModel:
    """An options model whose failures are recorded."""

    entry: EntryPointInfo
    _inner: OptionsModel = attrs.field(alias="inner")
    _guard: CallGuard = attrs.field(alias="guard")

    def value_option(self, request: OptionRequest) -> OptionValuation:
        """The model's valuation; raises PluginError if it fails."""

        def value() -> OptionValuation:
            return answer_checks.checked_valuation(self._inner.value_option(request))

        return self._guard.call(self.entry, "value_option", value)


@contextmanager
def _fetching(
    guard: CallGuard, entry: EntryPointInfo, call: str
) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    # What goes wrong in a call that fetches: a BrokerError, else PluginError. Yields what marks a step of it.
    border = guard.border(f"{entry.kind}/{entry.name}")
    if border.is_off():
        raise PluginError(f"The {entry.kind} {entry.name} is disabled for the rest of the session.", _REMEDY)
    try:
        with localcontext():
            yield partial(border.mark, call)
    except BrokerError as fault:
        raise_own(fault, one_line)
    except BaseException as fault:
        assert_failure(fault, awaited=True)
        raise PluginError(guard.report_failure(entry, call, fault)) from fault


@contextmanager
def _creating(entry: EntryPointInfo) -> Iterator[None]:
    # What a plugin declares about itself, read before its first call: PluginError for what is wrong with it.
    try:
        yield
    except BaseException as fault:
        assert_failure(fault)
        raise PluginError(PluginFailure.of(entry, "create", fault).sentence, _REMEDY) from fault


def guard_plugin(entry: EntryPointInfo, made: Any, guard: CallGuard) -> Any:
    """A guarded strategy or filter; an object of another kind is returned unchanged.

    Raises PluginError for one whose window or facts cannot be read.
    """
    match entry.kind:
        case "strategy":
            with _creating(entry):
                assert_figures(window := made.window)
                days = index(made.daily_bars) if isinstance(made, RequiresDailyBars) else 0
                assert_figure("the number of daily bars", days, DAILY_BARS)
            return GuardedStrategy(entry=entry, window=window, daily_bars=days, inner=made, guard=guard)
        case "filter":
            with _creating(entry):
                needs = frozenset(made.needs) if isinstance(made, RequiresData) else frozenset()
                facts = dict(made.facts) if isinstance(made, SupportsRefresh) else {}
                for name, days in facts.items():
                    assert_figure(f"the days of {name!r:.40}", days, MINUTES)
            return GuardedFilter(entry=entry, needs=needs, facts=facts, inner=made, guard=guard)
        case _:
            return made


def _denied(words: str, shape: tuple[int, ...], reason: Reason) -> Sequence[Check]:
    nothing = np.full(shape, np.nan)
    return (Check(name=_FAILED, value=nothing, below=reason, above=reason, unknown=reason, required=True, words=words),)


def _nothing(axes: int) -> Signals:
    whole, real = np.zeros(0, dtype=np.intp), np.zeros(0)
    return Signals(
        cells=(whole,) * axes,
        minute=whole,
        side=whole,
        price=real,
        strength=real,
        stop=real,
        target=real,
        rule=whole,
        rules=(),
        exits=ExitRules(),
    )
