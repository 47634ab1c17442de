"""Differences in positions between a reading of the account and the books: what becomes of each, and how it is booked.

What an order, a split or a late list may explain waits. The rest is what others did: an external change of a position,
or an external holding.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tbot_core.execution.contradictions import Judgment
from tbot_core.execution.reconciliation import PositionDifference, outside_fill, split_difference
from tbot_core.journal.events.accounts import Adjustment, ForeignHolding, PositionDisputed
from tbot_core.model.types import Fill, quantity_of
from tbot_core.system import log
from tbot_core.trading.orders import ENDED, WORKING
from tbot_core.trading.risk.holds import Hold
from tbot_core.trading.risk.states import StateCause

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tbot_core.execution.engine import ExecutionEngine
    from tbot_core.execution.trading_state import TradingStateController
    from tbot_core.trading.decision_engine import DecisionEngine

_log = log.logger(__name__)


class PositionDifferences:
    """Judges and books the differences of a session's account.

    `disputed` are the symbols in which readings contradict the books.
    """

    def __init__(
        self, execution: ExecutionEngine, decision_engine: DecisionEngine, trading_state: TradingStateController
    ) -> None:
        self._external = decision_engine.exposure.external
        self._execution = execution
        self._decision_engine = decision_engine
        self._trading_state = trading_state
        self.disputed = frozenset[str]()

    def judge(self, difference: PositionDifference, requested: float) -> Judgment:
        """What becomes of a difference that no order of ours may explain, by a reading of this second.

        In a symbol that tbot has not traded, it contradicts nothing.
        """
        symbol, orders = difference.symbol, self._execution.tickets.values()
        if self._returned_fills(difference):
            return Judgment.EXPLAINED
        holds = symbol in self._decision_engine.portfolio.holdings
        if not (holds or any(one.order.symbol == symbol and one.state in ENDED | WORKING for one in orders)):
            return Judgment.EXPLAINED
        return self._execution.contradictions.judge(difference, requested)

    def note_disputed(
        self, waiting: Sequence[PositionDifference], contradicted: Sequence[PositionDifference], *, first: bool
    ) -> None:
        """Journal the symbols in which readings begin or cease to contradict the books.

        What the `first` reading after the start leaves open is not closed either. Orders that may explain it are looked
        up.
        """
        recorder, exposure = self._execution.recorder, self._decision_engine.exposure
        before, unclear = self.disputed, frozenset(one.symbol for one in waiting)
        self.disputed = frozenset(one.symbol for one in contradicted)
        opened = unclear if first else exposure.holds.symbols(Hold.DISPUTED) & unclear
        exposure.holds.keep_only(Hold.DISPUTED, opened | self.disputed)
        for one in contradicted:
            if one.symbol not in before:
                recorder.record(PositionDisputed(symbol=one.symbol, there=True, ours=one.ours, theirs=one.theirs))
                _log.error("account.contradicts", symbol=one.symbol, ours=str(one.ours), theirs=str(one.theirs))
            for ticket in self._execution.tickets.values():
                ticket.must_look_up |= ticket.order.symbol == one.symbol and not ticket.terminal
        for symbol in sorted(before - self.disputed):
            recorder.record(PositionDisputed(symbol=symbol, there=False))
        at_start = [one for one in contradicted if one.symbol in opened - before]
        if at_start:
            words = ", ".join(f"{one.symbol}: {one.theirs} there, {one.ours} in the books" for one in at_start)
            self._trading_state.raise_cause(StateCause.MISMATCH, words)
            self._trading_state.clear_cause(StateCause.MISMATCH)

    def confirm_overfills(self, differs: Collection[str]) -> None:
        """Confirm each holding of ours without a position as an overfill, if the account agrees and none is external.

        `differs`: the symbols in which it does not agree, or may not.
        """
        portfolio = self._decision_engine.portfolio
        beyond = portfolio.holdings.keys() - {*portfolio.symbols, *differs}
        ours = (one for one in sorted(beyond) if not self._external.held.get(one))
        self._decision_engine.position_manager.overfills.confirmed = frozenset(ours)

    def book(self, difference: PositionDifference, *, unexplained: bool) -> None:
        """Book a difference as an external change of our position, an external holding, or both."""
        symbol = difference.symbol
        if returned := self._returned_fills(difference):
            for fill in returned:
                self._book_external_change(symbol, fill, difference.theirs - difference.ours)
            return
        change, external = self.parts(difference)
        rules, recorder = self._execution.venue.broker.capabilities, self._execution.recorder
        # A broker that lists what others do would have listed it: then protection stays.
        lists = rules.lists_closed or rules.lists_fills
        for position in self._decision_engine.portfolio.in_symbol(symbol):
            held = quantity_of(position.units)
            part = max(-held, min(held, change))  # of the earliest lot of a fund first
            change -= part
            if part:
                fill = outside_fill(position, part, recorder.journal.head[0], recorder.clock.now())
                self._book_external_change(symbol, fill, part, unexplained=unexplained and lists)
        self._set_external(symbol, external)

    def parts(self, difference: PositionDifference) -> tuple[Decimal, Decimal]:
        """The external change of a position and the external holding, in signed shares."""
        positions = self._decision_engine.portfolio.in_symbol(difference.symbol)
        held = quantity_of(sum(position.side * position.units for position in positions))
        ours = self._decision_engine.portfolio.holdings.get(difference.symbol, 0)
        return split_difference(difference, quantity_of(ours), held)

    def _returned_fills(self, difference: PositionDifference) -> list[Fill]:
        change = difference.theirs - difference.ours
        return self._decision_engine.position_manager.returned_fills(difference.symbol, change)

    def _book_external_change(self, symbol: str, fill: Fill, change: Decimal, *, unexplained: bool = False) -> None:
        # Cleared below, once it is booked: it lingers until the account has been clean for a minute.
        self._trading_state.raise_cause(StateCause.MISMATCH, f"{symbol}: {change} outside of tbot")
        self._execution.recorder.record(Adjustment.of(fill, unexplained=unexplained))
        self._decision_engine.position_manager.on_external_change(fill, unexplained=unexplained)
        self._trading_state.clear_cause(StateCause.MISMATCH)

    def _set_external(self, symbol: str, quantity: Decimal) -> None:
        # Record an external holding.
        if quantity == self._external.held.get(symbol, Decimal(0)):
            return
        self._external.set_holding(symbol, quantity)
        price = self._external.price(symbol)
        self._execution.recorder.record(ForeignHolding(symbol=symbol, quantity=quantity, price=price))
