"""Search seeds for the mutants that their recorded seeds no longer notice, and record the seeds found.

The search continues for mutants that only end the process with an error (ALIVE).

`python tools/mutants.py` tries at most `--seeds` seeds (default 1,000), each for all remaining mutants.
With `--mutant NAME` it prints the first seed that catches that mutant, and exits with 1 where none does.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rehearsal_mutants.catalogue import MUTANTS, first_seed, mutant
from rehearsal_mutants.caught import CAUGHT, Caught

from tbot_core.rehearsal.rehearsal import rehearse

ALIVE = "ALIVE"
HEAD = '''"""Where each mutant was noticed; written by `python tools/mutants.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Caught(NamedTuple):
    """The seed at which a mutant was noticed, and by which invariant; ALIVE: only by an error that the bot died of."""

    seed: int
    by: str


CAUGHT: Final[Mapping[str, Caught]] = {
'''
TAIL = '''}
"""The seeds are a corpus that the bot as it is must pass."""
'''


def write(found: dict[str, Caught]) -> None:
    """Write the module of recorded seeds."""
    rows = [f'    "{name}": Caught({found[name].seed}, "{found[name].by}"),\n' for name in MUTANTS if name in found]
    path = Path(__file__).parents[1] / "tools" / "rehearsal_mutants" / "caught.py"
    path.write_text("".join((HEAD, *rows, TAIL)), encoding="utf-8")


def search(seeds: int) -> list[str]:
    """Record all mutants that are noticed; returns those that none of the seeds notices."""
    found = {name: Caught(one.seed, by) for name, one in CAUGHT.items() if (by := MUTANTS[name].caught(one.seed))}
    for seed in range(seeds):
        left = [name for name in MUTANTS if name not in found or found[name].by == ALIVE]
        if not left:
            break
        if rehearse(seed, live=False).fills:
            fresh = {name: Caught(seed, by) for name in left if (by := MUTANTS[name].caught(seed))}
            found |= {name: one for name, one in fresh.items() if one.by != ALIVE or name not in found}
            write(found)
    write(found)
    return [name for name in MUTANTS if name not in found]


def main() -> int:
    """Run what the command line asks for, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutant", help="print the first seed that catches this mutant")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1_000)
    given = parser.parse_args()
    if given.mutant:
        caught = first_seed(mutant(given.mutant), range(given.first_seed, given.first_seed + given.seeds))
        print(f"{given.mutant}: {'not caught' if caught is None else f'caught at seed {caught.seed} by {caught.by}'}")
        return int(caught is None)
    unnoticed = search(given.seeds)
    print("\n".join(f"{name}: not caught" for name in unnoticed) or "All mutants are caught.")
    return int(bool(unnoticed))


if __name__ == "__main__":
    sys.exit(main())
