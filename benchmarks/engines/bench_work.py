"""The work of the engine comparison, and how a process measures its engine at it.

Runs in the environment of every engine, so it needs NumPy alone. The work is an opening-range breakout over simulated
one-minute bars: range of the first minutes, entry at the next open after the first close beyond
high x (1 + buffer) or below low x (1 - buffer), exit at the next open after a close at or beyond the range's other
side, else at the open of the minute `leave`; long and short, a fixed number of shares, at most one trade for each
symbol and session.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import gc
import hashlib
import itertools
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Prices = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FIELDS = ("open", "high", "low", "close", "volume")
MINUTES = 390
QUANTITY = 100
JUDGED = 4
"""Of so many sets of a sweep every engine and the plain loop list their trades."""
COLUMNS = ("symbol", "side", "entry_time", "entry_price", "exit_time", "exit_price", "quantity", "pnl")
WORK, RESULT, TRADES, SETS = "work.json", "result.json", "trades.csv", "sets.json"
_MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The parameters: minutes of the range, of entries and of management, and the distance beyond the range."""

    range_minutes: int = 20
    breakout: int = 10
    monitoring: int = 30
    buffer: float = 0.0017

    @property
    def entry_end(self) -> int:
        """The minute after the last one that may trigger an entry."""
        return self.range_minutes + self.breakout

    @property
    def leave(self) -> int:
        """The minute at whose open positions are closed."""
        return self.entry_end + self.monitoring


def sweep_rules() -> tuple[Rules, ...]:
    """200 sets of parameters."""
    grid = itertools.product((10, 15, 20, 25, 30), (10, 20), (20, 30, 45, 60), (0.001, 0.0014, 0.0017, 0.0024, 0.003))
    return tuple(Rules(range_minutes=a, breakout=b, monitoring=c, buffer=d) for a, b, c, d in grid)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Symbols, and the open of each session in UTC nanoseconds; every session has 390 minutes without a hole."""

    symbols: tuple[str, ...]
    opens_ns: tuple[int, ...]
    seed: int
    rules: Rules = Rules()

    def save(self, folder: Path) -> None:
        """Write it for the processes of the engines."""
        (folder / WORK).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, symbols: int | None = None) -> Work:
        """Read it; with `symbols` only so many of the symbols."""
        found = json.loads((folder / WORK).read_text(encoding="utf-8"))  # noqa: TID251 - without tbot's own reader
        return cls(
            symbols=tuple(found["symbols"][:symbols]),
            opens_ns=tuple(found["opens_ns"]),
            seed=found["seed"],
            rules=Rules(**found["rules"]),
        )

    @property
    def bars(self) -> int:
        """The number of bars."""
        return len(self.symbols) * len(self.opens_ns) * MINUTES

    @property
    def times_ns(self) -> npt.NDArray[np.int64]:
        """The start of every minute, all sessions in a row."""
        opens = np.array(self.opens_ns, dtype=np.int64)
        return np.asarray(opens[:, None] + np.arange(MINUTES, dtype=np.int64) * _MINUTE_NS).ravel()

    def fields(self, folder: Path) -> dict[str, Prices]:
        """The bars, by field; shape (symbols, sessions x minutes)."""
        return {name: np.load(folder / f"{name}.npy")[: len(self.symbols)] for name in FIELDS}


@dataclass(frozen=True, slots=True)
class BenchTrade:
    """A trade; times are starts of minutes in UTC nanoseconds, `side` is 1 for long and -1 for short."""

    symbol: str
    side: int
    entry_ns: int
    entry_price: float
    exit_ns: int
    exit_price: float
    quantity: float
    pnl: float

    def row(self) -> tuple[str, ...]:
        """The cells of its line in the list of trades: prices and P&L in cents."""
        return (
            self.symbol,
            "long" if self.side > 0 else "short",
            _stamp(self.entry_ns),
            f"{self.entry_price:.2f}",
            _stamp(self.exit_ns),
            f"{self.exit_price:.2f}",
            f"{self.quantity:g}",
            f"{self.pnl + 0.0:.2f}",
        )


def rows_of(trades: Sequence[BenchTrade]) -> list[tuple[str, ...]]:
    """The list of trades as text, by entry time and symbol."""
    return sorted((trade.row() for trade in trades), key=lambda row: (row[2], row[0]))


def read_rows(file: Path) -> list[tuple[str, ...]]:
    """A list of trades that an engine wrote."""
    with file.open(encoding="utf-8", newline="") as opened:
        return [tuple(row) for row in csv.reader(opened)][1:]


def write_rows(file: Path, rows: Sequence[tuple[str, ...]]) -> None:
    """Write a list of trades."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([COLUMNS, *rows])


def digest(rows: Sequence[tuple[str, ...]]) -> str:
    """A short hash of a list of trades."""
    return hashlib.sha256("\n".join(map(",".join, rows)).encode()).hexdigest()[:16]


