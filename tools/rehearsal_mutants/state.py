"""Mutants of what is held, reserved, read and recalled; each function says what to plant, and where."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import attrs

from tbot_core.contracts import AccountSnapshot, BrokerEvent, BrokerEventKind
from tbot_core.engine.live import market_session
from tbot_core.engine.session.recovery import SessionRecovery
from tbot_core.engine.session.session import TradingSession
from tbot_core.errors import BrokerError
from tbot_core.execution import contradictions, reconciler, reconciliation
from tbot_core.execution.engine import ExecutionEngine
from tbot_core.execution.position_differences import PositionDifferences
from tbot_core.model.types import Account, Order, OrderState, quantity_of
from tbot_core.rehearsal.patching import Swaps, current_attribute
from tbot_core.trading.orders import OrderRecord
from tbot_core.trading.portfolio import Portfolio
from tbot_core.trading.positions.manager import PositionManager
from tbot_core.trading.positions.recovery import PositionRecovery
from tbot_core.trading.risk import gate
from tbot_core.trading.risk.exposure import ExposureBook
from tbot_core.trading.risk.gate import RiskEngine
from tbot_core.trading.risk.holds import Hold, Holds
from tbot_core.trading.risk.states import TradingState

if TYPE_CHECKING:
    from tbot_core.execution.reconciliation import PositionDifference
    from tbot_core.journal.store import Event
    from tbot_core.model.types import Fill


def doubt_frees_what_it_reserved() -> Swaps:
    """An entry without an answer counts for nothing until it is found."""
    doubt = current_attribute(ExecutionEngine, "mark_unknown")

    def free(self: Any, words: str, *cids: str) -> None:
        doubt(self, words, *cids)
        for cid in cids:
            self._decision_engine.exposure.working.pop(cid, None)

    return ((ExecutionEngine, "mark_unknown", free),)


def lost_entry_frees_what_it_reserved() -> Swaps:
    """An entry that is lost counts for nothing."""
    lost = current_attribute(PositionManager, "on_lost")

    def free(self: Any, cid: str) -> None:
        lost(self, cid)
        self._exposure.working.pop(cid, None)

    return ((PositionManager, "on_lost", free),)


def working_entries_not_counted() -> Swaps:
    """Exposure is what is held; what is on its way counts when it is filled."""
    return ((ExposureBook, "gross", lambda self: self.portfolio.cost_atoms),)


def symbol_entered_again_while_one_is_out() -> Swaps:
    """A symbol is busy when it is held, not while an entry works or is in doubt."""
    return ((ExposureBook, "is_busy", lambda self, symbol: bool(self.portfolio.in_symbol(symbol))),)


def frozen_instruments_traded_all_the_same() -> Swaps:
    """A frozen instrument is recorded and reported, but its entries and exits are not blocked."""
    add = current_attribute(Holds, "add")

    def all_but_frozen(self: Any, symbol: str, hold: Hold, words: str = "") -> None:
        if hold is not Hold.FROZEN:
            add(self, symbol, hold, words)

    return ((Holds, "add", all_but_frozen),)


def busts_not_taken_in() -> Swaps:
    """What a broker takes back of an execution is written down, and the position stays what it was."""
    return ((PositionManager, "on_fill_corrected", lambda _self, _fill: None),)


def busted_shares_inferred_again() -> Swaps:
    """What a bust took away is inferred anew from a report that still counts it."""
    return ((OrderRecord, "withdrawn", Decimal(0)),)


def sums_kept_after_a_correction() -> Swaps:
    """After a correction cost and closed profit stay as they were summed, until the next fill."""
    correct = current_attribute(Portfolio, "correct_fill")

    def stale(self: Any, *corrected: Any) -> Fill | None:
        sums = self._closed_pnl, self._cost
        was: Fill | None = correct(self, *corrected)
        self._closed_pnl, self._cost = sums
        return was

    return ((Portfolio, "correct_fill", stale),)


def payments_booked_each_time() -> Swaps:
    """A dividend or a fee is booked as often as a reading lists it."""
    count = current_attribute(reconciler.Reconciler, "_book_activities")

    def again(self: Any, snapshot: AccountSnapshot, *, stating: bool = True) -> None:
        name = f"{len(list(self._execution.recorder.journal.events()))}"
        fresh = [attrs.evolve(one, activity_id=f"{one.activity_id} {name}") for one in snapshot.activities]
        count(self, attrs.evolve(snapshot, activities=tuple(fresh)), stating=stating)

    return ((reconciler.Reconciler, "_book_activities", again),)


def loss_latch_in_memory_only() -> Swaps:
    """A restart forgets the latches."""
    return ((SessionRecovery, "_restore_latch", lambda _self, _what: None),)


def loss_latch_not_obeyed() -> Swaps:
    """The latch is set and written down, and the gate does not look at it."""
    judge = current_attribute(RiskEngine, "before_sizing")

    def blind(self: Any, standing: ExposureBook, limits: object, *of: object) -> object:
        loose = attrs.evolve(standing, daily_loss=False, window_loss=set(), most_losses_in_row=0)
        return judge(self, loose, limits, *of)

    return ((RiskEngine, "before_sizing", blind),)


def daily_loss_reckoned_before_fees() -> Swaps:
    """The day's loss is compared with its limit before the fees."""
    after_fees = current_attribute(gate, "session_pnl")

    def before_fees(exposure: ExposureBook) -> dict[str, int]:
        windows: dict[str, int] = after_fees(exposure)
        fees = 0
        for book in (one.portfolio for one in exposure.all_brokers):
            fees += sum(one.fee_atoms for one in (*book.positions.values(), *book.closed))
            fees += sum(one.fee_atoms for one in book.surplus)
        return windows | {"": windows.get("", 0) + fees}

    return ((gate, "session_pnl", before_fees),)


