"""What a run notes beside its decisions: first prints that were left out, windows that miss the bell."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.journal import records
from tbot_core.journal.store import read_journal
from tbot_core.model.clock import SystemClock
from tbot_core.system import filesystem
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

SUMMER = "2018-07-02"


def replay(home: Path, *settings: str) -> tuple[list[dict[str, object]], tuple[str, ...]]:
    """The windows' events of one summer session of AAA and BBB, and what was said of the bell.

    AAA opens 5 % away from where its first minute trades.
    """
    bench = StoreFixture(folder=home / "data")
    filesystem.make_folder(bench.folder)
    (session,) = exchange_sessions(SUMMER, SUMMER)
    first = pl.col("ts") == session.open
    odd = rising_bars("AAA", [session]).with_columns(
        open=pl.when(first).then(105.0).otherwise("open"), high=pl.when(first).then(105.0).otherwise("high")
    )
    bench.put(odd, rising_bars("BBB", [session]))
    lines = ["STRATEGY_SEQUENCE=open", "FILTERS=none", "BROKER_NAME=PAPER", *settings]
    filesystem.write_atomic(home / ".env_bot", "\n".join(lines).encode())
    assembly = assemble(home, "replay", SystemClock())
    day = session.date
    request = FeedRequest(kind="replay", first=day, last=day, bars=bench.bars, calendar=assembly.calendar)
    outcome = asyncio.run(run(RunPlan(assembly=assembly, request=request, wall=SystemClock()), RunWatcher()))
    journal = read_journal(outcome.journal)
    windows = [dict(event.payload) for event in journal.events(kind=records.WINDOW_CLOSED)]
    journal.close()
    return windows, assembly.missed_bells(session)


@pytest.mark.slow
def test_a_bad_first_print_is_noted(tmp_path: Path) -> None:
    """The end of a window that begins at the bell names the symbols whose first bar was left out of the range."""
    windows, said = replay(tmp_path)
    assert [window["bad_prints"] for window in windows] == [["AAA"]]
    assert said == ()


@pytest.mark.slow
def test_a_later_window_knows_no_first_print(tmp_path: Path) -> None:
    """With TIME_ANCHOR=utc 14:30 is an hour after the bell in summer: it is said, and no first bar is left out."""
    windows, said = replay(tmp_path, "TIME_ANCHOR=utc", "START_TIME_OPEN=14:30")
    assert [window["bad_prints"] for window in windows] == [[]]
    (sentence,) = said
    assert "60 minutes after the opening bell" in sentence


@pytest.mark.slow
@pytest.mark.parametrize(("short_type", "count"), [("ShortSell", 1), ("disabled", 0)])
def test_simulated_short_sales_say_what_they_assume(tmp_path: Path, short_type: str, count: int) -> None:
    """Nobody reports which symbols can be sold short in a simulation: where shorts are made, the notes name that.

    They name the checks that FILTERS takes away, too.
    """
    lines = ["STRATEGY_SEQUENCE=open,mid", "FILTERS=none", "BROKER_NAME=PAPER", f"SHORT_TYPE_MID={short_type}"]
    filesystem.write_atomic(tmp_path / ".env_bot", "\n".join(lines).encode())
    for mode in ("replay", "backtest"):
        notes = assemble(tmp_path, mode, SystemClock()).notes
        assert len([note for note in notes if "every symbol is assumed to be shortable" in note]) == count
        assert [note for note in notes if note.startswith("Off by FILTERS: price_volume (price, volume, gap")]
