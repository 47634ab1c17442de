"""What a reading of the broker says against what the journal says: pure comparison, order by order, share by share.

The broker wins on facts, the journal on intent. What is ours becomes events of our orders; what is not ours is named,
counted and left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import (
    AccountSnapshot,
    BrokerEvent,
    BrokerEventKind,
    OrderStatus,
    OrderStatusReport,
    PositionReport,
)
from tbot_core.model.types import Fill, OrderState, price_of
from tbot_core.trading.orders import SUPPOSED_PREFIX, OrderRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tbot_core.trading.portfolio import Position

AGAIN: Final = "+"
"""Follows the id of an execution that a broker has used for another one before; which one this is comes after it."""

_SAME_S: Final = 1.0
_PRICE: Final = Decimal("0.0001")
_KNOWN_AS: Final = {
    OrderStatus.WORKING: frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED}),
    OrderStatus.REJECTED: frozenset({OrderState.REJECTED}),
    OrderStatus.CANCELLED: frozenset({OrderState.CANCELLED}),
    OrderStatus.EXPIRED: frozenset({OrderState.EXPIRED}),
    OrderStatus.FILLED: frozenset({OrderState.FILLED}),
}


class ReconciliationStatus(StrEnum):
    """How a reconciliation ended."""

    MATCHED = "matched"
    ADOPTED = "adopted"
    UNSETTLED = "unsettled"


@attrs.frozen(kw_only=True)
class LocalBooks:
    """The journal's side: our orders by client order id, what they add up to by symbol, and foreign holdings known.

    `listed` are those of which a reading must tell while they live: they were sent well before it. `ended` are those
    that were over in the books before the reading was asked for.
    """

    orders: Mapping[str, OrderRecord]
    held: Mapping[str, Decimal]
    external: Mapping[str, Decimal] = attrs.field(factory=dict)
    listed: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class PositionDifference:
    """A symbol of which the account holds `theirs`, while our fills and the foreign holdings known make `ours`."""

    symbol: str
    ours: Decimal
    theirs: Decimal


@attrs.frozen(kw_only=True)
class ReconciliationReport:
    """What a reading tells: `events` that our orders lack, `absent` ones, and what belongs to somebody else.

    `holdings`: all that the account holds, whoever it belongs to, as the reading says. `beyond`: what orders of ours
    have open that the books do not know; `otherwise`: those that work for something else than was ordered.
    """

    events: tuple[BrokerEvent, ...] = ()
    not_found: tuple[str, ...] = ()
    external_orders: tuple[OrderStatusReport, ...] = ()
    differences: tuple[PositionDifference, ...] = ()
    holdings: tuple[PositionReport, ...] = ()
    open_beyond_books: tuple[OrderStatusReport, ...] = ()
    open_with_other_terms: tuple[OrderStatusReport, ...] = ()

    @property
    def verdict(self) -> ReconciliationStatus:
        """Matched when there is nothing to tell, adopted when only facts are to be booked, else unsettled."""
        if self.not_found or self.open_beyond_books:
            return ReconciliationStatus.UNSETTLED
        if self.events or self.external_orders or self.differences:
            return ReconciliationStatus.ADOPTED
        return ReconciliationStatus.MATCHED


def snapshots_agree(first: AccountSnapshot, second: AccountSnapshot) -> bool:
    """Whether two readings may be believed: of the same moment by the venue's own mark, or equal in all that counts."""
    if first.barrier and second.barrier:
        return first.barrier == second.barrier
    return _facts(first) == _facts(second)


def compare_with_books(books: LocalBooks, snapshot: AccountSnapshot) -> ReconciliationReport:
    """Hold a reading against the books.

    Holdings are compared after the events that the reading itself brings.
    """
    events: list[BrokerEvent] = []
    grown: dict[str, Decimal] = {}
    listed = {report.client_order_id: report for report in snapshot.orders if report.client_order_id}
    executed: defaultdict[str, list[Fill]] = defaultdict(list)
    for fill in snapshot.fills:
        executed[fill.client_order_id].append(fill)
    for cid, record in books.orders.items():
        report, fills = listed.get(cid), executed[cid]
        news = _executed(record, fills) if report is None else [*events_from_report(record, _named(report, fills))]
        events += news
        for symbol, growth in _growth(record, news):
            grown[symbol] = grown.get(symbol, Decimal(0)) + growth
    ours = ((cid, report) for cid, report in listed.items() if cid in books.orders)
    more = (open_beyond_books(books.orders[cid], report, ended=cid in books.ended) for cid, report in ours)
    return ReconciliationReport(
        events=tuple(events),
        not_found=tuple(_absent(books, listed)),
        external_orders=tuple(report for report in snapshot.orders if report.client_order_id not in books.orders),
        differences=tuple(_differences(books, grown, snapshot)),
        holdings=tuple(snapshot.holdings),
        open_beyond_books=tuple(report for report in more if report is not None),
        open_with_other_terms=tuple(_otherwise(books, listed)),
    )


