"""`tbot rehearse`: what it counts, what it says of a violation, and when it stops."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from rehearsal_mutants.catalogue import MUTANTS
from rehearsal_mutants.caught import CAUGHT

from tbot_core import cli
from tbot_core.cli.commands.rehearse import RehearsalTally, command
from tbot_core.errors import UsageError
from tbot_core.model.clock import ManualClock
from tbot_core.rehearsal.parallel import SeedBatch, SeedReport, main, run_batch
from tbot_core.rehearsal.patching import patched
from tbot_core.rehearsal.rehearsal import rehearse

if TYPE_CHECKING:
    from pathlib import Path

NOON = dt.datetime(2026, 3, 3, 17, 0, tzinfo=dt.UTC)


def rehearsed(*options: str) -> Result:
    """The command with these options."""
    return CliRunner().invoke(command, options)


def figures(*options: str) -> Any:
    """Its document, of seeds that violate nothing."""
    done = rehearsed(*options, "--json")
    assert done.exit_code == 0
    return json.loads(done.stdout)


@pytest.mark.full  # a worker's line has them: below
def test_the_figures_are_those_of_the_seeds() -> None:
    """Sessions, orders, faults by kind and settled unknowns are the sums over the worlds, one after the other."""
    found, verdicts = figures("--seeds", "2", "--first-seed", "5"), [rehearse(seed) for seed in range(5, 7)]
    assert (found["sessions"], found["violations"]) == (2, [])
    assert found["orders"] == sum(one.orders for one in verdicts) > 0
    assert found["fills"] == sum(one.fills for one in verdicts) > 0
    assert found["deaths"] == sum(one.deaths for one in verdicts)
    assert sum(found["faults"].values()) == sum(sum(one.faults.values()) for one in verdicts) > 0
    assert found["unknown_resolved"] == sum(len(one.settled_s) for one in verdicts)


@pytest.mark.full  # a worker's task and lines are tested below
def test_processes_that_share_the_seeds_find_what_one_finds() -> None:
    """Two workers come to the figures of one."""
    assert figures("--seeds", "2", "--workers", "2") == figures("--seeds", "2")


@pytest.mark.slow
def test_people_read_the_same_figures() -> None:
    """Four lines: sessions, faults, unknown outcomes, violations; a world without a fault says that there was none."""
    lines = rehearsed("--seeds", "1", "--fault", "none").stdout.splitlines()
    assert lines[0].startswith("1 session, ")
    assert lines[1:] == ["0 faults injected: none", "No order had an unknown outcome.", "0 violations"]


@pytest.mark.slow
def test_faults_that_were_named_and_struck_nowhere_are_reported() -> None:
    """A fault that did not occur is named; one of a kind is singular."""
    tally = RehearsalTally(
        asked=1, named=("F2", "F33", "F34"), faults=Counter(F2=1), seeds=1, orders=1, fills=1, deaths=1
    )
    assert tally.lines() == [
        "1 session, 1 order, 1 fill, 1 crash and restart",
        "1 fault injected: F2 x1 (docs/reference/faults.md)",
        "F33, F34 did not occur: more --seeds or another --first-seed may trigger them",
        "No order had an unknown outcome.",
        "0 violations",
    ]
    assert "F33, F34 did not occur" in rehearsed("--seeds", "1", "--fault", "F33,F34").stdout


@pytest.mark.full  # worlds with chosen faults: test_rehearsal_world
def test_chosen_faults_alone_strike() -> None:
    """Worlds with two faults have no third one."""
    assert set(figures("--seeds", "3", "--fault", "F2,F21")["faults"]) <= {"F2", "F21"}


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_limit_of_time_that_is_over_lets_one_world_run_at_most() -> None:
    """The document counts the sessions that ran, not those asked for."""
    assert figures("--seeds", "50", "--minutes", "0.0001")["sessions"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_world_is_begun_after_the_time_is_up(workers: str) -> None:
    """A limit that passes with the first world lets no second one begin."""
    said = rehearsed("--seeds", "5000", "--minutes", "0.0001", "--workers", workers).stdout
    assert " of 5,000 sessions" in said


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_violation_is_reported_with_the_command_that_shows_it_again() -> None:
    """The seed, as few of its faults as still violate something, its feed, what is violated, and exit code 1."""
    name = "fills-known-by-their-event"
    with patched(MUTANTS[name].swaps()):
        done = rehearsed("--seeds", "1", "--first-seed", str(CAUGHT[name].seed), "--feed", "minutes")
        assert done.exit_code == 1
        again, *words = done.stderr.splitlines()
        assert again.startswith(f"tbot rehearse --seeds 1 --first-seed {CAUGHT[name].seed} --fault ")
        assert again.endswith(" --feed minutes")
        assert any(line.strip().startswith(CAUGHT[name].by) for line in words)
        repeated = rehearsed(*again.split()[2:], "--json")
    assert repeated.exit_code == 1
    assert json.loads(repeated.stdout)["violations"][0]["again"] == again


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_a_worker_says_a_line_of_each_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """A task and the report of a seed come through their text as they were."""
    task = SeedBatch(first=3, last=8, step=2, faults=("F2",))
    main(task.text)
    said = capsys.readouterr().out.splitlines()
    assert [SeedReport.read(line.encode()) for line in said] == list(run_batch(task, ManualClock(NOON)))
    assert [SeedReport.read(line.encode()).seed for line in said] == [3, 5, 7]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_feed_can_be_chosen_as_the_recorded_seeds_have_it() -> None:
    """The figures are those of the seed with that feed, whichever it would draw."""
    for feed, live in (("live", True), ("minutes", False)):
        found, there = figures("--seeds", "1", "--first-seed", "6", "--feed", feed), rehearse(6, live=live)
        assert found["faults"] == dict(there.faults)
        assert (found["orders"], found["fills"]) == (there.orders, there.fills)
    assert rehearse(6, live=True).trace_hash != rehearse(6, live=False).trace_hash


@pytest.mark.parametrize("other", ["--broker=x", "--serve", "--session=2026-03-02", "--scenarios"])
def test_a_feed_is_chosen_for_the_simulated_venues_alone(other: str) -> None:
    """With anything else it would have no effect, and is wrong usage."""
    done = rehearsed("--feed", "live", other)
    assert isinstance(done.exception, UsageError)
    assert "--feed is for the simulated venues" in str(done.exception)


@pytest.mark.slow
def test_a_rehearsal_takes_a_home_and_leaves_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Like every command; nothing is read or made there."""
    assert cli.invoke(["rehearse", "--seeds", "1", "--home", str(tmp_path)]) == 0
    assert "1" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
