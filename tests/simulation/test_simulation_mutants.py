"""The simulation is tried itself: rules broken on purpose are noticed, each at its recorded seed.

`python tools/mutants.py` looks for seeds anew where the bot has changed.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tbot_core.cli.rehearse import command
from tbot_core.errors import UsageError
from tbot_core.execution import Execution
from tbot_core.testing.simulation.caught import CAUGHT
from tbot_core.testing.simulation.mutants import MUTANTS, mutant
from tbot_core.testing.simulation.planting import planted, was
from tbot_core.testing.simulation.rehearsal import rehearse

CORPUS = sorted({caught.seed for caught in CAUGHT.values()})


def test_there_are_forty_mutants_in_the_order_of_their_record() -> None:
    """At least forty rules are broken, each says how in a sentence, and no seed is recorded for one that is gone."""
    assert len(MUTANTS) >= 40
    assert list(CAUGHT) == [name for name in MUTANTS if name in CAUGHT]
    assert all(one.words.endswith(".") for one in MUTANTS.values())


def test_what_is_planted_is_taken_out_again() -> None:
    """The code is what it was after a mutant, also when the bot died of it."""
    before = was(Execution, "_mark")

    def die() -> None:
        with planted(MUTANTS["second-barrier-left-out"].swaps()):
            assert was(Execution, "_mark") is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert was(Execution, "_mark") is before


def test_an_unknown_mutant_is_named_with_those_that_are_known() -> None:
    """Somebody who mistypes a mutant reads which there are."""
    with pytest.raises(UsageError, match="--mutant gremlin: no such mutant"):
        mutant("gremlin")


@pytest.mark.slow
@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_rule_is_noticed(name: str) -> None:
    """The mutant is noticed at its recorded seed, by what is recorded."""
    assert MUTANTS[name].caught(CAUGHT[name].seed) == CAUGHT[name].by


@pytest.mark.slow
@pytest.mark.parametrize("seed", CORPUS)
def test_the_bot_as_it_is_passes_where_mutants_do_not(seed: int) -> None:
    """The same worlds find nothing against the bot whose rules are whole."""
    assert not rehearse(seed).violations


@pytest.mark.slow
def test_rehearse_says_where_a_mutant_is_noticed() -> None:
    """`tbot rehearse --mutant` names the first of its seeds that notices, and fails where none does."""
    noticed = CAUGHT["fills-not-recalled"]
    options = ["--mutant", "fills-not-recalled", "--seeds", "1", "--first-seed"]
    shown = CliRunner().invoke(command, [*options, str(noticed.seed)])
    assert shown.exit_code == 0
    assert f"fills-not-recalled: noticed at seed {noticed.seed}: {noticed.by}" in shown.output
    without_a_restart = next(seed for seed in range(99) if not rehearse(seed).deaths)
    missed = CliRunner().invoke(command, [*options, str(without_a_restart)])
    assert missed.exit_code == 1
    assert "fills-not-recalled: not noticed" in missed.output
