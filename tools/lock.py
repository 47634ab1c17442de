"""Writes the two locks: requirements.lock for what tbot needs to run, requirements-dev.lock for all else.

Both are exports of uv.lock, which `uv lock` has made.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

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


def write(name: str, pins: list[str]) -> None:
    """Write the pins into a file of the repository."""
    (ROOT / name).write_text("".join(f"{pin}\n" for pin in pins))


if __name__ == "__main__":
    sys.exit(main())
