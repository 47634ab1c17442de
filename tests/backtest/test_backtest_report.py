"""The report of a backtest is that of a replay: the same figures, charts and levels."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

from tbot_core.backtest.engine import BacktestRange, run_backtest
from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.errors import PluginError
from tbot_core.model.clock import ManualClock
from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.engine.assembly import Assembly
    from tbot_core.model.bars import Bars
    from tbot_core.model.day_facts import DayFacts
    from tbot_core.model.signals import Trigger
    from tbot_core.plugins.loader import LoadedPlugin
    from tbot_core.reports.summary import RunSummary

CLOCK = ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC))


def replay(home: Path, first: dt.date, last: dt.date) -> RunSummary:
    """Replay a range and return its summary."""
    return replayed(assemble(home, "replay", CLOCK), first, last)


def replayed(assembly: Assembly, first: dt.date, last: dt.date) -> RunSummary:
    """The same with an assembly."""
    request = FeedRequest(
        kind="replay",
        first=first,
        last=last,
        symbols=assembly.settings.trading.universe,
        bars=assembly.settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )
    return asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=CLOCK), RunWatcher())).summary


def page(summary: RunSummary) -> str:
    """The report of a run."""
    return Path(summary.report).read_text(encoding="utf-8")


def points(summary: RunSummary) -> Any:
    """The data of the charts in a run's report."""
    (text,) = re.findall(r'id="data">(.*?)</script>', page(summary), re.DOTALL)
    return parse_json(text)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize(("bars", "seed"), [(1, 1000), (8, 8002)])
def test_replay_and_backtest_draw_the_same(random_instance: Callable[[int], Any], bars: int, seed: int) -> None:
    """On random bars both have the same curves, bars, levels, stop moves, entries and exits, and the same CSV file."""
    instance = random_instance(bars)
    instance.settle(seed, TRAILING_STOP="true")
    replayed = replay(instance.home, instance.first, instance.last)
    tested = run_backtest(
        assemble(instance.home, "backtest", CLOCK), BacktestRange(first=instance.first, last=instance.last)
    )
    drawn = points(tested)
    assert points(replayed) == drawn
    assert len(drawn["trades"]) == len(tested.trades)
    assert all(one["b"] and one["l"] and one["s"] for one in drawn["trades"])
    assert any(len(one["s"]) > 1 for one in drawn["trades"])
    files = [Path(one.report).with_suffix(".csv").read_bytes() for one in (replayed, tested)]
    assert files[0].replace(b",paper,", b",,") == files[1].replace(b",paper,", b",,")
    assert "no price chart" not in page(tested)


class WrongBase:
    """A strategy whose triggers have a base that no chart can draw."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.window, self.scan = inner.window, inner.scan

    def triggers(self, bars: Bars, day: DayFacts) -> list[Trigger]:
        """The strategy's own, measured from nothing."""
        return [attrs.evolve(one, base=cast("Any", "opening")) for one in self._inner.triggers(bars, day)]


def with_wrong_base(assembly: Assembly) -> Assembly:
    """The assembly with such a strategy in place of `open`."""

    def spoilt(one: LoadedPlugin) -> LoadedPlugin:
        create = one.plugin.create
        wrong = attrs.evolve(one.plugin, create=lambda config, context: WrongBase(create(config, context)))
        return attrs.evolve(one, plugin=wrong) if one.entry.name == "open" else one

    return attrs.evolve(assembly, loaded=tuple(map(spoilt, assembly.loaded)), placed={})


def test_triggers_that_end_a_replay_end_a_backtest(random_instance: Callable[[int], Any]) -> None:
    """In both the same error names the field and what is expected, before a chart is drawn."""
    instance = random_instance(1)
    instance.settle(1000, STRATEGY_SEQUENCE="open")
    words = re.escape("is 'opening': prices, or one of the columns high, low, vwap, volume, are expected.")
    with pytest.raises(PluginError, match=words) as tested:
        run_backtest(
            with_wrong_base(assemble(instance.home, "backtest", CLOCK)),
            BacktestRange(first=instance.first, last=instance.last),
        )
    with pytest.raises(PluginError) as met:
        replayed(with_wrong_base(assemble(instance.home, "replay", CLOCK)), instance.first, instance.last)
    assert str(met.value) == str(tested.value)
