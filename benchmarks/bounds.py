"""What it costs to bound a plugin's call: a scan of 500 symbols plain, within its bounds, and in a worker of its own.

Prints medians of a minute's scan, their ratio, and what a call that does nothing costs within a limit.
"""

from __future__ import annotations

import datetime as dt
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tbot_core.contracts import Context
from tbot_core.model.bars import FIELDS, MinuteSlice, Tape
from tbot_core.model.clock import ManualClock, SystemClock
from tbot_core.model.day_facts import DayFacts
from tbot_core.model.window import Window
from tbot_core.plugins import discovery, isolation, probe, trial_records
from tbot_core.plugins.call_guard import CallGuard, GuardSession
from tbot_core.plugins.failure import PluginFailure
from tbot_core.plugins.guarded import guard_plugin
from tbot_core.plugins.loader import PluginLoader, build_plugin
from tbot_core.system import log
from tbot_core.system.timeouts import call_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.contracts import Strategy

SYMBOLS, MINUTES, ROUNDS = 500, 390, 5
WINDOW = Window(start=0, analysis=15, breakout=300, monitoring=60)


def made(folder: Path, *, apart: bool) -> Strategy:
    """The strategy `open`, here or in a worker."""
    (listing,) = [
        one for one in discovery.installed_plugins() if (one.entry.kind, one.entry.name) == ("strategy", "open")
    ]
    if apart:
        known = trial_records.with_outcomes(
            trial_records.TrialRecords(), [probe.probe_plugin(listing.entry)], SystemClock().now()
        )
        trial_records.write_records(folder, known)
        (loaded,), _ = isolation.isolated_offers([("strategy", "open")], [listing], folder, {})
    else:
        found = PluginLoader().load(listing.entry)
        if isinstance(found, PluginFailure):
            raise SystemExit(found.sentence)
        loaded = found
    context = Context(clock=SystemClock(), log=log.logger("benchmark"), data_dir=folder)
    strategy: Strategy = build_plugin(loaded, loaded.plugin.config(window=WINDOW), context)  # type: ignore[assignment]  # it is one
    return strategy


def scans(strategy: Strategy) -> list[float]:
    """Microseconds of each minute's scan."""
    generator = np.random.default_rng(1)
    close = np.round(50 * np.exp(np.cumsum(generator.normal(0, 0.0006, (MINUTES, SYMBOLS)), axis=0)), 2)
    unknown = np.full(SYMBOLS, np.nan)
    day = DayFacts(
        previous_close=close[0], average_volume=unknown, market_cap=unknown, atr=unknown, vix=unknown[:1],
        restricted=np.zeros(SYMBOLS, dtype=bool),
    )  # fmt: skip
    found = []
    for _ in range(ROUNDS):
        tape = Tape(tuple(f"S{row}" for row in range(SYMBOLS)), MINUTES)
        for index in range(WINDOW.entry_end):
            tape.append(MinuteSlice(index=index, **dict.fromkeys((*FIELDS, "vwap"), close[index])))
            if index >= WINDOW.entry:
                begun = time.perf_counter()
                strategy.scan(tape.bars, day, index)
                found.append((time.perf_counter() - begun) * 1e6)
    return found


def main() -> None:
    """Print the figures."""
    show: Callable[[str], int] = sys.stdout.write
    bounds = CallGuard(strict=False)
    bounds.open_session(
        GuardSession(clock=ManualClock(dt.datetime(2026, 1, 5, tzinfo=dt.UTC)), on_failure=lambda _lost: None)
    )
    (listing,) = [
        one for one in discovery.installed_plugins() if (one.entry.kind, one.entry.name) == ("strategy", "open")
    ]
    with tempfile.TemporaryDirectory() as folder:
        plain, apart = made(Path(folder), apart=False), made(Path(folder), apart=True)
        subjects = {
            "plain": plain,
            "bounded": guard_plugin(listing.entry, plain, bounds),
            "isolated": guard_plugin(listing.entry, apart, bounds),
        }
        medians = {name: statistics.median(scans(one)) for name, one in subjects.items()}
    for name, median in medians.items():
        show(f"scan of {SYMBOLS} symbols, {name}: median {median:.0f} us, {median / medians['plain']:.2f} x plain\n")
    begun = time.perf_counter()
    for _ in range(10_000):
        call_within(2.0, int)
    show(f"a call that does nothing, within a limit: {(time.perf_counter() - begun) * 1e2:.1f} us\n")


if __name__ == "__main__":
    main()
