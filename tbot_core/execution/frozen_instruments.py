"""Instruments in which nothing is done but protect what is held, until what is not clear of them has been settled.

It is written down when one is frozen and when it is free again; whoever decides looks at the standing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_core.contracts import BrokerEventKind, RejectionMeaning, SupportsRejectionMeaning
from tbot_core.execution.reconciliation import AGAIN, executed_together, same_execution
from tbot_core.journal import records
from tbot_core.model.formatting import format_quantity
from tbot_core.model.types import Leg, ticks_of
from tbot_core.system import log
from tbot_core.trading.orders import AMENDS, BROKER_EVENT_KINDS, OrderRecord
from tbot_core.trading.risk.exposure import grid_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.contracts import BrokerEvent
    from tbot_core.journal.recorder import JournalRecorder
    from tbot_core.journal.store import Event, NewEvent
    from tbot_core.model.types import Fill, Order
    from tbot_core.trading.risk.exposure import ExposureBook

_REUSED: Final = "reused "
_REFUSALS: Final = frozenset({BrokerEventKind.REJECTED, BrokerEventKind.CANCEL_REFUSED})
_EXECUTES: Final = frozenset({BrokerEventKind.FILL, BrokerEventKind.CORRECTED})
_log = log.logger(__name__)


class FrozenInstruments:
    """Freezes instruments of one broker, whose refusals it can read where the broker says what they mean."""

    def __init__(self, recorder: JournalRecorder, standing: ExposureBook, broker: object) -> None:
        self._recorder = recorder
        self._standing = standing
        self._broker = broker

    def freeze(self, symbol: str, words: str, *, lasting: bool = False) -> None:
        """Do nothing in a symbol but protect it, until it is thawed; to the session's end where that is `lasting`."""
        if symbol not in self._standing.frozen or (lasting and symbol not in self._standing.frozen_for_session):
            self._standing.freeze(symbol, words, lasting=lasting)
            self._note(symbol, words, there=True)
            _log.error("instrument.frozen", symbol=symbol, words=words)

    def thaw(self, symbols: Iterable[str]) -> None:
        """These have been found as the books have them: what was not to last is over."""
        for symbol in sorted({*symbols} & self._standing.frozen.keys() - self._standing.frozen_for_session):
            self._standing.frozen.pop(symbol)
            self._note(symbol, "the account matches the books", there=False)

    def on_broker_event(self, event: BrokerEvent, record: OrderRecord) -> None:
        """Freeze what an event makes unclear; `record` is its order after it."""
        symbol, fill = record.order.symbol, event.fill
        if event.kind in _EXECUTES and fill is not None and not record.order.is_for(fill.symbol, buy=fill.buy):
            self._misunderstood(record.order, fill)
        elif event.kind not in BROKER_EVENT_KINDS:
            self.freeze(symbol, f"the broker reported {event.kind} for an unknown order")
        elif event.kind == BrokerEventKind.FILL and record.overfilled:
            self.freeze(symbol, f"{record.overfilled} more were filled than ordered")
        elif event.kind == BrokerEventKind.REJECTED and self._meaning(event.words) is RejectionMeaning.NOT_TRADABLE:
            self.freeze(symbol, f"the broker no longer trades it: {event.words}", lasting=True)
        elif event.kind in _REFUSALS and self._meaning(event.words) is RejectionMeaning.OFF_GRID:
            self._refused(record.order, event.words)

    def _misunderstood(self, order: Order, fill: Fill) -> None:
        # A broker that takes a symbol, or a side, for another would do so again: an exit would open something.
        deed = f"{'buy' if order.buy else 'sell'} {order.symbol}"
        done = f"{'bought' if fill.buy else 'sold'} {format_quantity(fill.quantity)} {fill.symbol}"
        self.freeze(order.symbol, f"the broker has {done} for an order to {deed}", lasting=True)
        self.freeze(fill.symbol, f"the broker has {done} for an order to {deed}")

    def _refused(self, order: Order, words: str) -> None:
        # What may be traded of an instrument is not what was thought: nothing of it is sent until that is known.
        #
        # Nobody says it where it was asked for in vain before; an exit that is refused all the same closes nothing.
        symbol, unruled = order.symbol, self._standing.rules_unknown
        grid = grid_of(self._standing, symbol)
        if grid and any(ticks_of(float(price)) % grid for price in (order.limit_price, order.stop_price) if price):
            return  # it was made by the rules of before, which is known by now
        if symbol not in unruled:
            unruled[symbol] = True
            payload = {"symbol": symbol, "known": False, "waiting": True, "words": words}
            self._recorder.record(records.INSTRUMENT, payload)
        elif not unruled[symbol] and order.leg is Leg.EXIT:
            self.freeze(symbol, f"the broker does not accept this quantity: {words}", lasting=True)

    def reused_id_entry(self, event: BrokerEvent, was: Event, record: OrderRecord | None) -> NewEvent | None:
        """What is to be written of an execution that was told before, where it says something else now.

        The id is that of another execution then: both are facts, and which of them counts a reading has to say.
        """
        if event.fill is None or record is None or not _differs(event, was):
            return None
        booked = record.executions.get(event.fill.execution_id)
        if event.fill.execution_id in record.corrected or (booked is not None and _alike(event.fill, booked)):
            return None
        source = (*(was.source or ("", "", ""))[:2], f"{_REUSED}{_terms(event.fill)} of {event.client_order_id}")
        if self._recorder.journal.contains(source):
            return None
        self.freeze(record.order.symbol, f"the broker reused the execution id {event.fill.execution_id}")
        entry = self._recorder.entry(records.EXECUTION_REUSED, records.broker_payload(event), event.client_order_id)
        return attrs.evolve(entry, source=source)

    def resolve_execution(self, event: BrokerEvent, record: OrderRecord | None) -> BrokerEvent:
        """A word that takes back or corrects an execution, under the id by which the books know the one it means.

        Of several under one id its terms say which; where they do not, it is no word on any of them: the account says.
        """
        if event.fill is None or record is None or BROKER_EVENT_KINDS.get(event.kind) not in AMENDS:
            return event
        execution_id = event.fill.execution_id
        bearers = fills_by_execution_id(
            execution_id, record.executions, self._reused(execution_id, event.client_order_id)
        )
        if len(bearers) < 2:
            name = next(iter(bearers), execution_id)
        elif not (name := _named(event.fill, bearers)):
            self.freeze(record.order.symbol, f"execution {execution_id}, reported as {event.kind}, is unknown")
            return attrs.evolve(event, kind=records.EXECUTION_REUSED)
        return attrs.evolve(event, fill=attrs.evolve(event.fill, execution_id=name))

    def _reused(self, execution_id: str, client_order_id: str) -> Iterable[Fill]:
        # The executions that were told under the id of another one.
        for event in self._recorder.journal.events(kind=records.EXECUTION_REUSED):
            told = event.source is not None and event.source[2].startswith(_REUSED)
            if told and event.cid == client_order_id and event.payload["execution_id"] == execution_id:
                yield records.adjustment_of(event.payload)

    def _meaning(self, words: str) -> RejectionMeaning | None:
        return self._broker.meaning(words) if isinstance(self._broker, SupportsRejectionMeaning) else None

    def _note(self, symbol: str, words: str, *, there: bool) -> None:
        lasting = symbol in self._standing.frozen_for_session
        payload = {"symbol": symbol, "there": there, "words": words, "lasting": lasting}
        self._recorder.record(records.FROZEN, payload)


