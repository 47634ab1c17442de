"""Guarded strategies and filters: each call has a time limit, its answer is validated, and a failure raises nothing.

An answer that violates the contract is a PluginError.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import localcontext
from functools import partial
from operator import index
from typing import TYPE_CHECKING, Any, Final, get_args

import attrs
import numpy as np

from tbot_core.contracts import (
    Check,
    DailyValue,
    Filter,
    OptionRequest,
    OptionsModel,
    OptionValuation,
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
from tbot_core.model.bars import Bars, Flags, Running
from tbot_core.model.formatting import one_line
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger
from tbot_core.model.window import Window
from tbot_core.plugins.broker_calls import VIX_CLOSE
from tbot_core.plugins.call_guard import CallGuard, RunawayPlugin
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.number_bounds import (
    DAILY_BARS,
    FIGURE,
    MINUTES,
    PRICE,
    RATIO,
    FigureOutOfBounds,
    assert_figure,
    assert_figures,
    many,
)
from tbot_core.system.foreign_exceptions import assert_failure, raise_own
from tbot_core.system.timeouts import steps_within

if TYPE_CHECKING:
    from datetime import date

    from tbot_core.contracts.settings import StrategySettings
    from tbot_core.model.day_facts import DayFacts, MarketView

_FAILED: Final = "failed"

_SERIES: Final = many(DailyValue)

_REMEDY: Final = "`tbot plugins check` tests a plugin against its contract."

RUNAWAY: Final = 1000
"""The largest number of signals in one minute of a session; with more, the strategy is disabled."""

MOST_PARTS: Final = 100
"""The largest number of comparisons or triggers that a plugin may return."""

_LONGEST: Final = 500

_WHOLE: Final = "iu"

_COLUMNS: Final = {
    "minute": _WHOLE,
    "side": _WHOLE,
    "price": "f",
    "strength": "f",
    "stop": "f",
    "target": "f",
    "rule": _WHOLE,
}


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
            return checked_signals(
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
            return checked_triggers(inner.triggers(bars, self._facts(day)), phase.shape)

        return self._guard.call(self.entry, "triggers", triggers, lambda _words: ())

    def screen(self, day: DayFacts) -> Sequence[Check]:
        """The strategy's own comparisons before the open; none if it has none."""
        inner, shape = self._inner, day.previous_close.shape
        if not isinstance(inner, SupportsScreening):
            return ()

        def screen() -> Sequence[Check]:
            return _checked_comparisons(inner.screen(self._facts(day)), "screen", shape)

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
            return _checked_comparisons(self._inner.screen(day, symbols, frame), "screen", shape)

        return self._guard.call(self.entry, "screen", screen, lambda words: _denied(words, shape, Reason.SCREEN_FAILED))

    async def refresh(self, day: date, symbols: Sequence[str]) -> Mapping[str, Mapping[str, float]]:
        """What the filter fetches; raises its BrokerErrors, and PluginError for anything else that goes wrong."""
        with _fetching(self._guard, self.entry, "refresh") as mark:
            work = self._inner.refresh(day, symbols)  # type: ignore[attr-defined]  # it declares facts
            found = await steps_within(None, work, mark)
            return checked_facts(found, self.facts, symbols)

    async def vix_close(self, day: date) -> float | None:
        """The VIX close that the filter knows, None from one that offers none; raises as `refresh`."""
        if not isinstance(self._inner, SupportsDailyVix):
            return None
        return await GuardedVix(entry=self.entry, inner=self._inner, guard=self._guard).vix_close(day)

    def judge(self, signals: Signals, market: MarketView, frame: StrategySettings) -> Sequence[Check]:
        """The filter's comparisons at the signal."""
        shape = (len(signals),)

        def judge() -> Sequence[Check]:
            return _checked_comparisons(self._inner.judge(signals, market, frame), "judge", shape)

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
            return checked_valuation(self._inner.value_option(request))

        return self._guard.call(self.entry, "value_option", value)


def checked_series(answer: Any) -> Sequence[DailyValue]:
    """The answer of `daily_series`; raises as `AnswerType.checked`."""
    series: Sequence[DailyValue] = _SERIES.checked("daily_series", answer)
    return series


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


def checked_valuation(answer: object) -> OptionValuation:
    """Validate the result of an options model."""
    if not isinstance(answer, OptionValuation):
        raise _wrong("value_option", answer, "an OptionValuation")
    assert_figures(answer)
    return answer


