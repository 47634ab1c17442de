"""The repository keeps its own rules: floors, sizes, names, one version, no way to the network in a test."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import SocketBlockedError, SocketConnectBlockedError

ROOT = Path(__file__).parents[1]
FUNCTION_LINES = 40
METHODS = 12
EXPLAINED = {
    "assembly.py: Assembly": "it has a question for each part of a run that the settings make",
    "plugin_context.py: plugin_context": "it gives a plugin each thing that it may use, a line each",
    "market_session.py: __init__": "it wires the parts of a session, a line each",
    "reconciler.py: _apply_findings": "the order of its steps is the rule",
    "broker_client.py: _send": "the faults of one request, in the order in which they strike",
    "venue_profiles.py: random_profile": "it draws the rules of a venue, a line each",
    "exchange.py: AlpacaExchange": "it has the protocols of a trading venue and of a venue with scenarios",
    "manager.py: PositionManager": "whatever happens to a position or its orders ends there",
    "engine.py: ExecutionEngine": "whatever happens to an order ends there",
    "broker_port.py: BrokerPort": "it has the protocols of a broker and of a simulated venue",
    "broker_supervisor.py: BrokerSupervisor": "it has the duties of one broker that the loops of a session call",
    "store.py: PendingDeliveries": "it has the steps of a delivery, each with its own records",
    "feed_health.py: FeedHealth": "it has a question for each consumer of the feed",
    "store.py: BarStore": "it has a question for each kind of stored bars and facts",
    "run.py: trade": "it puts the parts of a run together, a line each",
    "rehearse.py: command": "it has a parameter for each option",
    "instance.py: _document": "it has a line for each field of the status",
    "control_requests.py: send_request": "the order of its steps is the rule",
    "run_options.py: parse_run_options": "it has a line for each option, and for each two that exclude each other",
    "bootstrap.py: load_assembly": "the order of its steps is the rule",
    "logins.py: Logins": "it has each thing that is done with a login or a session",
    "login_store.py: StoredSessions": "it has a statement for each thing that is done with a stored session",
}
"""What is longer or has more than its budget, and why."""
PURE = {"model", "trading"}
CLOCKS = {"clock", "steady_clock"}
WAITERS = {"asyncio", "logging", "structlog", "sqlite3", "polars", "filelock", "click", "rich", "pluggy"}

SINGULARS = {
    "brokers": "broker", "strategies": "strategy", "filters": "filter", "alerts": "alert", "extensions": "extension",
}  # fmt: skip
FORBIDDEN = (
    r"/w[o]rk/|/tmp/boo[t]|/root/|/home/(?!you\b)\w",
    r"\bpypi\b|pythonhosted|npmjs|/simple\b(?=/)",
    # `sandbox allow-scripts` is a browser's word, in the policy of a report.
    r"(?i)\b(sandbox(?! allow-scripts)|workplace)\b|\bhelper session|\bissue #?\d|\bpart \d of \d",
)
VENDORS = re.compile(
    r"alpaca|apca_|ibkr|interactive.?brokers|\bib_|tradier|f[iu]nnhub|polygon|databento|twilio|slack|pagerduty|apprise"
    r"|telegram|discord",
    re.IGNORECASE,
)


def modules() -> list[Path]:
    """Every module of the core and of the plugins, tests apart."""
    paths = (*(ROOT / "tbot_core").rglob("*.py"), *(ROOT / "plugins").glob("*/*/tbot_*/**/*.py"))
    return sorted(path for path in paths if "__pycache__" not in path.parts)


@cache
def definitions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Every function and class of a module, wherever it stands."""
    found = []
    statements: list[ast.AST] = [*ast.parse(path.read_text()).body]
    while statements:
        statement = statements.pop()
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(statement)
        statements += [
            part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.stmt | ast.ExceptHandler)
        ]
    return found


def settings() -> dict[str, Any]:
    """The root pyproject."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def plugins() -> list[Path]:
    """The folder of every plugin."""
    return sorted(path.parent for path in (ROOT / "plugins").glob("*/*/pyproject.toml"))


def tracked() -> list[Path]:
    """Every file that git keeps."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git working tree")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return [path for path in paths if path.is_file() and path.resolve() != Path(__file__)]


