"""Stored bars: a month read from its block against the Parquet files, an import for five million bars, and its memory.

Simulated bars of 50 symbols over a year of sessions; `--symbols N` takes other numbers. Prints ratios and processor
seconds; each import runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from tbot_core.marketdata.store.importer import RefusedFile, import_files, source_files
from tbot_core.marketdata.store.selection import select_symbols
from tbot_core.marketdata.store.source_files import ImportOptions
from tbot_core.marketdata.store.store import BarStore
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST: Final = dt.date(2018, 1, 1)
LAST: Final = dt.date(2018, 12, 31)
SYMBOLS: Final = 50
PER: Final = 5_000_000
_MINUTE_US: Final = 60_000_000
_SECOND_US: Final = 1_000_000
_KIB: Final = 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=SYMBOLS)
    parser.add_argument("--last", type=dt.date.fromisoformat, default=LAST)
    parser.add_argument("--import", nargs=2, dest="measured", metavar=("SOURCES", "STORE"))
    given = parser.parse_args()
    if given.measured:
        measure_import(*map(Path, given.measured))
        return
    with tempfile.TemporaryDirectory(prefix="tbot-store-") as name:
        folder = Path(name)
        bars = simulate(folder / "parquet", given.symbols, given.last)
        as_csv(folder / "parquet", folder / "csv")
        one_file(folder / "parquet", folder / "one")
        print(f"{given.symbols} symbols, {bars:,} bars of one minute")
        for kind, what in (("parquet", "a Parquet file a symbol"), ("csv", "a CSV file a symbol"), ("one", "one file")):
            found = imported(folder / kind, folder / f"store-{kind}")
            seconds = found["cpu_s"] * PER / bars
            print(f"import, {what}: {seconds:.1f} CPU s for {PER:,} bars, peak {found['peak_mib']:.0f} MiB")
        read(folder / "store-parquet", given.last, bars)


def read(store: Path, last: dt.date, bars: int) -> None:
    """Read all bars from Parquet files, which makes blocks, then from these."""
    symbols = BarStore(folder=store, calendar=ExchangeCalendar()).symbols(FIRST, last)
    parquet = sum(measured(partial(walk, store, last, few)) for few in eighths(symbols))
    made = measured(partial(walk, store, last))
    block = min(measured(partial(walk, store, last)) for _ in range(3))
    print(
        f"read, Parquet : block = {parquet / block:.0f} : 1 ({parquet:.2f} and {block:.3f} CPU s, with facts and hash)"
    )
    print(f"read for the first time, blocks being made: {made:.2f} CPU s")
    print(f"read from blocks: {bars / block / 1e6:.0f} million bars a CPU second")


def eighths(symbols: Sequence[str]) -> list[Sequence[str]]:
    """The symbols in parts so small that a store reads their Parquet files."""
    size = max(1, (len(symbols) - 1) // 8)
    return [symbols[start : start + size] for start in range(0, len(symbols), size)]


def walk(store: Path, last: dt.date, symbols: Sequence[str] = ()) -> float:
    """What a backtest reads: selection, hash, facts, and each close; without symbols those of all."""
    bars = BarStore(folder=store, calendar=ExchangeCalendar())
    chosen = select_symbols(bars, FIRST, last, symbols)
    return sum(float(np.nansum(block.bars.field("close"))) for block in bars.blocks(FIRST, last, chosen.symbols))


def measured(work: Callable[[], object]) -> float:
    """The processor seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def imported(sources: Path, store: Path) -> dict[str, float]:
    """Import in a process of its own."""
    command = [sys.executable, __file__, "--import", str(sources), str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  this file itself
    found: dict[str, float] = parse_json(done.stdout)
    return found


def measure_import(sources: Path, store: Path) -> None:
    """Import, and print processor seconds and peak memory."""
    refused: list[RefusedFile] = []

    def collect(event: object) -> None:
        if isinstance(event, RefusedFile):
            refused.append(event)

    files: Sequence[Path] = source_files(sources)
    cpu = measured(lambda: import_files(store, ExchangeCalendar(), files, ImportOptions(), collect))
    if refused:
        raise SystemExit(refused[0].reason)
    # Not getrusage: its peak includes that of the parent before the start of this program.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    peak = int(status["VmHWM"].split()[0]) / _KIB
    print(json.dumps({"cpu_s": cpu, "peak_mib": peak}))


def simulate(folder: Path, symbols: int, last: dt.date) -> int:
    """Write random walks, a Parquet file for each symbol; returns the number of bars."""
    folder.mkdir()
    sessions = ExchangeCalendar().sessions(FIRST, last)
    starts = [int(session.open.timestamp()) * _SECOND_US for session in sessions]
    times = np.concatenate(
        [start + np.arange(one.minutes) * _MINUTE_US for start, one in zip(starts, sessions, strict=True)]
    )
    for number in range(symbols):
        chance = np.random.default_rng(number)
        close = np.maximum(5.0, 50 + 10 * (number % 7) + np.cumsum(chance.normal(0, 0.02, len(times))))
        opened = np.concatenate([close[:1], close[:-1]])
        beyond = np.abs(chance.normal(0, 0.02, (2, len(times))))
        frame = pl.DataFrame(
            {
                "ts": pl.Series(times).cast(pl.Datetime("us", "UTC")),
                "open": opened.round(2),
                "high": (np.maximum(opened, close) + beyond[0]).round(2),
                "low": (np.minimum(opened, close) - beyond[1]).round(2),
                "close": close.round(2),
                "volume": chance.integers(100, 50_000, len(times)),
            }
        )
        frame.write_parquet(folder / f"S{number:03}.parquet")
    return len(times) * symbols


def as_csv(sources: Path, folder: Path) -> None:
    """The same as CSV files."""
    folder.mkdir()
    for path in source_files(sources):
        frame = pl.read_parquet(path).with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
        frame.write_csv(folder / f"{path.stem}.csv")


def one_file(sources: Path, folder: Path) -> None:
    """The same as one Parquet file, minute by minute."""
    folder.mkdir()
    frames = [pl.scan_parquet(path).with_columns(symbol=pl.lit(path.stem)) for path in source_files(sources)]
    pl.concat(frames).sort("ts", "symbol").collect().write_parquet(folder / "all.parquet")


if __name__ == "__main__":
    main()
