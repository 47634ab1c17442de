"""The coverage gate demands of each module what its package demands."""

from __future__ import annotations

import json
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


def reached(lines: list[int], missing: list[int], branches: list[list[int]], untaken: list[list[int]]) -> str:
    """What a process leaves of one module."""
    names = ("executed_lines", "missing_lines", "executed_branches", "missing_branches")
    module = dict(zip(names, (lines, missing, branches, untaken), strict=True))
    return json.dumps({"tbot_core/model/clock.py": module})


def test_processes_count_together(tmp_path: Path) -> None:
    """A line or branch that one process reaches is reached; what none reaches is named."""
    (tmp_path / "test-gw0.json").write_text(reached([1, 2, 3], [4, 5], [[2, 3]], [[2, 5], [3, 0]]))
    (tmp_path / "check-gw1.json").write_text(reached([1, 4], [2, 3, 5], [], [[2, 3], [2, 5], [3, 0]]))
    (module,) = GATE["measured"](tmp_path).values()
    assert module.share == 100 * 5 / 8
    assert module.missing == "5, 2->5, 3->exit"


def test_without_a_measurement_the_gate_stays_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no coverage was recorded nothing is called tested."""
    monkeypatch.setitem(GATE["main"].__globals__, "FOLDER", tmp_path)
    assert GATE["main"]() == 1
    assert capsys.readouterr().out == "coverage: 0 modules, 0 fall short\n"


def test_a_module_that_no_case_imports_falls_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no line that a process could leave out."""
    (tmp_path / "test-gw0.json").write_text(reached([1], [], [], []))
    monkeypatch.setitem(GATE["main"].__globals__, "FOLDER", tmp_path)
    assert GATE["main"]() == 1
    assert "tbot_core/errors.py: 0.0 % of 100 %" in capsys.readouterr().out