def name_of(path: Path) -> str:
    """A path as people say it."""
    return str(path.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_no_function_is_longer_than_its_budget() -> None:
    """A function has at most 40 lines from `def` to its end, and a class 12 public methods (properties apart).

    What has more is explained, and nothing is that has not.
    """
    over = set()
    for path in modules():
        for node in definitions(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    over.add(f"{path.name}: {node.name}")
            if isinstance(node, ast.ClassDef):
                methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
                public = [part.name for part in methods if not part.name.startswith("_") and not part.decorator_list]
                if len(public) > METHODS:
                    over.add(f"{path.name}: {node.name}")
    assert over == EXPLAINED.keys()


@pytest.mark.slow
@pytest.mark.first(0)  # over 1.5 seconds
def test_no_private_name_has_a_docstring() -> None:
    """What a private function or class is for is said in a comment, if at all: docstrings are for who uses a thing."""
    found = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in tracked()
        if path.suffix == ".py"
        for node in definitions(path)
        if re.match("_[^_]", node.name) and ast.get_docstring(node)
    ]
    assert found == []


def test_the_core_names_no_vendor() -> None:
    """No Python file of the core has a vendor's name: plugins know vendors, and a data file those of absent plugins."""
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "tbot_core").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if VENDORS.search(line)
    ]
    assert found == []


def test_layers_are_one_contract_without_exceptions() -> None:
    """The layers are exhaustive, and no import contract has an ignore list."""
    contracts = settings()["tool"]["importlinter"]["contracts"]
    floors = next(contract for contract in contracts if contract["type"] == "layers")
    assert floors["exhaustive"] is True
    assert floors["containers"] == ["tbot_core"]
    for contract in contracts:
        assert not any(key.startswith("ignore") or key == "exhaustive_ignores" for key in contract)


def test_decisions_neither_wait_nor_log_nor_store() -> None:
    """`model` and `trading` hold no coroutine, log nothing and touch no store; only clocks may wait."""
    found = []
    for path in modules():
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] == "tbot_core" and parts[1] in PURE and parts[-1] not in CLOCKS:
            for node in ast.walk(ast.parse(path.read_text())):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                waits = isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
                if waits or WAITERS & {name.split(".")[0] for name in imported}:
                    found.append(f"{name_of(path)}:{getattr(node, 'lineno', 0)}")
    assert found == []


def test_every_plugin_follows_the_one_name_rule() -> None:
    """Folder, distribution, package, entry point and group are one name, and the package is typed."""
    assert {folder.parent.name for folder in plugins()} == {*SINGULARS}
    for folder in plugins():
        kind, name = SINGULARS[folder.parent.name], folder.name
        package = f"tbot_{kind}_{name}"
        stated = tomllib.loads((folder / "pyproject.toml").read_text())
        assert stated["project"]["name"] == f"tbot-{kind}-{name.replace('_', '-')}"
        assert name in stated["project"]["entry-points"][f"tbot.{folder.parent.name}"]
        assert "tbot-core>=1,<2" in stated["project"]["dependencies"]
        assert (folder / package / "py.typed").is_file()
        assert (folder / "README.md").is_file()
        assert list((folder / "tests").glob("test_*.py"))


def test_every_plugin_is_named_in_the_workspace() -> None:
    """The group `plugins`, the sources, and the import contracts name each plugin that exists, and no other."""
    stated = settings()
    kinds = [(SINGULARS[folder.parent.name], folder.name) for folder in plugins()]
    names = sorted(f"tbot-{kind}-{name.replace('_', '-')}" for kind, name in kinds)
    packages = sorted(f"tbot_{kind}_{name}" for kind, name in kinds)
    linter = stated["tool"]["importlinter"]
    independent = next(contract for contract in linter["contracts"] if contract["type"] == "independence")
    assert sorted(stated["dependency-groups"]["plugins"]) == names
    assert sorted(set(stated["tool"]["uv"]["sources"]) - {"tbot-core"}) == names
    assert sorted(set(linter["root_packages"]) - {"tbot_core"}) == packages
    assert sorted(independent["modules"]) == packages


def test_there_is_one_version() -> None:
    """VERSION.md at the root is the core's package data, and says what the distribution says."""
    version = f"v{settings()['project']['version']}"
    assert (ROOT / "VERSION.md").read_text() == (ROOT / "tbot_core" / "VERSION.md").read_text() == f"{version}\n"


@pytest.mark.slow
def test_no_file_names_a_machine_or_a_registry() -> None:
    """No file that git keeps holds a machine's absolute path, a registry's address, or talk of how it came about."""
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [f"{name_of(path)}:{number}: {line.strip()}" for rule in FORBIDDEN if re.search(rule, line)]
    assert found == []


def test_test_files_have_names_of_their_own() -> None:
    """No two test files share a name, and their folders are no packages."""
    files = sorted((*(ROOT / "tests").rglob("*.py"), *(ROOT / "plugins").glob("*/*/tests/**/*.py")))
    names = [path.name for path in files if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
    assert "__init__.py" not in names


def test_a_test_cannot_reach_the_network() -> None:
    """Opening a socket fails at once."""
    with pytest.raises(SocketBlockedError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


@pytest.mark.usefixtures("loopback")
def test_the_fixture_loopback_reaches_this_machine_alone() -> None:
    """With the fixture a test's own server is reached, and any other address still refused."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
    with socket.socket() as stranger, pytest.raises(SocketConnectBlockedError):
        stranger.connect(("192.0.2.1", 9))
