"""Looks after a session's orders while they are in flight: asks for what is in doubt, and reads the account.

Nothing is inferred. An order that the broker does not know stays in doubt until two sources agree and the venue's own
window has passed; then it is lost, which is watched and keeps its exposure reserved. A reading that failed is no
reading: three in a row leave exits only.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import attrs

from tbot_core.contracts import AccountSnapshot, SupportsOrderLookup
from tbot_core.errors import BrokerError
from tbot_core.execution.account_updates import update_account
from tbot_core.execution.corporate_actions import SplitMatcher
from tbot_core.execution.instrument_rules import InstrumentRules
from tbot_core.execution.open_questions import OrderLookup
from tbot_core.execution.orphan_orders import OrphanOrders
from tbot_core.execution.reconciliation import (
    LocalBooks,
    PositionDifference,
    ReconciliationReport,
    ReconciliationStatus,
    compare_with_books,
    events_from_report,
    open_beyond_books,
    outside_fill,
    snapshots_agree,
    split_difference,
)
from tbot_core.journal import records
from tbot_core.journal.ledger.booking import ledger_of
from tbot_core.journal.projections.book import broker_events
from tbot_core.model.types import OrderState, quantity_of
from tbot_core.system import log
from tbot_core.trading.orders import ENDED, IN_DOUBT
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Callable

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.model.clock import Clock
    from tbot_core.model.types import Account
    from tbot_core.trading.decision_engine import DecisionEngine
    from tbot_core.trading.portfolio import Position

IN_FLIGHT_S: Final = 2.0  # an order may be in flight this long before it is looked up
OPEN_ORDERS_S: Final = 10.0  # between two account readings while orders work
POSITIONS_S: Final = 30.0  # and while none works
AGREE_S: Final = 0.5  # between two readings that must agree
READINGS: Final = 6  # further readings at most, until one agrees with the one before
LEAST_WINDOW_S: Final = 600.0
"""The earliest time after which an order that is not found is lost."""
MARGIN: Final = timedelta(minutes=1)  # before the start of a reading, since clocks differ
BELATED: Final = timedelta(days=5)  # after its date, a payment may still appear in a broker's list

_FAILED_READINGS: Final = 3

_log = log.logger(__name__)


class Reconciler:
    """Reconciles a session's orders and positions with the broker; `tend` is called about twice per second.

    `since` is the moment from which readings list closed orders: the session's opening, minus a margin.
    """

    def __init__(
        self,
        execution: ExecutionEngine,
        desk: DecisionEngine,
        clock: Clock,
        conditions: TradingStateController,
        since: datetime,
    ) -> None:
        self._execution = execution
        self._desk = desk
        self._broker = execution.venue.broker
        self._clock = clock
        self._conditions = conditions
        self.external = desk.exposure.external.held
        self.splits = SplitMatcher(execution, desk)
        self._instruments = InstrumentRules(execution, desk, clock)
        self.is_maintenance: Callable[[], bool] = lambda: False
        self.read_at: datetime | None = None
        self.verdict: ReconciliationStatus | None = None
        self._last = ledger_of(broker_events(execution.recorder.journal.events(), execution.recorder.broker)).stated
        self._stated = self._last is not None and self._last.date() == since.date()
        self._since = since - MARGIN
        self._doubts: dict[str, OrderLookup] = {}
        self._next_reading = 0.0
        self._failed = 0
        self._astray = OrphanOrders(execution, desk)
        self._before: dict[str, int] = {}
        self._asked_after: set[str] = set()

    @property
    def has_read_account(self) -> bool:
        """Whether the account has been read since the start."""
        return self.verdict is not None

    async def run_once(self) -> None:
        """One round: look up orders whose outcome is unknown, and read the account when due."""
        now = self._clock.monotonic()
        self._notice(now)
        await self._instruments.run_once()
        for cid in [cid for cid, doubt in self._doubts.items() if doubt.next_lookup_at <= now]:
            await self._look_up(cid)
        if self._clock.monotonic() >= self._next_reading:
            await self.read()

    def read_soon(self) -> None:
        """Read the account in the next round."""
        self._next_reading = 0.0

    async def read(self) -> ReconciliationStatus | None:
        """Read the account until two readings agree, and act on them; None if it could not be read."""
        listed, ended, began = self._sent(), self._ended(), self._clock.now()
        cash = self._desk.portfolio.cash_atoms
        try:
            await self._catch_up()
            snapshot = await self._believed()
        except BrokerError as fault:
            self._unread(fault)
            return None
        finally:
            self._next_reading = self._clock.monotonic() + self._interval
        self._failed = 0
        self._conditions.clear_cause(StateCause.UNKNOWN)
        if snapshot is None:
            return None
        self.read_at = began
        self.splits.add_activities(snapshot.activities)
        findings = compare_with_books(self._books(listed, ended), snapshot)
        crossed = self._desk.portfolio.cash_atoms != cash or self._apart(findings)
        clean = self._settle(findings, listed)
        self._count(snapshot)
        self._conditions.set_cause(StateCause.RESTRICTED, snapshot.account.restricted)
        self._conditions.on_reconciled(clean=clean)
        update_account(self._desk, self._execution.recorder, snapshot.account, crossed=crossed)
        self.verdict = findings.verdict
        if self._desk.exposure.disputed_symbols:
            self._next_reading = self._clock.monotonic() + IN_FLIGHT_S
        await self._astray.cancel_confirmed()
        return findings.verdict

    async def close(self) -> None:
        """The day's statement: read the account once more, and hold its cash against the ledger's.

        While an order is in doubt nothing is stated: it may be what makes the difference. Nor is anything before the
        orders that a first reading leaves open have been asked for. A broker that does not answer is asked again for as
        long as an order may turn up.
        """
        until = self._clock.monotonic() + LEAST_WINDOW_S
        while not await self._closed() and self._clock.monotonic() < until:
            await self._clock.sleep(OPEN_ORDERS_S)

    async def _closed(self) -> bool:
        self._stated = True
        first = await self.read()
        for cid in [*self._execution.lookups]:
            self._doubts.setdefault(cid, OrderLookup(next_lookup_at=self._clock.monotonic()))
            await self._look_up(cid)
        self._stated = any(not one.terminal for one in self._execution.orders.values())
        return first is not None and await self.read() is not None

    async def _catch_up(self) -> None:
        # Before a statement, ask for what was paid since the last one: overnight, or between it and the bell.
        #
        # Some brokers list a payment days later, under its own date: each is booked once, whenever it turns up.
        if self._stated or self._last is None or self._last >= self._since:
            return
        recorder = self._execution.recorder
        first = next(broker_events(recorder.journal.events(kind=records.STATEMENT), recorder.broker)).applied
        seen = await self._broker.snapshot(max(self._last - BELATED, first))
        self.splits.add_activities(seen.activities)
        self._count(
            attrs.evolve(seen, activities=tuple(one for one in seen.activities if one.time > first)), stating=False
        )

    def _count(self, snapshot: AccountSnapshot, *, stating: bool = True) -> None:
        # Book what moved money without an order, each once; the day's first and last reading are statements.
        execution = self._execution
        for activity in snapshot.activities:
            source = (execution.venue.name, execution.venue.account_id, f"activity {activity.activity_id}")
            if not execution.recorder.journal.contains(source):
                entry = execution.recorder.entry(records.ACTIVITY, records.activity_payload(activity))
                execution.recorder.write(attrs.evolve(entry, source=source))
        if stating and not self._stated:
            self._state(snapshot.account)

    def _state(self, account: Account) -> None:
        # What a statement has more or less than the ledger, nobody explains: it is booked as that, and told.
        self._stated, self._last = True, self._clock.now()
        ledger = ledger_of(broker_events(self._execution.recorder.journal.events(), self._execution.recorder.broker))
        ours = None if ledger.stated is None else ledger.cash
        self._execution.recorder.record(records.STATEMENT, records.statement_payload(account, ours))
        if ours is not None and ours != account.cash:
            # Withdrawn at once, since no reading names it again: it lingers until the account was clean for a minute.
            self._conditions.raise_cause(StateCause.MISMATCH, f"cash: {account.cash - ours} USD unexplained")
            self._conditions.clear_cause(StateCause.MISMATCH)

    @property
    def _interval(self) -> float:
        living = [record for record in self._execution.orders.values() if not record.terminal]
        return OPEN_ORDERS_S if living or self._astray.symbols else POSITIONS_S

    def _notice(self, now: float) -> None:
        # Orders that came into doubt, and those that left it.
        for cid, record in self._execution.orders.items():
            silent = record.state is OrderState.SENDING and self._execution.age(cid) > IN_FLIGHT_S
            if silent or record.state in IN_DOUBT or cid in self._execution.lookups:
                self._doubts.setdefault(cid, OrderLookup(next_lookup_at=now))
            else:
                self._doubts.pop(cid, None)

    async def _look_up(self, cid: str) -> None:
        doubt = self._doubts[cid]
        doubt.postpone(self._clock.monotonic())
        if not (self._broker.rules.query_by_cid and isinstance(self._broker, SupportsOrderLookup)):
            self._next_reading = 0.0
            return
        ended = self._execution.orders[cid].terminal
        try:
            report = await self._broker.find(cid)
        except BrokerError as fault:
            _log.warning("order.not_looked_up", id=cid, reason=fault.message)
            return
        record = self._execution.orders[cid]
        if report is not None or record.terminal:
            self._execution.lookups.pop(cid, None)
        if report is not None:
            doubt.not_found_by.clear()
            self._execution.apply_events(tuple(events_from_report(record, report)), read=True)
            if self._astray.apply_lookup(cid, open_beyond_books(self._execution.orders[cid], report, ended=ended)):
                self.read_soon()
            return
        self._missed(cid, doubt, "query")

    def _missed(self, cid: str, doubt: OrderLookup, source: str) -> None:
        # A source does not know the order. Two of them are evidence, and after the venue's window it is given up.
        doubt.not_found_by.add(source)
        sources = 2 if self._broker.rules.query_by_cid else 1
        if len(doubt.not_found_by) < sources:
            return
        record = self._execution.orders[cid]
        if record.state is not OrderState.UNKNOWN:
            if record.state is not OrderState.LOST:
                self._execution.mark_not_found(cid)
        elif self._execution.age(cid) > max(self._broker.rules.lookup_window_s, LEAST_WINDOW_S):
            self._execution.mark_lost(cid)

    async def _believed(self) -> AccountSnapshot | None:
        # A reading that a second one confirms; None when they go on to differ, as in a busy minute.
        first = await self._snapshot()
        for _ in range(READINGS):
            if first.barrier:
                return first
            await self._clock.sleep(AGREE_S)
            second = await self._snapshot()
            if snapshots_agree(first, second):
                return second
            first = second
        return None

    async def _snapshot(self) -> AccountSnapshot:
        # A reading; what is booked from here on it need not tell of.
        self._before = self._desk.portfolio.holdings
        return await self._broker.snapshot(self._since)

    def _sent(self) -> frozenset[str]:
        # The orders that a reading which begins now must tell of, if they live.
        execution = self._execution
        return frozenset(cid for cid in execution.orders if execution.age(cid) > IN_FLIGHT_S)

    def _ended(self) -> frozenset[str]:
        # The orders that a reading which begins now must not show as open.
        return frozenset(cid for cid, record in self._execution.orders.items() if record.terminal)

    def _books(self, listed: frozenset[str], ended: frozenset[str]) -> LocalBooks:
        execution = self._execution
        held = {symbol: quantity_of(units) for symbol, units in self._desk.portfolio.holdings.items()}
        return LocalBooks(orders=execution.orders, held=held, external=self.external, listed=listed, ended=ended)

    def _apart(self, findings: ReconciliationReport) -> bool:
        # Whether a reading is of another moment than the books: it holds less of what we traded, or more.
        ours = {record.order.symbol for record in self._execution.orders.values()}
        return any(one.symbol in ours for one in findings.differences)

    def _settle(self, findings: ReconciliationReport, listed: frozenset[str]) -> bool:
        # Book what a reading tells; whether the account holds what the books say. Orders in doubt block themselves.
        held = self._desk.portfolio.holdings
        moved = {symbol for symbol in (*held, *self._before) if held.get(symbol) != self._before.get(symbol)}
        self._execution.apply_events(findings.events, read=True)
        for cid in listed.difference(findings.not_found):
            self._execution.lookups.pop(cid, None)
        now = self._clock.monotonic()
        for cid in findings.not_found:
            if self._execution.orders[cid].state not in IN_DOUBT:
                self._execution.lookups[cid] = None  # it may be over: whoever knows is asked
            self._missed(cid, self._doubts.setdefault(cid, OrderLookup(next_lookup_at=now)), "list")
        self._astray.apply_findings(findings)
        open_questions = moved | self._in_flight(listed)
        waiting = [one for one in findings.differences if one.symbol in open_questions or self._asks_after(one.symbol)]
        unexplained = [one for one in findings.differences if one not in waiting]
        unsure, exposure = frozenset(one.symbol for one in waiting), self._desk.exposure
        exposure.disputed_symbols = exposure.disputed_symbols & unsure if self.has_read_account else unsure
        outside = [one for one in unexplained if not self.splits.explain(one)]
        # A reading's prices are those after a split that it tells of, and what is foreign is told with them.
        disputed = {one.symbol: self._parted(one)[1] - self.external.get(one.symbol, Decimal(0)) for one in waiting}
        not_counted = (*findings.external_orders, *findings.open_beyond_books)
        self._desk.exposure.external.apply_reading(findings.holdings, not_counted, disputed)
        for difference in outside:
            self._explain(difference)
        differs = {one.symbol for one in findings.differences} | open_questions | self._astray.symbols
        self._prove(differs)
        frozen = self._desk.exposure.frozen
        clear = (one for one in [*frozen] if one not in differs and not self._asks_after(one))
        self._execution.frozen_instruments.thaw(clear)
        return not unexplained

    def _prove(self, differs: set[str]) -> None:
        # What is ours without a position, and all that the account holds of its symbol, is too much for certain.
        portfolio = self._desk.portfolio
        beyond = portfolio.holdings.keys() - portfolio.positions.keys() - differs
        ours = (one for one in sorted(beyond) if not self.external.get(one))
        self._desk.position_manager.overfills.confirmed = frozenset(ours)

    def _in_flight(self, listed: frozenset[str]) -> set[str]:
        # The symbols of which an order of ours may explain a difference once it is settled.
        #
        # Such an order is in doubt, is being asked for, or is so young that the reading need not tell of it.
        found = set()
        for cid, record in self._execution.orders.items():
            young = not (record.terminal or cid in listed)
            doubted = record.state in {OrderState.SENDING, OrderState.UNKNOWN} or cid in self._execution.lookups
            if record.state is not OrderState.LOST and (young or doubted):
                found.add(record.order.symbol)
        return found

    def _asks_after(self, symbol: str) -> bool:
        # Whether orders of the symbol that have ended may have filled more, unheard: each is asked for once.
        #
        # Where readings list orders that are over, or their executions, they have told it.
        rules = self._broker.rules
        if rules.lists_closed or rules.lists_fills or not rules.query_by_cid:
            return False
        ended = [
            cid
            for cid, record in self._execution.orders.items()
            if record.order.symbol == symbol and record.state in ENDED and cid not in self._asked_after
        ]
        self._asked_after.update(ended)
        self._execution.lookups.update(dict.fromkeys(ended))
        return bool(ended)

    def _explain(self, difference: PositionDifference) -> None:
        # Book a difference that no order of ours explains: it belongs to somebody else, or took from what was ours.
        position = self._desk.portfolio.positions.get(difference.symbol)
        change, foreign = self._parted(difference)
        if position is not None and change:
            self._adjust(position, change)
        self._hold_foreign(difference.symbol, foreign)

    def _parted(self, difference: PositionDifference) -> tuple[Decimal, Decimal]:
        # What others changed in a position, and what is foreign, where no order of ours explains a difference.
        position = self._desk.portfolio.positions.get(difference.symbol)
        held = Decimal(0) if position is None else quantity_of(position.side * position.units)
        return split_difference(difference, quantity_of(self._desk.portfolio.holdings.get(difference.symbol, 0)), held)

    def _adjust(self, position: Position, change: Decimal) -> None:
        symbol = position.signal.symbol
        fill = outside_fill(position, change, len(self._desk.portfolio.closed), self._clock.now())
        # Withdrawn below, once it is booked: it lingers until the account has been clean for a minute.
        self._conditions.raise_cause(StateCause.MISMATCH, f"{symbol}: {change} outside of tbot")
        self._execution.recorder.record(records.ADJUSTMENT, records.fill_payload(fill))
        self._desk.position_manager.on_external_change(fill)
        self._conditions.clear_cause(StateCause.MISMATCH)

    def _hold_foreign(self, symbol: str, quantity: Decimal) -> None:
        # Shares that are not ours: named, counted, never touched.
        if quantity == self.external.get(symbol, Decimal(0)):
            return
        foreign = self._desk.exposure.external
        foreign.set_holding(symbol, quantity)
        payload = records.foreign_payload(symbol, quantity, foreign.price(symbol))
        self._execution.recorder.record(records.FOREIGN_HOLDING, payload)

    def _unread(self, fault: BrokerError) -> None:
        self._failed += 1
        self._conditions.on_reconciled(clean=False)
        _log.warning("account.not_read", times=self._failed, reason=fault.message)
        if self._failed >= _FAILED_READINGS and not self.is_maintenance():
            self._conditions.raise_cause(StateCause.UNKNOWN, fault.message)