def open_beyond_books(record: OrderRecord, report: OrderStatusReport, *, ended: bool) -> OrderStatusReport | None:
    """What a report says is open of an order that the books do not count, as a report of that much; None for nothing.

    `ended`: the order was over in the books before the broker was asked. One that ended since may have been open then.
    """
    rest = report.quantity - report.filled
    if report.kind != OrderStatus.WORKING or (record.terminal and not ended):
        return None
    counts = not record.terminal and record.order.is_for(report.symbol, buy=report.buy)
    more = rest - max(record.order.quantity - report.filled if counts else Decimal(0), Decimal(0))
    return attrs.evolve(report, quantity=report.filled + more) if more > 0 else None


def events_from_report(record: OrderRecord, report: OrderStatusReport) -> Iterator[BrokerEvent]:
    """The events that lead from a record to a report: fills that it lacks, then its state if that is another.

    Their ids follow from what they say, so that the same report twice says nothing new. A cumulative quantity beyond
    the named executions becomes one supposed fill at the price that makes the broker's average true. An order that the
    broker took for less than was ordered, and filled, has ended.
    """
    cid = report.client_order_id
    filled = record.filled
    missing = _missing(record, report.fills, report.filled)
    named = min(record.inferred_quantity, sum((fill.quantity for fill in missing), Decimal(0)))
    for fill in missing:
        yield _event(BrokerEventKind.FILL, cid, f"execution {fill.execution_id}", fill=fill)
        filled += fill.quantity
    filled -= named
    paid = sum((fill.quantity * fill.price for fill in report.fills), Decimal(0))
    if report.filled > filled:
        yield _event(
            BrokerEventKind.FILL, cid, f"{cid} to {report.filled}", fill=_supposed(record, report, filled, paid)
        )
    if report.kind == OrderStatus.FILLED and report.filled < record.order.quantity and not record.terminal:
        yield _event(BrokerEventKind.EXPIRED, cid, f"{cid} is done", words=f"accepted as {report.quantity}, and filled")
    elif report.kind != OrderStatus.FILLED and record.state not in _KNOWN_AS[report.kind] and not record.terminal:
        # In the stream the rejection of what was taken is in doubt; as an answer it is proof that the order has ended.
        accepted = report.kind == OrderStatus.REJECTED and record.state in _KNOWN_AS[OrderStatus.WORKING]
        kind = BrokerEventKind.CANCELLED if accepted else BrokerEventKind(report.kind)
        yield _event(kind, cid, f"{cid} is {report.kind}", words=report.words)


def _otherwise(books: LocalBooks, listed: Mapping[str, OrderStatusReport]) -> Iterator[OrderStatusReport]:
    # Orders that work at the broker for another quantity, symbol or side than was ordered.
    #
    # The legs of a bracket shrink by what one of them, or not all of their entry, fills.
    legs = {leg.client_order_id for record in books.orders.values() for leg in record.order.protection}
    for cid, report in listed.items():
        record = books.orders.get(cid)
        if record is None or record.terminal or report.kind != OrderStatus.WORKING:
            continue
        ordered = record.order.quantity
        as_ordered = report.quantity == ordered or (cid in legs and report.quantity < ordered)
        if not (as_ordered and record.order.is_for(report.symbol, buy=report.buy)):
            yield report


def _missing(record: OrderRecord, fills: Sequence[Fill], filled: Decimal) -> list[Fill]:
    # The executions that a record lacks, of an order of which so much was filled.
    #
    # One that bears the id of another before it gets an id of its own, where what was filled has room for it.
    listed: defaultdict[str, list[Fill]] = defaultdict(list)
    missing: list[Fill] = []
    left = filled - record.filled + record.inferred_quantity
    for fill in fills:
        same_id = listed[fill.execution_id]
        known = record.executions.get(fill.execution_id)
        void = fill.execution_id in record.corrected
        if known is not None and not same_id and (_another(fill, known, void=void) or _beside(fill, known, fills)):
            same_id.append(known)
        if any(same_execution(fill, other) for other in same_id):
            continue
        same_id.append(fill)
        again = f"{AGAIN}{len(same_id)}" if len(same_id) > 1 else ""
        named = attrs.evolve(fill, execution_id=f"{fill.execution_id}{again}")
        if named.execution_id not in record.executions and (not again or fill.quantity <= left):
            left -= fill.quantity
            missing.append(named)
    return missing


def _another(fill: Fill, known: Fill, *, void: bool) -> bool:
    # Whether an execution is not the one that is known by its id: the second may be told before the first.
    return not executed_together(fill, known) and (fill.price != known.price or (void and not known.quantity))


def _beside(fill: Fill, known: Fill, listed: Sequence[Fill]) -> bool:
    # Whether the execution that is known by its id is listed as well, and this is not it.
    return not same_execution(fill, known) and any(
        one.execution_id == fill.execution_id and same_execution(one, known) for one in listed
    )


def same_execution(one: Fill, other: Fill) -> bool:
    """Whether two words on an execution tell of the same one: not every channel is as exact about its time."""
    return (one.quantity, one.price) == (other.quantity, other.price) and executed_together(one, other)


