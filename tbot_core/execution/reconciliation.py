"""Compares a reading of the broker's account with the books; pure.

The broker wins on facts, the journal on intent. Differences in our orders become order events; external orders and
holdings are reported and not changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
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
"""Separates a reused execution id from the number that makes it unique."""

_SAME_S: Final = 1.0
_PRICE: Final = Decimal("0.0001")
_STATES_OF_STATUS: Final = {
    OrderStatus.WORKING: frozenset({OrderState.NEW, OrderState.PARTIALLY_FILLED}),
    OrderStatus.REJECTED: frozenset({OrderState.REJECTED}),
    OrderStatus.CANCELLED: frozenset({OrderState.CANCELLED}),
    OrderStatus.EXPIRED: frozenset({OrderState.EXPIRED}),
    OrderStatus.FILLED: frozenset({OrderState.FILLED}),
}


class ReconciliationStatus(StrEnum):
    """The result of a reconciliation."""

    MATCHED = "matched"
    ADOPTED = "adopted"
    UNSETTLED = "unsettled"


@attrs.frozen(kw_only=True)
class LocalBooks:
    """The books: our orders by client order id, our holdings by symbol, and the known external holdings.

    `listed`: the orders that a reading must list while they are open, since they were sent well before it. `ended`: the
    orders that had ended in the books before the reading was requested.
    """

    orders: Mapping[str, OrderRecord]
    held: Mapping[str, Decimal]
    external: Mapping[str, Decimal] = attrs.field(factory=dict)
    listed: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class PositionDifference:
    """A symbol whose holding at the account (`theirs`) is not that of our fills and external holdings (`ours`)."""

    symbol: str
    ours: Decimal
    theirs: Decimal


@attrs.frozen(kw_only=True)
class ReconciliationReport:
    """The result of a comparison: `events` missing in the books, orders that were not found, and external orders.

    `holdings`: all holdings of the account. `open_beyond_books`: orphan orders. `open_with_other_terms`: orders that
    work for another quantity, symbol or side than ordered. `unreadable`: our orders that are listed, and that the
    plugin could not read: they may work or have ended.
    """

    events: tuple[BrokerEvent, ...] = ()
    not_found: tuple[str, ...] = ()
    external_orders: tuple[OrderStatusReport, ...] = ()
    differences: tuple[PositionDifference, ...] = ()
    holdings: tuple[PositionReport, ...] = ()
    open_beyond_books: tuple[OrderStatusReport, ...] = ()
    open_with_other_terms: tuple[OrderStatusReport, ...] = ()
    unreadable: frozenset[str] = frozenset()

    @property
    def verdict(self) -> ReconciliationStatus:
        """MATCHED without differences, ADOPTED if facts must be booked, else UNSETTLED."""
        if self.not_found or self.open_beyond_books:
            return ReconciliationStatus.UNSETTLED
        if self.events or self.external_orders or self.differences:
            return ReconciliationStatus.ADOPTED
        return ReconciliationStatus.MATCHED


def snapshots_agree(first: AccountSnapshot, second: AccountSnapshot) -> bool:
    """Whether two readings agree: they have the same barrier of the broker, or equal facts."""
    if first.barrier and second.barrier:
        return first.barrier == second.barrier
    return _facts(first) == _facts(second)


def compare_with_books(books: LocalBooks, snapshot: AccountSnapshot) -> ReconciliationReport:
    """Compare a reading with the books; holdings are compared after the reading's own events."""
    events: list[BrokerEvent] = []
    growth_by_symbol: dict[str, Decimal] = {}
    listed = {report.client_order_id: report for report in snapshot.orders if report.client_order_id}
    executed: defaultdict[str, list[Fill]] = defaultdict(list)
    for fill in snapshot.fills:
        executed[fill.client_order_id].append(fill)
    beyond = {one.symbol: one.theirs - one.ours for one in _differences(books, {}, snapshot)}
    for cid, record in books.orders.items():
        report, fills = listed.get(cid), executed[cid]
        changes = (
            _missing_executions(record, fills, beyond.get(record.order.symbol, Decimal(0)))
            if report is None
            else [*events_from_report(record, _with_fills(report, fills))]
        )
        events += changes
        for symbol, growth in _growth(record, changes):
            growth_by_symbol[symbol] = growth_by_symbol.get(symbol, Decimal(0)) + growth
    ours = ((cid, report) for cid, report in listed.items() if cid in books.orders)
    excess = (open_beyond_books(books.orders[cid], report, ended=cid in books.ended) for cid, report in ours)
    return ReconciliationReport(
        events=tuple(events),
        not_found=tuple(_not_listed(books, {*listed, *snapshot.unreadable})),
        external_orders=tuple(report for report in snapshot.orders if report.client_order_id not in books.orders),
        differences=tuple(_differences(books, growth_by_symbol, snapshot)),
        holdings=tuple(snapshot.holdings),
        open_beyond_books=tuple(report for report in excess if report is not None),
        open_with_other_terms=tuple(_with_other_terms(books, listed)),
        unreadable=frozenset(books.orders.keys() & snapshot.unreadable.keys()),
    )


