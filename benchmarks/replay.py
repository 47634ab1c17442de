"""How fast a replay is, and that a session costs the same in a long one.

    python benchmarks/replay.py [--check]

Random walks of 50 symbols, three strategies with wide limits: about nine trades a session. Prints the processor time
of a session in replays of 5, 21 and 63 sessions, and of one without a trade. Set-up and report are included.
`--check` exits with 1 when 21 sessions are slower than the target, or a session of the longest replay costs much more
than one of the middle one.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click
import numpy as np
import polars as pl
from decision import SETTINGS

from tbot_core.contracts import FeedRequest
from tbot_core.engine.bootstrap import assemble
from tbot_core.engine.run import run
from tbot_core.engine.run_plan import RunPlan, RunWatcher
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.clock import SystemClock
from tbot_core.testing.store import StoreFixture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tbot_core.model.calendar import Session

SYMBOLS = 50
LENGTHS = (5, 21, 63)
TARGET = 20.0
GROWTH = 1.25
QUIET = {"STRATEGY_SEQUENCE": "open", "STRAT_OPEN_BUFFER": "0.4"}


@attrs.frozen(kw_only=True)
class Replayed:
    """A replay's processor time and its number of trades."""

    sessions: int
    seconds: float
    trades: int

    @property
    def speed(self) -> float:
        """Sessions per second of processor time."""
        return self.sessions / self.seconds


def bars(symbol: str, session: Session, generator: np.random.Generator) -> pl.DataFrame:
    """A random walk, 2 % of its bars missing."""
    close = np.round(50 * np.exp(np.cumsum(generator.normal(0, 0.0006, session.minutes))), 2)
    opened = np.concatenate(([50.0], close[:-1]))
    columns = {
        "ts": [session.moment(minute) for minute in range(session.minutes)],
        "symbol": symbol,
        "open": opened,
        "high": np.maximum(opened, close) + 0.02,
        "low": np.minimum(opened, close) - 0.02,
        "close": close,
        "volume": np.full(session.minutes, 50_000),
    }
    return pl.DataFrame(columns).filter(pl.Series(generator.random(session.minutes) > 0.02))


def fill(home: Path, sessions: tuple[Session, ...]) -> None:
    """Write settings, and store bars and the VIX of the sessions."""
    generator = np.random.default_rng(3)
    vix = pl.DataFrame({"date": [session.date for session in sessions]}).with_columns(
        open=pl.lit(20.0), high=pl.lit(21.0), low=pl.lit(19.0), close=pl.lit(20.0)
    )
    (home / "data").mkdir()
    (home / ".env_bot").write_text("".join(f"{key}={value}\n" for key, value in SETTINGS.items()))
    frames = (pl.concat([bars(f"S{row:03}", session, generator) for session in sessions]) for row in range(SYMBOLS))
    StoreFixture(folder=home / "data").put(vix, *frames)


def replay(home: Path, sessions: tuple[Session, ...], overrides: Mapping[str, str]) -> Replayed:
    """Replay the sessions."""
    assembly = assemble(home, "replay", SystemClock(), overrides)
    request = FeedRequest(
        kind="replay",
        first=sessions[0].date,
        last=sessions[-1].date,
        bars=assembly.settings.instance.bars,
        calendar=assembly.calendar,
        extra_facts=assembly.extra_facts,
    )
    begun = time.process_time()
    plan = RunPlan(assembly=assembly, request=request, wall=SystemClock())
    outcome = asyncio.run(run(plan, RunWatcher()))
    seconds = time.process_time() - begun
    return Replayed(sessions=len(sessions), seconds=seconds, trades=len(outcome.summary.trades))


@click.command()
@click.option("--check", is_flag=True, help="Exit with 1 when a target is missed.")
def main(*, check: bool) -> None:
    """Print the figures."""
    days = ExchangeCalendar().sessions(dt.date(2018, 1, 2), dt.date(2018, 12, 31))[: max(LENGTHS)]
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), days)
        replay(Path(folder), days[:1], {})  # imports
        found = {length: replay(Path(folder), days[:length], {}) for length in LENGTHS}
        quiet = replay(Path(folder), days[:21], QUIET)
    for one in (*found.values(), quiet):
        click.echo(
            f"replay of {one.sessions} sessions, {SYMBOLS} symbols, {one.trades} trades: "
            f"{one.speed:.1f} sessions a processor second"
        )
    _, middle, longest = (found[length] for length in LENGTHS)
    click.echo(f"a session of {longest.sessions} costs {middle.speed / longest.speed:.2f} x one of {middle.sessions}")
    if check and (middle.speed < TARGET or middle.speed > GROWTH * longest.speed):
        sys.exit(1)


if __name__ == "__main__":
    main()
