"""The filter of docs/reference/filters.md: its code keeps the contract, and fetches."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tbot_core.contracts import Plugin, SupportsRefresh
from tbot_core.plugins.guarded import checked_facts
from tbot_core.system import processes

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "filters.md").read_text(encoding="utf-8")
CODE, TESTS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

NAMES: dict[str, Any] = {"__name__": "tbot_filter_ratings"}
exec(compile(CODE, "docs/reference/filters.md", "exec", dont_inherit=True), NAMES)


@pytest.mark.slow
def test_the_example_and_its_test_run_as_printed(tmp_path: Path) -> None:
    """In a folder of their own, with nothing of this repository but what is installed."""
    (tmp_path / "tbot_filter_ratings").mkdir()
    (tmp_path / "tbot_filter_ratings" / "__init__.py").write_text(CODE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_ratings.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    args = [sys.executable, "-P", "-m", "pytest", "-q", str(tmp_path / "tests")]
    done = processes.run_program(args, timeout_s=60, environment={"PYTHONPATH": str(tmp_path)})
    assert done.code == 0, done.output + done.errors
    assert re.search(r"\b\d+ passed", done.output)
    assert "error" not in done.output


def test_the_offer_fetches_what_it_declares() -> None:
    """Its host has a limit, its secrets a class, and the core takes what it returns."""
    offer = NAMES["tbot_filter"]()
    assert isinstance(offer, Plugin)
    assert offer.needs.sentence("x") == "secrets screener_api; hosts api.example.com"
    subject = NAMES["Ratings"](NAMES["Config"](), None)
    assert isinstance(subject, SupportsRefresh)
    assert checked_facts({"AAPL": {"rating": 4.5}}, subject.facts, ["AAPL", "XYZ"])
