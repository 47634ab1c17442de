"""The table of `tbot rehearse --scenarios`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.model.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tbot_core.rehearsal.scenario_judge import ScenarioReport

_HEADS: Final = (
    "scenario",
    "bare s",
    "uncounted",
    "emulated",
    "opposite",
    "phantom",
    "lost",
    "cancels",
    "ids",
    "held",
    "cash",
    "verdict",
)


def scenario_document(broker: str, reports: Sequence[ScenarioReport], took_s: float) -> dict[str, Any]:
    """The reports as a JSON document."""
    return {
        "broker": broker,
        "took_s": round(took_s, 1),
        "scenarios": [attrs.asdict(one) for one in reports],
        "failed": sum(bool(one.violations) for one in reports),
        "reasons": dict(_reasons(reports)),
    }


def scenario_lines(reports: Sequence[ScenarioReport], took_s: float) -> list[str]:
    """The reports as a table, and how many failed for which reason."""
    rows = [_HEADS, *map(_cells, reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS) - 1)]
    table = [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1])) for row in rows
    ]
    failed = sum(bool(one.violations) for one in reports)
    counts = [f"{count:5} {reason}" for reason, count in _reasons(reports)]
    return [*table, f"{plural(len(reports), 'scenario')} in {took_s:.0f} s, {failed} failed", *counts]


def _cells(one: ScenarioReport) -> tuple[str, ...]:
    held = ("STUCK, paged" if one.paged else "STUCK") if one.stuck else "not reported"
    return (
        one.name,
        f"{one.longest_bare_s:.1f}",
        f"{one.uncounted_s:.1f}",
        f"{one.emulated_s:.1f}",
        *(str(count or "-") for count in (one.opposite, one.phantoms, one.lost, one.cancels, one.second_ids)),
        held if one.held else "-",
        "equal" if one.cash_equal else "DIFFERS",
        _verdict(one),
    )


def _verdict(one: ScenarioReport) -> str:
    unmet = "" if one.faults_met else " (the fault did not occur)"
    return f"FAILED{unmet}: {'; '.join(one.violations)}" if one.violations else f"passed{unmet}"


def _reasons(reports: Sequence[ScenarioReport]) -> list[tuple[str, int]]:
    # How many failed for a reason, the most frequent first; figures in a reason are left out.
    found = Counter(
        reason for one in reports for reason in sorted({words.partition(" for ")[0] for words in one.violations})
    )
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))
