"""Invariants of restarts: the state recovered from a journal, repeatedly, and compared with the bot's own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from tbot_core.engine.session.confirmations import ConfirmationQueue
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.execution.broker_account import BrokerAccount
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.journal import records
from tbot_core.journal.projections.book import fold_events
from tbot_core.journal.projections.carryover import events_since_close
from tbot_core.journal.store import Event, Journal, JournalRecorder, NewEvent
from tbot_core.model.clock import ManualClock
from tbot_core.trading.decision_engine import DecisionEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tbot_core.model.types import Leg, SignalId
    from tbot_core.rehearsal.history import RehearsalHistory
    from tbot_core.trading.orders import OrderRecord


class _MemoryJournal:
    # Keeps what a restart writes in memory.
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
    """The state after a restart: its figures by name, and the events that it wrote."""

    knows: dict[str, Any]
    written: list[Event]


def recover_state(history: RehearsalHistory, events: Sequence[Event]) -> RecoveredState:
    """The state recovered from a journal, before any request to a broker."""
    world, past = history.world, events_since_close(events)
    journal = _MemoryJournal(events[-1].seq)
    now = max((event.applied for event in events), default=world.start)
    broker = world.client(history.name)
    whose = "" if history.name == world.names[0] else history.name
    recorder = JournalRecorder(journal=cast("Journal", journal), clock=ManualClock(now), broker=whose)
    decision_engine = DecisionEngine(attrs.evolve(history.rules, venue=broker.capabilities), world.session, 0, _name)
    venue = BrokerAccount(broker=broker, name=history.name, account_id="")
    rows = {symbol: row for row, symbol in enumerate(world.market.symbols)}
    execution = ExecutionEngine(recorder, venue, decision_engine)
    found = SessionRecovery(decision_engine, execution, rows)
    for event in past:
        found.apply(event)
    found.resolve_open_orders()
    waiting = ConfirmationQueue(history.rules.entries, decision_engine, recorder)
    asked = waiting.restore(past, rows)
    knows = _figures_of(decision_engine) | {
        "orders": decision_engine.book.records(),
        "foreign": found.external,
        "decided": found.decided | asked,
    }
    return RecoveredState(knows=knows, written=journal.written)


def _figures_of(decision_engine: DecisionEngine) -> dict[str, Any]:
    exposure = decision_engine.exposure
    figures = ("working", "sent", "traded", "daily_loss", "window_loss", "losing_run", "losses_in_row", "equity_jump")
    return {
        "held": dict(decision_engine.position_manager.held),
        "orders to cancel": decision_engine.position_manager.orders_to_cancel,
        **{name: getattr(exposure, name) for name in figures},
    }


def _name(signal: SignalId, leg: Leg, attempt: int) -> str:
    # A restart creates no order before it has read the account.
    raise ValueError(f"a restart named attempt {attempt} at {leg.value} of {signal.text} by itself")


def _i11(history: RehearsalHistory) -> Iterator[str]:
    # The bot's final record of each order, with its executions, equals the one that a restart recovers from the
    # journal, and the one of its readers. All three apply events by the same function: this finds an event that one of
    # them lacks or orders otherwise. Whether the record is right is judged by what the venue did.
    if history.held is None:
        return
    events = [event for event in history.events if event.kind != records.SESSION_CLOSED]
    recovered = recover_state(history, events).knows["orders"]
    shown = fold_events(events).orders  # those of all brokers
    for cid in sorted({*recovered, *history.orders}):
        ours, written, read = history.orders.get(cid), recovered.get(cid), shown.get(cid)
        if (
            ours is None
            or written is None
            or read is None
            or not _reported(ours) == _reported(written) == _reported(read)
        ):
            yield f"{cid} is {_words(ours)} to the bot, {_words(written)} to a restart, and {_words(read)} to a reader"


def _reported(record: OrderRecord | None) -> tuple[object, ...]:
    # What the broker has reported of an order; nothing of one that is not known.
    if record is None:
        return ()
    return record.state, record.filled, record.inferred_quantity, dict(record.executions), dict(record.corrected)


def _i15(history: RehearsalHistory) -> Iterator[str]:
    # A second restart recovers the same state as the first, and writes nothing.
    for number, life in enumerate(history.lives[:-1], 1):
        events = [event for event in history.events if event.seq <= life.last]
        if not events:
            continue
        first = recover_state(history, events)
        second = recover_state(history, [*events, *first.written])
        for name, known in first.knows.items():
            if second.knows[name] != known:
                yield f"restarted twice after life {number}: {name} {_brief(known)}, then {_brief(second.knows[name])}"
        if second.written:
            yield f"restarted twice after life {number}: {second.written[0].kind} was written a second time"


def _i16(history: RehearsalHistory) -> Iterator[str]:
    # The holdings by the journal equal those of the portfolio.
    booked = {symbol: units for symbol, units in fold_events(history.events).portfolio.holdings.items() if units}
    if history.held is None:
        return
    held_by_all = Counter(history.held)
    for left in history.elsewhere.values():
        held_by_all.update(left.held)
    held = {symbol: units for symbol, units in held_by_all.items() if units}
    if booked != held:
        yield f"the journal adds up to {booked}, the portfolio to {held}"


def _words(record: Any) -> str:
    return "nothing" if record is None else f"{record.state.value} with {record.filled}"


def _brief(known: object) -> str:
    return str(known)[:200]


RESTART_INVARIANTS: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i11, _i15, _i16)
RESTART_INVARIANTS_OF_ALL: Final[tuple[Callable[[RehearsalHistory], Iterator[str]], ...]] = (_i16,)
"""The one that is checked on all venues together."""
