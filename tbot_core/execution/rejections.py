"""What the core does about a rejection, by its meaning; the table is in docs/reference/brokers.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tbot_core.contracts import BrokerEvent, BrokerEventKind, RejectionMeaning
from tbot_core.execution.instrument_rules import mark_not_shortable
from tbot_core.model.types import Leg, Order
from tbot_core.system import log

if TYPE_CHECKING:
    from tbot_core.execution.frozen_instruments import FrozenInstruments
    from tbot_core.journal.store import JournalRecorder
    from tbot_core.trading.decision_engine import DecisionEngine

CLOSED_S: Final = 60.0
"""How long nothing is sent after the venue reported in a session that its market is closed."""

_REFUSALS: Final = frozenset({BrokerEventKind.REJECTED, BrokerEventKind.CANCEL_REFUSED})
_READ: Final = frozenset(
    {
        RejectionMeaning.INSUFFICIENT_QUANTITY,
        RejectionMeaning.INSUFFICIENT_BUYING_POWER,
        RejectionMeaning.WASH_TRADE,
    }
)
"""The books may differ from the account, which is read at once."""

_FINAL: Final = {
    RejectionMeaning.NOT_TRADABLE: "the broker no longer trades it",
    RejectionMeaning.RESTRICTED: "the broker restricts the account",
}
"""The symbol is frozen to the session's end, and what is held is STUCK."""

UNPROCESSED: Final = frozenset({RejectionMeaning.RATE_LIMITED})
"""The venue has not processed the order: it is dropped, as one that was not sent."""

WAS_BOOKED: Final = frozenset({RejectionMeaning.DUPLICATE_ID, RejectionMeaning.INSUFFICIENT_QUANTITY})
"""Of a stop or exit: it may have been booked before, and have the id or the shares."""

_log = log.logger(__name__)


class RejectionActions:
    """Acts on the rejections of one broker.

    `must_read`: the account must be read at once.
    """

    def __init__(
        self, recorder: JournalRecorder, decision_engine: DecisionEngine, frozen_instruments: FrozenInstruments
    ) -> None:
        self._recorder = recorder
        self._decision_engine = decision_engine
        self._frozen_instruments = frozen_instruments
        self._closed_until = 0.0
        self._closed_words = ""
        self.must_read = False

    def apply(self, event: BrokerEvent, order: Order) -> None:
        """Act on an event about `order`; one that is no rejection, or has no meaning, changes nothing."""
        if event.kind not in _REFUSALS or event.meaning is None:
            return
        if event.meaning in _READ:
            self.request_reading()
        elif event.meaning is RejectionMeaning.OFF_GRID:
            self._frozen_instruments.on_off_grid(order, event.words)
        elif event.meaning is RejectionMeaning.NOT_SHORTABLE:
            mark_not_shortable(self._decision_engine, self._recorder, order.symbol, event.words)
        elif event.meaning is RejectionMeaning.MARKET_CLOSED:
            self._on_closed(event.words)
        elif event.meaning in _FINAL and event.kind == BrokerEventKind.REJECTED:
            restricted = event.meaning is RejectionMeaning.RESTRICTED
            if not restricted or order.leg is not Leg.ENTRY:
                self._frozen_instruments.freeze(order.symbol, f"{_FINAL[event.meaning]}: {event.words}", lasting=True)

    def request_reading(self) -> None:
        """Have the account read at once."""
        self.must_read = True

    def on_reading(self) -> None:
        """The account is being read."""
        self.must_read = False

    def denial_reason(self, order: Order) -> str:
        """Why an order may not be sent now: the venue reported that its market is closed. Stops are still tried."""
        is_closed = self._recorder.clock.monotonic() < self._closed_until and order.leg in {Leg.ENTRY, Leg.EXIT}
        return f"the broker reports that the market is closed: {self._closed_words}" if is_closed else ""

    def _on_closed(self, words: str) -> None:
        # No attempt before the opening bell; in a session nothing says when the market opens again.
        clock, session = self._recorder.clock, self._decision_engine.position_manager.session
        wait_s = max((session.open - clock.now()).total_seconds(), CLOSED_S)
        self._closed_until, self._closed_words = clock.monotonic() + wait_s, words
        _log.warning("broker.market_closed", wait_s=wait_s, words=words)
