"""Tiers: which cases each make target runs, how often properties are tried there, and markers that lie."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES = """
import pytest
from hypothesis import given, strategies

@pytest.mark.parametrize("n", range(3))
def test_quick(n): pass

@pytest.mark.slow
@pytest.mark.parametrize("n", range(3))
def test_slow(n): pass

@pytest.mark.first(2)
@pytest.mark.parametrize("n", range(3))
def test_first(n): pass

@pytest.mark.first(0)
def test_held_elsewhere(): pass

@pytest.mark.slow
def test_alone(): pass

@pytest.mark.parametrize("n", [pytest.param(0, marks=pytest.mark.full), 1, pytest.param(2, marks=pytest.mark.slow)])
def test_mixed(n): pass
"""

PROPERTY = """
from hypothesis import given, strategies

SEEN = []

@given(strategies.integers())
def test_property(number): SEEN.append(number)

def test_count(): print(f"tried {len(SEEN)} times")
"""

BUSY = """
import subprocess, sys, time
import pytest

def busy(seconds):
    while time.process_time() < seconds: pass

def test_busy():
    busy(time.process_time() + 0.4)

def test_child():
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.4: pass"])

@pytest.mark.slow
def test_marked():
    busy(time.process_time() + 0.4)

def test_idle():
    time.sleep(0.4)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, root: Path) -> Iterator[pytest.Pytester]:
    """A folder with the root's conftest."""
    pytester.makeconftest((root / "conftest.py").read_text())
    yield pytester
    for folder in (pytester.path, os.environ["PYTEST_DEBUG_TEMPROOT"]):
        shutil.rmtree(folder)


def run(suite: pytest.Pytester, body: str, *options: str) -> str:
    """What pytest says of a file with this body."""
    suite.makepyfile(body)
    return str(suite.runpytest_inprocess("-v", "-p", "no:xdist", "--tb=line", *options).stdout)


def cases(suite: pytest.Pytester, tier: str) -> list[str]:
    """The cases that a tier runs, in some order."""
    return sorted(re.findall(r"::test_(\S+) PASSED", run(suite, CASES, f"--tier={tier}")))


def test_the_first_parameters_of_what_takes_long_run_in_make_test(suite: pytest.Pytester) -> None:
    """Of each test, whatever its markers, unless another one holds its promise."""
    assert cases(suite, "test") == [
        "alone", "first[0]", "first[1]", "mixed[1]", "quick[0]", "quick[1]", "quick[2]", "slow[0]",
    ]  # fmt: skip


def test_the_other_parameters_run_in_make_check(suite: pytest.Pytester) -> None:
    """No case runs in both, in whatever order each is shuffled."""
    assert cases(suite, "check") == ["first[2]", "held_elsewhere", "mixed[2]", "slow[1]", "slow[2]"]


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_the_rest_runs_in_make_full(suite: pytest.Pytester) -> None:
    """What is marked `full`, and nothing else but properties."""
    assert cases(suite, "full") == ["mixed[0]"]


@pytest.mark.parametrize(("tier", "tried"), [("test", 20), ("check", 80)])
def test_properties_are_tried_in_each_tier(suite: pytest.Pytester, tier: str, tried: int) -> None:
    """With 20 examples, then with 80 that another seed gives."""
    body = PROPERTY if tier == "test" else PROPERTY.replace("def test_count", "@pytest.mark.first(0)\ndef test_count")
    said = run(suite, f"import pytest\n{body}", f"--tier={tier}", "-p", "no:randomly", "-s", "--hypothesis-seed=1")
    assert f"tried {tried} times" in said


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
@pytest.mark.parametrize(("limit", "outcome"), [("0.1", "PASSED"), ("0.03", "FAILED")])
def test_a_marker_that_lies_is_reported(suite: pytest.Pytester, limit: str, outcome: str) -> None:
    """Processor time over the limit, of the test or its child, is in the summary; over three limits it fails."""
    said = run(suite, BUSY, f"--slow-above={limit}")
    assert dict(re.findall(r"::test_(\S+) (PASSED|FAILED) ", said)) == {
        "busy": outcome, "child": outcome, "idle": "PASSED", "marked": "PASSED",
    }  # fmt: skip
    assert len(re.findall(r"takes 0\.\d s of processor time: mark it `slow`, or make it shorter\n", said)) >= 2
    assert len(re.findall(r"::test_\w+ takes", said)) == (2 if outcome == "PASSED" else 0)
