"""Invariants of restarts: what a journal is recalled as, again and again, and against what the bot itself held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.journal import records
from tbot_core.journal.projections.carryover import events_since_close
from tbot_core.journal.recorder import JournalRecorder
from tbot_core.journal.store import Event, Journal
from tbot_core.model.clock import ManualClock
from tbot_core.trading.decision_engine import DecisionEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.journal.store import NewEvent
    from tbot_core.model.types import Leg, SignalId
    from tbot_core.rehearsal.history import RehearsalHistory


class _Sheet:
    # What a restart writes down, kept in memory.
    def __init__(self, seq: int) -> None:
        self._seq = seq
        self.written: list[Event] = []

    def append(self, entries: Sequence[NewEvent]) -> None:
        """Keep the entries as a journal would."""
        for entry in entries:
            event = Event(
                seq=self._seq + len(self.written) + 1,
                kind=entry.kind,
                cid=entry.cid,
                source=entry.source,
                payload=entry.payload,
                received=entry.time,
                applied=entry.time,
                hash="",
            )
            self.written.append(event)


@attrs.frozen(kw_only=True)
class RecoveredState:
    """What a restart knows: by name what it holds and reserves, and what it wrote down to settle it."""

    knows: dict[str, Any]
    written: list[Event]


def recover_state(story: RehearsalHistory, events: Sequence[Event]) -> RecoveredState:
    """What a restart makes of a journal, before it has asked anybody."""
    world, past = story.world, events_since_close(events)
    sheet = _Sheet(events[-1].seq)
    moment = max((event.applied for event in events), default=world.start)
    broker = world.client(story.name)
    whose = "" if story.name == world.names[0] else story.name
    recorder = JournalRecorder(journal=cast("Journal", sheet), clock=ManualClock(moment), broker=whose)
    desk = DecisionEngine(attrs.evolve(story.rules, venue=broker.rules), world.session, 0, _name)
    venue = BrokerAccount(broker=broker, name=story.name, account_id="")
    rows = {symbol: row for row, symbol in enumerate(world.market.symbols)}
    execution = ExecutionEngine(recorder, venue, desk)
    found = SessionRecovery(desk, execution, rows)
    for event in past:
        found.apply(event)
    found.resolve_open_orders()
    waiting = ConfirmationQueue(story.rules.entries, desk, recorder)
    asked = waiting.restore(past, rows)
    knows = _known(desk) | {"orders": execution.orders, "foreign": found.external, "decided": found.decided | asked}
    return RecoveredState(knows=knows, written=sheet.written)


def _known(desk: DecisionEngine) -> dict[str, Any]:
    standing = desk.exposure
    figures = ("working", "sent", "traded", "daily_loss", "window_loss", "losing_run", "losses_in_row", "equity_jump")
    return {
        "held": dict(desk.position_manager.held),
        "taken back": desk.position_manager.orders_to_cancel,
        **{name: getattr(standing, name) for name in figures},
    }


def _name(signal: SignalId, leg: Leg, attempt: int) -> str:
    # A restart names nothing before it has read the account.
    raise ValueError(f"a restart named attempt {attempt} at {leg.value} of {signal.text} by itself")


def _i11(story: RehearsalHistory) -> Iterator[str]:
    # No order leaves its end: what the bot held of each at last is what was written down of it.
    if story.held is None:
        return
    events = [event for event in story.events if event.kind != records.SESSION_CLOSED]
    told = recover_state(story, events).knows["orders"]
    for cid in sorted({*told, *story.orders}):
        ours, written = story.orders.get(cid), told.get(cid)
        if ours is None or written is None or (ours.state, ours.filled) != (written.state, written.filled):
            yield f"{cid} is {_words(ours)} to the bot, and {_words(written)} in the journal"


def _i15(story: RehearsalHistory) -> Iterator[str]:
    # A second restart knows what the first one did, and has nothing more to settle.
    for number, life in enumerate(story.lives[:-1], 1):
        events = [event for event in story.events if event.seq <= life.last]
        if not events:
            continue
        first = recover_state(story, events)
        second = recover_state(story, [*events, *first.written])
        for name, known in first.knows.items():
            if second.knows[name] != known:
                yield f"restarted twice after life {number}: {name} {_brief(known)}, then {_brief(second.knows[name])}"
        if second.written:
            yield f"restarted twice after life {number}: {second.written[0].kind} was written a second time"


def _words(record: Any) -> str:
    return "nothing" if record is None else f"{record.state.value} with {record.filled}"


def _brief(known: object) -> str:
    return str(known)[:200]


RESTART_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i11, _i15)