class BenchEngine(Protocol):
    """What a script measures: `load` brings the bars into the engine's own form, `run` is the work, with its trades.

    `trades` makes the list of what `run` returned; both are measured. `loading_s`: the seconds of the last run in
    which an engine that reads within `run` read the bars; they are no part of the work.
    """

    version: str
    loading_s: float

    def load(self, work: Work, folder: Path) -> Any:
        """The bars in the form that the engine's users hold in memory; not part of the work."""

    def run(self, loaded: Any, rules: Rules) -> Any:
        """Find the signals and trade them."""

    def trades(self, loaded: Any, found: Any) -> Sequence[BenchTrade]:
        """The trades of a run."""


@runtime_checkable
class SweepingEngine(Protocol):
    """An engine that trades many sets of parameters at once."""

    def sweep(self, loaded: Any, sets: Sequence[Rules]) -> list[tuple[int, float]]:
        """The number of trades and the profit of each set."""


def measure(variants: Mapping[str, Callable[[], BenchEngine]]) -> None:
    """Measure an engine as the command line of its script says, and write result and trades into its folder."""
    imported_s = time.process_time()
    given = _arguments(variants)
    engine = variants[given.variant]()
    work = Work.load(given.folder, given.symbols)
    begun = time.process_time()
    loaded = engine.load(work, given.folder)
    loaded_s = time.process_time() - begun
    resident_mib = peak_mib()
    first_s, _, _ = _timed(engine, loaded, work.rules)  # compiles, fills caches
    runs = [_timed(engine, loaded, work.rules) for _ in range(given.runs)]
    document: dict[str, Any] = {
        "version": engine.version,
        "python": ".".join(map(str, sys.version_info[:3])),
        "bars": work.bars,
        "symbols": len(work.symbols),
        "import_s": imported_s,
        "load_s": loaded_s,
        "first_s": first_s,
        "run_s": [one[0] for one in runs],
        "listed_s": [one[1] for one in runs],
        "loaded_mib": resident_mib,
        "peak_mib": peak_mib(),
    }
    if given.sweep:
        document["sweep"] = _sweep(engine, loaded, given.sweep)
    target = given.folder / given.name
    target.mkdir(exist_ok=True)
    if runs:
        write_rows(target / TRADES, rows_of(runs[-1][2]))
    (target / RESULT).write_text(json.dumps(document), encoding="utf-8")


def chosen_sets(count: int) -> dict[int, Rules]:
    """So many of the sets of the sweep, evenly spread, by their number."""
    sets = sweep_rules()
    return {number: sets[number] for number in sorted({(index * len(sets)) // count for index in range(count)})}


def peak_mib() -> float:
    """The largest memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _timed(engine: BenchEngine, loaded: Any, rules: Rules) -> tuple[float, float, Sequence[BenchTrade]]:
    # Seconds of the work, the same with its list of trades, and that list.
    gc.collect()
    begun = time.process_time()
    found = engine.run(loaded, rules)
    ran = time.process_time() - begun - engine.loading_s
    begun = time.process_time()
    listed = engine.trades(loaded, found)
    return ran, ran + time.process_time() - begun, listed


def total(trades: int, pnl: float) -> str:
    """The number of trades and their profit to the cent."""
    return f"{trades} {pnl + 0.0:.2f}"


def _sweep(engine: BenchEngine, loaded: Any, count: int) -> Mapping[str, Any]:
    # Trades of each set by their digest, and their totals; an engine that sweeps at once gives the lists of some sets.
    sets, spent, totals, digests = chosen_sets(count), 0.0, {}, {}
    if isinstance(engine, SweepingEngine):
        begun = time.process_time()
        swept = engine.sweep(loaded, list(sets.values()))
        spent = time.process_time() - begun
        totals = {number: total(*one) for number, one in zip(sets, swept, strict=True)}
    listed = sets if not totals else {number: sets[number] for number in chosen_sets(JUDGED) if number in sets}
    for number, rules in listed.items():  # one at a time, so that memory does not grow with the sweep
        gc.collect()
        begun = time.process_time()
        traded = engine.run(loaded, rules)
        ran = time.process_time() - begun - engine.loading_s
        trades = engine.trades(loaded, traded)
        digests[number] = digest(rows_of(trades))
        if not isinstance(engine, SweepingEngine):
            spent += ran
            totals[number] = total(len(trades), sum(one.pnl for one in trades))
    return {"cpu_s": spent, "digests": digests, "totals": totals}


def _arguments(variants: Mapping[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the work and the bars")
    parser.add_argument("--name", required=True, help="the folder below it for result and trades")
    parser.add_argument("--variant", choices=list(variants), default=next(iter(variants)))
    parser.add_argument("--symbols", type=int, help="only so many symbols")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sweep", type=int, default=0, help="so many sets of parameters")
    return parser.parse_args()


def _stamp(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns // 1_000_000_000, tz=dt.UTC).strftime("%Y-%m-%dT%H:%MZ")