def open_beyond_books(record: OrderRecord, report: OrderStatusReport, *, ended: bool) -> OrderStatusReport | None:
    """The part of a reported order that the books do not have as open, as a report of that quantity; None for none.

    `ended`: the order had ended in the books before the request. One that ended since may have been open then.
    """
    rest = report.quantity - report.filled
    if report.kind != OrderStatus.WORKING or (record.terminal and not ended):
        return None
    counts = not record.terminal and record.order.is_for(report.symbol, buy=report.buy)
    excess = rest - max(record.order.quantity - report.filled if counts else Decimal(0), Decimal(0))
    return attrs.evolve(report, quantity=report.filled + excess) if excess > 0 else None


def events_from_report(record: OrderRecord, report: OrderStatusReport) -> Iterator[BrokerEvent]:
    """The events that turn a record into a report: missing fills, then the state if it differs.

    Event ids depend on the content, so that a repeated report has no effect. A cumulative quantity beyond the listed
    executions becomes one inferred fill, priced so that the broker's average holds; without any price it waits for its
    execution. What busts and corrections took away is never inferred: an older report still counts it. An order that
    the broker accepted for less than ordered has ended when that is filled.
    """
    cid = report.client_order_id
    filled = record.filled
    missing = _missing_fills(record, report.fills, report.filled)
    named = min(record.inferred_quantity, sum((fill.quantity for fill in missing), Decimal(0)))
    for fill in missing:
        yield _event(BrokerEventKind.FILL, cid, f"execution {fill.execution_id}", fill=fill)
        filled += fill.quantity
    filled -= named
    paid = sum((fill.quantity * fill.price for fill in report.fills), Decimal(0))
    has_price = report.average_price is not None or record.order.limit_price is not None
    unlisted = max(report.filled - record.withdrawn - filled, Decimal(0))
    if unlisted and (has_price or report.fills):
        yield _event(
            BrokerEventKind.FILL, cid, f"{cid} to {report.filled}", fill=_inferred_fill(record, report, unlisted, paid)
        )
    if report.kind == OrderStatus.FILLED and filled + unlisted < record.order.quantity and not record.terminal:
        yield _event(BrokerEventKind.EXPIRED, cid, f"{cid} is done", words=f"accepted as {report.quantity}, and filled")
    elif (
        report.kind != OrderStatus.FILLED and record.state not in _STATES_OF_STATUS[report.kind] and not record.terminal
    ):
        # The stream's rejection of an accepted order needs a lookup; in a report it means that the order has ended.
        accepted = report.kind == OrderStatus.REJECTED and record.state in _STATES_OF_STATUS[OrderStatus.WORKING]
        kind = BrokerEventKind.CANCELLED if accepted else BrokerEventKind(report.kind)
        yield _event(kind, cid, f"{cid} is {report.kind}", words=report.words)


