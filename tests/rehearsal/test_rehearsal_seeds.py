"""Seeds from their beginning to their end: what must hold, holds, and a seed is always the same story."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from tbot_core.journal import records
from tbot_core.journal.store import NewEvent, open_journal
from tbot_core.rehearsal.bot import (
    AcknowledgedJournal,
    BotProcess,
    CrashingJournal,
    PlannedCrash,
    SimulatedCrash,
    bot_config,
)
from tbot_core.rehearsal.rehearsal import rehearse, shrink_faults
from tbot_core.rehearsal.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


SEEDS = range(4)


@pytest.mark.slow
@pytest.mark.first(0)  # over five seconds
def test_the_first_seeds_violate_nothing() -> None:
    """Orders, fills, faults and deaths, and no invariant is broken."""
    verdicts = [rehearse(seed) for seed in SEEDS]
    assert [(seed, one.violations) for seed, one in zip(SEEDS, verdicts, strict=True) if one.violations] == []
    assert sum(one.orders for one in verdicts) > 0
    assert sum(one.fills for one in verdicts) > 0
    assert sum(one.deaths for one in verdicts) > 0
    assert len({fault for one in verdicts for fault in one.faults}) > 3


@pytest.mark.full  # the same in two processes: test_rehearsal_world
def test_a_seed_is_the_same_story_every_time() -> None:
    """The same seed gives the same trace, another seed another one, and the same seed with fewer faults another."""
    whole = rehearse(3)
    assert rehearse(3) == whole
    assert rehearse(4).trace_hash != whole.trace_hash
    assert rehearse(3, ()).on == ()


def test_both_legs_of_a_bracket_fill_and_nothing_is_violated() -> None:
    """F38: a bot whose stop and target rest together has closed twice what it held, and makes good for it."""
    verdict = rehearse(70, ("F38",), live=False)
    assert verdict.faults["F38"] == 1
    assert verdict.violations == ()


class CrashAtTheClose(PlannedCrash):
    """Crashes the process once the event that closes its session is on disk."""

    def __init__(self) -> None:
        super().__init__(10**9, after=False)

    def journal(self, path: Path) -> AcknowledgedJournal:
        """The journal, whose last append crashes the process after it took effect."""
        journal = open_journal(path)
        append = journal.append

        def then_die(entries: Sequence[NewEvent]) -> None:
            append(entries)
            if any(one.kind == records.SESSION_CLOSED for one in entries):
                self.dead = True
                raise SimulatedCrash

        vars(journal)["append"] = then_die
        return CrashingJournal(journal, self)


@pytest.mark.slow
def test_a_process_that_dies_once_its_session_is_closed_does_not_trade_it_again(tmp_path: Path) -> None:
    """The last append took effect, and the process that is started then has nothing left to do."""
    world = World(6, (), rates={}, live=False, venues=1, minutes=20)
    crashes = CrashAtTheClose(), PlannedCrash(10**9, after=False)
    found: list[tuple[int, str]] = []

    async def trade() -> None:
        for crash in crashes:
            process = BotProcess(world, world.names, tmp_path, bot_config(world), crash)
            with suppress(SimulatedCrash):
                await process.live()
            found.append(process.journal.head)
            process.close()

    world.run(trade)
    first, second = found
    assert first == second
    assert [crash.dead for crash in crashes] == [True, False]
    with closing(open_journal(tmp_path / "tbot.sqlite")) as journal:
        assert [*journal.events()][-1].kind == records.SESSION_CLOSED


@pytest.mark.parametrize("after", [False, True])
def test_a_process_can_crash_as_it_sends_an_order(after: bool) -> None:
    """Before or after that operation; other operations do not count, and the next process is not aimed at."""
    crash = PlannedCrash(10**9, after=after, sends=2)
    assert not crash.pass_by(sends=True)
    assert not crash.pass_by()
    if after:
        assert crash.pass_by(sends=True)
    else:
        with pytest.raises(SimulatedCrash):
            crash.pass_by(sends=True)
    assert (crash.dead, crash.sends) == (True, 0)
    assert not PlannedCrash(10**9, after=after, sends=crash.sends).pass_by(sends=True)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_crash_leaves_orders_in_flight() -> None:
    """The process that follows looks up an order that may have left, and drops one that was never marked."""
    found = [rehearse(seed, live=False) for seed in (8, 33)]
    assert [one.violations for one in found] == [(), ()]
    assert all(one.deaths for one in found)


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
def test_a_seed_without_a_violation_is_shrunk_to_itself() -> None:
    """Nothing is taken away that was not to blame."""
    whole = rehearse(1, ("F2",))
    assert shrink_faults(1, whole) == whole
