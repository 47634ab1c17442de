"""How long the command line takes to start: whole processes, medians, beside the bare interpreter.

    python benchmarks/startup.py [--runs 21] [--check]

Bytecode is compiled first, as installers do. `--check` exits with 1 when a median is above its target.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ENTRY = "import sys; from tbot_core.__main__ import main; sys.exit(main())"
TARGETS_MS = {"tbot --help": 100.0, "tbot plugins list": 150.0}
COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import click": ["-c", "import click"],
    "tbot --help": ["-c", ENTRY, "--help"],
    "tbot plugins list": ["-c", ENTRY, "plugins", "list"],
}


def measure(arguments: list[str], home: Path, runs: int) -> float:
    """The median of whole-process runs in milliseconds, after two that warm the caches."""
    environment = {"PATH": "/usr/bin:/bin", "TBOT_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home / "cache")}
    times = []
    for _ in range(runs + 2):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, check=True)  # noqa: S603  -- its own interpreter
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times[2:])


@click.command()
@click.option("--runs", default=21, show_default=True, type=click.IntRange(min=1), help="Runs of each command.")
@click.option("--check", is_flag=True, help="Exit with 1 when a median is above its target.")
def main(*, runs: int, check: bool) -> None:
    """Print the medians, their ratio to the bare interpreter, and the targets."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / ".env_bot").write_text("STRATEGY_SEQUENCE=open,mid,close\nBROKER_NAME=PAPER\n")
        for words in (["list", "--probe"], ["lock", "--yes"]):
            subprocess.run(  # noqa: S603  -- its own interpreter
                [sys.executable, "-c", ENTRY, "plugins", *words, "--home", folder],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
            )
        medians = {name: measure(arguments, home, runs) for name, arguments in COMMANDS.items()}
    bare = medians["bare interpreter"]
    for name, median in medians.items():
        target = f"  (target {TARGETS_MS[name]:.0f} ms)" if name in TARGETS_MS else ""
        click.echo(f"{name:<18} {median:7.1f} ms {median / bare:6.1f} x{target}")
    slow = [name for name, target in TARGETS_MS.items() if medians[name] > target]
    if check and slow:
        click.echo(f"Above its target: {', '.join(slow)}.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
