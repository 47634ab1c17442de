"""Prove that a change leaves behaviour as it was: run the bot, and compare what it did with recorded digests.

    python tools/golden.py compare [--fast]     exit 1 at a difference; its first event is printed
    python tools/golden.py record [PATTERN]     after a wanted change, which must be committed first; "demo *", else all
    python tools/golden.py show PART            the lines of a part, such as "seed 17"

A part is one run from a seed: a simulated world, a mutant, a demo with its documents, a day or a scenario at a broker's
venue, a backtest of stored bars. Its lines are the journal, event by event, and what the outside saw: orders, requests,
documents. `tools/golden.tsv` has a digest of each part and the commit that it is of. Where one differs, that commit is
checked out below `.golden/`, and the part's lines are made there anew.

Lines depend on the code alone: not on the machine's clock, the folder or the order of sets. `--fast` runs 100 seeds, a
demo and a day at a venue. Parts of stored bars need $TBOT_SHARED with `data/bars/us300_2018` and are left out without.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import fnmatch
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs
from rehearsal_mutants.catalogue import MUTANTS
from rehearsal_mutants.caught import CAUGHT

from tbot_core import cli
from tbot_core.journal import records
from tbot_core.journal.store import Event, read_journal
from tbot_core.model.clock import SystemClock
from tbot_core.rehearsal.broker_rehearsal import broker_plugin, rehearse_broker, write_instance
from tbot_core.rehearsal.patching import patched
from tbot_core.rehearsal.rehearsal import rehearse_world
from tbot_core.rehearsal.scenario_days import run_scenario, venue_scenarios
from tbot_core.rehearsal.seed_corpus import FAILED, FAILED_UNDER
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


ROOT: Final = Path(__file__).parents[1]
RECORDED: Final = ROOT / "tools" / "golden.tsv"
EARLIER: Final = ROOT / ".golden"
BROKER: Final = "alpaca"
SEEDS, FAST_SEEDS, DEMOS, DAYS = 2_000, 100, 20, 10
READ_AT: Final = dt.datetime(2027, 1, 4, 12, tzinfo=dt.UTC)
"""The moment at which commands run."""

SHARED: Final = os.environ.get("TBOT_SHARED", "")
BARS: Final = "data/bars/us300_2018"
RANGE: Final = ("2018-02-16", "2018-03-29")
CHANGES: Final = {
    "default": (),
    "dear": ("MAX_PRICE=2000",),
    "busy": ("MAX_PRICE=2000", "STRAT_OPEN_BUFFER=0.005", "STRAT_MID_VWAP_THRESHOLD=0.01"),
    "small": ("MAX_PRICE=2000", "STRAT_OPEN_BUFFER=0.003", "MAX_TRADES=1", "FRACTIONAL=false"),
}
"""The settings of the backtests."""

_OF_THE_MACHINE: Final = re.compile(r'(127\.0\.0\.1:|"(?:disk_free_bytes|ran_until|changed)": )(?:\d+|"[^"]*")')
_DIGITS: Final = 16
_SHOWN: Final = 3
_BEFORE: Final = 2


class Recorded(NamedTuple):
    """The digest of a part, and the commit that it is of."""

    digest: str
    commit: str


def seed_lines(name: str) -> Iterator[str]:
    """A simulated world: the journal, and the trace of venues, requests and crashes. NAME: a seed, and its faults."""
    number, _, faults = name.partition(" under ")
    world = World(int(number), faults.split(",") if faults else None)
    result = rehearse_world(world)
    yield from map(event_line, result.events)
    yield from world.trace()
    yield from result.violations


def mutant_lines(name: str) -> Iterator[str]:
    """A mutant at its recorded seed: the invariant that catches it."""
    yield MUTANTS[name].caught(CAUGHT[name].seed)


def demo_lines(name: str) -> Iterator[str]:
    """Three demo sessions: the journal, and the documents that are read of it. NAME: the seed."""
    with tempfile.TemporaryDirectory() as folder, patched(((SystemClock, "now", lambda _clock: READ_AT),)):
        home = Path(folder) / "bot"
        told = command("run", "--demo", "--seed", name, "--json", home=home)
        (path,) = (home / "data" / "runs").glob("*.sqlite")
        with closing(read_journal(path)) as journal:
            events = list(journal.events())
        yield from (without_places(event_line(event), home) for event in events)
        traded = (event.payload["signal"] for event in events if event.kind == records.INTENDED)
        symbols = sorted({records.signal_of(signal).symbol for signal in traded})
        texts = [told, command("status", "--json", home=home), command("why", "--json", home=home)]
        texts += [command("why", symbol, "--json", home=home) for symbol in symbols[:2]]
        texts += [report.read_text(encoding="utf-8") for report in sorted((home / "reports").iterdir())]
        yield from (without_places(line, home) for text in texts for line in text.splitlines())


def day_lines(name: str) -> Iterator[str]:
    """A day at the venue of the broker: the journal, the requests that the venue received, and the last account."""
    day = rehearse_broker(broker_plugin(BROKER), int(name))
    yield from (without_places(event_line(event), day.home) for event in day.events)
    for request in day.requests:
        yield f"{request.method} {request.target} {request.body.decode(errors='replace')}"
    yield repr(day.account)
    yield from (without_places(words, day.home) for words in (*day.report.venue, *day.report.violations))


def scenario_lines(name: str) -> Iterator[str]:
    """A scenario of the broker's venue: its row, with the seconds without protection."""
    plugin = broker_plugin(BROKER)
    report = run_scenario(plugin, venue_scenarios(plugin)[name])
    yield from json.dumps(attrs.asdict(attrs.evolve(report, took_s=0.0)), indent=1, default=str).splitlines()


