"""What tests of several folders lean on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tbot_core import cli
from tbot_core.model.clock import SystemClock
from tbot_core.plugins import discovery, probe, trial_records
from tbot_core.system import filesystem, redaction, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", autouse=True)
def trials() -> Callable[[Path], None]:
    """Records the trials of the repository's plugins in an instance, so that its processes need not try them.

    A new instance tries each plugin in a child: 1.5 s in hundreds of tests. This process knows the outcomes before the
    first test.
    """
    entries = [listing.entry for listing in discovery.installed_plugins()]
    ours = [entry for entry in entries if entry.dist.startswith("tbot-") and entry.kind != "command"]
    tried = [*probe.probe_plugins(ours)]
    records = trial_records.with_outcomes(trial_records.TrialRecords(), tried, SystemClock().now())

    def record(home: Path) -> None:
        filesystem.make_folder(home)
        trial_records.write_records(home / "data", records)

    return record


@pytest.fixture(scope="session")
def paper_instance(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Makes a paper instance at a path: a copy of one that `tbot init --paper` made, with its keys.

    The command takes a second, and a copy none.
    """
    made = tmp_path_factory.mktemp("paper") / "instance"
    assert cli.invoke(["init", "--paper", "--home", str(made)]) == 0

    def copy(home: Path) -> Path:
        return Path(shutil.copytree(made, home, dirs_exist_ok=True))

    return copy


@pytest.fixture(autouse=True)
def _no_value_stays_registered() -> Iterator[None]:
    # A value that one test was handed would be redacted in all later ones, as it is in one process of tbot.
    yield
    secret._handed_out.clear()
    redaction._pattern.cache_clear()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Gives a file system of a size, as in `4m`; skips where this user may mount none: only root on Linux may."""
    folders: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        args = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder)]
        if sys.platform != "linux" or subprocess.run(args, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a file system")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", str(folder)], check=True)
