"""Fails when a module is tested less than its package demands: 100 % of lines and branches, or 90 %.

Reads the files that `tools/coverage_plugin.py` leaves: one for each process of `make test COVERAGE=1` and `make cover`.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model import json_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = ROOT / ".coverage"
WHOLE: Final = frozenset(
    {"contracts", "errors", "instance", "journal", "marketdata", "model", "plugins", "system", "trading", "vault"}
)
"""Packages that decide or keep: every line and branch of them is tested."""

WHOLE_BESIDE: Final = frozenset({"execution/circuit_breaker.py", "reports/summary.py"})
"""Modules of other packages that are tested as whole."""

FULL: Final = 100.0
ABOVE: Final = 90.0


class Source:
    """The statements of a module: a line belongs to the one that it is in, and counts as its first line.

    What only a type checker is told, `case _` with `assert_never`, counts not at all.
    """

    def __init__(self, text: str) -> None:
        self._first: dict[int, int] = {}
        self._left_out: set[int] = set()
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.stmt(lineno=begin, end_lineno=int(end)):
                    body = getattr(node, "body", None) or getattr(node, "cases", None)
                    last = end if body is None else max(begin, _line(body[0]) - 1)
                    self._first |= dict.fromkeys(range(begin, last + 1), begin)
                case ast.match_case(body=[ast.Expr(ast.Call(func=ast.Name(id="assert_never")), end_lineno=int(end))]):
                    self._left_out |= {*range(node.pattern.lineno, end + 1)}

    def lines(self, lines: Iterable[int]) -> set[int]:
        """These lines as first lines."""
        return {self._first.get(line, line) for line in lines if line not in self._left_out}

    def branches(self, branches: Iterable[Sequence[int]]) -> set[tuple[int, int]]:
        """These branches, from a first line to a first line; 0 is the end of the function."""
        return {
            (self._first.get(begin, begin), self._first.get(end, end))
            for begin, end in branches
            if end not in self._left_out
        }


@attrs.define
class Module:
    """The lines and branches (from a line to a line) of a module, and those that were reached."""

    lines: set[int] = attrs.field(factory=set)
    branches: set[tuple[int, int]] = attrs.field(factory=set)
    reached_lines: set[int] = attrs.field(factory=set)
    reached_branches: set[tuple[int, int]] = attrs.field(factory=set)

    def add(self, source: Source, process: dict[str, Any]) -> None:
        """Add what one process has reached."""
        self.reached_lines |= source.lines(process["executed_lines"])
        self.reached_branches |= source.branches(process["executed_branches"])
        self.lines |= self.reached_lines | source.lines(process["missing_lines"])
        self.branches |= self.reached_branches | source.branches(process["missing_branches"])

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
    sources: dict[str, Source] = {}
    for path in sorted(folder.glob("*.json")):
        for name, process in json_document.parse_json(path.read_bytes()).items():
            if name not in sources:
                sources[name] = Source((ROOT / name).read_text(encoding="utf-8"))
            found[name].add(sources[name], process)
    return found


def _line(node: ast.AST) -> int:
    # Where a statement or a clause of a match begins, its decorators included.
    if isinstance(node, ast.match_case):
        return node.pattern.lineno
    decorators = getattr(node, "decorator_list", None)
    return int(decorators[0].lineno if decorators else node.lineno)  # type: ignore[attr-defined]  # statements have it


def demand(path: Path) -> float:
    """The percentage that the module's package demands."""
    base, *parts = path.relative_to(ROOT).parts
    name = "/".join(parts)
    whole = base == "tbot_core" and (Path(parts[0]).stem in WHOLE or name in WHOLE_BESIDE)
    return FULL if whole else ABOVE


if __name__ == "__main__":
    sys.exit(main())
