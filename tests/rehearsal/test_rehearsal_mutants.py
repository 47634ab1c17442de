"""The simulation is tried itself: rules broken on purpose are noticed, each at its recorded seed.

`python tools/mutants.py` looks for seeds anew where the bot has changed.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

import pytest
from rehearsal_mutants.catalogue import MUTANTS, Mutant, first_seed, mutant
from rehearsal_mutants.caught import CAUGHT

from tbot_core.errors import UsageError
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.rehearsal.patching import current_attribute, patched
from tbot_core.rehearsal.rehearsal import rehearse
from tbot_core.rehearsal.seed_corpus import FAILED, FAILED_UNDER

CORPUS = sorted({caught.seed for caught in CAUGHT.values()} | {*FAILED})

ELSEWHERE = {
    "one-source-is-evidence": 111,
    "fill-of-a-doubtful-order-dropped": 0,
    "unavailable-read-as-never-sent": 9,
    "age-by-the-wall-clock": 111,
    "stop-kept-whatever-is-held": 1,
    "lost-exit-not-taken-back": 1,
    "failed-reading-read-as-flat": 0,
    "readings-that-differ-believed": 0,
    "young-orders-missed": 1,
    "difference-in-flight-explained": 25,
    "foreign-holding-called-ours": 1573,
    "late-minutes-acted-on": 45,
    "intended-orders-sent-on-restart": 2,
    "intended-orders-kept-on-restart": 2,
}
"""Mutants that no seed is recorded for, each with the seed to look at first."""

LATE = {"readings-that-differ-believed", "intended-orders-sent-on-restart", "intended-orders-kept-on-restart"}
"""Those that change only a late seed of the corpus."""

LONG = {130}
"""Seeds of the corpus whose clock is set again and again: over ten seconds each."""

FAR = pytest.mark.full

RUN = {
    "permit-never-looked-at": 0,
    "kill-seen-at-the-next-look": 0,
    "executions-thought-unique": 0,
    "supposed-fill-kept-beside-named-ones": 0,
    "cumulative-quantity-ignored": 0,
    "session-left-before-orders-are-settled": 0,
    "attempts-not-recalled": 2,
    "lease-moved-back-on-return": 12,
    "leases-not-recalled": 3,
    "brokers-counted-apart": 3,
    "other-brokers-not-recalled": 1,
    "surplus-ignored": 25,
    "listed-executions-ignored": 0,
    "reading-believed-whatever-was-booked-meanwhile": 0,
    "limit-of-requests-ignored": 0,
    "account-in-another-currency-believed": 0,
    "unknown-exit-sent-again": 0,
}
"""Mutants that are not known to change a story, each with a seed in which the bot goes through them."""


def test_there_are_forty_mutants_in_the_order_of_their_record() -> None:
    """At least forty rules are broken, each says how in a sentence, and no seed is recorded for one that is gone."""
    assert len(MUTANTS) >= 40
    assert list(CAUGHT) == [name for name in MUTANTS if name in CAUGHT]
    assert all(one.words.endswith(".") for one in MUTANTS.values())


def test_forty_are_caught_by_an_invariant() -> None:
    """A bot that dies of an error has shown less than one that breaks a rule: only these are counted."""
    by_invariant = [caught for caught in CAUGHT.values() if caught.by != "ALIVE"]
    assert len(by_invariant) >= 40
    assert all(caught.seed < 10_000 for caught in by_invariant)
    assert not [caught.by for caught in CAUGHT.values() if not caught.by.isupper()]


def test_a_bot_that_dies_of_an_error_is_started_again_and_judged() -> None:
    """It is violated that a life ended so, and where and of what is said; after three of them no more is begun."""
    verdict = rehearse(6, swaps=MUTANTS["events-taken-twice"].swaps(), live=False)
    alive = [words for words in verdict.violations if words.startswith("ALIVE: JournalError")]
    assert len(alive) == 3
    assert verdict.violations[-3:] == tuple(alive)


def test_a_journal_that_is_torn_or_cannot_be_read_is_a_violation() -> None:
    """What was acknowledged is gone, and the file does not open any more; a journal without sense is one as well."""
    lost = rehearse(5, swaps=MUTANTS["appended-before-it-is-durable"].swaps(), live=False)
    assert {words.partition(":")[0] for words in lost.violations} == {"I14", "I19"}
    senseless = rehearse(6, swaps=MUTANTS["time-out-read-as-never-sent"].swaps(), live=False)
    assert any(words.startswith("I16: the journal cannot be read: ValueError") for words in senseless.violations)


def test_what_is_planted_is_taken_out_again() -> None:
    """The code is what it was after a mutant, also when the bot died of it."""
    before = current_attribute(ExecutionEngine, "_mark")

    def die() -> None:
        with patched(MUTANTS["second-barrier-left-out"].swaps()):
            assert current_attribute(ExecutionEngine, "_mark") is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        die()
    assert current_attribute(ExecutionEngine, "_mark") is before


def test_an_unknown_mutant_is_named_with_those_that_are_known() -> None:
    """Somebody who mistypes a mutant reads which there are."""
    with pytest.raises(UsageError, match="--mutant gremlin: unknown mutant"):
        mutant("gremlin")


@pytest.mark.slow
@pytest.mark.first(4)
@pytest.mark.parametrize("name", CAUGHT)
def test_a_broken_rule_is_noticed(name: str) -> None:
    """The mutant is noticed at its recorded seed, by what is recorded."""
    assert MUTANTS[name].caught(CAUGHT[name].seed) == CAUGHT[name].by


@functools.cache
def whole(seed: int) -> str:
    """The story of the bot whose rules are whole."""
    return rehearse(seed, live=False).trace_hash


def goes_otherwise(one: Mutant, seed: int) -> bool:
    """Whether the mutant lives another story."""
    return rehearse(seed, swaps=one.swaps(), live=False).trace_hash != whole(seed)


@pytest.mark.slow
@pytest.mark.first(2)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=FAR) if name in LATE else name for name in ELSEWHERE if name not in CAUGHT],
)
def test_a_broken_rule_that_no_invariant_misses_yet_makes_another_bot(name: str) -> None:
    """What is planted is what the bot goes by: at its seed, or at one of the corpus, the story goes otherwise."""
    assert any(goes_otherwise(MUTANTS[name], seed) for seed in (ELSEWHERE[name], *CORPUS))


@pytest.mark.slow
@pytest.mark.first(2)
@pytest.mark.parametrize("name", [name for name in RUN if name not in {*CAUGHT, *ELSEWHERE}])
def test_what_is_planted_is_what_the_bot_runs(name: str) -> None:
    """A mutant that nothing misses yet stands where the bot comes by."""
    calls: list[str] = []

    def counted(swap: tuple[Any, str, Any]) -> tuple[Any, str, Any]:
        owner, attribute, new = swap

        def call(*given: Any, **named: Any) -> Any:
            calls.append(attribute)
            return new(*given, **named)

        return owner, attribute, call

    with suppress(Exception):  # whatever a broken bot dies of
        rehearse(RUN[name], swaps=tuple(map(counted, MUTANTS[name].swaps())), live=False)
    assert calls


@pytest.mark.slow
@pytest.mark.first(2)
@pytest.mark.no_cover  # what whole days run through is not therefore tested, and to measure it takes long
@pytest.mark.parametrize("seed", [pytest.param(seed, marks=FAR) if seed in LONG else seed for seed in CORPUS])
def test_the_bot_as_it_is_passes_where_mutants_do_not(seed: int) -> None:
    """The same worlds, and those that once found something, find nothing against the bot whose rules are whole."""
    assert not rehearse(seed).violations


@pytest.mark.slow
@pytest.mark.no_cover  # as above
@pytest.mark.parametrize(("seed", "faults"), FAILED_UNDER.items())
def test_the_bot_as_it_is_passes_where_a_few_faults_found_something(seed: int, faults: tuple[str, ...]) -> None:
    """The same worlds with the same faults alone find nothing any more."""
    verdict = rehearse(seed, faults)
    assert set(verdict.faults) == set(faults)
    assert not verdict.violations


@pytest.mark.slow
def test_the_search_for_a_mutant_ends_at_the_first_seed_that_catches_it() -> None:
    """It names that seed and the invariant, and nothing where none of the seeds catches the mutant."""
    one, caught = mutant("arming-survives-every-restart"), CAUGHT["arming-survives-every-restart"]
    assert first_seed(one, [caught.seed, caught.seed + 1]) == caught
    without_a_restart = next(seed for seed in range(99) if not rehearse(seed).deaths)
    assert first_seed(one, [without_a_restart]) is None
