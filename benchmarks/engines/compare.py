"""Compares backtest engines at the same work: `make bench`.

    python benchmarks/engines/compare.py [--engines tbot,vectorbt] [--page docs/performance.md]

Every engine runs in a process and an environment of its own; its trades are compared to the cent with those of a plain
loop. Ends with 1 if an engine's trades differ. What the work is: `bench_work.py`; the engines: `engines.toml`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench_environments import Environments
from bench_report import (
    Comparison,
    EntryResult,
    ProcessUse,
    SweepResult,
    binding_table,
    entry_table,
    growth_table,
    page,
    process_table,
    sweep_table,
)

from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
HERE = Path(__file__).parent
GROWTH = ((1, 1), (4, 1), (16, 1), (1, 4), (1, 16))
BASE_SYMBOLS, BASE_SESSIONS = 50, 63
LARGE = 500, 252


def main() -> int:
    """Run the comparison; 1 if trades differ."""
    given = _arguments()
    kept = given.folder.resolve()
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        comparison = BenchRun(given, kept, Path(folder)).compare()
    for table in (entry_table, sweep_table, process_table, binding_table, growth_table):
        print("\n".join([*table(comparison), ""]))
    if given.page is not None:
        given.page.write_text(page(comparison), encoding="utf-8")
    for fault in comparison.faults:
        print(fault, file=sys.stderr)
    return 1 if comparison.faults else 0


class BenchRun:
    """One run: a folder with the work, and the chosen entries."""

    def __init__(self, given: argparse.Namespace, kept: Path, folder: Path) -> None:
        stated = tomllib.loads((HERE / "engines.toml").read_text(encoding="utf-8"))
        self._given, self._folder = given, folder
        self._environments = Environments(kept, stated["environments"])
        self._stated = [one for one in stated["entries"] if not given.engines or one["name"] in given.engines]
        self._pythons: dict[str, Path | str] = {}
        self._failures: list[str] = []

    def compare(self) -> Comparison:
        """Measure everything."""
        given = self._given
        _say(f"preparing {given.symbols} symbols x {given.sessions} sessions")
        self._python(HERE / "bench_prepare.py", self._folder, "--symbols", given.symbols, "--sessions", given.sessions)
        imported = self._imported()
        entries = self._entries()
        return Comparison(
            symbols=given.symbols,
            sessions=given.sessions,
            machine=_machine(),
            entries=entries,
            sweeps=self._kept(lambda: self._sweeps(entries)) if given.sweep else (),
            processes=[*imported, *self._kept(self._commands), *self._kept(self._large)],
            binding=self._kept(self._binding) if given.growth else (),
            growth=self._kept(self._growth) if given.growth else (),
            failures=self._failures,
        )

    def _kept(self, measured: Callable[[], list[T]]) -> list[T]:
        # A part that fails is a fault at the end; the others are measured.
        try:
            return measured()
        except subprocess.CalledProcessError as fault:
            self._failures.append(f"{fault}")
            return []

    def _entries(self) -> list[EntryResult]:
        found = [
            EntryResult(
                name=one["name"],
                title=one["title"],
                gate=one.get("gate", "cash"),
                symbols=min(one.get("slow", self._given.symbols), self._given.symbols),
            )
            for one in self._stated
        ]
        for entry, stated in zip(found, self._stated, strict=True):
            python = self._environment(stated)
            entry.reason = "" if isinstance(python, Path) else python
        for number in range(self._given.rounds):
            for entry, stated in zip(found, self._stated, strict=True):
                if not entry.reason and (number == 0 or "slow" not in stated):
                    _say(f"round {number + 1}: {entry.title}")
                    self._kept(partial(self._measure, entry, stated))
                    entry.reason = "" if entry.results else "it failed"
        return found

    def _measure(self, entry: EntryResult, stated: dict[str, Any]) -> list[None]:
        runs = min(self._given.runs, 2) if "slow" in stated else self._given.runs
        self._engine(stated, entry.name, "--runs", runs, "--symbols", entry.symbols)
        entry.add(self._json(entry.name))
        held = {f"{line.split(',')[0]}" for line in (self._symbols()[: entry.symbols])}
        expected = [line for line in self._lines("loop") if line.split(",")[0] in held]
        written = self._lines(entry.name)
        entry.trades = len(written)
        entry.equal = written == expected and (entry.equal or len(entry.results) == 1)
        return []

    def _sweeps(self, entries: Sequence[EntryResult]) -> list[SweepResult]:
        found: list[tuple[str, Any]] = []
        for entry, stated in zip(entries, self._stated, strict=True):
            sets = min(stated.get("sweep", 0), self._given.sweep)
            if sets and entry.counts:
                _say(f"sweep of {sets} sets: {entry.title}")
                self._engine(stated, f"{entry.name}-sweep", "--runs", 0, "--sweep", sets)
                found.append((entry.title, self._json(f"{entry.name}-sweep")["sweep"]))
        known = [self._json("loop", "sets.json"), *(sweep for _, sweep in found)]
        return [
            SweepResult(
                title=title,
                sets=len(sweep["totals"]),
                cpu_s=sweep["cpu_s"],
                equal=all(
                    other[kind].get(number, value) == value
                    for other in known
                    for kind in ("digests", "totals")
                    for number, value in sweep[kind].items()
                ),
            )
            for title, sweep in found
        ]

    def _imported(self) -> list[ProcessUse]:
        if not any(one["script"] == "engine_tbot.py" for one in self._stated):
            return []
        _say("tbot data import")
        use, _ = self._tbot(self._folder, "data", "import", self._folder / "market")
        return [_use("`tbot data import`", self._given.symbols * self._given.sessions * 390, use)]

    def _commands(self) -> list[ProcessUse]:
        if not any(one["script"] == "engine_tbot.py" for one in self._stated):
            return []
        _say("tbot backtest")
        range_of = self._range(self._folder)
        _, shown = self._tbot(self._folder, "backtest", *range_of, "--json")
        use, _ = self._tbot(self._folder, "backtest", *range_of)
        document = parse_json(shown)
        lines = sorted(
            (
                ",".join(
                    (
                        one["symbol"], one["side"], _minute(one["entry_time"]), f"{float(one['entry_price']):.2f}",
                        _minute(one["exit_time"]), f"{float(one['exit_price']):.2f}", one["quantity"],
                        f"{float(one['pnl']):.2f}",
                    )
                )
                for one in document["trades"]
            ),
            key=lambda line: (line.split(",")[2], line.split(",")[0]),
        )  # fmt: skip
        bars = self._given.symbols * self._given.sessions * 390
        return [_use("`tbot backtest`, with its report", bars, use, equal=lines == self._lines("loop"))]

    def _large(self) -> list[ProcessUse]:
        if not self._given.large:
            return []
        (symbols, sessions), folder = LARGE, self._folder / "large"
        folder.mkdir()
        size = ("--symbols", symbols, "--sessions", sessions)
        _say(f"{symbols} symbols x {sessions} sessions")
        self._python(HERE / "bench_prepare.py", folder, *size, "--stored-only")
        bars, name = symbols * sessions * 390, f"{symbols} symbols x {sessions} sessions"
        imported, _ = self._tbot(folder, "data", "import", folder / "market")
        tested, _ = self._tbot(folder, "backtest", *self._range(folder))
        return [_use(f"`tbot data import`, {name}", bars, imported), _use(f"`tbot backtest`, {name}", bars, tested)]

    def _binding(self) -> list[Mapping[str, Any]]:
        _say("settings that bind")
        return list(parse_json(self._python(HERE / "binding_tbot.py", self._folder)))

    def _growth(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        for wider, longer in GROWTH:
            size = {"symbols": BASE_SYMBOLS * wider, "sessions": BASE_SESSIONS * longer}
            _say(f"growth: {size['symbols']} symbols x {size['sessions']} sessions")
            options = ("--symbols", size["symbols"], "--sessions", size["sessions"])
            shown = self._python(HERE / "growth_tbot.py", self._folder, *options)
            found.append(size | parse_json(shown))
        return found

    def _environment(self, stated: dict[str, Any]) -> Path | str:
        name = stated.get("environment")
        if name is None:
            return Path(sys.executable)
        if name not in self._pythons:
            _say(f"environment {name}")
            self._pythons[name] = self._environments.python(name)
        return self._pythons[name]

    def _engine(self, stated: dict[str, Any], name: str, *options: object) -> None:
        command = [HERE / stated["script"], self._folder, "--name", name, *options]
        if "variant" in stated:
            command += ["--variant", stated["variant"]]
        self._python(*command, python=self._environment(stated))

    def _python(self, *arguments: object, python: Path | str = sys.executable) -> str:
        done = subprocess.run(  # noqa: S603 - scripts of this folder
            [f"{python}", *map(str, arguments)],
            env=_with_plugin(self._folder),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def _tbot(self, folder: Path, *arguments: object) -> tuple[dict[str, float], str]:
        # A command of tbot as a process: what it used, and what it printed.
        command = [sys.executable, "-m", "tbot_core", *map(str, arguments), "--home", f"{folder / 'home'}"]
        begun, printed = time.perf_counter(), folder / "printed.txt"
        with printed.open("w", encoding="utf-8") as opened:
            child = subprocess.Popen(command, env=_with_plugin(folder), stdout=opened)  # noqa: S603 - its own interpreter
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command)
        spent = {
            "cpu_s": used.ru_utime + used.ru_stime,
            "wall_s": time.perf_counter() - begun,
            "peak_mib": used.ru_maxrss / 1024,
        }
        return spent, printed.read_text(encoding="utf-8")

    def _range(self, folder: Path) -> tuple[str, ...]:
        opens = parse_json((folder / "work.json").read_text(encoding="utf-8"))["opens_ns"]
        days = [dt.datetime.fromtimestamp(opens[at] // 1_000_000_000, tz=dt.UTC).date() for at in (0, -1)]
        return "--from", f"{days[0]}", "--to", f"{days[1]}"

    def _symbols(self) -> list[str]:
        return list(parse_json((self._folder / "work.json").read_text(encoding="utf-8"))["symbols"])

    def _json(self, name: str, file: str = "result.json") -> Any:
        return parse_json((self._folder / name / file).read_text(encoding="utf-8"))

    def _lines(self, name: str) -> list[str]:
        return (self._folder / name / "trades.csv").read_text(encoding="utf-8").split()[1:]


def _use(title: str, bars: int, used: dict[str, float], *, equal: bool = True) -> ProcessUse:
    return ProcessUse(title=title, bars=bars, equal=equal, **used)


def _with_plugin(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{folder / 'site'}"}


def _minute(moment: str) -> str:
    return dt.datetime.fromisoformat(moment).astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%MZ")


def _machine() -> dict[str, str]:
    found = {"date": f"{dt.datetime.now(dt.UTC):%Y-%m-%d}", "Python": platform.python_version()}
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return found | {"processor": f"{model} ({os.cpu_count()} cores)", "memory": f"{memory_gib:.0f} GiB"}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = lambda text: frozenset(filter(None, text.split(",")))  # noqa: E731
    parser.add_argument("--engines", type=names, default=frozenset(), help="entries of engines.toml; default: all")
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--sessions", type=int, default=252)
    parser.add_argument("--rounds", type=int, default=3, help="of all engines in turn")
    parser.add_argument("--runs", type=int, default=5, help="of an engine in a round")
    parser.add_argument("--sweep", type=int, default=200, help="sets of parameters at most; 0 = none")
    parser.add_argument("--growth", action=argparse.BooleanOptionalAction, default=True, help="and binding settings")
    parser.add_argument("--large", action="store_true", help="import and backtest 500 symbols x 252 sessions as well")
    parser.add_argument("--page", type=Path, help="write docs/performance.md")
    parser.add_argument("--folder", type=Path, default=HERE.parents[1] / ".bench", help="of the environments")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