def checked_signals(  # noqa: PLR0913  -- the strategy, and what its scan was given
    answer: object, name: str, window: Window, bars: Bars, since: int, *, day: DayFacts | None = None
) -> Signals:
    """Validate the result of a scan: signals of the minutes from `since` on. Raises RunawayPlugin for far too many.

    `day`, the facts of the scan, gives the sessions that an error names.
    """
    if not isinstance(answer, Signals):
        raise _wrong("scan", answer, "Signals")
    _columns(answer, bars.close.shape[:-1])
    _rules(answer)
    if not isinstance(answer.exits, ExitRules):
        raise _wrong("scan", answer.exits, "ExitRules")
    assert_figures(answer.exits)
    if not len(answer):
        return answer
    if (answer.minute < since).any():
        raise PluginError(f"It returned a signal of a minute before {since}, the start of the request.", _REMEDY)
    if len(answer) > RUNAWAY:
        _, counts = np.unique(np.stack([*answer.cells[:-1], answer.minute]), axis=1, return_counts=True)
        if counts.max() > RUNAWAY:
            raise RunawayPlugin(f"It returned {counts.max()} signals of one minute; more than {RUNAWAY} are refused.")
    for fault, rows in _faults(answer, window, bars).items():
        if rows.any():
            raise PluginError(
                f"Strategy {name} returned {int(rows.sum())} signal(s) with {fault}; "
                f"the first: {_first(answer, rows, bars, day)}.",
                f"Run `tbot plugins check {name}`, or remove it from STRATEGY_SEQUENCE.",
            )
    return answer


def _checked_comparisons(answer: object, what: str, shape: tuple[int, ...]) -> list[Check]:
    # Validate the result of `screen` or `judge`: comparisons whose values broadcast to this shape.
    return [_check(part, what, shape) for part in _parts(answer, what)]


def checked_triggers(answer: object, shape: tuple[int, ...]) -> list[Trigger]:
    """Validate the result of `triggers`: rules whose arrays broadcast to this shape."""
    found = []
    for part in _parts(answer, "triggers"):
        if not isinstance(part, Trigger):
            raise _wrong("triggers", part, "Trigger")
        for one in (part, *part.when):
            if not isinstance(one, Trigger | Condition):
                raise _wrong("triggers", one, "Condition")
            for array in (one.value, one.level):
                _broadcast(array, "triggers", shape)
        if part.scale is not None:
            _broadcast(part.scale, "triggers", shape)
        _base(part, shape)
        found.append(part)
    return found


def checked_facts(
    answer: object, names: Collection[str], symbols: Collection[str]
) -> Mapping[str, Mapping[str, float]]:
    """Validate what a filter fetched: for the symbols asked for, finite numbers by the names that it declares."""
    if not isinstance(answer, Mapping):
        raise _wrong("refresh", answer, "a mapping")
    found: dict[str, Mapping[str, float]] = {}
    for symbol, facts in answer.items():
        if symbol not in symbols or not isinstance(facts, Mapping):
            raise PluginError(f"refresh returned {symbol!r}: {_type(facts)}, which was not asked for.", _REMEDY)
        for name, value in facts.items():
            if name not in names:
                raise PluginError(
                    f"refresh returned {name!r:.{_LONGEST}} of {symbol}, which it does not declare.", _REMEDY
                )
            try:
                assert_figure(f"{name} of {symbol}", value, FIGURE)
            except (TypeError, FigureOutOfBounds) as fault:
                raise PluginError(f"In the facts of refresh, {fault}.", _REMEDY) from fault
        found[symbol] = {name: float(value) for name, value in facts.items()}
    return found


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


def _base(part: Trigger, shape: tuple[int, ...]) -> None:
    # What a chart shows a trigger's level to be measured from, and its name.
    base: object = part.base
    if isinstance(base, str):
        if base not in (columns := get_args(Running)):
            words = f"The base of its trigger {part.rule!r:.{_LONGEST}} is {base!r:.{_LONGEST}}: prices, or one of"
            raise PluginError(f"{words} the columns {', '.join(columns)}, are expected.", _REMEDY)
    elif base is not None:
        _broadcast(base, "triggers", shape)
    name: object = part.base_name
    if not isinstance(name, str) or len(name) > _LONGEST:
        raise PluginError(f"The base of its triggers has no name of at most {_LONGEST} characters.", _REMEDY)


def _columns(answer: Signals, shape: tuple[int, ...]) -> None:
    # Arrays of equal length and the right type; indices must exist.
    indices: object = answer.cells
    if not isinstance(indices, tuple) or len(indices) != len(shape):
        raise PluginError(f"Its signals do not have one index for each of {len(shape)} axes.", _REMEDY)
    columns = {name: (getattr(answer, name), kinds) for name, kinds in _COLUMNS.items()}
    columns |= {f"cells {axis}": (cells, _WHOLE) for axis, cells in enumerate(answer.cells)}
    length = None
    for name, (column, kinds) in columns.items():
        if type(column) is not np.ndarray or column.ndim != 1 or column.dtype.kind not in kinds:
            raise PluginError(f"The column {name} of its signals must be numbers, but is {_type(column)}.", _REMEDY)
        length = len(column) if length is None else length
        if len(column) != length:
            raise PluginError(f"The column {name} of its signals has {len(column)} rows instead of {length}.", _REMEDY)
    for cells, size in zip(answer.cells, shape, strict=True) if length else ():
        if ((cells < 0) | (cells >= size)).any():
            raise PluginError("Its signals refer to a row that does not exist.", _REMEDY)


