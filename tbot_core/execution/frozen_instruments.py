"""Frozen instruments: neither entered nor closed, only protected, until the account's holding is clear.

Freezing and thawing are journaled; decisions use the exposure book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import BrokerEvent, BrokerEventKind
from tbot_core.execution.reconciliation import AGAIN, executed_together, same_execution
from tbot_core.journal import records
from tbot_core.journal.codec import EventFacts
from tbot_core.journal.events.accounts import InstrumentRulesReported, SymbolFrozen
from tbot_core.journal.events.orders import ExecutionReused, OrderReported
from tbot_core.model.formatting import format_quantity
from tbot_core.model.types import Fill, Leg, Order, ticks_of
from tbot_core.system import log
from tbot_core.trading.orders import AMENDS, BROKER_EVENT_KINDS, OrderRecord
from tbot_core.trading.risk.exposure import ExposureBook, grid_of
from tbot_core.trading.risk.holds import WITHOUT_RULES, Hold, Holds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.journal.store import Event, JournalRecorder, NewEvent
    from tbot_core.trading.account_book import Ticket

_REUSED: Final = "reused "
_EXECUTES: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.CORRECTED})
_log = log.logger(__name__)


class FrozenInstruments:
    """Freezes and thaws instruments of one broker."""

    def __init__(self, recorder: JournalRecorder, exposure: ExposureBook) -> None:
        self._recorder = recorder
        self._exposure = exposure
        self._holds = exposure.holds

    def freeze(self, symbol: str, words: str, *, lasting: bool = False) -> None:
        """Freeze a symbol until it is thawed; `lasting`: to the session's end."""
        if not self._holds.has(symbol, Hold.FROZEN_FOR_SESSION if lasting else Hold.FROZEN):
            _freeze(self._holds, symbol, words, lasting=lasting)
            self._record(symbol, words, there=True)
            _log.error("instrument.frozen", symbol=symbol, words=words)

    def thaw(self, symbols: Iterable[str]) -> None:
        """Thaw symbols that match the books, except those frozen to the session's end."""
        lasting = self._holds.symbols(Hold.FROZEN_FOR_SESSION)
        for symbol in sorted({*symbols} & self._holds.symbols(Hold.FROZEN) - lasting):
            self._holds.end(symbol, Hold.FROZEN)
            self._record(symbol, "the account matches the books", there=False)

    def on_broker_event(self, event: BrokerEvent, record: OrderRecord) -> None:
        """Freeze the symbols that an event makes unclear; `record` is its order after the event."""
        symbol, fill = record.order.symbol, event.fill
        if event.kind in _EXECUTES and fill is not None and not record.order.is_for(fill.symbol, buy=fill.buy):
            self._freeze_misread(record.order, fill)
        elif event.kind == BrokerEventKind.FILL and record.overfilled:
            self.freeze(symbol, f"{record.overfilled} more were filled than ordered")

    def _freeze_misread(self, order: Order, fill: Fill) -> None:
        # A broker that took a symbol or a side for another may do so again: an exit could open a position.
        ordered = f"{'buy' if order.buy else 'sell'} {order.symbol}"
        executed = f"{'bought' if fill.buy else 'sold'} {format_quantity(fill.quantity)} {fill.symbol}"
        self.freeze(order.symbol, f"the broker has {executed} for an order to {ordered}", lasting=True)
        self.freeze(fill.symbol, f"the broker has {executed} for an order to {ordered}")

    def on_off_grid(self, order: Order, words: str) -> None:
        """Request the instrument's rules, and send nothing until they are known.

        If they could not be had before and an exit is rejected, exits are given up: the symbol is frozen.
        """
        symbol = order.symbol
        grid = grid_of(self._exposure, symbol)
        if grid and any(ticks_of(float(price)) % grid for price in (order.limit_price, order.stop_price) if price):
            return  # the order was made before the current rules were known
        if not self._holds.has(symbol, *WITHOUT_RULES):
            self._holds.add(symbol, Hold.RULES_REQUESTED)
            self._recorder.record(InstrumentRulesReported.unknown(symbol, words, waiting=True))
        elif self._holds.has(symbol, Hold.RULES_UNKNOWN) and order.leg is Leg.EXIT:
            self.freeze(symbol, f"the broker does not accept this quantity: {words}", lasting=True)

    def reused_id_entry(self, event: BrokerEvent, was: Event, ticket: Ticket) -> NewEvent | None:
        """The journal event for an execution id that is reported again with other terms; None if the terms are known.

        The broker reused the id for another execution; a reading must show which of them count.
        """
        record = ticket.record
        if event.fill is None or not _differs(event, was):
            return None
        booked = record.executions.get(event.fill.execution_id)
        if event.fill.execution_id in record.corrected or (booked is not None and _same_terms(event.fill, booked)):
            return None
        source = (*(was.source or ("", "", ""))[:2], f"{_REUSED}{_terms(event.fill)} of {event.client_order_id}")
        if self._recorder.journal.contains(source):
            return None
        self.freeze(record.order.symbol, f"the broker reused the execution id {event.fill.execution_id}")
        if event.kind == BrokerEventKind.FILL:
            ticket.reused_at[event.fill] = self._recorder.clock.monotonic()
        entry = self._recorder.entry(ExecutionReused.of(event), event.client_order_id)
        return attrs.evolve(entry, source=source)

    def resolve_execution(self, event: BrokerEvent, ticket: Ticket | None) -> BrokerEvent:
        """A bust or a correction, with the id by which the books know the execution.

        If several executions share the broker's id, the terms decide. If they do not, the symbol is frozen and the
        event is not applied.
        """
        if event.fill is None or ticket is None or BROKER_EVENT_KINDS.get(event.kind) not in AMENDS:
            return event
        record = ticket.record
        execution_id = event.fill.execution_id
        candidates = fills_by_execution_id(
            execution_id, record.executions, self._reused(execution_id, event.client_order_id)
        )
        if len(candidates) < 2:
            name = next(iter(candidates), execution_id)
        elif not (name := _matching_id(event.fill, candidates)):
            self.freeze(record.order.symbol, f"execution {execution_id}, reported as {event.kind}, is unknown")
            return attrs.evolve(event, kind=records.EXECUTION_REUSED)
        return attrs.evolve(event, fill=attrs.evolve(event.fill, execution_id=name))

    def _reused(self, execution_id: str, client_order_id: str) -> Iterable[Fill]:
        # The executions that were reported under the id of another one.
        for event in self._recorder.journal.events(kind=records.EXECUTION_REUSED):
            reported = event.source is not None and event.source[2].startswith(_REUSED)
            if reported and event.cid == client_order_id:
                fill = event.facts(ExecutionReused).fill("")
                if fill is not None and fill.execution_id == execution_id:
                    yield fill

    def _record(self, symbol: str, words: str, *, there: bool) -> None:
        lasting = self._holds.has(symbol, Hold.FROZEN_FOR_SESSION)
        self._recorder.record(SymbolFrozen(symbol=symbol, there=there, words=words, lasting=lasting))


