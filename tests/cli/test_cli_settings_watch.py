"""Settings files that are changed under a running bot: their report, and which settings the next run has."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from tbot_core.cli.commands.run import create_demo_instance
from tbot_core.cli.run_options import RunOptions
from tbot_core.cli.settings_watch import SettingsWatcher
from tbot_core.engine.bootstrap import assemble
from tbot_core.instance import Instance, SettingsFiles, load_settings, read_settings_files
from tbot_core.model.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.engine.assembly import Assembly


@attrs.define
class Files:
    """An instance's settings files, and the editions of a run that has begun with them."""

    home: Path
    editions: SettingsWatcher

    def write(self, old: str, new: str) -> None:
        """Change the trading configuration."""
        path = self.home / ".env_bot"
        path.write_text(path.read_text().replace(old, new) + "\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The demo's settings."""
    create_demo_instance(tmp_path)

    def again(requested: RunOptions) -> tuple[RunOptions, SettingsFiles]:
        return requested, read_settings_files(Instance.at(tmp_path))

    editions = SettingsWatcher(*again(RunOptions(mode="paper", home=tmp_path)), again)
    editions.begin(load_settings(tmp_path, mode="paper"))
    return Files(tmp_path, editions)


def test_f100_a_change_is_reported_once_and_is_the_next_runs(files: Files) -> None:
    """F100: by name, as it was and as it will be; the run's own settings stay until it is renewed."""
    assert files.editions.poll() is None
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=6")
    found = files.editions.poll()
    assert found is not None
    assert (found.differences, found.fault) == ({"MAX_OPEN_POSITIONS": ("5", "6")}, "")
    assert files.editions.poll() is None
    assert files.editions.sources.texts()["MAX_OPEN_POSITIONS"] == "5"
    files.editions.renew()
    assert files.editions.sources.texts()["MAX_OPEN_POSITIONS"] == "6"


def test_f100_settings_that_are_invalid_are_reported_and_never_used(files: Files) -> None:
    """F100: the fault is said, and a run that is renewed has what it had."""
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=many")
    found = files.editions.poll()
    assert found is not None
    assert "MAX_OPEN_POSITIONS" in found.fault
    files.editions.renew()
    assert files.editions.sources.texts()["MAX_OPEN_POSITIONS"] == "5"
    files.write("MAX_OPEN_POSITIONS=many", "MAX_OPEN_POSITIONS=5")
    repaired = files.editions.poll()
    assert repaired is not None
    assert (repaired.differences, repaired.fault) == ({}, "")


def test_a_run_that_goes_on_under_older_settings_reports_those_in_the_files(files: Files) -> None:
    """What was changed while no bot ran is reported at the first check; a seed of the command line is no difference."""
    held = load_settings(files.home, mode="paper", overrides={"MAX_OPEN_POSITIONS": "4", "SEED": "9"})
    files.editions.options = attrs.evolve(files.editions.options, seed=9)
    files.editions.begin(held)
    found = files.editions.poll()
    assert found is not None
    assert found.differences == {"MAX_OPEN_POSITIONS": ("4", "5")}


def test_a_run_begins_beside_files_that_are_not_fit(files: Files) -> None:
    """It goes on with what it has, and the first look says what is wrong."""
    settings = load_settings(files.home, mode="paper")
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=many")
    requested, found = files.editions.options, read_settings_files(Instance.at(files.home))
    editions = SettingsWatcher(
        requested, found, lambda requested: (requested, read_settings_files(Instance.at(files.home)))
    )
    editions.begin(settings)
    change = editions.poll()
    assert change is not None
    assert change.fault


NAME = "funds.csv"


@pytest.fixture
def table(files: Files) -> Path:
    """Where the operator's own table of funds lies; the run was begun with the one that is shipped."""
    begin(files)
    place = Instance.at(files.home).table(NAME)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def begin(files: Files) -> Assembly:
    """A run begins with the settings and tables that lie there."""
    assembly = assemble(files.home, "paper", SystemClock(), sources=files.editions.sources)
    files.editions.begin(assembly.settings, assembly.check_tables)
    return assembly


def shown(place: Path) -> str:
    """How a change of a table is reported."""
    return hashlib.sha256(place.read_bytes()).hexdigest()[:12]


def test_a_table_of_the_operators_that_is_changed_is_reported_once_and_is_the_next_runs(
    files: Files, table: Path
) -> None:
    """Placed, changed, and taken away: each is a setting that counts from the next session."""
    assert files.editions.poll() is None
    before = None
    for content in ("symbol,name\nAMD,A fund\n", "symbol,name\nAMD,A fund\nNVDA,Another\n"):
        table.write_text(content)
        found = files.editions.poll()
        assert found is not None
        assert (found.differences, found.fault) == ({NAME: (before, shown(table))}, "")
        assert files.editions.poll() is None
        files.editions.renew()
        run = begin(files)
        assert run.settings.tables == {NAME: hashlib.sha256(table.read_bytes()).hexdigest()}
        assert files.editions.poll() is None
        before = shown(table)
    table.unlink()
    found = files.editions.poll()
    assert found is not None
    assert found.differences == {NAME: (before, None)}


def test_a_table_that_is_invalid_is_reported_and_never_used(files: Files, table: Path) -> None:
    """The run goes on with what it has; once the table is fixed nothing is left to report."""
    table.write_text('symbol,name\n"AMD,A fund\n')
    found = files.editions.poll()
    assert found is not None
    assert found.differences == {}
    assert "funds.csv" in found.fault
    assert files.editions.poll() is None
    table.unlink()
    repaired = files.editions.poll()
    assert repaired is not None
    assert (repaired.differences, repaired.fault) == ({}, "")


def test_what_is_built_to_judge_a_table_is_not_kept(files: Files, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit table and an unfit one: no way to the network stays with the run, however often a table changes."""
    removed: list[str] = []
    run = begin(files)
    added = len(run.connections)
    monkeypatch.setattr(run.connections, "remove", _noting(removed, run.connections.remove))
    for content in ("symbol,name\nAMD,A fund\n", 'symbol,name\n"AMD,A fund\n'):
        table.write_text(content)
        assert files.editions.poll() is not None
    assert len(run.connections) == added
    assert len(removed) == 2


def _noting(noted: list[str], call: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    def remove(plugin: str, connect: Any) -> None:
        noted.append(plugin)
        call(plugin, connect)

    return remove


def test_a_table_that_was_changed_before_its_run_began_is_reported_at_the_first_poll(files: Files, table: Path) -> None:
    """As the settings of a session that is gone on with."""
    assembly = begin(files)
    table.write_text("symbol,name\nAMD,A fund\n")
    files.editions.begin(assembly.settings, assembly.check_tables)
    found = files.editions.poll()
    assert found is not None
    assert found.differences == {NAME: (None, shown(table))}
