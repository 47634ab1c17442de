"""What tools/golden.py compares depends on the code alone, and a difference is shown at its first event."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import golden
import pytest

TOOL = Path(golden.__file__)


def shown(part: str, tmp_path: Path, hash_seed: str) -> str:
    """The lines of a part by a process with its own folder of temporary files and order of sets."""
    made = subprocess.run(
        [sys.executable, str(TOOL), "show", part],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


@pytest.mark.slow
@pytest.mark.first(0)  # over two seconds
@pytest.mark.parametrize("part", ["seed 17", "demo 1", pytest.param("day 0", marks=pytest.mark.full)])
def test_a_part_has_the_same_lines_in_another_folder_and_under_another_hash_seed(part: str, tmp_path: Path) -> None:
    """Two processes print the same lines, which have events, and the digest is of them."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    lines = shown(part, one, "1")
    assert lines == shown(part, two, "2")
    assert " intended " in lines
    assert "\n".join(golden.lines_of(part)) == lines.rstrip("\n")


def test_the_first_line_that_differs_is_shown_with_those_before_it() -> None:
    """Also where one recording ends earlier; equal recordings are said to be equal."""
    assert golden.first_difference([*"abcd"], [*"abxd"]) == "  a\n  b\n- c\n+ x"
    assert golden.first_difference(["a"], ["a", "b"]) == "  a\n- (the end)\n+ b"
    assert "The same lines" in golden.first_difference(["a"], ["a"])


def test_each_part_of_the_fast_comparison_is_recorded() -> None:
    """Its digest, and a commit."""
    rows = golden.recorded_parts()
    assert {*golden.parts(fast=True)} <= {*rows}
    assert all(len(row.digest) == 16 and len(row.commit) == 12 for row in rows.values())