def bars_lines(name: str) -> Iterator[str]:
    """Stored bars under one of CHANGES, traded by `tbot backtest` and by `tbot run --replay`."""
    options = [word for change in CHANGES[name] for word in ("--set", change)]
    first, last = RANGE
    with tempfile.TemporaryDirectory() as folder, patched(((SystemClock, "now", lambda _clock: READ_AT),)):
        home = Path(folder)
        write_instance(home, {"BROKER_NAME": "PAPER", "STRATEGY_SEQUENCE": "open,mid,close"})
        for source in (BARS, "data/vix_daily.parquet"):
            command("data", "import", str(Path(SHARED) / source), home=home)
        texts = [
            command("backtest", "--from", first, "--to", last, "--json", *options, home=home),
            command("run", "--replay", f"{first}..{last}", "--speed", "max", "--json", *options, home=home),
        ]
        yield from (without_places(line, home) for text in texts for line in text.splitlines())
        for path in sorted((home / "data" / "runs").glob("*.sqlite")):
            with closing(read_journal(path)) as journal:
                yield from (without_places(event_line(event), home) for event in journal.events())


KINDS: Final[dict[str, Callable[[str], Iterator[str]]]] = {
    "seed": seed_lines,
    "mutant": mutant_lines,
    "demo": demo_lines,
    "day": day_lines,
    "scenario": scenario_lines,
    "bars": bars_lines,
}


def parts(*, fast: bool) -> Iterator[str]:
    """The names of the parts: a kind, a space, and a name of that kind."""
    yield "day 0"
    yield "demo 0"
    yield from (f"seed {seed}" for seed in range(FAST_SEEDS))
    if fast:
        return
    if SHARED:
        yield from (f"bars {name}" for name in CHANGES)
    yield from (f"scenario {name}" for name in venue_scenarios(broker_plugin(BROKER)))
    yield from (f"day {seed}" for seed in range(1, DAYS))
    yield from (f"demo {seed}" for seed in range(1, DEMOS))
    yield from (f"mutant {name}" for name in CAUGHT)
    yield from (f"seed {seed} under {','.join(faults)}" for seed, faults in FAILED_UNDER.items())
    yield from (f"seed {seed}" for seed in sorted({*range(FAST_SEEDS, SEEDS), *FAILED}))


def lines_of(part: str) -> Iterator[str]:
    """The lines of a part."""
    kind, _, name = part.partition(" ")
    yield from KINDS[kind](name)


def digest(part: str) -> str:
    """The digest of a part's lines."""
    return sha256("\n".join(lines_of(part)).encode()).hexdigest()[:_DIGITS]


