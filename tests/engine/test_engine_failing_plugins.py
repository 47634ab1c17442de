"""Paper trading with plugins that fail or hang: their entries are missed, exits go on, and a repeat says the same."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.contracts import FeedRequest
from tbot_core.engine import control
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.control import ControlVerb
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunOutcome, RunPlan, RunWatcher
from tbot_core.errors import PluginError
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.model.calendar import EarlyClose, ExchangeCalendar
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery
from tbot_core.plugins import hung_plugins as lost_calls
from tbot_core.plugins import trial_records as known
from tbot_core.plugins.call_guard import FAILURES
from tbot_core.plugins.hung_plugins import HungCall
from tbot_core.rehearsal.virtual_loop import LoopClock, VirtualLoop, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.engine.assembly import Assembly
    from tbot_core.engine.session.session import TradingSession
    from tbot_core.journal.store import Event

MORNING = dt.datetime(2026, 11, 24, 13, 0, tzinfo=dt.UTC)
BELL = dt.datetime(2026, 11, 24, 14, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance with the demo's settings."""
    create_demo_instance(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _quiet_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


class Spoilt:
    """A plugin's object that does one thing otherwise, `times` times, after `sound` calls."""

    def __init__(self, inner: Any, name: str, deed: Callable[[], Any], *, sound: int = 0, times: int = 99) -> None:
        self._inner, self._name, self._deed = inner, name, deed
        self._sound, self._times = sound, times
        self.calls = 0
        for part in ("scan", "screen", "judge", "triggers"):
            if hasattr(inner, part):
                setattr(self, part, partial(self._do, part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _do(self, name: str, *arguments: Any) -> Any:
        if name == self._name:
            self.calls += 1
            if self._sound < self.calls <= self._sound + self._times:
                return self._deed()
        return getattr(self._inner, name)(*arguments)


def spoil(assembly: Assembly, pair: tuple[str, str], make: Callable[[Any], Spoilt]) -> Assembly:
    """The assembly with one plugin's object replaced."""
    loaded = []
    for one in assembly.loaded:
        if (one.entry.kind, one.entry.name) == pair:
            create = one.plugin.create
            spoilt = lambda config, context, create=create: make(create(config, context))  # noqa: E731
            loaded.append(attrs.evolve(one, plugin=attrs.evolve(one.plugin, create=spoilt)))
        else:
            loaded.append(one)
    changed = attrs.evolve(assembly, loaded=tuple(loaded), placed={})
    filters = {one.entry.name: one for one in loaded if one.entry.kind == "filter"}
    return attrs.evolve(changed, filters={name: changed.build(filters[name]) for name in assembly.filters})


def trade(
    home: Path, now: dt.datetime, pair: tuple[str, str], make: Callable[[Any], Spoilt], until: dt.datetime | None = None
) -> tuple[RunOutcome, list[Event]]:
    """Trade a session on paper with one plugin spoilt, to its end or until a moment."""
    loop = VirtualLoop()
    clock = LoopClock(loop, now)
    assembly = attrs.evolve(spoil(assemble(home, "paper", clock), pair, make), calendar=CALENDAR)
    request = FeedRequest(kind="live", calendar=CALENDAR)
    plan = RunPlan(assembly=assembly, request=request, wall=clock, once=True, watch_s=5.0)

    def minute(session: TradingSession, index: int) -> None:
        if until == session.session.moment(index + 1):
            control.write_request(home / "control", ControlVerb.STOP_KEEP, actor="ann", now=clock.now())

    outcome = run_virtual(lambda: run(plan, RunWatcher(on_minute=minute)), loop)
    journal = read_journal(outcome.journal)
    found = list(journal.events())
    journal.close()
    return outcome, found


def lost(events: list[Event]) -> list[tuple[str, str, bool]]:
    """The failures of plugins that the journal tells of."""
    kinds = [event.payload for event in events if event.kind == records.PLUGIN_FAILED]
    return [(one["plugin"], one["call"], one["off"]) for one in kinds]


def broken() -> Any:
    """A fault of the plugin."""
    raise ZeroDivisionError("theirs")


def stuck() -> Any:
    """A plugin that never comes back."""
    while True:
        pass


CALENDAR = ExchangeCalendar(
    overrides={MORNING.date() + dt.timedelta(days=days): EarlyClose(close=dt.time(11, 30)) for days in (0, 1)}
)
"""Sessions of two hours."""

OPEN = ("strategy", "open")
pytestmark = pytest.mark.slow  # each trades whole sessions


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_f91_a_strategy_that_raises_never_stops_an_exit(home: Path) -> None:
    """It fails while its positions are held: it is off after three times, and they are closed by their rules."""
    outcome, events = trade(home, MORNING, OPEN, lambda inner: Spoilt(inner, "scan", broken, sound=6))
    assert lost(events) == [("strategy/open", "scan", False)] * (FAILURES - 1) + [("strategy/open", "scan", True)]
    failed = next(event.applied for event in events if event.kind == records.PLUGIN_FAILED)
    mine = [trade for trade in outcome.summary.trades if trade.strategy == "open"]
    assert any(trade.entry_time < failed < trade.exit_time for trade in mine)
    assert not any(trade.entry_time > failed + MINUTE for trade in mine)
    assert {trade.strategy for trade in outcome.summary.trades} > {"open"}
    assert outcome.open == ()
    results = known.read_records(home / "data").results
    (record,) = [one for key, one in results.items() if key.startswith("strategy/open/")]
    assert (record.failures, record.crash) == (FAILURES, "it failed in a run: scan: ZeroDivisionError: theirs")


@pytest.mark.parametrize(("call", "code"), [("judge", "FILTER_FAILED"), ("screen", "SCREEN_FAILED")])
def test_f91_a_filter_that_raises_lets_nothing_in(home: Path, call: str, code: str) -> None:
    """Unknown means deny, with its own reason code; the session goes on."""
    filters = ("filter", "price_volume")
    outcome, events = trade(home, MORNING, filters, lambda inner: Spoilt(inner, call, broken))
    assert outcome.summary.trades == ()
    assert len(lost(events)) == FAILURES
    screened = [event.payload["reasons"].keys() for event in events if event.kind == records.SCREENED]
    denials = [event.payload["reason"] for event in events if event.kind == records.DECISION]
    if call == "judge":
        assert set(denials) == {code}
    else:  # the window of `close` is outside of the short session
        assert {one for keys in screened for one in keys} == {code, "WINDOW_OUTSIDE_SESSION"}
    kinds = [event.kind for event in events]
    assert kinds.index(records.SESSION_OPENED) < kinds.index(records.PLUGIN_FAILED)


def test_f91_a_failing_strategy_ends_a_simulation_with_a_sentence(home: Path) -> None:
    """There nothing is at stake, so the fault is said at once and nothing is traded without the strategy."""
    assembly = spoil(assemble(home, "demo", SystemClock()), OPEN, lambda inner: Spoilt(inner, "scan", broken))
    with pytest.raises(PluginError, match=r"The strategy open .* failed: it failed in a run: scan: ZeroDivisionError"):
        asyncio.run(run(RunPlan(assembly=assembly, request=FeedRequest(kind="demo"), wall=SystemClock()), RunWatcher()))


@pytest.mark.first(0)
def test_f92_a_run_goes_on_without_the_plugin_that_it_was_ended_for(home: Path) -> None:
    """The watchdog's note disables the plugin for the session without a call; exits go on."""
    until = BELL + 27 * MINUTE
    sound: Callable[[Any], Spoilt] = lambda inner: Spoilt(inner, "scan", broken, times=0)  # noqa: E731
    trade(home, MORNING, OPEN, sound, until=until)
    moment, now = until + MINUTE, until + MINUTE + dt.timedelta(seconds=20)
    lost_calls.note_hung_call(
        home / "data", HungCall(plugin="strategy/open", call="scan", turn=0, moment=moment, noticed=now)
    )
    calls: list[Spoilt] = []

    def counted(inner: Any) -> Spoilt:
        calls.append(Spoilt(inner, "scan", broken, times=0))
        return calls[-1]

    outcome, events = trade(home, now, OPEN, counted)
    assert lost(events) == [("strategy/open", "scan", True)]
    assert [event.applied for event in events if event.kind == records.PLUGIN_FAILED] == [now]
    assert calls[0].calls == 0
    mine = [one for one in outcome.summary.trades if one.strategy == "open"]
    assert mine
    assert all(one.entry_time < moment for one in mine)
    again, repeated = trade(home, MORNING + dt.timedelta(days=1), OPEN, counted)
    assert again.summary.sessions == 1
    assert lost(repeated) == lost(events)


def test_a_run_with_isolated_plugins_trades_alike(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy and a filter in workers of their own: the same trades and the same events, and neither is imported."""
    other = tmp_path / "other"
    create_demo_instance(other)
    request = FeedRequest(kind="demo")

    def demo(place: Path) -> RunOutcome:
        assembly = assemble(place, "demo", SystemClock())
        return asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=SystemClock()), RunWatcher()))

    whole = demo(home)
    monkeypatch.setenv(discovery.ISOLATE_VARIABLE, "open,price_volume")
    for name in [name for name in sys.modules if name.startswith(("tbot_strategy_open", "tbot_filter_price"))]:
        monkeypatch.delitem(sys.modules, name)
    apart = demo(other)
    assert apart.summary.trades == whole.summary.trades
    assert any(one.strategy == "open" for one in whole.summary.trades)
    assert not [name for name in sys.modules if name.startswith(("tbot_strategy_open", "tbot_filter_price"))]
