"""What tests of several folders lean on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.plugins import discovery, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _plugins_are_tried_once() -> None:
    # A new instance tries each plugin in a child: 1.5 s in hundreds of tests. This process knows those of the
    # repository before the first test, so that none of them pays for all.
    for listing in discovery.installed_plugins():
        if listing.entry.dist.startswith("tbot-") and listing.entry.kind != "command":
            probe.probe_plugin(listing.entry)


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
