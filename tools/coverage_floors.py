"""Fails when a module is tested less than its package demands: 100 % of lines and branches, or 90 %.

Reads the files that `tools/coverage_plugin.py` leaves: one for each process of `make test COVERAGE=1` and `make cover`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model import json_document

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".coverage"
WHOLE: Final = frozenset(
    {"contracts", "errors", "instance", "journal", "marketdata", "model", "plugins", "system", "trading", "vault"}
)
"""Packages that decide or keep: every line and branch of them is tested."""

WHOLE_BESIDE: Final = frozenset({"execution/circuit_breaker.py", "execution/order_lookup.py", "reports/summary.py"})
"""Modules of other packages that are tested as whole."""

FULL: Final = 100.0
ABOVE: Final = 90.0


@attrs.define
class Module:
    """The lines and branches (from a line to a line) of a module, and those that were reached."""

    lines: set[int] = attrs.field(factory=set)
    branches: set[tuple[int, int]] = attrs.field(factory=set)
    reached_lines: set[int] = attrs.field(factory=set)
    reached_branches: set[tuple[int, int]] = attrs.field(factory=set)

    def add(self, process: dict[str, Any]) -> None:
        """Add what one process has reached."""
        lines, branches = process["executed_lines"], [(begin, end) for begin, end in process["executed_branches"]]
        self.reached_lines.update(lines)
        self.reached_branches.update(branches)
        self.lines.update(lines, process["missing_lines"])
        self.branches.update(branches, ((begin, end) for begin, end in process["missing_branches"]))

    @property
    def share(self) -> float:
        """How much was reached, in percent."""
        reached, all_of_it = len(self.reached_lines) + len(self.reached_branches), len(self.lines) + len(self.branches)
        return FULL * reached / all_of_it if all_of_it else FULL

    @property
    def missing(self) -> str:
        """The lines that were not reached, and the branches where their line was."""
        lines = sorted(self.lines - self.reached_lines)
        branches = sorted(self.branches - self.reached_branches)
        ways = [f"{begin}->{end or 'exit'}" for begin, end in branches if begin in self.reached_lines]
        return ", ".join([*map(str, lines), *ways])


def main() -> int:
    """Print each module that falls short, and return 1 when there is one, or nothing was measured."""
    modules = measured(FOLDER)
    short = 0
    for name in sorted({*modules, *existing()}) if modules else ():
        module = modules.get(name, Module(lines={1}))  # what was never imported was not reached
        demanded = demand(ROOT / name)
        if module.share < demanded:
            short += 1
            print(f"{name}: {module.share:.1f} % of {demanded:.0f} %, not reached: {module.missing}")
    print(f"coverage: {len(modules)} modules, {short} fall short")
    return 1 if short or not modules else 0


def existing() -> Iterator[str]:
    """Each module of the core and the plugins that holds code, by its path within the repository."""
    for base in ("tbot_core", "plugins"):
        for path in (ROOT / base).rglob("*.py"):
            if "tests" not in path.parts and path.read_text().strip():
                yield str(path.relative_to(ROOT))


def measured(folder: Path) -> dict[str, Module]:
    """What all processes together have reached, by the module's path within the repository."""
    found: dict[str, Module] = defaultdict(Module)
    for path in sorted(folder.glob("*.json")):
        for name, process in json_document.parse_json(path.read_bytes()).items():
            found[name].add(process)
    return found


def demand(path: Path) -> float:
    """The percentage that the module's package demands."""
    base, *parts = path.relative_to(ROOT).parts
    name = "/".join(parts)
    whole = base == "tbot_core" and (Path(parts[0]).stem in WHOLE or name in WHOLE_BESIDE)
    return FULL if whole else ABOVE


if __name__ == "__main__":
    sys.exit(main())
