"""Runs the commands of a page as a newcomer does, in an empty folder without a network, and prints the time of each.

    python tools/newcomer.py            the README's
    python tools/newcomer.py alpaca     those of docs/brokers/alpaca.md at the test venue, to the first fill

Commands of the README that need a file of one's own, a passphrase or a running bot are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
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
    from collections.abc import Iterable, Iterator, Mapping

ROOT: Final = Path(__file__).parents[1]
LEFT_OUT: Final = (
    "tbot data import PATH",
    "tbot secrets backup",
    "tbot run --home",
    "tbot service",
    "tbot web --home",
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


def venue_commands(broker: str, root: Path = ROOT) -> list[str]:
    """The commands of a broker's page at its test venue, in their order; the first one serves the venue."""
    page = (root / "docs" / "brokers" / f"{broker}.md").read_text(encoding="utf-8")
    section = page.partition("\n## Without an account\n")[2].partition("\n## ")[0]
    found = re.findall(r"^ {4}(.*\btbot .*)$", section, re.MULTILINE)
    return found[: found.index("tbot run") + 1]


def run_commands(folder: Path, commands: Iterable[str]) -> Iterator[Step]:
    """Run the installed command in the folder; SYMBOL becomes a symbol that the last JSON document traded."""
    symbol = "SYMBOL"
    for command in commands:
        step = _run(folder, command, command.replace("SYMBOL", symbol))
        if "--json" in command and not step.code:
            symbol = parse_json(step.out)["trades"][0]["symbol"]
        yield step


def trade_at_venue(folder: Path, broker: str) -> Iterator[Step]:
    """Run the commands of a broker's page at its venue; the last one, `tbot run`, is stopped after its first fill."""
    serve, *commands = venue_commands(broker)
    with _started(folder, serve, {}) as venue:
        try:
            line = next(one for one in venue.stdout or () if "export " in one)
            name, _, value = line.partition("export ")[2].partition("=")
            variables = {name: value.strip().strip("'"), "TBOT_HOME": str(folder / "my-bot")}
            for command in commands:
                yield _run(folder, command, command, variables, until_trade=command == commands[-1])
        finally:
            venue.send_signal(signal.SIGINT)


def _run(
    folder: Path, printed: str, command: str, variables: Mapping[str, str] | None = None, *, until_trade: bool = False
) -> Step:
    lines: list[str] = []
    first = None
    begun = time.perf_counter()
    with _started(folder, command, variables or {}) as process:
        for line in process.stdout or ():
            lines.append(line)
            if first is None and _TRADE.search(line):
                first = time.perf_counter() - begun
                if until_trade:
                    process.send_signal(signal.SIGINT)
    seconds = time.perf_counter() - begun
    said = (folder / "errors.txt").read_text()
    code = process.returncode
    return Step(command=printed, code=code, seconds=seconds, first_trade_s=first, out="".join(lines), errors=said)


def _started(folder: Path, command: str, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    # The command as a process; words before it that look like NAME=value are its variables.
    words = shlex.split(command)
    at = next(index for index, word in enumerate(words) if "=" not in word)
    installed = Path(sys.executable).with_name(words[at])
    given = dict(word.split("=", 1) for word in words[:at])
    paths = {"HOME": str(folder), "PATH": f"{installed.parent}{os.pathsep}{os.defpath}"}
    with (folder / "errors.txt").open("w") as errors:
        return subprocess.Popen(  # noqa: S603  -- the installed command itself
            [*(() if variables or "--serve" in words else _without_network()), str(installed), *words[at + 1 :]],
            cwd=folder,
            env={**paths, **variables, **given},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def _without_network() -> tuple[str, ...]:
    # The command that takes the network away, where this user may.
    may = shutil.which(_ALONE[0]) and not subprocess.run([*_ALONE, "true"], capture_output=True, check=False).returncode  # noqa: S603  -- a constant
    return _ALONE if may else ()


@click.command()
@click.argument("broker", default="")
def main(broker: str) -> None:
    """Print the seconds of each command, and when the first trade was on screen."""
    failed, begun = False, time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for step in trade_at_venue(folder, broker) if broker else run_commands(folder, readme_commands()):
            first = "" if step.first_trade_s is None else f"  first trade after {step.first_trade_s:.1f} s"
            stopped = bool(broker) and step.first_trade_s is not None
            outcome = f"  exit {step.code}" if step.code and not stopped else ""
            click.echo(f"{step.seconds:6.1f} s  {step.command}{first}{outcome}")
            failed |= bool(outcome)
    click.echo(f"{time.perf_counter() - begun:6.1f} s  together")
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
