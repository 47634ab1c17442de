"""A kill by a touched file, in two processes and the machine's time: nothing enters after it, and all comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SEEN_MS = 1_000
CANCELS_S = 15
"""Many times what `benchmarks/kill.py` names as its targets: a machine that is busy with other tests is slow."""


@pytest.fixture(scope="module")
def figures(root: Path) -> dict[str, Any]:
    """What the benchmark measures."""
    command = [sys.executable, "-W", "error", str(root / "benchmarks" / "kill.py"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.first(0)  # tests/cli/test_cli_control_requests.py touches the file in `make test`
def test_f96_a_kill_in_a_burst_of_a_hundred_entries_lets_no_further_one_leave(figures: dict[str, Any]) -> None:
    """Somebody touches control/kill, with a loose mode, as the fiftieth of a hundred leaves: it was the last."""
    assert (figures["sending"]["sent"], figures["sending"]["entered_after"]) == (50, 0)
    assert 0 <= figures["sending"]["seen_ms"] < SEEN_MS


@pytest.mark.slow
@pytest.mark.first(0)  # tests/cli/test_cli_control_requests.py touches the file in `make test`
def test_f97_a_kill_by_another_process_is_seen_by_a_bot_that_waits(figures: dict[str, Any]) -> None:
    """With a hundred entries at rest the file is seen at once, and each of them is taken back."""
    assert (figures["resting"]["sent"], figures["resting"]["entered_after"]) == (100, 0)
    assert 0 <= figures["resting"]["seen_ms"] < SEEN_MS
    assert figures["resting"]["cancels_s"] < CANCELS_S
