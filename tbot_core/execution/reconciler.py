"""Reconciliation of a running session: looks up unknown orders, reads the account and books differences.

An order that the broker does not know stays unknown until two sources agree and the broker's lookup window has passed;
then it is lost, and its exposure stays reserved. Three failed readings in a row allow exits only.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountSnapshot, OrderStatus, OrderStatusReport
from tbot_core.contracts.abilities import OPEN_ORDERS, ORDER_LOOKUP
from tbot_core.errors import BrokerError, Unavailable
from tbot_core.execution.broker_account import update_account
from tbot_core.execution.broker_port import READING_PRIORITY, AccountDiscarded
from tbot_core.execution.contradictions import CONTRADICTED_S, Judgment
from tbot_core.execution.corporate_actions import SplitMatcher
from tbot_core.execution.frozen_instruments import lacks_execution
from tbot_core.execution.instrument_requests import InstrumentRequests
from tbot_core.execution.orphan_orders import OrphanOrders
from tbot_core.execution.position_differences import PositionDifferences
from tbot_core.execution.reconciliation import (
    LocalBooks,
    ReconciliationReport,
    ReconciliationStatus,
    compare_with_books,
    events_from_report,
    open_beyond_books,
    snapshots_agree,
)
from tbot_core.execution.requests import run_concurrently
from tbot_core.journal import records
from tbot_core.journal.events.accounts import AccountMoved, CashStated
from tbot_core.journal.ledger import ledger_of
from tbot_core.journal.projections.book import broker_events
from tbot_core.model.types import Account, Leg, OrderState, quantity_of
from tbot_core.plugins.network.request_limits import RequestPriority
from tbot_core.system import log
from tbot_core.trading.order_lookup import IN_FLIGHT_S, SETTLING_S, UNANSWERED_S, WATCHED_S, OrderLookup
from tbot_core.trading.orders import ENDED, IN_DOUBT, WORKING, OrderRecord
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.trading.account_book import Ticket
    from tbot_core.trading.decision_engine import DecisionEngine

OPEN_ORDERS_S: Final = 10.0  # between two account readings while orders work
POSITIONS_S: Final = 30.0  # and while none works
AGREE_S: Final = 0.5  # between two readings that must agree
READINGS: Final = 6  # further readings at most, until one agrees with the one before
LEAST_WINDOW_S: Final = 600.0  # the shortest time after which an entry that is not found is lost
MARGIN: Final = timedelta(minutes=1)  # before the start of a reading, since clocks differ
BELATED: Final = timedelta(days=5)  # after its date, a payment may still appear in a broker's list

_FAILED_READINGS: Final = 3

_log = log.logger(__name__)


class Reconciler:
    """Reconciles a session's orders and positions with the broker; call `run_once` about twice per second.

    Readings list closed orders from a margin before the session's opening. `splits`: the operator's list of splits,
    None for none. `is_maintenance`: whether the broker is in an announced maintenance; failed readings are no alarm
    then.
    """

    def __init__(
        self,
        execution: ExecutionEngine,
        decision_engine: DecisionEngine,
        trading_state: TradingStateController,
        splits: Path | None = None,
        is_maintenance: Callable[[], bool] = lambda: False,
    ) -> None:
        self._execution = execution
        self._decision_engine = decision_engine
        self._tickets = execution.tickets
        self._broker = execution.venue.broker
        self._clock = execution.recorder.clock
        self._trading_state = trading_state
        self.external = decision_engine.exposure.external.held
        self._differences = PositionDifferences(execution, decision_engine, trading_state)
        self.splits = SplitMatcher(execution, decision_engine, splits)
        self.instruments = InstrumentRequests(execution, decision_engine, self._clock, execution.symbols)
        self._is_maintenance = is_maintenance
        self.read_at: datetime | None = None
        self.verdict: ReconciliationStatus | None = None
        past = broker_events(execution.recorder.journal.events(), execution.recorder.broker)
        self._last_statement = ledger_of(past).stated
        opened = decision_engine.position_manager.session.open
        self._stated = self._last_statement is not None and self._last_statement.date() == opened.date()
        self._since = opened - MARGIN
        self._numbers = itertools.count()
        self._next_reading = 0.0
        self._failed_readings = 0
        self._orphans = OrphanOrders(execution, decision_engine)
        self._holdings_before: dict[str, int] = {}
        self._requested_at = float("-inf")

    @property
    def has_read_account(self) -> bool:
        """Whether the account has been read since the start."""
        return self.verdict is not None

    async def run_once(self) -> None:
        """One round: look up orders whose outcome is unknown, and read the account when due."""
        await self.look_up_due()
        await self.instruments.run_once()
        due = self._decision_engine.position_manager.reading_due
        is_awaited = self._requested_at < due <= self._clock.monotonic()
        if self._clock.monotonic() >= self._next_reading or self._execution.rejections.must_read or is_awaited:
            await self.read()

    def read_soon(self) -> None:
        """Read the account in the next round."""
        self._next_reading = 0.0

    async def read(self) -> ReconciliationStatus | None:
        """Read the account until two readings agree, and act on them; None if it could not be read.

        A reading that the books cannot compute with has failed too.
        """
        try:
            return await self._read()
        except ArithmeticError as fault:
            self._on_read_failed(_uncomputable(fault))
            return None

    async def _read(self) -> ReconciliationStatus | None:
        listed, ended, began = self._orders_to_list(), self._ended_orders(), self._clock.now()
        self._requested_at = self._clock.monotonic()
        cash = self._decision_engine.portfolio.cash_atoms
        self._execution.rejections.on_reading()
        try:
            await self._catch_up()
            snapshot = await self._confirmed_snapshot()
        except BrokerError as fault:
            self._on_read_failed(fault)
            return None
        finally:
            self._next_reading = self._clock.monotonic() + self._interval
        self._failed_readings = 0
        self._trading_state.clear_cause(StateCause.UNKNOWN)
        if snapshot is None:
            return None
        self.read_at = began
        self.splits.add_activities(snapshot.activities)
        self._execution.contradictions.add_reading(snapshot, self._tickets, self._requested_at)
        findings = compare_with_books(self._books(listed, ended), snapshot)
        crossed = self._decision_engine.portfolio.cash_atoms != cash or self._differs_in_own(findings)
        clean = self._apply_findings(findings, listed)
        self._book_activities(snapshot)
        self._trading_state.set_cause(StateCause.RESTRICTED, snapshot.account.blocking_words)
        self._trading_state.on_reconciled(clean=clean)
        update_account(self._decision_engine, self._execution.recorder, snapshot.account, crossed=crossed)
        self.verdict = findings.verdict
        if self._decision_engine.exposure.holds.symbols(Hold.DISPUTED):
            lag_s = self._broker.capabilities.list_lag_s if self._differences.disputed else 0.0
            self._next_reading = self._clock.monotonic() + max(IN_FLIGHT_S, lag_s)
        await self._orphans.cancel_confirmed()
        return findings.verdict

    async def close(self) -> bool:
        """Read the account at the end of the day, and record the statement: its cash against the ledger's.

        Nothing is recorded while an order is open or unknown, since it may explain a difference; such orders are looked
        up after a first reading. A lost one explains nothing any more. Returns whether the account could be read.
        """
        self._stated = True
        first = await self.read()
        for ticket in [ticket for ticket in self._tickets.values() if ticket.must_look_up]:
            await self._look_up(ticket)
        self._stated = any(
            not ticket.terminal and ticket.state is not OrderState.LOST for ticket in self._tickets.values()
        )
        return first is not None and await self.read() is not None

    async def _catch_up(self) -> None:
        # Before a statement, read the payments since the last one. Some brokers list a payment days later under its
        # own date: each is booked once.
        if self._stated or self._last_statement is None or self._last_statement >= self._since:
            return
        recorder = self._execution.recorder
        first = next(broker_events(recorder.journal.events(kind=records.STATEMENT), recorder.broker)).applied
        seen = await self._broker.snapshot(max(self._last_statement - BELATED, first))
        self.splits.add_activities(seen.activities)
        later = tuple(one for one in seen.activities if one.time > first)
        self._book_activities(attrs.evolve(seen, activities=later), stating=False)

    def _book_activities(self, snapshot: AccountSnapshot, *, stating: bool = True) -> None:
        # Book each account activity once; the day's first and last reading are statements.
        execution = self._execution
        for activity in snapshot.activities:
            source = (execution.venue.name, execution.venue.account_id, f"activity {activity.activity_id}")
            if not execution.recorder.journal.contains(source):
                entry = execution.recorder.entry(AccountMoved.of(activity))
                execution.recorder.write(attrs.evolve(entry, source=source))
        if stating and not self._stated:
            self._record_statement(snapshot.account)

    @property
    def _ledger_cash(self) -> Decimal | None:
        # The cash of the ledger; None before its first statement.
        ledger = ledger_of(broker_events(self._execution.recorder.journal.events(), self._execution.recorder.broker))
        return None if ledger.stated is None else ledger.cash

    def _record_statement(self, account: Account) -> None:
        # Record a statement; a difference from the ledger is unexplained cash, which raises MISMATCH.
        self._stated, self._last_statement = True, self._clock.now()
        ours = self._ledger_cash
        self._execution.recorder.record(CashStated(cash=account.cash, ours=ours, currency=account.currency))
        if ours is not None and ours != account.cash:
            # Cleared at once, since no reading reports it again: it lingers until the account was clean for a minute.
            self._trading_state.raise_cause(StateCause.MISMATCH, f"cash: {account.cash - ours} USD unexplained")
            self._trading_state.clear_cause(StateCause.MISMATCH)

    @property
    def _interval(self) -> float:
        # The seconds to the next reading; the first one that fails is repeated soon.
        if self._waits_for_list:
            most = IN_FLIGHT_S if self._failed_readings == 1 else SETTLING_S
            return min(max(self._second_list_at - self._clock.monotonic(), AGREE_S), most)
        is_open = any(ticket.is_open for ticket in self._tickets.values())
        interval = OPEN_ORDERS_S if is_open else POSITIONS_S
        return min(interval, IN_FLIGHT_S) if self._failed_readings == 1 else interval

    @property
    def _second_list_at(self) -> float:
        # When a list may show that an order without a known outcome was not booked.
        missed = [ticket.lookup.not_found_by for ticket in self._urgent() if ticket.lookup is not None]
        first = [max(by_source.values()) for by_source in missed if "list" in by_source]
        return min(first, default=math.inf) + self._broker.capabilities.list_lag_s

    @property
    def _waits_for_list(self) -> bool:
        # Whether a position waits for a reading, or for what lists alone can say of its order.
        waits = self._decision_engine.position_manager.reading_due < math.inf
        return waits or any(not self._may_send_again(ticket) for ticket in self._urgent())

    async def look_up_due(self) -> None:
        """Look up the orders that are due."""
        if not self._tickets:
            return
        await self.settle_due()
        now = self._clock.monotonic()
        due = [ticket for ticket, lookup in self._looked_up() if lookup.next_lookup_at <= now]
        listed = await self._list_watched(due)
        # A list is out of date after the next request.
        for cid in dict.fromkeys((*listed, *(ticket.order.client_order_id for ticket in due))):
            if not self._is_urgent(self._tickets[cid]):
                await self._look_up(self._tickets[cid], listed.get(cid))

    def _looked_up(self) -> list[tuple[Ticket, OrderLookup]]:
        # The orders that are being looked up, in the order in which that began.
        pairs = [(ticket, ticket.lookup) for ticket in self._tickets.values() if ticket.lookup is not None]
        return sorted(pairs, key=lambda pair: pair[1].number)

    def _lookup_of(self, ticket: Ticket, now: float) -> OrderLookup:
        # The lookup of an order; one begins now if there is none.
        if ticket.lookup is None:
            ticket.lookup = OrderLookup(next_lookup_at=now, number=next(self._numbers))
        return ticket.lookup

    def must_settle(self) -> bool:
        """Whether an order leaves a position bare whose outcome is to be asked for now."""
        now = self._clock.monotonic()
        is_due = any(ticket.lookup is None or ticket.lookup.is_due(now) for ticket in self._urgent())
        return is_due or bool(self._unanswered())

    async def settle_due(self) -> None:
        """Settle the orders without a known outcome that leave a position bare, all at once; exits only meanwhile."""
        for cid in self._unanswered():
            self._execution.mark_unknown(f"no answer within {UNANSWERED_S:.0f} s", cid)
        urgent, now = self._urgent(), self._clock.monotonic()
        orders = [ticket.order for ticket in urgent]
        words = ", ".join(f"{order.leg.value} of {order.symbol}" for order in orders if order.leg is not Leg.TARGET)
        self._trading_state.set_cause(StateCause.OUTCOME_UNKNOWN, words)
        if self._waits_for_list:
            self._next_reading = min(self._next_reading, self._requested_at + self._interval)
        self._update_lookups(now)
        due = [ticket for ticket in urgent if self._lookup_of(ticket, now).is_due(now)]
        await run_concurrently([partial(self._settle, ticket) for ticket in due])

    def _update_lookups(self, now: float) -> None:
        # Start lookups of orders that became unknown, and of entries that work; end those of all others.
        for ticket in self._tickets.values():
            silent = ticket.state is OrderState.SENDING and self._execution.age(ticket) > IN_FLIGHT_S
            if silent or ticket.state in IN_DOUBT or ticket.must_look_up:
                lookup = self._lookup_of(ticket, now)
                lookup.next_lookup_at = lookup.next_lookup_at if lookup.asked else now
                lookup.asked = True
            elif not self._is_watched(ticket):
                ticket.lookup = None
            elif ticket.lookup is None:
                self._lookup_of(ticket, now).next_lookup_at = now + WATCHED_S
            else:
                ticket.lookup.asked = False

    def _is_watched(self, ticket: Ticket) -> bool:
        # Whether an entry works whose fills a stream reports: a silent stream must not leave them without protection.
        return self._execution.stream is not None and ticket.order.leg is Leg.ENTRY and ticket.state in WORKING

    async def _list_watched(self, due: Sequence[Ticket]) -> dict[str, OrderStatusReport | None]:
        # All watched orders by one request, if one of them is due; None, and last, those that are not listed as open.
        #
        # Empty where the broker cannot list them or fails to: they are looked up one by one.
        broker = OPEN_ORDERS.of(self._broker)
        watched = [ticket for ticket, lookup in self._looked_up() if not lookup.asked and self._is_watched(ticket)]
        if broker is None or not any(ticket in due for ticket in watched):
            return {}
        try:
            listed = {report.client_order_id: report for report in await broker.open_orders()}
        except BrokerError as fault:
            _log.warning("open_orders.not_listed", reason=fault.message)
            return {}
        still = [ticket.order.client_order_id for ticket in watched if self._is_watched(ticket)]
        return {cid: listed.get(cid) for cid in sorted(still, key=lambda cid: cid not in listed)}

    def _unanswered(self) -> list[str]:
        # The stops and exits of positions that were sent and not answered in time: their outcome is unknown.
        if self._broker.capabilities.simulated:
            return []
        manager = self._decision_engine.position_manager
        return [
            cid
            for cid, ticket in self._tickets.items()
            if ticket.state is OrderState.SENDING
            and self._execution.age(ticket) >= UNANSWERED_S
            and not ticket.record.confirmed
            and manager.is_current(ticket.order)
        ]

    def _urgent(self) -> list[Ticket]:
        # The orders whose outcome must be settled within seconds.
        return [ticket for ticket in self._tickets.values() if self._is_urgent(ticket)]

    def _is_urgent(self, ticket: Ticket) -> bool:
        # Whether the outcome of an order decides whether a position is protected, or closed.
        manager = self._decision_engine.position_manager
        return ticket.state is OrderState.UNKNOWN and manager.is_current(ticket.order)

    async def _settle(self, ticket: Ticket) -> None:
        # Settle a stop or exit without a known outcome: look it up, and send it again under its id where the broker
        # refuses one that it has seen.
        lookup = self._lookup_of(ticket, self._clock.monotonic())
        lookup.settling = True
        try:
            await self._look_up_and_send_again(ticket)
        finally:
            lookup.settling = False

    async def _look_up_and_send_again(self, ticket: Ticket) -> None:
        cid = ticket.order.client_order_id
        try:
            async with asyncio.timeout(UNANSWERED_S):
                await self._look_up(ticket)
        except TimeoutError:
            _log.warning("order.not_looked_up", id=cid, reason=f"no answer within {UNANSWERED_S:.0f} s")
        if not self._may_send_again(ticket):
            return
        if self._execution.rejections.must_read:
            if ticket.lookup is not None:
                ticket.lookup.next_lookup_at = self._clock.monotonic()  # once the reading has been asked for
            return
        try:
            async with asyncio.timeout(UNANSWERED_S):
                await self._execution.send_again(ticket.order)
        except TimeoutError:
            _log.warning("order.not_sent_again", id=cid, reason=f"no answer within {UNANSWERED_S:.0f} s")

    def _may_send_again(self, ticket: Ticket) -> bool:
        # Whether an order may be sent again under its id: nothing says that it was booked, and it fits its position.
        record = ticket.record
        unseen = record.state is OrderState.UNKNOWN and not record.confirmed and record.refused_at is None
        manager = self._decision_engine.position_manager
        return self._broker.capabilities.unique_client_order_id and unseen and manager.may_send_again(record.order)

    async def _look_up(self, ticket: Ticket, listed: OrderStatusReport | None = None) -> None:
        # Act on what the broker says of an order, with the report of a list or by a request of its own.
        cid, requested, watched = ticket.order.client_order_id, self._clock.monotonic(), self._is_watched(ticket)
        lookup = self._lookup_of(ticket, requested)
        lookup.postpone(requested, watched=watched, urgent=self._is_urgent(ticket))
        broker, ended = ORDER_LOOKUP.of(self._broker), listed is None and ticket.terminal
        if broker is None and listed is None:
            self._next_reading = 0.0
            return
        try:
            report = listed if listed is not None or broker is None else await broker.find(cid)
        except BrokerError as fault:
            _log.warning("order.not_looked_up", id=cid, reason=fault.message)
            return
        if watched and lookup.defer(ticket.record, report, self._clock.monotonic()):
            return
        if report is not None or ticket.terminal:
            ticket.must_look_up = False
        if report is not None:
            lookup.not_found_by.clear()
            self._apply_report(ticket, report)
            if self._lacks_execution(ticket, requested) or self._is_older_than_list(lookup, requested):
                ticket.must_look_up = True
            if self._orphans.apply_lookup(cid, open_beyond_books(ticket.record, report, ended=ended)):
                self.read_soon()
            return
        self._on_not_found(ticket, lookup, "query", requested)

    def _on_not_found(self, ticket: Ticket, lookup: OrderLookup, source: str, requested: float) -> None:
        # A source does not know the order. If two do not, it is unknown, and when that has lasted it is lost.
        lookup.not_found_by.setdefault(source, requested)
        cid, record, rules = ticket.order.client_order_id, ticket.record, self._broker.capabilities
        if record.refused_at is not None:
            if requested >= record.refused_at + rules.list_lag_s:  # else an order of it may not be listed yet
                self._execution.mark_lost(cid, reading_after=requested)
        elif len(lookup.not_found_by) < (2 if rules.query_by_cid else 1):
            return
        elif record.state is OrderState.UNKNOWN:
            if self._is_given_up(ticket, lookup, source, requested):
                self._execution.mark_lost(cid)
        elif record.state is not OrderState.LOST:
            self._execution.mark_not_found(cid)

    def _is_given_up(self, ticket: Ticket, lookup: OrderLookup, source: str, requested: float) -> bool:
        # Whether an order that no source knows is lost. An entry, and what no position waits for, is awaited for long.
        rules, missed_s = self._broker.capabilities, lookup.missed_for(requested)
        if not self._is_urgent(ticket):
            return self._execution.age(ticket) > max(rules.lookup_window_s, LEAST_WINDOW_S)
        if ticket.record.confirmed:
            return missed_s >= CONTRADICTED_S
        return source == "list" and not self._may_send_again(ticket) and missed_s >= rules.list_lag_s

    async def _confirmed_snapshot(self) -> AccountSnapshot | None:
        # A snapshot that a second one confirms; None if they keep differing, as in a busy minute. One with a barrier
        # needs none, unless a statement is made of it that differs from the ledger.
        first = await self._snapshot()
        stating = not (self._stated or self._broker.capabilities.simulated)
        for _ in range(READINGS):
            if first.barrier and not (stating and first.account.cash != self._ledger_cash):
                return first
            await self.look_up_due()  # an order must not wait for the reading
            await self._clock.sleep(AGREE_S)
            second = await self._snapshot()
            if snapshots_agree(first, second) and not (stating and first.account.cash != second.account.cash):
                return second
            first = second
        return None

    async def _snapshot(self) -> AccountSnapshot:
        # A snapshot; it need not contain what is booked from here on.
        self._holdings_before, requested = self._decision_engine.portfolio.holdings, self._clock.monotonic()
        priority = RequestPriority.LOOKUP if self._waits_for_list else RequestPriority.READING
        before = READING_PRIORITY.set(priority)
        try:
            snapshot = await self._broker.snapshot(self._since)
        except AccountDiscarded as fault:
            self._settle_by_list(fault.orders, requested)
            raise
        finally:
            READING_PRIORITY.reset(before)
        self._settle_by_list(snapshot, requested)
        return snapshot

    def _settle_by_list(self, snapshot: AccountSnapshot, requested: float) -> None:
        # What becomes of an order that protects a position, or leaves it bare, does not wait for a second reading, nor
        # for a valid balance; nor does the stop of what was filled.
        listed = {report.client_order_id: report for report in snapshot.orders}
        manager = self._decision_engine.position_manager
        for cid, ticket in [*self._tickets.items()]:
            report, is_unreadable = listed.get(cid), bool({cid, ""} & snapshot.unreadable.keys())
            # Where no stream names its executions.
            has_filled = report is not None and report.filled > ticket.record.filled and self._execution.stream is None
            is_awaited = manager.is_current(ticket.order) or has_filled
            if ticket.terminal or not is_awaited or (report is None and is_unreadable):
                continue
            if report is not None and (has_filled or self._is_urgent(ticket) or _has_ended(ticket.record, report)):
                ticket.lookup = None
                self._apply_report(ticket, report)
            elif report is not None:
                self._note_quantity(ticket, report)
            elif self._is_urgent(ticket):
                self._on_not_found(ticket, self._lookup_of(ticket, requested), "list", requested)
            elif ticket.state in WORKING:  # it may have ended
                ticket.must_look_up = True
                self._lookup_of(ticket, requested).unlisted_at = requested

    def _apply_report(self, ticket: Ticket, report: OrderStatusReport) -> None:
        # Act on what the broker says of an order.
        self._execution.apply_events(tuple(events_from_report(ticket.record, report)), read=True)
        self._note_quantity(ticket, report)

    def _lacks_execution(self, ticket: Ticket, requested: float) -> bool:
        # Whether the books lack an execution that what was asked for need not have yet.
        return lacks_execution(ticket, requested - self._broker.capabilities.list_lag_s)

    def _is_older_than_list(self, lookup: OrderLookup, requested: float) -> bool:
        # Whether a look-up may be behind the list that lacked its order.
        return requested < lookup.unlisted_at + self._broker.capabilities.list_lag_s

    def _note_quantity(self, ticket: Ticket, report: OrderStatusReport) -> None:
        # An order that works for less than was ordered protects less, as a bracket's stop while its entry still fills.
        manager, missing = self._decision_engine.position_manager, ticket.order.quantity - report.quantity
        if report.kind == OrderStatus.WORKING and manager.is_current(ticket.order):
            manager.mismatched_orders.on_taken(ticket.order.client_order_id, max(missing, Decimal(0)))

    def _orders_to_list(self) -> frozenset[str]:
        # The orders that a reading from now must list if they are open.
        return frozenset(cid for cid, ticket in self._tickets.items() if self._execution.age(ticket) > IN_FLIGHT_S)

    def _ended_orders(self) -> frozenset[str]:
        # The orders that a reading from now must not show as open.
        return frozenset(cid for cid, ticket in self._tickets.items() if ticket.terminal)

    def _books(self, listed: frozenset[str], ended: frozenset[str]) -> LocalBooks:
        held = {symbol: quantity_of(units) for symbol, units in self._decision_engine.portfolio.holdings.items()}
        orders = self._decision_engine.book.records()
        return LocalBooks(orders=orders, held=held, external=self.external, listed=listed, ended=ended)

    def _differs_in_own(self, findings: ReconciliationReport) -> bool:
        # Whether a reading may be older or newer than the books: it differs in a symbol that we traded.
        ours = {ticket.order.symbol for ticket in self._tickets.values()}
        return any(one.symbol in ours for one in findings.differences)

    def _apply_findings(self, findings: ReconciliationReport, listed: frozenset[str]) -> bool:
        # Book a reading's findings; returns whether no difference is unexplained. Unknown orders block their symbols.
        held = self._decision_engine.portfolio.holdings
        moved = {
            symbol
            for symbol in (*held, *self._holdings_before)
            if held.get(symbol) != self._holdings_before.get(symbol)
        }
        self._execution.apply_events(findings.events, read=True)
        for cid in listed.difference(findings.not_found, findings.unreadable):
            ticket = self._tickets[cid]
            ticket.must_look_up &= self._lacks_execution(ticket, self._requested_at)
        for cid in findings.unreadable:
            self._tickets[cid].must_look_up = True
        for cid in findings.not_found:
            ticket = self._tickets[cid]
            ticket.must_look_up |= ticket.state not in IN_DOUBT  # it may have ended
            self._on_not_found(ticket, self._lookup_of(ticket, self._clock.monotonic()), "list", self._requested_at)
        self._orphans.apply_findings(findings)
        in_question = moved | self._in_flight(listed)
        waiting = [one for one in findings.differences if one.symbol in in_question or self._must_query(one.symbol)]
        unexplained = [one for one in findings.differences if one not in waiting]
        outside = [one for one in unexplained if not self.splits.explain(one)]
        judged = {one: self._differences.judge(one, self._requested_at) for one in outside}
        waiting += [one for one, judgment in judged.items() if judgment in {Judgment.EARLY, Judgment.DISPUTED}]
        contradicted = [one for one, judgment in judged.items() if judgment is Judgment.DISPUTED]
        self._differences.note_disputed(waiting, contradicted, first=not self.has_read_account)
        # After the splits, since a reading's prices are those after a split.
        disputed = {
            one.symbol: self._differences.parts(one)[1] - self.external.get(one.symbol, Decimal(0)) for one in waiting
        }
        not_counted = (*findings.external_orders, *findings.open_beyond_books)
        self._decision_engine.exposure.external.apply_reading(findings.holdings, not_counted, disputed)
        for difference in (one for one in outside if one not in waiting):
            self._differences.book(difference, unexplained=judged[difference] is Judgment.LASTING)
            self._execution.contradictions.settle(difference.symbol)
        self._execution.contradictions.agree_except({one.symbol for one in findings.differences})
        differs = {one.symbol for one in findings.differences} | in_question | self._orphans.symbols
        unclear = {one.symbol for one in waiting} | in_question | self._orphans.symbols | _working_symbols(findings)
        self._decision_engine.position_manager.on_reading(self._requested_at, unclear)
        self._differences.confirm_overfills(differs)
        frozen = sorted(self._decision_engine.exposure.holds.symbols(Hold.FROZEN))
        clear = [symbol for symbol in frozen if symbol not in differs and not self._must_query(symbol)]
        self._execution.frozen_instruments.thaw(clear)
        return not unexplained

    def _in_flight(self, listed: frozenset[str]) -> set[str]:
        # The symbols in which an order of ours may explain a difference: it is unknown, is being looked up, or was sent
        # too late for the reading.
        found = set()
        for cid, ticket in self._tickets.items():
            young = not (ticket.terminal or cid in listed)
            is_unknown = ticket.state in {OrderState.SENDING, OrderState.UNKNOWN} or ticket.must_look_up
            if ticket.state is not OrderState.LOST and (young or is_unknown):
                found.add(ticket.order.symbol)
        return found

    def _must_query(self, symbol: str) -> bool:
        # Whether ended orders of the symbol must be looked up, since they may have unreported fills: each once, and
        # only if readings list neither ended orders nor their executions.
        rules = self._broker.capabilities
        if rules.lists_closed or rules.lists_fills or not rules.query_by_cid:
            return False
        ended = [
            ticket
            for ticket in self._tickets.values()
            if ticket.order.symbol == symbol and ticket.state in ENDED and not ticket.was_queried
        ]
        for ticket in ended:
            ticket.was_queried = ticket.must_look_up = True
        return bool(ended)

    def _on_read_failed(self, fault: BrokerError) -> None:
        self._failed_readings += 1
        self._trading_state.on_reconciled(clean=False)
        _log.warning("account.not_read", times=self._failed_readings, reason=fault.message)
        if self._failed_readings >= _FAILED_READINGS and not self._is_maintenance():
            self._trading_state.raise_cause(StateCause.UNKNOWN, str(fault))


def _uncomputable(fault: ArithmeticError) -> Unavailable:
    # The failure of a reading whose figures overflow, are undefined or divide by zero.
    _log.error("account.not_computed", exc_info=fault)
    words = f"The broker reported figures that cannot be computed with: {type(fault).__name__}."
    return Unavailable(words, "Compare the account at the broker, and report it to the author of the broker plugin.")


def _working_symbols(findings: ReconciliationReport) -> set[str]:
    # The symbols in which an order of somebody else works.
    return {one.symbol for one in findings.external_orders if one.kind == OrderStatus.WORKING}


def _has_ended(record: OrderRecord, report: OrderStatusReport) -> bool:
    # Whether an order has ended without a fill that the books lack.
    return report.kind != OrderStatus.WORKING and report.filled == record.filled
