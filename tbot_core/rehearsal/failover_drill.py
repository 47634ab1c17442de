"""The rehearsed part of a drill: the primary of two simulated venues breaks in each way, and what must follow does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.projections.failover_drills import DrillStep
from tbot_core.journal.projections.leases import FailoverPhase
from tbot_core.rehearsal.outages import OutageResult, OutageScenario
from tbot_core.rehearsal.rehearsal import memory_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


_BREAK: Final = (5.0, 15.0)


@attrs.frozen(kw_only=True)
class OutageTrial:
    """One way of breaking, what must follow in words, and what says that it did."""

    faults: str
    words: str
    outage: OutageScenario
    holds: Callable[[OutageResult], bool]


def _phases(played: OutageResult) -> list[str]:
    return [event.payload["phase"] for event in played.events(records.FAILOVER)]


def _moved(played: OutageResult) -> bool:
    return _phases(played)[:1] == [FailoverPhase.ENTRIES.value] and bool(played.entries("beta"))


def _stays(played: OutageResult) -> bool:
    # Nothing that has moved is entered at the primary again.
    moved = {event.payload["symbol"]: event.seq for event in played.events(records.LEASE)}
    entries = ((event.payload["signal"]["symbol"], event.seq) for event in played.entries())
    return _moved(played) and not any(seq > moved.get(symbol, seq) for symbol, seq in entries)


def _reduces(played: OutageResult) -> bool:
    return _phases(played)[:1] == [FailoverPhase.REDUCE_ONLY.value] and not played.entries("beta")


def _guards(played: OutageResult) -> bool:
    moved = {event.payload["since"] for event in played.events(records.LEASE)}
    return len(moved) == 2 and any(event.payload["why"] == "FLAPPING" for event in played.events(records.FAILOVER))


def _waits(played: OutageResult) -> bool:
    during = range(int(_BREAK[0]), int(_BREAK[1]))
    entered = played.minutes([*played.entries(), *played.entries("beta")])
    return FailoverPhase.DOWN.value in _phases(played) and not any(minute in during for minute in entered)


TRIALS: Final = (
    OutageTrial(
        faults="F60, F65",
        words="the primary is cut off for ten minutes: entries go on elsewhere, and what moved stays there",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK),)),
        holds=_stays,
    ),
    OutageTrial(
        faults="F61",
        words="orders alone are cut off: entries go on elsewhere",
        outage=OutageScenario(troubles=((0, "F61", *_BREAK),)),
        holds=_moved,
    ),
    OutageTrial(
        faults="F64",
        words="an order at the primary is in doubt: the other broker only reduces",
        outage=OutageScenario(ambushed=7.0),
        holds=_reduces,
    ),
    OutageTrial(
        faults="F66",
        words="the primary breaks three times in an hour: the third moves nothing more",
        outage=OutageScenario(
            troubles=tuple((0, "F60", begins, begins + 3.0) for begins in (5.0, 13.0, 21.0)),
            calls=(7, 15, 23, 24, 25, 26),
            seed=3,
        ),
        holds=_guards,
    ),
    OutageTrial(
        faults="F67",
        words="both are cut off: nothing is entered",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK), (1, "F60", *_BREAK))),
        holds=_waits,
    ),
)
"""What a drill rehearses."""


def rehearse_trials() -> Iterator[DrillStep]:
    """Rehearse each of them; whatever is violated fails its step."""
    for trial in TRIALS:
        with memory_folder() as home:
            played = trial.outage.play(home)
        wrong = played.violations or (() if trial.holds(played) else ("it did not follow",))
        yield DrillStep(what=f"{trial.faults}: {trial.words}", passed=not wrong, words="; ".join(wrong[:3]))
