"""The tables of the engine comparison, and the page that is written from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETS = 200
"""The sets of parameters of the whole sweep."""

BASE = "tbot"
"""The entry with which the others are compared."""


@dataclass(kw_only=True)
class EntryResult:
    """An entry's measurements over all rounds; `reason` says why there are none, `equal` whether its trades count."""

    name: str
    title: str
    gate: str = "none"
    symbols: int = 0
    reason: str = ""
    equal: bool = False
    trades: int = 0
    results: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, result: Mapping[str, Any]) -> None:
        """Another round."""
        self.results.append(result)

    @property
    def version(self) -> str:
        """The engine's version."""
        return str(self.results[0]["version"]) if self.results else ""

    @property
    def counts(self) -> bool:
        """Whether it was measured and its trades are equal."""
        return bool(self.results) and self.equal

    def bars_each_second(self, key: str = "run_s") -> float:
        """Bars for each CPU second, by the median of all runs."""
        return float(self.results[0]["bars"]) / self.seconds(key)

    def seconds(self, key: str = "run_s") -> float:
        """The median of the runs of all rounds."""
        return median(float(second) for one in self.results for second in one[key])

    def of(self, key: str) -> float:
        """The median of a figure that each process has once."""
        return median(float(one[key]) for one in self.results)


@dataclass(kw_only=True)
class SweepResult:
    """CPU seconds of a sweep of `sets` sets; `equal`: each set's trades are those of every other engine."""

    title: str
    sets: int
    cpu_s: float
    equal: bool

    @property
    def whole_s(self) -> float:
        """Seconds of all sets, by calculation if fewer were run."""
        return self.cpu_s * SETS / self.sets


@dataclass(kw_only=True)
class ProcessUse:
    """A whole process: what it did, CPU and wall seconds, and its largest memory."""

    title: str
    bars: int
    cpu_s: float
    wall_s: float
    peak_mib: float
    equal: bool = True


@dataclass(kw_only=True)
class Comparison:
    """All that a run of the comparison measured."""

    symbols: int
    sessions: int
    machine: Mapping[str, str]
    entries: Sequence[EntryResult]
    sweeps: Sequence[SweepResult] = ()
    processes: Sequence[ProcessUse] = ()
    binding: Sequence[Mapping[str, Any]] = ()
    growth: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[str] = ()

    @property
    def bars(self) -> int:
        """Bars of the whole work."""
        return self.symbols * self.sessions * 390

    @property
    def faults(self) -> list[str]:
        """A sentence for each engine whose trades differ, and each part that failed."""
        found = [*self.failures]
        found += [f"{one.title}: its trades differ." for one in self.entries if one.results and not one.equal]
        found += [f"{one.title}: a set's trades differ." for one in self.sweeps if not one.equal]
        return found + [f"{one.title}: its trades differ." for one in self.processes if not one.equal]


