"""The licence gate: what is installed may be used, and what may not be is refused."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from tbot_core.system import environ, processes

TOOL = Path(__file__).parents[1] / "tools" / "licences.py"


@pytest.fixture(scope="module")
def gate() -> dict[str, Any]:
    """The names of the tool."""
    return runpy.run_path(str(TOOL))


@pytest.mark.parametrize(
    ("licence", "fit"),
    [
        ("MIT", True),
        ("MPL-2.0 OR GPL-3.0-only", True),
        ("BSD-3-Clause AND MIT AND Zlib", True),
        ("BSD-3-Clause AND GPL-3.0-or-later", False),
        ("(MIT OR GPL-2.0-only) AND Apache-2.0", True),
        ("(MIT OR Apache-2.0) AND LGPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-or-later", False),
        ("LicenseRef-Proprietary", False),
        ("(MIT", False),
        ("MIT Apache-2.0", False),
        ("AND", False),
        ("", False),
    ],
)
def test_an_expression_is_met_or_refused(gate: dict[str, Any], licence: str, *, fit: bool) -> None:
    """One side of an OR suffices, both of an AND are needed, and what is unknown or broken is refused."""
    assert gate["fits"](licence, gate["RUNTIME"]) is fit


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT\n", "MIT"),
        ("Classifier: License :: OSI Approved :: Apache Software License\n", "Apache-2.0"),
        ("License: BSD 3-Clause License\n", "BSD-3-Clause"),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)\n", "GPL-3.0"),
        ("Classifier: License :: OSI Approved :: GNU Lesser General Public License v3 (LGPLv3)\n", "LGPL-3.0"),
        ("License: any-OSI\n", "MIT"),
        ("License: Proprietary\n", ""),
        ("", ""),
    ],
)
def test_older_metadata_is_understood(gate: dict[str, Any], tmp_path: Path, metadata: str, licence: str) -> None:
    """Where there is no expression the classifiers count, then the first line of the licence; else nothing."""
    import importlib_metadata

    folder = tmp_path / "a-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: a\nVersion: 1\n{metadata}\n")
    assert gate["licence_of"](importlib_metadata.PathDistribution(folder)) == licence


def test_what_is_installed_passes() -> None:
    """The gate finds no fault in this environment, and counts what runs."""
    done = processes.run_program([sys.executable, str(TOOL)], timeout_s=60, environment=environ.minimal_environment())
    assert done.code == 0, done.output
    assert done.output.endswith(" 0 faults\n")
