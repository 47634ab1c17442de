"""Invariants of when the bot may act: orders given up as lost, executions booked, signals entered.

The seconds are those of the world, so that a clock that was set changes nothing. A process outside of the simulation
does not note them, and is not judged.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEventKind
from tbot_core.execution.reconciler import LEAST_WINDOW_S
from tbot_core.journal import records
from tbot_core.model.types import Leg
from tbot_core.rehearsal.bot import TTL_S
from tbot_core.rehearsal.world import LEAD_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tbot_core.rehearsal.history import RehearsalHistory

BOOKED_S: Final = 10.0
"""How long a process may take to book an execution that was delivered to it."""

_DECIDED_S: Final = 30.0
_REUSED: Final = "F30"


def _lost(history: RehearsalHistory) -> Iterator[str]:
    # An order is given up as lost only after its lookup window.
    intents = history.intents()
    window_s = max(LEAST_WINDOW_S, history.way.exchange.matching.character.rules.lookup_window_s)
    sent: dict[str | None, float] = {}
    for at, event in history.written:
        if event.cid not in intents:
            continue
        if event.kind == records.SENDING:
            sent[event.cid] = at
        elif event.kind == records.LOST and (waited := at - sent.get(event.cid, float("-inf"))) < window_s:
            yield f"{event.cid} was given up as lost after {waited:.0f} s, its lookup window is {window_s:.0f} s"


def _delivered(history: RehearsalHistory) -> Iterator[str]:
    # An execution that a process received is booked within seconds.
    if not history.written or _REUSED in history.struck or history.failures or history.stopped:
        return
    intents, booked = history.intents(), dict[tuple[str | None, str], float]()
    for at, event in history.written:
        if event.kind == BrokerEventKind.FILL:
            booked.setdefault((event.cid, event.payload["execution_id"]), at)
    ends = [*history.deaths, history.way.exchange.matching.closes]
    for at, told in history.way.delivered:
        if told.fill is None or told.kind != BrokerEventKind.FILL or told.client_order_id not in intents:
            continue
        end = ends[bisect_left(ends, at)] if at < ends[-1] else at
        by = booked.get((told.client_order_id, told.fill.execution_id), float("inf"))
        if at + BOOKED_S < min(by, end):
            name = f"{told.fill.execution_id} of {told.client_order_id}"
            yield f"execution {name} was received at {at:.0f} s, and not booked within {BOOKED_S:.0f} s"


def _late(history: RehearsalHistory) -> Iterator[str]:
    # No signal is entered long after its minute has ended, unless a person confirmed it.
    if history.people.manner.timeout_s is not None:
        return
    intents, added = history.intents(), history.top_ups
    for at, event in history.written:
        if event.kind != records.INTENDED or event.cid not in intents or event.cid in added:
            continue
        signal, leg, _ = intents[event.cid]
        behind = at - (LEAD_S + 60.0 * (signal.minute + 1))
        if leg is Leg.ENTRY and behind > TTL_S + _DECIDED_S:
            yield f"{event.cid} was entered {behind:.0f} s after the minute of its signal"


IN_TIME_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_lost, _delivered, _late)