def entry_table(comparison: Comparison) -> list[str]:
    """The table of engines, in Markdown."""
    base = next((one for one in comparison.entries if one.name == BASE and one.counts), None)
    rows = [
        "| engine | version | risk gate | CPU s | with trade list | M bars a CPU s | tbot's speed / its | peak MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in comparison.entries:
        if one.reason:
            rows.append(f"| {one.title} | - | - | not measured: {one.reason} | | | | |")
            continue
        if not one.equal:
            rows.append(f"| {one.title} | {one.version} | {one.gate} | its trades differ: does not count | | | | |")
            continue
        scale = comparison.symbols / one.symbols
        mark = "" if scale == 1 else f" (from {one.symbols} symbols)"
        speed = one.bars_each_second()
        faster = "-" if base is None or one is base else times(base.bars_each_second() / speed)
        rows.append(
            f"| {one.title} | {one.version} | {one.gate} | {short(one.seconds() * scale)}{mark} | "
            f"{short(one.seconds('listed_s') * scale)} | {short(speed / 1e6)} | {faster} | {one.of('peak_mib'):.0f} |"
        )
    return rows


def sweep_table(comparison: Comparison) -> list[str]:
    """The table of sweeps; none without any."""
    rows = [
        f"| {one.title} | {one.sets} | {short(one.whole_s)}{'' if one.sets == SETS else ' by calculation'} |"
        if one.equal
        else f"| {one.title} | {one.sets} | a set's trades differ: does not count |"
        for one in comparison.sweeps
    ]
    return [f"| engine | sets run | CPU s for {SETS} sets |", "|---|---|---|", *rows] if rows else []


def process_table(comparison: Comparison) -> list[str]:
    """The table of whole commands; none without any."""
    rows = [
        f"| {one.title} | {one.bars / 1e6:.1f} | {short(one.cpu_s)} | {short(one.wall_s)} | "
        f"{short(one.bars / one.cpu_s / 1e6)} | {one.peak_mib:.0f} |"
        for one in comparison.processes
    ]
    head = ["| command | M bars | CPU s | s | M bars a CPU s | peak MiB |", "|---|---|---|---|---|---|"]
    return head + rows if rows else []


def binding_table(comparison: Comparison) -> list[str]:
    """The table of settings that bind; none without any."""
    rows = [
        f"| {one['name']} | {one['trades']:,} | {one['denied']:,} | {one['stepped']:.0%} | {short(one['cpu_s'])} | "
        f"{short(one['bars'] / one['cpu_s'] / 1e6)} |"
        for one in comparison.binding
    ]
    head = ["| settings | trades | denied | minute by minute | CPU s | M bars a CPU s |", "|---|---|---|---|---|---|"]
    return head + rows if rows else []


def growth_table(comparison: Comparison) -> list[str]:
    """The table of sizes; none without any."""
    rows = [
        f"| {one['symbols']} | {one['sessions']} | {one['bars'] / 1e6:.1f} | {one['trades']:,} | "
        f"{short(one['cpu_s'])} | {short(one['bars'] / one['cpu_s'] / 1e6)} | {one['peak_mib']:.0f} |"
        for one in comparison.growth
    ]
    head = [
        "| symbols | sessions | M bars | trades | CPU s | M bars a CPU s | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    return head + rows if rows else []


def page(comparison: Comparison) -> str:
    """The whole page, `docs/performance.md`."""
    trades = next((one.trades for one in comparison.entries if one.name == BASE), 0)
    machine = "; ".join(f"{name} {value}" for name, value in comparison.machine.items())
    size = f"{comparison.symbols} symbols x {comparison.sessions} sessions"
    return _PAGE.format(
        machine=machine,
        work=f"{size} of simulated one-minute bars ({comparison.bars / 1e6:.1f} million), {trades:,} trades",
        engines=_block(entry_table(comparison)),
        sweep=_block(sweep_table(comparison)),
        commands=_block(process_table(comparison)),
        binding=_block(binding_table(comparison)),
        growth=_block(growth_table(comparison)),
    )


_PAGE = """\
# Performance

How fast a backtest is, beside engines that others use, at the same work with equal trades. `make bench` writes this
page; every figure is of one run.

- Machine: {machine}.
- Work: opening-range breakout on {work}.
  Range of minutes 0 to 19; entry at the next open after the first close of minutes 20 to 29 beyond high x (1 + b) or
  below low x (1 - b); exit at the next open after a close at or beyond the range's other side, else at the open of
  minute 60; long and short, 100 shares.
- Equal: each engine writes its trades (symbol, side, times, prices, quantity, P&L), which are compared to the cent with
  those of a plain loop. An engine whose trades differ does not count.
- Measured: CPU seconds of the process (user and system), bars in memory in the engine's own form, after a first run
  that compiles and fills caches; the median over all runs and rounds, the engines in turn. Import and loading are not
  included; `peak MiB` is of the whole process, with both.
- tbot checks every limit at each signal, as it does live; they are so wide here that none binds. The other engines
  check that the cash suffices; the risk engine of nautilus_trader is bypassed.

## Engines

{engines}

## Sweep

{sweep}

## Whole commands of tbot

{commands}

## Settings that bind

The engine over the first quarter of the same bars, with settings that change or deny trades, and the share
of sessions that were walked minute by minute for it.

{binding}

## Growth of tbot's cost

The engine over bars that are made a month at a time; the memory includes the making.

{growth}

## Run it

`make bench` makes an environment for each engine in `.bench/` (1.5 GB; the pins are in
`benchmarks/engines/engines.toml`) and prints these tables; `make bench ARGS="--page docs/performance.md"` writes this
page. An engine that cannot be installed is left out with the reason. The engines are no dependencies of tbot: nothing
of tbot imports them, and no distribution contains the scripts that do. Their licences are in that file.
"""


def _block(rows: Sequence[str]) -> str:
    return "\n".join(rows) or "Not measured in this run."


def short(value: float) -> str:
    """A figure with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def times(ratio: float) -> str:
    """A ratio as text."""
    return f"{short(ratio)} x"