def lacks_execution(ticket: Ticket, since: float) -> bool:
    """Whether the books lack an execution of an order that was reported under a used id later than a second."""
    booked = ticket.record.executions.values()
    later = (fill for fill, at in ticket.reused_at.items() if at > since)
    return any(not any(_is_at_same_price(fill, known) for known in booked) for fill in later)


def with_unique_execution_id(event: BrokerEvent, known: Event | None) -> BrokerEvent:
    """An execution of a reading, with a unique id if its id is known for another order."""
    if event.fill is None or known is None or known.cid == event.client_order_id:
        return event
    execution_id = f"{event.fill.execution_id}{AGAIN}{event.client_order_id}"
    return attrs.evolve(event, fill=attrs.evolve(event.fill, execution_id=execution_id))


def fills_by_execution_id(execution_id: str, booked: Mapping[str, Fill], reported: Iterable[Fill]) -> dict[str, Fill]:
    """The executions that a broker reported under one id, by their ids in the books.

    Those `reported` that are not booked get the next free ids.
    """
    own = f"{execution_id}{AGAIN}"
    candidates = {name: fill for name, fill in booked.items() if name == execution_id or name.startswith(own)}
    for fill in reported:
        if not any(_is_at_same_price(fill, other) for other in candidates.values()):
            place = len(candidates) + 1
            candidates[f"{own}{place}" if place > 1 else execution_id] = fill
    return candidates


def recall_frozen(exposure: ExposureBook, recorded: SymbolFrozen) -> None:
    """Apply a journaled freeze or thaw from before a restart."""
    if recorded.there:
        _freeze(exposure.holds, recorded.symbol, recorded.words, lasting=recorded.lasting)
    else:
        exposure.holds.end(recorded.symbol, Hold.FROZEN)


def _freeze(holds: Holds, symbol: str, words: str, *, lasting: bool) -> None:
    holds.add(symbol, Hold.FROZEN, words)
    if lasting:
        holds.add(symbol, Hold.FROZEN_FOR_SESSION)


def _differs(event: BrokerEvent, was: Event) -> bool:
    facts = was.facts(EventFacts)  # a movement of the account may have the id too
    before = facts.fill(was.cid or "") if isinstance(facts, OrderReported) else None
    return before is not None and event.fill is not None and not _same_terms(event.fill, before)


def _same_terms(one: Fill, other: Fill) -> bool:
    return (one.client_order_id, one.symbol) == (other.client_order_id, other.symbol) and same_execution(one, other)


def _matching_id(fill: Fill, candidates: Mapping[str, Fill]) -> str:
    # The only candidate with these terms, else with this side and time, else also with this quantity; "" for none.
    for same in (same_execution, executed_together, _same_quantity):
        found = [name for name, one in candidates.items() if same(fill, one)]
        if len(found) == 1:
            return found[0]
    return ""


def _same_quantity(one: Fill, other: Fill) -> bool:
    return one.quantity == other.quantity and executed_together(one, other)


def _is_at_same_price(one: Fill, other: Fill) -> bool:
    # Whether two reports are of the same execution; what is booked of one may be less than it.
    return executed_together(one, other) and one.price == other.price


def _terms(fill: Fill) -> str:
    return f"{fill.execution_id} {fill.quantity} at {fill.price} {fill.time.isoformat()}"
