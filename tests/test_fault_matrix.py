"""Every fault and every crash point of the security rules has a test that bears its id."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
FAULTS: Final = frozenset(f"F{number}" for number in range(1, 123))
CRASH_POINTS: Final = frozenset(f"CP{number}" for number in range(1, 31))

_ID: Final = re.compile(r"(?<![a-z0-9])(f|cp)([1-9]\d*)(?![a-z0-9])", re.IGNORECASE)


def ids(words: str) -> set[str]:
    """The ids that are in a text: `test_f12_cp3_it_stays` has two, and `test_half_of_f12s` none."""
    return {f"{kind}{number}".upper() for kind, number in _ID.findall(words.replace("_", " "))}


def borne(source: str) -> set[str]:
    """The ids in the names of a module's tests, and in what they are parametrised with."""
    tree = ast.parse(source)
    tables = {
        target.id: [key for key in node.value.keys if key is not None]
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            found |= ids(node.name)
            found |= {one for text in _parameters(node, tables) for one in ids(text.partition(" ")[0])}
    return found


def _parameters(test: ast.FunctionDef | ast.AsyncFunctionDef, tables: dict[str, list[ast.expr]]) -> Iterator[str]:
    # The texts that a test is parametrised with; a table of the module counts with its keys.
    for decorator in test.decorator_list:
        parts = [*ast.walk(decorator)]
        named = [key for part in parts if isinstance(part, ast.Name) for key in tables.get(part.id, ())]
        for part in (*parts, *named):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_every_fault_and_crash_point_has_a_test_that_bears_its_id() -> None:
    """All of F1 to F122 and CP1 to CP30."""
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").glob("*/*/tests/**/test_*.py")]
    there = {one for path in tests if path != Path(__file__) for one in borne(path.read_text(encoding="utf-8"))}
    assert (FAULTS | CRASH_POINTS) - there == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def test_f12_it_stays(): ...", {"F12"}),
        ("async def test_cp3_f012(): ...", {"CP3"}),
        ("def test_half_of_f12s(): ...\ndef helper_f4(): ...", set()),
        ("@mark(ids=['f7 gone', 'not f8'])\ndef test_it(): ...", {"F7"}),
        ("PLANS: Final = {'CP1': 1, 'CP2': 2}\n@mark('point', PLANS)\ndef test_it(point): ...", {"CP1", "CP2"}),
        ("PLANS = {**MORE, 'CP1': 1}\nOTHERS = {'CP9': 1}\n@mark('point', PLANS)\ndef test_it(point): ...", {"CP1"}),
    ],
)
def test_ids_are_found_where_a_tests_name_shows_them(source: str, found: set[str]) -> None:
    """In the name itself, or in the part that pytest puts behind it."""
    assert borne(source) == found
