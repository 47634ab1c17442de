"""Nothing in the core or in a plugin leaves the process but through a seam."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tbot_core.system import environ, processes
from tbot_core.testing import purity_check

ROOT = Path(__file__).parents[2]

WAYS_OUT = [
    ("import time", "import of time"),
    ("from time import monotonic", "import of time"),
    ("import random as r", "import of random"),
    ("import secrets", "import of secrets"),
    ("from uuid import uuid4", "import of uuid"),
    ("import concurrent.futures", "import of concurrent.futures"),
    ("from concurrent import futures", "import of concurrent.futures"),
    ("import threading", "import of threading"),
    ("import multiprocessing.pool", "import of multiprocessing"),
    ("import subprocess", "import of subprocess"),
    ("import socket, ssl", "import of ssl"),
    ("from http import client", "import of http.client"),
    ("import httpx2", "import of httpx2"),
    ("from websockets.asyncio.client import connect", "import of websockets"),
    ("import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
    ("import datetime as dt\ndt.datetime.utcnow()", "datetime.datetime.utcnow"),
    ("from datetime import datetime\ndatetime.now(tz=None)", "datetime.datetime.now"),
    ("from datetime import date as Day\nDay.today()", "datetime.date.today"),
    ("import os\nos.urandom(8)", "os.urandom"),
    ("import os\nos.environ['A']", "os.environ"),
    ("from os import environ", "os.environ"),
    ("import os\nos.getenv('A')", "os.getenv"),
    ("import os\nos.open('a', 0)", "os.open"),
    ("import os\nos.fork()", "os.fork"),
    ("from os import replace", "os.replace"),
    ("open('a')", "open"),
    ("import io\nio.open('a')", "io.open"),
    ("reader = open", "open"),
    ("from pathlib import Path\nPath('a').open()", ".open()"),
    ("from pathlib import Path\nPath('a').open('rb')", ".open()"),
    ("from pathlib import Path\nPath('a').open(encoding='utf-8')", ".open()"),
    ("from pathlib import Path\nPath('a').write_text('b')", ".write_text()"),
    ("path.read_bytes()", ".read_bytes()"),
    ("path.read_text('utf-8')", ".read_text()"),
    ("path.mkdir(parents=True)", ".mkdir()"),
    ("from pathlib import Path\nPath.cwd()", "pathlib.Path.cwd"),
    ("import asyncio\nasyncio.to_thread(f)", "asyncio.to_thread"),
    ("loop.run_in_executor(None, f)", ".run_in_executor()"),
    ("if TYPE_CHECKING:\n    pass\nelse:\n    import time", "import of time"),
    ("for x in {1, 2}:\n    pass", "iteration over a set, in no order"),
    ("names = set(a)\n[x for x in names]", "iteration over a set, in no order"),
    ("names: frozenset[str] = f()\nlist(names)", "iteration over a set, in no order"),
    ("def f(a: set[int]) -> None:\n    print(*a)", "iteration over a set, in no order"),
    ("async def f(*, a: AbstractSet[int]):\n    ','.join(a - {1})", "iteration over a set, in no order"),
    ("tuple({x for x in a})", "iteration over a set, in no order"),
]

PURE = [
    "import os\nos.path.join('a', 'b')\nos.fspath(p)",
    "from os import PathLike",
    "from datetime import UTC, datetime\ndatetime.fromisoformat(t)\ndatetime.combine(a, b, UTC)",
    "from timeit import x",
    "from .time import clock",
    "bars.open[0]\nview.open(3)",
    "distribution.read_text('RECORD')",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import random\n",
    "names = {1, 2}\nfor x in sorted(names):\n    3 in names",
    "names = {1}\nnames = [1]\nlist(names)",
    "names = set(a)\ndef f(names: list[int]):\n    return list(names)",
    "self.names = set(a)\nlen(set(a))\n-a\na[0](1)",
    "import random  # seam: a table of primes needs no seed",
    "text = '# seam: not a comment'",
]


@pytest.mark.slow
@pytest.mark.first(0)  # `make lint` runs the check itself
def test_the_core_and_its_plugins_leave_by_the_seams_alone() -> None:
    """No module but the seams and the clock reaches time, chance, network, disk, children or environment."""
    assert [str(finding) for finding in purity_check.check_folders([ROOT / "tbot_core", ROOT / "plugins"])] == []


@pytest.mark.parametrize(("source", "found"), WAYS_OUT)
def test_each_way_around_is_found(source: str, found: str) -> None:
    """A way out is named with its line and what to use instead."""
    findings = purity_check.check(source, "module.py")
    assert found in [finding.found for finding in findings]
    assert all(finding.path == "module.py" and finding.line >= 1 and finding.instead for finding in findings)


@pytest.mark.parametrize("source", PURE)
def test_what_is_pure_is_let_through(source: str) -> None:
    """Names that only resemble a way out, imports for types, sorted sets and reasoned exceptions pass."""
    assert purity_check.check(source, "module.py") == []


def test_a_marker_needs_a_reason_and_a_cause() -> None:
    """A marker without a reason does not excuse, and one beside a harmless line is a finding itself."""
    bare = purity_check.check("import time  # seam:", "a.py")
    assert [finding.found for finding in bare] == ["a seam marker without a reason", "import of time"]
    idle = purity_check.check("x = 1  # seam: because", "a.py")
    assert [str(finding) for finding in idle] == ["a.py:1: a seam marker that excuses nothing; use no marker"]


def test_the_command_prints_findings_and_fails(tmp_path: Path) -> None:
    """Run over a folder it names each finding and exits 1, and 0 over a clean one; tests and seams are passed over."""
    for name in ("a.py", "tests/b.py", ".hidden/c.py", "tbot_core/system/d.py", "tbot_core/model/clock.py", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("import time\n")
    args = [sys.executable, "-m", "tbot_core.testing.purity_check", str(tmp_path)]
    done = processes.run_program(args, timeout_s=30, environment=environ.minimal_environment())
    assert (done.code, done.output) == (
        1,
        f"{tmp_path / 'a.py'}:1: import of time; use the Clock that is passed in\n",
    )
    (tmp_path / "a.py").write_text("")
    assert processes.run_program(args, timeout_s=30, environment=environ.minimal_environment()).code == 0
