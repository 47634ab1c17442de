"""Fails where what judges tbot takes a figure or a belief from the code that it judges.

The simulation, the test kits and the venues of plugins run the bot, so they import its classes and functions; a
constant of it is an expectation, which they have from the contract. The invariants import nothing of it.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
JUDGED: Final = ("tbot_core.backtest", "tbot_core.engine", "tbot_core.execution", "tbot_core.trading")
OWN: Final = (*JUDGED, "tbot_core.journal.projections", "tbot_core.journal.ledger")
"""The code that is judged, and what folds the journal's events as the bot does."""

RESTARTS: Final = "tbot_core/rehearsal/invariants/restarts.py"
"""The invariants that replay a journal with the bot's own code, since they judge that."""

ALLOWED: Final = {
    "tbot_core.journal.ledger.ledger_of": "the ledger is judged: its holdings and cash by those of the venue",
    "tbot_core.journal.ledger.ADJUSTMENTS": "the name of the judged ledger's account of what is unexplained",
    "tbot_core.trading.lookahead.COLUMNS": "the names of signal columns, which are compared with each other",
    "tbot_core.trading.lookahead.NAMES": "the names of bar fields, which are compared with each other",
    "tbot_core.trading.matching.SIMULATOR_CAPABILITIES": "a replay runs with the simulator's own capabilities",
}
"""The names that may be imported nevertheless, each with its reason."""


def findings(source: str, path: str) -> Iterator[str]:
    """What a module of a judge takes from the code that it judges; `path` is relative to the repository."""
    tree = ast.parse(source)
    types = {id(node) for block in ast.walk(tree) if _is_for_types(block) for node in ast.walk(block)}
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in types:
            for name, alias in _imported(node):
                modules[alias] = name
                if name not in ALLOWED and (_is_constant(name) or (_is_invariant(path) and name.startswith(OWN))):
                    yield f"{path}:{node.lineno}: {name}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{modules.get(node.value.id, '')}.{node.attr}"
            if _is_constant(name):
                yield f"{path}:{node.lineno}: {name}"


def judges() -> Iterator[Path]:
    """The modules of the simulation and the test kits, and the venues of plugins."""
    for folder in ("tbot_core/rehearsal", "tbot_core/testing"):
        yield from sorted((ROOT / folder).rglob("*.py"))
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        if "tests" not in path.parts and any(part.startswith("venue") for part in path.parts):
            yield path


def main() -> int:
    """Print each finding, and return 1 where there is one."""
    paths = [(path, str(path.relative_to(ROOT))) for path in judges()]
    found = [words for path, name in paths for words in findings(path.read_text(encoding="utf-8"), name)]
    sys.stdout.write("\n".join([*found, f"judges: {len(found)} imports to replace"]) + "\n")
    return bool(found)


def _is_invariant(path: str) -> bool:
    folder, _, _ = path.rpartition("/")
    return path != RESTARTS and (folder.endswith("rehearsal/invariants") or path.endswith("_monitor.py"))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_constant(name: str) -> bool:
    # Whether a full name is that of a constant of a judged module, and no member of an enumeration.
    owner, _, last = name.rpartition(".")
    return name.startswith(JUDGED) and last.isupper() and owner.rpartition(".")[2].islower()


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    # The full names that a statement imports, each with its name in the module.
    start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
    yield from ((f"{start}{one.name}", one.asname or one.name) for one in node.names)


if __name__ == "__main__":
    sys.exit(main())
