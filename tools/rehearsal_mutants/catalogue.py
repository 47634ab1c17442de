"""Rules of the order machine broken on purpose, one at a time: what the simulation must notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from rehearsal_mutants import failover, inputs, limits, protection, sending, state
from rehearsal_mutants.caught import CAUGHT, Caught
from tbot_core.errors import UsageError
from tbot_core.rehearsal.patching import Swaps
from tbot_core.rehearsal.rehearsal import rehearse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType


@attrs.frozen(kw_only=True)
class Mutant:
    """One rule broken: `words` say how."""

    name: str
    words: str
    swaps: Callable[[], Swaps]

    def caught(self, seed: int) -> str:
        """The first invariant that it violates in a seed, "" where it violates none; ALIVE: it died of an error."""
        verdict = rehearse(seed, swaps=self.swaps(), live=False)
        return next((words.partition(":")[0] for words in verdict.violations), "")


def _mutants(module: ModuleType) -> dict[str, Mutant]:
    own = [made for name, made in vars(module).items() if not name.startswith("_") and _makes_swaps(made, module)]
    names = [made.__name__.replace("_", "-") for made in own]
    return {
        name: Mutant(name=name, words=(made.__doc__ or "").strip(), swaps=made)
        for name, made in zip(names, own, strict=True)
    }


def _makes_swaps(made: object, module: ModuleType) -> bool:
    return getattr(made, "__module__", "") == module.__name__ and callable(made)


MUTANTS: Final[Mapping[str, Mutant]] = {
    name: one
    for module in (sending, state, protection, failover, inputs, limits)
    for name, one in _mutants(module).items()
}


def mutant(name: str) -> Mutant:
    """The mutant of that name; raises UsageError for one that is not known."""
    if name not in MUTANTS:
        raise UsageError(f"--mutant {name}: unknown mutant.", f"Known mutants: {', '.join(MUTANTS)}.")
    return MUTANTS[name]


def first_seed(one: Mutant, seeds: Iterable[int]) -> Caught | None:
    """The first of the seeds at which a mutant is caught, and by which invariant; None where none catches it."""
    return next((Caught(seed, by) for seed in seeds if (by := one.caught(seed))), None)


def table() -> str:
    """The mutants in Markdown, one row each, for the reference; a dash where no seed is recorded yet."""
    rows = [
        f"| {name} | {one.words} | {' | '.join(map(str, CAUGHT.get(name, '--')))} |" for name, one in MUTANTS.items()
    ]
    return "\n".join(("| mutant | what it does | seed | noticed by |", "|---|---|---|---|", *rows))
