"""A seed is a world: the same one always, with the faults that it chooses or is given, and books that balance."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tbot_core.contracts import ReplaceMode
from tbot_core.errors import BrokerError, UsageError
from tbot_core.rehearsal.faults import FAULTS, SeedFaults, parse_fault_ids
from tbot_core.rehearsal.prices import STEPS_A_MINUTE
from tbot_core.rehearsal.random_streams import RandomStreams
from tbot_core.rehearsal.world import LEAD_S, QUIET_MINUTES, World

DRIVER = Path(__file__).with_name("rehearsal_driver.py")


async def idle(world: World, seconds: float) -> None:
    """A bot that looks at its account now and then."""
    broker = world.client(world.names[0])
    while world.loop.time() < seconds:
        try:
            await broker.connect()
            await broker.receive()
            await broker.snapshot(world.start)
        except BrokerError as error:
            world.add_trace_line(type(error).__name__)
        await asyncio.sleep(30)


def test_venues_break_alone_or_together() -> None:
    """F64 to F66 affect the first venue only, F67 all of them, and the last flap is over before the faults are."""
    seed = next(seed for seed in range(99) if len(World(seed, ()).names) == 2)
    for fault, broken in (
        ("F64", [True, False]),
        ("F65", [True, False]),
        ("F66", [True, False]),
        ("F67", [True, True]),
    ):
        world = World(seed, (), rates={fault: 1.0})
        assert [trouble(world, name, fault) for name in world.names] == broken


def trouble(world: World, name: str, fault: str) -> bool:
    """Whether requests to a venue ever meet that fault."""
    way = world.way(name)
    seconds = range(int(world.end))
    return any(way.passage("submit", float(second), -1.0).fault == fault for second in seconds)


async def errors_of_the_clock(world: World) -> list[float]:
    """By how much the wall clock was wrong, every few seconds until the faults are over."""
    wrong = []
    while world.loop.time() <= world.quiet_from:
        await world.clock.sleep(7)
        wrong.append((world.clock.now() - world.clock.true()).total_seconds())
    return wrong


def looked_at(seed: int, faults: tuple[str, ...] | None = None) -> World:
    """A world after such a bot."""
    world = World(seed, faults)
    world.run(lambda: idle(world, world.end))
    return world


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_same_seed_is_the_same_world_in_every_process() -> None:
    """Two processes with different hash seeds write the same traces of a bot that trades."""
    hashes = []
    for hash_seed in ("1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, str(DRIVER), "12"], env=environment, capture_output=True, text=True, check=True
        )
        hashes.append(done.stdout.split())
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 12


@pytest.mark.slow
def test_worlds_differ() -> None:
    """Venues, symbols, days and faults vary with the seed; one day in about fifty is whole."""
    worlds = [World(seed) for seed in range(200)]
    assert {len(world.names) for world in worlds} == {1, 2, 3}
    assert {len(world.market.symbols) for world in worlds} == {2, 3, 4, 5}
    assert 1 <= sum(world.session.minutes == 390 for world in worlds) <= 12
    venues = [world.way(world.names[0]).exchange.matching.character for world in worlds]
    for flag in ("brackets", "replaces", "streams", "query_by_cid", "lists_closed"):
        assert {getattr(one.rules, flag) for one in venues} == {True, False}
    assert {one.rules.replace for one in venues} == {*ReplaceMode}
    assert {one.cancels_by_cid for one in venues} == {one.dedupe_window_s > 0 for one in venues} == {True, False}


def test_a_day_is_cut_by_the_calendar() -> None:
    """The bot's calendar knows the close, and the faults stop before it."""
    world = World(0)
    assert world.calendar.session(world.session.date) == world.session
    assert world.session.early_close
    assert world.quiet_from == LEAD_S + (world.session.minutes - QUIET_MINUTES) * 60


def test_in_some_worlds_every_price_falls_at_once() -> None:
    """By so much that each position loses, in the first half of the day."""
    fallen = [world for seed in range(40) if (world := World(seed)).falls]
    assert 0 < len(fallen) < 20
    for world in fallen:
        half = world.session.minutes // 2 * STEPS_A_MINUTE
        closes = np.array([path.prices for path in world.market.paths.values()], dtype=float)
        moves = closes[:, 1 : half + 1] / closes[:, :half]
        assert (moves < 0.99).all(axis=0).any()