def executed_together(one: Fill, other: Fill) -> bool:
    """Whether two executions were done on one side at one time, as exactly as that is told."""
    return one.buy == other.buy and abs((one.time - other.time).total_seconds()) <= _SAME_S


def _named(report: OrderStatusReport, fills: Sequence[Fill]) -> OrderStatusReport:
    # The report with the executions that are listed apart from it.
    there = {(fill.execution_id, fill.quantity, fill.price) for fill in report.fills}
    apart = tuple(fill for fill in fills if (fill.execution_id, fill.quantity, fill.price) not in there)
    return attrs.evolve(report, fills=(*report.fills, *apart)) if apart else report


def _executed(record: OrderRecord, fills: Sequence[Fill]) -> list[BrokerEvent]:
    # The executions that a record lacks, of an order that is not listed itself.
    cid = record.order.client_order_id
    missing = _missing(record, fills, record.order.quantity)
    return [_event(BrokerEventKind.FILL, cid, f"execution {fill.execution_id}", fill=fill) for fill in missing]


def _growth(record: OrderRecord, events: Sequence[BrokerEvent]) -> Iterator[tuple[str, Decimal]]:
    # What the events add to holdings, by symbol: less what was supposed before of the executions that they name.
    supposed = record.inferred_quantity
    for fill in (event.fill for event in events if event.fill is not None):
        named = Decimal(0) if fill.execution_id.startswith(SUPPOSED_PREFIX) else min(supposed, fill.quantity)
        supposed -= named
        grown = fill.quantity - named
        yield fill.symbol, grown if fill.buy else -grown


def _supposed(record: OrderRecord, report: OrderStatusReport, filled: Decimal, paid: Decimal) -> Fill:
    # A fill of what the cumulative quantity has more than the executions, with an id that follows from both ends.
    quantity = report.filled - filled
    average = report.average_price or record.order.limit_price or Decimal(0)
    known = sum((fill.quantity for fill in report.fills), Decimal(0))
    rest = report.filled - known
    price = average if not known else ((average * report.filled - paid) / rest if rest else average)
    return Fill(
        execution_id=f"{SUPPOSED_PREFIX}{report.client_order_id}-{filled}-{report.filled}",
        client_order_id=report.client_order_id,
        symbol=report.symbol,
        buy=report.buy,
        quantity=quantity,
        price=max(price, _PRICE).quantize(_PRICE),
        fees=Decimal(0),
        time=report.time,
    )


def _absent(books: LocalBooks, listed: Mapping[str, OrderStatusReport]) -> Iterator[str]:
    # Orders that may live at the broker and are not among those that it lists.
    for cid, record in books.orders.items():
        if cid in books.listed and not record.terminal and cid not in listed:
            yield cid


def _differences(
    books: LocalBooks, grown: Mapping[str, Decimal], snapshot: AccountSnapshot
) -> Iterator[PositionDifference]:
    theirs = {holding.symbol: holding.quantity for holding in snapshot.holdings}
    symbols = sorted({*theirs, *books.held, *books.external, *grown})
    zero = Decimal(0)
    for symbol in symbols:
        ours = books.held.get(symbol, zero) + books.external.get(symbol, zero) + grown.get(symbol, zero)
        if ours != theirs.get(symbol, zero):
            yield PositionDifference(symbol=symbol, ours=ours, theirs=theirs.get(symbol, zero))


def _facts(snapshot: AccountSnapshot) -> tuple[object, ...]:
    orders = sorted((report.broker_order_id, report.kind, report.filled) for report in snapshot.orders)
    holdings = sorted((holding.symbol, holding.quantity) for holding in snapshot.holdings)
    fills = sorted((fill.client_order_id, fill.execution_id) for fill in snapshot.fills)
    return snapshot.account.cash, holdings, orders, fills


def split_difference(difference: PositionDifference, ours: Decimal, held: Decimal) -> tuple[Decimal, Decimal]:
    """What others changed in a position, and what is foreign, where no order of ours explains a difference.

    `ours` is all that our fills come to, `held` that part of it which is the position. Somebody who sold what we hold
    leaves us with less, never with the opposite; whatever goes beyond is foreign.
    """
    theirs = difference.theirs - (ours - held)
    kept = max(Decimal(0), min(held, theirs)) if held > 0 else min(Decimal(0), max(held, theirs))
    return kept - held, theirs - kept


def _event(kind: BrokerEventKind, cid: str, event_id: str, *, fill: Fill | None = None, words: str = "") -> BrokerEvent:
    return BrokerEvent(kind=kind, event_id=event_id, client_order_id=cid, fill=fill, words=words)


def outside_fill(position: Position, change: Decimal, closed: int, time: datetime) -> Fill:
    """The fill that books what others changed in a position, in shares, at its mark; `closed` counts closed trades."""
    return Fill(
        execution_id=f"outside-{position.signal.text}-{position.units}-{closed}",
        client_order_id="",
        symbol=position.signal.symbol,
        buy=change > 0,
        quantity=abs(change),
        price=price_of(position.mark),
        fees=Decimal(0),
        time=time,
    )
