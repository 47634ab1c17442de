"""The processor time of the quick commands: whole processes, beside a bare interpreter in the same run.

    python benchmarks/startup.py [--runs 11]

Each command runs in an instance that `tbot init --paper` made, and in one in which a demo has traded. Bytecode is
compiled first, as installers do. The smallest of the runs counts, since other processes only ever add to it; the ratio
to the bare interpreter says more than the milliseconds of one machine.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

ENTRY: Final = "import sys; from tbot_core.__main__ import main; sys.exit(main())"
TARGETS_MS: Final = {"--help": 80, "plugins list": 120, "status": 200, "check": 350}
COMMANDS: Final = ("--help", "plugins list", "status", "check", "why", "data list")
BARE: Final = ("-c", "pass")


def spent_ms(arguments: tuple[str, ...], home: Path) -> float:
    """The processor time of one process in milliseconds, user and system."""
    environment = {"PATH": "/usr/bin:/bin", "TBOT_HOME": str(home), "PYTHONPYCACHEPREFIX": str(home.parent / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603  -- its own interpreter
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1000


def least_ms(commands: dict[str, tuple[str, ...]], home: Path, runs: int) -> dict[str, float]:
    """The least processor time of each command, in milliseconds; they take turns, after one round to warm up."""
    rounds = [{name: spent_ms(arguments, home) for name, arguments in commands.items()} for _ in range(runs + 1)]
    return {name: min(one[name] for one in rounds[1:]) for name in commands}


def tbot(*words: str) -> None:
    """Run a command of the core that prepares the measurement."""
    subprocess.run([sys.executable, "-c", ENTRY, *words], stdout=subprocess.DEVNULL, check=True)  # noqa: S603


@click.command()
@click.option("--runs", default=11, show_default=True, type=click.IntRange(min=1), help="Runs of each command.")
def main(*, runs: int) -> None:
    """Print the processor time of each command, its ratio to a bare interpreter, and the target."""
    commands = {"bare interpreter": BARE} | {name: ("-c", ENTRY, *name.split()) for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        made, traded = Path(folder) / "made", Path(folder) / "traded"
        tbot("init", "--paper", "--home", str(made))
        tbot("run", "--demo", "--home", str(traded))
        for title, home in (("a new instance", made), ("a finished demo", traded)):
            found = least_ms(commands, home, runs)
            click.echo(f"In {title}:")
            for name, least in found.items():
                target = f"  (target {TARGETS_MS[name]} ms)" if name in TARGETS_MS else ""
                click.echo(f"  {name:<16} {least:6.0f} ms {least / found['bare interpreter']:6.1f} x{target}")


if __name__ == "__main__":
    main()
