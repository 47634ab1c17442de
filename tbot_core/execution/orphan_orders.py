"""What is open at a broker and not, or not so, in the books: told, counted, and taken back where it is ours.

An order of ours that the books call over, or that the broker works for more than was ordered, may fill beyond every
limit. One source may be behind the broker, so that two have to say it before anything is done; it counts from the first
on. Orders that are not ours are written down, and left alone.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.execution.intents import MinuteCommands
from tbot_core.journal import records
from tbot_core.model.formatting import format_quantity
from tbot_core.trading.commands import CancelOrder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tbot_core.contracts import OrderStatusReport
    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.reconciliation import ReconciliationReport
    from tbot_core.trading.decision_engine import DecisionEngine


class OrphanOrders:
    """Keeps what the readings and lookups of one broker say of such orders, where its execution shows it to all."""

    def __init__(self, execution: ExecutionEngine, desk: DecisionEngine) -> None:
        self._execution = execution
        self._desk = desk
        self._seen = execution.open_beyond_books
        self._proven: set[str] = set()
        self.external: set[tuple[str, str, Decimal]] = set()

    @property
    def symbols(self) -> set[str]:
        """The symbols of which an order of ours is open but unknown to the books, and those that it was meant for."""
        orders = self._execution.orders
        return {name for cid, one in self._seen.items() for name in (one.symbol, orders[cid].order.symbol)}

    def apply_findings(self, findings: ReconciliationReport) -> None:
        """A reading was believed: what is open but unknown to the books, in other terms than ordered, and by others."""
        shown = {one.client_order_id: one for one in findings.open_beyond_books}
        for cid in [one for one in self._seen if one not in shown]:
            self._drop(cid)
        for cid, report in shown.items():
            self._see(cid, report)
        self._tell(findings.open_with_other_terms)
        self._name(findings.external_orders)

    def apply_lookup(self, client_order_id: str, open_beyond: OrderStatusReport | None) -> bool:
        """The broker was asked for one order: what is open of it but unknown to the books, or None.

        Returns whether it is to be taken back.
        """
        if open_beyond is None:
            self._drop(client_order_id)
        else:
            self._see(client_order_id, open_beyond)
        return client_order_id in self._proven

    async def cancel_confirmed(self) -> None:
        """Ask for the cancel of what two sources have shown, until it is gone; what it covers is to be covered anew."""
        for cid in sorted(self._proven):
            self._desk.position_manager.mismatched_orders.on_orphan_cancel(cid)
        if self._proven:
            cancels = [CancelOrder(client_order_id=cid) for cid in sorted(self._proven)]
            await self._execution.execute(MinuteCommands(actions=cancels))

    def _see(self, cid: str, report: OrderStatusReport) -> None:
        order = self._execution.orders[cid].order
        price = order.limit_price or order.stop_price or report.average_price
        if price is not None:
            self._desk.exposure.external.set_price_if_unknown(report.symbol, price)
        if cid not in self._seen:
            self._execution.lookups[cid] = None
        elif cid not in self._proven:
            self._proven.add(cid)
            for symbol in sorted({report.symbol, order.symbol}):
                self._execution.frozen_instruments.freeze(symbol, self._words(cid, report))
            self._desk.position_manager.mismatched_orders.on_orphan_cancel(cid)
        self._seen[cid] = report

    def _words(self, cid: str, report: OrderStatusReport) -> str:
        record, rest = self._execution.orders[cid], format_quantity(report.quantity - report.filled)
        if record.terminal:
            return f"{rest} of order {cid} are working at the broker, which had reported it as {record.state.value}"
        deed = "buy" if report.buy else "sell"
        return f"order {cid} to {deed} {rest} {report.symbol} is working at the broker beyond the ordered quantity"

    def _drop(self, cid: str) -> None:
        self._seen.pop(cid, None)
        if cid in self._proven:
            self._proven.discard(cid)
            if self._execution.orders[cid].terminal:
                self._desk.position_manager.mismatched_orders.on_orphan_ended(cid)

    def _tell(self, otherwise: Iterable[OrderStatusReport]) -> None:
        recorder, venue = self._execution.recorder, self._execution.venue
        for report in otherwise:
            cid = report.client_order_id
            terms = f"{'buy' if report.buy else 'sell'} {report.quantity} {report.symbol}"
            source = (venue.name, venue.account_id, f"{cid} was accepted as {terms}")
            if not recorder.journal.contains(source):
                payload = records.otherwise_payload(report, self._execution.orders[cid].order)
                entry = recorder.entry(records.TAKEN_OTHERWISE, payload, cid)
                recorder.write(attrs.evolve(entry, source=source))

    def _name(self, foreign: Iterable[OrderStatusReport]) -> None:
        fresh = []
        for report in foreign:
            mark = (report.broker_order_id, report.kind, report.filled)
            if mark not in self.external:
                self.external.add(mark)
                fresh.append(self._execution.recorder.entry(records.FOREIGN_ORDER, records.report_payload(report)))
        if fresh:
            self._execution.recorder.write(*fresh)


def misread_order_text(payload: Mapping[str, Any]) -> str:
    """What a person reads of an order that a broker took for something else."""
    taken, ordered = _terms(payload), _terms(payload["ordered"])
    return f"The broker works the {payload['leg']} to {ordered} as an order to {taken}"


def _terms(one: Mapping[str, Any]) -> str:
    return f"{'buy' if one['buy'] else 'sell'} {format_quantity(Decimal(one['quantity']))} {one['symbol']}"
