"""The service manager hears of a run through the datagram socket that it names, as sd_notify(3) describes."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tbot_core.system import service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening manager, at a path or at an abstract name."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names exist on Linux only")
    name = f"@{tmp_path.name}-notify" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield receiver


def test_each_state_is_one_datagram(manager: socket.socket) -> None:
    """The states arrive in order, each whole."""
    states = (service_manager.READY, service_manager.ALIVE, service_manager.STOPPING)
    assert all(service_manager.notify(state) for state in states)
    assert [manager.recv(100).decode() for _ in states] == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """No variable, a malformed one and a manager that is gone are no failure."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not service_manager.notify(service_manager.READY)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_is_valid_and_exposes_little(root: Path, tmp_path: Path) -> None:
    """Systemd accepts deploy/tbot@.service without a remark, and rates its exposure as OK."""
    unit = tmp_path / "tbot@one.service"
    text = (root / "deploy" / "tbot@.service").read_text()
    unit.write_text(text.replace("/opt/tbot/bin/tbot", sys.executable))
    judged = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (judged.returncode, judged.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", rated.stdout)
    assert exposure is not None
    assert float(exposure[1]) < 2
