"""What is held back from a run: plugins that do not come back from a trial in a process of their own."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.actions.config import check_config
from tbot_core.actions.plugins import list_plugins
from tbot_core.engine.bootstrap import assemble
from tbot_core.errors import PluginError, SettingsError
from tbot_core.model.clock import ManualClock
from tbot_core.plugins import discovery, trial_records
from tbot_core.plugins.probe import probe_plugin
from tbot_core.plugins.quarantine import quarantine_broken
from tbot_core.system import environ, processes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo

NOW = dt.datetime(2026, 1, 5, 14, 30, tzinfo=dt.UTC)
ENDS = "import os\nos._exit(7)"


def test_what_ends_its_trial_is_held_back_and_recorded(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """A plugin that ends its process is tried in a child, recorded, and not among what may be loaded."""
    plant("good")
    fatal = plant("fatal", ENDS)
    wanted = [("strategy", "good"), ("strategy", "fatal"), ("strategy", "absent")]
    fit, failures = quarantine_broken(wanted, discovery.installed_plugins(), tmp_path, NOW)
    assert fit == {("strategy", "good"), ("strategy", "absent")}
    assert [(it.name, it.phase) for it in failures] == [("fatal", "probe")]
    assert "code 7" in failures[0].error
    record = trial_records.read_records(tmp_path).of(fatal)
    assert record is not None
    assert record.phase == "probe"


@pytest.mark.slow
def test_what_never_ends_costs_its_limit_once(plant: Callable[..., EntryPointInfo], tmp_path: Path, site: Path) -> None:
    """The record stands for the same files: with them the endless plugin is not tried again, with others it is."""
    plant("endless", "while True: pass")
    wanted = [("strategy", "endless")]
    _, failures = quarantine_broken(wanted, discovery.installed_plugins(), tmp_path, NOW, limit_s=1)
    assert "did not finish within 1 s" in failures[0].error
    # A trial without any time to it would say 0 s.
    assert quarantine_broken(wanted, discovery.installed_plugins(), tmp_path, NOW, limit_s=0) == (set(), failures)
    (site / "their_endless" / "__init__.py").write_text(ENDS)
    _, (failure,) = quarantine_broken(wanted, discovery.installed_plugins(), tmp_path, NOW)
    assert "code 7" in failure.error


def test_what_failed_in_words_may_be_loaded(plant: Callable[..., EntryPointInfo], tmp_path: Path) -> None:
    """A missing library may have been installed since, without a change of the plugin's files."""
    entry = plant("bare", "import no_such_library")
    trial_records.write_records(
        tmp_path, trial_records.with_outcomes(trial_records.TrialRecords(), [probe_plugin(entry)], NOW)
    )
    assert quarantine_broken([("strategy", "bare")], discovery.installed_plugins(), tmp_path, NOW) == (
        {("strategy", "bare")},
        (),
    )


