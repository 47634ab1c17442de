"""Calls into strategies and filters while a run trades: what fails or hangs is refused, counted and switched off."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest

from tbot_core.contracts import Check, Filter, Plugin, Strategy, SupportsExplain, SupportsScreening
from tbot_core.contracts.hooks import hookimpl
from tbot_core.contracts.on_bar import OnBarStrategy
from tbot_core.contracts.settings import StrategySettings
from tbot_core.errors import PluginError, Unavailable
from tbot_core.model.bars import Bars
from tbot_core.model.clock import ManualClock
from tbot_core.model.day_facts import DayFacts, MarketView
from tbot_core.model.reasons import Reason
from tbot_core.model.signals import Condition, ExitRules, Signals, Trigger
from tbot_core.model.window import Window
from tbot_core.plugins import guarded
from tbot_core.plugins.call_guard import FAILURES, LIMITS_S, WITHIN, CallGuard, FailedCall, GuardSession
from tbot_core.plugins.discovery import EntryPointInfo
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.plugins.hook_calls import risk_checks
from tbot_core.plugins.hung_plugins import HungCall
from tbot_core.plugins.loader import LoadedPlugin, PluginLoader
from tbot_core.system.signals import interruptible
from tbot_core.testing import sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BELL = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
WINDOW = Window(start=0, analysis=2, breakout=20, monitoring=20)
STRATEGY = EntryPointInfo(kind="strategy", name="theirs", dist="their-dist", version="1", target="their_module")
FILTER = attrs.evolve(STRATEGY, kind="filter")
SOON_S = 0.02
SYMBOLS = 3
_BLOCK = sessions.market(sessions=1, symbols=SYMBOLS)
BARS, DAY = _BLOCK[0].session(0), _BLOCK[1].session(0)
FRAME = StrategySettings()


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


class Session:
    """A session in which plugins are called, and what is reported of it."""

    def __init__(self, *, strict: bool = False, limit_s: float = 60.0) -> None:
        self.clock = ManualClock(BELL)
        self.reported: list[tuple[dt.datetime, FailedCall]] = []
        self.recorded: list[str] = []
        self.bounds = CallGuard(
            strict=strict,
            record=lambda _entry, failure: self.recorded.append(failure.error),
            limits_s=dict.fromkeys(LIMITS_S, limit_s),
        )
        self.open()

    def open(self) -> None:
        """A session begins."""
        self.bounds.open_session(
            GuardSession(
                clock=self.clock,
                on_failure=lambda lost: self.reported.append((self.clock.now(), lost)),
            )
        )

    def strategy(self, **deeds: Any) -> Any:
        """A strategy that does this, within its bounds."""
        return guard_plugin(STRATEGY, _made(window=WINDOW, **deeds), self.bounds)

    def filter(self, **deeds: Any) -> Any:
        """A filter that does this, within its bounds."""
        whole = {"screen": lambda *_: [], "judge": lambda *_: []} | deeds
        return guard_plugin(FILTER, _made(**whole), self.bounds)


def _made(**parts: object) -> Any:
    return type("Theirs", (), {name: staticmethod(one) if callable(one) else one for name, one in parts.items()})()


def fails(*_: object) -> Any:
    """A plugin with a fault."""
    raise ZeroDivisionError("theirs")


def hangs(*_: object) -> Any:
    """A plugin that never comes back, whatever interrupts it."""
    while True:
        pass


def found(**columns: object) -> Signals:
    """One sane signal, but for what is given."""
    whole: dict[str, Any] = {
        "cells": (np.array([1]),),
        "minute": np.array([5]),
        "side": np.array([1]),
        "price": np.array([10.0]),
        "strength": np.array([0.1]),
        "stop": np.array([9.0]),
        "target": np.array([np.nan]),
        "rule": np.array([0]),
        "rules": ("theirs",),
        "exits": ExitRules(),
    }
    return Signals(**(whole | columns))


def compared(**fields: object) -> Check:
    """One sane comparison of a filter, but for what is given."""
    reasons = {"below": Reason.FILTER_DENIED, "above": Reason.FILTER_DENIED, "unknown": Reason.FILTER_UNKNOWN}
    whole: dict[str, Any] = {"name": "theirs", "value": np.array([1.0]), "low": 0.0} | reasons
    return Check(**(whole | fields))


def judged(subject: Filter, signals: Signals) -> list[Reason]:
    """What the filter's checks deny with; they all compare one unknown value."""
    return [check.unknown for check in subject.judge(signals, MarketView(bars=BARS, day=DAY), FRAME) if check.required]


