"""The simulator is tested itself: each rule that is broken on purpose violates an invariant at its recorded seed.

`python tools/mutants.py` searches for new seeds after a change of the bot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rehearsal_mutants.catalogue import MUTANTS, first_seed, mutant
from rehearsal_mutants.caught import CAUGHT

from tbot_core.contracts import BrokerCapabilities
from tbot_core.errors import UsageError
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.rehearsal.patching import current_attribute, patched
from tbot_core.rehearsal.rehearsal import rehearse
from tbot_core.rehearsal.seed_corpus import FAILED, FAILED_UNDER
from tbot_core.rehearsal.venue_profiles import VenueProfile

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

CORPUS = sorted({caught.seed for caught in CAUGHT.values()} | {*FAILED})

FIRST_OF_EACH = {caught.by: name for name, caught in reversed([*CAUGHT.items()])}
"""Of each invariant the mutant that `make check` tries; `make simulate` tries all."""

IN_OUTAGES = {"session-left-before-orders-are-settled", "leases-not-recalled", "brokers-counted-apart"}
"""Mutants that test_rehearsal_failover_restarts.py shows in planned outages.

Seeds hardly ever trade at two brokers, and their faults stop before the close.
"""

ON_DAYS = {
    "unacknowledged-entries-kept",
    "busted-shares-inferred-again",
    "oversized-stop-kept",
    "stop-sent-again-for-more-than-held",
    "confirmed-replace-takes-the-newest-level",
    "cancelled-stop-placed-without-waiting",
    "foreign-close-noticed-on-the-wrong-side",
    "protection-cancelled-on-a-missing-position",
    "no-first-stop-while-disputed",
    "exit-sent-again-two-minutes-before-the-close",
}
"""Mutants that test_rehearsal_mutants_days.py shows: seeds hardly ever have the two faults at once that they need."""

QUEUED = (2, 6)
"""Seeds in which entries rest at a venue with a queue, without faults."""

LONG = {130, 950}
"""Seeds whose clock is set many times: each takes over ten seconds."""


def case(name: str) -> ParameterSet:
    """A mutant with its tier."""
    is_first = name == FIRST_OF_EACH[CAUGHT[name].by]
    return pytest.param(name, marks=[] if is_first else pytest.mark.full)


def test_each_mutant_has_a_recorded_seed() -> None:
    """There are at least forty mutants; each says in a sentence what it does, and has a seed, an outage or a day."""
    assert len(MUTANTS) >= 40
    assert list(CAUGHT) == [name for name in MUTANTS if name not in IN_OUTAGES | ON_DAYS]
    assert all(one.words.endswith(".") for one in MUTANTS.values())


def test_at_least_forty_mutants_violate_an_invariant() -> None:
    """A mutant that only ends the process (ALIVE) does not count; the seeds are below 10,000."""
    by_invariant = [caught for caught in CAUGHT.values() if caught.by != "ALIVE"]
    assert len(by_invariant) >= 40
    assert all(caught.seed < 10_000 for caught in by_invariant)
    assert not [caught.by for caught in CAUGHT.values() if not caught.by.isupper()]


def test_a_bot_that_ends_with_an_error_is_restarted_and_checked() -> None:
    """Each such end is a violation that names the error and its place; after three of them there is no restart."""
    verdict = rehearse(6, swaps=MUTANTS["events-taken-twice"].swaps(), live=False)
    alive = [words for words in verdict.violations if words.startswith("ALIVE: JournalError")]
    assert len(alive) == 3
    assert verdict.violations[-3:] == tuple(alive)


def test_a_journal_that_is_torn_or_cannot_be_read_is_a_violation() -> None:
    """Events that were acknowledged are missing and the chain is broken; or the events contradict each other."""
    lost = rehearse(5, swaps=MUTANTS["appended-before-it-is-durable"].swaps(), live=False)
    assert {words.partition(":")[0] for words in lost.violations} == {"I14", "I19"}
    senseless = rehearse(6, swaps=MUTANTS["time-out-read-as-never-sent"].swaps(), live=False)
    assert any(words.startswith("I16: the journal cannot be read: ValueError") for words in senseless.violations)


def test_the_swaps_of_a_mutant_are_undone() -> None:
    """After a mutant the code is as before, also if an error ended the bot."""
    before = current_attribute(ExecutionEngine, "_mark")

    def fail() -> None:
        with patched(MUTANTS["second-barrier-left-out"].swaps()):
            assert current_attribute(ExecutionEngine, "_mark") is not before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert current_attribute(ExecutionEngine, "_mark") is before


def test_an_unknown_mutant_is_refused_with_the_list_of_known_ones() -> None:
    """The error names the unknown mutant."""
    with pytest.raises(UsageError, match="--mutant gremlin: unknown mutant"):
        mutant("gremlin")


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize("name", [case(name) for name in CAUGHT])
def test_a_broken_rule_violates_the_recorded_invariant(name: str) -> None:
    """At the recorded seed the first violation is of the recorded invariant."""
    assert MUTANTS[name].caught(CAUGHT[name].seed) == CAUGHT[name].by


@pytest.mark.slow
@pytest.mark.first(1)
@pytest.mark.parametrize(
    "seed",
    [seed if seed in FAILED and seed not in LONG else pytest.param(seed, marks=pytest.mark.full) for seed in CORPUS],
)
def test_the_bot_as_it_is_violates_nothing_in_the_corpus(seed: int) -> None:
    """The seeds of the mutants, and those that once found a fault, find none in the bot without swaps."""
    assert not rehearse(seed).violations


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "faults"),
    [pytest.param(*case, marks=pytest.mark.full if case[0] in LONG else []) for case in FAILED_UNDER.items()],
)
def test_the_bot_as_it_is_violates_nothing_under_the_faults_that_once_found_something(
    seed: int, faults: tuple[str, ...]
) -> None:
    """The same seeds with exactly the same faults find nothing any more."""
    verdict = rehearse(seed, faults)
    assert set(verdict.faults) == set(faults)
    assert not verdict.violations


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize(
    ("name", "noticed"), [("", set()), ("old-entries-kept", {"TTL"}), ("entry-ttl-doubled", {"TTL"})]
)
def test_an_entry_that_waits_in_a_queue_is_cancelled_after_its_ttl(name: str, noticed: set[str]) -> None:
    """At venues where entries rest in each of these seeds, the bot as it is violates nothing, and each mutant TTL."""
    queue = VenueProfile(rules=BrokerCapabilities(lists_closed=True, exec_ids_unique=True), queue_s=600.0)
    for seed in QUEUED:
        swaps = MUTANTS[name].swaps() if name else ()
        verdict = rehearse(seed, (), swaps, live=False, character=queue)
        assert verdict.orders > 0
        assert {words.partition(":")[0] for words in verdict.violations} == noticed, seed


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_the_search_for_a_mutant_ends_at_the_first_seed_that_notices_it() -> None:
    """It returns that seed and the invariant, and nothing if no seed notices the mutant."""
    one, caught = mutant("arming-survives-every-restart"), CAUGHT["arming-survives-every-restart"]
    assert first_seed(one, [caught.seed, caught.seed + 1]) == caught
    without_a_restart = next(seed for seed in range(99) if not rehearse(seed).deaths)
    assert first_seed(one, [without_a_restart]) is None
