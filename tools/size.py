"""Prints lines and modules of each package of the core, modules under 60 lines, and the sums that style demands."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

CORE: Final = Path(__file__).parents[1] / "tbot_core"
TRADING: Final = frozenset({"contracts", "trading", "journal", "execution", "engine"})
APART: Final = frozenset({"rehearsal", "testing"})


def main() -> None:
    """Print one row a package, then the sums."""
    lengths: dict[str, list[int]] = defaultdict(list)
    for path in sorted(CORE.rglob("*.py")):
        parts = path.relative_to(CORE).parts
        lengths[parts[0] if len(parts) > 1 else "(loose)"].append(len(path.read_text().splitlines()))
    rows = [("package", "lines", "modules", "under 60"), *(row(name, counts) for name, counts in lengths.items())]
    rows += [
        row("trading core", [one for name in TRADING for one in lengths[name]]),
        row("without rehearsal, testing", [one for name in set(lengths) - APART for one in lengths[name]]),
        row("all", [one for counts in lengths.values() for one in counts]),
    ]
    for name, *figures in rows:
        sys.stdout.write(f"{name:28}" + "".join(f"{figure:>10}" for figure in figures) + "\n")


def row(name: str, counts: list[int]) -> tuple[str, str, str, str]:
    """A package's name and figures; what is empty counts as no module."""
    full = [count for count in counts if count > 1]
    return name, f"{sum(counts):,}", str(len(full)), str(sum(count < 60 for count in full))


if __name__ == "__main__":
    main()
