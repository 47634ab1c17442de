"""Measures which lines and branches a run of pytest reaches: `-p tools.coverage_plugin`.

SlipCover rewrites each module as it is imported and stops counting what was reached: all cases take a seventh longer,
where a trace function doubles their time. Each process leaves one file in `.coverage`, named by its tier, and
`tools/coverage_floors.py` reads them all. What a child process runs does not count.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import slipcover

if TYPE_CHECKING:
    import pytest

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".coverage"
EXCLUDED: Final = (r"^ *\.\.\.$", "^if __name__ == .__main__.:")
"""Lines that nothing in the process of a test can reach, beside those that only a type checker reads."""

_MEASURED: Final = slipcover.FileMatcher(
    sources=[str(ROOT / "tbot_core"), str(ROOT / "plugins")], omit=["*/tests/*", "*/templates/*"]
)
_REACHED: Final = slipcover.Slipcover(branch=True, exclude_also=list(EXCLUDED))
# Before the first import of a module, which pytest's own plugins and conftest.py begin.
slipcover.ImportManager(_REACHED, _MEASURED).__enter__()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remove what an earlier run of the same tier has left."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        FOLDER.mkdir(exist_ok=True)
        for path in FOLDER.glob(f"{_tier(session)}-*.json"):
            path.unlink()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was reached."""
    process = os.environ.get("PYTEST_XDIST_WORKER", "main")
    path = FOLDER / f"{_tier(session)}-{process}.json"
    path.write_text(json.dumps(_REACHED.get_coverage()["files"]))


def _tier(session: pytest.Session) -> str:
    return session.config.getoption("tier") or "all"
