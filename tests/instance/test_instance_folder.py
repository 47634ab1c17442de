"""The instance's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tbot_core.instance import Instance

if TYPE_CHECKING:
    from pathlib import Path


def test_the_option_wins_over_the_variable_over_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--home`, else $TBOT_HOME, else the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TBOT_HOME", raising=False)
    assert Instance.at().home == tmp_path
    monkeypatch.setenv("TBOT_HOME", str(tmp_path / "b"))
    assert Instance.at(None).home == tmp_path / "b"
    assert Instance.at(tmp_path / "c").home == tmp_path / "c"
    assert Instance.at("d").home == tmp_path / "d"
    assert Instance.at("d/../e/").home == tmp_path / "e"


def test_everything_lies_inside_the_instance(tmp_path: Path) -> None:
    """Every folder and file of an instance is inside its folder, and naming one makes none."""
    instance = Instance.at(tmp_path / "x")
    named = (
        instance.env,
        instance.data,
        instance.journal,
        instance.runs,
        instance.bars,
        instance.logs,
        instance.reports,
        instance.lock,
    )
    assert len(set(named)) == len(named)
    assert all(path.is_relative_to(instance.home) for path in named)
    assert instance.path("storage/keys/a.key") == instance.home / "storage/keys/a.key"
    assert instance.path("/etc/x").as_posix() == "/etc/x"
    assert not instance.home.exists()


def test_what_a_rehearsal_records_is_apart_and_the_tables_of_the_operator_are_not(tmp_path: Path) -> None:
    """Journal, bars and data of plugins are beside the journals of other runs, by the id of the rehearsal."""
    own = Instance(tmp_path)
    rehearsed = Instance(tmp_path, rehearsal="rehearsal-1")
    assert own.table("a.csv") == rehearsed.table("a.csv")
    assert rehearsed.journal == own.runs / "rehearsal-1.sqlite"
    assert rehearsed.bars == own.runs / "rehearsal-1-bars"
    assert rehearsed.plugin_data("filter", "a") == own.runs / "rehearsal-1-plugins" / "filter-a"


@pytest.mark.parametrize(
    ("setting", "outside"),
    [
        ("control", False),
        ("a/../b", False),
        ("../b", True),
        ("a/../../b", True),
        ("/elsewhere/b", True),
        ("{home}/b", False),
        ("{home}/../b", True),
    ],
)
def test_paths_that_leave_the_instance_are_known(tmp_path: Path, setting: str, outside: bool) -> None:
    """An absolute path elsewhere and a relative one that climbs out are both outside."""
    assert Instance.at(tmp_path).outside(setting.format(home=tmp_path)) is outside
