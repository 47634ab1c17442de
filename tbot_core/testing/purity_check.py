"""Finds I/O, clocks and randomness that bypass `tbot_core.system` and the passed-in objects (the seams).

Run `python -m tbot_core.testing.purity_check FOLDER...`, or call `check` in a test. A necessary exception needs a
reason on its line: `# seam: REASON`. Folders named `tests` are skipped.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.system import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DISK: Final = "tbot_core.system.filesystem"
_SPAWN: Final = "tbot_core.system.processes"
_RANDOM: Final = "tbot_core.system.random"
_ENVIRON: Final = "tbot_core.system.environ"
_CLOCK: Final = "the Clock that is passed in"
_NET: Final = "`Context.connect`"
_LOOP: Final = "asyncio in the runner's one thread"

MODULES: Final = {
    "_thread": _LOOP,
    "aiohttp": _NET,
    "concurrent.futures": _LOOP,
    "fcntl": _DISK,
    "fileinput": _DISK,
    "ftplib": _NET,
    "glob": _DISK,
    "http.client": _NET,
    "httpx": _NET,
    "httpx2": _NET,
    "mmap": _DISK,
    "multiprocessing": _SPAWN,
    "pty": _SPAWN,
    "random": _RANDOM,
    "requests": _NET,
    "secrets": _RANDOM,
    "shutil": _DISK,
    "smtplib": _NET,
    "socket": _NET,
    "ssl": _NET,
    "subprocess": _SPAWN,
    "tempfile": _DISK,
    "threading": _LOOP,
    "time": _CLOCK,
    "urllib.request": _NET,
    "uuid": _RANDOM,
    "websockets": _NET,
}
"""Modules that only a seam may import, and what to use instead."""

NAMES: Final = {
    "asyncio.create_subprocess_exec": _SPAWN,
    "asyncio.create_subprocess_shell": _SPAWN,
    "asyncio.open_connection": _NET,
    "asyncio.start_server": _NET,
    "asyncio.to_thread": _LOOP,
    "builtins.open": _DISK,
    "datetime.date.today": _CLOCK,
    "datetime.datetime.now": _CLOCK,
    "datetime.datetime.today": _CLOCK,
    "datetime.datetime.utcnow": _CLOCK,
    "io.FileIO": _DISK,
    "io.open": _DISK,
    "os.environ": _ENVIRON,
    "os.environb": _ENVIRON,
    "os.getenv": _ENVIRON,
    "os.urandom": _RANDOM,
    "os.getrandom": _RANDOM,
    "pathlib.Path.cwd": _ENVIRON,
    "pathlib.Path.home": _ENVIRON,
}
"""Names that only a seam may use, and what to use instead."""

_OS_PURE: Final = frozenset(
    {"PathLike", "fsdecode", "fsencode", "fspath", "linesep", "name", "path", "sep", "strerror"}
)
_OS_CHILD: Final = ("fork", "posix_spawn", "spawn", "exec", "system", "popen", "kill")
_PATH_METHODS: Final = frozenset(
    {"read_text", "read_bytes", "write_text", "write_bytes", "iterdir", "rglob", "glob", "mkdir", "rmdir", "unlink"}
    | {"touch", "symlink_to", "hardlink_to", "chmod", "exists", "is_file", "is_dir", "is_symlink", "stat", "lstat"}
    | {"samefile", "expanduser"}
)
_ENCODING: Final = re.compile(r"(?i)utf|ascii|latin")
_MODE: Final = re.compile(r"[rwax][bt+]*\Z")
_MARKER: Final = re.compile(r"#\s*seam:\s*(.*)")
_ORDERED: Final = frozenset({"list", "tuple", "iter", "enumerate", "next", "map", "zip", "sum", "reversed", "dict"})


@attrs.frozen(kw_only=True, order=True)
class PurityFinding:
    """A bypass of the seams: the file and line, what was found, and what to use instead."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        """One line, as compilers write it."""
        return f"{self.path}:{self.line}: {self.found}; use {self.instead}"


def check(source: str, path: str) -> list[PurityFinding]:
    """The findings in a module's source, in line order; `path` is its name in the findings.

    A marker without a reason, and one without a finding, are findings too. Raises SyntaxError.
    """
    tree = ast.parse(source)
    bypasses, sets = _BypassVisitor(), _SetVisitor()
    bypasses.visit(tree)
    sets.visit(tree)
    found_here = bypasses.found + sets.found
    markers = _markers(source)
    findings = [
        PurityFinding(path=path, line=line, found=found, instead=instead)
        for line, found, instead in found_here
        if not markers.get(line)
    ]
    lines = {line for line, _, _ in found_here}
    for line, reason in markers.items():
        if line not in lines:
            findings.append(
                PurityFinding(path=path, line=line, found="a seam marker that excuses nothing", instead="no marker")
            )
        elif not reason:
            findings.append(
                PurityFinding(path=path, line=line, found="a seam marker without a reason", instead="# seam: REASON")
            )
    return sorted(findings)


def check_folders(folders: Sequence[Path]) -> list[PurityFinding]:
    """The findings in every module below the folders, except for the seams themselves, the clock, and tests."""
    return [
        finding
        for folder in folders
        for path in _modules(folder)
        if not _is_seam(path)
        for finding in check(filesystem.read_text(path), str(path))
    ]


def _modules(folder: Path) -> Iterator[Path]:
    for path in filesystem.entries(folder):
        if filesystem.is_folder(path):
            if path.name != "tests" and not path.name.startswith("."):
                yield from _modules(path)
        elif path.suffix == ".py":
            yield path


def _is_seam(path: Path) -> bool:
    return path.parts[-3:-1] == ("tbot_core", "system") or path.parts[-3:] == ("tbot_core", "model", "clock.py")


def _markers(source: str) -> dict[int, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    matches = ((token.start[0], _MARKER.match(token.string)) for token in tokens if token.type == tokenize.COMMENT)
    return {line: match[1].strip() for line, match in matches if match}


class _BypassVisitor(ast.NodeVisitor):
    # Collects (line, what, instead) of imports, names and methods; names are resolved through imports.
    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._imported: dict[str, str] = {"open": "builtins.open"}

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for part in node.orelse:
                self.visit(part)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(node.lineno, alias.name)
            self._imported[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            return
        for alias in node.names:
            whole = f"{module}.{alias.name}"
            if not self._module(node.lineno, module):
                self._module(node.lineno, whole)
            self._imported[alias.asname or alias.name] = whole
            if whole in NAMES or module == "os":
                self._name(node.lineno, whole)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and self._imported.get(node.id) == "builtins.open":
            self._name(node.lineno, "builtins.open")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        whole = self._dotted(node)
        if whole is None or not self._name(node.lineno, whole):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and self._dotted(node.func) is None:
            self._method(node, node.func.attr)
        self.generic_visit(node)

    def _module(self, line: int, name: str) -> bool:
        for module, instead in MODULES.items():
            if name == module or name.startswith(f"{module}."):
                self.found.append((line, f"import of {module}", instead))
                return True
        return False

    def _name(self, line: int, whole: str) -> bool:
        instead = NAMES.get(whole)
        if instead is None and whole.startswith("os."):
            part = whole.split(".")[1]
            instead = None if part in _OS_PURE else _SPAWN if part.startswith(_OS_CHILD) else _DISK
        if instead is not None:
            self.found.append((line, whole.removeprefix("builtins."), instead))
        return instead is not None

    def _method(self, node: ast.Call, name: str) -> None:
        if name == "run_in_executor":
            self.found.append((node.lineno, ".run_in_executor()", _LOOP))
        elif name == "read_text" and node.args and not _matches(node.args[0], _ENCODING):
            return  # read_text of a distribution's metadata; that of a path takes an encoding
        elif name in _PATH_METHODS or (name == "open" and _opens_a_path(node)):
            self.found.append((node.lineno, f".{name}()", _DISK))

    def _dotted(self, node: ast.expr) -> str | None:
        # The whole name of an attribute whose root was imported.
        if isinstance(node, ast.Name):
            return self._imported.get(node.id)
        if isinstance(node, ast.Attribute):
            root = self._dotted(node.value)
            return None if root is None else f"{root}.{node.attr}"
        return None


class _SetVisitor(ast.NodeVisitor):
    # Collects (line, what, instead) where a set's order would matter; sets are resolved through assignments.
    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._sets: set[str] = set()

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        joins = isinstance(node.func, ast.Attribute) and node.func.attr == "join"
        if name in _ORDERED or joins:
            for part in node.args:
                self._iterated(part)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                (self._sets.add if self._is_set(node.value) else self._sets.discard)(target.id)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name) and _annotates_set(node.annotation):
            self._sets.add(node.target.id)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self._iterated(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._iterated(node.iter)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        self._iterated(node.value)
        self.generic_visit(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer = set(self._sets)
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        self._sets -= {argument.arg for argument in arguments}
        self._sets |= {argument.arg for argument in arguments if _annotates_set(argument.annotation)}
        self.generic_visit(node)
        self._sets = outer

    def _iterated(self, node: ast.expr) -> None:
        if self._is_set(node):
            self.found.append((node.lineno, "iteration over a set, in no order", "sorted()"))

    def _is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return name in self._sets
            case ast.Call(func=ast.Name(id="set" | "frozenset")):
                return True
            case ast.BinOp(left=left, right=right, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
                return self._is_set(left) or self._is_set(right)
            case _:
                return False


def _annotates_set(annotation: ast.expr | None) -> bool:
    return (
        annotation is not None and re.match(r"(set|frozenset|AbstractSet|Set)\b", ast.unparse(annotation)) is not None
    )


def _opens_a_path(node: ast.Call) -> bool:
    if node.args:
        return _matches(node.args[0], _MODE)
    return not node.keywords or any(word.arg in {"mode", "encoding"} for word in node.keywords)


def _matches(node: ast.expr, pattern: re.Pattern[str]) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.match(node.value) is not None


def main() -> None:
    """Print the findings in the folders of the command line; exit code 1 if there are any."""
    findings = check_folders([Path(name) for name in sys.argv[1:]])
    for finding in findings:
        click.echo(str(finding))
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