def named_execution_counts_in_full() -> Swaps:
    """What a fill says is booked, not by how much the order has grown."""
    take_in = current_attribute(ExecutionEngine, "_apply_event")

    def full(self: Any, event: Any) -> None:
        ticket = self.tickets.get(event.client_order_id)
        before = None if ticket is None else ticket.record
        take_in(self, event)
        if before is not None and event.fill is not None:
            grown = ticket.record.filled - before.filled
            if rest := event.fill.quantity - grown:
                self._decision_engine.position_manager.on_order_event(
                    attrs.evolve(event, fill=attrs.evolve(event.fill, quantity=rest))
                )

    return ((ExecutionEngine, "_apply_event", full),)


def one_reading_believed() -> Swaps:
    """A reading is acted on without a second one."""

    async def first(self: Any) -> AccountSnapshot:
        snapshot: AccountSnapshot = await self._broker.snapshot(self._since)
        return snapshot

    return ((reconciler.Reconciler, "_confirmed_snapshot", first),)


def failed_reading_read_as_flat() -> Swaps:
    """An account that cannot be read is taken for an empty one."""
    believed = current_attribute(reconciler.Reconciler, "_confirmed_snapshot")

    async def flat(self: Any) -> AccountSnapshot | None:
        try:
            snapshot: AccountSnapshot | None = await believed(self)
        except BrokerError:
            nothing = Account(account_id="", cash=Decimal(0), equity=Decimal(0))
            return AccountSnapshot(account=nothing)
        return snapshot

    return ((reconciler.Reconciler, "_confirmed_snapshot", flat),)


def contradiction_believed_at_once() -> Swaps:
    """A list that contradicts what the broker has confirmed is believed, whatever its lists are behind by."""
    return ((contradictions.Contradictions, "judge", lambda *_: contradictions.Judgment.EXPLAINED),)


def foreign_holding_called_ours() -> Swaps:
    """Whatever the account holds of a symbol of ours is ours."""

    def parts(self: Any, difference: PositionDifference) -> tuple[Decimal, Decimal]:
        positions = self._decision_engine.portfolio.in_symbol(difference.symbol)
        held = quantity_of(sum(position.side * position.units for position in positions))
        return difference.theirs - held, Decimal(0) if positions else difference.theirs

    return ((PositionDifferences, "parts", parts),)


def foreign_holding_forgotten() -> Swaps:
    """A restart does not know what was foreign, and what is found of it is not counted."""

    def hold(self: Any, symbol: str, _quantity: Decimal) -> None:
        self._external.held[symbol] = Decimal(0)

    return ((PositionDifferences, "_set_external", hold),)


def absent_order_read_as_cancelled() -> Swaps:
    """An order that a reading does not list is taken for cancelled."""
    compare = reconciliation.compare_with_books

    def ended(books: Any, snapshot: AccountSnapshot) -> reconciliation.ReconciliationReport:
        found = compare(books, snapshot)
        gone = (
            BrokerEvent(kind=BrokerEventKind.CANCELLED, event_id=f"gone-{one}", client_order_id=one)
            for one in found.not_found
        )
        return attrs.evolve(found, events=(*found.events, *gone), not_found=())

    return ((reconciler, "compare_with_books", ended),)


