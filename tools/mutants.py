"""Look for the mutants that their recorded seeds do not notice any more, and write down where they are noticed now.

Those that were noticed only because the bot died of an error, ALIVE, are looked for further.

`python tools/mutants.py [SEEDS]` tries so many seeds at most (default 1,000), each for all that are left.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tbot_core.testing.simulation.caught import CAUGHT, Caught
from tbot_core.testing.simulation.mutants import MUTANTS
from tbot_core.testing.simulation.rehearsal import rehearse

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
    """The module that holds what was found."""
    rows = [f'    "{name}": Caught({found[name].seed}, "{found[name].by}"),\n' for name in MUTANTS if name in found]
    path = Path(__file__).parents[1] / "tbot_core" / "testing" / "simulation" / "caught.py"
    path.write_text("".join((HEAD, *rows, TAIL)), encoding="utf-8")


def search(seeds: int) -> list[str]:
    """Write down all that are noticed; returns those that none of the seeds notices."""
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


if __name__ == "__main__":
    unnoticed = search(int(sys.argv[1]) if sys.argv[1:] else 1_000)
    print("\n".join(f"{name}: not noticed" for name in unnoticed) or "All mutants are noticed.")
    sys.exit(bool(unnoticed))
