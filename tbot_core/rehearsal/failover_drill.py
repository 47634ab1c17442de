"""The rehearsed part of a drill: the primary of two simulated venues fails in each way, and the result is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.journal import records
from tbot_core.journal.projections.failover import DrillStep
from tbot_core.rehearsal.outages import OutageResult, OutageScenario
from tbot_core.rehearsal.rehearsal import memory_folder
from tbot_core.trading.risk.states import FailoverPhase

if TYPE_CHECKING:
    from collections.abc import Iterator


_BREAK: Final = (5.0, 15.0)


@attrs.frozen(kw_only=True)
class OutageTrial:
    """One outage, the expected result in words, and its check."""

    faults: str
    words: str
    outage: OutageScenario
    holds: Callable[[OutageResult], bool]


def _phases(result: OutageResult) -> list[str]:
    return [event.payload["phase"] for event in result.events(records.FAILOVER)]


def _moved(result: OutageResult) -> bool:
    return _phases(result)[:1] == [FailoverPhase.ENTRIES.value] and bool(result.entries("beta"))


def _stays(result: OutageResult) -> bool:
    # A moved instrument is not entered at the primary again.
    moved = {event.payload["symbol"]: event.seq for event in result.events(records.LEASE)}
    entries = ((event.payload["signal"]["symbol"], event.seq) for event in result.entries())
    return _moved(result) and not any(seq > moved.get(symbol, seq) for symbol, seq in entries)


def _reduces(result: OutageResult) -> bool:
    return _phases(result)[:1] == [FailoverPhase.REDUCE_ONLY.value] and not result.entries("beta")


def _guards(result: OutageResult) -> bool:
    moved = {event.payload["since"] for event in result.events(records.LEASE)}
    return len(moved) == 2 and any(event.payload["why"] == "FLAPPING" for event in result.events(records.FAILOVER))


def _waits(result: OutageResult) -> bool:
    during = range(int(_BREAK[0]), int(_BREAK[1]))
    entered = result.minutes([*result.entries(), *result.entries("beta")])
    return FailoverPhase.DOWN.value in _phases(result) and not any(minute in during for minute in entered)


TRIALS: Final = (
    OutageTrial(
        faults="F60, F65",
        words="the primary is unreachable for ten minutes: entries go to the other broker, and what moved stays there",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK),)),
        holds=_stays,
    ),
    OutageTrial(
        faults="F61",
        words="only orders fail at the primary: entries go to the other broker",
        outage=OutageScenario(troubles=((0, "F61", *_BREAK),)),
        holds=_moved,
    ),
    OutageTrial(
        faults="F64",
        words="an order at the primary is unknown: the other broker only reduces",
        outage=OutageScenario(ambushed=7.0),
        holds=_reduces,
    ),
    OutageTrial(
        faults="F66",
        words="the primary fails three times in an hour: the third failure moves nothing",
        outage=OutageScenario(
            troubles=tuple((0, "F60", begins, begins + 3.0) for begins in (5.0, 13.0, 21.0)),
            calls=(7, 15, 23, 24, 25, 26),
            seed=3,
        ),
        holds=_guards,
    ),
    OutageTrial(
        faults="F67",
        words="both brokers are unreachable: nothing is entered",
        outage=OutageScenario(troubles=((0, "F60", *_BREAK), (1, "F60", *_BREAK))),
        holds=_waits,
    ),
)
"""The outages that a drill rehearses."""


def rehearse_trials() -> Iterator[DrillStep]:
    """Rehearse each outage; a violated invariant fails its step."""
    for trial in TRIALS:
        with memory_folder() as home:
            result = trial.outage.play(home)
        wrong = result.violations or (() if trial.holds(result) else ("the expected result did not occur",))
        yield DrillStep(what=f"{trial.faults}: {trial.words}", passed=not wrong, words="; ".join(wrong[:3]))
