"""The coverage gate demands of each module what its floor demands."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GATE = runpy.run_path(str(ROOT / "tools" / "coverage_floors.py"))


@pytest.mark.parametrize(
    ("module", "share"),
    [
        ("tbot_core/errors.py", 100),
        ("tbot_core/decide.py", 100),
        ("tbot_core/seams/disk.py", 100),
        ("tbot_core/journal/journal.py", 100),
        ("tbot_core/settings/loading.py", 100),
        ("tbot_core/execution.py", 90),
        ("tbot_core/runner/run.py", 90),
        ("tbot_core/cli/run.py", 90),
        ("tbot_core/testing/seamcheck.py", 90),
        ("plugins/strategies/open/tbot_strategy_open/strategy.py", 90),
    ],
)
def test_each_floor_has_its_share(module: str, share: float) -> None:
    """Up to the keeping floor everything runs, branches and all; above it, and in plugins, nine tenths."""
    assert GATE["demand"](ROOT / module, GATE["doing_modules"]()) == share


def test_without_a_measurement_the_gate_stays_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no coverage was recorded nothing is called tested."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    assert GATE["main"]() == 1
    assert capsys.readouterr().out == "coverage: 0 modules, 0 fall short\n"
