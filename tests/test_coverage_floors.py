"""The coverage gate demands of each module what its package demands."""

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
        ("tbot_core/trading/proposals.py", 100),
        ("tbot_core/system/filesystem.py", 100),
        ("tbot_core/journal/store.py", 100),
        ("tbot_core/instance/loading.py", 100),
        ("tbot_core/marketdata/live_feed.py", 100),
        ("tbot_core/model/formatting.py", 100),
        ("tbot_core/execution/engine.py", 90),
        ("tbot_core/engine/run.py", 90),
        ("tbot_core/cli/commands/run.py", 90),
        ("tbot_core/testing/purity_check.py", 90),
        ("plugins/strategies/open/tbot_strategy_open/strategy.py", 90),
    ],
)
def test_each_package_has_its_share(module: str, share: float) -> None:
    """What decides or keeps is tested whole, branches and all; the rest, and plugins, to nine tenths."""
    assert GATE["demand"](ROOT / module) == share


def test_without_a_measurement_the_gate_stays_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no coverage was recorded nothing is called tested."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COVERAGE_FILE", raising=False)
    assert GATE["main"]() == 1
    assert capsys.readouterr().out == "coverage: 0 modules, 0 fall short\n"
