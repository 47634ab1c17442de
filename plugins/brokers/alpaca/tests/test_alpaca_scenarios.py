"""`tbot rehearse --broker alpaca --scenarios`: short days with one fault each, judged by what the venue has seen."""

from __future__ import annotations

import json
from typing import Final

import pytest
from click.testing import CliRunner
from tbot_broker_alpaca import tbot_broker

from tbot_core import cli
from tbot_core.cli.commands.rehearse import command
from tbot_core.errors import PluginError, UsageError
from tbot_core.rehearsal.broker_rehearsal import broker_plugin
from tbot_core.rehearsal.scenario_days import (
    ScenarioBatch,
    chosen_names,
    main,
    run_batch,
    run_parallel,
    run_scenario,
    venue_scenarios,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loopback")]

OPTIONS: Final = ["--broker", "alpaca", "--scenarios"]
SOUND: Final = "updates: sent twice, in the last five minutes"


def test_names_are_chosen_by_patterns() -> None:
    """Those that are not full without any; one that fits nothing is refused."""
    offered = venue_scenarios(tbot_broker())
    assert len(chosen_names(offered, ["*"])) == len(offered)
    assert set(chosen_names(offered, [])) == {name for name, one in offered.items() if not one.full}
    assert chosen_names(offered, [SOUND]) == (SOUND,)
    with pytest.raises(UsageError, match="No scenario fits 'nothing'"):
        chosen_names(offered, ["nothing"])


@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize(
    "name",
    [
        SOUND,
        "exit: kill -9, the request arrives, in the last five minutes",
        pytest.param("short stop: 504, booked", marks=pytest.mark.full),
        "replace: cut, booked, midday",
    ],
)
def test_a_scenario_is_a_day_that_is_judged(name: str) -> None:
    """Its fault occurs, the position is protected within a second, and the books agree."""
    plugin = tbot_broker()
    found = run_scenario(plugin, venue_scenarios(plugin)[name])
    assert (found.violations, found.faults_met, found.cash_equal) == ((), True, True)
    assert 0.0 < found.longest_bare_s <= 1.0


@pytest.mark.first(0)  # over two seconds
def test_the_command_prints_a_table_or_a_document() -> None:
    """Also of several processes, in the order of the venue."""
    done = CliRunner().invoke(command, [*OPTIONS, SOUND, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert (document["broker"], document["failed"], document["reasons"]) == ("alpaca", 0, {})
    assert [one["name"] for one in document["scenarios"]] == [SOUND]
    with run_parallel(ScenarioBatch(broker="alpaca", names=(SOUND,)), 2) as reports:
        [found] = reports
    assert found.name == SOUND


@pytest.mark.parametrize(
    "arguments",
    [["--scenarios"], [*OPTIONS, "--seeds", "2"], ["--broker", "alpaca", "a name"], [*OPTIONS, "no such scenario"]],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str]) -> None:
    """With the exit code of a wrong command line."""
    assert cli.invoke(["rehearse", *arguments]) == 2


def test_a_venue_without_scenarios_is_named() -> None:
    """The kit's page says what it needs."""
    with pytest.raises(PluginError, match="offers no scenarios"):
        venue_scenarios(broker_plugin("paper"))


def test_a_batch_is_read_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the argument of another process, which prints a line for each name, so nothing for none."""
    batch, empty = (ScenarioBatch(broker="alpaca", names=names) for names in (("a", "b"), ()))
    assert ScenarioBatch.read(batch.text) == batch
    assert [*run_batch(empty)] == []
    main(empty.text)
    assert capsys.readouterr().out == ""
    with pytest.raises(KeyError, match="a"):
        main(batch.text)
