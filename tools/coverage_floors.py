"""Fails when a module is tested less than its package demands: 100 % with branches, or 90 %.

Reads the coverage data that `make test COVERAGE=1` leaves. What a child process runs does not count.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from coverage import Coverage

ROOT: Final = Path(__file__).parents[1]
WHOLE: Final = frozenset(
    {"contracts", "errors", "instance", "journal", "marketdata", "model", "plugins", "system", "trading", "vault"}
)
"""Packages that decide or keep: every line and branch of them is tested."""

WHOLE_BESIDE: Final = frozenset({"execution/circuit_breaker.py", "execution/order_lookup.py", "reports/summary.py"})
"""Modules of other packages that are tested as whole."""

FULL: Final = 100.0
ABOVE: Final = 90.0


def main() -> int:
    """Print each module that falls short, and return 1 when there is one, or nothing was measured."""
    report = Coverage(config_file=str(ROOT / "pyproject.toml"))
    report.load()
    files = sorted(Path(name) for name in report.get_data().measured_files())
    short = []
    for path in files:
        if "tests" not in path.parts and path.is_relative_to(ROOT) and path.exists():
            demanded, reached = demand(path), share(report, path)
            if reached < demanded:
                missing = report.analysis2(str(path))[4]
                short.append(
                    f"{path.relative_to(ROOT)}: {reached:.1f} % of {demanded:.0f} %, lines {missing or '(branches)'}"
                )
    for line in short:
        print(line)
    print(f"coverage: {len(files)} modules, {len(short)} fall short")
    return 1 if short or not files else 0


def demand(path: Path) -> float:
    """The percentage that the module's package demands."""
    base, *parts = path.relative_to(ROOT).parts
    name = "/".join(parts)
    whole = base == "tbot_core" and (Path(parts[0]).stem in WHOLE or name in WHOLE_BESIDE)
    return FULL if whole else ABOVE


def share(report: Coverage, path: Path) -> float:
    """The percentage of the module's lines and branches that ran."""
    with redirect_stdout(io.StringIO()):
        return report.report(morfs=[str(path)], file=io.StringIO(), skip_covered=False)


if __name__ == "__main__":
    sys.exit(main())