def test_a_sound_plugin_is_as_it_was() -> None:
    """What a strategy and a filter answer passes unchanged, and nothing is counted."""
    session, signals, check = Session(), found(), compared()
    subject = session.strategy(scan=lambda *_: signals)
    assert isinstance(subject, Strategy)
    assert isinstance(subject, SupportsExplain)
    assert isinstance(subject, SupportsScreening)
    assert subject.scan(BARS, DAY, 5) is signals
    none = signals.take(np.array([], dtype=np.intp))
    assert session.strategy(scan=lambda *_: none).scan(BARS, DAY, 6) is none
    assert (subject.triggers(BARS, DAY), subject.screen(DAY)) == ((), ())
    judge = session.filter(judge=lambda *_: [check])
    assert list(judge.judge(signals, MarketView(bars=BARS, day=DAY), FRAME)) == [check]
    assert list(judge.screen(DAY, BARS.symbols, FRAME)) == []
    assert judge.needs == frozenset()
    assert guard_plugin(attrs.evolve(STRATEGY, kind="alert"), "a channel", session.bounds) == "a channel"
    assert session.reported == []


class Wordless(Exception):
    """An exception whose text fails."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("fault", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, SystemExit, Wordless])
def test_a_plugin_cannot_end_a_run_by_what_it_raises(fault: type[BaseException]) -> None:
    """An interrupt without a signal, an exit, and an exception without a text are failures, also in a simulation."""

    def raises(*_: object) -> Any:
        raise fault

    session = Session()
    with interruptible():
        assert len(session.strategy(scan=raises).scan(BARS, DAY, 5)) == 0
        assert [lost.error for _, lost in session.reported] == [f"scan: {fault.__name__}"]
        with pytest.raises(PluginError, match=fault.__name__):
            Session(strict=True).strategy(scan=raises).scan(BARS, DAY, 5)


def fetching(answer: Callable[[], Any], session: Session | None = None) -> Any:
    """A guarded filter that fetches ratings; `answer` is what it returns or raises."""

    async def refresh(*_: object) -> Any:
        return answer()

    return (session or Session()).filter(refresh=refresh, facts={"rating": 7})


def refreshed(subject: Any) -> Any:
    """What a refresh of two symbols brings."""
    return asyncio.run(subject.refresh(dt.date(2019, 12, 2), ["AAA", "BBB"]))


def test_a_filter_may_offer_the_vix() -> None:
    """A number or None passes; a filter that offers none has none, and what fails is reported."""

    def asked(**offered: Any) -> object:
        return asyncio.run(Session().filter(**offered).vix_close(dt.date(2019, 12, 2)))

    async def value(_day: dt.date) -> float:
        return 19.5

    async def text(_day: dt.date) -> str:
        return "19.5"

    async def busy(_day: dt.date) -> float:
        raise Unavailable("no way")

    assert asked(vix_close=value) == 19.5
    assert asked() is None
    with pytest.raises(PluginError, match="vix_close: TypeError: it returned an object of type str"):
        asked(vix_close=text)
    with pytest.raises(Unavailable):
        asked(vix_close=busy)


def test_what_a_filter_fetches_passes() -> None:
    """As numbers by name and symbol; a filter without facts is asked for none."""
    assert refreshed(fetching(lambda: {"AAA": {"rating": 4}, "BBB": {}})) == {"AAA": {"rating": 4.0}, "BBB": {}}
    assert Session().filter().facts == {}


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"CCC": {}},
        {"AAA": 4.0},
        {"AAA": {"rank": 4.0}},
        {"AAA": {"rating": "4"}},
        {"AAA": {"rating": float("nan")}},
    ],
)
def test_what_a_filter_must_not_fetch_is_a_failure_of_it(answer: Any) -> None:
    """Other symbols, other names, and what is no finite number."""
    with pytest.raises(PluginError, match="refresh"):
        refreshed(fetching(lambda: answer))


def test_a_filter_that_cannot_fetch_now_says_so_itself() -> None:
    """Its own BrokerErrors pass; anything else that it raises names it, and is recorded."""

    def busy() -> Any:
        raise Unavailable("busy")

    with pytest.raises(Unavailable, match="busy"):
        refreshed(fetching(busy))
    with pytest.raises(PluginError, match="refresh: "):
        refreshed(fetching(fails))


def test_a_filter_still_says_what_it_needs() -> None:
    """A fact that costs a look back is asked for as before."""
    made = _made(screen=lambda *_: [], judge=lambda *_: [], needs=["typical_volume"])
    assert guard_plugin(FILTER, made, Session().bounds).needs == {"typical_volume"}


@pytest.mark.parametrize("declared", [0, 2, 5, 9])
def test_a_strategy_sees_as_many_days_as_it_declares(declared: int) -> None:
    """Whatever others need: the last ones, unknown before the first one that is known, none if it declares none."""
    seen = list[DayFacts]()
    silent = OnBarStrategy(window=WINDOW, state=lambda: None, on_bar=lambda _state, _bar: None)

    def scan(bars: Bars, day: DayFacts, since: int) -> Signals:
        seen.append(day)
        return silent.scan(bars, day, since)

    subject = Session().strategy(scan=scan, **({"daily_bars": declared} if declared else {}))
    closes = [3.0, 4.0, 5.0, 6.0, 7.0]
    given = sessions.day(len(BARS.symbols), daily={"close": closes})
    for _ in range(2):
        subject.scan(BARS, given)
    assert seen[0] is seen[1]
    if not declared:
        assert seen[0].daily is None
        return
    assert seen[0].daily is not None
    expected = [*[np.nan] * (declared - 5), *closes[-declared:]]
    np.testing.assert_array_equal(seen[0].daily.close, [expected] * len(BARS.symbols))
    np.testing.assert_array_equal(seen[0].previous_close, given.previous_close)
    subject.scan(BARS, attrs.evolve(DAY, daily=None))
    assert seen[2].daily is not None
    np.testing.assert_array_equal(seen[2].daily.volume, np.full((*DAY.previous_close.shape, declared), np.nan))


@pytest.mark.parametrize("declared", [-1, 401, 2.5, "5", None, float("nan")])
def test_a_number_of_days_that_none_can_be_is_refused(declared: object) -> None:
    """The strategy is not created."""
    with pytest.raises(PluginError, match="theirs"):
        Session().strategy(daily_bars=declared)


def test_f91_a_strategy_that_raises_gives_no_signals_and_is_switched_off_at_the_third_time() -> None:
    """Each failure is reported with its words and its count; after the third the strategy is not called any more."""
    session, calls, off = Session(), [], list[str]()

    def scan(*_: object) -> Any:
        calls.append(session.clock.now())
        fails()

    subject = session.strategy(scan=scan)
    session.bounds.on_plugin_off = off.append
    for _ in range(FAILURES + 2):
        session.clock.advance(60.0)
        assert len(subject.scan(BARS, DAY, 0)) == 0
    assert len(calls) == FAILURES
    assert off == ["strategy/theirs"]
    assert [lost.off for _, lost in session.reported] == [False] * (FAILURES - 1) + [True]
    assert {(lost.plugin, lost.call, lost.error) for _, lost in session.reported} == {
        ("strategy/theirs", "scan", "scan: ZeroDivisionError: theirs")
    }
    assert session.recorded == ["scan: ZeroDivisionError: theirs"] * FAILURES
    assert session.bounds.is_off(STRATEGY)
    assert not session.bounds.is_off(FILTER)


def test_f91_failures_far_apart_and_of_another_session_are_forgiven() -> None:
    """Three count only within ten minutes, and a session begins with all plugins on."""
    session = Session()
    subject = session.strategy(scan=fails)
    for _ in range(3 * FAILURES):
        session.clock.advance(WITHIN.total_seconds() / 2 + 1)
        subject.scan(BARS, DAY)
    assert not any(lost.off for _, lost in session.reported)
    for _ in range(FAILURES):
        subject.scan(BARS, DAY)
    assert session.bounds.is_off(STRATEGY)
    session.open()
    assert not session.bounds.is_off(STRATEGY)


@pytest.mark.parametrize("fault", [SystemExit(3), GeneratorExit(), BaseException("any")])
def test_f91_whatever_a_plugin_raises_is_its_failure(fault: BaseException) -> None:
    """An exit, too, which would end the day."""
    session = Session()

    def scan(*_: object) -> Any:
        raise fault

    assert len(session.strategy(scan=scan).scan(BARS, DAY)) == 0
    assert len(session.reported) == 1


def test_an_observer_that_is_switched_off_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """In the log, and to the listener."""
    failure = PluginFailure.of(STRATEGY, "observe", KeyError("x"))
    guard, reported = CallGuard(strict=False), list[PluginFailure]()
    guard.report_observer(failure)
    guard.on_observer_off = reported.append
    guard.report_observer(failure)
    assert reported == [failure]
    assert caplog.text.count("observer.off") == 2


def test_f91_an_interrupt_passes() -> None:
    """What a person asks for is no failure of the plugin."""
    session = Session()

    def scan(*_: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.strategy(scan=scan).scan(BARS, DAY)
    assert session.reported == []


def test_f91_a_filter_that_raises_denies_everything_with_its_code() -> None:
    """Unknown means deny: at the signal and before the bell, also when it is switched off."""
    session = Session()
    subject = session.filter(screen=fails, judge=fails)
    for _ in range(FAILURES + 1):
        assert judged(subject, found()) == [Reason.FILTER_FAILED]
    assert session.bounds.is_off(FILTER)
    (check,) = subject.screen(DAY, BARS.symbols, FRAME)
    assert check.unknown is Reason.SCREEN_FAILED
    assert np.isnan(check.value).all()
    assert check.value.shape == (SYMBOLS,)
    assert "is disabled for the rest of the session" in check.words


def test_f91_a_strategy_whose_screen_fails_enters_nothing() -> None:
    """Its symbols are denied, and without triggers nothing is said of near misses."""
    session = Session()
    subject = session.strategy(scan=lambda *_: found(), screen=fails, triggers=fails)
    (check,) = subject.screen(DAY)
    assert (check.unknown, check.words) == (Reason.SCREEN_FAILED, "screen: ZeroDivisionError: theirs")
    assert subject.triggers(BARS, DAY) == ()
    assert [lost.call for _, lost in session.reported] == ["screen", "triggers"]


def test_f92_a_hang_is_interrupted_and_counted() -> None:
    """A strategy and a filter that never come back cost their limit and no more."""
    session = Session(limit_s=SOON_S)
    assert len(session.strategy(scan=hangs).scan(BARS, DAY)) == 0
    assert judged(session.filter(judge=hangs), found()) == [Reason.FILTER_FAILED]
    assert [lost.error for _, lost in session.reported] == [
        f"{call}: CallTimedOut: it did not finish within 0.02 s and was interrupted." for call in ("scan", "judge")
    ]


def test_f92_a_risk_check_that_hangs_denies_and_is_asked_no_more() -> None:
    """It fails in words, each time; after the third it is not asked, and denies all the same."""
    session, calls = Session(limit_s=SOON_S), []

    class Theirs:
        @hookimpl
        def tbot_risk_checks(self) -> Any:
            """Give the check."""

            def check(order: object) -> None:
                calls.append(order)
                hangs()

            return check

    loader, entry = PluginLoader(), attrs.evolve(STRATEGY, kind="extension")
    subject = Theirs()
    loader.manager.register(subject, "theirs")
    plugin = Plugin(name="theirs", summary="", config=Theirs, create=lambda _config, _context: None)
    loaded = LoadedPlugin(entry=entry, plugin=plugin, subject=subject)
    ((_, check),), _ = risk_checks(loader, [loaded], session.bounds)
    order: Any = object()
    for words in ["it did not finish"] * FAILURES + ["is disabled for the rest of the session"]:
        with pytest.raises(PluginError, match=words):
            check(order)
    assert len(calls) == FAILURES


def test_f92_a_watchdog_can_see_which_call_is_being_made() -> None:
    """The plugin and the call are named around it, and nothing outside."""
    seen: list[object] = []

    @contextmanager
    def where(words: str) -> Iterator[None]:
        seen.append(words)
        yield
        seen.append("left")

    bounds = CallGuard(strict=False)
    bounds.where = where
    bounds.open_session(GuardSession(clock=ManualClock(BELL), on_failure=seen.append))

    def scan(*_: object) -> Signals:
        seen.append("scanning")
        return found()

    guard_plugin(STRATEGY, _made(window=WINDOW, scan=scan), bounds).scan(BARS, DAY)
    assert seen == ["strategy/theirs scan 0 2026-01-05T14:30:00+00:00", "scanning", "left"]


WRONG_SIGNALS = {
    "None": None,
    "a list": [1, 2],
    "no index": found(cells=()),
    "an index too many": found(cells=(np.array([0]), np.array([1]))),
    "a row beyond": found(cells=(np.array([SYMBOLS]),)),
    "a row before": found(cells=(np.array([-1]),)),
    "prices of text": found(price=np.array(["10"])),
    "prices of objects": found(price=np.array([object()])),
    "a list of prices": found(price=[10.0]),
    "two prices": found(price=np.array([10.0, 11.0])),
    "a matrix": found(price=np.array([[10.0]])),
    "whole prices": found(price=np.array([10])),
    "a broken minute": found(minute=np.array([5.0])),
    "a side of 0": found(side=np.array([0])),
    "a minute to come": found(minute=np.array([19])),
    "not a price": found(price=np.array([np.nan])),
    "a rule that is not there": found(rule=np.array([1])),
    "rules in a list": found(rules=["theirs"]),
    "a rule of bytes": found(rules=(b"theirs",)),
    "other exits": found(exits="never"),
    "a symbol twice": found(
        **{
            name: np.repeat(getattr(found(), name), 2)
            for name in ("minute", "side", "price", "strength", "stop", "target", "rule")
        },
        cells=(np.array([1, 1]),),
    ),
}


@pytest.mark.parametrize("what", WRONG_SIGNALS)
def test_f93_signals_of_a_wrong_kind_are_refused_where_they_enter(what: str) -> None:
    """Nothing of them is acted on, and it counts as a failure."""
    session = Session()
    bars = BARS.until(10)
    assert len(session.strategy(scan=lambda *_: WRONG_SIGNALS[what]).scan(bars, DAY)) == 0
    ((_, lost),) = session.reported
    assert lost.error.startswith(("scan: Its ", "scan: Strategy theirs returned", "scan: It returned", "scan: The "))


def test_f95_a_signal_that_is_repeated_is_refused() -> None:
    """Asked for the minutes from 6 on, the one of minute 5 that was given before is a fault."""
    session = Session()
    subject = session.strategy(scan=lambda *_: found())
    assert len(subject.scan(BARS, DAY, 5)) == 1
    assert len(subject.scan(BARS, DAY, 6)) == 0
    assert "a minute before 6" in session.reported[0][1].error


WRONG_CHECKS = {
    "None": None,
    "a generator": iter([compared()]),
    "a number": [1],
    "a name of bytes": [compared(name=b"theirs")],
    "an endless name": [compared(name="x" * 501)],
    "no reason": [compared(below="low")],
    "the reason that allows": [compared(unknown=Reason.ALLOWED)],
    "a plain value": [compared(value=1.0)],
    "values of text": [compared(value=np.array(["1"]))],
    "two values": [compared(value=np.array([1.0, 2.0]))],
    "a bound of text": [compared(low="0")],
    "three bounds": [compared(high=np.zeros(3))],
    "too many": [compared()] * (guarded.MOST_PARTS + 1),
}


@pytest.mark.parametrize("what", WRONG_CHECKS)
def test_f93_comparisons_of_a_wrong_kind_deny(what: str) -> None:
    """A filter that answers anything else has not judged."""
    session = Session()
    assert judged(session.filter(judge=lambda *_: WRONG_CHECKS[what]), found()) == [Reason.FILTER_FAILED]
    assert len(session.reported) == 1


def trigger(**fields: object) -> Trigger:
    """One sane trigger, but for what is given."""
    whole: dict[str, Any] = {"rule": "theirs", "side": 1, "value": np.zeros((SYMBOLS, 20)), "level": 1.0, "above": True}
    return Trigger(**(whole | fields))


def test_f93_triggers_are_judged_too() -> None:
    """What would break the near-miss line is refused; what is sound passes."""
    condition = Condition(name="theirs", value=np.zeros(1), level=np.ones(1), above=True)
    sound = [trigger(), trigger(when=(condition,), scale=np.ones((SYMBOLS, 1)), base=10.0, base_name="VWAP")]
    sound.append(trigger(base="vwap", base_name="VWAP"))
    assert Session().strategy(scan=fails, triggers=lambda *_: sound).triggers(BARS, DAY) == sound
    wrong_bases = (
        [trigger(base=np.zeros(7))],
        [trigger(base="x")],
        [trigger(base_name="x" * 1_000)],
        [trigger(base_name=7)],
    )
    for wrong in (["x"], [trigger(value=np.zeros(7))], [trigger(scale="x")], [trigger(when=("x",))], *wrong_bases):
        session = Session()
        assert session.strategy(scan=fails, triggers=lambda *_, given=wrong: given).triggers(BARS, DAY) == ()
        assert len(session.reported) == 1


def test_f94_a_flood_of_signals_switches_a_strategy_off_at_once() -> None:
    """More than a thousand signals of one minute are refused whole, and the first time is the last."""
    count = guarded.RUNAWAY + 1
    fields = {name: np.full((390, count), 10.0) for name in ("open", "high", "low", "close", "volume", "vwap")}
    bars = Bars(fields, tuple(f"S{number}" for number in range(count)))

    def flood(rows: int) -> Signals:
        columns = {name: np.repeat(getattr(found(), name), rows) for name in guarded._COLUMNS}
        return found(**columns, cells=(np.arange(rows),))

    session = Session()
    assert len(session.strategy(scan=lambda *_: flood(count - 1)).scan(bars, DAY)) == count - 1
    spread = attrs.evolve(flood(count), minute=5 + np.arange(count) % 2)
    assert len(session.strategy(scan=lambda *_: spread).scan(bars, DAY)) == count
    assert len(session.strategy(scan=lambda *_: flood(count)).scan(bars, DAY)) == 0
    ((_, lost),) = session.reported
    assert lost.off
    assert "1001 signals of one minute" in lost.error


def test_a_simulation_ends_with_a_sentence() -> None:
    """There a failure names the plugin and its distribution, and time does not count."""
    session = Session(strict=True, limit_s=SOON_S)
    with pytest.raises(
        PluginError, match=r"^The strategy theirs \(their-dist 1\) failed: it failed in a run: scan: Zero"
    ):
        session.strategy(scan=fails).scan(BARS, DAY)
    slow = session.clock.now()

    def scan(*_: object) -> Signals:
        began = dt.datetime.now(dt.UTC)
        while (dt.datetime.now(dt.UTC) - began).total_seconds() < 2 * SOON_S:
            pass
        return found()

    assert len(session.strategy(scan=scan).scan(BARS, DAY)) == 1
    assert (session.reported, session.clock.now()) == ([], slow)


def test_a_plugin_that_is_asked_outside_of_any_session_fails_with_a_sentence() -> None:
    """`tbot why` asks again what was compared; nothing is counted there."""
    subject = guard_plugin(STRATEGY, _made(window=WINDOW, scan=fails), CallGuard(strict=False))
    with pytest.raises(PluginError, match="theirs"):
        subject.scan(BARS, DAY)


def test_a_restart_counts_on() -> None:
    """What failed before a restart of the session counts, and what was off stays off."""
    first = Session()
    for _ in range(2):
        first.strategy(scan=fails).scan(BARS, DAY)
    again = Session()
    again.bounds.restore(first.reported)
    again.strategy(scan=fails).scan(BARS, DAY)
    assert again.reported[0][1].off
    third = Session()
    third.bounds.restore([*first.reported, *again.reported])
    assert third.bounds.is_off(STRATEGY)


def test_what_observes_or_is_awaited_is_marked_where_a_watchdog_looks() -> None:
    """Without a watchdog, as in a simulation, no mark is made; with one it is a text that the watchdog can read."""
    guard, seen = CallGuard(strict=False, clock=ManualClock(BELL)), list[str]()
    border = guard.border("extension/theirs")
    assert isinstance(border.mark("start"), nullcontext)

    def where(words: str) -> nullcontext[None]:
        seen.append(words)
        return nullcontext()

    guard.where = where
    with border.mark("start"):
        assert HungCall.of(seen[0], BELL) == HungCall(
            plugin="extension/theirs", call="start", turn=0, moment=BELL, noticed=BELL
        )


def test_f92_a_plugin_that_hung_is_off_before_its_session_begins_and_no_longer() -> None:
    """From the start of the run it is not called; its session records it, and the next one calls it again."""
    session = Session()
    hung = [(BELL, FailedCall(plugin="strategy/theirs", call="tbot_event", turn=0, error="it hung", off=True))]
    session.bounds.note_hung(hung)
    session.open()
    assert session.bounds.border("strategy/theirs").is_off()
    session.strategy(scan=lambda *_: pytest.fail("it is off")).scan(BARS, DAY)
    session.bounds.record_hung(hung)
    assert session.bounds.is_off(STRATEGY)
    assert session.reported == hung
    session.open()
    session.bounds.record_hung([])
    assert not session.bounds.is_off(STRATEGY)


def test_f92_a_filter_that_hung_while_it_fetched_is_not_asked_again() -> None:
    """It is off for the session in every call."""
    session = Session()
    session.bounds.note_hung([(BELL, FailedCall(plugin="filter/theirs", call="refresh", turn=0, error="", off=True))])
    subject = fetching(lambda: pytest.fail("it is off"), session)
    with pytest.raises(PluginError, match="disabled for the rest of the session"):
        refreshed(subject)


def test_f92_a_broker_that_hung_stays_in_use_and_each_hang_is_recorded_once() -> None:
    """Exits need it: a restart records the hang that no journal has, and none twice."""
    session = Session()
    hung = (BELL, FailedCall(plugin="broker/theirs", call="submit", turn=0, error="it hung", off=False))
    session.bounds.note_hung([hung])
    session.bounds.record_hung([hung])
    assert session.reported == [hung]
    session.open()
    session.bounds.restore([hung])
    session.bounds.record_hung([hung, hung])
    assert session.reported == [hung] * 2
    assert not session.bounds.border("broker/theirs").is_off()
