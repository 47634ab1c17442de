"""Settings files that are changed under a running bot: what is told of them, and which settings the next run has."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from tbot_core.cli.editions import Editions
from tbot_core.cli.run import furnish
from tbot_core.cli.wish import Wish
from tbot_core.settings import Instance, Sources, load, read


@attrs.define
class Files:
    """An instance's settings files, and the editions of a run that has begun with them."""

    home: Path
    editions: Editions

    def write(self, old: str, new: str) -> None:
        """Change the trading configuration."""
        path = self.home / ".env_bot"
        path.write_text(path.read_text().replace(old, new) + "\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The demo's settings."""
    furnish(tmp_path)

    def again(wish: Wish) -> tuple[Wish, Sources]:
        return wish, read(Instance.at(tmp_path))

    editions = Editions(*again(Wish(mode="paper", home=tmp_path)), again)
    editions.begin(load(tmp_path, mode="paper"))
    return Files(tmp_path, editions)


def test_f100_a_change_is_told_once_and_is_the_next_runs(files: Files) -> None:
    """F100: by name, as it was and as it will be; the run's own settings stay until it is renewed."""
    assert files.editions.look() is None
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=6")
    found = files.editions.look()
    assert found is not None
    assert (found.differences, found.fault) == ({"MAX_OPEN_POSITIONS": ("5", "6")}, "")
    assert files.editions.look() is None
    assert files.editions.found.texts()["MAX_OPEN_POSITIONS"] == "5"
    files.editions.renew()
    assert files.editions.found.texts()["MAX_OPEN_POSITIONS"] == "6"


def test_f100_settings_that_are_not_fit_are_told_and_never_had(files: Files) -> None:
    """F100: the fault is said, and a run that is renewed has what it had."""
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=many")
    found = files.editions.look()
    assert found is not None
    assert "MAX_OPEN_POSITIONS" in found.fault
    files.editions.renew()
    assert files.editions.found.texts()["MAX_OPEN_POSITIONS"] == "5"
    files.write("MAX_OPEN_POSITIONS=many", "MAX_OPEN_POSITIONS=5")
    mended = files.editions.look()
    assert mended is not None
    assert (mended.differences, mended.fault) == ({}, "")


def test_a_run_that_goes_on_under_older_settings_hears_of_those_in_the_files(files: Files) -> None:
    """What was changed while nobody ran is told at the first look; a seed of the command line is no difference."""
    held = load(files.home, mode="paper", overrides={"MAX_OPEN_POSITIONS": "4", "SEED": "9"})
    files.editions.wish = attrs.evolve(files.editions.wish, seed=9)
    files.editions.begin(held)
    found = files.editions.look()
    assert found is not None
    assert found.differences == {"MAX_OPEN_POSITIONS": ("4", "5")}


def test_a_run_begins_beside_files_that_are_not_fit(files: Files) -> None:
    """It goes on with what it has, and the first look says what is wrong."""
    settings = load(files.home, mode="paper")
    files.write("MAX_OPEN_POSITIONS=5", "MAX_OPEN_POSITIONS=many")
    wish, found = files.editions.wish, read(Instance.at(files.home))
    editions = Editions(wish, found, lambda wish: (wish, read(Instance.at(files.home))))
    editions.begin(settings)
    told = editions.look()
    assert told is not None
    assert told.fault