def with_unique_execution_id(event: BrokerEvent, known: Event | None) -> BrokerEvent:
    """An execution that was read of an order, under an id of its own where that of it stands for another order's."""
    if event.fill is None or known is None or known.cid == event.client_order_id:
        return event
    execution_id = f"{event.fill.execution_id}{AGAIN}{event.client_order_id}"
    return attrs.evolve(event, fill=attrs.evolve(event.fill, execution_id=execution_id))


def fills_by_execution_id(execution_id: str, booked: Mapping[str, Fill], told: Iterable[Fill]) -> dict[str, Fill]:
    """The executions that a broker calls by one id, by the id of each in the books.

    Those `told` that no reading had room for yet are not booked: each bears the next id that is free.
    """
    own = f"{execution_id}{AGAIN}"
    bearers = {name: fill for name, fill in booked.items() if name == execution_id or name.startswith(own)}
    for fill in told:
        if not any(executed_together(fill, other) and fill.price == other.price for other in bearers.values()):
            place = len(bearers) + 1
            bearers[f"{own}{place}" if place > 1 else execution_id] = fill
    return bearers


def recall_frozen(standing: ExposureBook, payload: Mapping[str, Any]) -> None:
    """Take in what was frozen or free again before a restart."""
    if payload["there"]:
        standing.freeze(payload["symbol"], payload["words"], lasting=payload["lasting"])
    else:
        standing.frozen.pop(payload["symbol"], None)


def _differs(event: BrokerEvent, was: Event) -> bool:
    before = records.fill_of(was.cid or "", was.payload)
    return before is not None and event.fill is not None and not _alike(event.fill, before)


def _alike(one: Fill, other: Fill) -> bool:
    return (one.client_order_id, one.symbol) == (other.client_order_id, other.symbol) and same_execution(one, other)


def _named(fill: Fill, bearers: Mapping[str, Fill]) -> str:
    # The one of the bearers that has these terms, or was done then where the price is another, of as many shares where
    # more were done then; "" for none.
    for same in (same_execution, executed_together, _as_many):
        found = [name for name, one in bearers.items() if same(fill, one)]
        if len(found) == 1:
            return found[0]
    return ""


def _as_many(one: Fill, other: Fill) -> bool:
    return one.quantity == other.quantity and executed_together(one, other)


def _terms(fill: Fill) -> str:
    return f"{fill.execution_id} {fill.quantity} at {fill.price} {fill.time.isoformat()}"