def _faults(signals: Signals, window: Window, bars: Bars) -> dict[str, Flags]:
    # By fault the signals that no market gives.
    away = signals.side * (signals.price - signals.stop)
    ahead = signals.side * (signals.target - signals.price)
    duplicate = np.ones(len(signals), dtype=np.bool_)
    duplicate[np.unique(np.ravel_multi_index(signals.cells, bars.close.shape[:-1]), return_index=True)[1]] = False
    return {
        "a side other than 1 and -1": np.abs(signals.side) != 1,
        "a minute outside of the entry phase": (signals.minute < window.entry) | (signals.minute >= window.entry_end),
        "a minute that has not closed yet": signals.minute >= bars.minutes,
        "a price that is not positive": ~((signals.price > 0) & (signals.price < PRICE.most)),
        "a strength that is not finite": ~(np.abs(signals.strength) < RATIO.most),
        "a stop that is not a price on the losing side": (away <= 0)
        | (signals.stop <= 0)
        | (signals.stop >= PRICE.most),
        "a target on the losing side": (np.round(ahead, 4) < 0) | (signals.target >= PRICE.most),
        "a symbol that has a signal already": duplicate,
    }


def _first(signals: Signals, rows: Flags, bars: Bars, day: DayFacts | None) -> str:
    # The earliest of these signals: its symbol, session and minute.
    *sessions, symbols = signals.cells
    order = [*sessions, signals.minute, symbols]
    row = min(np.flatnonzero(rows).tolist(), key=lambda one: [int(column[one]) for column in order])
    date = None if day is None else day.date[(*(axis[row] for axis in sessions), 0)]
    when = "" if date is None or np.isnat(date) else f" on {date}"
    return f"{bars.symbols[symbols[row]]}{when}, minute {signals.minute[row]} of the session"


def _rules(answer: Signals) -> None:
    names: object = answer.rules
    if not isinstance(names, tuple) or not all(isinstance(name, str) and len(name) <= _LONGEST for name in names):
        raise PluginError("The rules of its signals must be a tuple of names.", _REMEDY)
    if ((answer.rule < 0) | (answer.rule >= len(names))).any():
        raise PluginError("Its signals refer to a rule that does not exist.", _REMEDY)


def _check(part: object, what: str, shape: tuple[int, ...]) -> Check:
    if not isinstance(part, Check):
        raise _wrong(what, part, "Check")
    texts: tuple[object, ...] = (part.name, part.words)
    if not all(isinstance(text, str) and len(text) <= _LONGEST for text in texts):
        raise PluginError(f"A comparison of its {what} has no name of at most {_LONGEST} characters.", _REMEDY)
    codes: tuple[object, ...] = (part.below, part.above, part.unknown)
    if not all(isinstance(code, Reason) and code is not Reason.ALLOWED for code in codes):
        raise PluginError(f"A comparison of its {what} denies without a reason code.", _REMEDY)
    if type(part.value) is not np.ndarray:  # its rows are read one by one
        raise PluginError(
            f"The values of a comparison of its {what} must be an array, but are {_type(part.value)}.", _REMEDY
        )
    for array in (part.value, part.low, part.high):
        if array is not None:
            _broadcast(array, what, shape)
    return part


def _broadcast(array: object, what: str, shape: tuple[int, ...]) -> None:
    if type(array) is not np.ndarray and not isinstance(array, int | float | np.number):
        raise PluginError(f"A value of its {what} must be a number, but is {_type(array)}.", _REMEDY)
    plain = np.asarray(array)
    if plain.dtype.kind not in "fiub":
        raise PluginError(f"A value of its {what} must be a number, but is {_type(array)}.", _REMEDY)
    if plain.shape in {(), shape}:
        return
    try:
        np.broadcast_to(plain, shape)
    except ValueError as fault:
        raise PluginError(f"A value of its {what} has shape {plain.shape}, not {shape}.", _REMEDY) from fault


def _parts(answer: object, what: str) -> Sequence[Any]:
    if not isinstance(answer, list | tuple):
        raise _wrong(what, answer, "a list")
    if len(answer) > MOST_PARTS:
        raise PluginError(f"Its {what} returned {len(answer)} comparisons; {MOST_PARTS} are allowed.", _REMEDY)
    return answer


def _wrong(what: str, answer: object, wanted: str) -> PluginError:
    return PluginError(f"Its {what} returned {_type(answer)} instead of {wanted}.", _REMEDY)


def _type(answer: object) -> str:
    # A foreign object's repr may be long, secret or broken, so only its type is named.
    if type(answer) is np.ndarray:
        return f"an array of {answer.dtype} of shape {answer.shape}"
    return f"an object of type {type(answer).__name__}"