def digests(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The parts with their digests, in order, worked out on two cores."""
    with ProcessPoolExecutor(2) as pool:
        names, asked = itertools.tee(names)
        yield from zip(names, pool.map(digest, asked), strict=True)


def event_line(event: Event) -> str:
    """An event of a journal but for its hash, which depends on the folder where its run began."""
    payload = json.dumps(event.payload, sort_keys=True)
    return (
        f"{event.seq} {event.kind} {event.cid or '-'} {event.source or '-'} {event.received} {event.applied} {payload}"
    )


def without_places(line: str, home: Path) -> str:
    """A line without what belongs to this run's machine: its folder, ports, free disk, and the times of its files."""
    return _OF_THE_MACHINE.sub(r"\1", line.replace(str(home), "HOME"))


def command(*words: str, home: Path) -> str:
    """What a command of `tbot` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as errors:
        code = cli.invoke([*words, "--home", str(home)])
    if code:
        raise SystemExit(f"tbot {' '.join(words)} exits with {code}: {errors.getvalue()}")
    return out.getvalue()


def recorded_parts() -> dict[str, Recorded]:
    """What is recorded, by part."""
    rows = (line.split("\t") for line in RECORDED.read_text(encoding="utf-8").splitlines())
    return {part: Recorded(found, commit) for part, found, commit in rows}


def record(pattern: str) -> int:
    """Record the parts that fit a pattern."""
    if git("status", "--porcelain"):
        raise SystemExit("There are changes that are not committed; the recording names a commit.")
    rows, commit = recorded_parts() if RECORDED.exists() else {}, git("rev-parse", "--short=12", "HEAD")
    every = list(parts(fast=False))
    if not (named := fnmatch.filter(every, pattern)):
        raise SystemExit(f"No part fits {pattern!r}; tools/golden.tsv lists them.")
    for part, found in digests(named):
        rows[part] = Recorded(found, commit)
    lines = (f"{part}\t{rows[part].digest}\t{rows[part].commit}\n" for part in every if part in rows)
    RECORDED.write_text("".join(lines), encoding="utf-8")
    return 0


def compare(*, fast: bool) -> int:
    """Compare the parts with the recorded ones; print the first difference of some, and return the exit code."""
    rows = recorded_parts()
    names = list(parts(fast=fast))
    changed = [part for part, found in digests(names) if part not in rows or found != rows[part].digest]
    for part in [part for part in changed if part in rows][:_SHOWN]:
        print(f"\n{part}:\n{first_difference(earlier_lines(part, rows[part].commit), list(lines_of(part)))}")
    print(f"{len(names)} parts, {len(changed)} differ: {', '.join(changed) or 'none'}")
    return int(bool(changed))


def first_difference(earlier: list[str], now: list[str]) -> str:
    """The first line that differs, with those before it."""
    pairs = itertools.zip_longest(earlier, now, fillvalue="(the end)")
    place, pair = next(((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]), (0, None))
    if pair is None:
        return "The same lines as at the recorded commit: the digest was recorded elsewhere."
    before = [f"  {line}" for line in now[max(place - _BEFORE, 0) : place]]
    return "\n".join((*before, f"- {pair[0]}", f"+ {pair[1]}"))


def earlier_lines(part: str, commit: str) -> list[str]:
    """The lines of a part at an earlier commit, which is checked out in a folder of its own."""
    tree = EARLIER / commit
    if not tree.exists():
        git("worktree", "prune")
        git("worktree", "add", "--detach", str(tree), commit)
    paths = (tree, *(file.parent for file in tree.glob("plugins/*/*/pyproject.toml")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    made = subprocess.run(  # noqa: S603  -- the same tool at another commit
        [sys.executable, str(tree / "tools" / "golden.py"), "show", part],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.splitlines()


def git(*words: str) -> str:
    """What a command of git prints."""
    return subprocess.run(  # noqa: S603  -- constants and a commit
        ["git", *words],  # noqa: S607  -- the user's git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(dest="act", required=True)
    acts.add_parser("compare").add_argument("--fast", action="store_true")
    acts.add_parser("record").add_argument("pattern", nargs="?", default="*")
    acts.add_parser("show").add_argument("part")
    given = parser.parse_args()
    if given.act == "show" and given.part not in parts(fast=False):
        parser.error(f"unknown part {given.part!r}; tools/golden.tsv lists them.")
    if given.act == "show":
        sys.stdout.writelines(f"{line}\n" for line in lines_of(given.part))
        return 0
    return record(given.pattern) if given.act == "record" else compare(fast=given.fast)


if __name__ == "__main__":
    sys.exit(main())