def test_most_faults_are_off_and_some_worlds_have_none() -> None:
    """Each fault is on in about one seed of seven; the swarm turns every one on somewhere."""
    on = [SeedFaults(RandomStreams(seed)).on for seed in range(400)]
    assert sum(not faults for faults in on) > 20
    assert 4 < sum(len(faults) for faults in on) / len(on) < 12
    assert {name for faults in on for name in faults} == {*FAULTS}


def test_taking_a_fault_away_leaves_the_others_where_they_were() -> None:
    """So that a failing seed can be shrunk: rates and plans of the rest are the same."""
    both = SeedFaults(RandomStreams(7), ("F2", "F60"))
    alone = SeedFaults(RandomStreams(7), ("F60",))
    assert both.rates["F60"] == alone.rates["F60"]
    struck = [both.strikes("F2", 0.0) for _ in range(50)]
    assert any(struck)
    assert both.planned("F60", 0.0, 36_000.0) == alone.planned("F60", 0.0, 36_000.0)


def test_no_fault_strikes_once_the_faults_are_over() -> None:
    """What would last longer ends there."""
    faults = SeedFaults(RandomStreams(1), (), rates={"F2": 1.0, "F60": 1.0}, until=600.0)
    assert faults.strikes("F2", 599.0)
    assert not faults.strikes("F2", 600.0)
    planned = faults.planned("F60", 0.0, 3600.0)
    assert planned
    assert all(begins < ends <= 600.0 for begins, ends in planned)
    assert faults.injected == {"F2": 1}


def test_some_acts_happen_once_a_day() -> None:
    """No symbol is split twice, whatever the rate."""
    assert len(SeedFaults(RandomStreams(1), (), rates={"F43": 1.0}).planned("F43", 0.0, 3600.0)) == 1


def test_a_fault_that_is_not_known_is_named() -> None:
    """The sentence lists those that are."""
    with pytest.raises(UsageError, match=r"F999.*F1,"):
        parse_fault_ids(("F1", "F999"))


def test_the_line_makes_the_world_again() -> None:
    """Its faults, given by name, lead to the same trace."""
    first = looked_at(5)
    assert first.line == f"--seed 5 --fault {','.join(first.faults.on)}"
    again = looked_at(5, first.faults.on)
    assert again.trace() == first.trace()
    assert World(5, ()).line == "--seed 5 --fault none"


def test_the_clock_goes_wrong_and_right_again() -> None:
    """F68 to F70: an hour more, an hour less, three seconds a minute; monotonic time is untouched."""
    for fault, least, most in (("F68", 3600, 3600), ("F69", -3600, -3600), ("F70", 0, 15)):
        world = World(2, (), rates={fault: 1.0})
        wrong = world.run(partial(errors_of_the_clock, world))
        spoilt = [seconds for seconds in wrong if seconds]
        assert spoilt
        assert all(least <= seconds <= most for seconds in spoilt)
        assert wrong[-1] == 0
        assert world.faults.injected[fault] > 0


def test_a_trace_shows_everything() -> None:
    """The line that makes the world, every request, and the bot's own words."""
    world = looked_at(4, ("F60",))
    trace = world.trace()
    assert trace[0] == world.line
    assert sum(" snapshot " in line for line in trace) > 60
    assert trace[-1].endswith("Unavailable") == bool(world.faults.injected)


@pytest.mark.parametrize("seed", range(8))
def test_cash_is_the_sum_of_the_facts_in_every_world(seed: int) -> None:
    """Also where others trade, split, pay and take back."""
    world = World(seed, (), rates=dict.fromkeys(("F20", "F29", "F43", "F44", "F45", "F46", "F47"), 0.5))
    world.run(lambda: idle(world, world.end))
    for way in world.ways:
        books = way.exchange.matching.books
        assert books.cash == books.first_cash + sum(fact.atoms for fact in books.facts)
        for symbol in world.market.symbols:
            assert books.units.get(symbol, 0) == sum(fact.units for fact in books.facts if fact.symbol == symbol)
    assert world.faults.injected