def smaller_order_waited_for() -> Swaps:
    """An order that the venue took for less is waited for until it is filled as it was ordered."""
    told = reconciliation.events_from_report

    def waiting(record: Any, report: Any) -> Any:
        return (one for one in told(record, report) if not one.event_id.endswith("is done"))

    return (reconciliation, "events_from_report", waiting), (reconciler, "events_from_report", waiting)


def doubt_cleared_without_a_reconcile() -> Swaps:
    """A cause is over when it is withdrawn, and does not linger."""
    withdraw = current_attribute(TradingState, "clear_cause")

    def at_once(self: Any, cause: Any, now: Any) -> bool:
        there: bool = withdraw(self, cause, now)
        self.lingering.pop(cause, None)
        return there

    return ((TradingState, "clear_cause", at_once),)


def states_not_recalled() -> Swaps:
    """A restart begins as if nothing had been the matter."""
    return ((market_session, "recall_states", lambda _past, _broker: TradingState()),)


def attempts_not_recalled() -> Swaps:
    """A restart numbers the attempts at a signal's leg from one."""
    recall = current_attribute(PositionRecovery, "restore_order")

    def forget(self: Any, order: Order) -> None:
        recall(self, order)
        del self._book.signals[order.signal].attempts[order.leg]

    return ((PositionRecovery, "restore_order", forget),)


def late_minutes_acted_on() -> Swaps:
    """Signals of minutes that came late, or that were missed, are entered."""
    step = current_attribute(TradingSession, "step")

    async def all_alike(self: Any, minute: int, *, late: bool = False) -> None:  # noqa: ARG001  that is the mutant
        await step(self, minute)

    return ((TradingSession, "step", all_alike),)


def sending_orders_dropped_on_restart() -> Swaps:
    """What a restart finds on its way is taken for never sent."""

    def settle(self: Any) -> None:
        for cid, record in self._decision_engine.book.records().items():
            if record.state in {OrderState.INTENDED, OrderState.SENDING}:
                self._execution.drop("a restart", cid)

    return ((SessionRecovery, "resolve_open_orders", settle),)


def intended_orders_sent_on_restart() -> Swaps:
    """What a restart finds written down and not sent is sent then."""
    return _sent_on_restart(OrderState.INTENDED)


def sending_orders_sent_again_on_restart() -> Swaps:
    """What a restart finds on its way is sent again."""
    return _sent_on_restart(OrderState.SENDING)


def intended_orders_kept_on_restart() -> Swaps:
    """What a restart finds written down and not sent goes on reserving."""

    def settle(self: Any) -> None:
        for cid, record in self._decision_engine.book.records().items():
            if record.state is OrderState.SENDING:
                self._execution.mark_unknown("a restart", cid)

    return ((SessionRecovery, "resolve_open_orders", settle),)


def fills_not_recalled() -> Swaps:
    """A restart takes in what became of orders, and not what was filled of them."""
    apply = current_attribute(SessionRecovery, "_on_order_event")

    def deaf(self: Any, cid: str, event: Event) -> None:
        if event.kind != BrokerEventKind.FILL:
            apply(self, cid, event)

    return ((SessionRecovery, "_on_order_event", deaf),)


def _sent_on_restart(state: OrderState) -> Swaps:
    settle = current_attribute(SessionRecovery, "resolve_open_orders")
    reconciles = current_attribute(market_session.LiveTradingSession, "_reconcile")
    found: list[Order] = []

    def note(self: Any) -> None:
        orders = self._tickets.values()
        parts = {part.client_order_id for one in orders for part in one.order.protection}
        found[:] = [one.order for one in orders if one.state is state and one.order.client_order_id not in parts]
        if state is OrderState.SENDING:
            settle(self)

    async def send(self: Any) -> None:
        await reconciles(self)
        execution = self.run.execution
        orders, found[:] = [*found], []
        if state is OrderState.INTENDED:
            execution._mark(orders)  # noqa: SLF001  a mutant reaches where it likes
        for order in orders:
            await execution._submit(order)  # noqa: SLF001

    return (SessionRecovery, "resolve_open_orders", note), (market_session.LiveTradingSession, "_reconcile", send)
