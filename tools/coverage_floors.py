"""Fails when a module is tested less than its floor demands: 100 % with branches up to keeping, 90 % above.

Reads the coverage data that `make test COVERAGE=1` leaves, and the floors of the import contract. Plugins count as
doing; what a child process runs does not count.
"""

from __future__ import annotations

import io
import re
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from coverage import Coverage

ROOT: Final = Path(__file__).parents[1]
LOWEST_KEPT: Final = "settings"
"""A module of the topmost row of the keeping floor: the rows above it talk, await and retry."""

FULL: Final = 100.0
ABOVE: Final = 90.0


def main() -> int:
    """Print each module that falls short, and return 1 when there is one, or nothing was measured."""
    report = Coverage(config_file=str(ROOT / "pyproject.toml"))
    report.load()
    files = sorted(Path(name) for name in report.get_data().measured_files())
    doing = doing_modules()
    short = []
    for path in files:
        if "tests" not in path.parts and path.is_relative_to(ROOT) and path.exists():
            demanded, reached = demand(path, doing), share(report, path)
            if reached < demanded:
                missing = report.analysis2(str(path))[4]
                short.append(
                    f"{path.relative_to(ROOT)}: {reached:.1f} % of {demanded:.0f} %, lines {missing or '(branches)'}"
                )
    for line in short:
        print(line)
    print(f"coverage: {len(files)} modules, {len(short)} fall short")
    return 1 if short or not files else 0


def doing_modules() -> set[str]:
    """The modules of the core that stand above the keeping floor."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    rows = next(contract["layers"] for contract in linter["contracts"] if contract["type"] == "layers")
    names = [set(re.findall(r"\w+", row)) for row in rows]
    top = next(number for number, row in enumerate(names) if LOWEST_KEPT in row)
    return set().union(*names[:top])


def demand(path: Path, doing: set[str]) -> float:
    """The percentage that the module's floor demands."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ABOVE if parts[0] != "tbot_core" or parts[1] in doing else FULL


def share(report: Coverage, path: Path) -> float:
    """The percentage of the module's lines and branches that ran."""
    with redirect_stdout(io.StringIO()):
        return report.report(morfs=[str(path)], file=io.StringIO(), skip_covered=False)


if __name__ == "__main__":
    sys.exit(main())
