"""Fails where a name or a text uses a word that the field does not use (see docs/glossary.md).

Names: words of module and class names, and of every function, argument and variable. Texts: words in strings and docs
that have no other meaning here. Tests: their names, docstrings and comments; what they quote is free.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
NAMES: Final = re.compile(
    r"(?i)(?:^|_)(tend(?:ing|er)?|custody|astray|patience|gather(?:ing)?|hear(?:d|ing)?|told|look(?:ing)?|take|heed"
    r"|errands?|post|room|floor|wish(?:es)?|doubt|standing|mend(?:ing)?|makings|course)(?:_|$)"
)
INNER: Final = re.compile(
    r"(?i)(?:^|_)(tend(?:ing|er)?|custody|astray|patien(?:ce|tly)|heed|errands?|wish(?:es)?|mend(?:ing|ed)?|nobody"
    r"|whoever|keeper|desk|woken|standing|heard)(?:_|$)"
)
TEXTS: Final = re.compile(
    r"(?i)\b(astray|custody of|errands?|hearken\w*|is no (?:setting|day|speed|such)\b|lets? go of|beyond the books"
    r"|worked for more|is told of|mended)\b"
)

TESTS: Final = re.compile(
    r"(?i)(?<![a-z])(astray|custody|desk|doubt(?:s|ful)?|errands?|hear(?:s|d|ing)?|heeds?|keeper|mend(?:s|ed|ing)?|nobody"
    r"|patience|so far|tell(?:s|ing)|told|whoever|wish(?:es)?|woken)(?![a-z])"
)
UNREAD: Final = ("engine", "execution", "trading")
"""Packages whose tests still use such words."""


def names(path: Path) -> list[str]:
    """The names of the module, its public classes, functions, arguments and variables that use such a word."""
    found = [path.stem] if NAMES.search(path.stem) else []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name) if not name.startswith("_"):
                words = re.sub(r"(?<!^)(?=[A-Z])", "_", name)
                found += [words] if NAMES.search(words) else []
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                found += [name] if INNER.search(name) else []
    return sorted(set(found))


def words_of_tests(path: Path) -> list[str]:
    """The names of a module of tests that use such a word, and the lines of its docstrings and comments."""
    source = path.read_text()
    tree = ast.parse(source)
    lines = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = [f" name {path.stem}"] if TESTS.search(path.stem) else []
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str() as text), lineno=first):
                lines |= dict(enumerate(text.splitlines(), start=first))
            case (
                ast.ClassDef(name=name)
                | ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.arg(arg=name)
                | ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                found += [f"{node.lineno}: name {name}"] if TESTS.search(name) else []
    found += [f"{line}: {hit.group()}" for line, text in lines.items() for hit in TESTS.finditer(text)]
    return sorted(set(found))


def main() -> int:
    """Print each finding, and return 1 where there is one."""
    modules = [path for base in ("tbot_core", "plugins", "tests") for path in (ROOT / base).rglob("*.py")]
    code = [path for path in modules if "tests" not in path.parts]
    found = [f"{path.relative_to(ROOT)}: name {name}" for path in code for name in names(path)]
    for path in modules:
        if "tests" in path.parts and path.relative_to(ROOT).parts[1] not in UNREAD:
            found += [f"{path.relative_to(ROOT)}:{finding}" for finding in words_of_tests(path)]
    for path in (*code, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            found += [f"{path.relative_to(ROOT)}:{number}: {hit.group()}" for hit in TEXTS.finditer(line)]
    sys.stdout.write("\n".join([*found, f"words: {len(found)} to replace"]) + "\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
