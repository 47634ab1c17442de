"""Failover over restarts, and with its rules broken on purpose: what a process leaves, and what notices a mutant."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import pytest
from rehearsal_mutants.catalogue import MUTANTS

from tbot_core.journal import records
from tbot_core.rehearsal.bot import BotProcess, PlannedCrash, SimulatedCrash
from tbot_core.rehearsal.failover_drill import MINUTES, OutageResult, OutageScenario
from tbot_core.rehearsal.patching import patched

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tbot_core.rehearsal.world import World

LONG_LIFE = 10**9
BROKEN = OutageScenario(troubles=((0, "F60", 5.0, 15.0),))
FEW = attrs.evolve(BROKEN, most_trades=6)
HELD = OutageScenario(troubles=((0, "F60", 9.2, 16.0),), calls=(8, 11, 12, 13, 14, 20, 21, 22, 23))


AT_THE_CLOSE = OutageScenario(troubles=((0, "F61", MINUTES - 7.05, MINUTES + 1.0),), calls=(8, MINUTES - 8))
"""An outage of the orders over the close, in which an entry has left."""


async def lived(outage: OutageScenario, world: World, home: Path, deaths: Sequence[int]) -> OutageResult:
    """The outage, in as many lives as the deaths make of it: each comes after so many operations."""
    story, left = outage.story(world), [*deaths]
    while True:
        doom = PlannedCrash(left.pop(0) if left else LONG_LIFE, after=False)
        life = BotProcess(world, world.names, home, outage.bot(world), doom)
        try:
            await life.live()
        except SimulatedCrash:
            story.lives.append(life.lived)
            life.close()
            await world.clock.sleep(3.0)
        else:
            story.lives.append(life.lived)
            story.end(life)
            life.close()
            return OutageResult.of(story, home)


def played(outage: OutageScenario, home: Path, *deaths: int) -> OutageResult:
    """The outage from its beginning to its end."""
    world = outage.world()
    return world.run(partial(lived, outage, world, home, deaths))


@pytest.mark.slow
@pytest.mark.parametrize("death", [900, 1400, 1900, 2300, 2700])
def test_a_restart_goes_on_with_leases_breaks_and_both_accounts_though_the_primary_is_down(
    tmp_path: Path, death: int
) -> None:
    """Wherever the process dies: what has moved stays moved, and neither account is forgotten."""
    played_world = played(BROKEN, tmp_path, death)
    assert len(played_world.story.lives) == 2
    assert played_world.violations == ()
    assert played_world.story.held is not None


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_break_and_what_was_confirmed_of_it_outlive_a_restart(tmp_path: Path) -> None:
    """The new process knows since when the primary is broken, though it saw nothing of it."""
    played_world = played(BROKEN, tmp_path, 1500, 250)
    since = {
        event.payload["since"] for event in played_world.events(records.CIRCUIT) if event.payload["since"] is not None
    }
    assert len(played_world.story.lives) == 3
    assert len(since) == 1
    assert played_world.violations == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "outage", "deaths", "by"),
    [
        ("lease-not-looked-at", BROKEN, (), "I13"),
        ("lease-not-written-down", BROKEN, (), "I13"),
        ("lease-moved-back-on-return", BROKEN, (), "I13"),
        ("leases-not-recalled", BROKEN, (2600,), "I13"),
        ("entries-move-though-orders-are-out", HELD, (), "I13"),
        ("brokers-counted-apart", FEW, (), "I3"),
        ("other-brokers-not-recalled", BROKEN, (2300,), "I4"),
        ("session-left-before-orders-are-settled", AT_THE_CLOSE, (), "SETTLED"),
    ],
)
@pytest.mark.first(0)  # the outages themselves are tested above
def test_a_broken_rule_is_noticed_in_an_outage(
    tmp_path: Path, name: str, outage: OutageScenario, deaths: tuple[int, ...], by: str
) -> None:
    """By the invariant that the rule serves, or by the bot's own death of it; the whole bot passes the same outage."""
    (tmp_path / "whole").mkdir()
    assert played(outage, tmp_path / "whole", *deaths).violations == ()
    (tmp_path / "broken").mkdir()
    with patched(MUTANTS[name].swaps()):
        played_world = played(outage, tmp_path / "broken", *deaths)
    assert by in {words.partition(":")[0] for words in played_world.violations}
