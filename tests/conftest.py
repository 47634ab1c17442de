"""What tests of several folders lean on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.plugins import discovery, probe
from tbot_core.plugins.trial_records import plugin_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.plugins.discovery import EntryPointInfo


@pytest.fixture(scope="session", autouse=True)
def _plugins_are_tried_once() -> Iterator[None]:
    # A new instance tries each plugin in a child: 1.5 s in hundreds of tests. Those of this repository, found sound
    # once, are not tried again while their files are the same; fake plugins get a child as ever.
    tried: dict[tuple[EntryPointInfo, str], probe.TrialOutcome] = {}
    real = probe.probe_plugin

    def once(entry: EntryPointInfo, *, limit_s: float = probe.LIMIT_S) -> probe.TrialOutcome:
        key = (entry, plugin_fingerprint(entry))
        outcome = tried.get(key) or real(entry, limit_s=limit_s)
        if outcome.failure is None and entry.dist.startswith("tbot-"):
            tried[key] = outcome
        return outcome

    for listing in discovery.installed_plugins():  # here, so that the first test that needs them does not pay for all
        if listing.entry.dist.startswith("tbot-") and listing.entry.kind != "command":
            once(listing.entry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "probe_plugin", once)
        yield


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