def _with_other_terms(books: LocalBooks, listed: Mapping[str, OrderStatusReport]) -> Iterator[OrderStatusReport]:
    # Orders that work at the broker for another quantity, symbol or side than ordered.
    #
    # The legs of a bracket are reduced by fills of each other and by an incomplete entry.
    legs = {leg.client_order_id for record in books.orders.values() for leg in record.order.protection}
    for cid, report in listed.items():
        record = books.orders.get(cid)
        if record is None or record.terminal or report.kind != OrderStatus.WORKING:
            continue
        ordered = record.order.quantity
        as_ordered = report.quantity == ordered or (cid in legs and report.quantity < ordered)
        if not (as_ordered and record.order.is_for(report.symbol, buy=report.buy)):
            yield report


def _missing_fills(record: OrderRecord, fills: Sequence[Fill], filled: Decimal) -> list[Fill]:
    # The executions that a record lacks; `filled` is the order's reported quantity.
    #
    # An execution with the id of an earlier one gets a unique id, if the filled quantity allows another execution.
    listed: defaultdict[str, list[Fill]] = defaultdict(list)
    missing: list[Fill] = []
    left = filled - record.filled + record.inferred_quantity
    for fill in fills:
        same_id = listed[fill.execution_id]
        known = record.executions.get(fill.execution_id)
        void = fill.execution_id in record.corrected
        if (
            known is not None
            and not same_id
            and (_is_another(fill, known, void=void) or _listed_beside(fill, known, fills))
        ):
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


def _is_another(fill: Fill, known: Fill, *, void: bool) -> bool:
    # Whether an execution differs from the booked one of its id: the second may be reported before the first.
    return not executed_together(fill, known) and (fill.price != known.price or (void and not known.quantity))


def _listed_beside(fill: Fill, known: Fill, listed: Sequence[Fill]) -> bool:
    # Whether the booked execution of this id is listed as well, and this one is another.
    return not same_execution(fill, known) and any(
        one.execution_id == fill.execution_id and same_execution(one, known) for one in listed
    )


def same_execution(one: Fill, other: Fill) -> bool:
    """Whether two reports are of the same execution; their times may differ by up to a second."""
    return (one.quantity, one.price) == (other.quantity, other.price) and executed_together(one, other)


def executed_together(one: Fill, other: Fill) -> bool:
    """Whether two executions have the same side and, within a second, the same time."""
    return one.buy == other.buy and abs((one.time - other.time).total_seconds()) <= _SAME_S


def _with_fills(report: OrderStatusReport, fills: Sequence[Fill]) -> OrderStatusReport:
    # The report with the executions that the reading lists separately.
    there = {(fill.execution_id, fill.quantity, fill.price) for fill in report.fills}
    apart = tuple(fill for fill in fills if (fill.execution_id, fill.quantity, fill.price) not in there)
    return attrs.evolve(report, fills=(*report.fills, *apart)) if apart else report


def _missing_executions(record: OrderRecord, fills: Sequence[Fill], beyond: Decimal) -> list[BrokerEvent]:
    # The executions that a record lacks, if the order itself is not listed.
    #
    # `beyond`: what the account holds and the books do not. It proves an execution of more than was ordered, under an
    # id that was used before.
    cid, order = record.order.client_order_id, record.order
    missing = _missing_fills(record, fills, order.quantity + max(beyond if order.buy else -beyond, Decimal(0)))
    return [_event(BrokerEventKind.FILL, cid, f"execution {fill.execution_id}", fill=fill) for fill in missing]


