"""Runs the README's commands as a newcomer does, in an empty folder without a network, and prints the time of each.

    python tools/newcomer.py

Commands that need a file of one's own, a passphrase or a running bot are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click

from tbot_core.model.json_document import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).parents[1]
LEFT_OUT: Final = (
    "tbot data import PATH",
    "tbot secrets backup",
    "tbot run --home",
    "tbot run --dry-run",
    "tbot stop",
    "tbot kill",
)
_TRADE: Final = re.compile(r"\] (BUY|SELL SHORT) ")
_ALONE: Final = ("unshare", "--map-root-user", "--net")


@attrs.frozen(kw_only=True)
class Step:
    """A command as the README prints it and its result; `first_trade_s` is None without a trade among its lines."""

    command: str
    code: int
    seconds: float
    first_trade_s: float | None
    out: str
    errors: str


def readme_commands(root: Path = ROOT) -> list[str]:
    """The commands of the README that begin with `tbot` and need nothing but the folder, in their order."""
    page = (root / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}(tbot .*)$", page, re.MULTILINE)
    found = (line.partition("#")[0].strip() for line in lines)
    return [one for one in found if not one.startswith(LEFT_OUT)]


def run_commands(folder: Path, commands: Iterable[str]) -> Iterator[Step]:
    """Run the installed command in the folder; SYMBOL becomes a symbol that the last JSON document traded."""
    symbol = "SYMBOL"
    for command in commands:
        step = _run(folder, command, command.replace("SYMBOL", symbol))
        if "--json" in command and not step.code:
            symbol = parse_json(step.out)["trades"][0]["symbol"]
        yield step


def _run(folder: Path, printed: str, command: str) -> Step:
    program, *words = shlex.split(command)
    installed = Path(sys.executable).with_name(program)
    lines: list[str] = []
    first = None
    with (folder / "errors.txt").open("w+") as errors:
        begun = time.perf_counter()
        with subprocess.Popen(  # noqa: S603  -- the installed command itself
            [*_without_network(), str(installed), *words],
            cwd=folder,
            env={"HOME": str(folder), "PATH": f"{installed.parent}{os.pathsep}{os.defpath}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if first is None and _TRADE.search(line):
                    first = time.perf_counter() - begun
        seconds = time.perf_counter() - begun
        errors.seek(0)
        said = errors.read()
    code = process.returncode
    return Step(command=printed, code=code, seconds=seconds, first_trade_s=first, out="".join(lines), errors=said)


def _without_network() -> tuple[str, ...]:
    # The command that takes the network away, where this user may.
    may = shutil.which(_ALONE[0]) and not subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode  # noqa: S603  -- a constant
    return _ALONE if may else ()


@click.command()
def main() -> None:
    """Print the seconds of each command, and when the first trade was on screen."""
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for step in run_commands(Path(folder), readme_commands()):
            first = "" if step.first_trade_s is None else f"  first trade after {step.first_trade_s:.1f} s"
            outcome = f"  exit {step.code}" if step.code else ""
            click.echo(f"{step.seconds:6.1f} s  {step.command}{first}{outcome}")
            failed |= bool(step.code)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