def test_a_trial_that_cannot_be_recorded_counts_all_the_same(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """Where the data folder cannot be made, what is held back is held back."""
    plant("fatal", ENDS)
    (tmp_path / "data").write_text("")
    fit, (failure,) = quarantine_broken([("strategy", "fatal")], discovery.installed_plugins(), tmp_path / "data", NOW)
    assert (fit, failure.name) == (set(), "fatal")


def test_a_run_refuses_a_strategy_and_goes_on_without_a_filter(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """A simulation notes the filter that is held back; paper refuses it, and every mode a strategy."""
    plant("fatal", ENDS, kind="filter")
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nFILTERS=fatal\n")
    clock = ManualClock(NOW)
    note, nameless = assemble(tmp_path, "replay", clock).notes
    assert "identity" in nameless
    assert note.startswith("Not applied: filter fatal (its process ended with code 7")
    with pytest.raises(PluginError, match="The filter fatal"):
        assemble(tmp_path, "paper", clock)
    plant("deadly", ENDS)
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=deadly\nFILTERS=none\n")
    with pytest.raises(PluginError, match="The strategy deadly"):
        assemble(tmp_path, "replay", clock)


@pytest.mark.slow
def test_checks_hold_back_what_a_run_holds_back(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plugin that ends its process is a finding of `config check` and of `check`, and ends neither."""
    plant("fatal", ENDS)
    (tmp_path / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=fatal\nFILTERS=none\n")
    for words in (["config", "check"], ["check"]):
        assert cli.invoke([*words, "--home", str(tmp_path)]) != 0
        assert "its process ended with code 7" in capsys.readouterr().out
    assert cli.invoke(["config", "show", "--home", str(tmp_path)]) == 0


NOT_CREATED = """
import attrs
from tbot_core.contracts import Plugin
from tbot_core.contracts.hooks import hookimpl


@attrs.frozen
class Config:
    pass


def create(config, context):
    raise ValueError("the table is damaged")


@hookimpl
def tbot_broker():
    return Plugin(name="acme", summary="A sample", config=Config, create=create)
"""


@pytest.mark.slow
def test_the_check_fails_for_an_enabled_plugin_that_cannot_be_created(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a run refuses with exit 3 is a failing row of `tbot check`, with kind and name of the plugin."""
    plant("acme", NOT_CREATED, kind="broker")
    settings = tmp_path / ".env_bot"
    settings.write_text("BROKER_NAME=ACME\nSTRATEGY_SEQUENCE=open\nFILTERS=none\n")
    words = "The broker acme (their-acme 2.5) failed: it could not be created: ValueError: the table is damaged"
    assert cli.invoke(["check", "--home", str(tmp_path)]) == 3
    (row,) = [line for line in capsys.readouterr().out.splitlines() if words in line]
    assert row.startswith("fail  plugins ")
    assert "`tbot plugins info broker/acme`" in row
    settings.write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nFILTERS=none\n")
    cli.invoke(["check", "--home", str(tmp_path)])
    out = capsys.readouterr().out
    assert words not in out
    assert "Capabilities of paper that differ from the default: " in out
    assert "streams=no" not in out


def test_a_rehearsal_refuses_a_broker_that_cannot_be_created(
    plant: Callable[..., EntryPointInfo], capsys: pytest.CaptureFixture[str]
) -> None:
    """The sentence is that of a run, with the plugin and the error, and no day begins."""
    plant("acme", NOT_CREATED, kind="broker")
    assert cli.invoke(["rehearse", "--broker", "acme"]) == 3
    said = capsys.readouterr().err
    assert "The broker acme (their-acme 2.5) failed: it could not be created: ValueError: the table is damaged" in said


def test_where_no_instance_is_nothing_is_tried_or_written(tmp_path: Path) -> None:
    """A replay in any folder is refused for want of settings and leaves it as it is."""
    with pytest.raises(SettingsError):
        assemble(tmp_path, "replay", ManualClock(NOW))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.first(0)  # three starts
def test_f92_a_plugin_that_ends_the_process_of_a_run_is_named_and_set_aside(
    plant: Callable[..., EntryPointInfo], tmp_path: Path, site: Path
) -> None:
    """Its trial passes, and no start prevents it: the next one says where the last one ended, the third refuses it."""
    plant("deadly")
    module = site / "their_deadly" / "__init__.py"
    module.write_text("import os, sys\nif 'run' in sys.argv:\n    os._exit(9)\n" + module.read_text())
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env_bot").write_text("BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=deadly\nFILTERS=none\n")
    command = [sys.executable, "-m", "tbot_core", "run", "--replay", "2026-01-05..2026-01-06", "--home", str(home)]
    environment = environ.own_environment() | {"PYTHONPATH": str(site)}
    codes, errors = [], []
    for _ in range(3):
        done = processes.run_program(command, timeout_s=60.0, environment=environment)
        codes.append(done.code)
        errors.append(done.errors)
    assert codes == [9, 9, 3], errors
    assert "strategy/deadly" not in errors[0]
    assert "The last run ended in import of the plugin strategy/deadly" in errors[1]
    assert "The strategy deadly (their-deadly 2.5) failed" in errors[2]
    assert "the process of the run ended 2 times while it was imported or created" in errors[2]


def test_settings_of_a_plugin_that_cannot_be_imported_are_no_fault_of_their_own(
    plant: Callable[..., EntryPointInfo], tmp_path: Path
) -> None:
    """No plugin has declared them yet; what resembles a known name is reported all the same; the plugin is broken."""
    plant("bare", "import no_such_library", kind="filter")
    text = "BROKER_NAME=PAPER\nSTRATEGY_SEQUENCE=open\nFILTERS={}\nBARE_LEVEL=3\nMAX_TRADE=3\n"
    for filters, words in (("bare", ["MAX_TRADE"]), ("", ["BARE_LEVEL", "MAX_TRADE"])):
        (tmp_path / ".env_bot").write_text(text.format(filters))
        found = check_config(tmp_path, "paper")
        assert [one.keys[0] for one in found if one.message.startswith("Unknown setting")] == words
    rows, _ = list_plugins(tmp_path)
    assert [one["state"] for one in rows if one["name"] == "bare"] == ["broken"]
