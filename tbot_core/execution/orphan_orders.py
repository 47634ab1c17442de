"""Orphan orders: open at a broker, but ended or smaller in the books. They count in exposure and are cancelled.

An orphan order may fill beyond every limit. One source may be out of date, so that two must report it before it is
cancelled; it counts from the first report. External orders are journaled and not changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal.events.accounts import ForeignOrder
from tbot_core.journal.events.orders import OrderedTerms, OrderTermsDiffer
from tbot_core.model.formatting import format_quantity
from tbot_core.trading.commands import CancelOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from tbot_core.contracts import OrderStatusReport
    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.reconciliation import ReconciliationReport
    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.decision_engine import DecisionEngine


class OrphanOrders:
    """Tracks the orphan orders that readings and lookups of one broker report."""

    def __init__(self, execution: ExecutionEngine, decision_engine: DecisionEngine) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._tickets = execution.tickets
        self.external: set[tuple[str, str, Decimal]] = set()

    @property
    def symbols(self) -> set[str]:
        """The symbols of the orphan orders, as reported and as ordered."""
        reported = [(ticket.orphan, ticket.order) for ticket in self._tickets.values() if ticket.orphan is not None]
        return {symbol for report, order in reported for symbol in (report.symbol, order.symbol)}

    def apply_findings(self, findings: ReconciliationReport) -> None:
        """Apply a confirmed reading: orphan orders, orders with other terms than ordered, and external orders.

        Raises SettingsError at a start beside another tbot install.
        """
        shown = {one.client_order_id: one for one in findings.open_beyond_books}
        for cid, ticket in self._tickets.items():
            if ticket.orphan is not None and cid not in shown:
                self._drop(ticket)
        for cid, report in shown.items():
            self._record_report(self._tickets[cid], report)
        self._record_other_terms(findings.open_with_other_terms)
        self._record_external(findings.external_orders)

    def apply_lookup(self, client_order_id: str, open_beyond: OrderStatusReport | None) -> bool:
        """Apply the lookup of one order; `open_beyond` is its orphan part, None for none.

        Returns whether it must be cancelled.
        """
        ticket = self._tickets[client_order_id]
        if open_beyond is None:
            self._drop(ticket)
        else:
            self._record_report(ticket, open_beyond)
        return ticket.orphan_confirmed

    async def cancel_confirmed(self) -> None:
        """Cancel the orphan orders that two sources reported, and replace the protection that they were."""
        confirmed = sorted(cid for cid, ticket in self._tickets.items() if ticket.orphan_confirmed)
        for cid in confirmed:
            self._decision_engine.position_manager.mismatched_orders.on_orphan_cancel(cid)
        if confirmed:
            cancels = [CancelOrder(client_order_id=cid) for cid in confirmed]
            await self._execution.execute(MinuteCommands(actions=cancels))

    def _record_report(self, ticket: Ticket, report: OrderStatusReport) -> None:
        order = ticket.order
        price = order.limit_price or order.stop_price or report.average_price
        if price is not None:
            self._decision_engine.exposure.external.set_price_if_unknown(report.symbol, price)
        if ticket.orphan is None:
            ticket.must_look_up = True
        elif not ticket.orphan_confirmed:
            ticket.orphan_confirmed = True
            for symbol in sorted({report.symbol, order.symbol}):
                self._execution.frozen_instruments.freeze(symbol, self._words(ticket, report))
            self._decision_engine.position_manager.mismatched_orders.on_orphan_cancel(order.client_order_id)
        ticket.orphan = report

    @staticmethod
    def _words(ticket: Ticket, report: OrderStatusReport) -> str:
        cid, rest = ticket.order.client_order_id, format_quantity(report.quantity - report.filled)
        if ticket.terminal:
            return f"{rest} of order {cid} are working at the broker, which had reported it as {ticket.state.value}"
        side = "buy" if report.buy else "sell"
        return f"order {cid} to {side} {rest} {report.symbol} is working at the broker beyond the ordered quantity"

    def _drop(self, ticket: Ticket) -> None:
        was_confirmed, ticket.orphan, ticket.orphan_confirmed = ticket.orphan_confirmed, None, False
        if was_confirmed and ticket.terminal:
            self._decision_engine.position_manager.mismatched_orders.on_orphan_ended(ticket.order.client_order_id)

    def _record_other_terms(self, reports: Iterable[OrderStatusReport]) -> None:
        recorder, venue = self._execution.recorder, self._execution.venue
        for report in reports:
            cid = report.client_order_id
            terms = f"{'buy' if report.buy else 'sell'} {report.quantity} {report.symbol}"
            source = (venue.name, venue.account_id, f"{cid} was accepted as {terms}")
            if not recorder.journal.contains(source):
                entry = recorder.entry(OrderTermsDiffer.of(report, self._tickets[cid].order), cid)
                recorder.write(attrs.evolve(entry, source=source))

    def _record_external(self, reports: Sequence[OrderStatusReport]) -> None:
        fresh, venue = [], self._execution.venue
        for report in reports:
            key = (report.broker_order_id, report.kind, report.filled)
            if key not in self.external:
                self.external.add(key)
                fresh.append(self._execution.recorder.entry(ForeignOrder.of(report)))
        if fresh:
            self._execution.recorder.write(*fresh)
        if venue.sole_install is not None:
            venue.sole_install.check(venue.name, venue.account_id, reports)


def misread_order_text(accepted: OrderTermsDiffer) -> str:
    """Text for an order that a broker works with other terms than ordered."""
    return f"The broker works the {accepted.leg.value} to {_terms(accepted.ordered)} as an order to {_terms(accepted)}"


def _terms(order: OrderTermsDiffer | OrderedTerms) -> str:
    return f"{'buy' if order.buy else 'sell'} {format_quantity(order.quantity)} {order.symbol}"
