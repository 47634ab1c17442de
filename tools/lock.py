"""Writes the two locks: requirements.lock for what tbot needs to run, requirements-dev.lock for all else.

Both are exports of uv.lock, which `uv lock` has made. uv writes `coverage` where pytest-cov needs `coverage[toml]`; the
pip of Python 3.11 then finds no hash for the latter. So a pin names the extras that installed distributions ask for.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import importlib_metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
RUNTIME: Final = ("--no-default-groups", "--group", "build", "--group", "plugins")
FORMAT: Final = ("--format", "requirements-txt", "--no-annotate", "--no-header", "--no-emit-workspace")


def main() -> int:
    """Write both locks; no pin stands in both."""
    runtime, everything = exported(*RUNTIME), exported("--all-groups")
    write("requirements.lock", runtime)
    write("requirements-dev.lock", [pin for pin in everything if pin not in runtime])
    return 0


def exported(*options: str) -> list[str]:
    """The pins of the members, their extras and the groups chosen, each with its hashes below it."""
    uv = str(Path(sys.executable).with_name("uv"))
    args = [uv, "export", "--quiet", "--locked", "--all-packages", "--all-extras", *FORMAT, *options]
    text = subprocess.run(args, cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S603  -- no shell
    return re.split(r"\n(?=\S)", text.strip())


def extras() -> dict[str, set[str]]:
    """The extras of each distribution that another one, as it is installed here, asks for without a condition."""
    found: dict[str, set[str]] = defaultdict(set)
    for distribution in importlib_metadata.distributions():
        for need in map(Requirement, distribution.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                found[canonicalize_name(need.name)] |= need.extras
    return found


def write(name: str, pins: list[str]) -> None:
    """Write the pins into a file of the repository, with their extras."""
    wanted = extras()
    lines = []
    for pin in pins:
        package, version = pin.split("==", 1)
        asked = ",".join(sorted(wanted[canonicalize_name(package)]))
        lines.append(f"{package}[{asked}]=={version}\n" if asked else f"{pin}\n")
    (ROOT / name).write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