def _growth(record: OrderRecord, events: Sequence[BrokerEvent]) -> Iterator[tuple[str, Decimal]]:
    # The change of holdings by the events, by symbol, without what was inferred before.
    inferred = record.inferred_quantity
    for fill in (event.fill for event in events if event.fill is not None):
        named = Decimal(0) if fill.execution_id.startswith(SUPPOSED_PREFIX) else min(inferred, fill.quantity)
        inferred -= named
        growth_by_symbol = fill.quantity - named
        yield fill.symbol, growth_by_symbol if fill.buy else -growth_by_symbol


def _inferred_fill(record: OrderRecord, report: OrderStatusReport, quantity: Decimal, paid: Decimal) -> Fill:
    # A fill of the cumulative quantity beyond the executions; its id depends on both quantities.
    average = report.average_price or record.order.limit_price or Decimal(0)
    known = sum((fill.quantity for fill in report.fills), Decimal(0))
    rest = report.filled - known
    price = average if not known else ((average * report.filled - paid) / rest if rest else average)
    return Fill(
        execution_id=f"{SUPPOSED_PREFIX}{report.client_order_id}-{report.filled - quantity}-{report.filled}",
        client_order_id=report.client_order_id,
        symbol=report.symbol,
        buy=report.buy,
        quantity=quantity,
        price=max(price, _PRICE).quantize(_PRICE),
        fees=Decimal(0),
        time=report.time,
    )


def _not_listed(books: LocalBooks, listed: Collection[str]) -> Iterator[str]:
    # Open orders that the reading should list and does not. One that is listed without a readable id may be any.
    for cid, record in books.orders.items():
        if cid in books.listed and not record.terminal and cid not in listed and "" not in listed:
            yield cid


def _differences(
    books: LocalBooks, growth_by_symbol: Mapping[str, Decimal], snapshot: AccountSnapshot
) -> Iterator[PositionDifference]:
    theirs = {holding.symbol: holding.quantity for holding in snapshot.holdings}
    symbols = sorted({*theirs, *books.held, *books.external, *growth_by_symbol})
    zero = Decimal(0)
    for symbol in symbols:
        ours = books.held.get(symbol, zero) + books.external.get(symbol, zero) + growth_by_symbol.get(symbol, zero)
        if ours != theirs.get(symbol, zero):
            yield PositionDifference(symbol=symbol, ours=ours, theirs=theirs.get(symbol, zero))


def _facts(snapshot: AccountSnapshot) -> tuple[object, ...]:
    orders = sorted((report.broker_order_id, report.kind, report.filled) for report in snapshot.orders)
    holdings = sorted((holding.symbol, holding.quantity) for holding in snapshot.holdings)
    fills = sorted((fill.client_order_id, fill.execution_id) for fill in snapshot.fills)
    return snapshot.account.cash, holdings, orders, fills


def split_difference(difference: PositionDifference, ours: Decimal, held: Decimal) -> tuple[Decimal, Decimal]:
    """Split an unexplained difference into the external change of a position and the external holding.

    `ours` is the holding by our fills, `held` the position's part of it, both signed. An external change can reduce a
    position to 0, not reverse it; the rest is external.
    """
    theirs = difference.theirs - (ours - held)
    kept = max(Decimal(0), min(held, theirs)) if held > 0 else min(Decimal(0), max(held, theirs))
    return kept - held, theirs - kept


def _event(kind: BrokerEventKind, cid: str, event_id: str, *, fill: Fill | None = None, words: str = "") -> BrokerEvent:
    return BrokerEvent(kind=kind, event_id=event_id, client_order_id=cid, fill=fill, words=words)


def outside_fill(position: Position, change: Decimal, number: int, time: datetime) -> Fill:
    """The fill of an external `change` of a position in shares, at its mark; `number` makes its id unique."""
    return Fill(
        execution_id=f"outside-{position.signal.text}-{position.units}-{number}",
        client_order_id="",
        symbol=position.symbol,
        buy=change > 0,
        quantity=abs(change),
        price=price_of(position.mark),
        fees=Decimal(0),
        time=time,
    )
